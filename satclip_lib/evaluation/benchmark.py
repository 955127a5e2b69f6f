"""Score encoders on tasks: every encoder sees the same points, folds and probes."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from jaxtyping import Float32

from satclip_lib.evaluation.baselines import Encoder
from satclip_lib.evaluation.prediction import predict_together
from satclip_lib.evaluation.probes import METRICS, ProbeOptions
from satclip_lib.evaluation.scoring import NUM_DRAWS, compute_score
from satclip_lib.evaluation.splits import Split, SplitError, make_splits, parse_protocol
from satclip_lib.evaluation.tasks import TaskData, TaskUnavailableError, load_task
from satclip_lib.files import fingerprint
from satclip_lib.progress import progress_bar

LOCAL_CLASSES_SHOTS = "+1%"  # of the held-out continent, for tasks whose classes are local
OWN_PROBE = "own"  # in tables, of encoders that bring a probe of their own

EncoderMaker = Callable[[int], Sequence[Encoder]]


@dataclass(frozen=True, eq=False)
class BenchmarkResult:
    """Scores, and what could not be scored.

    Attributes:
        scores: one row per (task, protocol, part, probe, encoder, seed). ``part`` is the
            continent that is held out, or "all" for folds, whose predictions are scored
            together. ``metric`` and ``score``: R2 or accuracy; ``z_mse`` and ``macro_f1``: see
            :class:`~satclip_lib.evaluation.scoring.Score`; ``num_test``; ``source`` of labels.
        draws: ``(num_rows, num_draws)``, the bootstrap draws of each row's score.
        absent: columns ``task``, ``protocol`` and ``reason``.
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
    options: ProbeOptions | None = None,
    cache: Path | None = None,
    num_jobs: int = 1,
) -> BenchmarkResult:
    """Fit every probe on every encoder's embeddings, for every task and protocol.

    A task whose labels cannot be had is reported as absent with the reason, and so is a protocol
    that a task's points do not allow, such as held-out continents for houses in California.

    Args:
        encoders: see :mod:`satclip_lib.evaluation.baselines`; or a function of the seed that
            makes them, so that untrained networks differ between seeds.
        tasks: names from :data:`satclip_lib.evaluation.tasks.TASKS`, or tasks of your own, see
            :func:`satclip_lib.evaluation.own_table.load_table`.
        protocols: names known to :func:`make_splits`. For tasks whose classes are local, held-out
            continents without ``+x%`` get 1 %, as in the paper.
        probes: names from :data:`satclip_lib.evaluation.probes.PROBES`.
        num_points: per task whose labels are a map, and at most of others.
        seeds: of points, folds, weights and shots.
        options: of expensive probes; their seed is replaced by those in ``seeds``.
        cache: folder that keeps predictions; what has been predicted from the same embeddings,
            targets, splits and probe by the same code is not fitted again. None keeps nothing.
        num_jobs: processes, one thread each.
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
    score = joblib.delayed(_score_with_one_thread if num_jobs > 1 else score_tasks)
    pool = joblib.Parallel(n_jobs=num_jobs, return_as="generator")
    scored = pool(
        score(
            group,
            encoders(seed) if callable(encoders) else encoders,
            seed=seed,
            options=_with_seed(options, seed),
            **settings,
        )
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
    encoders: Sequence[Encoder],
    *,
    protocols: Sequence[str],
    probes: Sequence[str],
    seed: int,
    options: ProbeOptions | None = None,
    cache: Path | None = None,
) -> tuple[list[dict[str, Any]], list[tuple[str, str, str]]]:
    """Rows of the benchmark for tasks of one kind at the same points, and reasons of absence.

    Each encoder embeds the points once, and linear probes share all sums over points.
    """
    embeddings = {e.name: _embed_points(e, group[0]) for e in encoders}
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
        for encoder in encoders:
            for probe in [encoder.own_probe] if encoder.own_probe else probes:
                if probe == "logistic" and group[0].task.kind == "regression":
                    continue
                predictions = predict_together(
                    learnable, embeddings[encoder.name], splits=splits, probe=probe,
                    options=options, cache=cache,
                )  # fmt: skip
                for data, predicted in zip(learnable, predictions, strict=True):
                    about = {
                        "task": data.task.name,
                        "seed": seed,
                        "source": data.source,
                        "probe": OWN_PROBE if encoder.own_probe else probe,
                        "protocol": protocol,
                        "encoder": encoder.name,
                    }
                    rows += [about | row for row in _score_parts(data, predicted, splits, protocol)]
    return rows, absent


def _score_parts(
    data: TaskData, predicted: np.ndarray, splits: Sequence[Split], protocol: str
) -> Iterable[dict[str, Any]]:
    """One row for all folds together, or one for each continent."""
    tests = [split.test for split in splits]
    parts = {"all": (np.concatenate(tests), predicted)}
    if parse_protocol(protocol)[0] not in ("random", "blocks"):
        ends = np.cumsum([len(test) for test in tests])[:-1]
        parts = {
            split.name: (split.test, part)
            for split, part in zip(splits, np.split(predicted, ends), strict=True)
        }
    for part, (rows, predicted_there) in parts.items():
        found = compute_score(
            data.target[rows],
            predicted_there,
            kind=data.task.kind,
            lonlat=data.lonlat[rows],
            variance=float(data.target.var()),
            block_deg=data.task.block_deg,
        )
        yield {"part": part, "metric": METRICS[data.task.kind], "num_test": len(rows)} | (
            found._asdict()
        )


def _make_task_splits(protocol: str, data: TaskData, *, seed: int) -> list[Split]:
    base, shots, _ = parse_protocol(protocol)
    task = data.task
    if task.has_local_classes and base not in ("random", "blocks") and shots is None:
        protocol = protocol.replace(base, base + LOCAL_CLASSES_SHOTS, 1)
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
    embeddings = encoder.encode(data.lonlat)
    if data.features is None or encoder.own_probe:
        return embeddings
    return np.concatenate([embeddings, data.features], axis=1)


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


def _score_with_one_thread(*arguments, **options):
    import torch  # a worker process has settings of its own

    torch.set_num_threads(1)
    return score_tasks(*arguments, **options)


def _with_seed(options: ProbeOptions | None, seed: int) -> ProbeOptions:
    options = options or ProbeOptions()
    return replace(options, seed=seed)
