"""Maps of what a probe predicts: measured values, predicted values and errors."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float64
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure

from satclip_lib.plotting.maps import COAST_WIDTH_PT, add_map, plot_points
from satclip_lib.plotting.style import COLORS, PAGE_WIDTH_IN, styled


@styled()
def plot_prediction_map(
    lonlat: Float64[np.ndarray, "num_points 2"],
    target: Float64[np.ndarray, " num_points"],
    predicted: Float64[np.ndarray, " num_points"],
    *,
    label: str,
    title: str,
) -> Figure:
    """Maps of true values, predicted values and the error, and predicted against true.

    Args:
        lonlat: Longitude, latitude in degrees.
        target: True values.
        predicted: Predicted values, drawn with the colours of the true ones.
        label: Quantity and unit.
        title: What was predicted how.
    """
    fig = plt.figure(figsize=(PAGE_WIDTH_IN, 4.6))
    grid = fig.add_gridspec(2, 2)
    of_values, of_errors = _choose_colors(target, predicted - target, inside=0.98)
    for place, name, values, style in (
        (grid[0, 0], "measured", target, of_values | {"label": label}),
        (grid[0, 1], title, predicted, of_values | {"label": label}),
        (grid[1, 0], "predicted minus measured", predicted - target,
         of_errors | {"label": f"error, {label}"}),
    ):  # fmt: skip
        plot_points(add_map(fig, place, title=name), lonlat, values, size=1.6, **style)
    ax = fig.add_subplot(grid[1, 1], title=label)
    ax.set(xlabel="measured", ylabel="predicted", aspect="equal")
    ax.scatter(target, predicted, s=1.5, alpha=0.4, linewidths=0, rasterized=True)
    ax.axline((of_values["vmin"],) * 2, slope=1, color="black", lw=0.6)
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
    """Each continent predicted from the others: values, errors, and the score on each.

    Args:
        lonlat: Longitude, latitude in degrees.
        target: True values.
        predicted: Predicted values of two encoders, by name; all drawn with the colours of the
            true values.
        scores: Columns ``part``, ``encoder``, ``score``: R2 on each continent.
        label: Quantity and unit.
    """
    fig = plt.figure(figsize=(PAGE_WIDTH_IN, 3.3))
    grid = fig.add_gridspec(2, 3)
    errors = {encoder: values - target for encoder, values in predicted.items()}
    of_values, of_errors = _choose_colors(target, np.stack([*errors.values()]), inside=0.9)
    plot_points(add_map(fig, grid[0, 0], title="measured"), lonlat, target, size=1.3, **of_values)
    for row, encoder in enumerate(predicted):
        for column, title, values, style, name in (
            (1, encoder, predicted[encoder], of_values, label),
            (2, "predicted minus measured", errors[encoder], of_errors, "error, in the same unit"),
        ):
            ax = add_map(fig, grid[row, column], title=title)
            points = plot_points(ax, lonlat, values, size=1.3, **style)
            if row == 1:  # one scale for a column, below its lower map
                place = ax.inset_axes((0.15, -0.1, 0.7, 0.04))
                bar = fig.colorbar(points, cax=place, orientation="horizontal", label=name)
                bar.outline.set_linewidth(COAST_WIDTH_PT)
                place.tick_params(width=COAST_WIDTH_PT, length=2, labelsize=6.5)
    ax = fig.add_subplot(grid[1, 0], title="R² on each continent", xlabel="R² (bars end at −1)")
    parts = list(scores.part.unique())
    for offset, color, encoder in zip((-0.18, 0.18), COLORS, predicted, strict=False):
        rows = scores[scores.encoder == encoder].set_index("part").reindex(parts)
        y = np.arange(len(parts)) + offset
        ax.barh(y, rows.score.clip(lower=-1), height=0.34, color=color, label=encoder)
    ax.axvline(0, color="black", lw=0.6)
    ax.set_yticks(range(len(parts)), parts, fontsize=6.5)
    ax.set(ylim=(len(parts) - 0.5, -0.5), xlim=(-1, 1))
    ax.legend(fontsize=6, loc="lower left", bbox_to_anchor=(-0.1, 1.12), ncols=2)
    return fig


def _choose_colors(target: np.ndarray, errors: np.ndarray, *, inside: float) -> tuple[dict, dict]:
    """Colours of true and predicted values, and of errors; beyond the scale are the extremes."""
    low, high = np.quantile(target, [0.01, 0.99])
    norm = CenteredNorm(halfrange=float(np.quantile(np.abs(errors), inside)))
    return {"vmin": low, "vmax": high}, {"cmap": "RdBu_r", "norm": norm}
