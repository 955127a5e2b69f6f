"""Curves: training, score against labels, shots or distance, and errors of localisation."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from satclip_lib.evaluation.splits import parse_protocol
from satclip_lib.plotting.style import PAGE_WIDTH_IN, make_styles, styled

TRAIN_COLOR, VAL_COLOR, TOP1_COLOR = "#0072B2", "#D55E00", "#56B4E9"
LINES = ("-", "--", "-.", ":")
R2_TICKS = (-100, -30, -10, -3, -1, -0.5, 0, 0.5, 1)  # where a score is far below 0


@styled()
def plot_training_curves(curve: pd.DataFrame, *, num_candidates: int) -> Figure:
    """Loss and retrieval accuracy per epoch.

    Args:
        curve: Columns ``epoch``, ``train_loss``, ``val_loss`` (nats), ``val_top1_accuracy``,
            ``val_top10_accuracy`` (0 to 1).
        num_candidates: Number of held-out locations among which the right one has to be found.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(PAGE_WIDTH_IN, 2.4))
    epoch = curve.epoch + 1
    left.plot(epoch, curve.train_loss, color=TRAIN_COLOR, label="training")
    left.plot(epoch, curve.val_loss, color=VAL_COLOR, label="validation (held-out blocks)")
    best = curve.val_loss.idxmin()
    left.plot(epoch[best], curve.val_loss[best], "o", color=VAL_COLOR, ms=4, label="kept")
    left.set(ylabel="contrastive loss (nats)", title="Loss")
    for k, color in ((1, TOP1_COLOR), (10, VAL_COLOR)):
        right.plot(epoch, 100 * curve[f"val_top{k}_accuracy"], color=color, label=f"in the top {k}")
        right.axhline(100 * k / num_candidates, color=color, lw=0.8, ls=":")
    title = f"Right location among {num_candidates:,} (dotted: chance)"
    right.set(ylabel="held-out patches (%)", title=title, ylim=(0, None))
    for ax in (left, right):
        ax.set_xlabel("epoch")
        ax.legend()
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return fig


@styled()
def plot_curves(
    summary: pd.DataFrame, *, encoders: Sequence[str], xlabel: str, num_columns: int = 4
) -> Figure:
    """Score against the number of labels or shots: one panel per task, one line per encoder.

    An axis that reaches below -1 is logarithmic below -1.

    Args:
        summary: Scores of protocols that differ in their shots ("+5%") or labels (":300").
        encoders: Encoders to draw, at most seven; bands are 95 % intervals over places.
        xlabel: Label of the horizontal axis.
        num_columns: Largest number of panels in a row.

    Raises:
        ValueError: If there are more encoders than colours.
    """
    styles = make_styles(encoders)
    _, shots, labels, _ = zip(*map(parse_protocol, summary.protocol), strict=True)
    table = summary.assign(x=labels if shots[0] is None else shots)
    ticks = sorted(table.x.unique())
    x = np.arange(len(ticks))
    tasks = list(table.task.unique())
    num_rows = -(-len(tasks) // num_columns)
    num_columns = -(-len(tasks) // num_rows)  # rows of one length, where that can be
    size = PAGE_WIDTH_IN, 0.6 + 1.45 * num_rows
    fig, axes = plt.subplots(num_rows, num_columns, figsize=size, sharex=True, squeeze=False)
    for ax, task in zip(axes.flat, tasks, strict=False):
        of_task = table[table.task == task]
        for encoder, style in styles.items():
            rows = of_task[of_task.encoder == encoder].set_index("x").reindex(ticks)
            ax.plot(x, rows.score, ms=3, lw=1, label=encoder, **style)
            ax.fill_between(x, rows.low, rows.high, color=style["color"], alpha=0.12, lw=0)
        metric = of_task.metric.iloc[0].replace("R2", "R²")
        ax.set(title=task.replace("_", " "), ylabel=metric)
        lowest = of_task[of_task.encoder.isin(encoders)].low.min()
        if lowest < -1:
            ax.set_yscale("symlog", linthresh=1, linscale=1.5)
            shown = [tick for tick in R2_TICKS if lowest <= tick]
            ax.set_yticks(shown, [f"{tick:g}".replace("-", "−") for tick in shown])
            ax.minorticks_off()
            ax.set(ylim=(1.1 * lowest, 1), ylabel=f"{metric}, log below −1")
        ax.set_xticks(x, [f"{value:g}" for value in ticks])
    for ax in axes.flat[len(tasks) :]:
        ax.set_axis_off()
    for ax in axes[-1]:
        ax.set_xlabel(xlabel)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=6)
    return fig


@styled()
def plot_distance_curve(curve: pd.DataFrame, *, encoders: Sequence[str]) -> Figure:
    """Mean score of tasks against the distance to the nearest label, one line per encoder.

    Args:
        curve: Columns ``protocol``, ``encoder``, ``label_km`` (median distance in km), ``score``,
            ``low`` and ``high``. Held-out continents, whose distances differ, are drawn apart.
        encoders: Encoders to draw, at most seven; bands are 95 % intervals over places.
    """
    fig, (left, right) = plt.subplots(
        1, 2, figsize=(PAGE_WIDTH_IN, 3.0), sharey=True, width_ratios=(4, 1)
    )
    is_far = curve.protocol == "continents"
    for number, (encoder, style) in enumerate(make_styles(encoders).items()):
        rows = curve[(curve.encoder == encoder) & ~is_far].sort_values("label_km")
        left.plot(rows.label_km, rows.score, ms=3, lw=1, label=encoder, **style)
        left.fill_between(
            rows.label_km, rows.low, rows.high, color=style["color"], alpha=0.12, lw=0
        )
        for row in curve[(curve.encoder == encoder) & is_far].itertuples():
            right.errorbar(
                number, row.score, [[row.score - row.low], [row.high - row.score]],
                color=style["color"], fmt=style.get("marker", "o"), ms=4,
            )  # fmt: skip
    left.set(xscale="log", ylabel="mean score of six tasks")
    ticks = (100, 200, 400, 800)
    left.set_xticks(ticks, [f"{tick}" for tick in ticks])
    left.minorticks_off()
    left.set_xlabel("median distance to the nearest label, km")
    right.set_xticks([])
    right.set_xlabel("held-out continents")
    fig.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return fig


@styled()
def plot_localization_errors(
    errors_km: Mapping[str, Float[np.ndarray, " num_images"]],
    *,
    radii_km: tuple[float | int, ...],
    note: str = "",
) -> Figure:
    """Share of images that are localised within a distance, one line per method.

    Args:
        errors_km: Great-circle distances to the truth in km, by the name of the method.
        radii_km: Distances to mark, in km.
        note: Text below the figure.
    """
    fig, ax = plt.subplots(figsize=(0.62 * PAGE_WIDTH_IN, 2.9))
    fig.supxlabel(note, fontsize="x-small")
    for index, (name, errors) in enumerate(errors_km.items()):
        share = np.arange(1, len(errors) + 1) / len(errors)
        ax.step(np.sort(errors), share, where="post", ls=LINES[index % len(LINES)], label=name)
    for radius in radii_km:
        ax.axvline(radius, color="0.75", lw=0.6, zorder=0)
    ax.set(xscale="log", xlim=(min(radii_km) / 1.5, 21_000), ylim=(0, 1))
    ax.set(xlabel="distance to the truth, km", ylabel="share of images within it")
    ticks = [*radii_km, 10_000]
    ax.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    ax.minorticks_off()
    ax.legend(loc="upper left")
    return fig
