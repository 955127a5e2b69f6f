"""Score encoders on tasks: every encoder sees the same points, folds and probes."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from jaxtyping import Float32

from satclip_lib.evaluation.baselines import Encoder
from satclip_lib.evaluation.prediction import predict_together
from satclip_lib.evaluation.probes import METRICS
from satclip_lib.evaluation.scoring import NUM_DRAWS, compute_score
from satclip_lib.evaluation.splits import (
    Split,
    SplitError,
    compute_label_distance_km,
    make_splits,
    parse_protocol,
)
from satclip_lib.evaluation.tasks import TaskData, TaskUnavailableError, load_task
from satclip_lib.files import fingerprint
from satclip_lib.progress import progress_bar

LOCAL_CLASSES_SHOTS = "+1%"  # of the held-out continent, for tasks whose classes are local
OWN_PROBE = "own"  # in tables, of encoders that bring a probe of their own
POOLED = "pooled"  # in tables, the part that holds all continents

EncoderMaker = Callable[[int], Sequence[Encoder]]


@dataclass(frozen=True, eq=False)
class BenchmarkResult:
    """Scores, and what could not be scored.

    Attributes:
        scores: One row per (task, protocol, part, probe, encoder, seed). ``part`` is the
            continent that is held out, "pooled" for the points of all held-out continents
            together, or "all" for folds, whose predictions are scored together. ``metric`` and
            ``score``: R2 or accuracy; ``z_mse`` and ``macro_f1``: see
            :class:`~satclip_lib.evaluation.scoring.Score`; ``num_test``; ``label_km``: median
            distance of a test point to the nearest training point; ``source`` of labels.
        draws: Bootstrap draws of each row's score, ``(num_rows, num_draws)``.
        absent: Columns ``task``, ``protocol`` and ``reason``.
    """

    scores: pd.DataFrame
    draws: Float32[np.ndarray, "num_rows num_draws"]
    absent: pd.DataFrame


def run_benchmark(
    encoders: Sequence[Encoder] | EncoderMaker,
    tasks: Sequence[str | TaskData],
    *,
    protocols: Sequence[str] = ("random", "blocks", "continents"),
    probes: Sequence[str] = ("linear", "knn"),
    num_points: int = 20_000,
    seeds: Sequence[int] = (0,),
    cache: Path | None = None,
    num_jobs: int = 1,
) -> BenchmarkResult:
    """Fit every probe on every encoder's embeddings, for every task and protocol.

    A task whose labels cannot be had is reported as absent with the reason, and so is a protocol
    that a task's points do not allow, such as held-out continents for houses in California.

    Args:
        encoders: Encoders, see :mod:`satclip_lib.evaluation.encoders`; or a function of the seed
            that makes them, so that untrained networks differ between seeds.
        tasks: Names from :data:`satclip_lib.evaluation.tasks.TASKS`, or tasks of your own, see
            :func:`satclip_lib.evaluation.own_table.load_table`.
        protocols: Names known to :func:`make_splits`. For tasks whose classes are local, held-out
            continents without ``+x%`` get 1 %, as in the paper.
        probes: Names from :data:`satclip_lib.evaluation.probes.PROBES`.
        num_points: Number of points of a task whose labels are a map; largest number of others.
        seeds: Random seeds of points, folds, weights and shots.
        cache: Folder that keeps predictions; what has been predicted from the same embeddings,
            targets, splits and probe by the same code is not fitted again. None keeps nothing.
        num_jobs: Number of processes, one thread each.
    """
    for protocol in protocols:
        parse_protocol(protocol)
    absent: list[tuple[str, str, str]] = []
    jobs = []
    for seed in seeds:
        loaded = []
        for task in tasks:
            try:
                loaded.append(
                    load_task(task, num_points=num_points, seed=seed)
                    if isinstance(task, str)
                    else task
                )
            except TaskUnavailableError as error:
                absent.append((str(task), "all", str(error)))
        jobs += [(group, seed) for group in _group_by_points(loaded)]
    settings = {"protocols": protocols, "probes": probes, "cache": cache}
    score = joblib.delayed(score_tasks)
    with joblib.parallel_config("loky", inner_max_num_threads=1):
        pool = joblib.Parallel(n_jobs=num_jobs, return_as="generator")
    scored = pool(
        score(group, encoders, seed=seed, **settings)
        for group, seed in sorted(jobs, key=_estimate_cost, reverse=True)
    )
    rows, reasons = [], []
    for of_job, reasons_of_job in progress_bar(scored, total=len(jobs), desc="tasks"):
        rows += of_job
        reasons += reasons_of_job
    order = {t if isinstance(t, str) else t.task.name: i for i, t in enumerate(tasks)}
    rows.sort(key=lambda row: (order[row["task"]], row["seed"]))
    reasons.sort(key=lambda reason: order[reason[0]])
    draws = [row.pop("draws") for row in rows]
    return BenchmarkResult(
        pd.DataFrame(rows),
        np.stack(draws) if draws else np.empty((0, NUM_DRAWS), np.float32),
        pd.DataFrame(
            [*dict.fromkeys(absent + reasons)], columns=["task", "protocol", "reason"], dtype=object
        ),
    )


def score_tasks(
    group: Sequence[TaskData],
    encoders: Sequence[Encoder] | EncoderMaker,
    *,
    protocols: Sequence[str],
    probes: Sequence[str],
    seed: int,
    cache: Path | None = None,
) -> tuple[list[dict[str, Any]], list[tuple[str, str, str]]]:
    """Rows of the benchmark for tasks of one kind at the same points, and reasons of absence.

    Each encoder embeds the points once, and linear probes share all sums over points. A function
    that makes encoders is called here, in the process that uses them: peers cannot be pickled.
    """
    encoders = encoders(seed) if callable(encoders) else encoders
    embedded = {e.name: _embed_points(e, group[0]) for e in encoders}
    rows, absent = [], []
    for protocol in protocols:
        try:
            splits = _make_task_splits(protocol, group[0], seed=seed)
        except SplitError as error:
            absent += [(data.task.name, protocol, str(error)) for data in group]
            continue
        learnable = [data for data in group if _has_common_class(data, splits)]
        absent += [
            (data.task.name, protocol, "no test point has a class of the training points")
            for data in group
            if data not in learnable
        ]
        if not learnable:
            continue
        distance_km = compute_label_distance_km(splits, group[0].lonlat)
        for encoder in encoders:
            x = embedded[encoder.name]
            for probe in [encoder.own_probe] if encoder.own_probe else probes:
                if probe == "logistic" and group[0].task.kind == "regression":
                    continue
                predictions = predict_together(
                    learnable, x, splits=splits, probe=probe, seed=seed, cache=cache
                )
                for data, predicted in zip(learnable, predictions, strict=True):
                    about = {
                        "task": data.task.name,
                        "seed": seed,
                        "source": data.source,
                        "probe": OWN_PROBE if encoder.own_probe else probe,
                        "protocol": protocol,
                        "encoder": encoder.name,
                    }
                    rows += [
                        about | row
                        for row in _score_parts(data, predicted, splits, protocol, distance_km)
                    ]
    return rows, absent


def _score_parts(
    data: TaskData,
    predicted: np.ndarray,
    splits: Sequence[Split],
    protocol: str,
    distance_km: np.ndarray,
) -> Iterable[dict[str, Any]]:
    """One row for all folds together; or one for each continent, and one for all of them."""
    tested = np.concatenate([split.test for split in splits])
    parts = {"all": slice(None)}
    if parse_protocol(protocol).has_continents:
        ends = np.cumsum([len(split.test) for split in splits])
        parts = {s.name: slice(e - len(s.test), e) for s, e in zip(splits, ends, strict=True)}
        if len(splits) > 1:
            parts[POOLED] = slice(None)
    for part, there in parts.items():
        rows = tested[there]
        found = compute_score(
            data.target[rows],
            predicted[there],
            kind=data.task.kind,
            lonlat=data.lonlat[rows],
            variance=float(data.target.var()),
            block_deg=data.task.block_deg,
        )
        yield {
            "part": part,
            "metric": METRICS[data.task.kind],
            "num_test": len(rows),
            "label_km": float(np.median(distance_km[there])),
        } | found._asdict()


def _make_task_splits(protocol: str, data: TaskData, *, seed: int) -> list[Split]:
    parsed, task = parse_protocol(protocol), data.task
    if task.has_local_classes and parsed.has_continents and parsed.shots_percent is None:
        protocol = protocol.replace(parsed.base, parsed.base + LOCAL_CLASSES_SHOTS, 1)
    return make_splits(
        protocol,
        data.lonlat,
        seed=seed,
        block_deg=task.block_deg,
        random_inner_folds=task.has_local_classes,
    )


def _has_common_class(data: TaskData, splits: Sequence[Split]) -> bool:
    if data.class_names is None:
        return True
    return any(np.isin(data.target[s.test], data.target[s.train]).any() for s in splits)


def _embed_points(encoder: Encoder, data: TaskData) -> np.ndarray:
    """Embeddings of the points, and behind them the features that come with the task."""
    x = encoder.encode(data.lonlat)
    if data.features is None or encoder.own_probe:
        return x
    return np.concatenate([x, data.features], axis=1)


def _group_by_points(loaded: Sequence[TaskData]) -> list[list[TaskData]]:
    """Tasks of one kind, rules and points together, so that their sums are made once."""
    groups: dict[tuple, list[TaskData]] = {}
    for data in loaded:
        task = data.task
        key = (task.kind, task.block_deg, task.has_local_classes, id(data.features))
        groups.setdefault((*key, fingerprint(data.lonlat)), []).append(data)
    return list(groups.values())


def _estimate_cost(job: tuple[Sequence[TaskData], int]) -> int:
    group, _ = job
    return len(group[0].lonlat) * sum(len(data.class_names or "1") + 100 for data in group)
