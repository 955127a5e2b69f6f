"""Figures of the pretraining data and of the pretraining itself."""

import cartopy.crs as ccrs
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import shapely
import xarray as xr
from cartopy.mpl.geoaxes import GeoAxes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from satclip_lib.data.images import load_true_color
from satclip_lib.data.patch_store import get_lonlat
from satclip_lib.plotting.layers import Layer
from satclip_lib.plotting.maps import LINES_ZORDER, add_map, draw_points
from satclip_lib.plotting.style import PAGE_WIDTH_IN, styled

SPLIT_COLORS = {"training": "#0072B2", "validation": "#D55E00"}


@styled()
def plot_sample_map(
    dataset: xr.Dataset,
    layer: Layer,
    *,
    num_examples: int = 5,
    seed: int = 0,
) -> Figure:
    """Map of the patches by class, the held-out blocks framed, and examples of each class.

    Args:
        dataset: a patch store; shown in true colour, patches of the Blue Marble framed amid
            64 pixels.
        layer: class of each patch, say its biome.
        num_examples: how many patches of each class to show; rarer classes are left out.
        seed: of the choice of examples and of the drawing order.
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
def plot_training_curves(curve: pd.DataFrame, *, num_candidates: int) -> Figure:
    """Loss and retrieval accuracy per epoch.

    Args:
        curve: columns ``epoch``, ``train_loss``, ``val_loss``, ``val_top1_accuracy``,
            ``val_top10_accuracy``.
        num_candidates: among how many held-out locations the right one has to be found.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(PAGE_WIDTH_IN, 2.4))
    epoch = curve.epoch + 1
    train_color, val_color = SPLIT_COLORS.values()
    left.plot(epoch, curve.train_loss, color=train_color, label="training")
    left.plot(epoch, curve.val_loss, color=val_color, label="validation (held-out blocks)")
    best = curve.val_loss.idxmin()
    left.plot(epoch[best], curve.val_loss[best], "o", color=val_color, ms=4, label="kept")
    left.set(xlabel="epoch", ylabel="contrastive loss (nats)", title="Loss")
    left.legend()
    for k, color in ((1, "#56B4E9"), (10, val_color)):
        right.plot(epoch, 100 * curve[f"val_top{k}_accuracy"], color=color, label=f"in the top {k}")
        right.axhline(100 * k / num_candidates, color=color, lw=0.8, ls=":")
    right.set(
        xlabel="epoch",
        ylabel="held-out patches (%)",
        title=f"Right location among {num_candidates:,} (dotted: chance)",
        ylim=(0, None),
    )
    right.legend()
    for ax in (left, right):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return fig


def _draw_blocks(ax: GeoAxes, lonlat: np.ndarray) -> None:
    """Frames of the 10-degree blocks that hold these points."""
    for west, south in np.unique(np.floor(lonlat / 10) * 10, axis=0):
        frame = shapely.segmentize(shapely.box(west, south, west + 10, south + 10), 1.0)
        ax.add_geometries(
            [frame], crs=ccrs.PlateCarree(), facecolor="none", edgecolor="black", linewidth=0.6,
            zorder=LINES_ZORDER,
        )  # fmt: skip
