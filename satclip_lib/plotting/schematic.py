"""The method in one picture, drawn from a trained model: two towers and what they agree on."""

import cartopy.crs as ccrs
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from satclip_lib.plotting.maps import add_map
from satclip_lib.plotting.style import PAGE_WIDTH_IN, styled

IMAGE_COLOR, LOCATION_COLOR = "#cfe3f3", "#fbe0c3"
WIDTH, BOTTOM, TOP = 100.0, 3.5, 46.5  # of the drawing, in its own units
HEIGHT = TOP - BOTTOM


@styled()
def plot_method_overview(
    pictures: Float[np.ndarray, "num_pairs size size 3"],
    lonlat: Float[np.ndarray, "num_pairs 2"],
    cosines: Float[np.ndarray, "num_pairs num_pairs"],
    *,
    location_label: str,
    image_label: str,
) -> Figure:
    """Image tower above, location tower below, and the cosines of all pairs on the right.

    Args:
        pictures: A few patches as people see them, 0 to 1.
        lonlat: ``(num_pairs, 2)`` degrees, where each was taken.
        cosines: image i with location j, from the model.
        location_label: what the location tower is made of, one or more lines.
        image_label: the same for the image tower.
    """
    num_pairs = len(pictures)
    fig = plt.figure(figsize=(PAGE_WIDTH_IN, PAGE_WIDTH_IN * HEIGHT / WIDTH), layout="none")
    canvas = fig.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(BOTTOM, TOP))
    canvas.set_axis_off()

    columns = -(-num_pairs // 2)
    side = 21.0 / columns
    for i, picture in enumerate(pictures):
        row, column = divmod(i, columns)
        ax = _add_axes(fig, 2 + column * side, 36.5 - row * side, side - 0.6, side - 0.6)
        ax.imshow(picture)
        ax.set(xticks=[], yticks=[])
        ax.spines[["top", "right"]].set_visible(True)
        ax.text(
            0.08, 0.9, i + 1, transform=ax.transAxes, va="top", fontsize=6, weight="bold",
            bbox={"boxstyle": "square,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.8},
        )  # fmt: skip
    world = add_map(fig, fig.add_gridspec(1, 1)[0, 0])
    world.set_position(_place(2, 5.5, 21, 11))
    for i, place in enumerate(lonlat):
        point = world.projection.transform_point(*place, ccrs.PlateCarree())
        world.annotate(
            i + 1, point, fontsize=5.5, weight="bold", ha="center", va="center", zorder=5,
            bbox={"boxstyle": "circle,pad=0.12", "fc": "white", "ec": "black", "lw": 0.5},
        )  # fmt: skip
    canvas.text(2, 45.3, "satellite images", weight="bold", va="top")
    canvas.text(2, 19.3, "their longitudes and latitudes", weight="bold", va="top")

    for y, color, title, label, symbol in (
        (31.0, IMAGE_COLOR, "image tower", image_label, "u"),
        (5.5, LOCATION_COLOR, "location tower", location_label, "v"),
    ):
        style = "round,pad=0,rounding_size=1"
        box = FancyBboxPatch((28, y), 19, 11, boxstyle=style, fc=color, ec="0.3", lw=0.7)
        canvas.add_patch(box)
        canvas.text(37.5, y + 9.6, title, weight="bold", ha="center", va="top")
        canvas.text(37.5, y + 6.4, label, ha="center", va="top", fontsize=6.5, linespacing=1.35)
        _arrow(canvas, (24, y + 5.5), (27.5, y + 5.5))
        _arrow(canvas, (47.5, y + 5.5), (51, y + 5.5))
        for i in range(num_pairs):
            height = 10.5 / num_pairs
            low = y + 10.7 - (i + 1) * height
            canvas.add_patch(plt.Rectangle((52, low), 7, height * 0.75, fc=color, ec="0.3", lw=0.5))
            canvas.text(
                55.5, low + height * 0.36, f"${symbol}_{i + 1}$", ha="center", va="center",
                fontsize=6,
            )  # fmt: skip
    canvas.text(55.5, 29.6, "unit vectors", ha="center", va="top", fontsize=6.5)
    canvas.text(55.5, 18.8, "unit vectors", ha="center", va="top", fontsize=6.5)
    _arrow(canvas, (60, 36.5), (66, 31))
    _arrow(canvas, (60, 11), (66, 17))

    ax = _add_axes(fig, 70, 10, 28, 28)
    ax.imshow(cosines, cmap="RdBu_r", vmin=-1, vmax=1)
    for (i, j), cosine in np.ndenumerate(cosines):
        color = "white" if abs(cosine) > 0.6 else "black"
        text = f"{cosine + 0.0:.1f}".replace("-0.0", "0.0").replace("-", "\N{MINUS SIGN}")
        ax.text(j, i, text, ha="center", va="center", fontsize=6, color=color)
        if i == j:
            ax.add_patch(plt.Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, ec="black", lw=1.4))
    numbers = range(num_pairs)
    ax.set_xticks(numbers, [f"$v_{i + 1}$" for i in numbers])
    ax.set_yticks(numbers, [f"$u_{i + 1}$" for i in numbers])
    ax.tick_params(length=0, labeltop=True, labelbottom=False, pad=2)
    ax.spines[:].set_visible(False)
    canvas.text(84, 45.3, "cosines of all pairs", weight="bold",
                ha="center", va="top")  # fmt: skip
    canvas.text(
        84, 8, "contrastive loss: the true pair (framed) is to\nstand out in its row and in its "
        "column", ha="center", va="top", fontsize=6.5, linespacing=1.35,
    )  # fmt: skip
    return fig


def _add_axes(fig: Figure, x, y, width, height) -> Axes:
    return fig.add_axes(_place(x, y, width, height))


def _place(x, y, width, height) -> tuple[float, ...]:
    """As shares of the figure."""
    return x / WIDTH, (y - BOTTOM) / HEIGHT, width / WIDTH, height / HEIGHT


def _arrow(ax: Axes, start, end) -> None:
    ax.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=8, color="0.3", lw=1))
