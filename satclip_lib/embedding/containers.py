"""Longitude and latitude out of arrays, tables and grids, and embeddings back into them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64

LON_NAMES = ("lon", "longitude", "lng", "long")
LAT_NAMES = ("lat", "latitude")


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


def read_locations(data: Any, *, columns: tuple[Any, Any] | None = None) -> Locations:
    """Find longitude and latitude in an object.

    Args:
        data: ``(num_points, 2)`` array or tensor, longitude first; a pandas ``DataFrame`` with
            columns called lon and lat; a geopandas ``GeoDataFrame`` or ``GeoSeries`` of points with
            a CRS; an xarray object with coordinates lon and lat, or x and y with a CRS.
        columns: names of the columns of longitude and latitude in a ``DataFrame`` that calls them
            something else.

    Raises:
        TypeError: if it is something else.
        ValueError: if there is no longitude and latitude in it, or no CRS.
    """
    packages = [kind.__module__.partition(".")[0] for kind in type(data).__mro__]
    if columns is not None and (packages[0] == "geopandas" or "pandas" not in packages):
        raise ValueError(f"columns is for a pandas DataFrame, got a {type(data).__name__}")
    if "geopandas" in packages:
        return _read_geo(data)
    if "pandas" in packages and hasattr(data, "columns"):
        return _read_table(data, columns)
    if "xarray" in packages and hasattr(data, "coords"):
        return _read_xarray(data)
    if isinstance(data, torch.Tensor):
        lonlat = _to_lonlat(data.detach().cpu().numpy())
        return Locations(lonlat, lambda found: _to_tensors(found, data.device))
    if isinstance(data, np.ndarray | list | tuple):
        return Locations(_to_lonlat(np.asarray(data)), lambda found: found)
    raise TypeError(
        "locations must be an array or tensor (num_points, 2), a DataFrame, a GeoDataFrame or an "
        f"xarray object, got a {type(data).__name__}"
    )


def find_lonlat_names(names: Iterable[Any]) -> tuple[Any, Any] | None:
    """The names of longitude and latitude among others, None unless there is just one of each."""
    names = list(names)
    found = [[n for n in names if str(n).lower() in known] for known in (LON_NAMES, LAT_NAMES)]
    return (found[0][0], found[1][0]) if len(found[0]) == len(found[1]) == 1 else None


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


def _read_table(table: Any, columns: tuple[Any, Any] | None) -> Locations:
    import pandas as pd

    if columns is None:
        columns = find_lonlat_names(table.columns)
        if columns is None:
            raise ValueError(
                f"the table must have one column called {' or '.join(LON_NAMES)} and one called "
                f"{' or '.join(LAT_NAMES)}, but it has {list(table.columns)}: pass "
                "columns=(longitude, latitude)"
            )
    elif absent := [name for name in columns if name not in table.columns]:
        raise ValueError(f"the table has no column {absent}, only {list(table.columns)}")
    try:
        lonlat = np.stack(
            [table[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in columns], axis=1
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"columns {columns} must hold numbers, degrees: {error}") from error
    return Locations(
        lonlat,
        lambda found: pd.DataFrame(_split_columns(found), index=table.index, copy=False),
        is_table=True,
    )


def _read_geo(points: Any) -> Locations:
    import geopandas as gpd

    geometry = points.geometry
    if geometry.crs is None:
        raise ValueError(
            "the geometries have no CRS: say what their numbers mean, for instance "
            "points.set_crs('EPSG:4326')"
        )
    if kinds := set(geometry.geom_type.dropna()) - {"Point"}:
        raise ValueError(
            f"geometries must be points, got {', '.join(sorted(kinds))}; take "
            "geometry.representative_point()"
        )
    geographic = geometry.to_crs("EPSG:4326")
    lonlat = np.stack([geographic.x.to_numpy(), geographic.y.to_numpy()], axis=1)
    return Locations(
        lonlat.astype(np.float64),
        lambda found: gpd.GeoDataFrame(
            _split_columns(found), index=geometry.index, geometry=geometry
        ),
        is_table=True,
    )


def _read_xarray(data: Any) -> Locations:
    import xarray as xr

    if names := find_lonlat_names(data.coords):
        lon, lat = (data[name] for name in names)
    elif {"x", "y"} <= set(data.coords):
        lon, lat = _project_back(data)
    else:
        raise ValueError(
            "the data must have coordinates lon and lat, or x and y with a CRS, but they are "
            f"{list(data.coords)}"
        )
    is_grid = lon.ndim == lat.ndim == 1 and lon.dims != lat.dims
    axes = (lon.values.astype(float), lat.values.astype(float)) if is_grid else None
    lat, lon = xr.broadcast(lat, lon)

    def restore(found: dict[str, np.ndarray]) -> Any:
        arrays = {}
        for name, values in found.items():
            shape, dims = lat.shape + values.shape[1:], lat.dims + ("feature",) * (values.ndim - 1)
            arrays[name] = xr.DataArray(values.reshape(shape), dims=dims, coords=lat.coords)
        return xr.Dataset(arrays)

    lonlat = np.stack([lon.values.ravel(), lat.values.ravel()], axis=1).astype(np.float64)
    return Locations(lonlat, restore, axes=axes)


def _project_back(data: Any) -> tuple[Any, Any]:
    """Longitude and latitude of x and y, by the CRS that CF and rioxarray keep in a variable."""
    import xarray as xr
    from pyproj import Transformer

    name = data.encoding.get("grid_mapping", data.attrs.get("grid_mapping", "spatial_ref"))
    about = data[name].attrs if name in data.coords else {}
    crs = about.get("crs_wkt") or about.get("spatial_ref")
    if crs is None:
        raise ValueError(
            "x and y have no CRS: say what they mean, for instance with rioxarray's "
            "data.rio.write_crs('EPSG:32633'), or name them lon and lat if they are degrees"
        )
    y, x = xr.broadcast(data.y, data.x)
    to_degrees = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    lon, lat = to_degrees.transform(x.values, y.values)
    return x.copy(data=lon), y.copy(data=lat)


def _split_columns(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One-dimensional columns; what has two dimensions gets a number behind its name."""
    return {
        name if values.ndim == 1 else f"{name}_{index}": column
        for name, values in found.items()
        for index, column in enumerate([values] if values.ndim == 1 else values.T)
    }
