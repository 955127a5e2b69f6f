"""One place for each geometry, on the sphere: no seam at 180 degrees and no hole at the poles."""

import numpy as np
import shapely
from jaxtyping import Float64, Int, Shaped

from satclip_lib.sphere import lonlat_to_unit_vectors

STEP_DEG = 1.0  # edges are straight in degrees; shorter pieces are nearly so on the sphere
FLAT = 1e-12  # area over squared perimeter; what has less, has area by rounding only


def compute_centres(
    geometries: Shaped[np.ndarray, " num_geometries"],
) -> Float64[np.ndarray, "num_geometries 2"]:
    """Centre of mass of each geometry on the sphere, brought back to its surface.

    Areas count where there are any, else lengths, else points; a polygon without area is a line.
    An edge between longitudes more than 180 degrees apart, such as 179 and -179, takes the shorter
    way around.

    Args:
        geometries: Shapely geometries in degrees, longitude first.

    Returns:
        Longitude and latitude, degrees; NaN where a geometry is missing or empty, or has no centre,
        such as the whole globe or the equator.
    """
    parts, row = shapely.get_parts(geometries, return_index=True)
    parts, of_part = shapely.get_parts(parts, return_index=True)  # of parts of collections
    row, dimension = row[of_part], shapely.get_dimensions(parts)
    dimension -= (dimension == 2) & (shapely.area(parts) <= FLAT * shapely.length(parts) ** 2)
    parts, row, dimension = (x[~shapely.is_empty(parts)] for x in (parts, row, dimension))
    highest = np.full(len(geometries), -1)
    np.maximum.at(highest, row, dimension)
    moments = np.zeros((len(geometries), 3))
    for number, measure in enumerate((_measure_points, _measure_lines, _measure_polygons)):
        chosen = (dimension == number) & (highest[row] == number)
        np.add.at(moments, row[chosen], measure(parts[chosen]))
    length = np.linalg.norm(moments, axis=1)
    x, y, z = (moments / np.where(length > 1e-300, length, np.nan)[:, None]).T
    centres = np.degrees(np.stack([np.arctan2(y, x), np.arctan2(z, np.hypot(x, y))], axis=1))
    size = np.where(highest == 1, shapely.length(geometries), shapely.area(geometries))
    size[highest == 0] = np.inf
    centres[(length < 1e-9) & (size > 1)] = np.nan  # all around the globe
    return centres


def _measure_points(points: np.ndarray) -> Float64[np.ndarray, "num_points 3"]:
    return lonlat_to_unit_vectors(shapely.get_coordinates(points))


def _measure_lines(lines: np.ndarray) -> Float64[np.ndarray, "num_lines 3"]:
    """Integral of the unit vector along each line."""
    start, end, row = _list_edges(lines)
    moments = np.zeros((len(lines), 3))
    np.add.at(moments, row, (start + end) / 2 * np.linalg.norm(end - start, axis=1)[:, None])
    return moments


def _measure_polygons(polygons: np.ndarray) -> Float64[np.ndarray, "num_polygons 3"]:
    r"""Integral of the unit vector over each polygon.

    By Stokes' theorem it is half the sum, over the edges, of :math:`\theta / \sin\theta` times
    the cross product of the ends, :math:`\theta` their angle. Cross products are taken from the
    middle of the ring, so that those of a small field do not cancel.
    """
    rings, polygon = shapely.get_rings(polygons, return_index=True)
    start, end, row = _list_edges(rings)
    middle = np.zeros((len(rings), 3))
    np.add.at(middle, row, start)
    middle /= np.maximum(np.bincount(row, minlength=len(rings)), 1)[:, None]
    angle = 2 * np.arcsin(np.minimum(np.linalg.norm(end - start, axis=1) / 2, 1))
    excess = np.where(angle < 1e-2, angle**2 / 6, angle / np.sin(np.maximum(angle, 1e-2)) - 1)
    moments = np.zeros((len(rings), 3))
    np.add.at(moments, row, np.cross(start - middle[row], end - middle[row]) / 2)
    np.add.at(moments, row, np.cross(start, end) / 2 * excess[:, None])
    outwards = np.sign((moments * middle).sum(axis=1))  # whichever way round the ring is written
    is_hole = np.diff(polygon, prepend=-1) == 0
    total = np.zeros((len(polygons), 3))
    np.add.at(total, polygon, moments * np.where(is_hole, -outwards, outwards)[:, None])
    return total


def _list_edges(
    lines: np.ndarray,
) -> tuple[
    Float64[np.ndarray, "num_edges 3"],
    Float64[np.ndarray, "num_edges 3"],
    Int[np.ndarray, " num_edges"],
]:
    """Both ends of every edge, cut into short steps, as unit vectors, and the line it is of."""
    lonlat, line = shapely.get_coordinates(lines, return_index=True)
    is_edge = line[1:] == line[:-1]
    start, step = lonlat[:-1][is_edge], np.diff(lonlat, axis=0)[is_edge]
    across = (np.abs(step[:, 0]) > 180) & (np.abs(step[:, 0]) < 360)
    step[across, 0] -= 360 * np.sign(step[across, 0])
    count = np.maximum(np.ceil(np.abs(step).max(axis=1, initial=0) / STEP_DEG), 1).astype(int)
    edge = np.repeat(np.arange(len(count)), count)
    index = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    steps = [
        lonlat_to_unit_vectors(start[edge] + step[edge] * ((index + ahead) / count[edge])[:, None])
        for ahead in (0, 1)
    ]
    return steps[0], steps[1], line[:-1][is_edge][edge]
