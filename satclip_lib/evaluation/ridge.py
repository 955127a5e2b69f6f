r"""Ridge regression on many splits at once, from sums that are made only once.

All training sets of a protocol are unions of a few *atoms*: groups of points that are always
together, such as the five folds. Sums over the points of an atom (of :math:`x`, :math:`xx^\top`
and :math:`xy`) add up to those of any union. A penalty is therefore tried without touching a
point: one Cholesky decomposition per union, whatever the number of points and targets.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64
from scipy.linalg import cho_factor, cho_solve

from satclip_lib.evaluation.splits import Split

RIDGE_ALPHAS = tuple(10.0**power for power in range(-2, 6))
TESTED, UNUSED = -1, -2

Atoms = frozenset[int]


@dataclass(frozen=True, eq=False)
class RidgeFit:
    """Ridge of one target on the training points of one split.

    Attributes:
        alpha: The penalty that was chosen on the training points.
        predicted: Predictions at the test points, ``(num_test, num_outputs)``.
    """

    alpha: float
    predicted: Float64[np.ndarray, "num_test num_outputs"]


def fit_ridge(
    x: Float[np.ndarray, "num_points num_features"],
    targets: Sequence[Float64[np.ndarray, "num_points _"]],
    splits: Sequence[Split],
) -> list[list[RidgeFit]]:
    r"""Fit every target on every split, with the penalty chosen on the training points.

    For standardised inputs and centred targets, :math:`W = (X^\top X + \alpha I)^{-1} X^\top Y`.
    Each of ``split.fold_ids`` is predicted from the other training points; the one of
    ``RIDGE_ALPHAS`` with the smallest squared error over all folds and outputs of the target is
    used. Folds of whole blocks or continents therefore choose a penalty that extrapolates; leaving
    out single points, as scikit-learn's ``RidgeCV`` does, hardly penalises at all when each has a
    neighbour.

    Predictions are those of scikit-learn's ``make_pipeline(StandardScaler(), Ridge(alpha))``,
    in every fold and in the end: inputs are standardised on the points that are fitted.

    Args:
        x: Embeddings, ``(num_points, num_features)``.
        targets: Values, or one column per class, each ``(num_points, num_outputs)``.
        splits: Splits of these points; every split's ``fold_ids`` name at least two folds.

    Returns:
        ``fits[target][split]``.

    Raises:
        ValueError: If the training points of a split are all in one fold.
    """
    sums = _Sums(x, targets, splits)
    fits: list[list[RidgeFit]] = [[] for _ in targets]
    for number, split in enumerate(splits):
        train, held_out = sums.list_folds(number)
        if len(held_out) < 2:
            raise ValueError(
                f"fold_ids of split {split.name!r} must name at least 2 folds, got "
                f"{len(held_out)}: pass more points or another protocol"
            )
        for target, fits_of_target in enumerate(fits):
            errors = [sums.validate(train, held_out, target, alpha) for alpha in RIDGE_ALPHAS]
            alpha = RIDGE_ALPHAS[int(np.argmin(errors))]
            fits_of_target.append(RidgeFit(alpha, sums.predict(split.test, train, target, alpha)))
    return fits


@dataclass(frozen=True, eq=False)
class _Moments:
    """Sums of one set of points, standardised by the statistics of another."""

    mean: np.ndarray  # (num_features,) of x, as std, of the points that are fitted
    std: np.ndarray
    y_mean: np.ndarray  # (num_outputs,)
    xx: np.ndarray  # (num_features, num_features)
    xy: np.ndarray  # (num_features, num_outputs)
    yy: np.ndarray  # (num_outputs,)


class _Sums:
    """Sums over atoms, and what has been computed from them so far."""

    def __init__(self, x: np.ndarray, targets: Sequence[np.ndarray], splits: Sequence[Split]):
        # Scaling first changes no result, but keeps the differences of sums below exact.
        x = x.astype(np.float64)
        spread = x.std(axis=0)
        self.x = (x - x.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
        ends = np.cumsum([target.shape[1] for target in targets])
        self.columns = [slice(e - t.shape[1], e) for e, t in zip(ends, targets, strict=True)]
        self.y = np.concatenate(targets, axis=1)
        self.membership, atom_of_point = _find_atoms(splits, len(x))
        num_atoms = len(self.membership)
        self.rows = [np.flatnonzero(atom_of_point == atom) for atom in range(num_atoms)]
        self.of_atom = []
        for rows in self.rows:
            x_of, y_of = self.x[rows], self.y[rows]
            sums = (x_of.sum(0), y_of.sum(0), x_of.T @ x_of, x_of.T @ y_of, (y_of**2).sum(0))
            self.of_atom.append((len(rows), *sums))
        # Splits share unions: what one holds out of another's training points, and the reverse.
        self.held_out: dict[Atoms, set[Atoms]] = defaultdict(set)
        for number in range(len(splits)):
            train, folds = self.list_folds(number)
            for fold in folds:
                self.held_out[train - fold].add(fold)
        self.moments: dict[tuple[Atoms, Atoms], _Moments] = {}
        self.errors: dict[tuple[Atoms, float], dict[Atoms, np.ndarray]] = {}

    def list_folds(self, number: int) -> tuple[Atoms, list[Atoms]]:
        """Atoms of the training points of a split, and of each of their folds."""
        membership = self.membership[:, number]
        folds = sorted(set(membership.tolist()) - {TESTED, UNUSED})
        held_out = [frozenset(np.flatnonzero(membership == fold).tolist()) for fold in folds]
        return frozenset().union(*held_out), held_out

    def compute_moments(self, fitted: Atoms, at: Atoms) -> _Moments:
        """Sums over the points ``at``, standardised on the points ``fitted``."""
        if (fitted, at) not in self.moments:
            count, x_sum, y_sum, xx, xy, yy = self._total(at)
            if at == fitted:
                mean, y_mean = x_sum / count, y_sum / count
                variance = np.diag(xx) / count - mean**2
                std = np.sqrt(np.where(variance > 1e-12, variance, 1.0))  # constants say nothing
            else:
                own = self.compute_moments(fitted, fitted)
                mean, std, y_mean = own.mean, own.std, own.y_mean
            cross = np.outer(x_sum, mean)
            xx = (xx - cross - cross.T + count * np.outer(mean, mean)) / np.outer(std, std)
            xy = xy - np.outer(x_sum, y_mean) - np.outer(mean, y_sum - count * y_mean)
            yy = yy - 2 * y_mean * y_sum + count * y_mean**2
            self.moments[fitted, at] = _Moments(mean, std, y_mean, xx, xy / std[:, None], yy)
        return self.moments[fitted, at]

    def solve(self, atoms: Atoms, alpha: float, columns: slice) -> np.ndarray:
        """Coefficients of standardised features, ``(num_features, num_outputs)``."""
        moments = self.compute_moments(atoms, atoms)
        gram = moments.xx.copy()
        gram[np.diag_indices_from(gram)] += alpha
        factor = cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
        return cho_solve(factor, moments.xy[:, columns], check_finite=False)

    def validate(self, train: Atoms, held_out: Sequence[Atoms], target: int, alpha: float) -> float:
        """Squared error of a target over all folds, each predicted from the others."""
        return sum(self.compute_errors(train - f, alpha)[f][target] for f in held_out)

    def compute_errors(self, atoms: Atoms, alpha: float) -> dict[Atoms, np.ndarray]:
        """Squared error of each target, at each fold that is ever predicted from these atoms."""
        if (atoms, alpha) not in self.errors:
            found = {}
            coef = self.solve(atoms, alpha, slice(None))
            for fold in self.held_out[atoms]:
                rows = np.concatenate([self.rows[atom] for atom in fold])
                if len(rows) < len(coef):  # then the points are fewer numbers than their sums
                    own = self.compute_moments(atoms, atoms)
                    predicted = (self.x[rows] - own.mean) / own.std @ coef
                    error = ((self.y[rows] - own.y_mean - predicted) ** 2).sum(axis=0)
                else:
                    at = self.compute_moments(atoms, fold)
                    error = at.yy + (coef * (at.xx @ coef - 2 * at.xy)).sum(axis=0)
                found[fold] = np.array([error[columns].sum() for columns in self.columns])
            self.errors[atoms, alpha] = found
        return self.errors[atoms, alpha]

    def predict(
        self, rows: Int64[np.ndarray, " num_rows"], atoms: Atoms, target: int, alpha: float
    ) -> Float64[np.ndarray, "num_rows num_outputs"]:
        columns, moments = self.columns[target], self.compute_moments(atoms, atoms)
        coef = self.solve(atoms, alpha, columns) / moments.std[:, None]
        return self.x[rows] @ coef + (moments.y_mean[columns] - moments.mean @ coef)

    def _total(self, atoms: Atoms) -> list:
        return [sum(parts) for parts in zip(*(self.of_atom[a] for a in sorted(atoms)), strict=True)]


def _find_atoms(
    splits: Sequence[Split], num_points: int
) -> tuple[Int64[np.ndarray, "num_atoms num_splits"], Int64[np.ndarray, " num_points"]]:
    """What each atom is in each split (a fold, TESTED or UNUSED), and the atom of each point."""
    membership = np.full((num_points, len(splits)), UNUSED)
    for number, split in enumerate(splits):
        membership[split.train, number] = split.fold_ids
        membership[split.test, number] = TESTED
    atoms, atom_of_point = np.unique(membership, axis=0, return_inverse=True)
    return atoms, atom_of_point.reshape(-1)
