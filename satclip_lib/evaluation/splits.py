"""Train and test splits, from the flattering to the honest."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.spatial import KDTree

from satclip_lib.data.natural_earth import lookup_regions
from satclip_lib.data.registry import FileUnavailableError
from satclip_lib.sphere import chord_to_km, compute_block_ids, lonlat_to_unit_vectors

NUM_FOLDS = 5
CONTINENTS = ("Africa", "Asia", "Europe", "North America", "Oceania", "South America")
MIN_CONTINENT_POINTS = 10  # of a continent that "continents" holds out
MAX_SHOTS_PERCENT = 10  # of a held-out continent, set aside for training; the rest is tested
NOWHERE = "none"  # the continent of points far from all land


class SplitError(ValueError):
    """The points of a task cannot be divided in this way."""


@dataclass(frozen=True, eq=False)
class Split:
    """One division of points; no row, and no place, is on both sides.

    Attributes:
        name: Name of the part that is tested: "fold 1" or a continent.
        train: Row numbers of the training points.
        test: Row numbers of the test points.
        fold_ids: Fold of each training point, for choosing hyper-parameters. Folds are made as
            the split is: of single places, of whole blocks, or of the other continents.
    """

    name: str
    train: Int64[np.ndarray, " num_train"]
    test: Int64[np.ndarray, " num_test"]
    fold_ids: Int64[np.ndarray, " num_train"]


def make_splits(
    protocol: str,
    lonlat: Float64[np.ndarray, "num_points 2"],
    *,
    seed: int = 0,
    block_deg: float = 10.0,
    random_inner_folds: bool = False,
) -> list[Split]:
    """Divide points into training and test points.

    Args:
        protocol: Name of the protocol.

            - ``"random"``: five folds of places; a test point has training points next door.
            - ``"blocks"``: five folds of whole blocks of ``block_deg``; ``"blocks@40"``: of 40
              degrees, so that labels are farther away.
            - ``"Africa"`` or another of ``CONTINENTS``: train on all others and test there.
            - ``"continents"``: the same for every continent with 10 points or more, one split each.
            - ``"Africa+5%"``, ``"continents+1%"``: 5 % of the held-out continent's points, drawn
              at random, join the training points. Those not among the first 10 % of the draw are
              tested, so that ``+0%`` to ``+10%`` are tested at the same points, and the shots of
              a smaller share are among those of a larger one.
            - ``"blocks:300"``: any of these with only 300 of the training points, for learning
              curves; a smaller number takes some of the points of a larger one.
        lonlat: Longitude and latitude of all points in degrees, ``(num_points, 2)``.
        seed: Random seed for drawing folds, shots and labels.
        block_deg: Side of the blocks of "blocks", degrees.
        random_inner_folds: Whether hyper-parameters are chosen on random folds of the training
            points where continents are held out. If no two continents share classes, folds of
            whole continents would favour the strongest penalty.

    Returns:
        One or more splits. Over the splits of a protocol no point is tested twice.

    Raises:
        ValueError: If the protocol is unknown.
        SplitError: If a side of a split would be empty, its training points would be in one fold,
            "continents" finds fewer than two, or the outlines of the continents are not there.
    """
    base, shots_percent, num_labels, side_deg = parse_protocol(protocol)
    if base in ("random", "blocks"):
        groups = _number_places(lonlat)
        if base == "blocks":
            groups = compute_block_ids(lonlat, block_deg=side_deg or block_deg)
        fold_ids = _draw_folds(groups, seed=seed)
        tests = {f"fold {fold + 1}": fold_ids == fold for fold in range(NUM_FOLDS)}
    else:
        continents = _lookup_continents(lonlat)
        fold_ids = np.unique(continents, return_inverse=True)[1]
        if random_inner_folds:
            fold_ids = _draw_folds(_number_places(lonlat), seed=seed)
        held_out = [base] if base in CONTINENTS else _list_continents(continents)
        tests = {name: continents == name for name in held_out}
    splits = []
    for name, is_test in tests.items():
        is_train = ~is_test
        if shots_percent is not None:
            is_train, is_test = _add_shots(is_test, lonlat, percent=shots_percent, seed=seed)
        if not (is_train.any() and is_test.any()):
            raise SplitError(
                f"protocol {protocol!r} on {len(lonlat)} points leaves {np.sum(is_train)} for "
                f"training and {np.sum(is_test)} for testing; pass more points or another protocol"
            )
        train = np.flatnonzero(is_train)
        if num_labels is not None:
            train = np.sort(np.random.default_rng(seed).permutation(train)[:num_labels])
        if len(np.unique(fold_ids[train])) < 2:
            raise SplitError(
                f"protocol {protocol!r} on {len(lonlat)} points leaves {len(train)} for training, "
                f"all in one fold, when {name} is tested; hyper-parameters are chosen on two or "
                "more: pass points in more regions, more labels or another protocol"
            )
        splits.append(Split(name, train, np.flatnonzero(is_test), fold_ids[train]))
    return splits


class Protocol(NamedTuple):
    """The parts of a protocol's name.

    Attributes:
        base: "random", "blocks", "continents" or a continent.
        shots_percent: Share of a held-out continent that joins the training points, or None.
        num_labels: Number of training points, or None for all.
        block_deg: Side of the blocks, degrees, or None for that of the task.
    """

    base: str
    shots_percent: float | None = None
    num_labels: int | None = None
    block_deg: float | None = None

    @property
    def has_continents(self) -> bool:
        """Whether continents are held out."""
        return self.base not in ("random", "blocks")


def parse_protocol(protocol: str) -> Protocol:
    """Split "Africa+5%:300" or "blocks@40" into its parts.

    Raises:
        ValueError: If it is none of the protocols of :func:`make_splits`.
    """
    bases = ("random", "blocks", "continents", *CONTINENTS)
    number = r"(\d+(?:\.\d+)?)"
    match = re.fullmatch(rf"([\w ]+?)(?:@{number})?(?:\+{number}%)?(?::(\d+))?", protocol)
    if not match or match[1] not in bases:
        raise ValueError(
            f"unknown protocol {protocol!r}; choose 'random', 'blocks', 'continents' or one of "
            f"{CONTINENTS}, with '@40' for blocks of 40 degrees, '+1%' for shots of a continent "
            "and ':300' for fewer labels"
        )
    block_deg, shots = (None if part is None else float(part) for part in match.group(2, 3))
    parsed = Protocol(match[1], shots, None if match[4] is None else int(match[4]), block_deg)
    if shots is not None and not parsed.has_continents:
        raise ValueError(f"protocol {protocol!r}: only held-out continents have shots")
    if shots is not None and shots > MAX_SHOTS_PERCENT:
        raise ValueError(
            f"protocol {protocol!r}: at most {MAX_SHOTS_PERCENT} % can join the training points"
        )
    if block_deg is not None and parsed.base != "blocks":
        raise ValueError(f"protocol {protocol!r}: only blocks have a side, as in 'blocks@40'")
    return parsed


def compute_label_distance_km(
    splits: Sequence[Split], lonlat: Float64[np.ndarray, "num_points 2"]
) -> Float64[np.ndarray, " num_test"]:
    """Great-circle distance from each test point to the nearest training point of its split.

    Args:
        splits: Splits of the points.
        lonlat: Longitude and latitude of all points in degrees, ``(num_points, 2)``.

    Returns:
        Kilometres in the order of the splits: test points of ``splits[0]`` first.
    """
    vectors = lonlat_to_unit_vectors(lonlat)
    nearest = [KDTree(vectors[s.train]).query(vectors[s.test])[0] for s in splits]
    return chord_to_km(np.concatenate(nearest))


def _lookup_continents(lonlat: np.ndarray) -> np.ndarray:
    try:
        return lookup_regions(lonlat).continent.fillna(NOWHERE).to_numpy(dtype=str)
    except FileUnavailableError as error:
        raise SplitError(f"continents cannot be told apart: {error}") from error


def _list_continents(continents: np.ndarray) -> list[str]:
    present = [name for name in CONTINENTS if np.sum(continents == name) >= MIN_CONTINENT_POINTS]
    if len(present) < 2:
        raise SplitError(
            f"protocol 'continents' needs points on at least two continents, these are on "
            f"{', '.join(present) or 'none'}"
        )
    return present


def _add_shots(
    on_continent: Bool[np.ndarray, " num_points"], lonlat: np.ndarray, *, percent: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Training and test points with shots: whole places, in one order for all percentages."""
    rows = np.flatnonzero(on_continent)
    place = _number_places(lonlat[rows])
    order = np.random.default_rng(seed).permutation(place.max(initial=-1) + 1)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    share = (rank[place] + 1) * 100 / max(len(order), 1)  # per cent, in the order of the draw
    is_train, is_test = ~on_continent, np.zeros_like(on_continent)
    is_train[rows[share <= percent]] = True
    is_test[rows[share > MAX_SHOTS_PERCENT]] = True
    return is_train, is_test


def _number_places(lonlat: np.ndarray) -> Int64[np.ndarray, " num_points"]:
    """A number for each place: points with the same coordinates are one place."""
    wrapped = np.stack([(lonlat[:, 0] + 180) % 360, lonlat[:, 1]], axis=1)
    places = np.unique(wrapped.round(9), axis=0, return_inverse=True)[1]  # 0.1 mm
    return places.reshape(-1)


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
