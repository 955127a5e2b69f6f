"""The method in one picture, drawn from a trained model: two towers and their cosines."""

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
        lonlat: Longitude, latitude in degrees of where each patch was taken.
        cosines: Cosine of image i with location j, from the model.
        location_label: Parts of the location tower, one or more lines.
        image_label: Parts of the image tower, one or more lines.
    """
    num_pairs = len(pictures)
    fig = plt.figure(figsize=(PAGE_WIDTH_IN, PAGE_WIDTH_IN * HEIGHT / WIDTH), layout="none")
    canvas = fig.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(BOTTOM, TOP))
    canvas.set_axis_off()
    bold, small = {"weight": "bold"}, {"fontsize": 6.5, "linespacing": 1.35}
    centered = {"ha": "center", "va": "top"}

    columns = -(-num_pairs // 2)
    side = 21.0 / columns
    for i, picture in enumerate(pictures):
        row, column = divmod(i, columns)
        place = _place(2 + column * side, 36.5 - row * side, side - 0.6, side - 0.6)
        ax = fig.add_axes(place, xticks=[], yticks=[])
        ax.imshow(picture)
        ax.spines[["top", "right"]].set_visible(True)
        box = {"boxstyle": "square,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.8}
        ax.text(0.08, 0.9, i + 1, transform=ax.transAxes, va="top", fontsize=6, bbox=box, **bold)
    world = add_map(fig, fig.add_gridspec(1, 1)[0, 0])
    world.set_position(_place(2, 5.5, 21, 11))
    for i, place in enumerate(lonlat):
        point = world.projection.transform_point(*place, ccrs.PlateCarree())
        box = {"boxstyle": "circle,pad=0.12", "fc": "white", "ec": "black", "lw": 0.5}
        style = {"ha": "center", "va": "center", "zorder": 5, "bbox": box}
        world.annotate(i + 1, point, fontsize=5.5, **bold, **style)
    canvas.text(2, 45.3, "satellite images", va="top", **bold)
    canvas.text(2, 19.3, "their longitudes and latitudes", va="top", **bold)

    for y, color, title, label, symbol in (
        (31.0, IMAGE_COLOR, "image tower", image_label, "u"),
        (5.5, LOCATION_COLOR, "location tower", location_label, "v"),
    ):
        style = {"boxstyle": "round,pad=0,rounding_size=1", "fc": color, "ec": "0.3", "lw": 0.7}
        canvas.add_patch(FancyBboxPatch((28, y), 19, 11, **style))
        canvas.text(37.5, y + 9.6, title, **bold, **centered)
        canvas.text(37.5, y + 6.4, label, **small, **centered)
        _arrow(canvas, (24, y + 5.5), (27.5, y + 5.5))
        _arrow(canvas, (47.5, y + 5.5), (51, y + 5.5))
        height = 10.5 / num_pairs
        for i, name in enumerate(_name_vectors(symbol, num_pairs)):
            low = y + 10.7 - (i + 1) * height
            canvas.add_patch(plt.Rectangle((52, low), 7, height * 0.75, fc=color, ec="0.3", lw=0.5))
            style = {"ha": "center", "va": "center", "fontsize": 6, "parse_math": True}
            canvas.text(55.5, low + height * 0.36, name, **style)
    for y in (29.6, 18.8):
        canvas.text(55.5, y, "unit vectors", fontsize=6.5, **centered)
    _arrow(canvas, (60, 36.5), (66, 31))
    _arrow(canvas, (60, 11), (66, 17))

    ax = fig.add_axes(_place(70, 10, 28, 28))
    ax.imshow(cosines, cmap="RdBu_r", vmin=-1, vmax=1)
    for (i, j), cosine in np.ndenumerate(cosines):
        color = "white" if abs(cosine) > 0.6 else "black"
        text = f"{cosine + 0.0:.1f}".replace("-0.0", "0.0").replace("-", "\N{MINUS SIGN}")
        ax.text(j, i, text, ha="center", va="center", fontsize=6, color=color)
        if i == j:
            ax.add_patch(plt.Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, ec="black", lw=1.4))
    ax.set_xticks(range(num_pairs), _name_vectors("v", num_pairs), parse_math=True)
    ax.set_yticks(range(num_pairs), _name_vectors("u", num_pairs), parse_math=True)
    ax.tick_params(length=0, labeltop=True, labelbottom=False, pad=2)
    ax.spines[:].set_visible(False)
    canvas.text(84, 45.3, "cosines of all pairs", **bold, **centered)
    note = "contrastive loss: the true pair (framed) is to\nbe largest in its row and in its column"
    canvas.text(84, 8, note, **small, **centered)
    return fig


def _name_vectors(symbol: str, num_pairs: int) -> list[str]:
    return [f"${symbol}_{i + 1}$" for i in range(num_pairs)]


def _place(x, y, width, height) -> tuple[float, ...]:
    """As shares of the figure."""
    return x / WIDTH, (y - BOTTOM) / HEIGHT, width / WIDTH, height / HEIGHT


def _arrow(ax: Axes, start, end) -> None:
    ax.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=8, color="0.3", lw=1))
