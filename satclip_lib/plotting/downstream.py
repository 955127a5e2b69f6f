"""Benchmark results as figures: differences with intervals, curves, and maps of predictions."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure

from satclip_lib.evaluation.splits import parse_protocol
from satclip_lib.plotting.maps import add_map, plot_points
from satclip_lib.plotting.style import PAGE_WIDTH_IN, styled

COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
LARGEST_DIFFERENCE = 0.6  # on the axis; what is beyond is drawn as an arrow at its edge
LOWEST_SCORE = -0.6


@styled()
def plot_forest(summary: pd.DataFrame, *, reference: str, encoders: Sequence[str]) -> Figure:
    """Score of the reference minus that of others, with 95 % intervals: right of 0 it is ahead.

    Args:
        summary: of :func:`satclip_lib.evaluation.summary.summarise`; one panel per protocol.
        reference: the encoder that the summary's differences are from.
        encoders: those to compare it with, at most six, in the order of colours.

    Raises:
        ValueError: if there are more encoders than colours.
    """
    check_styles("encoders", encoders, limit=len(COLORS) - 1)  # the first is the reference's
    protocols = list(summary.protocol.unique())
    tasks = list(summary.task.unique())
    height = 0.8 + 0.36 * len(tasks)
    fig, axes = plt.subplots(
        1, len(protocols), figsize=(PAGE_WIDTH_IN, height), sharey=True, squeeze=False
    )
    offsets = np.linspace(-0.3, 0.3, len(encoders)) if len(encoders) > 1 else [0.0]
    for ax, protocol in zip(axes[0], protocols, strict=True):
        ax.set_title(protocol)
        draw_rows(ax, len(tasks), edge=LARGEST_DIFFERENCE)
        of_protocol = summary[summary.protocol == protocol]
        for encoder, offset, color, marker in zip(
            encoders, offsets, COLORS[1:], MARKERS[1:], strict=False
        ):
            rows = of_protocol[of_protocol.encoder == encoder].set_index("task").reindex(tasks)
            y = pd.Series(np.arange(len(tasks)) + offset, index=tasks)
            style = {"color": color, "marker": marker, "label": encoder}
            interval = -rows.difference_high, -rows.difference_low
            draw_intervals(
                ax, y, -rows.difference, interval, edge=LARGEST_DIFFERENCE, size=9.0, **style
            )
        ax.set_xlabel(f"{reference} minus the other")
    metric = summary.drop_duplicates("task").set_index("task")["metric"].str.replace("R2", "R²")
    labels = [f"{task.replace('_', ' ')} ({metric[task]})" for task in tasks]
    axes[0, 0].set_yticks(range(len(tasks)), labels)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=6)
    return fig


def check_styles(what: str, names: Sequence[str], *, limit: int = len(COLORS)) -> None:
    """See that each of ``names`` can have a colour and marker of its own.

    Raises:
        ValueError: if there are more of them than ``limit``.
    """
    if len(names) > limit:
        raise ValueError(f"{len(names)} {what}, but colours for {limit}: pass fewer {what}")


def draw_rows(ax: Axes, num_rows: int, *, edge: float) -> None:
    """The empty rows of a forest plot, first on top, around a line at zero.

    Args:
        ax: where.
        num_rows: every other one is shaded.
        edge: the axis goes from ``-edge`` to ``edge``.
    """
    ax.axvline(0, color="black", lw=0.6, zorder=1)
    for y in np.arange(num_rows)[::2]:
        ax.axhspan(y - 0.5, y + 0.5, color="0.95", lw=0, zorder=0)
    ax.set(xlim=(-edge, edge), ylim=(num_rows - 0.5, -0.5))
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)


def draw_intervals(
    ax: Axes,
    y: pd.Series,
    middle: pd.Series,
    interval: tuple[pd.Series, pd.Series] | None = None,
    *,
    edge: float,
    size: float,
    color: str,
    marker: str,
    label: str,
) -> None:
    """Marks on the rows of a forest plot; those beyond the axis are arrows at its edge.

    Args:
        ax: prepared by :func:`draw_rows`.
        y: height of each mark.
        middle: its position, with the index of ``y``, as the interval.
        interval: lower and upper ends of the line through each mark; None for no line.
        edge: of the axis.
        size: of the marks, points squared.
        color: of marks and lines.
        marker: Matplotlib's name of the mark.
        label: for the legend.
    """
    if interval is not None:
        low, high = (end.clip(-edge, edge) for end in interval)
        ax.hlines(y, low, high, color=color, lw=0.9)
    at_edge = 0.985 * edge
    inside = middle.abs() <= at_edge
    style = {"color": color, "s": size, "linewidths": 0, "zorder": 3}
    ax.scatter(middle[inside], y[inside], marker=marker, label=label, **style)
    for sign, arrow in ((1, ">"), (-1, "<")):
        beyond = sign * middle > at_edge
        at = np.full(beyond.sum(), sign * at_edge)
        ax.scatter(at, y[beyond], marker=arrow, **style | {"s": 1.5 * size})


@styled()
def plot_curves(
    summary: pd.DataFrame, *, encoders: Sequence[str], xlabel: str, num_columns: int = 4
) -> Figure:
    """Score against the number of labels or shots: one panel per task, one line per encoder.

    Args:
        summary: of protocols that differ in their shots ("+5%") or labels (":300").
        encoders: at most seven; bands are the 95 % intervals.
        xlabel: what grows to the right.
        num_columns: panels in a row.

    Raises:
        ValueError: if there are more encoders than colours.
    """
    check_styles("encoders", encoders)
    _, shots, labels, _ = zip(*map(parse_protocol, summary.protocol), strict=True)
    table = summary.assign(x=labels if shots[0] is None else shots)
    ticks = sorted(table.x.unique())
    tasks = list(table.task.unique())
    num_rows = -(-len(tasks) // num_columns)
    fig, axes = plt.subplots(
        num_rows,
        num_columns,
        figsize=(PAGE_WIDTH_IN, 0.6 + 1.45 * num_rows),
        sharex=True,
        squeeze=False,
    )
    for ax, task in zip(axes.flat, tasks, strict=False):
        of_task = table[table.task == task]
        for encoder, color, marker in zip(encoders, COLORS, MARKERS, strict=False):
            rows = of_task[of_task.encoder == encoder].set_index("x").reindex(ticks)
            x = np.arange(len(ticks))
            ax.plot(x, rows.score, color=color, marker=marker, ms=3, lw=1, label=encoder)
            ax.fill_between(x, rows.low, rows.high, color=color, alpha=0.12, lw=0)
        ax.set_title(task.replace("_", " "))
        ax.set_ylabel(of_task.metric.iloc[0].replace("R2", "R²"))
        lowest = of_task[of_task.encoder.isin(encoders)].score.min()
        if lowest < LOWEST_SCORE:
            ax.set_ylim(bottom=LOWEST_SCORE)
        ax.set_xticks(x, [f"{value:g}" for value in ticks])
    for ax in axes.flat[len(tasks) :]:
        ax.set_axis_off()
    for ax in axes[-1]:
        ax.set_xlabel(xlabel)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=6)
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
    ax = add_map(fig, grid[1, 0])
    ax.set_title("predicted minus measured")
    error = predicted - target
    norm = CenteredNorm(halfrange=float(np.quantile(np.abs(error), 0.98)))
    plot_points(ax, lonlat, error, cmap="RdBu_r", norm=norm, size=1.6, label=f"error, {label}")
    ax = fig.add_subplot(grid[1, 1], title=label)
    ax.set(xlabel="measured", ylabel="predicted", aspect="equal")
    ax.scatter(target, predicted, s=1.5, alpha=0.4, linewidths=0, rasterized=True)
    ax.axline((low, low), slope=1, color="black", lw=0.6)
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
        lonlat: ``(num_points, 2)`` degrees.
        target: true values.
        predicted: by two encoders, a row of maps each; all drawn with the colours of the true
            values.
        scores: columns ``part``, ``encoder``, ``score``: R2 on each continent.
        label: quantity and unit.
    """
    fig = plt.figure(figsize=(PAGE_WIDTH_IN, 3.3))
    grid = fig.add_gridspec(2, 3)
    low, high = np.quantile(target, [0.01, 0.99])
    largest = np.concatenate([np.abs(values - target) for values in predicted.values()])
    norm = CenteredNorm(halfrange=float(np.quantile(largest, 0.9)))
    maps = {(0, 0): ("measured", target)}
    for row, (encoder, values) in enumerate(predicted.items()):
        maps[row, 1] = (encoder, values)
        maps[row, 2] = ("predicted minus measured", values - target)
    for (row, column), (title, values) in maps.items():
        ax = add_map(fig, grid[row, column])
        ax.set_title(title)
        style = {"cmap": "RdBu_r", "norm": norm} if column == 2 else {"vmin": low, "vmax": high}
        points = plot_points(ax, lonlat, values, size=1.3, **style)
        if row == 1:  # one scale for a column, below its lower map
            name = "error, in the same unit" if column == 2 else label
            place = ax.inset_axes((0.15, -0.1, 0.7, 0.04))
            bar = fig.colorbar(points, cax=place, orientation="horizontal", label=name)
            bar.outline.set_linewidth(0.35)
            place.tick_params(width=0.35, length=2, labelsize=6.5)
    ax = fig.add_subplot(grid[1, 0], title="R² on each continent")
    parts = list(scores.part.unique())
    for offset, color, encoder in zip((-0.18, 0.18), COLORS, predicted, strict=False):
        rows = scores[scores.encoder == encoder].set_index("part").reindex(parts)
        y = np.arange(len(parts)) + offset
        ax.barh(y, rows.score.clip(lower=-1), height=0.34, color=color, label=encoder)
    ax.axvline(0, color="black", lw=0.6)
    ax.set_yticks(range(len(parts)), parts, fontsize=6.5)
    ax.set(ylim=(len(parts) - 0.5, -0.5), xlim=(-1, 1))
    ax.set_xlabel("R² (bars end at −1)")
    ax.legend(fontsize=6, loc="lower left", bbox_to_anchor=(-0.1, 1.12), ncols=2)
    return fig
