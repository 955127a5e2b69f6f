"""Scores are scikit-learn's; intervals come from blocks and are paired."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, r2_score

from satclip_lib.data.land import sample_land_lonlat
from satclip_lib.evaluation.scoring import NUM_DRAWS, compute_score
from satclip_lib.sphere import compute_block_ids


@pytest.fixture(scope="module")
def lonlat():
    """Places on land."""
    return sample_land_lonlat(2000, seed=0)


def test_numbers_are_scored_by_r2_and_z_scored_error(lonlat):
    """R2 is scikit-learn's; the MSE is of targets z-scored over the task; 1 - R2 if all tested."""
    rng = np.random.default_rng(0)
    target = rng.normal(5, 3, size=2000)
    predicted = target + rng.normal(size=2000)
    variance = float(target.var())
    found = compute_score(target, predicted, kind="regression", lonlat=lonlat, variance=variance)
    assert found.score == pytest.approx(r2_score(target, predicted))
    z = (target - target.mean()) / target.std()
    z_predicted = (predicted - target.mean()) / target.std()
    assert found.z_mse == pytest.approx(np.mean((z - z_predicted) ** 2))
    assert found.z_mse == pytest.approx(1 - found.score) and np.isnan(found.macro_f1)


def test_classes_are_scored_by_accuracy_and_macro_f1(lonlat):
    """Both are scikit-learn's, also where a class is never predicted or never there."""
    rng = np.random.default_rng(0)
    target = rng.integers(0, 5, size=2000)
    predicted = np.where(rng.random(2000) < 0.6, target, 7)
    found = compute_score(target, predicted, kind="classification", lonlat=lonlat, variance=1.0)
    assert found.score == pytest.approx(accuracy_score(target, predicted))
    expected = f1_score(target, predicted, average="macro", zero_division=0)
    assert found.macro_f1 == pytest.approx(expected) and np.isnan(found.z_mse)


def test_intervals_of_errors_that_come_in_blocks_are_wide(lonlat):
    """Errors shared by a block give a wider interval than as many independent errors."""
    rng = np.random.default_rng(0)
    blocks = compute_block_ids(lonlat)
    is_wrong_block = rng.random(blocks.max() + 1) < 0.3
    together = is_wrong_block[blocks]
    alone = rng.permutation(together)
    target = np.zeros(2000, dtype=np.int64)

    def width(is_wrong):
        score = compute_score(
            target, is_wrong.astype(np.int64), kind="classification", lonlat=lonlat, variance=1.0
        )
        assert score.draws.shape == (NUM_DRAWS,)
        low, high = np.percentile(score.draws, [2.5, 97.5])
        assert low < score.score < high
        return high - low

    assert width(together) > 2 * width(alone)
    # independent errors: near to the width that the binomial distribution says
    share = alone.mean()
    assert width(alone) == pytest.approx(3.92 * np.sqrt(share * (1 - share) / 2000), rel=0.35)


@pytest.mark.parametrize("block_deg", [10.0, 5.0])
@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_a_draw_is_the_score_with_weights_of_blocks(lonlat, kind, block_deg):
    """It is scikit-learn's; weights follow from block and size alone, so that draws are paired."""
    rng = np.random.default_rng(0)
    target = rng.normal(5, 3, size=2000) if kind == "regression" else rng.integers(0, 3, size=2000)
    predicted = rng.permutation(target)
    found = compute_score(
        target, predicted, kind=kind, lonlat=lonlat, variance=1.0, block_deg=block_deg
    )
    column, row = (np.add(lonlat, (180, 90)) // block_deg).astype(int).T
    blocks = row * int(360 / block_deg) + column
    seeds = [[block, int(1000 * block_deg)] for block in blocks]
    weights = np.stack([np.random.default_rng(s).exponential(size=NUM_DRAWS) for s in seeds])
    score = r2_score if kind == "regression" else accuracy_score
    expected = [score(target, predicted, sample_weight=weights[:, draw]) for draw in range(3)]
    np.testing.assert_allclose(found.draws[:3], expected, rtol=1e-5)
    assert found.draws.shape == (NUM_DRAWS,)


def test_a_constant_target_has_no_r2(lonlat):
    """Where nothing varies there is nothing to explain, and no division by zero."""
    found = compute_score(
        np.ones(2000), np.zeros(2000), kind="regression", lonlat=lonlat, variance=4.0
    )
    assert np.isnan(found.score) and found.z_mse == 0.25
