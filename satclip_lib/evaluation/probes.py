"""Probes: small models on top of frozen embeddings."""

from typing import Literal

import numpy as np
from jaxtyping import Float, Int64, Shaped
from sklearn.base import BaseEstimator
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

Kind = Literal["regression", "classification"]

RIDGE_ALPHAS = tuple(10.0**power for power in range(-2, 6))
NUM_NEIGHBORS = 10
METRICS: dict[Kind, str] = {"regression": "R2", "classification": "accuracy"}


def make_probe(
    name: str, *, kind: Kind, fold_ids: Int64[np.ndarray, " num_train"]
) -> BaseEstimator:
    """An unfitted probe; embeddings are standardised with the training points' statistics.

    Args:
        name: ``"linear"``: ridge, see :class:`RidgeProbe`. ``"knn"``: the 10 nearest in embedding
            space, weighted by inverse distance; it has nothing to choose.
        kind: ``"regression"`` (scored by R2, which is 1 minus the MSE of targets z-scored on the
            test points) or ``"classification"`` (scored by accuracy).
        fold_ids: folds of the training points, by which the penalty is chosen.

    Raises:
        ValueError: if the name is unknown.
    """
    if name == "linear":
        probe = RidgeProbe(kind=kind, fold_ids=fold_ids)
    elif name == "knn":
        neighbors = KNeighborsClassifier if kind == "classification" else KNeighborsRegressor
        probe = neighbors(NUM_NEIGHBORS, weights="distance")
    else:
        raise ValueError(f"unknown probe {name!r}; choose 'linear' or 'knn'")
    return make_pipeline(StandardScaler(), probe)


class RidgeProbe(BaseEstimator):
    r"""Ridge regression, or ridge on one-hot targets, with the penalty chosen by given folds.

    For targets :math:`Y` and centred inputs, :math:`W = (X^\top X + \alpha I)^{-1} X^\top Y`,
    predictions are :math:`XW` or the class with the largest of them. Each fold is predicted
    from the others, for every penalty in ``RIDGE_ALPHAS``, and the penalty with the best
    predictions of all folds together (squared error, or accuracy) is used. Folds of whole spatial
    blocks therefore choose a penalty that extrapolates; leaving out single points, as
    scikit-learn's ``RidgeCV`` does, hardly penalises at all when each has a neighbour.

    The Gram matrix of a fold is computed once and decomposed once for all penalties. The fit is
    that of scikit-learn's ``Ridge`` or ``RidgeClassifier`` with the same penalty.

    Args:
        kind: ``"regression"`` or ``"classification"``.
        fold_ids: fold of each training point; at least two different ones.

    Raises:
        ValueError: when fitted, if there is only one fold.

    Attributes:
        alpha_: the chosen penalty.
        coef_: ``(num_features, num_outputs)``.
        intercept_: ``(num_outputs,)``.
    """

    def __init__(self, *, kind: Kind, fold_ids: Int64[np.ndarray, " num_train"]):
        self.kind = kind
        self.fold_ids = fold_ids

    def fit(
        self,
        x: Float[np.ndarray, "num_train num_features"],
        target: Shaped[np.ndarray, " num_train"],
    ) -> "RidgeProbe":
        """Choose the penalty and fit to all training points."""
        outputs = self._encode(target)  # (num_train, num_outputs)
        folds = [self.fold_ids == fold for fold in np.unique(self.fold_ids)]
        if len(folds) < 2:
            raise ValueError(f"fold_ids must name at least 2 folds, got {len(folds)}")
        of_folds = [_Moments.of(x[fold], outputs[fold]) for fold in folds]
        of_all = sum(of_folds[1:], start=of_folds[0])
        scores = np.zeros(len(RIDGE_ALPHAS))
        for fold, moments in zip(folds, of_folds, strict=True):
            for index, (coef, intercept) in enumerate((of_all - moments).solve(RIDGE_ALPHAS)):
                scores[index] += self._score(x[fold] @ coef + intercept, outputs[fold])
        self.alpha_ = RIDGE_ALPHAS[int(np.argmax(scores))]
        ((self.coef_, self.intercept_),) = of_all.solve([self.alpha_])
        return self

    def predict(
        self, x: Float[np.ndarray, "num_points num_features"]
    ) -> Shaped[np.ndarray, " num_points"]:
        """Values or classes, in the form of the training targets."""
        outputs = x @ self.coef_ + self.intercept_
        if self.kind == "regression":
            return outputs[:, 0]
        return self.classes_[outputs.argmax(axis=1)]

    def _encode(self, target: np.ndarray) -> np.ndarray:
        if self.kind == "regression":
            return target[:, None].astype(np.float64)
        self.classes_, index = np.unique(target, return_inverse=True)
        return 2.0 * (index[:, None] == np.arange(len(self.classes_))) - 1.0

    def _score(self, predicted: np.ndarray, outputs: np.ndarray) -> float:
        if self.kind == "regression":
            return -np.square(predicted - outputs).sum()
        return float((predicted.argmax(axis=1) == outputs.argmax(axis=1)).sum())


class _Moments:
    """Sums over points that ridge needs; those of folds add up to those of all points."""

    def __init__(self, count: int, x: np.ndarray, y: np.ndarray, xx: np.ndarray, xy: np.ndarray):
        self.sums = (count, x, y, xx, xy)

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray) -> "_Moments":
        x = x.astype(np.float64)
        return cls(len(x), x.sum(0), y.sum(0), x.T @ x, x.T @ y)

    def __add__(self, other: "_Moments") -> "_Moments":
        return _Moments(*(a + b for a, b in zip(self.sums, other.sums, strict=True)))

    def __sub__(self, other: "_Moments") -> "_Moments":
        return _Moments(*(a - b for a, b in zip(self.sums, other.sums, strict=True)))

    def solve(self, alphas) -> list[tuple[np.ndarray, np.ndarray]]:
        """Coefficients and intercept for each penalty, from one eigendecomposition."""
        count, x, y, xx, xy = self.sums
        x_mean, y_mean = x / count, y / count
        eigenvalues, vectors = np.linalg.eigh(xx - count * np.outer(x_mean, x_mean))
        rotated = vectors.T @ (xy - count * np.outer(x_mean, y_mean))
        solutions = []
        for alpha in alphas:
            coef = vectors @ (rotated / (eigenvalues + alpha)[:, None])
            solutions.append((coef, y_mean - x_mean @ coef))
        return solutions
