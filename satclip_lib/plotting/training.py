"""Figures of the pretraining data and of the pretraining itself."""

import string

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from satclip_lib.data.patches import get_lonlat, load_images
from satclip_lib.plotting.maps import add_map, plot_classes
from satclip_lib.plotting.style import PAGE_WIDTH_IN, styled

SPLIT_COLORS = {"training": "#0072B2", "validation": "#D55E00"}


@styled()
def plot_sample_map(dataset: xr.Dataset, *, num_examples: int = 12, seed: int = 0) -> Figure:
    """Map of the patches by split, over a row of example patches whose letters are on the map.

    Args:
        dataset: a patch store; shown are its first three bands, or red, green and blue of
            Sentinel-2, brightened.
        num_examples: how many patches to show, at most 26.
        seed: of the choice of examples and of the drawing order.
    """
    lonlat = get_lonlat(dataset)
    split = np.where(dataset.split.values == "val", "validation", "training")
    fig = plt.figure(figsize=(PAGE_WIDTH_IN, 4.6))
    grid = fig.add_gridspec(2, num_examples, height_ratios=(5.2, 1))
    ax = add_map(fig, grid[0, :])
    plot_classes(ax, lonlat, split, colors=SPLIT_COLORS, size=0.8, legend_columns=2, seed=seed)
    names = list(dataset.band.values)
    is_sentinel2 = "B04" in names
    bands = [names.index(name) for name in ("B04", "B03", "B02")] if is_sentinel2 else [0, 1, 2]
    gain = 3.0 if is_sentinel2 else 1.0  # land reflects little
    # Examples from all over the world: one from each of equally many slices by longitude.
    rng = np.random.default_rng(seed)
    by_longitude = np.argsort(lonlat[:, 0])
    chosen = [rng.choice(part) for part in np.array_split(by_longitude, num_examples)]
    for letter, column, index in zip(string.ascii_lowercase, range(num_examples), chosen):  # noqa: B905
        ax.annotate(
            letter,
            lonlat[index],
            xycoords=_data_coordinates(ax),
            fontsize=7,
            ha="center",
            va="center",
            bbox={"boxstyle": "circle,pad=0.15", "fc": "white", "ec": "black", "lw": 0.5},
            zorder=5,
        )
        panel = fig.add_subplot(grid[1, column])
        pixels = gain * load_images(dataset, slice(index, index + 1))[0, bands]  # (3, y, x)
        panel.imshow(pixels.permute(1, 2, 0).clip(0, 1).numpy(), interpolation="nearest")
        panel.set_title(letter, loc="center", pad=2)
        panel.set_axis_off()
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


def _data_coordinates(ax):
    import cartopy.crs as ccrs

    return ccrs.PlateCarree()._as_mpl_transform(ax)
