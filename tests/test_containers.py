"""Longitude and latitude are found in arrays, tables and grids, and bad ones are refused."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from satclip_lib.embedding.containers import read_locations
from satclip_lib.embedding.coordinates import find_lonlat
from satclip_lib.sphere import check_locations

LON = st.floats(-180, 180)
LAT = st.floats(-90, 90)
LONLATS = st.lists(st.tuples(LON, LAT), min_size=1, max_size=8).map(np.array)
FRACTION = st.floats(0, 1, exclude_max=True)


def _pick(fraction, lonlat):
    return int(fraction * len(lonlat))


@given(LONLATS)
def test_degrees_pass_as_they_are(lonlat):
    """Any longitude and latitude is accepted and not changed, with and without wrapping."""
    before = lonlat.copy()
    for wrap in (False, True):
        found, is_known = check_locations(lonlat, wrap_longitude=wrap)
        np.testing.assert_array_equal(found, before)
        assert is_known.all()
    np.testing.assert_array_equal(lonlat, before)


@given(LONLATS, FRACTION, st.sampled_from([0, 1]))
def test_nan_is_an_error_unless_it_may_propagate(lonlat, fraction, column):
    """One NaN is refused with its row, or that row alone is left out."""
    row = _pick(fraction, lonlat)
    lonlat[row, column] = np.nan
    with pytest.raises(ValueError, match=rf"1 of {len(lonlat)} .*NaN \(row {row} first\)"):
        check_locations(lonlat)
    found, is_known = check_locations(lonlat, missing="propagate")
    assert np.flatnonzero(~is_known).tolist() == [row]
    np.testing.assert_array_equal(found, np.delete(lonlat, row, axis=0))


@given(LONLATS, FRACTION, st.sampled_from([0, 1]), st.sampled_from([np.inf, -np.inf]))
def test_infinity_is_always_an_error(lonlat, fraction, column, infinity):
    """Infinite degrees are refused whatever is said about NaN and wrapping."""
    lonlat[_pick(fraction, lonlat), column] = infinity
    for missing in ("raise", "propagate"):
        with pytest.raises(ValueError, match="infinite"):
            check_locations(lonlat, missing=missing, wrap_longitude=True)


@given(LONLATS, FRACTION, st.floats(180, 540, exclude_min=True), st.sampled_from([-1, 1]))
def test_longitudes_beyond_the_map_wrap_only_on_request(lonlat, fraction, lon, sign):
    """Beyond 180 degrees is refused, or comes round to the same meridian; latitudes stay."""
    row = _pick(fraction, lonlat)
    lonlat[row, 0] = sign * lon
    with pytest.raises(ValueError, match=r"or wrap_longitude=True"):
        check_locations(lonlat)
    found, _ = check_locations(lonlat, wrap_longitude=True)
    assert (np.abs(found[:, 0]) <= 180).all()
    turns = (found[row, 0] - lonlat[row, 0]) / 360
    assert turns == pytest.approx(round(turns), abs=1e-9)
    np.testing.assert_array_equal(found[:, 1], lonlat[:, 1])


@given(LONLATS, FRACTION, st.floats(540, 1e9, exclude_min=True), st.sampled_from([-1, 1]))
def test_numbers_that_are_no_longitudes_are_not_wrapped(lonlat, fraction, lon, sign):
    """-999, 9999 or metres are refused by their row, whatever is said about wrapping."""
    row = _pick(fraction, lonlat)
    lonlat[row, 0] = sign * lon
    with pytest.raises(ValueError, match=rf"beyond 540 degrees \(row {row} first\)"):
        check_locations(lonlat, wrap_longitude=True)


@given(LONLATS, FRACTION, st.floats(90, 180, exclude_min=True))
def test_swapped_columns_are_refused_with_a_hint(lonlat, fraction, lon):
    """Latitude first is noticed as soon as one longitude is beyond 90 degrees."""
    lonlat[_pick(fraction, lonlat), 0] = lon
    for wrap in (False, True):
        with pytest.raises(ValueError, match=r"swapped: pass lonlat\[:, \[1, 0"):
            check_locations(lonlat[:, ::-1].copy(), wrap_longitude=wrap)


@given(LONLATS, FRACTION, st.floats(90, 1e6, exclude_min=True), st.sampled_from([-1, 1]))
def test_latitudes_beyond_the_poles_are_refused(lonlat, fraction, lat, sign):
    """No latitude wraps."""
    lonlat[_pick(fraction, lonlat), 1] = sign * lat
    for wrap in (False, True):
        with pytest.raises(ValueError, match=r"latitudes \(column 1\) lie outside \[-90, 90\]"):
            check_locations(lonlat, wrap_longitude=wrap)


@given(arrays(np.float64, array_shapes(max_dims=3, max_side=4), elements=st.just(0.0)))
def test_other_shapes_are_refused(array):
    """Whatever is not two columns is refused, and told apart from two rows."""
    assume(array.ndim != 2 or array.shape[1] != 2)
    with pytest.raises(ValueError, match=r"shape \(num_points, 2\)") as error:
        read_locations(array)
    looks_transposed = array.ndim == 2 and array.shape[0] == 2
    assert ("lonlat.T" in str(error.value)) == looks_transposed


@given(LONLATS, st.sampled_from([np.float32, np.float64, np.int16, np.int64]))
def test_arrays_tensors_and_lists_are_the_same(lonlat, dtype):
    """Any numbers become float64 degrees of the same value."""
    lonlat = lonlat.astype(dtype)
    for data in (lonlat, torch.from_numpy(lonlat), lonlat.tolist()):
        found = read_locations(data).lonlat
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, lonlat)


@given(
    st.sampled_from(["lon", "longitude", "lng", "Long", "LON"]),
    st.sampled_from(["lat", "latitude", "Lat"]),
    st.permutations(["lon", "lat", "name", "x"]),
)
def test_columns_are_found_by_name(lon, lat, order):
    """Common names count in any order and case."""
    names = {"lon": lon, "lat": lat}
    table = pd.DataFrame({"lon": [1.0], "lat": [2.0], "name": ["a"], "x": [9]})[list(order)]
    table = table.rename(columns=names)
    assert [table.columns[i] for i in find_lonlat(table.columns)] == [lon, lat]
    np.testing.assert_array_equal(read_locations(table).lonlat, [[1.0, 2.0]])


@pytest.mark.parametrize("names", [["lon", "x"], ["lat", "longitude", "lon"], ["x", "y"], []])
def test_columns_must_be_named_once(names):
    """Without one name for each, or with two, there is a question back."""
    with pytest.raises(ValueError, match=r"pass columns=\(longitude, latitude\)"):
        read_locations(pd.DataFrame(columns=names, dtype=float))


def test_columns_by_other_names_and_missing_values():
    """``columns`` names them, and every kind of missing value of pandas is NaN."""
    table = pd.DataFrame(
        {"east": pd.array([1, None, 3], dtype="Int64"), "north": [4.0, np.nan, None]}
    )
    found = read_locations(table, columns=("east", "north")).lonlat
    np.testing.assert_array_equal(found, [[1, 4], [np.nan, np.nan], [3, np.nan]])
    with pytest.raises(ValueError, match=r"no column \['south'\]"):
        read_locations(table, columns=("east", "south"))
    with pytest.raises(ValueError, match="columns is for a pandas DataFrame"):
        read_locations(np.zeros((1, 2)), columns=(0, 1))


def test_text_is_refused():
    """Numbers kept as text are an error, not a guess."""
    with pytest.raises(ValueError, match="must hold numbers"):
        read_locations(pd.DataFrame({"lon": ["2.3 E"], "lat": [1.0]}))
    with pytest.raises(ValueError, match="must be numbers"):
        read_locations(np.array([["2", "3"]]))
    for data in ("2,3", {"lon": 1}, pd.Series([1.0, 2.0])):
        with pytest.raises(TypeError, match="must be an array or tensor"):
            read_locations(data)


@pytest.mark.parametrize("crs", ["EPSG:3857", "EPSG:32633", "EPSG:4326", "EPSG:4269"])
def test_geometries_in_any_crs_become_degrees(crs):
    """Projected and geographic points come back to where they are, and stay as they came."""
    points = gpd.GeoSeries.from_xy([14.0, 15.5], [50.0, 49.2], crs="EPSG:4326").to_crs(crs)
    for data in (points, gpd.GeoDataFrame({"name": ["a", "b"]}, geometry=points)):
        np.testing.assert_allclose(
            read_locations(data).lonlat, [[14, 50], [15.5, 49.2]], rtol=0, atol=1e-4
        )


def test_geometries_need_a_crs_and_points():
    """No CRS is an error, and so is a line; a place without geometry is NaN."""
    points = gpd.GeoSeries.from_xy([14.0], [50.0])
    with pytest.raises(ValueError, match=r"no CRS.*set_crs\('EPSG:4326'\)"):
        read_locations(points)
    with pytest.raises(ValueError, match=r"got Polygon; take geometry.representative_point"):
        read_locations(points.set_crs("EPSG:3857").buffer(1))
    missing = gpd.GeoSeries([points[0], None], crs="EPSG:4326")
    np.testing.assert_array_equal(read_locations(missing).lonlat, [[14, 50], [np.nan, np.nan]])


def test_grids_are_crossings_of_their_axes():
    """A grid has axes, and its points are listed latitude by latitude, whatever the dims."""
    grid = xr.DataArray(
        np.zeros((3, 2)),
        dims=("longitude", "latitude"),
        coords={"longitude": [1.0, 2.0, 3.0], "latitude": [10.0, 20.0]},
    )
    locations = read_locations(grid)
    np.testing.assert_array_equal(locations.axes[0], [1, 2, 3])
    np.testing.assert_array_equal(locations.axes[1], [10, 20])
    np.testing.assert_array_equal(locations.lonlat[:4], [[1, 10], [2, 10], [3, 10], [1, 20]])


def test_stations_and_curved_grids_have_no_axes():
    """Coordinates along one dimension, or along two, are points."""
    stations = xr.Dataset(coords={"lon": ("station", [1.0, 2.0]), "lat": ("station", [3.0, 4.0])})
    locations = read_locations(stations)
    assert locations.axes is None
    np.testing.assert_array_equal(locations.lonlat, [[1, 3], [2, 4]])
    lon = xr.DataArray([[1.0, 2.0], [3.0, 4.0]], dims=("j", "i"))
    locations = read_locations(xr.Dataset(coords={"lon": lon, "lat": lon + 10}))
    assert locations.axes is None
    np.testing.assert_array_equal(locations.lonlat, [[1, 11], [2, 12], [3, 13], [4, 14]])


def test_projected_grids_need_a_crs():
    """X and y are transformed by the CRS in the grid mapping, and refused without one."""
    points = gpd.GeoSeries.from_xy([500_000.0, 510_000.0], [5e6, 5e6], crs="EPSG:32633")
    grid = xr.DataArray(
        np.zeros((1, 2)), dims=("y", "x"), coords={"y": [5e6], "x": [500_000.0, 510_000.0]}
    )
    with pytest.raises(ValueError, match=r"no CRS.*write_crs"):
        read_locations(grid)
    wkt = points.crs.to_wkt()
    for attribute in ("crs_wkt", "spatial_ref"):
        known = grid.assign_coords(spatial_ref=xr.Variable((), 0, {attribute: wkt}))
        np.testing.assert_allclose(
            read_locations(known).lonlat, read_locations(points).lonlat, rtol=0, atol=1e-9
        )
    with pytest.raises(ValueError, match="lon and lat, or x and y with a CRS"):
        read_locations(grid.rename(x="easting"))
