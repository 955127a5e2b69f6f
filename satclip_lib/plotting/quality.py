"""Where the patches of a data set are, and where those in quarantine are, with the reason."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from satclip_lib.data.quality import REASONS
from satclip_lib.plotting.maps import add_map, plot_classes
from satclip_lib.plotting.style import PAGE_WIDTH_IN, styled

GOOD_COLOR = "0.45"


@styled()
def plot_report(report: pd.DataFrame, *, size: float = 1.6, seed: int = 0) -> Figure:
    """Map of all patches that have coordinates: good ones grey, the others by their reason.

    Args:
        report: from :func:`satclip_lib.data.quality.make_report`.
        size: diameter of a good patch in points; those in quarantine are three times as large.
        seed: of the drawing order.

    Returns:
        One map with a legend that counts each group.
    """
    fig = plt.figure(figsize=(PAGE_WIDTH_IN, 4.4))
    ax = add_map(fig)
    on_map = report[np.abs(report["lon"]).le(180) & np.abs(report["lat"]).le(90)]
    is_good = on_map["reason"] == ""
    colors = dict(zip(REASONS, sns.color_palette("husl", len(REASONS)), strict=True))
    labels = on_map["reason"].map(lambda reason: reason or "good")
    counts = labels.value_counts()
    names = {name: f"{name} ({counts[name]})" for name in ["good", *REASONS] if name in counts}
    palette = {text: {"good": GOOD_COLOR, **colors}[name] for name, text in names.items()}
    lonlat = on_map[["lon", "lat"]].to_numpy(np.float64)
    classes = labels.map(names).to_numpy()
    plot_classes(ax, lonlat[is_good], classes[is_good], colors=palette, size=size, seed=seed)
    plot_classes(
        ax,
        lonlat[~is_good],
        classes[~is_good],
        colors=palette,
        size=3 * size,
        legend_columns=4,
        seed=seed,
    )
    return fig
