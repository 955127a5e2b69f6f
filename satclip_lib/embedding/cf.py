"""Longitude and latitude in xarray objects, by CF's names, units and grid mappings."""

import math
from collections.abc import Hashable
from typing import Any

import numpy as np

from satclip_lib.embedding.coordinates import (
    STANDARD_NAMES,
    degrees_per_unit,
    find_by_standard_name,
    find_variables,
)

PROJECTED_NAMES = ("projection_x_coordinate", "projection_y_coordinate")  # CF standard names
PACKED = {"scale_factor", "add_offset", "_FillValue", "missing_value"}  # not decoded yet
METRES = {"m": 1.0, "metre": 1.0, "meter": 1.0, "km": 1000.0, "kilometre": 1000.0}
METRES |= {"kilometer": 1000.0, "ft": 0.3048, "us-ft": 1200 / 3937}


def read_axes(grid: Any) -> tuple[Any, Any]:
    """Longitudes and latitudes of an xarray grid, in degrees east and north.

    Returns:
        Two ``DataArray`` without coordinates; their names and dimensions are those of the grid.

    Raises:
        ValueError: If it has no longitude and latitude, each along a dimension of its own.
    """
    import xarray as xr

    names = _find_names(grid)
    lon, lat = (grid[name] for name in names) if names else (None, None)
    if not (names and lon.ndim == lat.ndim == 1 and lon.dims != lat.dims):
        raise ValueError(
            "template must have one-dimensional coordinates lon and lat of their own, but has "
            f"{dict(grid.coords.sizes)}: use embed() for other shapes"
        )
    return tuple(
        xr.DataArray(_to_degrees(axis, i).values, dims=axis.dims, name=axis.name)
        for i, axis in enumerate((lon, lat))
    )


def find_degrees(data: Any) -> tuple[Any, Any, tuple[Any, Any]]:
    """Find lon and lat, or x and y: both as they are, and the degrees that they stand for.

    Raises:
        ValueError: If there are no such variables, or their attributes or CRS are not clear.
    """
    if names := _find_names(data):
        lon, lat = (data[name] for name in names)
        return lon, lat, (_to_degrees(lon, 0), _to_degrees(lat, 1))
    projected = find_by_standard_name(data.coords, PROJECTED_NAMES)
    if {"x", "y"} <= set(data.coords):
        projected = ("x", "y")
    if projected is None:
        raise ValueError(
            "the data must have coordinates lon and lat, or x and y with a CRS, one of each, but "
            f"they are {list(data.coords)}"
        )
    x, y = (data[name] for name in projected)
    return x, y, _project_back(x, y, _find_crs(data, projected))


def _find_names(data: Any) -> tuple[Hashable, Hashable] | None:
    """Names of longitude and latitude: of coordinates, else of other variables."""
    return find_variables(data.coords) or find_variables(getattr(data, "variables", {}))


def _to_degrees(values: Any, axis: int) -> Any:
    """Longitudes (axis 0) or latitudes (axis 1) in degrees east or north, as a ``Variable``."""
    claimed = values.attrs.get("standard_name")
    if claimed not in (None, STANDARD_NAMES[axis]):
        raise ValueError(
            f"{values.name} has the standard name {claimed}, which is no {STANDARD_NAMES[axis]}: "
            "transform its coordinates, or rename it"
        )
    factor = degrees_per_unit(str(values.attrs.get("units", "")), is_latitude=axis == 1)
    return _decode(values) * factor


def _decode(values: Any) -> Any:
    """A float64 ``Variable``; packed numbers are unpacked, and missing ones become NaN."""
    import xarray as xr

    variable = values.variable.to_base_variable()
    if PACKED & set(variable.attrs):
        variable = xr.conventions.decode_cf_variable(values.name, variable)
    if variable.dtype.kind not in "iuf":
        raise ValueError(f"{values.name} must hold numbers, got dtype {variable.dtype}")
    return xr.Variable(variable.dims, variable.values.astype(np.float64))


def _project_back(x: Any, y: Any, crs: Any) -> tuple[Any, Any]:
    """Longitude and latitude, degrees, of every crossing of x and y, as ``Variable``."""
    import xarray as xr
    from pyproj import Transformer

    dims, shape = zip(*(dict(y.sizes) | dict(x.sizes)).items(), strict=True)
    there = [
        (_decode(axis) * _crs_units_per_unit(axis, crs)).set_dims(
            dict(zip(dims, shape, strict=True))
        )
        for axis in (x, y)
    ]
    to_degrees = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    return tuple(xr.Variable(dims, z) for z in to_degrees.transform(*(z.values for z in there)))


def _crs_units_per_unit(axis: Any, crs: Any) -> float:
    """Factor from the units of an x or y to those of its CRS; 1 where it names no units."""
    units = str(axis.attrs.get("units", "")).strip()
    own = crs.axis_info[0].unit_conversion_factor if crs.axis_info else 1.0  # metres or radians
    if not units:
        return 1.0
    if crs.is_geographic:
        is_latitude = axis.attrs.get("standard_name") == "latitude" or axis.name == "y"
        return math.radians(degrees_per_unit(units, is_latitude=is_latitude)) / own
    if units.lower().rstrip("s") in METRES:
        return METRES[units.lower().rstrip("s")] / own
    height = crs.to_cf().get("perspective_point_height")
    if units.lower() in ("rad", "radian", "radians") and height:  # angles seen by a satellite
        return height / own
    raise ValueError(
        f"{axis.name} has units {units!r}, which do not fit its CRS, {crs.name}: convert it to "
        f"{crs.axis_info[0].unit_name}, and say so in its attribute units"
    )


def _find_crs(data: Any, names: tuple[Hashable, Hashable]) -> Any:
    """The CRS of x and y: the grid mapping that a variable names, else the only one there is."""
    from pyproj import CRS

    is_dataset = hasattr(data, "data_vars")
    on_grid = (
        [v for v in data.data_vars.values() if set(v.dims) & set(data[names[0]].dims)]
        if is_dataset
        else []
    )
    mentioned = {
        mapping
        for one in [data, *on_grid]
        if (text := one.encoding.get("grid_mapping", one.attrs.get("grid_mapping")))
        for mapping in _parse_grid_mapping(text, names)
    }
    variables = data.variables if is_dataset else data.coords
    if absent := mentioned - set(variables):
        raise ValueError(
            f"grid mapping {', '.join(absent)} is not among {list(variables)}: pass the whole "
            "dataset, or make it a coordinate with set_coords()"
        )
    signs = {"crs_wkt", "spatial_ref", "grid_mapping_name"}
    mappings = mentioned or [name for name in variables if signs & set(variables[name].attrs)]
    found = {name: CRS.from_cf(variables[name].attrs) for name in mappings}
    if not found:
        raise ValueError(
            "x and y have no CRS: say what they mean, for instance with rioxarray's "
            "data.rio.write_crs('EPSG:32633'), or name them lon and lat if they are degrees"
        )
    first, *others = found.values()
    if any(other != first for other in others):
        raise ValueError(
            f"x and y have more than one CRS, {', '.join(map(str, found))}: drop all but one"
        )
    return first


def _parse_grid_mapping(text: str, names: tuple[Hashable, Hashable]) -> set[str]:
    """Names of the grid mappings of x and y; a text is "crs" or "crs: x y other: lat lon"."""
    if ":" not in text:
        return {text.strip()}
    mapping, found = "", set()
    for word in text.split():
        if word.endswith(":"):
            mapping = word[:-1]
        elif word in names:
            found.add(mapping)
    return found
