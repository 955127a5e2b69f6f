"""Scores of predictions, and bootstrap draws for their confidence intervals.

Errors of points near each other are alike, so whole blocks of the globe are resampled, not points,
by the Bayesian bootstrap (Rubin 1981, doi:10.1214/aos/1176345338), in which
every block has a random weight of mean one, drawn from the exponential distribution. A block has
the same weights for every encoder, seed and task with blocks of this size, so differences between
encoders are paired.
"""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int64, Shaped
from sklearn.metrics import f1_score

from satclip_lib.evaluation.probes import Kind
from satclip_lib.sphere import compute_block_ids

NUM_DRAWS = 500


class Score(NamedTuple):
    """How good predictions are.

    Attributes:
        score: Accuracy, or R2: one minus the squared error over the squared deviation from the
            mean, both over the tested points. With a continent as the tested points it is that
            continent's R2; with the points of all continents, each predicted from the others, it
            is the pooled R2, which also rewards telling continents apart.
        z_mse: Mean squared error of the target z-scored over all points of the task, as the
            SatCLIP paper reports it; where all points are tested it is 1 - R2. NaN for classes.
        macro_f1: F1 averaged over the classes that are tested or predicted; NaN for numbers.
        draws: Scores with resampled blocks, ``(NUM_DRAWS,)``.
    """

    score: float
    z_mse: float
    macro_f1: float
    draws: Float32[np.ndarray, " num_draws"]


def compute_score(
    target: Shaped[np.ndarray, " num_test"],
    predicted: Shaped[np.ndarray, " num_test"],
    *,
    kind: Kind,
    lonlat: Float64[np.ndarray, "num_test 2"],
    variance: float,
    block_deg: float = 10.0,
) -> Score:
    """Score predictions at tested points, with bootstrap draws over blocks.

    Args:
        target: True values or class indices.
        predicted: Predictions of a probe.
        kind: "regression" or "classification".
        lonlat: Longitude and latitude of the points in degrees, ``(num_test, 2)``.
        variance: Variance of the target over all points of the task.
        block_deg: Side of the blocks that are resampled, degrees.
    """
    blocks, block_of_point = np.unique(
        compute_block_ids(lonlat, block_deg=block_deg), return_inverse=True
    )
    weights = _draw_weights(blocks, block_deg)  # (NUM_DRAWS, num_blocks)

    def sum_by_block(values: np.ndarray) -> np.ndarray:
        """Weighted sum of values in every draw, and last their plain sum."""
        sums = np.bincount(block_of_point, weights=values, minlength=len(blocks))
        return np.append(weights @ sums, sums.sum())

    count = sum_by_block(np.ones(len(target)))
    if kind == "classification":
        share = sum_by_block(predicted == target) / count
        macro_f1 = f1_score(target, predicted, average="macro")
        return Score(share[-1], np.nan, macro_f1, share[:-1].astype(np.float32))
    centred = target - target.mean()
    spread = sum_by_block(centred**2) - sum_by_block(centred) ** 2 / count
    error = sum_by_block((predicted - target) ** 2)
    with np.errstate(divide="ignore", invalid="ignore"):  # constant targets have no R2
        r2 = np.where(spread > 0, 1 - error / spread, np.nan)
    return Score(r2[-1], error[-1] / len(target) / variance, np.nan, r2[:-1].astype(np.float32))


def _draw_weights(
    blocks: Int64[np.ndarray, " num_blocks"], block_deg: float
) -> Float64[np.ndarray, "num_draws num_blocks"]:
    return np.stack([_draw_block_weights(int(block), block_deg) for block in blocks], axis=1)


@functools.lru_cache(maxsize=10_000)
def _draw_block_weights(block: int, block_deg: float) -> Float64[np.ndarray, " num_draws"]:
    return np.random.default_rng([block, round(1000 * block_deg)]).exponential(size=NUM_DRAWS)
