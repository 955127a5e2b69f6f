"""Encodings from the literature: their sizes, seams and invariances."""

import numpy as np

from satclip_lib.evaluation import positional
from satclip_lib.evaluation.positional import WAVES, compute_waves


def test_waves_by_hand():
    """One place, one scale at a time, as the papers' formulas say; no wave comes twice."""
    lonlat = np.array([[30.0, 50.0]])
    lon, lat = np.radians(lonlat[0])
    found = {kind: compute_waves(kind, np.radians(lonlat))[0] for kind in WAVES}
    for scale in range(16):
        radius = 0.02 ** (scale / 15)
        x, y = lon / radius, lat / radius
        left, right = (np.sqrt(3) / 2 * sign * y - 0.5 * x for sign in (1, -1))
        expected = {
            "Space2Vec grid": [np.sin(x), np.cos(x), np.sin(y), np.cos(y)],
            "Space2Vec theory": [wave(to) for to in (x, left, right) for wave in (np.sin, np.cos)],
            "sphereC": [np.sin(y), np.cos(y) * np.cos(x), np.cos(y) * np.sin(x)],
            "sphereM": [
                np.sin(y), np.cos(y) * np.cos(lon), np.cos(lat) * np.cos(x),
                np.cos(y) * np.sin(lon), np.cos(lat) * np.sin(x),
            ],
        }  # fmt: skip
        for kind, waves in expected.items():
            np.testing.assert_allclose(found[kind][:, scale], waves, atol=1e-12)
    for kind in ("sphereC", "sphereM"):
        both = {*map(tuple, [*found[kind], *found["Space2Vec grid"]])}
        assert both == {*map(tuple, found[f"{kind}+"])} and len(both) == len(found[f"{kind}+"])
    for kind, encode in WAVES.items():
        np.testing.assert_array_equal(encode(lonlat)[0], found[kind].ravel())
        assert encode(lonlat[:0]).shape == (0, found[kind].size)


def test_wrap_has_no_seam():
    """180 W is 180 E, and the poles coincide, as latitude is doubled."""
    west, east, north, south = positional.encode_wrap(
        np.array([[-180.0, 20.0], [180.0, 20.0], [20.0, 90.0], [20.0, -90.0]])
    )
    np.testing.assert_allclose([west, north], [east, south], atol=1e-12)
    lon, lat = np.pi * 0.3, np.pi * 0.2
    expected = [np.cos(lon), np.cos(lat), np.sin(lon), np.sin(lat)]
    np.testing.assert_allclose(positional.encode_wrap(np.array([[54.0, 18.0]]))[0], expected)
