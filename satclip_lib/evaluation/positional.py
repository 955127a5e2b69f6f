"""Location encoders without parameters: waves of longitude and latitude, from the literature.

All take ``(num_points, 2)`` longitude and latitude in degrees. The multi-scale ones divide the
angles (in radians) by ``num_scales`` radii, ``max_radius`` down to ``min_radius`` in a geometric
sequence. A radius of 1 goes round the Earth once; 1/50 is a wavelength of 7.2 degrees, about
the distance over which a few thousand training points can still tell waves apart.
"""

import numpy as np
from jaxtyping import Float64

from satclip_lib.sphere import lonlat_to_unit_vectors

NUM_SCALES = 16
MAX_RADIUS, MIN_RADIUS = 1.0, 0.02

LonLat = Float64[np.ndarray, "num_points 2"]
Features = Float64[np.ndarray, "num_points num_features"]


def encode_raw(lonlat: LonLat) -> Features:
    """Longitude and latitude as they are, with a tear at the date line."""
    return lonlat


def encode_wrap(lonlat: LonLat) -> Features:
    """Cosine and sine of longitude, then of latitude.

    Both are one turn, so that the poles coincide, as in Mac Aodha et al. (2019), arXiv 1906.05272.
    """
    angles = np.pi * lonlat / [180.0, 90.0]
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)


def encode_unit_vector(lonlat: LonLat) -> Features:
    """The point on the unit sphere, x y z."""
    return lonlat_to_unit_vectors(lonlat)


def encode_space2vec_grid(lonlat: LonLat) -> Features:
    """Sine and cosine of both angles at every scale; Mai et al. (2020), arXiv 2003.00824."""
    scaled = _divide_by_scales(np.radians(lonlat))  # (num_points, 2, num_scales)
    return _flatten(np.sin(scaled[:, 0]), np.cos(scaled[:, 0]), np.sin(scaled[:, 1]),
                    np.cos(scaled[:, 1]))  # fmt: skip


def encode_space2vec_theory(lonlat: LonLat) -> Features:
    """The same along three directions 120 degrees apart; Mai et al. (2020), arXiv 2003.00824."""
    directions = np.array([[1.0, 0.0], [-0.5, np.sqrt(0.75)], [-0.5, -np.sqrt(0.75)]])
    scaled = _divide_by_scales(np.radians(lonlat) @ directions.T)  # (num_points, 3, num_scales)
    return _flatten(*(wave(scaled[:, axis]) for axis in range(3) for wave in (np.sin, np.cos)))


def encode_sphere_c(lonlat: LonLat) -> Features:
    """Unit vectors of scaled angles: sphereC of Mai et al. (2023), arXiv 2306.17624."""
    lon, lat = _split_angles(lonlat)
    return _flatten(np.sin(lat), np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon))


def encode_sphere_m(lonlat: LonLat) -> Features:
    """Unit vectors with one angle scaled at a time: sphereM of Mai et al. (2023)."""
    lon, lat = _split_angles(lonlat)
    lon_once, lat_once = np.radians(lonlat).T[:, :, None]  # (num_points, 1) each
    return _flatten(
        np.sin(lat),
        np.cos(lat) * np.cos(lon_once),
        np.cos(lat_once) * np.cos(lon),
        np.cos(lat) * np.sin(lon_once),
        np.cos(lat_once) * np.sin(lon),
    )


def encode_sphere_c_plus(lonlat: LonLat) -> Features:
    """The features of sphereC and of Space2Vec's grid."""
    return np.concatenate([encode_sphere_c(lonlat), encode_space2vec_grid(lonlat)], axis=1)


def encode_sphere_m_plus(lonlat: LonLat) -> Features:
    """The features of sphereM and of Space2Vec's grid."""
    return np.concatenate([encode_sphere_m(lonlat), encode_space2vec_grid(lonlat)], axis=1)


def _split_angles(lonlat: np.ndarray) -> np.ndarray:
    return _divide_by_scales(np.radians(lonlat)).transpose(1, 0, 2)  # (2, num_points, num_scales)


def _divide_by_scales(angles: np.ndarray) -> np.ndarray:
    return angles[:, :, None] / np.geomspace(MAX_RADIUS, MIN_RADIUS, NUM_SCALES)


def _flatten(*parts: np.ndarray) -> np.ndarray:
    return np.concatenate(parts, axis=1)
