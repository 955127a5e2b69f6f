"""Probes: each is scikit-learn's own estimator, and learns nothing from the tested points."""

from functools import partial

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import r2_score
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
    is_regression = kind == "regression"
    if probe == "knn":
        estimator = KNeighborsRegressor if is_regression else KNeighborsClassifier
        model = estimator(10, weights="distance")
    else:
        boosting = (
            HistGradientBoostingRegressor if is_regression else HistGradientBoostingClassifier
        )
        model = boosting(random_state=0)
    model = make_pipeline(StandardScaler(), model).fit(x[:200], y[:200])
    np.testing.assert_allclose(_predict(probe, kind, x, y), model.predict(x[200:]), rtol=1e-6)


def test_linear_classes_are_those_of_scikit_learn():
    """The largest column of the shared ridge is the class of RidgeClassifier."""
    x, y = _make_data("classification")
    one_hot = 2.0 * (y[:, None] == np.arange(4)) - 1
    ((fit,),) = fit_ridge(x, [one_hot], [SPLIT])
    model = make_pipeline(StandardScaler(), RidgeClassifier(alpha=fit.alpha))
    expected = model.fit(x[:200], y[:200]).predict(x[200:])
    np.testing.assert_array_equal(_predict("linear", "classification", x, y), expected)


def test_logistic_regression_chooses_the_best_penalty_over_the_folds():
    """The penalty has the best mean accuracy over the folds; the fit is LogisticRegression's."""
    x, y = _make_data("classification", noise=3.0)
    x_train, y_train, folds = StandardScaler().fit_transform(x[:200]), y[:200], SPLIT.fold_ids
    accuracy = {
        c: np.mean(
            [
                LogisticRegression(C=c, max_iter=1000)
                .fit(x_train[folds != fold], y_train[folds != fold])
                .score(x_train[folds == fold], y_train[folds == fold])
                for fold in range(5)
            ]
        )
        for c in LOGISTIC_CS
    }
    best = max(accuracy, key=accuracy.get)
    probe = make_probe("logistic", kind="classification", fold_ids=folds).fit(x[:200], y_train)
    assert probe[-1].C_ == best
    expected = LogisticRegression(C=best, max_iter=1000).fit(x_train, y_train)
    np.testing.assert_allclose(probe[-1].coef_, expected.coef_, atol=1e-3)


def test_great_circle_neighbours_are_the_nearest_on_the_globe():
    """Distances are along the sphere, across the date line and over the pole."""
    lonlat = sample_land_lonlat(NUM_TRAIN + NUM_TEST, seed=0)
    y = lonlat[:, 1].copy()
    found = _predict("great circle", "regression", lonlat, y)
    vectors = lonlat_to_unit_vectors(lonlat)
    angles = np.arccos(np.clip(vectors[200:] @ vectors[:200].T, -1, 1))
    nearest = np.argsort(angles, axis=1)[:, :NUM_NEIGHBORS]
    weights = 1 / np.take_along_axis(angles, nearest, axis=1)
    np.testing.assert_allclose(found, np.average(y[nearest], weights=weights, axis=1), rtol=1e-6)
    train = np.array([[179.9, 10.0], *([[0.0, 0.0]] * 9), [-179.8, 10.0], [170.0, 10.0]])
    split = Split("date line", np.arange(11), np.array([11]), np.arange(11) % 2)
    target = np.array([1.0] + [0.0] * 9 + [1.0, 0.0])
    assert _predict("great circle", "regression", train, target, split=split)[0] > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_inverse_distance_weighting_is_that_of_a_loop(kind):
    """The 30 nearest on the globe, weighted by the square; a label at the place itself decides."""
    lonlat = sample_land_lonlat(NUM_TRAIN + NUM_TEST, seed=0)
    lonlat[200] = lonlat[7]
    y = lonlat[:, 1].copy()
    if kind == "classification":
        y = (y > 0).astype(np.int64)
    found = _predict("inverse distance", kind, lonlat, y)
    for row in range(200, 220):
        angle = np.arccos(np.clip(lonlat_to_unit_vectors(lonlat[:200])
                          @ lonlat_to_unit_vectors(lonlat[[row]])[0], -1, 1))  # fmt: skip
        nearest = np.argsort(angle)[:NUM_INTERPOLATED]
        weights = np.maximum(angle[nearest], 1e-9) ** -2.0
        mean = np.average(y[nearest], weights=weights)
        expected = mean if kind == "regression" else float(mean > 0.5)
        assert float(found[row - 200]) == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert float(found[0]) == pytest.approx(y[7])


@pytest.mark.parametrize("probe", [*PROBES, *LOCATION_PROBES])
@pytest.mark.parametrize("kind", KINDS)
def test_real_labels_are_predicted(probe, kind):
    """Where features tell the label, every probe beats chance by far."""
    if (probe, kind) == ("logistic", "regression"):
        pytest.skip("predicts classes only")
    x, y = _make_data("regression", noise=0.1)
    if probe in LOCATION_PROBES:
        x = sample_land_lonlat(len(x), seed=0)
        y = x[:, 1] / 20
    if kind == "regression":
        assert r2_score(y[200:], _predict(probe, kind, x, y)) > 0.4
    else:
        is_high = (y > np.median(y)).astype(np.int64)
        assert np.mean(_predict(probe, kind, x, is_high) == is_high[200:]) > 0.7


@pytest.mark.parametrize("probe", [*PROBES, *LOCATION_PROBES])
def test_targets_and_statistics_are_those_of_the_training_points(probe):
    """What is predicted depends neither on targets at test points nor on which are tested."""
    x, y = _make_data("classification")
    if probe in LOCATION_PROBES:
        x = sample_land_lonlat(len(x), seed=0)
    spoilt = np.where(np.arange(len(y)) < 200, y, 3)
    far = np.where(np.arange(len(y))[:, None] < 230, x, x[::-1])
    expected = _predict(probe, "classification", x, y)
    np.testing.assert_array_equal(
        _predict(probe, "classification", far, spoilt)[:30], expected[:30]
    )


def test_classes_keep_their_names():
    """Predicted classes are those of the target, also if numbers are missing among them."""
    x, y = _make_data("classification")
    predicted = _predict("linear", "classification", x, y * 10 + 7)
    assert set(predicted) <= {7, 17, 27, 37} and len(set(predicted)) > 2


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
