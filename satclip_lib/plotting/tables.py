"""Benchmark results as a table for print: encoders in families, cells shaded by rank."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from satclip_lib.evaluation.summary import make_table
from satclip_lib.plotting.style import PAGE_WIDTH_IN, styled

LINE_HEIGHT_IN = 0.165
NAMES_X, SCORES_X = 0.085, 0.265  # shares of the page; families stand left of the names
NUM_HEAD_LINES = 3.2  # names of tasks on two lines, and their metrics
FAMILY_GAP_LINES = 0.25
HOPELESS = -10.0  # lower scores are printed as "< −10"
SHADES = colormaps["Blues"]
DARKEST = 0.55  # of the shades, for the best; black is still read on it

PROTOCOL_TITLES = {
    "random": "Random folds: test points have near training points",
    "blocks": "Held-out blocks, 10 degrees wide (California: 1 degree)",
    "continents": "Held-out continents, mean of six",
}


@styled()
def plot_table(
    summary: pd.DataFrame,
    *,
    reference: str,
    families: Mapping[str, str],
    absent: Sequence[str] = (),
    note: str = "",
) -> Figure:
    """Draw a summary: a column per task, a row per encoder, protocols below each other.

    For each task and protocol the best score in the table is bold and has the darkest shade; the
    worst is white.

    Args:
        summary: Table from :func:`satclip_lib.evaluation.summary.summarise`.
        reference: Encoder whose name is bold.
        families: Family of each encoder to print, in the order of rows.
        absent: Tasks that could not be scored, named below the table.
        note: Text below the table.
    """
    table = make_table(summary[summary.encoder.isin(list(families))]).round(2)
    metric = summary.drop_duplicates("task").set_index("task")["metric"]
    protocols = list(table.index.unique("protocol"))
    notes = [f"{note} Dark: best of these encoders. White: worst.".strip()]
    if absent:
        notes.append(f"Labels not at hand: {', '.join(absent)}.".replace("_", " "))
    num_gaps = len(set(families.values())) - 1
    num_lines = NUM_HEAD_LINES + len(notes) + 0.3
    num_lines += len(protocols) * (len(families) + 1.4 + FAMILY_GAP_LINES * num_gaps)
    fig = plt.figure(figsize=(PAGE_WIDTH_IN, LINE_HEIGHT_IN * num_lines), layout="none")
    ax = fig.add_axes((0.005, 0, 0.99, 1), xlim=(0, 1), ylim=(num_lines, 0))
    ax.set_axis_off()
    edges = np.linspace(SCORES_X, 1, len(table.columns) + 1)
    middles = (edges[:-1] + edges[1:]) / 2
    for x, task in zip(middles, table, strict=True):
        *first, last = task.replace("_", " ").split(" ")
        _print(ax, x, 0.6, " ".join(first), fontsize=5.6)
        _print(ax, x, 1.5, last, fontsize=5.6)
        name = metric[task].replace("R2", "R²")
        _print(ax, x, 2.5, name, style="italic", color="0.35", fontsize=5.6)
    line = NUM_HEAD_LINES
    for protocol in protocols:
        ax.axhline(line - 0.1, color="black", lw=0.5)
        title = PROTOCOL_TITLES.get(protocol, protocol)
        _print(ax, 0.0, line + 0.55, title, ha="left", weight="bold")
        line += 1.2
        scores = table.loc[protocol].reindex(list(families))
        rank = scores.rank(ascending=False, method="min")
        family = None
        for encoder, row in scores.iterrows():
            if families[encoder] != family:
                line += FAMILY_GAP_LINES if family else 0
                family = families[encoder]
                _print(ax, 0.0, line + 0.5, family, ha="left", color="0.35", fontsize=5.6)
            weight = "bold" if encoder == reference else "normal"
            _print(ax, NAMES_X, line + 0.5, encoder, ha="left", weight=weight, fontsize=5.9)
            for left, right, task in zip(edges, edges[1:], table, strict=False):
                worst, place = rank[task].max(), rank.loc[encoder, task]
                if np.isfinite(place) and worst > 1:
                    shade = SHADES(DARKEST * (worst - place) / (worst - 1))
                    box = (left + 0.001, line + 0.03), right - left - 0.002, 0.94
                    ax.add_patch(plt.Rectangle(*box, color=shade, lw=0))
                weight = "bold" if place == 1 else "normal"
                _print(ax, (left + right) / 2, line + 0.5, _format(row[task]), weight=weight)
            line += 1
        line += 0.2
    ax.axhline(line - 0.1, color="black", lw=0.5)
    for text in notes:
        _print(ax, 0.0, line + 0.6, text, ha="left", style="italic")
        line += 1
    return fig


def _format(score: float) -> str:
    if np.isnan(score):
        return "–"
    if score <= HOPELESS:
        return f"< −{-HOPELESS:.0f}"
    return f"{score + 0.0:.2f}".replace("-", "−")  # no minus before a zero


def _print(ax: Axes, x: float, line: float, text: str, **style) -> None:
    ax.text(x, line, text, **{"ha": "center", "va": "center", "fontsize": 6.3} | style)
