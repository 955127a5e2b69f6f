"""How much the embedding of one place is like those of all others, on the map."""

from collections.abc import Mapping

import cartopy.crs as ccrs
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from satclip_lib.plotting.maps import add_map, plot_points
from satclip_lib.plotting.style import PAGE_WIDTH_IN, styled

MARKER = {"marker": "o", "ms": 3.5, "mfc": "white", "mec": "black", "mew": 0.6}
STAR = MARKER | {"marker": "*", "ms": 9, "mfc": "gold"}


@styled()
def plot_similarity_map(
    lonlat: Float[np.ndarray, "num_points 2"],
    similarity: Float[np.ndarray, " num_points"],
    *,
    places: pd.DataFrame,
    seed: int = 0,
) -> Figure:
    """Cosine similarity with one place at points all over the world, and some places by name.

    Args:
        lonlat: ``(num_points, 2)`` degrees.
        similarity: cosine, -1 to 1, one per point.
        places: indexed by name, with the columns ``lon``, ``lat`` (degrees) and ``similarity``;
            the one with the greatest similarity is taken for the place that all are compared
            with, and marked with a star.
        seed: of the drawing order.
    """
    reference = places.similarity.idxmax()
    fig = plt.figure(figsize=(PAGE_WIDTH_IN, 3.9))
    ax = add_map(fig)
    plot_points(
        ax,
        lonlat,
        similarity,
        cmap="RdBu_r",
        norm=CenteredNorm(halfrange=1.0),
        size=2.0,
        label=f"cosine similarity with {reference}",
        seed=seed,
    )
    for name, place in places.iterrows():
        label, marker = f"{name} {place.similarity:.2f}".replace("-", "\N{MINUS SIGN}"), MARKER
        if name == reference:
            label, marker = str(name), STAR
        ax.plot(place.lon, place.lat, transform=ccrs.PlateCarree(), zorder=5, **marker)
        ax.annotate(
            label,
            ax.projection.transform_point(place.lon, place.lat, ccrs.PlateCarree()),
            xytext=(4, 4) if place.lon < 120 else (-4, 4),
            textcoords="offset points",
            ha="left" if place.lon < 120 else "right",  # so that it ends inside the map
            fontsize=7,
            path_effects=[withStroke(linewidth=1.6, foreground="white")],
            zorder=6,
        )
    return fig


@styled()
def plot_similarity_maps(
    lonlat: Float[np.ndarray, "num_points 2"],
    similarities: Mapping[tuple[str, str], Float[np.ndarray, " num_points"]],
    *,
    places: Mapping[str, tuple[float, float]],
    seed: int = 0,
) -> Figure:
    """Where on Earth looks like here? One row per place, one column per encoder.

    Args:
        lonlat: ``(num_points, 2)`` degrees.
        similarities: cosine by (place, encoder), -1 to 1, one per point.
        places: longitude and latitude in degrees of each place, marked with a star.
        seed: of the drawing order.
    """
    rows, columns = (list(dict.fromkeys(names)) for names in zip(*similarities, strict=True))
    fig = plt.figure(figsize=(PAGE_WIDTH_IN, 0.7 + 3.3 / len(columns) * len(rows)))
    grid = fig.add_gridspec(len(rows), len(columns))
    axes = []
    for (place, encoder), similarity in similarities.items():
        row, column = rows.index(place), columns.index(encoder)
        ax = add_map(fig, grid[row, column])
        norm = CenteredNorm(halfrange=1.0)
        points = plot_points(
            ax, lonlat, similarity, cmap="RdBu_r", norm=norm, size=2.2 / len(columns), seed=seed
        )
        ax.plot(*places[place], transform=ccrs.PlateCarree(), zorder=5, **STAR)
        ax.set_title(f"{place}, {encoder}")
        axes.append(ax)
    bar = fig.colorbar(
        points, ax=axes, orientation="horizontal", shrink=0.5, aspect=50, pad=0.02,
        label="cosine similarity with the place at the star",
    )  # fmt: skip
    bar.outline.set_linewidth(0.35)
    return fig
