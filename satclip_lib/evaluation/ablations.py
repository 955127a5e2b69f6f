"""What variants of an encoder are worth: paired differences under each split.

Tables have the columns of :func:`satclip_lib.evaluation.summary.summarise`, with the variant as
``encoder`` and one task more, ``ALL_TASKS``: the mean of the others.
"""

import json
from dataclasses import replace

import pandas as pd

from satclip_lib.evaluation.benchmark import BenchmarkResult
from satclip_lib.evaluation.summary import ALL_TASKS, find_result, summarise

PROTOCOLS = ("random", "blocks", "continents")


def summarise_variants(result: BenchmarkResult, *, reference: str) -> pd.DataFrame:
    """Differences of variants to the reference on each task and on the mean of all tasks.

    Args:
        result: Result of a benchmark whose encoders are the variants.
        reference: Variant that the others are compared with, at the same points and seed.

    Returns:
        See the head of this module; intervals are from resampled blocks.
    """
    together = replace(result, scores=result.scores.assign(task=ALL_TASKS, metric="mean"))
    return pd.concat(
        [summarise(part, reference=reference) for part in (result, together)], ignore_index=True
    )


def load_full_size_runs() -> pd.DataFrame:
    """The scores of all runs of ``benchmarks/ablations.py``.

    Returns:
        Columns ``encoder`` (the variant), ``seed``, ``task``, ``protocol`` (of ``PROTOCOLS``) and
        ``score``, in the order in which the variants were first run.

    Raises:
        FileNotFoundError: If the results are not there, as in an installed package.
    """
    runs = json.loads(find_result("ablations.json").read_text())["runs"]
    rows = [{"encoder": r["variant"], "seed": r["seed"], **s} for r in runs for s in r["scores"]]
    scores = pd.DataFrame(rows)
    return scores[scores.protocol.isin(PROTOCOLS)].reset_index(drop=True)


def compare_runs(runs: pd.DataFrame, *, reference: str) -> pd.DataFrame:
    """Differences of variants to the reference, each from runs of the same seed.

    Args:
        runs: Columns ``encoder``, ``seed``, ``task``, ``protocol``, ``score``.
        reference: Variant that the others are compared with; variants that share no seed with
            it are left out.

    Returns:
        See the head of this module; ``difference_low`` and ``difference_high`` are the lowest and
        the highest of ``num_seeds`` seeds, not an interval of confidence.

    Raises:
        ValueError: If the reference is not among the variants.
    """
    if reference not in set(runs.encoder):
        raise ValueError(f"no variant {reference!r} in the runs, but {[*runs.encoder.unique()]}")
    of_run = ["protocol", "encoder", "seed"]
    mean = runs.groupby(of_run, sort=False).score.mean().reset_index().assign(task=ALL_TASKS)
    runs = pd.concat([runs, mean], ignore_index=True)
    keys = ["task", "protocol", "seed"]
    own = runs[runs.encoder == reference].set_index(keys).score.rename("own")
    paired = runs.join(own, on=keys, how="inner")
    paired["difference"] = paired.score - paired.own
    return (
        paired.groupby(["task", "protocol", "encoder"], sort=False)
        .agg(
            score=("score", "mean"),
            difference=("difference", "mean"),
            difference_low=("difference", "min"),
            difference_high=("difference", "max"),
            num_seeds=("seed", "nunique"),
        )
        .reset_index()
    )


def tabulate_differences(summary: pd.DataFrame) -> pd.DataFrame:
    """Mean difference over tasks to the reference: one row per variant, one column per protocol.

    Args:
        summary: Table of :func:`summarise_variants` or :func:`compare_runs`.
    """
    rows = summary[summary.task == ALL_TASKS]
    table = rows.pivot(index="encoder", columns="protocol", values="difference")
    return table.reindex(index=rows.encoder.unique(), columns=rows.protocol.unique())


def describe_leaders(summary: pd.DataFrame, *, reference: str) -> str:
    """A line per protocol: the reference's rank, which variants are ahead of it, and where.

    Args:
        summary: Table of :func:`summarise_variants` or :func:`compare_runs`, for this reference.
        reference: Variant that the lines are about.
    """
    lines = []
    for protocol, rows in summary.groupby("protocol", sort=False):
        mean = rows[rows.task == ALL_TASKS].sort_values("difference", ascending=False)
        ahead = mean[(mean.difference > 0) & (mean.encoder != reference)]
        place = f"number {len(ahead) + 1} of {len(mean)}"
        text = f"{protocol}: {reference} is {place} on the mean of tasks"
        if len(ahead):
            text += "; ahead of it " + ", ".join(
                f"{row.encoder} ({row.difference:+.3f}, {row.num_seeds} "
                f"{'seed' if row.num_seeds == 1 else 'seeds'})"
                for row in ahead.itertuples()
            )
        scores = rows[rows.task != ALL_TASKS].pivot(
            index="task", columns="encoder", values="difference"
        )
        lost = scores.idxmax(axis=1)
        lost = lost[lost != reference]
        text += f". On {len(lost)} of {len(scores)} single tasks some variant is better"
        lines.append(text + (f" ({', '.join(lost.index)})." if len(lost) else "."))
    return "\n".join(lines).replace("_", " ")
