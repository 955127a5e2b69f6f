"""Maps of the patches of a data set: by class with examples, or by reason of refusal."""

import cartopy.crs as ccrs
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import shapely
import xarray as xr
from cartopy.mpl.geoaxes import GeoAxes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from satclip_lib.data.images import load_true_color
from satclip_lib.data.patch_store import get_lonlat
from satclip_lib.data.quality import REASONS
from satclip_lib.plotting.layers import Layer
from satclip_lib.plotting.maps import LINES_ZORDER, add_map, draw_points, plot_classes
from satclip_lib.plotting.style import PAGE_WIDTH_IN, styled

GOOD_COLOR = "0.45"


@styled()
def plot_sample_map(
    dataset: xr.Dataset, layer: Layer, *, num_examples: int = 5, seed: int = 0
) -> Figure:
    """Map of the patches by class, the held-out blocks framed, and examples of each class.

    Args:
        dataset: Patch store. Examples are shown in true colour; patches of the Blue Marble are
            framed in a square of 64 pixels.
        layer: Class of each patch, for example its biome.
        num_examples: Number of patches of each class to show; rarer classes are left out.
        seed: Random seed of the choice of examples and of the drawing order.
    """
    lonlat, known = get_lonlat(dataset), np.isfinite(layer.values)
    shown = [i for i in range(len(layer.names)) if (layer.values == i).sum() >= num_examples]
    num_rows = max(1, -(-len(shown) // 2))
    fig = plt.figure(figsize=(PAGE_WIDTH_IN, 3.6 + 0.36 * num_rows))
    grid = fig.add_gridspec(2, 1, height_ratios=(3.4, 0.36 * num_rows))
    ax = add_map(fig, grid[0])
    order = np.random.default_rng(seed).permutation(np.flatnonzero(known))
    draw_points(ax, lonlat[order], size=0.9, color=layer.to_rgb()[order])
    _draw_blocks(ax, lonlat[dataset.split.values == "val"])
    handle = Patch(facecolor="none", edgecolor="black", linewidth=0.6, label="held out, 10°")
    ax.legend(handles=[handle], loc="lower left", bbox_to_anchor=(-0.02, 0))

    cells = grid[1].subgridspec(num_rows, 2, wspace=0.05)
    rng = np.random.default_rng(seed)
    for i, kind in enumerate(shown):
        panel = fig.add_subplot(cells[i % num_rows, i // num_rows])
        chosen = rng.choice(np.flatnonzero(layer.values == kind), num_examples, replace=False)
        pictures = load_true_color(dataset, np.sort(chosen), context_px=64)
        gap = ((0, 0), (0, 0), (0, 1), (0, 0))
        strip = np.concatenate([*np.pad(pictures, gap, constant_values=1.0)], axis=1)
        panel.imshow(strip)
        panel.set_anchor("W")
        panel.set_axis_off()
        on_right = {"transform": panel.transAxes, "clip_on": False}
        panel.plot(1.06, 0.5, "o", ms=5, color=layer.colors[kind], **on_right)
        panel.text(1.11, 0.5, layer.names[kind], va="center", fontsize=7, **on_right)
    return fig


@styled()
def plot_report(report: pd.DataFrame, *, size: float = 1.6, seed: int = 0) -> Figure:
    """Map of all patches that have coordinates: good ones grey, refused ones by reason.

    Args:
        report: Table from :func:`satclip_lib.data.quality.make_report`.
        size: Diameter of a good patch in typographic points; refused ones are three times as large.
        seed: Random seed of the drawing order.

    Returns:
        One map with a legend that counts each group.
    """
    fig = plt.figure(figsize=(PAGE_WIDTH_IN, 4.4))
    ax = add_map(fig)
    on_map = report[np.abs(report["lon"]).le(180) & np.abs(report["lat"]).le(90)]
    labels = on_map["reason"].replace("", "good")
    counts = labels.value_counts()
    husl = sns.color_palette("husl", len(REASONS))
    colors = {"good": GOOD_COLOR} | dict(zip(REASONS, husl, strict=True))
    colors = {f"{name} ({counts[name]})": c for name, c in colors.items() if name in counts}
    lonlat = on_map[["lon", "lat"]].to_numpy(np.float64)
    classes = labels.map(lambda name: f"{name} ({counts[name]})").to_numpy()
    for rows, diameter, columns in (
        (labels == "good", size, 0), (labels != "good", 3 * size, 4)
    ):  # fmt: skip
        style = {"colors": colors, "size": diameter, "legend_columns": columns, "seed": seed}
        plot_classes(ax, lonlat[rows], classes[rows], **style)
    return fig


def _draw_blocks(ax: GeoAxes, lonlat: np.ndarray) -> None:
    """Frames of the 10-degree blocks that hold these points."""
    for west, south in np.unique(np.floor(lonlat / 10) * 10, axis=0):
        frame = shapely.segmentize(shapely.box(west, south, west + 10, south + 10), 1.0)
        style = {"facecolor": "none", "edgecolor": "black", "linewidth": 0.6}
        ax.add_geometries([frame], crs=ccrs.PlateCarree(), zorder=LINES_ZORDER, **style)
