"""Shared ridge: every fit is scikit-learn's, every penalty the best over the folds given."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from satclip_lib.data.land import sample_land_lonlat
from satclip_lib.evaluation.ridge import RIDGE_ALPHAS, fit_ridge
from satclip_lib.evaluation.splits import Split, make_splits

NUM_POINTS, NUM_FEATURES = 600, 12
PROTOCOLS = ["random", "blocks", "Africa", "continents", "continents+5%", "blocks:200"]


@pytest.fixture(scope="module")
def lonlat():
    """Places on land."""
    return sample_land_lonlat(NUM_POINTS, seed=0)


@pytest.fixture(scope="module")
def x():
    """Features on very different scales, far from zero."""
    x = np.random.default_rng(0).normal(size=(NUM_POINTS, NUM_FEATURES))
    return x * np.logspace(-3, 3, NUM_FEATURES) + np.linspace(-500, 500, NUM_FEATURES)


def _make_targets(x, *, noise):
    """One number, and three columns as of classes."""
    rng = np.random.default_rng(1)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    number = z @ rng.normal(size=(NUM_FEATURES, 1)) + noise * rng.normal(size=(len(x), 1)) + 100
    columns = np.sign(z @ rng.normal(size=(NUM_FEATURES, 3)) + noise * rng.normal(size=(len(x), 3)))
    return number, columns


@pytest.mark.parametrize("noise", [0.5, 30.0])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_fit_is_that_of_scikit_learn(x, lonlat, protocol, noise):
    """Penalty and predictions are those of a loop over folds with StandardScaler and Ridge."""
    _check_fits(x, _make_targets(x, noise=noise), make_splits(protocol, lonlat, seed=3))


@pytest.mark.parametrize("protocol", ["random", "blocks:200"])
def test_more_features_than_points_are_no_exception(lonlat, protocol):
    """Of 450 features: the folds of "random" have 384 points, all of them 480; blocks have 200."""
    x = np.random.default_rng(2).normal(size=(NUM_POINTS, 450)) + 7
    targets = (x[:, :1] + 3 * x[:, 1:2], np.sign(x[:, 2:5] - 7))
    _check_fits(x, targets, make_splits(protocol, lonlat, seed=3))


def _check_fits(x, targets, splits):
    """A target has the penalty and predictions found by hand, beside others and alone."""
    by_hand = [[*_fit_by_hand(x, targets, split)] for split in splits]
    for some in (targets, targets[:1]):
        for split, *fits in zip(by_hand, *fit_ridge(x, some, splits), strict=True):
            for fit, (alpha, expected) in zip(fits, split, strict=False):
                assert fit.alpha == alpha
                np.testing.assert_allclose(fit.predicted, expected, rtol=1e-6, atol=1e-6)


def _fit_by_hand(x, targets, split: Split):
    """Penalty and predictions of each target; their columns are fitted side by side."""
    y = np.concatenate(targets, axis=1)
    columns = np.split(np.arange(y.shape[1]), np.cumsum([t.shape[1] for t in targets])[:-1])
    x_train, y_train = x[split.train], y[split.train]
    errors = np.zeros((len(RIDGE_ALPHAS), y.shape[1]))
    for fold in np.unique(split.fold_ids):
        held_out = split.fold_ids == fold
        for index, alpha in enumerate(RIDGE_ALPHAS):
            predicted = _predict(x_train[~held_out], y_train[~held_out], x_train[held_out], alpha)
            errors[index] += np.sum((predicted - y_train[held_out]) ** 2, axis=0)
    for of_target in columns:
        alpha = RIDGE_ALPHAS[int(np.argmin(errors[:, of_target].sum(axis=1)))]
        yield alpha, _predict(x_train, y_train[:, of_target], x[split.test], alpha)


def _predict(x_train, y_train, x_test, alpha):
    model = make_pipeline(StandardScaler(), Ridge(alpha=alpha)).fit(x_train, y_train)
    return model.predict(x_test).reshape(len(x_test), -1)


def test_features_that_say_nothing_predict_the_mean():
    """Features that are constant, or where they are fitted: the prediction is the training mean."""
    y = np.arange(24.0)[:, None]
    split = Split("one", np.arange(20), np.arange(20, 24), np.arange(20) % 4)
    x = np.tile(np.linspace(0.1, 7, 30), (24, 1))  # many, for some sums of squares are rounded
    for beyond in (0.0, 2.7):
        x[20:] += beyond
        ((fit,),) = fit_ridge(x, [y], [split])
        np.testing.assert_allclose(fit.predicted, 9.5)


def test_one_fold_is_not_enough(x):
    """Without a second fold no penalty can be chosen, and the error says so."""
    split = Split("one", np.arange(100), np.arange(100, 120), np.zeros(100, dtype=np.int64))
    with pytest.raises(ValueError, match="fold_ids of split 'one'"):
        fit_ridge(x, [x[:, :1]], [split])
    assert fit_ridge(x, [x[:, :1]], [replace(split, fold_ids=np.arange(100) % 2)])
