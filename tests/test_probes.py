"""Probes: ridge as by hand, its penalty chosen by the folds given, nothing learnt from tests."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.metrics import r2_score

from satclip_lib.evaluation.probes import NUM_NEIGHBORS, RIDGE_ALPHAS, RidgeProbe, make_probe

NUM_TRAIN, NUM_TEST, NUM_FEATURES = 200, 60, 12


def _data(kind, *, noise=0.5):
    """Features on very different scales, and a target that depends on them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(NUM_TRAIN + NUM_TEST, NUM_FEATURES))
    y = x @ rng.normal(size=NUM_FEATURES) + noise * rng.normal(size=len(x)) + 3
    if kind == "classification":
        y = np.digitize(y, [0.0, 3.0, 6.0]).astype(np.int64)
    x = x * np.logspace(-3, 3, NUM_FEATURES) + np.linspace(-5, 5, NUM_FEATURES)
    return x[:NUM_TRAIN], y[:NUM_TRAIN], x[NUM_TRAIN:], y[NUM_TRAIN:]


FOLDS = np.arange(NUM_TRAIN) % 5


def _fit(name, kind, x, y, *, fold_ids=FOLDS):
    return make_probe(name, kind=kind, fold_ids=fold_ids).fit(x, y)


def test_ridge_regression_is_that_of_the_textbook():
    """Predictions solve (X'X + alpha I) w = X'y, with X standardised by the training points."""
    x, y, x_test, _ = _data("regression")
    probe = _fit("linear", "regression", x, y)
    alpha = probe[-1].alpha_
    mean, std = x.mean(axis=0), x.std(axis=0)
    z, z_test = (x - mean) / std, (x_test - mean) / std
    weight = np.linalg.solve(z.T @ z + alpha * np.eye(NUM_FEATURES), z.T @ (y - y.mean()))
    np.testing.assert_allclose(probe.predict(x_test), z_test @ weight + y.mean(), atol=1e-6)


def test_ridge_classification_is_that_of_the_textbook():
    """The predicted class has the largest ridge regression of its one-hot column."""
    x, y, x_test, _ = _data("classification")
    probe = _fit("linear", "classification", x, y)
    alpha = probe[-1].alpha_
    mean, std = x.mean(axis=0), x.std(axis=0)
    z, z_test = (x - mean) / std, (x_test - mean) / std
    one_hot = 2.0 * (y[:, None] == np.arange(4)) - 1
    gram = z.T @ z + alpha * np.eye(NUM_FEATURES)
    weight = np.linalg.solve(gram, z.T @ (one_hot - one_hot.mean(axis=0)))
    expected = z_test @ weight + one_hot.mean(axis=0)
    np.testing.assert_allclose(
        (z_test @ probe[-1].coef_) + probe[-1].intercept_, expected, atol=1e-6
    )
    np.testing.assert_array_equal(probe.predict(x_test), expected.argmax(axis=1))


@pytest.mark.parametrize("kind", ["regression", "classification"])
@pytest.mark.parametrize("noise", [0.5, 30.0])
def test_the_penalty_is_the_best_over_the_folds(kind, noise):
    """The penalty is the one scikit-learn's ridge predicts held-out folds best with."""
    x, y, x_test, _ = _data(kind, noise=noise)
    x, x_test = (x - x.mean(axis=0)) / x.std(axis=0), (x_test - x.mean(axis=0)) / x.std(axis=0)
    make = Ridge if kind == "regression" else RidgeClassifier
    scores = []
    for alpha in RIDGE_ALPHAS:
        predicted = np.empty(NUM_TRAIN)
        for fold in range(5):
            rest = make(alpha=alpha).fit(x[fold != FOLDS], y[fold != FOLDS])
            predicted[fold == FOLDS] = rest.predict(x[fold == FOLDS])
        if kind == "regression":
            scores.append(-np.mean((predicted - y) ** 2))
        else:
            scores.append(np.mean(predicted == y))
    probe = RidgeProbe(kind=kind, fold_ids=FOLDS).fit(x, y)
    assert probe.alpha_ == RIDGE_ALPHAS[int(np.argmax(scores))]
    reference = make(alpha=probe.alpha_).fit(x, y)
    np.testing.assert_allclose(probe.predict(x_test), reference.predict(x_test), atol=1e-8)


def test_folds_of_neighbours_choose_a_larger_penalty():
    """Where copies of a point are told apart by folds, memorising them is not rewarded."""
    rng = np.random.default_rng(1)
    x = np.repeat(rng.normal(size=(40, 60)), 5, axis=0)  # 40 places, 5 points at each
    y = np.repeat(rng.normal(size=40), 5)  # nothing to be learnt
    torn = RidgeProbe(kind="regression", fold_ids=np.arange(200) % 5).fit(x, y)
    whole = RidgeProbe(kind="regression", fold_ids=np.repeat(np.arange(40) % 5, 5)).fit(x, y)
    assert torn.alpha_ == RIDGE_ALPHAS[0] and whole.alpha_ > 100


@pytest.mark.parametrize("name", ["linear", "knn"])
@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_shuffled_labels_score_at_chance(name, kind):
    """Without a relation between features and labels there is nothing to predict."""
    x, y, x_test, y_test = _data(kind)
    predicted = _fit(name, kind, x, np.random.default_rng(2).permutation(y)).predict(x_test)
    if kind == "regression":
        assert r2_score(y_test, predicted) < 0.1
    else:
        most_frequent = np.bincount(y_test).max() / NUM_TEST
        assert np.mean(predicted == y_test) < most_frequent + 0.1


@pytest.mark.parametrize("name", ["linear", "knn"])
@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_real_labels_are_predicted(name, kind):
    """Where features tell the label, both probes beat chance by far."""
    x, y, x_test, y_test = _data(kind, noise=0.1)
    if kind == "regression":
        predicted = _fit(name, kind, x, y).predict(x_test)
        assert r2_score(y_test, predicted) > (0.99 if name == "linear" else 0.4)
    else:
        is_high, is_high_test = (y >= 2).astype(np.int64), (y_test >= 2).astype(np.int64)
        predicted = _fit(name, kind, x, is_high).predict(x_test)
        assert 0.4 < is_high_test.mean() < 0.6
        assert np.mean(predicted == is_high_test) > (0.85 if name == "linear" else 0.7)


@pytest.mark.parametrize("name", ["linear", "knn"])
def test_statistics_are_those_of_the_training_points(name):
    """What is predicted at a point does not depend on which other points are tested."""
    x, y, x_test, _ = _data("regression")
    probe = _fit(name, "regression", x, y)
    np.testing.assert_allclose(probe[0].mean_, x.mean(axis=0))
    np.testing.assert_allclose(probe[0].scale_, x.std(axis=0))
    alone = np.concatenate([probe.predict(point[None]) for point in x_test])
    np.testing.assert_allclose(probe.predict(x_test), alone, atol=1e-9)


@pytest.mark.parametrize("name", ["linear", "knn"])
def test_the_scale_of_features_does_not_matter(name):
    """Shifting and stretching features changes no prediction."""
    x, y, x_test, _ = _data("regression")
    scale, shift = np.linspace(0.1, 50, NUM_FEATURES), np.linspace(-9, 9, NUM_FEATURES)
    expected = _fit(name, "regression", x, y).predict(x_test)
    found = _fit(name, "regression", x * scale + shift, y).predict(x_test * scale + shift)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_neighbours_are_weighted_by_distance():
    """k-NN averages the ten nearest, weighted by inverse distance; a known point is itself."""
    x, y, x_test, _ = _data("regression")
    probe = _fit("knn", "regression", x, y)
    np.testing.assert_allclose(probe.predict(x), y)
    mean, std = x.mean(axis=0), x.std(axis=0)
    distance = np.linalg.norm((x_test[0] - mean) / std - (x - mean) / std, axis=1)
    nearest = np.argsort(distance)[:NUM_NEIGHBORS]
    assert NUM_NEIGHBORS == 10
    expected = np.average(y[nearest], weights=1 / distance[nearest])
    assert probe.predict(x_test[:1])[0] == pytest.approx(expected)


def test_single_precision_embeddings_are_good_enough():
    """float32 embeddings, as models give them, lead to the predictions of float64 ones."""
    x, y, x_test, _ = _data("regression")
    expected = _fit("linear", "regression", x, y).predict(x_test)
    found = _fit("linear", "regression", x.astype("f4"), y).predict(x_test.astype("f4"))
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_features_that_say_nothing_predict_the_mean():
    """Constant features do not break the fit; the prediction is the training mean."""
    y = np.arange(20.0)
    probe = _fit("linear", "regression", np.ones((20, 3)), y, fold_ids=np.arange(20) % 4)
    np.testing.assert_allclose(probe.predict(np.ones((2, 3))), [9.5, 9.5])


def test_classes_keep_their_names():
    """Predicted classes are those of the target, also if numbers are missing among them."""
    x, y, x_test, _ = _data("classification")
    predicted = _fit("linear", "classification", x, y * 10 + 7).predict(x_test)
    assert set(predicted) <= {7, 17, 27, 37} and len(set(predicted)) > 2


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_one_fold_is_not_enough(kind):
    """Without a second fold no penalty can be chosen, and the error says so."""
    x, y, _, _ = _data(kind)
    with pytest.raises(ValueError, match="fold_ids"):
        RidgeProbe(kind=kind, fold_ids=np.zeros(NUM_TRAIN, dtype=np.int64)).fit(x, y)


def test_unknown_probes_are_answered_with_the_known():
    """A misspelt probe is a ValueError that lists all."""
    with pytest.raises(ValueError, match="unknown probe 'forest'; choose 'linear' or 'knn'"):
        make_probe("forest", kind="regression", fold_ids=FOLDS)
