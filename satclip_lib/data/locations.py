"""Locations on the sphere: where to sample, and how to keep neighbours together."""

import numpy as np
from jaxtyping import Bool, Float64, Int64

from satclip_lib.data.blue_marble import is_land

EARTH_RADIUS_KM = 6371.0088  # mean radius, IUGG


def sample_land_lonlat(
    num_points: int, *, seed: int, include_antarctica: bool = False
) -> Float64[np.ndarray, "num_points 2"]:
    """Draw locations uniformly per area over land.

    Points are uniform on the sphere (uniform in longitude and in the sine of latitude); those
    that do not fall on land are dropped. The first n of a longer draw are the draw of n.

    Args:
        num_points: how many locations to return.
        seed: of the draw; the same seed gives the same locations.
        include_antarctica: also sample land south of 60 S.

    Returns:
        ``(num_points, 2)`` longitude in [-180, 180) and latitude in [-90, 90], degrees.

    Raises:
        ValueError: if ``num_points`` is negative.
    """
    if num_points < 0:
        raise ValueError(f"num_points must not be negative, got {num_points}")
    rng = np.random.default_rng(seed)
    lowest_sine = -1.0 if include_antarctica else np.sin(np.radians(-60.0))
    found, num_found = [np.empty((0, 2))], 0
    while num_found < num_points:
        draw = rng.random((10_000, 2))
        sine = lowest_sine + (1 - lowest_sine) * draw[:, 1]
        lonlat = np.stack([360 * draw[:, 0] - 180, np.degrees(np.arcsin(sine))], axis=1)
        found.append(lonlat[is_land(lonlat)])
        num_found += len(found[-1])
    return np.concatenate(found)[:num_points]


def compute_block_ids(
    lonlat: Float64[np.ndarray, "num_points 2"], *, block_deg: float = 10.0
) -> Int64[np.ndarray, " num_points"]:
    """Number of the spatial block, ``block_deg`` by ``block_deg`` degrees, of each location.

    Blocks are counted from 180 W, 90 S, row by row; 180 E is 180 W.

    Raises:
        ValueError: if ``block_deg`` does not divide 180.
    """
    num_rows = round(180 / block_deg) if block_deg > 0 else 0
    if not np.isclose(num_rows * block_deg, 180):
        raise ValueError(f"block_deg must divide 180 degrees, got {block_deg}")
    column = np.floor((lonlat[:, 0] + 180) % 360 / block_deg).astype(np.int64)
    row = np.floor((lonlat[:, 1] + 90) / block_deg).astype(np.int64)
    return np.clip(row, 0, num_rows - 1) * 2 * num_rows + column  # the pole joins the row below


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


def lonlat_to_unit_vectors(
    lonlat: Float64[np.ndarray, "num_points 2"],
) -> Float64[np.ndarray, "num_points 3"]:
    """Points on the unit sphere: x towards (0 E, 0 N), y towards (90 E, 0 N), z to the pole."""
    lon, lat = np.radians(lonlat).T
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


def chord_to_km(
    chord: Float64[np.ndarray, " num_points"] | float,
) -> Float64[np.ndarray, " num_points"] | float:
    """Great-circle distance, on the mean sphere, of points so far apart on the unit sphere.

    Rounding can make the chord between antipodes longer than 2; it counts as 2.
    """
    return 2 * EARTH_RADIUS_KM * np.arcsin(np.minimum(chord / 2, 1))
