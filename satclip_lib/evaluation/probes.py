"""Probes: small models on top of frozen embeddings, or of the location itself.

Every number comes from an estimator of scikit-learn, or agrees with one to rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Float64, Int64, Shaped
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import PredefinedSplit
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from satclip_lib.evaluation.end_to_end import EndToEnd
from satclip_lib.evaluation.mlp import TunedMlp
from satclip_lib.evaluation.ridge import fit_ridge
from satclip_lib.evaluation.splits import Split

Kind = Literal["regression", "classification"]

PROBES = ("linear", "logistic", "knn", "boosting", "mlp")
LOCATION_PROBES = ("great circle", "end to end")  # these see the location, not an embedding
NUM_NEIGHBORS = 10
LOGISTIC_CS = (1e-3, 1e-2, 1e-1, 1.0)
METRICS: dict[Kind, str] = {"regression": "R2", "classification": "accuracy"}


@dataclass(frozen=True)
class ProbeOptions:
    """Knobs of the expensive probes.

    Attributes:
        seed: of their weights and of the search.
        num_trials: settings of the MLP tried per encoder, task and split.
        studies: folder that keeps the MLP's searches, so that a run that was stopped goes on;
            None keeps them in memory.
        end_to_end: what :class:`EndToEnd` takes.
    """

    seed: int = 0
    num_trials: int = 20
    studies: Path | None = None
    end_to_end: dict[str, Any] = field(default_factory=dict)


def fit_predict(
    probe: str,
    x: Float[np.ndarray, "num_points num_features"],
    targets: Sequence[Shaped[np.ndarray, " num_points"]],
    splits: Sequence[Split],
    *,
    kind: Kind,
    options: ProbeOptions | None = None,
) -> list[Shaped[np.ndarray, " num_test"]]:
    """Predict the test points of all splits, each by a probe that never saw the point.

    Args:
        probe: one of ``PROBES`` or ``LOCATION_PROBES``, see :func:`make_probe`; or ``"linear"``:
            ridge regression, for classes on one column of -1 and 1 per class, of which the
            largest wins; see :func:`satclip_lib.evaluation.ridge.fit_ridge`.
        x: embeddings; for ``LOCATION_PROBES`` longitude and latitude in degrees.
        targets: of one kind at the same points; ``"linear"`` fits them together.
        splits: of the points.
        kind: "regression" or "classification".
        options: of the expensive probes.

    Returns:
        For each target the predictions in the order of the splits: those of ``splits[0].test``
        first.

    Raises:
        ValueError: if the probe is unknown, or does not predict this kind of target.
    """
    if probe == "linear":
        encoded = [_encode(target, kind) for target in targets]
        fits = fit_ridge(x, [outputs for outputs, _ in encoded], splits)
        return [
            np.concatenate([_decode(fit.predicted, classes) for fit in of_target])
            for of_target, (_, classes) in zip(fits, encoded, strict=True)
        ]
    predictions: list[list[np.ndarray]] = [[] for _ in targets]
    for split in splits:
        for target, found in zip(targets, predictions, strict=True):
            model = make_probe(probe, kind=kind, fold_ids=split.fold_ids, options=options)
            model.fit(x[split.train], target[split.train])
            found.append(model.predict(x[split.test]))
    return [np.concatenate(found) for found in predictions]


def make_probe(
    name: str,
    *,
    kind: Kind,
    fold_ids: Int64[np.ndarray, " num_train"],
    options: ProbeOptions | None = None,
) -> BaseEstimator:
    """An unfitted probe; embeddings are standardised with the training points' statistics.

    Args:
        name: ``"knn"``: the 10 nearest in embedding space, weighted by inverse distance.
            ``"logistic"``: classes only, the penalty chosen by ``fold_ids``. ``"boosting"``:
            scikit-learn's histogram gradient boosting as it comes. ``"mlp"``: see
            :class:`~satclip_lib.evaluation.mlp.TunedMlp`. ``"great circle"``: the 10 nearest
            places on the globe. ``"end to end"``: see
            :class:`~satclip_lib.evaluation.end_to_end.EndToEnd`.
        kind: "regression" or "classification".
        fold_ids: folds of the training points, for choosing hyper-parameters.
        options: of the expensive probes.

    Raises:
        ValueError: if the name is unknown, or the probe does not predict this kind of target.
    """
    options = options or ProbeOptions()
    is_regression = kind == "regression"
    neighbors = KNeighborsRegressor if is_regression else KNeighborsClassifier
    if name == "knn":
        return make_pipeline(StandardScaler(), neighbors(NUM_NEIGHBORS, weights="distance"))
    if name == "great circle":
        on_globe = {"metric": "haversine", "algorithm": "ball_tree"}
        return make_pipeline(
            FunctionTransformer(_to_haversine),
            neighbors(NUM_NEIGHBORS, weights="distance", **on_globe),
        )
    if name == "logistic":
        if is_regression:
            raise ValueError("probe 'logistic' predicts classes; choose 'linear' for numbers")
        search = LogisticRegressionCV(
            Cs=LOGISTIC_CS,
            cv=PredefinedSplit(fold_ids),
            max_iter=1000,
            l1_ratios=(0.0,),
            scoring="accuracy",
            use_legacy_attributes=False,
        )
        return make_pipeline(StandardScaler(), search)
    if name == "boosting":
        boosting = (
            HistGradientBoostingRegressor if is_regression else HistGradientBoostingClassifier
        )
        return make_pipeline(StandardScaler(), boosting(random_state=options.seed))
    if name == "mlp":
        mlp = TunedMlp(
            kind=kind,
            fold_ids=fold_ids,
            num_trials=options.num_trials,
            seed=options.seed,
            studies=options.studies,
        )
        return make_pipeline(StandardScaler(), mlp)
    if name == "end to end":
        return EndToEnd(kind=kind, seed=options.seed, **options.end_to_end)
    known = [probe for probe in PROBES + LOCATION_PROBES if probe != "linear"]
    raise ValueError(
        f"unknown probe {name!r}; choose one of {', '.join(map(repr, known))}; 'linear' is fitted "
        "by fit_predict"
    )


def _to_haversine(lonlat: Float64[np.ndarray, "num_points 2"]) -> np.ndarray:
    """Latitude and longitude in radians, as scikit-learn's haversine metric wants them."""
    return np.radians(lonlat[:, ::-1])


def _encode(target: np.ndarray, kind: Kind) -> tuple[np.ndarray, np.ndarray | None]:
    if kind == "regression":
        return target[:, None].astype(np.float64), None
    classes, index = np.unique(target, return_inverse=True)
    return 2.0 * (index[:, None] == np.arange(len(classes))) - 1.0, classes


def _decode(outputs: np.ndarray, classes: np.ndarray | None) -> np.ndarray:
    return outputs[:, 0] if classes is None else classes[outputs.argmax(axis=1)]
