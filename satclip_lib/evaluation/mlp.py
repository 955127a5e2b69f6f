"""The paper's probe: a perceptron, tuned on validation data for each encoder and task."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from jaxtyping import Float, Int64, Shaped
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from sklearn.base import BaseEstimator
from sklearn.neural_network import MLPClassifier, MLPRegressor

from satclip_lib.files import fingerprint
from satclip_lib.progress import progress_bar

MAX_EPOCHS = 60
WIDTHS = (32, 64, 128, 256)


class TunedMlp(BaseEstimator):
    """A multilayer perceptron of scikit-learn with layers, width, rate and penalty searched.

    One fold of the training points is the validation set: the one whose size is nearest to a
    fifth of them. Every setting is fitted to the other folds and scored on it after each epoch;
    settings that are worse than the median of earlier ones are given up (Optuna's median
    pruner). The best setting is fitted again to all training points, for as many epochs as
    served it best. Numbers are z-scored on the training points before they are fitted.

    Args:
        kind: "regression" or "classification".
        fold_ids: Fold of each training point; at least two different ones.
        num_trials: Number of settings that are tried.
        seed: Random seed of the search and of the weights.
        studies: Folder where the search is kept; one that was stopped goes on where it was, and
            one that is finished is not repeated. None keeps nothing.

    Raises:
        ValueError: When fitted, if there is only one fold.

    Attributes:
        params_: Setting that was chosen, with ``num_epochs``.
        estimator_: Fitted ``MLPRegressor`` or ``MLPClassifier``.
        num_pruned_: Number of settings that were given up.
    """

    def __init__(
        self,
        *,
        kind: Literal["regression", "classification"],
        fold_ids: Int64[np.ndarray, " num_train"],
        num_trials: int = 20,
        seed: int = 0,
        studies: Path | None = None,
    ):
        self.kind = kind
        self.fold_ids = fold_ids
        self.num_trials = num_trials
        self.seed = seed
        self.studies = studies

    def fit(
        self,
        x: Float[np.ndarray, "num_train num_features"],
        target: Shaped[np.ndarray, " num_train"],
    ) -> "TunedMlp":
        """Search, then fit the best setting to all training points."""
        folds, sizes = np.unique(self.fold_ids, return_counts=True)
        if len(folds) < 2:
            raise ValueError(f"fold_ids must name at least 2 folds, got {len(folds)}")
        is_val = self.fold_ids == folds[np.abs(sizes - len(x) / 5).argmin()]
        if self.kind == "regression":
            self.mean_, self.std_ = target.mean(), target.std() or 1.0
            target = (target - self.mean_) / self.std_
        study = self._open_study(x, target)

        def objective(trial: optuna.Trial) -> float:
            best = -np.inf
            epochs = self._train(suggest_setting(trial), x[~is_val], target[~is_val], target)
            for epoch, model in enumerate(epochs, start=1):
                score = model.score(x[is_val], target[is_val])  # R2 or accuracy
                trial.report(score, epoch)
                if score > best:
                    best = score
                    trial.set_user_attr("num_epochs", epoch)
                if trial.should_prune():
                    raise optuna.TrialPruned
            return best

        complete, pruned = optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED
        num_done = len(study.get_trials(states=[complete, pruned]))
        with _quiet_optuna(), progress_bar(total=self.num_trials, desc="MLP settings") as bar:
            bar.update(num_done)
            study.optimize(
                objective,
                n_trials=max(0, self.num_trials - num_done),
                callbacks=[lambda study, trial: bar.update(1)],
            )
        self.num_pruned_ = len(study.get_trials(states=[pruned]))
        best = study.best_trial
        self.params_ = best.params | {"num_epochs": best.user_attrs["num_epochs"]}
        *_, self.estimator_ = self._train(
            best.params, x, target, target, self.params_["num_epochs"]
        )
        return self

    def predict(
        self, x: Float[np.ndarray, "num_points num_features"]
    ) -> Shaped[np.ndarray, " num_points"]:
        """Values or classes, in the form of the training targets."""
        predicted = self.estimator_.predict(x)
        return predicted * self.std_ + self.mean_ if self.kind == "regression" else predicted

    def _train(
        self,
        setting: dict[str, Any],
        x: np.ndarray,
        target: np.ndarray,
        all_targets: np.ndarray,
        num_epochs: int = MAX_EPOCHS,
    ) -> Iterator[MLPRegressor | MLPClassifier]:
        """The network after each epoch."""
        model = make_mlp(setting, kind=self.kind, seed=self.seed)
        more = {"classes": np.unique(all_targets)} if self.kind == "classification" else {}
        for epoch in range(num_epochs):
            yield model.partial_fit(x, target, **(more if epoch == 0 else {}))

    def _open_study(self, x: np.ndarray, target: np.ndarray) -> optuna.Study:
        storage: BaseStorage = InMemoryStorage()
        name = fingerprint(self.kind, self.seed, MAX_EPOCHS, WIDTHS, x, target, self.fold_ids)[:16]
        if self.studies is not None:
            self.studies.mkdir(parents=True, exist_ok=True)
            log = self.studies / f"{name}.log"
            if log.is_file():  # of a run that may have been killed in the middle of a line
                with log.open("rb+") as file:
                    file.truncate(file.read().rfind(b"\n") + 1)
            storage = JournalStorage(JournalFileBackend(str(log)))
        with _quiet_optuna():
            return optuna.create_study(
                storage=storage,
                study_name=name,
                load_if_exists=True,
                direction="maximize",
                sampler=optuna.samplers.TPESampler(seed=self.seed),
                pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=3),
            )


def suggest_setting(trial: optuna.Trial) -> dict[str, Any]:
    """One to three layers of one width, the learning rate and the penalty."""
    return {
        "num_layers": trial.suggest_int("num_layers", 1, 3),
        "width": trial.suggest_categorical("width", WIDTHS),
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
        "penalty": trial.suggest_float("penalty", 1e-6, 1e-1, log=True),
    }


def make_mlp(
    setting: dict[str, Any], *, kind: Literal["regression", "classification"], seed: int
) -> MLPRegressor | MLPClassifier:
    """scikit-learn's estimator with a setting of :func:`suggest_setting`."""
    network = MLPRegressor if kind == "regression" else MLPClassifier
    return network(
        hidden_layer_sizes=(setting["width"],) * setting["num_layers"],
        learning_rate_init=setting["learning_rate"],
        alpha=setting["penalty"],
        random_state=seed,
    )


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)
