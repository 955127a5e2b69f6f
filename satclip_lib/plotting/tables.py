"""Benchmark results as a table for print, and predictions as maps."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float64
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure

from satclip_lib.evaluation.splits import CONTINENTS
from satclip_lib.plotting.maps import add_map, plot_points
from satclip_lib.plotting.style import PAGE_WIDTH_IN, styled

ROW_HEIGHT_IN = 0.165
NUM_HEAD_LINES = 6  # protocols, and the encoders' names upright

PROBE_TITLES = {"linear": "linear probe", "knn": "k-nearest-neighbours probe"}


def make_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean score over seeds: one row per (probe, task, metric, protocol), one column per encoder.

    Rows and columns keep the order in which they first occur in ``scores``.
    """
    order = {name: scores[name].unique() for name in ("probe", "task", "protocol", "encoder")}
    table = scores.pivot_table(
        index=["probe", "task", "metric", "protocol"], columns="encoder", values="score", sort=False
    )
    table = table[order["encoder"]].reset_index()
    for name in ("probe", "task", "protocol"):
        table[name] = pd.Categorical(table[name], order[name])
    return table.sort_values(["probe", "task", "protocol"], ignore_index=True)


@styled()
def plot_table(table: pd.DataFrame, *, absent: pd.DataFrame | None = None) -> Figure:
    """Print a table of :func:`make_table`: a row per task, protocols side by side.

    The best encoder of each task and protocol is in bold.

    Args:
        table: of one or more probes, printed below each other.
        absent: columns ``task`` and ``reason``; tasks that could not be scored, named below.
    """
    encoders = [name for name in table if name not in ("probe", "task", "metric", "protocol")]
    protocols = list(table.protocol.cat.categories)
    gaps = np.arange(len(protocols))[:, None] * 0.35  # between the protocols, in columns
    columns = np.arange(len(protocols) * len(encoders)).reshape(len(protocols), -1) + gaps
    x = 0.31 + 0.69 * (columns + 1) / (columns.max() + 1)  # right edges, (protocols, encoders)
    num_tasks, num_probes = table.task.nunique(), table.probe.nunique()
    has_absent = absent is not None and len(absent) > 0
    num_lines = num_probes * (num_tasks + 1) + NUM_HEAD_LINES + has_absent
    fig = plt.figure(figsize=(PAGE_WIDTH_IN, ROW_HEIGHT_IN * num_lines), layout="none")
    ax = fig.add_axes((0.005, 0, 0.99, 1), xlim=(0, 1), ylim=(num_lines - 0.5, -0.5))
    ax.set_axis_off()

    def print_cell(x, line, text, **style):
        ax.text(x, line, text, **{"ha": "right", "va": "center", "fontsize": 6.5} | style)

    for protocol, edges in zip(protocols, x, strict=True):
        name = f"test on {protocol}" if protocol in CONTINENTS else f"{protocol}, 5 folds"
        print_cell(np.mean(edges) - 0.012, 0, name, ha="center", weight="bold")
        ax.plot([edges[0] - 0.04, edges[-1]], [0.5, 0.5], color="black", lw=0.5)
        for edge, encoder in zip(edges, encoders, strict=True):
            style = {"rotation": 90, "ha": "right", "va": "bottom", "rotation_mode": "default"}
            print_cell(edge, NUM_HEAD_LINES - 0.7, encoder, **style)
    line = NUM_HEAD_LINES
    for probe, of_probe in table.groupby("probe", observed=True):
        print_cell(0, line, PROBE_TITLES[probe], ha="left", style="italic")
        ax.axhline(line - 0.5, color="black", lw=0.5)
        for task, of_task in of_probe.groupby("task", observed=True):
            line += 1
            print_cell(0, line, task.replace("_", " "), ha="left")
            print_cell(0.28, line, of_task.metric.iloc[0].replace("R2", "R²"))
            by_protocol = of_task.set_index("protocol")[encoders].round(2)
            for protocol, edges in zip(protocols, x, strict=True):
                if protocol not in by_protocol.index:
                    print_cell(edges[-1], line, "no class in common", color="0.5")
                    continue
                scores = by_protocol.loc[protocol]
                for edge, score in zip(edges, scores, strict=True):
                    text = f"{score:.2f}" if score > -10 else "<-10"
                    weight = "bold" if score == scores.max() else "normal"
                    print_cell(edge, line, text, weight=weight)
        line += 1
    ax.axhline(line - 0.5, color="black", lw=0.5)
    if has_absent:
        names = ", ".join(absent.task).replace("_", " ")
        print_cell(0, line, f"labels not at hand: {names}", ha="left", style="italic")
    return fig


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
        lonlat: ``(num_points, 2)`` degrees.
        target: true values.
        predicted: predicted values, drawn with the colours of the true ones.
        label: quantity and unit.
        title: what was predicted how.
    """
    fig = plt.figure(figsize=(PAGE_WIDTH_IN, 4.6))
    grid = fig.add_gridspec(2, 2, width_ratios=(1, 1), height_ratios=(1, 1))
    low, high = np.quantile(target, [0.01, 0.99])
    for name, place, values in (("measured", grid[0, 0], target), (title, grid[0, 1], predicted)):
        ax = add_map(fig, place)
        ax.set_title(name)
        plot_points(ax, lonlat, values, vmin=low, vmax=high, size=1.6, label=label)
    error = predicted - target
    ax = add_map(fig, grid[1, 0])
    ax.set_title("predicted minus measured")
    norm = CenteredNorm(halfrange=float(np.quantile(np.abs(error), 0.98)))
    plot_points(ax, lonlat, error, cmap="RdBu_r", norm=norm, size=1.6, label=f"error, {label}")
    ax = fig.add_subplot(grid[1, 1], title=label)
    ax.set(xlabel="measured", ylabel="predicted", aspect="equal")
    ax.scatter(target, predicted, s=1.5, alpha=0.4, linewidths=0, rasterized=True)
    ax.axline((low, low), slope=1, color="black", lw=0.6)
    ax.tick_params(length=2)
    return fig
