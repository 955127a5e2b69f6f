"""Benchmark results as a table for print."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from satclip_lib.evaluation.summary import make_table
from satclip_lib.plotting.style import PAGE_WIDTH_IN, styled

LINE_HEIGHT_IN = 0.15
NAMES_WIDTH = 0.165  # share of the page
NUM_HEAD_LINES = 3.4  # names of tasks on two lines, and their metrics
HOPELESS = -10.0  # scores below are not worth their digits

PROTOCOL_TITLES = {
    "random": "random folds: test points have training points next door",
    "blocks": "held-out blocks, 10 degrees wide (California: 1 degree)",
    "continents": "held-out continents, mean of six",
}


@styled()
def plot_table(
    summary: pd.DataFrame, *, reference: str, absent: Sequence[str] = (), note: str = ""
) -> Figure:
    """Print a summary: a column per task, a row per encoder, protocols below each other.

    The best encoder of each task and protocol is bold, the reference's row is shaded.

    Args:
        summary: Table from :func:`satclip_lib.evaluation.summary.summarise`.
        reference: Encoder whose rows are shaded.
        absent: Tasks that could not be scored, named below the table.
        note: Text below the table.
    """
    table = make_table(summary)
    metric = summary.drop_duplicates("task").set_index("task")["metric"]
    protocols = list(table.index.unique("protocol"))
    edges = np.linspace(NAMES_WIDTH, 1, len(table.columns) + 1)[1:]
    notes = [note] if note else []
    if absent:
        notes.append(f"labels not at hand: {', '.join(absent)}".replace("_", " "))
    num_lines = NUM_HEAD_LINES + len(table) + 1.4 * len(protocols) + len(notes)
    fig = plt.figure(figsize=(PAGE_WIDTH_IN, LINE_HEIGHT_IN * num_lines), layout="none")
    ax = fig.add_axes((0.005, 0, 0.99, 1), xlim=(0, 1), ylim=(num_lines, 0))
    ax.set_axis_off()
    for edge, task in zip(edges, table, strict=True):
        *first, last = task.replace("_", " ").split(" ")
        _print(ax, edge, 0.6, " ".join(first), fontsize=5.4)
        _print(ax, edge, 1.5, last, fontsize=5.4)
        name = metric[task].replace("R2", "R²")
        _print(ax, edge, 2.5, name, style="italic", color="0.35", fontsize=5.4)
    line = NUM_HEAD_LINES
    for protocol in protocols:
        ax.axhline(line - 0.2, color="black", lw=0.5)
        title = PROTOCOL_TITLES.get(protocol, protocol)
        _print(ax, 0.0, line + 0.5, title, ha="left", weight="bold")
        line += 1.2
        scores = table.loc[protocol].round(2)
        for encoder, row in scores.iterrows():
            if encoder == reference:
                ax.axhspan(line, line + 1, color="0.9", lw=0)
            _print(ax, 0.008, line + 0.5, encoder, ha="left")
            for edge, task in zip(edges, table, strict=True):
                is_best = row[task] == scores[task].max()
                text = _format(row[task])
                _print(ax, edge, line + 0.5, text, weight="bold" if is_best else "normal")
            line += 1
        line += 0.2
    ax.axhline(line - 0.2, color="black", lw=0.5)
    for text in notes:
        _print(ax, 0.0, line + 0.5, text, ha="left", style="italic")
        line += 1
    return fig


def _format(score: float) -> str:
    if np.isnan(score):
        return "–"
    return f"{score:.2f}".replace("-", "−") if score > HOPELESS else f"< −{-HOPELESS:.0f}"


def _print(ax: Axes, x: float, line: float, text: str, **style) -> None:
    ax.text(x, line, text, **{"ha": "right", "va": "center", "fontsize": 6.3} | style)
