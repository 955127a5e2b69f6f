"""Location encoders without parameters: waves of longitude and latitude, from the literature.

The multi-scale ones divide both angles by several radii. For angles in radians, a radius of 1 is a
wavelength of 360 degrees, and 1/50 is one of 7.2 degrees; shorter waves could not be told apart by
a few thousand training points.
"""

from functools import partial

import numpy as np
from jaxtyping import Float64

from satclip_lib.sphere import lonlat_to_unit_vectors as encode_unit_vector  # noqa: F401

RADII = np.geomspace(1.0, 0.02, 16)

LonLat = Float64[np.ndarray, "num_points 2"]
Features = Float64[np.ndarray, "num_points num_features"]


def encode_raw(lonlat: LonLat) -> Features:
    """Longitude and latitude as they are, degrees, with a jump at the date line."""
    return lonlat


def encode_wrap(lonlat: LonLat) -> Features:
    """Cosines of longitude and latitude, then their sines.

    Latitude is doubled, so the poles coincide, as in Mac Aodha et al. (2019), arXiv 1906.05272.
    """
    angles = np.pi * lonlat / [180.0, 90.0]
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)


def compute_waves(
    kind: str, angles: LonLat, radii: Float64[np.ndarray, " num_scales"] = RADII
) -> Float64[np.ndarray, "num_points num_waves num_scales"]:
    """Sines and cosines of both angles at every scale.

    Args:
        kind: One of ``WAVES``.
        angles: Longitude and latitude, ``(num_points, 2)``.
        radii: Numbers that the angles are divided by.

    Returns:
        ``(num_points, num_waves, num_scales)``, waves in this order. x and y are longitude and
        latitude divided by the radius, and x^ and y^ are not divided:

        - "Space2Vec grid": sin x, cos x, sin y, cos y.
        - "Space2Vec theory": sine and cosine along each of three directions 120 degrees apart.
        - "sphereC": sin y, cos y cos x, cos y sin x; the unit vector of scaled angles.
        - "sphereM": sin y, cos y cos x^, cos y^ cos x, cos y sin x^, cos y^ sin x.
        - "sphereC+", "sphereM+": the waves of sphereC or sphereM and of Space2Vec's grid, each
          once.

    References:
        Mai et al. (2020), arXiv 2003.00824, for Space2Vec; Mai et al. (2023), arXiv 2306.17624,
        for the sphere.
    """
    if kind == "Space2Vec theory":
        directions = np.array([[1.0, 0.0], [-0.5, np.sqrt(0.75)], [-0.5, -np.sqrt(0.75)]])
        along = (angles @ directions.T)[:, :, None] / radii  # (num_points, 3, num_scales)
        waves = [wave(along[:, axis]) for axis in range(3) for wave in (np.sin, np.cos)]
    else:
        x, y = (angles[:, [axis]] / radii for axis in (0, 1))
        sin_x, cos_x, sin_y, cos_y = np.sin(x), np.cos(x), np.sin(y), np.cos(y)
        sin_lon, cos_lon = np.sin(angles[:, :1]), np.cos(angles[:, :1])
        cos_lat = np.cos(angles[:, 1:])
        sphere_m = [sin_y, cos_y * cos_lon, cos_lat * cos_x, cos_y * sin_lon, cos_lat * sin_x]
        waves = {
            "Space2Vec grid": [sin_x, cos_x, sin_y, cos_y],
            "sphereC": [sin_y, cos_y * cos_x, cos_y * sin_x],
            "sphereM": sphere_m,
            "sphereC+": [sin_y, cos_y, sin_x, cos_x, cos_y * cos_x, cos_y * sin_x],
            "sphereM+": [*sphere_m, cos_y, sin_x, cos_x],
        }[kind]
    return np.stack(waves, axis=1)


def _encode_waves(lonlat: LonLat, kind: str) -> Features:
    waves = compute_waves(kind, np.radians(lonlat))
    return waves.reshape(len(waves), waves.shape[1] * waves.shape[2])


WAVES = {
    kind: partial(_encode_waves, kind=kind)
    for kind in (
        "Space2Vec grid", "Space2Vec theory", "sphereC", "sphereM", "sphereC+", "sphereM+",
    )
}  # fmt: skip
