r"""Ridge regression on many splits at once, from sums that are made only once.

All training sets of a protocol are unions of a few *atoms*: groups of points that are always
together, such as the five folds. Sums over the points of an atom (of :math:`x`, :math:`xx^\top`
and :math:`xy`) add up to those of any union. A penalty is therefore tried without touching a
point: one Cholesky decomposition per union, whatever the number of points and targets. Where
there are fewer points than features, the smaller matrix of products of points takes its place.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

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
            columns = sums.columns[target]
            coef = sums.solve(train, alpha, columns)
            fits_of_target.append(RidgeFit(alpha, sums.predict(split.test, train, coef, columns)))
    return fits


@dataclass(frozen=True, eq=False)
class _Spread:
    """Where the points of one set lie, by which others are standardised too."""

    count: int
    mean: np.ndarray  # (num_features,) of x, as std
    std: np.ndarray
    y_mean: np.ndarray  # (num_outputs,)


@dataclass(frozen=True, eq=False)
class _Moments:
    """Sums of one set of points, standardised by the statistics of another."""

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
        self.sums = []
        for rows in self.rows:
            x_of = self.x[rows]
            sums = (x_of.sum(axis=0), (x_of**2).sum(axis=0), self.y[rows].sum(axis=0))
            self.sums.append((len(rows), *sums))
        # Splits share unions: what one holds out of another's training points, and the reverse.
        self.held_out: dict[Atoms, set[Atoms]] = defaultdict(set)
        for number in range(len(splits)):
            train, folds = self.list_folds(number)
            for fold in folds:
                self.held_out[train - fold].add(fold)
        self.products: dict[int, tuple[np.ndarray, ...]] = {}  # of atoms
        self.spreads: dict[Atoms, _Spread] = {}
        self.moments: dict[tuple[Atoms, Atoms], _Moments] = {}
        self.kernels: dict[Atoms, np.ndarray] = {}
        self.errors: dict[tuple[Atoms, float], dict[Atoms, np.ndarray]] = {}

    def list_folds(self, number: int) -> tuple[Atoms, list[Atoms]]:
        """Atoms of the training points of a split, and of each of their folds."""
        membership = self.membership[:, number]
        folds = sorted(set(membership.tolist()) - {TESTED, UNUSED})
        held_out = [frozenset(np.flatnonzero(membership == fold).tolist()) for fold in folds]
        return frozenset().union(*held_out), held_out

    def list_rows(self, atoms: Atoms) -> np.ndarray:
        return np.concatenate([self.rows[atom] for atom in sorted(atoms)])

    def compute_spread(self, atoms: Atoms) -> _Spread:
        if atoms not in self.spreads:
            count, x_sum, squares, y_sum = _add_up(self.sums[atom] for atom in sorted(atoms))
            variance = squares / count - (x_sum / count) ** 2
            std = np.sqrt(np.where(variance > 1e-12, variance, 1.0))  # constants say nothing
            self.spreads[atoms] = _Spread(count, x_sum / count, std, y_sum / count)
        return self.spreads[atoms]

    def compute_products(self, atom: int) -> tuple[np.ndarray, ...]:
        if atom not in self.products:
            x, y = self.x[self.rows[atom]], self.y[self.rows[atom]]
            self.products[atom] = x.T @ x, x.T @ y, (y**2).sum(axis=0)
        return self.products[atom]

    def compute_moments(self, fitted: Atoms, at: Atoms) -> _Moments:
        """Sums over the points ``at``, standardised on the points ``fitted``."""
        if (fitted, at) not in self.moments:
            own, there = self.compute_spread(fitted), self.compute_spread(at)
            count, x_sum, y_sum = there.count, there.count * there.mean, there.count * there.y_mean
            xx, xy, yy = _add_up(self.compute_products(atom) for atom in sorted(at))
            offset = np.stack([x_sum, own.mean], axis=1)  # (num_features, 2)
            xx -= offset @ np.stack([own.mean, x_sum - count * own.mean])
            xy -= offset @ np.stack([own.y_mean, y_sum - count * own.y_mean])
            yy -= 2 * own.y_mean * y_sum - count * own.y_mean**2
            xx /= own.std
            xx /= own.std[:, None]
            xy /= own.std[:, None]
            self.moments[fitted, at] = _Moments(xx, xy, yy)
        return self.moments[fitted, at]

    def solve(self, atoms: Atoms, alpha: float, columns: slice = slice(None)) -> np.ndarray:
        """Coefficients of standardised features, ``(num_features, num_outputs)``."""
        own = self.compute_spread(atoms)
        if own.count >= self.x.shape[1]:
            moments = self.compute_moments(atoms, atoms)
            return _solve(moments.xx, alpha, moments.xy[:, columns])
        rows = self.list_rows(atoms)
        x, y = (self.x[rows] - own.mean) / own.std, (self.y[rows] - own.y_mean)[:, columns]
        if atoms not in self.kernels:
            self.kernels[atoms] = x @ x.T
        return x.T @ _solve(self.kernels[atoms], alpha, y)

    def validate(self, train: Atoms, held_out: Sequence[Atoms], target: int, alpha: float) -> float:
        """Squared error of a target over all folds, each predicted from the others."""
        return sum(self.compute_errors(train - f, alpha)[f][target] for f in held_out)

    def compute_errors(self, atoms: Atoms, alpha: float) -> dict[Atoms, np.ndarray]:
        """Squared error of each target, at each fold that is ever predicted from these atoms."""
        if (atoms, alpha) not in self.errors:
            found = {}
            coef = self.solve(atoms, alpha)
            for fold in self.held_out[atoms]:
                if self.compute_spread(fold).count < len(coef):
                    rows = self.list_rows(fold)  # fewer numbers than their sums
                    predicted = self.predict(rows, atoms, coef)
                    error = ((self.y[rows] - predicted) ** 2).sum(axis=0)
                else:
                    at = self.compute_moments(atoms, fold)
                    error = at.yy + (coef * (at.xx @ coef - 2 * at.xy)).sum(axis=0)
                found[fold] = np.array([error[columns].sum() for columns in self.columns])
            self.errors[atoms, alpha] = found
        return self.errors[atoms, alpha]

    def predict(
        self,
        rows: Int64[np.ndarray, " num_rows"],
        atoms: Atoms,
        coef: np.ndarray,
        columns: slice = slice(None),
    ) -> Float64[np.ndarray, "num_rows num_outputs"]:
        """Predictions of some outputs by what :meth:`solve` found for them."""
        own = self.compute_spread(atoms)
        coef = coef / own.std[:, None]
        return self.x[rows] @ coef + (own.y_mean[columns] - own.mean @ coef)


def _add_up(sums: Iterable[tuple[Any, ...]]) -> list[Any]:
    return [sum(parts) for parts in zip(*sums, strict=True)]


def _solve(gram: np.ndarray, alpha: float, wanted: np.ndarray) -> np.ndarray:
    gram = gram.copy().T  # the same numbers, in the order that LAPACK takes without a copy
    gram[np.diag_indices_from(gram)] += alpha
    factor = cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
    return cho_solve(factor, wanted, check_finite=False)


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
