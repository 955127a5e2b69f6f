"""Probes: small models on top of frozen embeddings, or of the location itself.

All but "end to end" are estimators of scikit-learn, or agree with one to rounding.
"""

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

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
from satclip_lib.evaluation.mlp import make_tuned_mlp
from satclip_lib.evaluation.ridge import fit_ridge
from satclip_lib.evaluation.splits import Split

Kind = Literal["regression", "classification"]

PROBES = ("linear", "logistic", "knn", "boosting", "mlp")
# These see the location, not an embedding.
LOCATION_PROBES = ("great circle", "inverse distance", "end to end")
NUM_NEIGHBORS = 10
NUM_INTERPOLATED = 30  # neighbours of "inverse distance"
LOGISTIC_CS = (1e-3, 1e-2, 1e-1, 1.0)
EXPECTED_WARNINGS = (
    "The number of unique classes is greater",  # few labels of many classes are still classes
    "Stochastic Optimizer: Maximum iterations",  # the number of epochs is searched
)
METRICS: dict[Kind, str] = {"regression": "R2", "classification": "accuracy"}


def fit_predict(
    probe: str,
    x: Float[np.ndarray, "num_points num_features"],
    targets: Sequence[Shaped[np.ndarray, " num_points"]],
    splits: Sequence[Split],
    *,
    kind: Kind,
    seed: int = 0,
) -> list[Shaped[np.ndarray, " num_test"]]:
    """Predict the test points of all splits, each by a probe that never saw the point.

    Args:
        probe: One of ``PROBES`` or ``LOCATION_PROBES``, see :func:`make_probe`. ``"linear"`` is
            ridge regression, see :func:`satclip_lib.evaluation.ridge.fit_ridge`; for classes it
            fits a column of -1 and 1 per class, and predicts the class with the largest value.
        x: Embeddings; for ``LOCATION_PROBES`` longitude and latitude in degrees.
        targets: Targets of one kind at the same points; ``"linear"`` fits them together.
        splits: Splits of the points.
        kind: "regression" or "classification".
        seed: Random seed of probes that have one.

    Returns:
        For each target the predictions in the order of the splits: those of ``splits[0].test``
        first.

    Raises:
        ValueError: If the probe is unknown, or does not predict this kind of target.
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
            model = make_probe(probe, kind=kind, fold_ids=split.fold_ids, seed=seed)
            with warnings.catch_warnings():
                for expected in EXPECTED_WARNINGS:
                    warnings.filterwarnings("ignore", expected, UserWarning)
                model.fit(x[split.train], target[split.train])
            found.append(model.predict(x[split.test]))
    return [np.concatenate(found) for found in predictions]


def make_probe(
    name: str,
    *,
    kind: Kind,
    fold_ids: Int64[np.ndarray, " num_train"],
    seed: int = 0,
) -> BaseEstimator:
    """An unfitted probe; embeddings are standardised with the training points' statistics.

    Args:
        name: Name of the probe.

            - ``"knn"``: the 10 nearest in embedding space, or all training points where they are
              fewer, weighted by inverse distance.
            - ``"logistic"``: classes only, the penalty chosen by ``fold_ids``.
            - ``"boosting"``: scikit-learn's histogram gradient boosting as it comes.
            - ``"mlp"``: see :func:`~satclip_lib.evaluation.mlp.make_tuned_mlp`.
            - ``"great circle"``: the 10 nearest places on the globe, weighted as in ``"knn"``.
            - ``"inverse distance"``: the 30 nearest places on the globe, weighted by the inverse
              square of the distance.
            - ``"end to end"``: see :class:`~satclip_lib.evaluation.end_to_end.EndToEnd`.
        kind: "regression" or "classification".
        fold_ids: Folds of the training points, for choosing hyper-parameters.
        seed: Random seed of probes that have one.

    Raises:
        ValueError: If the name is unknown, or the probe does not predict this kind of target.
    """
    num_neighbors, num_interpolated = (
        min(count, len(fold_ids)) for count in (NUM_NEIGHBORS, NUM_INTERPOLATED)
    )
    is_regression = kind == "regression"
    neighbors = KNeighborsRegressor if is_regression else KNeighborsClassifier
    on_globe = partial(neighbors, metric="haversine", algorithm="ball_tree")
    boosting = HistGradientBoostingRegressor if is_regression else HistGradientBoostingClassifier
    to_radians = FunctionTransformer(_to_haversine)
    if name == "logistic" and is_regression:
        raise ValueError("probe 'logistic' predicts classes; choose 'linear' for numbers")
    steps: dict[str, Callable[[], list]] = {
        "logistic": lambda: [
            StandardScaler(),
            LogisticRegressionCV(
                Cs=LOGISTIC_CS,
                cv=PredefinedSplit(fold_ids),
                max_iter=1000,
                l1_ratios=(0.0,),
                scoring="accuracy",
                use_legacy_attributes=False,
            ),
        ],
        "knn": lambda: [StandardScaler(), neighbors(num_neighbors, weights="distance")],
        "boosting": lambda: [StandardScaler(), boosting(random_state=seed)],
        "mlp": lambda: [
            StandardScaler(), make_tuned_mlp(kind=kind, fold_ids=fold_ids, seed=seed)
        ],
        "great circle": lambda: [to_radians, on_globe(num_neighbors, weights="distance")],
        "inverse distance": lambda: [
            to_radians, on_globe(num_interpolated, weights=_weigh_by_inverse_square)
        ],
        "end to end": lambda: [EndToEnd(kind=kind, seed=seed)],
    }  # fmt: skip
    if name not in steps:
        raise ValueError(
            f"unknown probe {name!r}; choose one of {', '.join(map(repr, steps))}; 'linear' is "
            "fitted by fit_predict"
        )
    return make_pipeline(*steps[name]())


def _weigh_by_inverse_square(distance: Float64[np.ndarray, "num_points num_neighbors"]):
    """Weights of neighbours by distance in radians; the same for all within a centimetre."""
    return np.maximum(distance, 1e-9) ** -2.0


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
