"""Encodings from the literature: their sizes, seams and invariances."""

import numpy as np
import pytest

from satclip_lib.data.land import sample_land_lonlat
from satclip_lib.evaluation import positional
from satclip_lib.evaluation.positional import RADII, WAVES, compute_waves

NUM_WAVES = {
    "Space2Vec grid": 4, "Space2Vec theory": 6, "sphereC": 3, "sphereM": 5, "sphereC+": 6,
    "sphereM+": 8,
}  # fmt: skip
SIZES = {
    positional.encode_raw: 2,
    positional.encode_wrap: 4,
    positional.encode_unit_vector: 3,
    **{WAVES[kind]: count * len(RADII) for kind, count in NUM_WAVES.items()},
}


@pytest.mark.parametrize("encode", SIZES)
def test_size_and_range(encode):
    """Each has its number of features, waves between -1 and 1, for no points too."""
    lonlat = sample_land_lonlat(200, seed=0)
    features = encode(lonlat)
    assert features.shape == (200, SIZES[encode]) and np.isfinite(features).all()
    assert encode is positional.encode_raw or np.abs(features).max() <= 1 + 1e-12
    assert encode(lonlat[:0]).shape == (0, SIZES[encode])


def test_waves_by_hand():
    """One place, one scale at a time, as the papers' formulas say; no wave comes twice."""
    lon, lat = angles = np.radians([30.0, 50.0])
    found = {kind: compute_waves(kind, angles[None])[0] for kind in WAVES}
    for scale in range(16):
        radius = 0.02 ** (scale / 15)
        x, y = lon / radius, lat / radius
        along = (-0.5 * lon + np.sqrt(3) / 2 * lat) / radius
        expected = {
            "sphereC": [np.sin(y), np.cos(y) * np.cos(x), np.cos(y) * np.sin(x)],
            "sphereM": [
                np.sin(y),
                np.cos(y) * np.cos(lon),
                np.cos(lat) * np.cos(x),
                np.cos(y) * np.sin(lon),
                np.cos(lat) * np.sin(x),
            ],
            "Space2Vec grid": [np.sin(x), np.cos(x), np.sin(y), np.cos(y)],
        }
        for kind, waves in expected.items():
            np.testing.assert_allclose(found[kind][:, scale], waves, atol=1e-12)
        theory = found["Space2Vec theory"][2:4, scale]
        np.testing.assert_allclose(theory, [np.sin(along), np.cos(along)], atol=1e-12)
    for kind in ("sphereC", "sphereM"):
        both = np.concatenate([found[kind], found["Space2Vec grid"]])
        assert {*map(tuple, both)} == {*map(tuple, found[f"{kind}+"])}


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
    sphere_c = WAVES["sphereC"](lonlat)[:, :: len(RADII)]
    np.testing.assert_allclose(sphere_c, vectors[:, [2, 0, 1]], atol=1e-12)
