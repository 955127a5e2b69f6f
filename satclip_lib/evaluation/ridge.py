r"""Ridge regression on many splits at once, from sums that are made only once.

All training sets of a protocol are unions of a few *atoms*: groups of points that are always
together, such as the five folds. Sums over the points of an atom (of :math:`x`, :math:`xx^\top`
and :math:`xy`) add up to those of any union, so a Gram matrix is never computed twice, and one
eigendecomposition per union serves all penalties and all targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64

from satclip_lib.evaluation.splits import Split

RIDGE_ALPHAS = tuple(10.0**power for power in range(-2, 6))
TESTED, UNUSED = -1, -2


@dataclass(frozen=True, eq=False)
class RidgeFit:
    """Ridge of one target on the training points of one split.

    Attributes:
        alpha: the penalty that was chosen.
        predicted: ``(num_test, num_outputs)`` at the test points.
    """

    alpha: float
    predicted: Float64[np.ndarray, "num_test num_outputs"]


def fit_ridge(
    x: Float[np.ndarray, "num_points num_features"],
    targets: Sequence[Float64[np.ndarray, "num_points _"]],
    splits: Sequence[Split],
) -> list[list[RidgeFit]]:
    r"""Fit every target on every split, with the penalty chosen on the training points.

    For standardised inputs and centred targets,
    :math:`W = (X^\top X + \alpha I)^{-1} X^\top Y`. Each of ``split.fold_ids`` is predicted from
    the other training points with every penalty in ``RIDGE_ALPHAS``; the penalty with the
    smallest squared error over all folds and outputs of the target is used. Folds of whole
    blocks therefore choose a penalty that extrapolates; leaving out single points, as
    scikit-learn's ``RidgeCV`` does, hardly penalises at all when each has a neighbour.

    Predictions are those of scikit-learn's ``make_pipeline(StandardScaler(), Ridge(alpha))``,
    in every fold and in the end: inputs are standardised on the points that are fitted.

    Args:
        x: ``(num_points, num_features)`` embeddings.
        targets: each ``(num_points, num_outputs)``, values or one column per class.
        splits: of these points; every split's ``fold_ids`` name at least two folds.

    Returns:
        ``fits[target][split]``.

    Raises:
        ValueError: if the training points of a split are all in one fold.
    """
    sums = _Sums(x, np.concatenate(targets, axis=1), splits)
    ends = np.cumsum([target.shape[1] for target in targets])
    columns = [slice(end - t.shape[1], end) for end, t in zip(ends, targets, strict=True)]
    fits: list[list[RidgeFit]] = [[] for _ in targets]
    for number, split in enumerate(splits):
        membership = sums.membership[:, number]
        folds = sorted(set(membership.tolist()) - {TESTED, UNUSED})
        if len(folds) < 2:
            raise ValueError(
                f"fold_ids of split {split.name!r} must name at least 2 folds, got {len(folds)}: "
                "pass more points or another protocol"
            )
        train = frozenset(np.flatnonzero(membership >= 0).tolist())
        error = np.zeros((len(targets), len(RIDGE_ALPHAS)))
        for fold in folds:
            held_out = frozenset(np.flatnonzero(membership == fold).tolist())
            solution = sums.solve(train - held_out)
            error += sums.sum_squared_errors(held_out, solution, columns)
        solution = sums.solve(train)
        for fits_of_target, of_target, errors in zip(fits, columns, error, strict=True):
            alpha = RIDGE_ALPHAS[int(np.argmin(errors))]
            fits_of_target.append(
                RidgeFit(alpha, sums.predict(split.test, solution, of_target, alpha))
            )
    return fits


@dataclass(frozen=True, eq=False)
class _Solution:
    """Everything about one training set that does not depend on the penalty."""

    mean: np.ndarray  # (num_features,) of x, as std
    std: np.ndarray
    y_mean: np.ndarray  # (num_outputs,)
    eigenvalues: np.ndarray  # (num_features,) of the Gram matrix of standardised x
    vectors: np.ndarray  # (num_features, num_features)
    rotated: np.ndarray  # (num_features, num_outputs): vectors' x'y


class _Sums:
    """Sums over atoms, and the solutions of the unions of atoms asked for so far."""

    def __init__(self, x: np.ndarray, y: np.ndarray, splits: Sequence[Split]):
        # Scaling first changes no result, but keeps the differences of sums below exact.
        x = x.astype(np.float64)
        spread = x.std(axis=0)
        self.x = (x - x.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
        self.y = y
        self.membership, atom_of_point = _find_atoms(splits, len(x))
        self.of_atom = []
        for atom in range(len(self.membership)):
            rows = np.flatnonzero(atom_of_point == atom)
            x_of, y_of = self.x[rows], y[rows]
            self.of_atom.append(
                (
                    len(rows),
                    x_of.sum(0),
                    y_of.sum(0),
                    x_of.T @ x_of,
                    x_of.T @ y_of,
                    (y_of**2).sum(0),
                )
            )
        self.solutions: dict[frozenset[int], _Solution] = {}

    def total(self, atoms: frozenset[int]) -> list:
        return [sum(parts) for parts in zip(*(self.of_atom[a] for a in sorted(atoms)), strict=True)]

    def solve(self, atoms: frozenset[int]) -> _Solution:
        if atoms not in self.solutions:
            count, x_sum, y_sum, xx, xy, _ = self.total(atoms)
            mean, y_mean = x_sum / count, y_sum / count
            gram = xx - count * np.outer(mean, mean)
            variance = np.diag(gram) / count
            std = np.sqrt(np.where(variance > 1e-12, variance, 1.0))  # constants carry nothing
            eigenvalues, vectors = np.linalg.eigh(gram / np.outer(std, std))
            rotated = vectors.T @ ((xy - count * np.outer(mean, y_mean)) / std[:, None])
            self.solutions[atoms] = _Solution(
                mean, std, y_mean, np.maximum(eigenvalues, 0.0), vectors, rotated
            )
        return self.solutions[atoms]

    def sum_squared_errors(
        self, atoms: frozenset[int], fit: _Solution, columns: Sequence[slice]
    ) -> Float64[np.ndarray, "num_targets num_alphas"]:
        """Squared error of a solution at other points, from their sums: no point is touched."""
        count, x_sum, y_sum, xx, xy, yy = self.total(atoms)
        cross = np.outer(x_sum, fit.mean)
        gram = (xx - cross - cross.T + count * np.outer(fit.mean, fit.mean)) / np.outer(
            fit.std, fit.std
        )
        xy = xy - np.outer(x_sum, fit.y_mean) - np.outer(fit.mean, y_sum - count * fit.y_mean)
        yy = yy - 2 * fit.y_mean * y_sum + count * fit.y_mean**2
        agreement = fit.rotated * (fit.vectors.T @ (xy / fit.std[:, None]))
        shrink = 1 / np.add.outer(fit.eigenvalues, RIDGE_ALPHAS)  # (num_features, num_alphas)
        # One Gram matrix is rotated to the eigenvectors, or fewer coefficients away from them.
        rotate_gram = shrink.shape[1] * len(yy) > len(gram)
        if rotate_gram:
            gram = fit.vectors.T @ gram @ fit.vectors
        errors = np.empty((len(columns), len(RIDGE_ALPHAS)))
        for row, of_target in enumerate(columns):
            rotated = fit.rotated[:, of_target]
            if rotate_gram:
                energy = (shrink * ((gram * (rotated @ rotated.T)) @ shrink)).sum(axis=0)
            else:
                coef = np.stack([fit.vectors @ (rotated * s[:, None]) for s in shrink.T])
                energy = (coef * (gram @ coef)).sum(axis=(1, 2))
            along = agreement[:, of_target].sum(axis=1)
            errors[row] = yy[of_target].sum() - 2 * along @ shrink + energy
        return errors

    def predict(
        self, rows: Int64[np.ndarray, " num_rows"], fit: _Solution, columns: slice, alpha: float
    ) -> Float64[np.ndarray, "num_rows num_outputs"]:
        shrunk = fit.rotated[:, columns] / (fit.eigenvalues + alpha)[:, None]
        coef = (fit.vectors @ shrunk) / fit.std[:, None]
        return self.x[rows] @ coef + (fit.y_mean[columns] - fit.mean @ coef)


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
