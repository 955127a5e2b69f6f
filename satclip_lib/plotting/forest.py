"""Forest plots: differences of scores with intervals, and rankings of variants."""

from collections.abc import Mapping, Sequence
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from satclip_lib.evaluation.ablations import ALL_TASKS
from satclip_lib.plotting.style import COLORS, PAGE_WIDTH_IN, make_styles, styled

LARGEST_DIFFERENCE = 0.6  # end of the axis of plot_forest; larger ones are arrows at its edge
INSIDE = 0.95  # share of differences within the axis of plot_variants
ROW_NAME_LENGTH = 30  # letters of a variant in one line
UNDERLAY = {"facecolor": "white", "edgecolor": "none", "pad": 0.3}  # below numbers on lines


@styled()
def plot_forest(summary: pd.DataFrame, *, reference: str, encoders: Sequence[str]) -> Figure:
    """Score of the reference minus that of others, with 95 % intervals: positive if it is ahead.

    Args:
        summary: Table from :func:`satclip_lib.evaluation.summary.summarise`; one panel per
            protocol.
        reference: Encoder to which the summary gives differences.
        encoders: Encoders to compare it with, at most six, in the order of colours.

    Raises:
        ValueError: If there are more encoders than colours.
    """
    styles = make_styles(encoders, skip=1)  # the first is the reference's
    metric = summary.drop_duplicates("task").set_index("task")["metric"].str.replace("R2", "R²")
    fig, panels = _make_panels(
        dict.fromkeys(summary.protocol.unique(), LARGEST_DIFFERENCE),
        [f"{task.replace('_', ' ')} ({name})" for task, name in metric.items()],
        height_in=0.8 + 0.09 * len(metric) * max(4, len(encoders)),
        xlabel=f"{reference} minus the other",
    )
    offsets = np.linspace(-0.36, 0.36, len(encoders)) if len(encoders) > 1 else [0.0]
    for protocol, ax in panels.items():
        for (encoder, style), offset in zip(styles.items(), offsets, strict=True):
            rows = summary[(summary.protocol == protocol) & (summary.encoder == encoder)]
            rows = rows.set_index("task").reindex(metric.index)
            interval = -rows.difference_high, -rows.difference_low
            style = style | {"label": encoder, "offset": offset, "numbered": True}
            _draw_marks(ax, -rows.difference, interval, size=9.0, **style)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=6)
    return fig


@styled()
def plot_variants(
    summary: pd.DataFrame,
    *,
    reference: str,
    encoders: Sequence[str] | None = None,
    line: str = "95 % interval",
) -> Figure:
    """Score of each variant minus that of the reference: right of 0 the variant is better.

    Diamonds are means of all tasks, with their interval; small dots are the single tasks.

    Args:
        summary: Table from :func:`satclip_lib.evaluation.ablations.summarise_variants` or
            :func:`~satclip_lib.evaluation.ablations.compare_runs`; one panel per protocol.
        reference: Variant to which the summary gives differences.
        encoders: Variants from top to bottom; None for all, in the order of the summary.
        line: What the lines from ``difference_low`` to ``difference_high`` are, for the key.
    """
    names = [name for name in encoders or summary.encoder.unique() if name != reference]
    shown = summary[summary.encoder.isin(names)]
    is_mean = shown.task == ALL_TASKS
    largest = shown.difference.abs().groupby(shown.protocol, sort=False).quantile(INSIDE)
    fig, panels = _make_panels(
        {protocol: 1.1 * size or 1.0 for protocol, size in largest.items()},
        [fill(name, ROW_NAME_LENGTH) for name in names],
        height_in=0.85 + 0.19 * len(names),
        xlabel=f"score minus that of “{reference}”",
    )
    for protocol, ax in panels.items():
        tasks = shown[(shown.protocol == protocol) & ~is_mean]
        for _, rows in tasks.groupby("task"):
            of_task = rows.set_index("encoder").reindex(names).difference
            _draw_marks(ax, of_task, size=6.0, color="0.75", marker="o", label="one task")
        mean = shown[(shown.protocol == protocol) & is_mean].set_index("encoder").reindex(names)
        interval = mean.difference_low, mean.difference_high
        style = {"color": "black", "marker": "D", "label": ALL_TASKS, "numbered": True}
        _draw_marks(ax, mean.difference, interval, size=14.0, **style)
    handles = dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True))  # one of each label
    handles[line] = Line2D([], [], color="black", lw=0.9)
    fig.legend(handles.values(), handles, loc="outside upper center", ncols=3)
    return fig


@styled()
def plot_rankings(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Rank of each variant under each protocol, best on top; lines connect the same variant.

    The best of each column has a colour, so that its rank in the others is seen. Below a column
    stands the rank correlation of its order with that of the first.

    Args:
        tables: One table per panel from
            :func:`satclip_lib.evaluation.ablations.tabulate_differences`, by title.
    """
    tallest = max(len(table) for table in tables.values())
    fig, axes = plt.subplots(
        1,
        len(tables),
        figsize=(PAGE_WIDTH_IN, 0.75 + 0.135 * tallest),
        width_ratios=[len(table.columns) for table in tables.values()],
        squeeze=False,
    )
    for ax, (title, table) in zip(axes[0], tables.items(), strict=True):
        _draw_ranks(ax, table)
        ax.set_title(title)
    return fig


def _make_panels(
    edges: Mapping[str, float], rows: Sequence[str], *, height_in: float, xlabel: str
) -> tuple[Figure, dict[str, Axes]]:
    """Empty panels by title, each from minus to plus its edge; named rows, the first on top."""
    fig, axes = plt.subplots(
        1, len(edges), figsize=(PAGE_WIDTH_IN, height_in), sharey=True, squeeze=False
    )
    for ax, (title, edge) in zip(axes[0], edges.items(), strict=True):
        ax.axvline(0, color="black", lw=0.6, zorder=1)
        for y in range(0, len(rows), 2):
            ax.axhspan(y - 0.5, y + 0.5, color="0.95", lw=0, zorder=0)
        ax.set(title=title, xlabel=xlabel, xlim=(-edge, edge), ylim=(len(rows) - 0.5, -0.5))
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
    axes[0, 0].set_yticks(range(len(rows)), rows)
    return fig, dict(zip(edges, axes[0], strict=True))


def _draw_marks(
    ax: Axes,
    middle: pd.Series,
    interval: tuple[pd.Series, pd.Series] | None = None,
    *,
    offset: float = 0.0,
    size: float,
    color: str,
    marker: str,
    label: str,
    numbered: bool = False,
) -> None:
    """One mark per row, and a line from low to high; marks beyond the axis are arrows.

    Where ``numbered``, each arrow has its value beside it.
    """
    y, edge = np.arange(len(middle)) + offset, ax.get_xlim()[1]
    if interval is not None:
        low, high = (end.clip(-edge, edge) for end in interval)
        ax.hlines(y, low, high, color=color, lw=0.9)
    at_edge = 0.985 * edge
    inside = middle.abs() <= at_edge
    style = {"color": color, "linewidths": 0, "zorder": 3}
    ax.scatter(middle[inside], y[inside], size, marker=marker, label=label, **style)
    for sign, arrow in ((1, ">"), (-1, "<")):
        beyond = sign * middle > at_edge
        at = np.full(beyond.sum(), sign * at_edge)
        ax.scatter(at, y[beyond], 1.5 * size, marker=arrow, **style)
        for value, row in zip(middle[beyond & numbered], y[beyond & numbered], strict=True):
            ax.annotate(
                f"{value:.2f}".replace("-", "−"), (sign * at_edge, row), (-5 * sign, 0),
                textcoords="offset points", ha="right" if sign > 0 else "left", va="center",
                fontsize=5.5, color=color, bbox=UNDERLAY, zorder=4,
            )  # fmt: skip


def _draw_ranks(ax: Axes, table: pd.DataFrame) -> None:
    ranks = table.rank(ascending=False, method="first")
    correlation = table.corr(method="spearman")
    columns = list(table)
    color_of = {ranks[name].idxmin(): color for name, color in zip(columns, COLORS, strict=False)}
    for name, row in ranks.iterrows():
        color = color_of.get(name, "0.75")
        is_best = name in color_of
        style = {"ms": 4 if is_best else 2.5, "lw": 2 if is_best else 1, "zorder": 2 + is_best}
        ax.plot(row.to_numpy(), color=color, marker="o", **style)
        text = {"color": color, "weight": "bold"} if is_best else {}
        ax.text(-0.06, row.iloc[0], name, ha="right", va="center", fontsize=6, **text)
    ax.set(xlim=(-0.1, len(columns) - 0.9), ylim=(len(ranks) + 0.5, 0), yticks=[])
    first, *others = columns
    rho = [f"ρ = {correlation.loc[first, name]:.2f}".replace("-", "−") for name in others]
    labels = map("\n".join, zip(columns, [f"ρ with {first}:", *rho], strict=True))
    ax.set_xticks(range(len(columns)), labels)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
