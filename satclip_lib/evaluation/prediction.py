"""Predictions at the test points of a task, kept on disk by what they were made from."""

import functools
import inspect
import itertools
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

from satclip_lib import location_encoder, spherical_harmonics
from satclip_lib.evaluation import end_to_end, mlp, probes, ridge
from satclip_lib.evaluation.probes import ProbeOptions, fit_predict
from satclip_lib.evaluation.splits import Split
from satclip_lib.evaluation.tasks import TaskData
from satclip_lib.files import fingerprint, write_atomically

# Modules and packages that predictions depend on beside their inputs.
CODE = (probes, ridge, mlp, end_to_end, location_encoder, spherical_harmonics)
PACKAGES = ("scikit-learn", "scipy", "optuna", "torch", "numpy")


def predict(
    data: TaskData,
    x: Float[np.ndarray, "num_points num_features"],
    *,
    splits: Sequence[Split],
    probe: str = "linear",
    groups: Sequence[slice] | None = None,
    options: ProbeOptions | None = None,
) -> Shaped[np.ndarray, " num_test"]:
    """Predictions at the test points of all splits, each by a probe that never saw the point.

    Args:
        data: Task to be predicted.
        x: Embeddings of its points; locations in degrees for a probe that wants them.
        splits: Splits of its points.
        probe: Name known to :func:`satclip_lib.evaluation.probes.fit_predict`.
        groups: Columns of each group of features, as an encoder names them.
        options: Knobs of expensive probes.

    Returns:
        In the order of the splits: those of ``splits[0].test`` first.
    """
    (predicted,) = predict_together(
        [data], x, splits=splits, probe=probe, groups=groups, options=options
    )
    return predicted


def predict_together(
    group: Sequence[TaskData],
    x: Float[np.ndarray, "num_points num_features"],
    *,
    splits: Sequence[Split],
    probe: str = "linear",
    groups: Sequence[slice] | None = None,
    options: ProbeOptions | None = None,
    cache: Path | None = None,
) -> list[Shaped[np.ndarray, " num_test"]]:
    """What :func:`predict` gives for each of several tasks of one kind at the same points.

    With ``cache``, a folder, predictions are kept there, and found again for as long as the
    embeddings, targets, splits, probe and its code stay the same.
    """
    kind = group[0].task.kind
    groups = groups if probe == "linear" else None
    paths = [
        None
        if cache is None
        else _find_path(cache, x, data.target, splits, probe, kind, groups, options)
        for data in group
    ]
    found = {
        index: np.load(path)
        for index, path in enumerate(paths)
        if path is not None and path.is_file()
    }
    if missing := [index for index in range(len(group)) if index not in found]:
        targets = [group[index].target for index in missing]
        fitted = fit_predict(probe, x, targets, splits, kind=kind, groups=groups, options=options)
        for index, predicted in zip(missing, fitted, strict=True):
            found[index] = predicted
            if (path := paths[index]) is not None:
                with write_atomically(path) as scratch:
                    np.save(scratch, predicted)
    return [found[index] for index in range(len(group))]


def _find_path(
    cache: Path,
    x: np.ndarray,
    target: np.ndarray,
    splits: Sequence[Split],
    probe: str,
    kind: str,
    groups: Sequence[slice] | None,
    options: ProbeOptions | None,
) -> Path:
    """Where predictions are kept: a name made of everything they depend on."""
    knobs = options or ProbeOptions()
    used = {
        "mlp": (knobs.seed, knobs.num_trials),
        "boosting": (knobs.seed,),
        "end to end": (knobs.seed, sorted(knobs.end_to_end.items())),
    }.get(probe, ())
    arrays = itertools.chain.from_iterable((s.train, s.test, s.fold_ids) for s in splits)
    columns = [group.indices(x.shape[1]) for group in groups or ()]
    key = fingerprint(x, target, list(arrays), probe, kind, columns, used, _code_version())
    return Path(cache) / key[:2] / f"{key}.npy"


@functools.cache
def _code_version() -> str:
    return "".join([*map(inspect.getsource, CODE), *map(version, PACKAGES)])
