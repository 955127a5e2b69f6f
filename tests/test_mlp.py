"""The tuned perceptron: scikit-learn's network, chosen on one fold of the training points."""

import numpy as np
import pytest
from sklearn.metrics import r2_score
from sklearn.neural_network import MLPClassifier, MLPRegressor

from satclip_lib.evaluation import mlp
from satclip_lib.evaluation.mlp import make_tuned_mlp

FOLDS = np.repeat([0, 1, 2], [20, 40, 140])  # the second is nearest to a fifth


@pytest.mark.parametrize("kind", ["regression", "classification"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_best_setting_on_the_fold_is_fitted_to_all_points(kind, monkeypatch):
    """Scores and predictions are those of scikit-learn's network with these settings."""
    monkeypatch.setattr(mlp, "NUM_SETTINGS", 3)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(260, 4))
    y = np.sin(2 * x[:, 0]) * 50 + 20 * x[:, 1] + 1000
    network, mean, std = MLPRegressor, y[:200].mean(), y[:200].std()
    if kind == "classification":
        network, mean, std = MLPClassifier, 0, 1
        y = (y > 1000).astype(np.int64) * 3 + 1
    model = make_tuned_mlp(kind=kind, fold_ids=FOLDS, seed=1).fit(x[:200], y[:200])
    search = model.regressor_ if kind == "regression" else model

    def fit(setting, rows):
        reference = network(random_state=1, n_iter_no_change=1000, **setting)
        return reference.fit(x[rows], (y[rows] - mean) / std if mean else y[rows])

    others, held_out = np.flatnonzero(FOLDS != 1), np.flatnonzero(FOLDS == 1)
    targets = (y[held_out] - mean) / std if mean else y[held_out]
    scores = [fit(p, others).score(x[held_out], targets) for p in search.cv_results_["params"]]
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], scores)
    best = search.cv_results_["params"][int(np.argmax(scores))]
    predicted = model.predict(x[200:])
    np.testing.assert_allclose(predicted, fit(best, np.arange(200)).predict(x[200:]) * std + mean)
    if kind == "regression":
        assert r2_score(y[200:], predicted) > 0.3


def test_one_fold_is_not_enough():
    """Without a second fold there is nothing to validate on."""
    with pytest.raises(ValueError, match="fold_ids must name at least 2 folds, got 1"):
        make_tuned_mlp(kind="regression", fold_ids=np.zeros(9, np.int64))
