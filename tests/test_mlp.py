"""The tuned perceptron: scikit-learn's network, a search that can be stopped and goes on."""

import warnings

import numpy as np
import optuna
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import r2_score

from satclip_lib.evaluation import mlp
from satclip_lib.evaluation.mlp import TunedMlp, make_mlp

FOLDS = np.arange(200) % 5


@pytest.fixture(autouse=True)
def few_epochs(monkeypatch):
    """Searches are short."""
    monkeypatch.setattr(mlp, "MAX_EPOCHS", 12)


def _make_data(kind):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(260, 4))
    y = np.sin(2 * x[:, 0]) * 50 + 20 * x[:, 1] + 1000
    return x, y if kind == "regression" else (y > 1000).astype(np.int64) * 3 + 1


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_the_network_is_that_of_scikit_learn(kind):
    """The chosen setting, fitted by scikit-learn for as many epochs, predicts the same."""
    x, y = _make_data(kind)
    probe = TunedMlp(kind=kind, fold_ids=FOLDS, num_trials=3, seed=1).fit(x[:200], y[:200])
    reference = make_mlp(probe.params_, kind=kind, seed=1)
    reference.set_params(max_iter=probe.params_["num_epochs"], n_iter_no_change=1000)
    target = (y[:200] - probe.mean_) / probe.std_ if kind == "regression" else y[:200]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is the point
        reference.fit(x[:200], target)
    expected = reference.predict(x[200:])
    if kind == "regression":
        expected = expected * probe.std_ + probe.mean_
        assert r2_score(y[200:], probe.predict(x[200:])) > 0.3
    np.testing.assert_allclose(probe.predict(x[200:]), expected, rtol=1e-6)


def test_the_search_is_seeded_and_prunes():
    """The same seed chooses the same setting; hopeless settings are given up."""
    x, y = _make_data("regression")
    first, again = (
        TunedMlp(kind="regression", fold_ids=FOLDS, num_trials=12, seed=0).fit(x[:200], y[:200])
        for _ in range(2)
    )
    assert first.params_ == again.params_ and first.num_pruned_ == again.num_pruned_ > 0


def test_a_search_that_was_stopped_goes_on(tmp_path, monkeypatch):
    """A search of two settings is continued to four; a finished one is not repeated."""
    x, y = _make_data("regression")
    tried = []
    suggest = mlp.suggest_setting

    def spy(trial: optuna.Trial):
        tried.append(trial.number)
        return suggest(trial)

    monkeypatch.setattr(mlp, "suggest_setting", spy)
    for num_trials in (2, 4, 4):
        probe = TunedMlp(kind="regression", fold_ids=FOLDS, num_trials=num_trials, studies=tmp_path)
        probe.fit(x[:200], y[:200])
    assert tried == [0, 1, 2, 3]
    (log,) = tmp_path.glob("*.log")
    lines = log.read_bytes()
    log.write_bytes(
        lines[: lines.rindex(b'"state"')]
    )  # as a kill in the middle of a line leaves it
    for _ in range(2):
        assert probe.fit(x[:200], y[:200]).params_
    assert tried[:5] == [0, 1, 2, 3, 4]
    TunedMlp(kind="regression", fold_ids=FOLDS, num_trials=1, studies=tmp_path).fit(
        x[:200], y[:200] + x[:200, 0]
    )
    assert len(list(tmp_path.glob("*.log"))) == 2  # other data, another search


def test_one_fold_is_not_enough():
    """Without a second fold there is nothing to validate on."""
    with pytest.raises(ValueError, match="fold_ids"):
        TunedMlp(kind="regression", fold_ids=np.zeros(9, np.int64)).fit(np.ones((9, 2)), np.ones(9))
