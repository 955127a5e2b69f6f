"""Results of a benchmark: means with confidence intervals, tables for print, and a paragraph."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from satclip_lib.checkpoints.model_card import escape_markdown
from satclip_lib.evaluation.benchmark import OWN_PROBE, POOLED, BenchmarkResult
from satclip_lib.files import write_text

CONFIDENCE = 0.95
ALL_TASKS = "mean of tasks"
ZERO_SHOT_TASKS = (
    "air_temperature", "precipitation", "elevation", "population_density", "climate_zone", "biome",
)  # fmt: skip
COMMITTED = Path(__file__).resolve().parents[2] / "benchmarks" / "results"  # of a checkout
LOWEST_R2 = -1.0  # in means over tasks, so that one continent does not decide


def summarise(
    result: BenchmarkResult, *, reference: str, probe: str = "linear", by_part: bool = False
) -> pd.DataFrame:
    """Mean scores over seeds (and continents), with intervals and differences to one encoder.

    The intervals are over places: of each seed the tested blocks are drawn anew, and the draws are
    averaged over seeds. A seed is one of places and folds; behind all of them stands one trained
    model, and what another training would change is not in the intervals.

    Args:
        result: Result of a benchmark.
        reference: Encoder that the others are compared with, on the same bootstrap draws.
        probe: Probe to report; encoders with a probe of their own are always there. Tasks that
            this probe does not predict, such as numbers for "logistic", are left out.
        by_part: Whether there is one row per continent, and one for the points of all continents
            ("pooled"), instead of the mean over continents.

    Returns:
        Columns ``task``, ``protocol``, ``part``, ``encoder``, ``probe``, ``metric``, ``score``,
        ``z_mse``, ``macro_f1``, ``label_km``, ``num_seeds``, ``low``, ``high`` (95 % interval),
        ``difference`` (score minus the reference's), ``difference_low``, ``difference_high``; in
        the order of the benchmark.

    Raises:
        ValueError: If the result has no scores, or lacks the reference or the probe.
    """
    scores = result.scores
    if scores.empty:
        raise ValueError("the result has no scores; see result.absent")
    for name, value in (("encoder", reference), ("probe", probe)):
        if value not in set(scores[name]):
            raise ValueError(f"no {name} {value!r} in the result, but {[*scores[name].unique()]}")
    scores = scores[scores.probe.isin([probe, OWN_PROBE])]
    scores = scores[scores.task.isin(scores.task[scores.encoder == reference])]
    part = scores["part"]
    if not by_part:
        scores = scores[part != POOLED]
        part = part.where(part == "all", "mean")
    keys = ["task", "protocol", "part", "encoder"]
    groups = scores.assign(part=part).groupby(keys, sort=False)
    draws = {key: result.draws[rows.index].mean(axis=0) for key, rows in groups}
    table = groups.agg(
        probe=("probe", "first"),
        metric=("metric", "first"),
        score=("score", "mean"),
        z_mse=("z_mse", "mean"),
        macro_f1=("macro_f1", "mean"),
        label_km=("label_km", "mean"),
        num_seeds=("seed", "nunique"),
    ).reset_index()
    tail = 100 * (1 - CONFIDENCE) / 2
    score_of = table.set_index(keys)["score"]
    rows = []
    for *case, encoder in table[keys].itertuples(index=False, name=None):
        own, other = (*case, encoder), (*case, reference)
        rows.append(
            (
                *np.percentile(draws[own], [tail, 100 - tail]),
                score_of[own] - score_of[other],
                *np.percentile(draws[own] - draws[other], [tail, 100 - tail]),
            )
        )
    added = ["low", "high", "difference", "difference_low", "difference_high"]
    return table.assign(**dict(zip(added, np.array(rows).T, strict=True)))


def average_tasks(
    result: BenchmarkResult, *, tasks: Sequence[str] = ZERO_SHOT_TASKS, lowest: float = LOWEST_R2
) -> BenchmarkResult:
    """The mean over tasks as one task, for :func:`summarise`.

    With held-out continents and ``ZERO_SHOT_TASKS`` this is the mean of the six zero-shot
    continent tasks. With several sizes of blocks its columns ``label_km`` and ``score`` are the
    curve of the score against the distance to the nearest label.

    Args:
        result: Result of a benchmark.
        tasks: Names of the tasks to average; those that the result lacks are left out.
        lowest: Lower scores count as this one, in each task, part, seed and bootstrap draw.

    Raises:
        ValueError: If the result has none of the tasks, or not the same under every protocol,
            whose means would not compare.
    """
    scores = result.scores[result.scores.task.isin(tasks)]
    if scores.empty:
        raise ValueError(f"the result has none of the tasks {', '.join(tasks)}")
    of_protocol = scores.groupby("protocol").task.unique().map(frozenset)
    if of_protocol.nunique() > 1:
        raise ValueError(
            "not every protocol has the same tasks: "
            + "; ".join(f"{name}: {', '.join(sorted(t))}" for name, t in of_protocol.items())
            + "; name fewer tasks"
        )
    draws = np.maximum(result.draws[scores.index], np.float32(lowest))
    scores = scores.assign(
        task=ALL_TASKS, metric="mean", score=scores.score.clip(lower=lowest)
    ).reset_index(drop=True)
    return replace(result, scores=scores, draws=draws)


def find_result(name: str) -> Path:
    """Path of a file that a script of ``benchmarks/`` left in the repository.

    Raises:
        FileNotFoundError: If it is not there, as in an installed package.
    """
    path = COMMITTED / name
    if not path.is_file():
        raise FileNotFoundError(
            f"no results at {path}: they come with the repository, not with an installed package. "
            "Clone it, and install it from there with `pip install -e .`"
        )
    return path


def load_committed_curve() -> pd.DataFrame:
    """Means of the six zero-shot tasks with pretrained peers, by ``benchmarks/downstream.py``.

    Returns:
        Columns ``protocol``, ``encoder``, ``label_km`` (median distance of a test point to the
        nearest label, km), and as in :func:`summarise` ``score``, ``low``, ``high``,
        ``difference`` (from ours with retrieval), ``difference_low`` and ``difference_high``;
        nearest labels first.
    """
    means = json.loads(find_result("downstream.json").read_text())["mean_of_zero_shot_tasks"]
    return pd.DataFrame(means)


def load_committed_parts() -> pd.DataFrame:
    """What each group of numbers is worth, measured by ``benchmarks/parts.py``.

    Returns:
        Mean score of the six zero-shot tasks: one row per choice of groups, and columns by seeds
        (on which groups were chosen, or confirmed) and protocol.
    """
    means = json.loads(find_result("parts.json").read_text())["mean of six tasks"]
    tables = {seeds: pd.DataFrame(of_encoder).T for seeds, of_encoder in means.items()}
    return pd.concat(tables, axis=1)


def load_published() -> pd.DataFrame:
    """Scores of linear probes on the paper's own weights, as others have published them.

    Returns:
        Columns ``task``, ``protocol``, ``source``, ``weights``, and ``score``: R2 or accuracy.
    """
    return pd.read_csv(find_result("published.csv"))


class Record(NamedTuple):
    """On how many tasks one encoder is ahead of another under one protocol."""

    wins: int
    clear_wins: int
    clear_losses: int
    num_tasks: int


def count_wins(summary: pd.DataFrame, protocol: str, *, over: str) -> Record:
    """Count the tasks on which the reference of a summary is ahead of the encoder ``over``.

    A win or loss is clear if the 95 % interval of the difference does not contain zero.
    """
    rows = summary[(summary.protocol == protocol) & (summary.encoder == over)]
    return Record(
        int((rows.difference < 0).sum()),
        int((rows.difference_high < 0).sum()),
        int((rows.difference_low > 0).sum()),
        len(rows),
    )


def describe(
    summary: pd.DataFrame, *, reference: str, twin: str, not_ranked: Sequence[str] = ()
) -> str:
    """Write a line per protocol: where the reference wins, where it loses and to whom.

    Args:
        summary: Table of :func:`summarise`, for this reference.
        reference: Encoder that the lines are about.
        twin: Name of the same network untrained; the difference to it is what pretraining adds.
        not_ranked: Encoders that see more than coordinates, and are left out of the ranking.
    """
    sentences = []
    for protocol in summary.protocol.unique():
        rows = summary[(summary.protocol == protocol) & ~summary.encoder.isin(not_ranked)]
        scores = rows.pivot(index="task", columns="encoder", values="score")
        own = rows.encoder[rows.probe == OWN_PROBE].unique()
        best = scores.drop(columns=own).idxmax(axis=1)
        won = _list_won(best, reference)
        text = f"{protocol}: of the probed encoders, {reference} is best on {won}"
        if losses := [
            f"{_name(task)} to {winner} ({_compare(scores.loc[task], reference, winner)})"
            for task, winner in best.items()
            if winner != reference
        ]:
            text += f". It loses {'; '.join(losses)}"
        for other in own:
            ahead = scores[scores[other] > scores[reference]]
            text += f". {other}, which needs no probe, is ahead on {len(ahead)} of {len(scores)}"
        record = count_wins(summary, protocol, over=twin)
        text += (
            f". Against its untrained twin it is ahead on {record.wins} of {record.num_tasks}, "
            f"clearly (95 % interval) on {record.clear_wins}, and clearly behind on "
            f"{record.clear_losses}."
        )
        sentences.append(text)
    return "\n".join(sentences)


def make_table(summary: pd.DataFrame, *, values: str = "score") -> pd.DataFrame:
    """One row per (protocol, encoder), one column per task, in the order of the summary."""
    table = summary.pivot_table(
        index=["protocol", "encoder"], columns="task", values=values, sort=False
    )
    encoders, tasks = summary.encoder.unique(), summary.task.unique()
    index = pd.MultiIndex.from_product(
        [summary.protocol.unique(), encoders], names=["protocol", "encoder"]
    )
    return table.reindex(index=index, columns=[t for t in tasks if t in table]).dropna(how="all")


def save_tables(summary: pd.DataFrame, stem: Path) -> list[Path]:
    """Write a summary as ``<stem>.csv``, and its scores as ``<stem>.tex`` and ``<stem>.md``.

    The best score of each protocol and task is bold, and so are scores that look the same with
    two decimals; the head of a column names its metric.
    """
    one_line = {name: summary[name].str.split().str.join(" ") for name in ("protocol", "encoder")}
    table = make_table(summary.assign(**one_line)).round(2)  # as it is printed
    metric = summary.drop_duplicates("task").set_index("task")["metric"]
    table.columns = [f"{_name(task)} ({metric[task].replace('R2', 'R²')})" for task in table]
    is_best = table == table.groupby(level="protocol").transform("max")
    bold = is_best.reset_index(drop=True).replace({True: "textbf:--rwrap;", False: ""})
    style = table.reset_index().style.hide(axis="index")
    style.format(precision=2, na_rep="--", escape="latex").format_index(escape="latex", axis=1)
    style.apply(lambda _: bold, axis=None, subset=[*table])
    text = table.map("{:.2f}".format).replace("nan", "–")
    text = text.where(~is_best, "**" + text + "**").reset_index()
    names = ["protocol", "encoder"]
    text[names] = text[names].map(escape_markdown)
    text.columns = text.columns.map(escape_markdown)
    contents = {
        "csv": summary.to_csv(index=False),
        "tex": style.to_latex(hrules=True).replace("R²", "$R^2$"),
        "md": text.to_markdown(index=False, disable_numparse=True) + "\n",
    }
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        write_text(path, content)
    return paths


def _list_won(best: pd.Series, reference: str) -> str:
    won = [_name(task) for task in best.index[best == reference]]
    return f"{len(won)} of {len(best)} tasks" + (f" ({', '.join(won)})" if won else "")


def _compare(scores: pd.Series, reference: str, other: str) -> str:
    """The two scores, with enough digits to tell them apart, up to four."""
    for num_digits in (2, 3, 4):
        own, others = (f"{scores[name]:.{num_digits}f}" for name in (reference, other))
        if own != others:
            break
    return f"{own} against {others}"


def _name(task: str) -> str:
    return " ".join(task.replace("_", " ").split())
