"""The paper's probe: a perceptron, tuned on validation data for each encoder and task."""

from typing import Literal

import numpy as np
from jaxtyping import Int64
from scipy.stats import loguniform
from sklearn.base import BaseEstimator
from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection import PredefinedSplit, RandomizedSearchCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler

NUM_SETTINGS = 20  # number of random settings that are tried
SETTINGS = {
    "hidden_layer_sizes": [(width,) * depth for depth in (1, 2, 3) for width in (32, 64, 128, 256)],
    "learning_rate_init": loguniform(1e-4, 1e-2),
    "alpha": loguniform(1e-6, 1e-1),  # the penalty
    "max_iter": [10, 20, 40, 60],  # epochs
}


def make_tuned_mlp(
    *,
    kind: Literal["regression", "classification"],
    fold_ids: Int64[np.ndarray, " num_train"],
    seed: int = 0,
) -> BaseEstimator:
    """An unfitted multilayer perceptron with layers, width, rate, penalty and epochs searched.

    One fold of the training points is the validation set: the one whose size is nearest to a
    fifth of them. Every setting is fitted to the other folds and scored on it; the best is fitted
    again to all training points. Numbers are z-scored on the training points.

    Args:
        kind: "regression" or "classification".
        fold_ids: Fold of each training point; at least two different ones.
        seed: Random seed of the search and of the weights.

    Raises:
        ValueError: If there is only one fold.
    """
    folds, sizes = np.unique(fold_ids, return_counts=True)
    if len(folds) < 2:
        raise ValueError(f"fold_ids must name at least 2 folds, got {len(folds)}")
    held_out = folds[np.abs(sizes - len(fold_ids) / 5).argmin()]
    network = MLPRegressor if kind == "regression" else MLPClassifier
    all_epochs = max(SETTINGS["max_iter"])  # none is left out because the loss has settled
    search = RandomizedSearchCV(
        network(random_state=seed, n_iter_no_change=all_epochs),
        SETTINGS,
        n_iter=NUM_SETTINGS,
        cv=PredefinedSplit(np.where(fold_ids == held_out, 0, -1)),
        random_state=seed,
        error_score="raise",
    )
    if kind == "classification":
        return search
    return TransformedTargetRegressor(search, transformer=StandardScaler())
