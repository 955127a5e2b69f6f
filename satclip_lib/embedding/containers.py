"""Longitude and latitude out of arrays, tables and grids, and embeddings back into them."""

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64

from satclip_lib.embedding.coordinates import (
    STANDARD_NAMES,
    degrees_per_unit,
    find_by_standard_name,
    find_lonlat,
    find_variables,
)

PROJECTED_NAMES = ("projection_x_coordinate", "projection_y_coordinate")  # CF standard names
PACKED = {"scale_factor", "add_offset", "_FillValue", "missing_value"}  # not decoded yet
METRES = {"m": 1.0, "metre": 1.0, "meter": 1.0, "km": 1000.0, "kilometre": 1000.0}
METRES |= {"kilometer": 1000.0, "ft": 0.3048, "us-ft": 1200 / 3937}


@dataclass(frozen=True)
class Locations:
    """What was found in an object that holds locations.

    Attributes:
        lonlat: ``(num_points, 2)`` degrees, not checked yet.
        restore: takes columns, a mapping of names to ``(num_points,)`` or ``(num_points, n)``
            arrays, and puts them in an object like the one that came, with its index, coordinates
            and CRS. The name of an ``(num_points, n)`` array becomes ``name_0 .. name_<n-1>``.
        is_table: whether ``restore`` makes one table of all columns, rather than a mapping.
        axes: longitudes and latitudes, degrees, where the locations are all crossings of them,
            latitude by latitude; else None.
    """

    lonlat: np.ndarray
    restore: Callable[[dict[str, np.ndarray]], Any]
    is_table: bool = False
    axes: tuple[np.ndarray, np.ndarray] | None = None


def read_locations(
    data: Any, *, columns: tuple[Any, Any] | None = None, centres: bool = False
) -> Locations:
    """Find longitude and latitude in an object.

    Args:
        data: ``(num_points, 2)`` array or tensor, longitude first; a pandas ``DataFrame`` with
            columns or index levels called lon and lat; a geopandas ``GeoDataFrame`` or
            ``GeoSeries`` of points with a CRS; an xarray object with coordinates lon and lat, or x
            and y with a CRS. What is masked is missing.
        columns: Names of the columns of longitude and latitude in a ``DataFrame`` that calls them
            something else; of a ``GeoDataFrame`` they are taken instead of the geometry.
        centres: Whether geometries other than points count as their centres of mass.

    Raises:
        TypeError: if it is something else.
        ValueError: if there is no longitude and latitude in it, or no CRS, or what names, units
            and CRS say is not clear.
    """
    packages = [kind.__module__.partition(".")[0] for kind in type(data).__mro__]
    is_table = "pandas" in packages and hasattr(data, "columns")
    if columns is not None and not is_table:
        raise ValueError(f"columns is for a pandas DataFrame, got a {type(data).__name__}")
    if "geopandas" in packages and columns is None:
        return _read_geo(data, centres=centres)
    if is_table:
        return _read_table(data, columns)
    if "xarray" in packages and hasattr(data, "coords"):
        return _read_xarray(data)
    if isinstance(data, torch.Tensor):
        numbers = data.detach().cpu()
        if numbers.dtype == torch.bfloat16:  # NumPy has none
            numbers = numbers.float()
        lonlat = _to_lonlat(numbers.numpy())
        return Locations(lonlat, lambda found: _to_tensors(found, data.device))
    if isinstance(data, np.ma.MaskedArray):
        data = np.ma.filled(data.astype(np.float64), np.nan)
    if hasattr(data, "unit"):
        raise ValueError(f"locations are in {data.unit}: pass plain numbers, degrees")
    if isinstance(data, np.ndarray | list | tuple):
        return Locations(_to_lonlat(np.asarray(data)), lambda found: found)
    raise TypeError(
        "locations must be an array or tensor (num_points, 2), a DataFrame, a GeoDataFrame or an "
        f"xarray object, got a {type(data).__name__}"
    )


def read_axes(grid: Any) -> tuple[Any, Any]:
    """Longitudes and latitudes of an xarray grid, in degrees east and north.

    Returns:
        Two ``DataArray`` without coordinates, with the names and dimensions that they have there.

    Raises:
        ValueError: If there are no such coordinates, each along a dimension of its own.
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


def _to_lonlat(array: np.ndarray) -> Float64[np.ndarray, "num_points 2"]:
    """Two columns as float64, which holds float32 and whole degrees exactly."""
    if array.ndim != 2 or array.shape[1] != 2:
        turned = array.ndim == 2 and array.shape[0] == 2
        raise ValueError(
            "locations must have shape (num_points, 2), longitude then latitude, got "
            f"{array.shape}{'; it looks transposed: pass lonlat.T' if turned else ''}"
        )
    if array.dtype.kind not in "iuf":
        raise ValueError(f"locations must be numbers, degrees, got dtype {array.dtype}")
    return array.astype(np.float64)


def _to_tensors(found: dict[str, np.ndarray], device: torch.device) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(values).to(device) for name, values in found.items()}


def to_numbers(column: Any, name: Hashable) -> Float64[np.ndarray, " num_rows"]:
    """A pandas column of coordinates; every kind of missing value is NaN.

    Raises:
        ValueError: If it holds something else than numbers.
    """
    try:
        if column.dtype == bool:
            raise TypeError("they are true or false")
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise ValueError(f"column {name!r} must hold numbers, degrees: {error}") from error


def _read_table(table: Any, columns: tuple[Any, Any] | None) -> Locations:
    import pandas as pd

    names = list(table.columns)
    levels = [name for name in table.index.names if name is not None and name not in names]
    lonlat = []
    for position in find_lonlat(names + levels, columns=columns):
        name = (names + levels)[position]
        if position < len(names):
            column = table.iloc[:, position]
        else:
            column = table.index.get_level_values(name)
        lonlat.append(to_numbers(column, name))
    return Locations(
        np.stack(lonlat, axis=1),
        lambda found: pd.DataFrame(split_columns(found), index=table.index, copy=False),
        is_table=True,
    )


def _read_geo(places: Any, *, centres: bool) -> Locations:
    import geopandas as gpd
    import shapely

    try:
        geometry = places.geometry
    except AttributeError:
        raise ValueError(
            f"the GeoDataFrame has no active geometry among {list(places.columns)}: choose one "
            "with set_geometry(name), or pass columns=(longitude, latitude)"
        ) from None
    if geometry.crs is None:
        raise ValueError(
            "the geometries have no CRS: say what their numbers mean, for instance "
            "points.set_crs('EPSG:4326')"
        )
    kinds = set(geometry.geom_type.dropna()) - {"Point"}
    if kinds and not centres:
        raise ValueError(
            f"geometries must be points, got {', '.join(sorted(kinds))}; take "
            "geometry.representative_point()"
        )
    shapes = geometry.to_crs("EPSG:4326").to_numpy()
    if kinds:
        from satclip_lib.embedding.geometries import compute_centres

        lonlat = compute_centres(shapes)
    else:
        lonlat = np.stack([shapely.get_x(shapes), shapely.get_y(shapes)], axis=1)
    name = geometry.name or "geometry"
    return Locations(
        lonlat.astype(np.float64),
        lambda found: gpd.GeoDataFrame(
            split_columns(found) | {name: geometry}, index=geometry.index, geometry=name
        ),
        is_table=True,
    )


def _read_xarray(data: Any) -> Locations:
    import xarray as xr

    lon, lat, degrees = _find_xarray(data)
    is_grid = lon.ndim == lat.ndim == 1 and lon.dims != lat.dims and len(degrees[0].dims) == 1
    axes = (degrees[0].values, degrees[1].values) if is_grid else None
    lat, lon = xr.broadcast(lat, lon)
    lonlat = [x.set_dims(dict(lat.sizes)).values.ravel() for x in degrees]

    def restore(found: dict[str, np.ndarray]) -> Any:
        arrays = {}
        for name, values in found.items():
            shape, dims = lat.shape + values.shape[1:], lat.dims + ("feature",) * (values.ndim - 1)
            arrays[name] = xr.DataArray(values.reshape(shape), dims=dims, coords=lat.coords)
        return xr.Dataset(arrays)

    return Locations(np.stack(lonlat, axis=1), restore, axes=axes)


def _find_xarray(data: Any) -> tuple[Any, Any, tuple[Any, Any]]:
    """The two variables of a place as they are, and longitude and latitude, degrees, of them."""
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
    """Names of longitude and latitude, among the coordinates first."""
    return find_variables(data.coords) or find_variables(getattr(data, "variables", {}))


def _to_degrees(values: Any, axis: int) -> Any:
    """Longitudes (axis 0) or latitudes (axis 1) by their CF attributes, as a ``Variable``."""
    claimed = values.attrs.get("standard_name")
    if claimed not in (None, STANDARD_NAMES[axis]):
        raise ValueError(
            f"{values.name} has the standard name {claimed}, which is no {STANDARD_NAMES[axis]}: "
            "transform its coordinates, or rename it"
        )
    factor = degrees_per_unit(str(values.attrs.get("units", "")), is_latitude=axis == 1)
    return _decode(values) * factor


def _decode(values: Any) -> Any:
    """A float64 ``Variable``, unpacked and with NaN for missing values where that is still due."""
    import xarray as xr

    variable = values.variable.to_base_variable()
    if PACKED & set(variable.attrs):
        variable = xr.conventions.decode_cf_variable(values.name, variable)
    if variable.dtype.kind not in "iuf":
        raise ValueError(f"{values.name} must hold numbers, got dtype {variable.dtype}")
    return xr.Variable(variable.dims, variable.values.astype(np.float64))


def _project_back(x: Any, y: Any, crs: Any) -> tuple[Any, Any]:
    """Longitude and latitude, as variables, of x and y in some CRS."""
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
    """What an x or y is multiplied by for its CRS, whose own units it has where it names none."""
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
    """The CRS of x and y, by the grid mapping that the variables name, else by the only one."""
    from pyproj import CRS

    is_dataset = hasattr(data, "data_vars")
    on_grid = (
        [v for v in data.data_vars.values() if set(v.dims) & set(data[names[0]].dims)]
        if (is_dataset)
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
    """Names of the mappings of x and y in ``"crs"`` or ``"crs: x y other: lat lon"``."""
    if ":" not in text:
        return {text.strip()}
    mapping, found = "", set()
    for word in text.split():
        if word.endswith(":"):
            mapping = word[:-1]
        elif word in names:
            found.add(mapping)
    return found


def split_columns(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One-dimensional columns; what has two dimensions gets a number behind its name."""
    return {
        name if values.ndim == 1 else f"{name}_{index}": column
        for name, values in found.items()
        for index, column in enumerate([values] if values.ndim == 1 else values.T)
    }
