"""Encodings from the literature: their sizes, seams and invariances."""

import numpy as np
import pytest

from satclip_lib.data.land import sample_land_lonlat
from satclip_lib.evaluation import positional
from satclip_lib.evaluation.positional import MAX_RADIUS, MIN_RADIUS, NUM_SCALES

SIZES = {
    positional.encode_raw: 2,
    positional.encode_wrap: 4,
    positional.encode_unit_vector: 3,
    positional.encode_space2vec_grid: 4 * NUM_SCALES,
    positional.encode_space2vec_theory: 6 * NUM_SCALES,
    positional.encode_sphere_c: 3 * NUM_SCALES,
    positional.encode_sphere_m: 5 * NUM_SCALES,
    positional.encode_sphere_c_plus: 7 * NUM_SCALES,
    positional.encode_sphere_m_plus: 9 * NUM_SCALES,
}


@pytest.mark.parametrize("encode", SIZES, ids=lambda encode: encode.__name__)
def test_size_and_range(encode):
    """Each has its number of features, waves between -1 and 1, for no points too."""
    lonlat = sample_land_lonlat(200, seed=0)
    features = encode(lonlat)
    assert features.shape == (200, SIZES[encode]) and np.isfinite(features).all()
    assert encode is positional.encode_raw or np.abs(features).max() <= 1 + 1e-12
    assert encode(lonlat[:0]).shape == (0, SIZES[encode])


def test_waves_by_hand():
    """One place, one scale at a time, as the papers' formulas say."""
    lonlat = np.array([[30.0, 50.0]])
    lon, lat = np.radians([30.0, 50.0])
    radii = [MAX_RADIUS * (MIN_RADIUS / MAX_RADIUS) ** (s / (NUM_SCALES - 1)) for s in range(16)]
    sphere_c = positional.encode_sphere_c(lonlat)[0].reshape(3, NUM_SCALES)
    sphere_m = positional.encode_sphere_m(lonlat)[0].reshape(5, NUM_SCALES)
    theory = positional.encode_space2vec_theory(lonlat)[0].reshape(6, NUM_SCALES)
    for scale, radius in enumerate(radii):
        x, y = lon / radius, lat / radius
        expected = [np.sin(y), np.cos(y) * np.cos(x), np.cos(y) * np.sin(x)]
        np.testing.assert_allclose(sphere_c[:, scale], expected, atol=1e-12)
        expected = [
            np.sin(y),
            np.cos(y) * np.cos(lon),
            np.cos(lat) * np.cos(x),
            np.cos(y) * np.sin(lon),
            np.cos(lat) * np.sin(x),
        ]
        np.testing.assert_allclose(sphere_m[:, scale], expected, atol=1e-12)
        along = -0.5 * lon + np.sqrt(3) / 2 * lat
        np.testing.assert_allclose(theory[2, scale], np.sin(along / radius), atol=1e-12)
        np.testing.assert_allclose(theory[3, scale], np.cos(along / radius), atol=1e-12)


def test_wrap_and_unit_vectors_have_no_seam():
    """180 W is 180 E, wrap's poles coincide, and the first scale of sphereC is the unit vector."""
    west, east = np.array([[-180.0, 20.0]]), np.array([[180.0, 20.0]])
    for encode in (positional.encode_wrap, positional.encode_unit_vector):
        np.testing.assert_allclose(encode(west), encode(east), atol=1e-12)
    north, south = np.array([[20.0, 90.0]]), np.array([[20.0, -90.0]])
    np.testing.assert_allclose(
        positional.encode_wrap(north), positional.encode_wrap(south), atol=1e-12
    )
    lonlat = sample_land_lonlat(50, seed=0)
    vectors = positional.encode_unit_vector(lonlat)
    sphere_c = positional.encode_sphere_c(lonlat)[:, ::NUM_SCALES]
    np.testing.assert_allclose(sphere_c, vectors[:, [2, 0, 1]], atol=1e-12)
