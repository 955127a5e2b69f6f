"""What variants are worth as figures: differences to one of them, and their order by split."""

import itertools
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from satclip_lib.evaluation.ablations import ALL_TASKS, compare_rankings
from satclip_lib.plotting.downstream import COLORS, MARKERS, check_styles, draw_intervals, draw_rows
from satclip_lib.plotting.style import PAGE_WIDTH_IN, styled

INSIDE = 0.9  # of the differences, by which the axis is chosen; others are arrows at its edge
LARGE_SHIFT = 1 / 3  # of all ranks, from which on a line has a colour


@styled()
def plot_variants(
    summary: pd.DataFrame, *, reference: str, encoders: Sequence[str] | None = None
) -> Figure:
    """Score of each variant minus that of the reference: right of 0 the variant is better.

    Small marks are single tasks, black diamonds their mean, with its interval.

    Args:
        summary: of :func:`satclip_lib.evaluation.ablations.summarise_variants` or
            :func:`~satclip_lib.evaluation.ablations.compare_runs`; one panel per protocol, at
            most seven tasks.
        reference: the variant that the summary's differences are from.
        encoders: variants from top to bottom; None for all, in the order of the summary.

    Raises:
        ValueError: if there are more tasks than colours.
    """
    protocols = list(summary.protocol.unique())
    names = [name for name in encoders or summary.encoder.unique() if name != reference]
    tasks = [task for task in summary.task.unique() if task != ALL_TASKS]
    check_styles("tasks", tasks)
    fig, axes = plt.subplots(
        1,
        len(protocols),
        figsize=(PAGE_WIDTH_IN, 1.0 + 0.19 * len(names)),
        sharey=True,
        squeeze=False,
    )
    y = pd.Series(np.arange(len(names)), index=names)
    for ax, protocol in zip(axes[0], protocols, strict=True):
        rows = summary[(summary.protocol == protocol) & summary.encoder.isin(names)]
        edge = 1.1 * rows.difference.abs().quantile(INSIDE) or 1.0
        draw_rows(ax, len(names), edge=edge)
        ax.set(title=protocol, xlabel=f"score minus that of “{reference}”")
        for task, color, marker in zip(tasks, COLORS, MARKERS, strict=False):
            of_task = rows[rows.task == task].set_index("encoder").difference.reindex(names)
            style = {"color": color, "marker": marker, "label": task.replace("_", " ")}
            draw_intervals(ax, y, of_task, edge=edge, size=8.0, **style)
        mean = rows[rows.task == ALL_TASKS].set_index("encoder").reindex(names)
        interval = mean.difference_low, mean.difference_high
        style = {"color": "black", "marker": "D", "label": ALL_TASKS}
        draw_intervals(ax, y, mean.difference, interval, edge=edge, size=14.0, **style)
    axes[0, 0].set_yticks(range(len(names)), names)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return fig


@styled()
def plot_rankings(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """The order of variants, best on top, under one way of splitting and another.

    Lines of variants that gain or lose at least a third of all ranks have a colour. Between two
    columns stands the rank correlation of the orders they give.

    Args:
        tables: by title, of :func:`satclip_lib.evaluation.ablations.tabulate_differences`; one
            panel each.
    """
    tallest = max(len(table) for table in tables.values())
    num_columns = [len(table.columns) for table in tables.values()]
    fig, axes = plt.subplots(
        1,
        len(tables),
        figsize=(PAGE_WIDTH_IN, 0.75 + 0.135 * tallest),
        width_ratios=num_columns,
        squeeze=False,
    )
    for ax, (title, table) in zip(axes[0], tables.items(), strict=True):
        _draw_ranks(ax, table)
        ax.set_title(title)
    return fig


def _draw_ranks(ax: Axes, table: pd.DataFrame) -> None:
    ranks = table.rank(ascending=False, method="first")
    correlation = compare_rankings(table)
    columns = list(table)
    shift = ranks[columns[-1]] - ranks[columns[0]]
    for name, row in ranks.iterrows():
        rises = shift[name] <= -LARGE_SHIFT * len(ranks)
        falls = shift[name] >= LARGE_SHIFT * len(ranks)
        color = COLORS[1] if rises else COLORS[0] if falls else "0.6"
        ax.plot(row.to_numpy(), color=color, marker="o", ms=2.5, lw=1, zorder=2 + (color != "0.6"))
        ax.text(-0.06, row.iloc[0], name, ha="right", va="center", fontsize=6)
    for place, (left, right) in enumerate(itertools.pairwise(columns)):
        text = f"ρ = {correlation.loc[left, right]:.2f}".replace("-", "−")
        ax.text(place + 0.5, 0.35, text, ha="center", va="bottom", fontsize=7)
    ax.set(xlim=(-0.1, len(columns) - 0.9), ylim=(len(ranks) + 0.5, 0))
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks([])
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
