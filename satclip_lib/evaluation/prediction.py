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
from satclip_lib.embedding import embed
from satclip_lib.evaluation import end_to_end, mlp, probes, ridge
from satclip_lib.evaluation.probes import ProbeOptions, fit_predict
from satclip_lib.evaluation.splits import Split
from satclip_lib.evaluation.tasks import TaskData
from satclip_lib.fast import folded_encoder, siren
from satclip_lib.files import fingerprint, write_atomically


def predict(
    data: TaskData,
    x: Float[np.ndarray, "num_points num_features"],
    *,
    splits: Sequence[Split],
    probe: str = "linear",
    options: ProbeOptions | None = None,
) -> Shaped[np.ndarray, " num_test"]:
    """Predictions at the test points of all splits, each by a probe that never saw the point.

    Args:
        data: a task.
        x: embeddings of its points; locations in degrees for a probe that wants them.
        splits: of its points.
        probe: name known to :func:`satclip_lib.evaluation.probes.fit_predict`.
        options: of expensive probes.

    Returns:
        In the order of the splits: those of ``splits[0].test`` first.
    """
    (predicted,) = predict_together([data], x, splits=splits, probe=probe, options=options)
    return predicted


def predict_together(
    group: Sequence[TaskData],
    x: Float[np.ndarray, "num_points num_features"],
    *,
    splits: Sequence[Split],
    probe: str = "linear",
    options: ProbeOptions | None = None,
    cache: Path | None = None,
) -> list[Shaped[np.ndarray, " num_test"]]:
    """What :func:`predict` gives for each of several tasks of one kind at the same points.

    With ``cache``, a folder, predictions are kept there, and found again for as long as the
    embeddings, targets, splits, probe and its code stay the same.
    """
    kind = group[0].task.kind
    paths = [
        None if cache is None else _find_path(cache, x, data.target, splits, probe, kind, options)
        for data in group
    ]
    found = {
        index: np.load(path)
        for index, path in enumerate(paths)
        if path is not None and path.is_file()
    }
    if missing := [index for index in range(len(group)) if index not in found]:
        targets = [group[index].target for index in missing]
        fitted = fit_predict(probe, x, targets, splits, kind=kind, options=options)
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
    key = fingerprint(x, target, list(arrays), probe, kind, used, _code_version())
    return Path(cache) / key[:2] / f"{key}.npy"


@functools.cache
def _code_version() -> str:
    modules = (
        probes, ridge, mlp, end_to_end, embed, folded_encoder, siren, location_encoder,
        spherical_harmonics,
    )  # fmt: skip
    sources = [inspect.getsource(module) for module in modules]
    return "".join(
        [*sources, version("scikit-learn"), version("optuna"), version("torch"), version("numpy")]
    )
