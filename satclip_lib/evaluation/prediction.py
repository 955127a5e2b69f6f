"""Predictions at the test points of a task, kept on disk under a hash of their inputs."""

import functools
import inspect
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

from satclip_lib import location_encoder, spherical_harmonics
from satclip_lib.evaluation import end_to_end, mlp, probes, ridge
from satclip_lib.evaluation.probes import fit_predict
from satclip_lib.evaluation.splits import Split
from satclip_lib.evaluation.tasks import TaskData
from satclip_lib.fast import seeded
from satclip_lib.files import fingerprint, write_atomically

# Modules and packages that predictions depend on beside their inputs.
CODE = (probes, ridge, mlp, end_to_end, seeded, location_encoder, spherical_harmonics)
PACKAGES = ("scikit-learn", "scipy", "torch", "numpy")


def predict(
    data: TaskData,
    x: Float[np.ndarray, "num_points num_features"],
    *,
    splits: Sequence[Split],
    probe: str = "linear",
    seed: int = 0,
) -> Shaped[np.ndarray, " num_test"]:
    """Predictions at the test points of all splits, each by a probe that never saw the point.

    Args:
        data: Task to be predicted.
        x: Embeddings of its points; for ``LOCATION_PROBES`` longitude and latitude in degrees.
        splits: Splits of its points.
        probe: Name known to :func:`satclip_lib.evaluation.probes.fit_predict`.
        seed: Random seed of probes that have one.

    Returns:
        In the order of the splits: those of ``splits[0].test`` first.
    """
    (predicted,) = predict_together([data], x, splits=splits, probe=probe, seed=seed)
    return predicted


def predict_together(
    group: Sequence[TaskData],
    x: Float[np.ndarray, "num_points num_features"],
    *,
    splits: Sequence[Split],
    probe: str = "linear",
    seed: int = 0,
    cache: Path | None = None,
) -> list[Shaped[np.ndarray, " num_test"]]:
    """What :func:`predict` gives for each of several tasks of one kind at the same points.

    With ``cache``, a folder, predictions are kept there, and found again for as long as the
    embeddings, targets, splits, probe and its code stay the same.
    """
    kind = group[0].task.kind

    def fit(some: Sequence[TaskData]) -> list[np.ndarray]:
        targets = [data.target for data in some]
        return fit_predict(probe, x, targets, splits, kind=kind, seed=seed)

    if cache is None:
        return fit(group)
    common = _name_inputs(x, splits, probe, kind, seed)
    names = [fingerprint(common, data.target) for data in group]
    paths = [Path(cache) / name[:2] / f"{name}.npy" for name in names]
    missing = [index for index, path in enumerate(paths) if not path.is_file()]
    if missing:
        for index, predicted in zip(missing, fit([group[i] for i in missing]), strict=True):
            with write_atomically(paths[index]) as scratch:
                np.save(scratch, predicted)
    return [np.load(path) for path in paths]


def _name_inputs(x: np.ndarray, splits: Sequence[Split], probe: str, kind: str, seed: int) -> str:
    """Hash of everything that predictions depend on, except the target."""
    used = seed if probe in ("mlp", "boosting", "end to end") else None
    rows = [(split.train, split.test, split.fold_ids) for split in splits]
    return fingerprint(x, rows, probe, kind, used, _code_version())


@functools.cache
def _code_version() -> str:
    return "".join([*map(inspect.getsource, CODE), *map(version, PACKAGES)])
