"""Geometry on the sphere: checked locations, unit vectors, distances, blocks, equal-area points."""

from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64

from satclip_lib.spherical_harmonics import check_lonlat

EARTH_RADIUS_KM = 6371.0088  # mean radius, IUGG
METRES_PER_DEG = 111_195.0  # along a meridian
MAX_LONGITUDE_DEG = 540  # longitudes up to this can be wrapped

Missing = Literal["raise", "propagate"]


def check_locations(
    lonlat: Float64[np.ndarray, "num_points 2"],
    *,
    missing: Missing = "raise",
    wrap_longitude: bool = False,
) -> tuple[Float64[np.ndarray, "num_known 2"], Bool[np.ndarray, " num_points"]]:
    """Raise an error unless these are longitudes and latitudes in degrees, in this order.

    Args:
        lonlat: Locations, ``(num_points, 2)``.
        missing: Treatment of NaN: "raise" makes it an error, "propagate" leaves the location out.
        wrap_longitude: Whether longitudes from -540 to 540, at most one turn too far, are brought
            into [-180, 180]. Numbers beyond that are probably missing values or other units, and
            are an error.

    Returns:
        The known locations, ``(num_known, 2)``, and a mask that is True for them in ``lonlat``.

    Raises:
        ValueError: If a row is no location. The message names the first such row and what to
            change.
    """
    if missing not in get_args(Missing):
        raise ValueError(f"missing must be one of {get_args(Missing)}, got {missing!r}")
    if lonlat.ndim != 2 or lonlat.shape[1] != 2:
        raise ValueError(f"lonlat must have shape (num_points, 2), got {lonlat.shape}")
    is_known = ~np.isnan(lonlat).any(axis=1)
    if missing == "raise":
        _refuse(
            ~is_known,
            "locations hold NaN",
            "drop them, or pass missing='propagate' to get NaN embeddings for them",
        )
    is_infinite = np.isinf(lonlat).any(axis=1)
    _refuse(is_infinite, "locations are infinite", "drop them; they may lie outside of their CRS")
    if wrap_longitude:
        with np.errstate(invalid="ignore"):  # NaN compares as False
            beyond = np.abs(lonlat[:, 0]) > MAX_LONGITUDE_DEG
        _refuse(
            beyond,
            f"longitudes lie beyond {MAX_LONGITUDE_DEG} degrees",
            "such numbers mark missing values or are not degrees; replace or convert them",
        )
        lonlat = wrap_lonlat(lonlat)
    lonlat = lonlat[is_known]
    try:
        check_lonlat(torch.from_numpy(np.ascontiguousarray(lonlat, dtype=np.float64)))
    except ValueError as error:
        hint = (
            "" if wrap_longitude or "longitudes" not in str(error) else "; or wrap_longitude=True"
        )
        raise ValueError(f"{error}{hint}") from None
    return lonlat, is_known


def wrap_lonlat(
    lonlat: Float64[np.ndarray, "num_points 2"],
) -> Float64[np.ndarray, "num_points 2"]:
    """Bring longitudes into [-180, 180]; those inside stay as they are, 180 too."""
    if lonlat.ndim != 2 or lonlat.shape[1] != 2:
        raise ValueError(f"lonlat must have shape (num_points, 2), got {lonlat.shape}")
    with np.errstate(invalid="ignore"):  # infinity has no remainder
        outside = np.abs(lonlat[:, 0]) > 180
        wrapped = (lonlat[:, 0] + 180) % 360 - 180
    lon = np.where(outside, wrapped, lonlat[:, 0])
    return np.stack([lon, lonlat[:, 1]], axis=1)


def lonlat_to_unit_vectors(
    lonlat: Float64[np.ndarray, "num_points 2"],
) -> Float64[np.ndarray, "num_points 3"]:
    """Points on the unit sphere: x towards (0 E, 0 N), y towards (90 E, 0 N), z to the pole."""
    lon, lat = np.radians(lonlat).T
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


def chord_to_km(
    chord: Float64[np.ndarray, " num_points"] | float,
) -> Float64[np.ndarray, " num_points"] | float:
    """Great-circle distance in km from the straight distance (chord) on the unit sphere.

    Rounding can make the chord between antipodes longer than 2; it counts as 2.
    """
    return 2 * EARTH_RADIUS_KM * np.arcsin(np.minimum(chord / 2, 1))


def compute_distance_km(
    lonlat: Float64[np.ndarray, "num_points 2"], other: Float64[np.ndarray, "num_others 2"]
) -> Float64[np.ndarray, " num_points"]:
    """Great-circle distance in km from each location to the one in the same row of ``other``.

    If ``other`` has one row, ``(1, 2)``, the distances of all locations are to this one.
    """
    a, b = lonlat_to_unit_vectors(lonlat), lonlat_to_unit_vectors(other)
    # the tangent is exact at all angles; the cosine is not near 0 degrees, the sine not near 90
    angle = np.arctan2(np.linalg.norm(np.cross(a, b), axis=1), (a * b).sum(axis=1))
    return EARTH_RADIUS_KM * angle


def choose_apart(
    lonlat: Float64[np.ndarray, "num_points 2"],
    scores: Float[np.ndarray, " num_points"],
    *,
    num_results: int,
    apart_km: float | int,
) -> list[int]:
    """Rows of the highest scores, best first, each location far from those before.

    Args:
        lonlat: Longitude, latitude in degrees.
        scores: One score per location; minus infinity is never chosen.
        num_results: Number of rows at most; fewer if no location is left.
        apart_km: Least distance between any two, kilometres.
    """
    left, rows = scores.copy(), []
    while len(rows) < num_results and left.max(initial=-np.inf) > -np.inf:
        rows.append(int(left.argmax()))
        left[compute_distance_km(lonlat, lonlat[rows[-1:]]) < apart_km] = -np.inf
        left[rows[-1]] = -np.inf
    return rows


def make_equal_area_lonlat(num_points: int) -> Float64[np.ndarray, "num_points 2"]:
    """Points of equal area on the sphere, ``(num_points, 2)`` degrees, from north to south.

    They lie on a spiral, with the golden angle in longitude between one and the next.

    References:
        González (2010), Measurement of areas on a sphere using Fibonacci and latitude-longitude
        lattices, Mathematical Geosciences 42, doi:10.1007/s11004-009-9257-x.
    """
    if num_points < 1:
        raise ValueError(f"num_points must be at least 1, got {num_points}")
    index = np.arange(num_points)
    lat = np.degrees(np.arcsin(1 - (2 * index + 1) / num_points))
    turns = index * (3 - np.sqrt(5)) / 2
    return np.stack([360 * (turns % 1) - 180, lat], axis=1)


def compute_block_ids(
    lonlat: Float64[np.ndarray, "num_points 2"], *, block_deg: float = 10.0
) -> Int64[np.ndarray, " num_points"]:
    """Index of the spatial block, ``block_deg`` by ``block_deg`` degrees, of each location.

    Blocks are counted from 180 W, 90 S, row by row; 180 E is 180 W. Where ``block_deg`` divides
    360 but not 180, as 40 does, blocks of the northernmost row span fewer degrees of latitude.

    Raises:
        ValueError: If ``block_deg`` does not divide 360, or is more than 180.
    """
    num_columns = round(360 / block_deg) if block_deg > 0 else 0
    if num_columns < 2 or not np.isclose(num_columns * block_deg, 360):
        raise ValueError(f"block_deg must divide 360 degrees, got {block_deg}")
    num_rows = (num_columns + 1) // 2
    column = np.floor((lonlat[:, 0] + 180) % 360 / block_deg).astype(np.int64)
    row = np.floor((lonlat[:, 1] + 90) / block_deg).astype(np.int64)
    return np.clip(row, 0, num_rows - 1) * num_columns + column  # the pole joins the row below


def hold_out_blocks(
    lonlat: Float64[np.ndarray, "num_points 2"],
    *,
    fraction: float,
    seed: int,
    block_deg: float = 10.0,
) -> Bool[np.ndarray, " num_points"]:
    """True for the locations of randomly chosen whole blocks that hold about ``fraction`` of all.

    Blocks are taken in random order until ``fraction`` of the locations is reached. Neighbours
    within a block are therefore never on both sides, as they are in a random split.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must be between 0 and 1, got {fraction}")
    blocks, block_of_point, counts = np.unique(
        compute_block_ids(lonlat, block_deg=block_deg), return_inverse=True, return_counts=True
    )
    order = np.random.default_rng(seed).permutation(len(blocks))
    before = np.cumsum(counts[order]) - counts[order]  # points already held out, per block
    return np.isin(block_of_point, order[before < fraction * len(lonlat)])


def _refuse(is_bad: Bool[np.ndarray, " num_points"], problem: str, advice: str) -> None:
    if is_bad.any():
        raise ValueError(
            f"{is_bad.sum()} of {len(is_bad)} {problem} (row {np.argmax(is_bad)} first): {advice}"
        )
