"""Longitude and latitude are found in arrays, tables and grids, and bad ones are refused."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import pytest
import torch
import xarray as xr
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from satclip_lib.embedding.cf import read_axes
from satclip_lib.embedding.containers import read_locations
from satclip_lib.sphere import check_locations

LON = st.floats(-180, 180)
LAT = st.floats(-90, 90)
LONLATS = st.lists(st.tuples(LON, LAT), min_size=1, max_size=8).map(np.array)
FRACTION = st.floats(0, 1, exclude_max=True)
UTM = pyproj.CRS("EPSG:32633")
POLAR = pyproj.CRS("EPSG:3413")
SATELLITE = pyproj.CRS("+proj=geos +h=35786023 +lon_0=-75 +sweep=x +ellps=GRS80")


def _pick(fraction, lonlat):
    return int(fraction * len(lonlat))


def test_tensors_of_any_real_type_are_read():
    """Also of a type that NumPy does not know; complex numbers are refused."""
    lonlat = torch.tensor([[10.0, 20.0], [-3.0, 4.0]])
    np.testing.assert_array_equal(read_locations(lonlat.bfloat16()).lonlat, lonlat.numpy())
    with pytest.raises(ValueError, match="must be numbers, degrees, got dtype complex64"):
        read_locations(lonlat.to(torch.complex64))


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


def test_columns_by_other_names_and_missing_values():
    """``columns`` names them, and every kind of missing value of pandas is NaN."""
    table = pd.DataFrame(
        {"east": pd.array([1, None, 3], dtype="Int64"), "north": [4.0, np.nan, None]}
    )
    found = read_locations(table, columns=("east", "north")).lonlat
    np.testing.assert_array_equal(found, [[1, 4], [np.nan, np.nan], [3, np.nan]])
    with pytest.raises(ValueError, match="columns is for a pandas DataFrame"):
        read_locations(np.zeros((1, 2)), columns=(0, 1))


def test_what_is_no_number_is_refused():
    """Numbers kept as text are an error, not a guess, and so are true and false."""
    with pytest.raises(ValueError, match="must hold numbers"):
        read_locations(pd.DataFrame({"lon": ["2.3 E"], "lat": [1.0]}))
    with pytest.raises(ValueError, match=r"'lon' must hold numbers.*true or false"):
        read_locations(pd.DataFrame({"lon": [True], "lat": [1.0]}))
    with pytest.raises(ValueError, match="must be numbers"):
        read_locations(np.array([["2", "3"]]))
    for data in ("2,3", {"lon": 1}, pd.Series([1.0, 2.0])):
        with pytest.raises(TypeError, match="must be an array or tensor"):
            read_locations(data)


def test_geometries_become_degrees():
    """Projected points come back to where they are, in a series or a table."""
    points = gpd.GeoSeries.from_xy([14.0, 15.5], [50.0, 49.2], crs="EPSG:4326").to_crs("EPSG:3857")
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


def test_curved_grids_and_stations_are_points():
    """Coordinates along two dimensions or one, by CF standard name, coordinates or variables."""
    lon, lat = (
        xr.DataArray(x + np.array([[1.0, 2.0], [3.0, 4.0]]), dims=("j", "i")).assign_attrs(
            standard_name=name
        )
        for x, name in ((0, "longitude"), (10, "latitude"))
    )
    grid = xr.Dataset({"glamt": lon, "gphit": lat})
    for data in (grid, grid.set_coords(["glamt", "gphit"]), grid.stack(k=("j", "i"))):
        locations = read_locations(data)
        assert locations.axes is None
        np.testing.assert_array_equal(locations.lonlat, [[1, 11], [2, 12], [3, 13], [4, 14]])


def test_projected_grids_need_a_crs():
    """X and y are transformed by the CRS in the grid mapping, and refused without one."""
    points = gpd.GeoSeries.from_xy([500_000.0, 510_000.0], [5e6, 5e6], crs=UTM)
    grid = xr.DataArray(
        np.zeros((1, 2)), dims=("y", "x"), coords={"y": [5e6], "x": [500_000.0, 510_000.0]}
    )
    with pytest.raises(ValueError, match=r"no CRS.*write_crs"):
        read_locations(grid)
    for attribute in ("crs_wkt", "spatial_ref"):
        known = grid.assign_coords(spatial_ref=xr.Variable((), 0, {attribute: UTM.to_wkt()}))
        np.testing.assert_allclose(
            read_locations(known).lonlat, read_locations(points).lonlat, rtol=0, atol=1e-9
        )
    with pytest.raises(ValueError, match="lon and lat, or x and y with a CRS"):
        read_locations(grid.rename(x="easting"))


def test_an_index_may_hold_the_places():
    """Levels called lat and lon, as xarray's to_dataframe makes them; columns come first."""
    index = pd.MultiIndex.from_tuples([(48.86, 2.35), (35.69, 139.69)], names=["lat", "lon"])
    table = pd.DataFrame({"t": [1, 2]}, index=index)
    np.testing.assert_array_equal(read_locations(table).lonlat, [[2.35, 48.86], [139.69, 35.69]])
    grid = xr.Dataset({"t": (("lat", "lon"), np.zeros((2, 3)))}, {"lat": [1, 2], "lon": [7, 8, 9]})
    found = read_locations(grid.to_dataframe()).lonlat
    np.testing.assert_array_equal(found[:4], [[7, 1], [8, 1], [9, 1], [7, 2]])
    beside = table.assign(lon=5.0, lat=6.0)
    np.testing.assert_array_equal(read_locations(beside).lonlat, [[5, 6], [5, 6]])


def test_other_columns_may_be_doubled():
    """Two columns of one name are no question if it is not that of a coordinate."""
    table = pd.DataFrame([[1.0, 2.0, 3.0, 4.0]], columns=["lon", "lat", "t", "t"])
    np.testing.assert_array_equal(read_locations(table).lonlat, [[1, 2]])


def test_masked_places_are_missing():
    """Masked entries of NumPy are NaN, whatever number is under the mask."""
    masked = np.ma.masked_equal(np.array([[1, 2], [-999, 4], [5, -999]]), -999)
    expected = [[1, 2], [np.nan, 4], [5, np.nan]]
    np.testing.assert_array_equal(read_locations(masked).lonlat, expected)
    for name in ("_FillValue", "missing_value"):
        lon = xr.Variable("station", [1.0, -999.0], {name: -999.0})
        stations = xr.Dataset(coords={"lon": lon, "lat": ("station", [2.0, 4.0])})
        np.testing.assert_array_equal(read_locations(stations).lonlat, [[1, 2], [np.nan, 4]])
    packed = xr.Variable("station", np.array([100, 200], np.int16), {"scale_factor": 0.1})
    stations = xr.Dataset(coords={"lon": packed, "lat": ("station", [2.0, 4.0])})
    np.testing.assert_allclose(read_locations(stations).lonlat, [[10, 2], [20, 4]])


def test_quantities_are_refused():
    """An array that carries a unit is asked to become plain degrees."""

    class Quantity(np.ndarray):
        unit = "rad"

    with pytest.raises(ValueError, match="locations are in rad: pass plain numbers, degrees"):
        read_locations(np.zeros((1, 2)).view(Quantity))


@pytest.mark.parametrize("is_grid", [False, True])
def test_units_are_read(is_grid):
    """CF units say what the numbers are; the object that comes back keeps its own numbers."""
    dims = ("lon", "lat") if is_grid else ("station", "station")
    coords = {
        "lon": (dims[0], [10.0, 20.0], {"units": "degrees_west"}),
        "lat": (dims[1], [1.0, 2.0], {"units": "radians"}),
    }
    lon, lat = [-10.0, -20.0], np.rad2deg([1.0, 2.0])
    data = xr.Dataset(coords=coords)
    locations = read_locations(data)
    expected = np.stack([np.tile(lon, 2), np.repeat(lat, 2)] if is_grid else [lon, lat], axis=1)
    np.testing.assert_allclose(locations.lonlat, expected)
    back = locations.restore({"e": np.zeros((len(expected), 3))})
    assert back.e.dims == (("lat", "lon", "feature") if is_grid else ("station", "feature"))
    xr.testing.assert_identical(back.lon.reset_coords(drop=True), data.lon.reset_coords(drop=True))
    if is_grid:
        for found, axis in zip(read_axes(data), (lon, lat), strict=True):
            np.testing.assert_allclose(found, axis)
            assert not found.attrs


def test_units_that_do_not_fit_are_refused():
    """Metres, swapped directions and contradictory standard names are no coordinates."""
    for attrs, message in [
        ({"units": "km"}, "longitude has units 'km': convert it to degrees_east"),
        ({"standard_name": "latitude"}, "lon has the standard name latitude"),
    ]:
        data = xr.Dataset(coords={"lon": ("i", [1.0], attrs), "lat": ("i", [2.0])})
        with pytest.raises(ValueError, match=message):
            read_locations(data)
    text = xr.Dataset(coords={"lon": ("i", ["1"]), "lat": ("i", [2.0])})
    with pytest.raises(ValueError, match="lon must hold numbers"):
        read_locations(text)


def _make_projected(crs, *, units=None, scale=1.0):
    """A grid in some CRS as CF writes it, and longitude and latitude by pyproj."""
    x, y = np.array([400_000.0, 500_000.0]), np.array([1_500_000.0, 1_600_000.0, 1_700_000.0])
    attrs = {} if units is None else {"units": units}
    data = xr.Dataset(
        {"t": (("y", "x"), np.zeros((3, 2)), {"grid_mapping": "crs"})},
        coords={"x": ("x", x * scale, attrs), "y": ("y", y * scale, attrs)},
    )
    data["crs"] = xr.Variable((), 0, crs.to_cf())
    xs, ys = np.meshgrid(x, y)
    lon, lat = pyproj.Transformer.from_crs(crs, 4326, always_xy=True).transform(xs, ys)
    return data, np.stack([lon.ravel(), lat.ravel()], axis=1)


@pytest.mark.parametrize(
    ("crs", "units", "scale"),
    [(UTM, "kilometers", 1e-3), (UTM, "ft", 1 / 0.3048), (SATELLITE, "rad", 1 / 35786023)],
)
def test_projected_axes_have_units(crs, units, scale):
    """Kilometres, feet and a satellite's angles are where pyproj puts the metres."""
    data, expected = _make_projected(crs, units=units, scale=scale)
    np.testing.assert_allclose(read_locations(data).lonlat, expected, rtol=0, atol=1e-7)
    data, _ = _make_projected(crs, units="pixel")
    with pytest.raises(ValueError, match="x has units 'pixel', which do not fit its CRS"):
        read_locations(data)


def test_the_crs_is_that_of_the_variable():
    """By WKT or CF parameters, in a data variable or a coordinate, named or the only one."""
    data, expected = _make_projected(POLAR)
    parameters = {k: v for k, v in POLAR.to_cf().items() if k != "crs_wkt"}
    data["unused"] = xr.Variable((), 0, UTM.to_cf())
    without_wkt = data.assign(crs=xr.Variable((), 0, parameters))
    decoded = xr.decode_cf(data, decode_coords="all")
    assert "crs" in decoded.coords and "grid_mapping" in decoded.t.encoding
    extended = data.copy()
    extended.t.attrs["grid_mapping"] = "crs: x y unused: u v"
    for found in (data, without_wkt, decoded, decoded.t, extended):
        np.testing.assert_allclose(read_locations(found).lonlat, expected, rtol=0, atol=1e-6)
    alone = data.drop_vars("unused")
    del alone.t.attrs["grid_mapping"]
    np.testing.assert_allclose(read_locations(alone).lonlat, expected, rtol=0, atol=1e-6)


def test_an_unclear_crs_is_refused():
    """Two that differ, or one that is named and not there."""
    data, _ = _make_projected(POLAR)
    with pytest.raises(ValueError, match=r"grid mapping crs is not among .*set_coords"):
        read_locations(data.t)
    data["other"] = xr.Variable((), 0, UTM.to_cf())
    data["u"] = data.t.assign_attrs(grid_mapping="other")
    with pytest.raises(ValueError, match=r"more than one CRS, .*other"):
        read_locations(data)
    data["other"] = data.crs
    assert len(read_locations(data).lonlat) == 6


def test_geographic_rasters_have_x_and_y():
    """As rioxarray opens them, with units or without, 3-D or not."""
    for units in (("degrees_east", "degrees_north"), ("", ""), ("degrees", "degrees")):
        coords = {
            "x": ("x", [1.0, 2.0], {"units": units[0]}),
            "y": ("y", [50.0], {"units": units[1]}),
        }
        data = xr.Dataset(coords=coords)
        data["spatial_ref"] = xr.Variable((), 0, pyproj.CRS(4326).to_cf())
        np.testing.assert_allclose(read_locations(data).lonlat, [[1, 50], [2, 50]])


def test_geometry_columns_keep_their_name():
    """What is called geom comes back as geom, in its CRS."""
    points = gpd.GeoSeries.from_xy([1e6], [2e6], crs="EPSG:3857", index=["a"])
    for name in ("geom", "geometry", "Ort"):
        table = gpd.GeoDataFrame({"t": [1], name: points}, index=["a"], geometry=name)
        back = read_locations(table).restore({"e": np.zeros((1, 2))})
        assert list(back.columns) == ["e_0", "e_1", name]
        assert back.geometry.name == name and back.crs == points.crs
        assert back.geometry.geom_equals(table.geometry).all() and back.index.equals(table.index)


def test_a_geodataframe_without_a_geometry_says_so():
    """No active geometry is a sentence; named columns are taken instead."""
    table = gpd.GeoDataFrame({"lon": [1.0], "lat": [2.0]})
    with pytest.raises(ValueError, match=r"no active geometry among \['lon', 'lat'\]"):
        read_locations(table)
    np.testing.assert_array_equal(read_locations(table, columns=("lon", "lat")).lonlat, [[1, 2]])
