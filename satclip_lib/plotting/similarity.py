"""Maps of cosine similarity of places with a place or with an image, and retrieved images."""

from collections.abc import Iterable, Mapping

import cartopy.crs as ccrs
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from cartopy.mpl.geoaxes import GeoAxes
from jaxtyping import Float, Num
from matplotlib.collections import PathCollection
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from satclip_lib.plotting.maps import add_color_bar, add_map, mark_place, plot_points
from satclip_lib.plotting.style import PAGE_WIDTH_IN, styled

MAPS_IN_A_ROW = 2  # of plot_localizations
NAME_WIDTH_DEG = 45  # that a name takes on the map of the world


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
        lonlat: Longitude, latitude in degrees.
        similarity: Cosine of each point, -1 to 1.
        places: Table indexed by name, with the columns ``lon``, ``lat`` (degrees) and
            ``similarity``. The place with the largest similarity is taken as the one that the
            points are compared with, and has a star.
        seed: Random seed of the drawing order.
    """
    reference = places.similarity.idxmax()
    fig = plt.figure(figsize=(PAGE_WIDTH_IN, 3.9))
    ax = add_map(fig)
    label = f"cosine similarity with {reference}"
    _draw_cosines(ax, lonlat, similarity, size=2.0, label=label, seed=seed)
    for name, place in places.iterrows():
        rounded = place.similarity.round(2) + 0.0  # no minus before zero
        text = f"{name} {rounded:.2f}".replace("-", "\N{MINUS SIGN}")
        mark_place(ax, (place.lon, place.lat), star=name == reference)
        east, north = places.lon - place.lon, places.lat - place.lat
        is_next = (east > 0) & (east < NAME_WIDTH_DEG) & (north.abs() < 5)
        to_left = place.lon >= 120 or is_next.any()  # of the edge of the map, or of another text
        ax.annotate(
            str(name) if name == reference else text,
            ax.projection.transform_point(place.lon, place.lat, ccrs.PlateCarree()),
            xytext=(-4, 4) if to_left else (4, 4),
            textcoords="offset points",
            ha="right" if to_left else "left",
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
    """Similarity of all places with a few: one row per place, one column per encoder.

    Args:
        lonlat: Longitude, latitude in degrees.
        similarities: Cosine of each point, -1 to 1, by (place, encoder).
        places: Longitude and latitude in degrees of each place, marked with a star.
        seed: Random seed of the drawing order.
    """
    rows, columns = (list(dict.fromkeys(names)) for names in zip(*similarities, strict=True))
    fig = plt.figure(figsize=(PAGE_WIDTH_IN, 0.7 + 3.3 / len(columns) * len(rows)))
    grid = fig.add_gridspec(len(rows), len(columns))
    axes = []
    for (place, encoder), similarity in similarities.items():
        cell = grid[rows.index(place), columns.index(encoder)]
        axes.append(add_map(fig, cell, title=f"{place}, {encoder}"))
        points = _draw_cosines(axes[-1], lonlat, similarity, size=2.2 / len(columns), seed=seed)
        mark_place(axes[-1], places[place], star=True)
    add_color_bar(points, axes, "cosine similarity with the place at the star", pad=0.02)
    return fig


@styled()
def plot_localizations(
    pictures: Num[np.ndarray, "num_images height width 3"],
    lonlat: Float[np.ndarray, "num_places 2"],
    similarity: Float[np.ndarray, "num_images num_places"],
    *,
    true_lonlat: Float[np.ndarray, "num_images 2"],
    best_lonlat: Float[np.ndarray, "num_images 2"],
    titles: list[str],
    seed: int = 0,
) -> Figure:
    """Each image beside the map of its similarity with all places.

    Args:
        pictures: Red, green and blue, as matplotlib takes them.
        lonlat: Longitude, latitude of the places in degrees.
        similarity: Cosine of each image with each place.
        true_lonlat: Where each image was taken in degrees, marked with a star.
        best_lonlat: Most similar place of each image in degrees, marked with a circle.
        titles: One title per image.
        seed: Random seed of the drawing order.
    """
    num_rows = -(-len(pictures) // MAPS_IN_A_ROW)
    fig = plt.figure(figsize=(PAGE_WIDTH_IN, 0.6 + 1.45 * num_rows))
    grid = fig.add_gridspec(num_rows, 2 * MAPS_IN_A_ROW, width_ratios=[1, 4.2] * MAPS_IN_A_ROW)
    half, axes = float(np.abs(similarity).max()), []
    for index, picture in enumerate(pictures):
        row, column = divmod(index, MAPS_IN_A_ROW)
        beside = fig.add_subplot(grid[row, 2 * column])
        beside.imshow(picture)
        beside.set_axis_off()
        beside.set_anchor("C")  # in the middle of its map's height
        ax = add_map(fig, grid[row, 2 * column + 1], title=titles[index])
        points = _draw_cosines(ax, lonlat, similarity[index], size=1.0, half=half, seed=seed)
        mark_place(ax, true_lonlat[index], star=True)
        mark_place(ax, best_lonlat[index])
        axes += [beside, ax]
    add_color_bar(points, axes, "cosine similarity of image and place", pad=0.03)
    return fig


@styled()
def plot_retrieved(
    pictures: Num[np.ndarray, "num_places num_results height width 3"],
    *,
    places: list[str],
    captions: Iterable[list[str]],
) -> Figure:
    """A row of images for each place, the most similar first.

    Args:
        pictures: Red, green and blue, as matplotlib takes them.
        places: Names of the rows.
        captions: One text per image, row by row: where it was taken.
    """
    size = PAGE_WIDTH_IN, 1.12 * len(pictures)
    fig, axes = plt.subplots(*pictures.shape[:2], figsize=size, squeeze=False)
    for cells, row, place, texts in zip(axes, pictures, places, captions, strict=True):
        for ax, picture, text in zip(cells, row, texts, strict=True):
            ax.imshow(picture)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            ax.set_title(text, fontsize=6, pad=2)
        cells[0].set_ylabel(place)
    return fig


def _draw_cosines(
    ax: GeoAxes, lonlat: np.ndarray, similarity: np.ndarray, *, half: float = 1.0, **style
) -> PathCollection:
    """Points in colours from minus to plus ``half``, white at 0."""
    norm = CenteredNorm(halfrange=half)
    return plot_points(ax, lonlat, similarity, cmap="RdBu_r", norm=norm, **style)
