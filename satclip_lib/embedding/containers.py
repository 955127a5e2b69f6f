"""Longitude and latitude out of arrays, tables and grids, and embeddings back into them."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64

from satclip_lib.embedding.cf import find_degrees
from satclip_lib.embedding.coordinates import find_lonlat


@dataclass(frozen=True)
class Locations:
    """What was found in an object that holds locations.

    Attributes:
        lonlat: Longitude and latitude, ``(num_points, 2)`` degrees, not checked yet.
        restore: Function from a mapping of names to ``(num_points,)`` or ``(num_points, n)``
            arrays to an object like the one that came, with its index, coordinates and CRS. In a
            table, the name of a ``(num_points, n)`` array becomes ``name_0 .. name_<n-1>``.
        is_table: Whether ``restore`` returns one table of all columns, rather than a mapping.
        axes: Longitudes and latitudes, degrees, where the locations are all crossings of the two,
            in the order of a grid ``(lat, lon)``; else None.
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
            something else. In a ``GeoDataFrame`` they are used instead of the geometry.
        centres: Whether geometries other than points become their centres of mass, or are refused.

    Raises:
        TypeError: If ``data`` is none of these.
        ValueError: If it holds no longitude and latitude, or no CRS, or its names, units and CRS
            are not clear.
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
        ValueError: If it holds anything but numbers.
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

    lon, lat, degrees = find_degrees(data)
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


def split_columns(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Cut two-dimensional arrays into columns; the number of a column follows the name."""
    return {
        name if values.ndim == 1 else f"{name}_{index}": column
        for name, values in found.items()
        for index, column in enumerate([values] if values.ndim == 1 else values.T)
    }
