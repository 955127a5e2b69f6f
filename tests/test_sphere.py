"""Locations: uniform over the land's area, and kept together by blocks."""

import numpy as np
import pytest
from scipy.stats import chisquare

from satclip_lib.data.land import is_land, load_land_mask, sample_land_lonlat
from satclip_lib.sphere import (
    EARTH_RADIUS_KM,
    choose_apart,
    chord_to_km,
    compute_block_ids,
    hold_out_blocks,
    lonlat_to_unit_vectors,
)


@pytest.mark.parametrize("include_antarctica", [False, True])
def test_locations_are_on_land_and_uniform_per_area(include_antarctica):
    """Counts in 30-degree cells fit the land area there; Antarctica only on request."""
    lonlat = sample_land_lonlat(30_000, seed=0, include_antarctica=include_antarctica)
    assert is_land(lonlat).all()
    assert (lonlat >= [-180, -90]).all() and (lonlat < [180, 90]).all()
    mask = load_land_mask()
    lat = 90 - (np.arange(len(mask)) + 0.5) * 180 / len(mask)
    weight = np.cos(np.radians(lat)) * ((lat > -60) | include_antarctica)
    area = (mask * weight[:, None]).reshape(6, 720, 12, 720).sum(axis=(1, 3))  # row 0 in the north
    edges = [np.linspace(-90, 90, 7), np.linspace(-180, 180, 13)]
    found = np.histogram2d(lonlat[:, 1], lonlat[:, 0], edges)[0][::-1]
    assert found[area == 0].sum() == 0
    expected = area / area.sum() * len(lonlat)
    common = expected > 20
    assert found[common].sum() > 0.99 * len(lonlat)
    observed = np.append(found[common], found[~common].sum())
    assert chisquare(observed, np.append(expected[common], expected[~common].sum())).pvalue > 0.001


def test_a_shorter_draw_begins_a_longer_one():
    """The first n locations of a longer draw are the draw of n; less than none is refused."""
    longer = sample_land_lonlat(8000, seed=2)
    for num_points in (0, 1, 4000):
        np.testing.assert_array_equal(sample_land_lonlat(num_points, seed=2), longer[:num_points])
    with pytest.raises(ValueError, match="num_points must not be negative, got -1"):
        sample_land_lonlat(-1, seed=0)


def test_blocks_are_counted_from_the_south_west():
    """Rows of 36 blocks from 180 W, 90 S; 180 E is 180 W, and a pole joins the row next to it."""
    lon = np.array([-180, -170, 179.9, -180, 0, -0.1, 180, 0])
    lat = np.array([-90, -90, -90, -80, 0, -0.1, 0, 90])
    blocks = [0, 1, 35, 36, 9 * 36 + 18, 8 * 36 + 17, 9 * 36, 17 * 36 + 18]
    assert compute_block_ids(np.stack([lon, lat], axis=1)).tolist() == blocks
    north = np.array([[-180.0, 69], [-180, 71], [179, 90]])  # 40 degrees leave 20 for the last row
    assert compute_block_ids(north, block_deg=40.0).tolist() == [27, 36, 44]


@pytest.mark.parametrize("block_deg", [2.5, 10.0, 30.0, 180.0])
def test_blocks_of_any_size_tile_the_map(block_deg):
    """A grid finer than the blocks finds each block equally often."""
    step = block_deg / 2
    lon = np.arange(-180 + step / 2, 180, step)
    lat = np.arange(-90 + step / 2, 90, step)
    grid = np.stack(np.meshgrid(lon, lat), axis=-1).reshape(-1, 2)
    counts = np.bincount(compute_block_ids(grid, block_deg=block_deg))
    assert len(counts) == 2 * round(180 / block_deg) ** 2 and (counts == 4).all()


@pytest.mark.parametrize("block_deg", [7.0, 360.0, 0.0, -10.0])
def test_blocks_must_divide_the_map(block_deg):
    """A block size that does not divide 360 degrees is an error that names it."""
    with pytest.raises(ValueError, match="block_deg must"):
        compute_block_ids(np.zeros((1, 2)), block_deg=block_deg)


@pytest.mark.parametrize(
    ("fraction", "block_deg"), [(0.0, 10.0), (0.1, 10.0), (0.2, 30.0), (0.5, 10.0), (1.0, 10.0)]
)
def test_whole_blocks_are_held_out(fraction, block_deg):
    """No block is on both sides, and about the asked share of locations is held out."""
    lonlat = sample_land_lonlat(5000, seed=3)
    held_out = hold_out_blocks(lonlat, fraction=fraction, seed=0, block_deg=block_deg)
    blocks = compute_block_ids(lonlat, block_deg=block_deg)
    assert not np.isin(blocks[held_out], blocks[~held_out]).any()
    largest = np.bincount(blocks).max() / len(lonlat)
    assert fraction <= held_out.mean() < fraction + largest + 1e-9
    for wrong in (-0.1, 1.5):
        with pytest.raises(ValueError, match=f"fraction must be between 0 and 1, got {wrong}"):
            hold_out_blocks(lonlat, fraction=wrong, seed=0)


def test_unit_vectors_point_where_they_should():
    """Axis x goes through 0 E, y through 90 E, z through the pole; angles are haversine's."""
    places = np.array([(0.0, 0.0), (90.0, 0.0), (33.0, 90.0), (180.0, 0.0), (-180.0, 0.0)])
    expected = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (-1, 0, 0), (-1, 0, 0)]
    np.testing.assert_allclose(lonlat_to_unit_vectors(places), expected, atol=1e-15)
    lonlat = sample_land_lonlat(100, seed=5)
    vectors = lonlat_to_unit_vectors(lonlat)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-15)
    chord = np.linalg.norm(vectors[:50] - vectors[50:], axis=1)
    (lon_a, lat_a), (lon_b, lat_b) = np.radians(lonlat[:50]).T, np.radians(lonlat[50:]).T
    haversine = np.sin((lat_a - lat_b) / 2) ** 2
    haversine += np.cos(lat_a) * np.cos(lat_b) * np.sin((lon_a - lon_b) / 2) ** 2
    np.testing.assert_allclose(chord, 2 * np.sqrt(haversine), atol=1e-14)


def test_chords_become_distances():
    """A quarter and half a turn are right, and a chord that rounding made too long is half one."""
    chord = np.array([0.0, np.sqrt(2), 2.0, np.nextafter(2, 3)])
    expected = np.pi * EARTH_RADIUS_KM * np.array([0, 0.5, 1, 1])
    np.testing.assert_allclose(chord_to_km(chord), expected)


def test_the_chosen_lie_apart():
    """Best first; what is near one of them, or has no score, is not chosen."""
    lonlat = np.array([[0.0, 0.0], [0.5, 0.0], [10.0, 0.0], [20.0, 0.0]])
    scores = np.array([0.7, 0.9, 0.8, -np.inf])
    assert choose_apart(lonlat, scores, num_results=4, apart_km=100) == [1, 2]
    assert choose_apart(lonlat, scores, num_results=1, apart_km=100) == [1]
    assert choose_apart(lonlat, scores, num_results=4, apart_km=10) == [1, 2, 0]
