"""Train and test splits, from the flattering to the honest."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from satclip_lib.data.locations import compute_block_ids
from satclip_lib.data.natural_earth import lookup_regions

NUM_FOLDS = 5
CONTINENTS = ("Africa", "Asia", "Europe", "North America", "Oceania", "South America")


@dataclass(frozen=True, eq=False)
class Split:
    """One division of points; no row is on both sides.

    Attributes:
        train: row numbers of the training points.
        test: row numbers of the test points.
        fold_ids: of the training points, for choosing hyper-parameters on them. Folds are made
            as the split is: of single points, of whole blocks, or of the other continents.
    """

    train: Int64[np.ndarray, " num_train"]
    test: Int64[np.ndarray, " num_test"]
    fold_ids: Int64[np.ndarray, " num_train"]


def make_splits(
    protocol: str, lonlat: Float64[np.ndarray, "num_points 2"], *, seed: int = 0
) -> list[Split]:
    """Divide points into training and test points.

    Args:
        protocol: ``"random"``: five folds; a test point has training points next door.
            ``"blocks"``: five folds of whole 10-degree blocks. A continent's name: one split,
            train on all others and test there.
        lonlat: ``(num_points, 2)`` degrees.
        seed: of the draw of all folds.

    Returns:
        One or more splits. Over the splits of a protocol no point is tested twice.

    Raises:
        ValueError: if the protocol is unknown, or a side of a split would be empty.
    """
    if protocol in CONTINENTS:
        continents = lookup_regions(lonlat).continent.fillna("none").to_numpy(dtype=str)
        tests = [continents == protocol]
        fold_ids = np.unique(continents, return_inverse=True)[1]
    elif protocol in ("random", "blocks"):
        groups = np.arange(len(lonlat)) if protocol == "random" else compute_block_ids(lonlat)
        fold_ids = _draw_folds(groups, seed=seed)
        tests = [fold_ids == fold for fold in range(NUM_FOLDS)]
    else:
        raise ValueError(
            f"unknown protocol {protocol!r}; choose 'random', 'blocks' or one of {CONTINENTS}"
        )
    for is_test in tests:
        if is_test.all() or not is_test.any():
            raise ValueError(
                f"protocol {protocol!r} on {len(lonlat)} points leaves {np.sum(~is_test)} for "
                f"training and {np.sum(is_test)} for testing; pass more points or another protocol"
            )
    return [
        Split(
            train=np.flatnonzero(~is_test),
            test=np.flatnonzero(is_test),
            fold_ids=fold_ids[~is_test],
        )
        for is_test in tests
    ]


def _draw_folds(
    groups: Int64[np.ndarray, " num_points"], *, seed: int
) -> Int64[np.ndarray, " num_points"]:
    """Fold of each point, 0 .. NUM_FOLDS - 1; groups stay whole, folds are of about one size."""
    names, group_of_point, counts = np.unique(groups, return_inverse=True, return_counts=True)
    sizes = np.zeros(NUM_FOLDS, dtype=np.int64)
    fold_of_group = np.empty(len(names), dtype=np.int64)
    for group in np.random.default_rng(seed).permutation(len(names)):
        fold_of_group[group] = np.argmin(sizes)  # random groups go to the smallest fold so far
        sizes[fold_of_group[group]] += counts[group]
    return fold_of_group[group_of_point]
