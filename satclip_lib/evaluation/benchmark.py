"""Score encoders on tasks: every encoder sees the same points, folds and probes."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped
from sklearn.metrics import accuracy_score, r2_score

from satclip_lib.evaluation.baselines import Encoder
from satclip_lib.evaluation.probes import METRICS, make_probe
from satclip_lib.evaluation.splits import Split, make_splits
from satclip_lib.evaluation.tasks import TaskData, TaskUnavailableError, load_task
from satclip_lib.progress import progress_bar


@dataclass(frozen=True, eq=False)
class BenchmarkResult:
    """Scores, and the tasks that could not be scored.

    Attributes:
        scores: one row per (task, protocol, probe, encoder, seed) with columns ``metric``,
            ``score``, ``num_test`` and ``source``, the origin of the labels.
        absent: columns ``task`` and ``reason``.
    """

    scores: pd.DataFrame
    absent: pd.DataFrame


def run_benchmark(
    encoders: Sequence[Encoder],
    tasks: Sequence[str],
    *,
    protocols: Sequence[str] = ("random", "blocks", "Africa", "Asia"),
    probes: Sequence[str] = ("linear", "knn"),
    num_points: int = 20_000,
    seeds: Sequence[int] = (0,),
) -> BenchmarkResult:
    """Fit every probe on every encoder's embeddings, for every task and protocol.

    A task whose labels cannot be had is reported as absent with the reason. A protocol under
    which no test point has a class of the training points (countries of a continent that is held
    out) is left out.

    Args:
        encoders: see :mod:`satclip_lib.evaluation.baselines`.
        tasks: names from :data:`satclip_lib.evaluation.tasks.TASKS`.
        protocols: names known to :func:`make_splits`.
        probes: names known to :func:`make_probe`.
        num_points: per task whose labels are a map.
        seeds: of points and folds.
    """
    rows, absent = [], {}
    for name, seed in progress_bar(list(itertools.product(tasks, seeds)), desc="tasks"):
        try:
            data = load_task(name, num_points=num_points, seed=seed)
        except TaskUnavailableError as error:
            absent[name] = str(error)
            continue
        rows += [
            {"task": name, "seed": seed, "source": data.source} | row
            for row in score_task(data, encoders, protocols=protocols, probes=probes, seed=seed)
        ]
    return BenchmarkResult(
        pd.DataFrame(rows), pd.DataFrame(absent.items(), columns=["task", "reason"])
    )


def score_task(
    data: TaskData,
    encoders: Sequence[Encoder],
    *,
    protocols: Sequence[str],
    probes: Sequence[str],
    seed: int,
) -> list[dict]:
    """Rows of the benchmark for one task; each encoder embeds the points once."""
    compute_score = r2_score if data.task.kind == "regression" else accuracy_score
    embeddings = {encoder.name: encoder.encode(data.lonlat) for encoder in encoders}
    rows = []
    for protocol in protocols:
        splits = make_splits(protocol, data.lonlat, seed=seed)
        tested = np.concatenate([split.test for split in splits])
        trained = np.concatenate([split.train for split in splits])
        if data.class_names and not np.isin(data.target[tested], data.target[trained]).any():
            continue
        for probe, (encoder, x) in itertools.product(probes, embeddings.items()):
            predicted = predict(data, x, splits=splits, probe=probe)
            rows.append(
                {
                    "probe": probe,
                    "protocol": protocol,
                    "encoder": encoder,
                    "metric": METRICS[data.task.kind],
                    "score": compute_score(data.target[tested], predicted),
                    "num_test": len(tested),
                }
            )
    return rows


def predict(
    data: TaskData,
    embeddings: Float[np.ndarray, "num_points num_features"],
    *,
    splits: Sequence[Split],
    probe: str = "linear",
) -> Shaped[np.ndarray, " num_test"]:
    """Predictions at the test points of all splits, each by a probe that never saw the point.

    They come in the order of the splits: those of ``splits[0].test`` first.
    """
    predictions = []
    for split in splits:
        model = make_probe(probe, kind=data.task.kind, fold_ids=split.fold_ids)
        model.fit(embeddings[split.train], data.target[split.train])
        predictions.append(model.predict(embeddings[split.test]))
    return np.concatenate(predictions)
