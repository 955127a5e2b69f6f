"""Maps of what a probe predicts: measured values, predicted values and errors."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float64
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure

from satclip_lib.plotting.maps import add_color_bar, add_map, plot_points
from satclip_lib.plotting.style import COLORS, PAGE_WIDTH_IN, styled

SHORTEST_BAR = -1.0  # of R2; the number beside a bar says how far it would go on


@styled()
def plot_prediction_map(
    lonlat: Float64[np.ndarray, "num_points 2"],
    target: Float64[np.ndarray, " num_points"],
    predicted: Float64[np.ndarray, " num_points"],
    *,
    label: str,
    title: str,
) -> Figure:
    """A large map of the error; below it true values, predicted values, and a scatter plot of both.

    Args:
        lonlat: Longitude, latitude in degrees.
        target: True values.
        predicted: Predicted values, drawn with the colours of the true ones.
        label: Quantity and unit.
        title: Title of the map of predicted values.
    """
    fig = plt.figure(figsize=(PAGE_WIDTH_IN, 5.35))
    grid = fig.add_gridspec(2, 3, height_ratios=(2.1, 1), width_ratios=(1.5, 1.5, 1.05))
    of_values, of_errors = _choose_colors(target, predicted - target, inside=0.98)
    of_values["label"], of_errors["label"] = label, f"error, {label}"
    for place, name, values, size, style in (
        (grid[0, :], "predicted minus measured", predicted - target, 2.6, of_errors),
        (grid[1, 0], "measured", target, 1.0, of_values),
        (grid[1, 1], title, predicted, 1.0, of_values),
    ):
        plot_points(add_map(fig, place, title=name), lonlat, values, size=size, **style)
    ax = fig.add_subplot(grid[1, 2])
    ax.set(xlabel="measured", ylabel="predicted")
    ax.set_box_aspect(1)
    ax.scatter(target, predicted, s=1.5, alpha=0.4, linewidths=0, rasterized=True)
    ax.axline((of_values["vmin"],) * 2, slope=1, color="black", lw=0.6)
    limits = np.quantile([target, predicted], [0, 1])
    ax.set(xlim=limits, ylim=limits)
    ax.tick_params(length=2)
    return fig


@styled()
def plot_continent_maps(
    lonlat: Float64[np.ndarray, "num_points 2"],
    target: Float64[np.ndarray, " num_points"],
    predicted: Mapping[str, Float64[np.ndarray, " num_points"]],
    *,
    scores: pd.DataFrame,
    label: str,
) -> Figure:
    """Each continent predicted from the others: maps of values, maps of errors, bars of R2.

    Args:
        lonlat: Longitude, latitude in degrees.
        target: True values.
        predicted: Predicted values of two encoders, by name; all drawn with the colours of the
            true values.
        scores: Columns ``part``, ``encoder``, ``score``: R2 on each continent.
        label: Quantity and unit.
    """
    fig = plt.figure(figsize=(PAGE_WIDTH_IN, 3.6))
    grid = fig.add_gridspec(2, 3)
    color_of = dict(zip(predicted, COLORS, strict=False))  # of names above maps, and of bars
    errors = {encoder: values - target for encoder, values in predicted.items()}
    of_values, of_errors = _choose_colors(target, np.stack([*errors.values()]), inside=0.9)
    for row, panels, style, name in (
        (0, {"measured": target} | dict(predicted), of_values, label),
        (1, errors, of_errors, "predicted minus measured"),
    ):
        axes = []
        for column, (title, values) in enumerate(panels.items(), start=3 - len(panels)):
            axes.append(add_map(fig, grid[row, column]))
            axes[-1].set_title(title if row == 0 else "", color=color_of.get(title, "black"))
            points = plot_points(axes[-1], lonlat, values, size=1.3, **style)
        add_color_bar(points, axes, name, pad=0.05)
    ax = fig.add_subplot(grid[1, 0], title="R² on each continent")
    parts = list(scores.part.unique())
    for offset, (encoder, color) in zip((-0.21, 0.21), color_of.items(), strict=True):
        r2 = scores[scores.encoder == encoder].set_index("part").reindex(parts).score
        y = np.arange(len(parts)) + offset
        bars = ax.barh(y, r2.clip(lower=SHORTEST_BAR), height=0.36, color=color)
        texts = [f"{value:.2f}".replace("-", "−") for value in r2]
        ax.bar_label(bars, texts, padding=2, fontsize=5.8, color=color)
    ax.axvline(0, color="black", lw=0.6)
    ax.set_yticks(range(len(parts)), parts, fontsize=6.5)
    ax.set(ylim=(len(parts) - 0.4, -0.6), xticks=[])
    ax.margins(x=0.25)
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.tick_params(length=0)
    return fig


def _choose_colors(target: np.ndarray, errors: np.ndarray, *, inside: float) -> tuple[dict, dict]:
    """Colour scales of true and predicted values, and of errors; extremes lie beyond both."""
    low, high = np.quantile(target, [0.01, 0.99])
    norm = CenteredNorm(halfrange=float(np.quantile(np.abs(errors), inside)))
    return {"vmin": low, "vmax": high}, {"cmap": "RdBu_r", "norm": norm}
