"""Probes: each is scikit-learn's own estimator, and learns nothing from the tested points."""

from functools import partial

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from satclip_lib.data.land import sample_land_lonlat
from satclip_lib.evaluation import mlp, probes
from satclip_lib.evaluation.end_to_end import EndToEnd
from satclip_lib.evaluation.probes import (
    LOCATION_PROBES,
    LOGISTIC_CS,
    NUM_INTERPOLATED,
    NUM_NEIGHBORS,
    PROBES,
    fit_predict,
    make_probe,
)
from satclip_lib.evaluation.ridge import fit_ridge
from satclip_lib.evaluation.splits import Split
from satclip_lib.sphere import lonlat_to_unit_vectors

NUM_TRAIN, NUM_TEST, NUM_FEATURES = 200, 60, 12
KINDS = ["regression", "classification"]
SPLIT = Split("one", np.arange(200), np.arange(200, 260), np.arange(200) % 5)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Few settings are tried, and networks are small."""
    monkeypatch.setattr(mlp, "NUM_SETTINGS", 2)
    monkeypatch.setattr(probes, "EndToEnd", partial(EndToEnd, num_steps=30, hidden_dim=16))


def _make_data(kind, *, noise=0.5):
    """Features on very different scales, and a target that depends on them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(NUM_TRAIN + NUM_TEST, NUM_FEATURES))
    y = x @ rng.normal(size=NUM_FEATURES) + noise * rng.normal(size=len(x)) + 3
    if kind == "classification":
        y = np.digitize(y, [0.0, 3.0, 6.0]).astype(np.int64)
    return x * np.logspace(-3, 3, NUM_FEATURES) + np.linspace(-5, 5, NUM_FEATURES), y


def _predict(probe, kind, x, y, *, split=SPLIT):
    (predicted,) = fit_predict(probe, x, [y], [split], kind=kind)
    return predicted


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("probe", ["knn", "boosting"])
def test_predictions_are_those_of_scikit_learn(probe, kind):
    """k-NN and boosting behind a StandardScaler, fitted by hand, predict the same."""
    x, y = _make_data(kind)
    model = {
        ("knn", "regression"): KNeighborsRegressor(10, weights="distance"),
        ("knn", "classification"): KNeighborsClassifier(10, weights="distance"),
        ("boosting", "regression"): HistGradientBoostingRegressor(random_state=0),
        ("boosting", "classification"): HistGradientBoostingClassifier(random_state=0),
    }[probe, kind]
    model = make_pipeline(StandardScaler(), model).fit(x[:200], y[:200])
    np.testing.assert_allclose(_predict(probe, kind, x, y), model.predict(x[200:]), rtol=1e-6)


def test_linear_predictions_are_those_of_the_shared_ridge():
    """For classes its largest column, which is scikit-learn's class, by its name."""
    x, y = _make_data("regression")
    ((fit,),) = fit_ridge(x, [y[:, None]], [SPLIT])
    np.testing.assert_array_equal(_predict("linear", "regression", x, y), fit.predicted[:, 0])
    x, y = _make_data("classification")
    y = 10 * y + 7
    one_hot = 2.0 * (y[:, None] == [7, 17, 27, 37]) - 1
    ((fit,),) = fit_ridge(x, [one_hot], [SPLIT])
    model = make_pipeline(StandardScaler(), RidgeClassifier(alpha=fit.alpha))
    expected = model.fit(x[:200], y[:200]).predict(x[200:])
    np.testing.assert_array_equal(_predict("linear", "classification", x, y), expected)


def test_logistic_regression_chooses_the_best_penalty_over_the_folds():
    """The penalty has the best mean accuracy over the folds; the fit is LogisticRegression's."""
    x, y = _make_data("classification", noise=3.0)
    x_train, y_train, folds = StandardScaler().fit_transform(x[:200]), y[:200], SPLIT.fold_ids
    accuracy = dict.fromkeys(LOGISTIC_CS, 0.0)
    for c in LOGISTIC_CS:
        for fold in range(5):
            model = LogisticRegression(C=c, max_iter=1000)
            model.fit(x_train[folds != fold], y_train[folds != fold])
            accuracy[c] += model.score(x_train[folds == fold], y_train[folds == fold])
    best = max(accuracy, key=accuracy.get)
    probe = make_probe("logistic", kind="classification", fold_ids=folds).fit(x[:200], y_train)
    assert probe[-1].C_ == best
    expected = LogisticRegression(C=best, max_iter=1000).fit(x_train, y_train)
    np.testing.assert_allclose(probe[-1].coef_, expected.coef_, atol=1e-3)


@pytest.mark.parametrize("num_train", [NUM_TRAIN, 5])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("probe", "count", "power"),
    [("great circle", NUM_NEIGHBORS, 1), ("inverse distance", NUM_INTERPOLATED, 2)],
)
def test_the_nearest_on_the_globe_are_weighed_by_distance(probe, count, power, kind, num_train):
    """If there are fewer, all are; a label at the place itself decides."""
    lonlat = sample_land_lonlat(NUM_TRAIN + NUM_TEST, seed=0)
    lonlat[200] = lonlat[3]
    y = lonlat[:, 1] if kind == "regression" else (lonlat[:, 1] > 0).astype(np.int64)
    train = np.arange(num_train)
    found = _predict(probe, kind, lonlat, y, split=Split("some", train, SPLIT.test, train % 5))
    vectors = lonlat_to_unit_vectors(lonlat)
    angles = np.arccos(np.clip(vectors[200:] @ vectors[:num_train].T, -1, 1))
    nearest = np.argsort(angles, axis=1)[:, :count]
    weights = np.maximum(np.take_along_axis(angles, nearest, axis=1), 1e-9) ** -float(power)
    mean = np.average(y[nearest], weights=weights, axis=1)
    expected = mean if kind == "regression" else mean > 0.5
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert found[0] == pytest.approx(y[3])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("probe", [*PROBES, *LOCATION_PROBES])
def test_targets_and_statistics_are_those_of_the_training_points(probe, kind):
    """What is predicted depends neither on targets at test points nor on which are tested."""
    if (probe, kind) == ("logistic", "regression"):
        pytest.skip("predicts classes only")
    x, y = _make_data(kind)
    if probe in LOCATION_PROBES:
        x = sample_land_lonlat(len(x), seed=0)
    spoilt = np.where(np.arange(len(y)) < 200, y, 3)
    far = np.where(np.arange(len(y))[:, None] < 230, x, x[::-1])
    expected = _predict(probe, kind, x, y)
    np.testing.assert_allclose(_predict(probe, kind, far, spoilt)[:30], expected[:30])


@pytest.mark.parametrize("probe", ["knn", "great circle"])
def test_few_labels_of_many_classes_are_no_regression(probe):
    """30 labels of 20 classes are fitted without a warning, which would be an error here."""
    lonlat = sample_land_lonlat(40, seed=0)
    split = Split("few", np.arange(30), np.arange(30, 40), np.arange(30) % 5)
    predicted = _predict(probe, "classification", lonlat, np.arange(40) % 20, split=split)
    assert set(predicted) <= set(range(20))


def test_targets_come_back_in_order_and_so_do_splits():
    """Two targets on two splits: a list of two, the first split's test points first."""
    x, y = _make_data("regression")
    other = Split("other", np.arange(100), np.arange(100, 150), np.arange(100) % 5)
    both = fit_predict("knn", x, [y, -y], [SPLIT, other], kind="regression")
    np.testing.assert_allclose(both[0], -both[1])
    np.testing.assert_allclose(both[0][:60], _predict("knn", "regression", x, y))
    np.testing.assert_allclose(both[0][60:], _predict("knn", "regression", x, y, split=other))


def test_unknown_probes_are_answered_with_the_known():
    """A misspelt probe is a ValueError that lists all; logistic regression wants classes."""
    for name in ("forest", "linear"):
        expected = f"unknown probe '{name}'; choose one of 'logistic'.*; 'linear' is fitted by fit_"
        with pytest.raises(ValueError, match=expected):
            make_probe(name, kind="regression", fold_ids=SPLIT.fold_ids)
    with pytest.raises(ValueError, match="'logistic' predicts classes"):
        make_probe("logistic", kind="regression", fold_ids=SPLIT.fold_ids)
