"""Geometries have one place on the sphere, wherever 180 degrees and the poles are."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import LineString, MultiPoint, MultiPolygon, Point, Polygon, box

from satclip_lib.embedding.geometries import compute_centres
from satclip_lib.sphere import compute_distance_km

FIJI = MultiPolygon([box(177, -18.5, 180, -16), box(-180, -18.5, -178, -16)])


def _find_centre(*geometries):
    """The mean of unit vectors over a fine grid of points within, each weighed by its area."""
    total = np.zeros(3)
    for geometry in geometries:
        west, south, east, north = geometry.bounds
        lon, lat = np.meshgrid(
            west + (np.arange(600) + 0.5) * (east - west) / 600,
            south + (np.arange(600) + 0.5) * (north - south) / 600,
        )
        inside = shapely.contains_xy(geometry, lon, lat)
        lon, lat = np.radians(lon[inside]), np.radians(lat[inside])
        weight = np.cos(lat) * (east - west) * (north - south)
        vectors = [np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)]
        total += [(v * weight).sum() for v in vectors]
    x, y, z = total
    return np.degrees([np.arctan2(y, x), np.arctan2(z, np.hypot(x, y))])


def _compute(*geometries):
    return compute_centres(np.array(geometries, dtype=object))


@pytest.mark.parametrize(
    ("geometry", "parts"),
    [
        (FIJI, FIJI.geoms),
        (Polygon([(178, -19), (-178, -19), (-178, -16), (178, -16)]), [box(178, -19, 182, -16)]),
        (box(178, -19, 182, -16), [box(178, -19, 182, -16)]),
        (box(-20, 40, 60, 75), [box(-20, 40, 60, 75)]),
        (Polygon([(0, 0), (0, 30), (40, 30), (40, 20), (10, 20), (10, 0)]), None),
        (box(0, 0, 10, 10).difference(box(1, 1, 2, 9)), None),
        (
            Polygon([(-180, -90), (180, -90), (180, -80), (90, -65), (-60, -70), (-180, -80)]),
            None,
        ),
    ],
    ids=["Fiji", "uncut", "beyond 180", "wide", "L", "hole", "Antarctica"],
)
@pytest.mark.parametrize("turned", [False, True])
def test_areas_are_where_their_mean_is(geometry, parts, turned):
    """As the mean over a grid of points says, whichever way round rings are written."""
    found = _compute(geometry.reverse() if turned else geometry)[0]
    expected = _find_centre(*(parts or [geometry]))
    assert compute_distance_km(found[None], expected[None])[0] < 2


@given(st.floats(-179, 179), st.floats(-80, 80), st.floats(1e-5, 1e-3))
def test_small_fields_are_as_on_paper(lon, lat, size):
    """Within fields of a metre to 100 m the sphere is flat: shapely's centroid is theirs."""
    field = Polygon([(lon, lat), (lon, lat + size), (lon + 2 * size, lat)])
    found, expected = _compute(field)[0], np.array(field.centroid.coords[0])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7 + size * 1e-4)


def test_lines_and_points_have_a_middle():
    """Across 180 degrees too; the longer part of a line counts more."""
    found = _compute(
        MultiPoint([(179, 0), (-179, 0)]),
        LineString([(170, 0), (-170, 0)]),
        shapely.MultiLineString([[(170, 0), (180, 0)], [(-180, 0), (-170, 0)]]),
        shapely.GeometryCollection([Point(0, 80), LineString([(0, 0), (2, 0)])]),
        shapely.GeometryCollection([Point(0, 80), FIJI]),
        Point(5, 6),
    )
    np.testing.assert_allclose(np.abs(found[:3]), [[180, 0]] * 3, atol=1e-9)
    np.testing.assert_allclose(found[3], [1, 0], atol=1e-9)
    np.testing.assert_array_equal(found[4], _compute(FIJI)[0])
    np.testing.assert_allclose(found[5], [5, 6], atol=1e-12)


@pytest.mark.parametrize("end", [(30, 15), (30.3, 15.15), (0.003, 0.0015)])
def test_polygons_without_area_are_lines(end):
    """There and back along a line is where the line is, not where rounding points to."""
    line = LineString([(0, 0), end])
    flat = Polygon([(0, 0), line.interpolate(0.3, normalized=True).coords[0], end])
    assert compute_distance_km(_compute(flat), _compute(line))[0] < 0.01


def test_what_is_nowhere_is_missing():
    """No geometry, an empty one, the globe, the equator and antipodes have no centre."""
    empty = (None, Polygon(), Point(), MultiPoint(), LineString([(5, 5), (5, 5)]))
    equator, antipodes = LineString([(-180, 0), (180, 0)]), MultiPoint([(10, 20), (-170, -20)])
    found = _compute(*empty, box(-180, -90, 180, 90), equator, antipodes)
    assert np.isnan(found).all()
    np.testing.assert_allclose(_compute(box(-180, 60, 180, 90))[0, 1], 90, atol=0.02)
