"""Where images may have been taken, how far off that is, and what places are said to look like."""

from collections.abc import Mapping

import cartopy.crs as ccrs
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float, Num
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure

from satclip_lib.plotting.maps import add_map, plot_points
from satclip_lib.plotting.similarity import MARKER, STAR
from satclip_lib.plotting.style import PAGE_WIDTH_IN, styled

NUM_COLUMNS = 2
LINES = ("-", "--", "-.", ":")


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
        pictures: red, green and blue, as matplotlib takes them.
        lonlat: of the places, degrees.
        similarity: cosine of each image with each place.
        true_lonlat: where the image was taken, marked with a star.
        best_lonlat: the most similar place, marked with a circle.
        titles: one per image.
        seed: of the drawing order.
    """
    num_rows = -(-len(pictures) // NUM_COLUMNS)
    fig = plt.figure(figsize=(PAGE_WIDTH_IN, 0.6 + 1.45 * num_rows))
    grid = fig.add_gridspec(num_rows, 2 * NUM_COLUMNS, width_ratios=[1, 4.2] * NUM_COLUMNS)
    norm, axes = CenteredNorm(halfrange=float(np.abs(similarity).max())), []
    for index, picture in enumerate(pictures):
        row, column = divmod(index, NUM_COLUMNS)
        beside = fig.add_subplot(grid[row, 2 * column])
        beside.imshow(picture)
        beside.set_axis_off()
        beside.set_anchor("C")  # in the middle of its map's height
        ax = add_map(fig, grid[row, 2 * column + 1])
        points = plot_points(
            ax, lonlat, similarity[index], cmap="RdBu_r", norm=norm, size=1.0, seed=seed
        )
        for place, marker in ((true_lonlat[index], STAR), (best_lonlat[index], MARKER)):
            ax.plot(*place, transform=ccrs.PlateCarree(), zorder=5, **marker)
        ax.set_title(titles[index])
        axes += [beside, ax]
    bar = fig.colorbar(
        points, ax=axes, orientation="horizontal", shrink=0.5, aspect=50, pad=0.03,
        label="cosine similarity of image and place",
    )  # fmt: skip
    bar.outline.set_linewidth(0.35)
    return fig


@styled()
def plot_localization_errors(
    errors_km: Mapping[str, Float[np.ndarray, " num_images"]],
    *,
    radii_km: tuple[float | int, ...],
) -> Figure:
    """Share of images that are localised within a distance, for several ways to do it.

    Args:
        errors_km: great-circle distances to the truth, by what the way is called.
        radii_km: distances to mark.
    """
    fig, ax = plt.subplots(figsize=(0.62 * PAGE_WIDTH_IN, 2.9))
    for index, (name, errors) in enumerate(errors_km.items()):
        share = np.arange(1, len(errors) + 1) / len(errors)
        ax.step(np.sort(errors), share, where="post", ls=LINES[index % len(LINES)], label=name)
    for radius in radii_km:
        ax.axvline(radius, color="0.75", lw=0.6, zorder=0)
    ax.set(
        xscale="log",
        xlim=(min(radii_km) / 1.5, 21_000),
        ylim=(0, 1),
        xlabel="distance to the truth, km",
        ylabel="share of images within it",
    )
    ticks = [*radii_km, 10_000]
    ax.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    ax.minorticks_off()
    ax.legend(frameon=False, loc="upper left")
    return fig


@styled()
def plot_retrieved(
    pictures: Num[np.ndarray, "num_places num_results height width 3"],
    *,
    places: list[str],
    captions: list[list[str]],
) -> Figure:
    """A row of images for each place, the most similar first.

    Args:
        pictures: red, green and blue, as matplotlib takes them.
        places: names of the rows.
        captions: one per image: where it was taken.
    """
    num_places, num_results = pictures.shape[:2]
    fig, axes = plt.subplots(
        num_places, num_results,
        figsize=(PAGE_WIDTH_IN, 1.12 * num_places), squeeze=False, layout="constrained",
    )  # fmt: skip
    for row, place in enumerate(places):
        for column in range(num_results):
            ax = axes[row, column]
            ax.imshow(pictures[row, column])
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            ax.set_title(captions[row][column], fontsize=6, pad=2)
        axes[row, 0].set_ylabel(place)
    return fig
