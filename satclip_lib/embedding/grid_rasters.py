"""Grids of embeddings as GeoTIFF: where each line of the raster comes from, and writing it."""

import os
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
import xarray as xr
from jaxtyping import Int64, Shaped
from rasterio import Affine
from rasterio.errors import RasterioError
from rasterio.windows import Window

from satclip_lib.embedding.coordinates import find_variables
from satclip_lib.progress import progress_bar

MADE_BY = "satclip_lib"  # mark of the files that may be replaced
NODATA = {"float32": np.nan, "int8": -128}
STEP_TOLERANCE = 0.02  # of a step, for the rounding of axes that are kept as float32
TIF_BLOCK = (64, 256)  # rows and columns of a tile
WINDOW_BYTES = 2**27  # of a raster that are in memory at a time


@dataclass(frozen=True)
class Lines:
    """The rows or columns of a raster.

    Attributes:
        source: Index along the grid that each line shows; -1 for none.
        start_deg: Outer edge of the first line: the northern or the western one.
        step_deg: Width of a line.
    """

    source: Int64[np.ndarray, " lines"]
    start_deg: float
    step_deg: float


def lay_out(grid: xr.DataArray) -> tuple[xr.DataArray, tuple[Lines, Lines]]:
    """Turn a grid into ``(lat, lon, feature)``, and find the rows and columns of its raster.

    Raises:
        ValueError: If the grid cannot be a GeoTIFF, see :func:`save_raster`.
    """
    names = find_variables(grid.coords)
    axes = [grid[name] for name in names] if names else []
    if [axis.ndim for axis in axes] != [1, 1] or axes[0].dims == axes[1].dims or grid.ndim > 3:
        raise ValueError(
            "a GeoTIFF needs one-dimensional coordinates lon and lat, and one dimension more at "
            f"most, got {dict(grid.sizes)}: write Zarr"
        )
    lon, lat = axes
    if grid.dtype.name not in NODATA:
        raise ValueError(f"a GeoTIFF holds float32 or int8, got {grid.dtype}: choose another dtype")
    if grid.ndim == 2:
        grid = grid.expand_dims("feature")
    grid = grid.transpose(*lat.dims, *lon.dims, ...)
    return grid, (_lay_out_rows(lat.values), _lay_out_columns(lon.values))


def _lay_out_rows(latitude_deg: Shaped[np.ndarray, " rows"]) -> Lines:
    order, south_deg, step_deg = _find_edges(latitude_deg)
    north_deg = south_deg + step_deg * len(order)
    source = order[::-1]
    over = [north_deg - 90, -90 - south_deg]  # how far cells reach beyond the poles
    tolerance = STEP_TOLERANCE * step_deg
    if max(over) > tolerance:
        if any(x > tolerance and abs(x - step_deg / 2) > tolerance for x in over):
            raise ValueError(
                "cells reach beyond a pole: a GeoTIFF needs the outermost lat on the pole, or half "
                "a step from it; cut the grid, or write Zarr"
            )
        source = np.repeat(source, 2)[over[0] > tolerance : -1 if over[1] > tolerance else None]
    start_deg = min(north_deg, 90.0)
    return Lines(source, start_deg, (start_deg - max(south_deg, -90.0)) / len(source))


def _lay_out_columns(longitude_deg: Shaped[np.ndarray, " columns"]) -> Lines:
    source, west_deg, step_deg = _find_edges(
        np.unwrap(longitude_deg.astype(np.float64), period=360)
    )
    tolerance = STEP_TOLERANCE * step_deg
    west_deg = (west_deg + tolerance + 180) % 360 - 180 - tolerance  # from -180, or just before
    if west_deg + step_deg * len(source) <= 180 + tolerance:
        start_deg = max(west_deg, -180.0)
        return Lines(source, start_deg, min(step_deg, (180 - start_deg) / len(source)))
    to_seam = (180 - west_deg) / step_deg  # in cells
    if abs(to_seam % 1 - 0.5) < 0.1:  # the seam cuts through the middle of cells
        source, step_deg = np.repeat(source, 2), step_deg / 2
    columns = np.full(round(360 / step_deg), -1)
    places = (west_deg + 180) * len(columns) / 360 + np.arange(len(source))
    drift = np.abs(360 / len(columns) / step_deg - 1) * len(source)  # in lines, at the last one
    if drift > STEP_TOLERANCE or np.abs(places - np.rint(places)).max() > 0.1:
        raise ValueError(
            f"the grid goes across 180 E, where its cells of {step_deg} degrees do not meet the "
            "edge of the map: cut it there, or write Zarr"
        )
    columns[np.rint(places).astype(int) % len(columns)] = source
    return Lines(columns, -180.0, 360 / len(columns))


def _find_edges(
    axis_deg: Shaped[np.ndarray, " lines"],
) -> tuple[Int64[np.ndarray, " lines"], float, float]:
    """Order of the lines from the least, lower edge of the first (degrees), and step (degrees)."""
    order = np.argsort(axis_deg)
    places = axis_deg[order].astype(np.float64)
    step_deg = (places[-1] - places[0]) / max(1, len(places) - 1) if len(places) else 0.0
    errors = np.abs(places - places[:1] - step_deg * np.arange(len(places)))
    if step_deg == 0 or not errors.max() <= STEP_TOLERANCE * step_deg:
        raise ValueError("a GeoTIFF needs two or more lat and lon in equal steps: write Zarr")
    return order, float(places[0] - step_deg / 2), float(step_deg)


def write_raster(grid: xr.DataArray, layout: tuple[Lines, Lines], target: Path, work: Path) -> None:
    """Write a grid as :func:`lay_out` gives it, some windows at a time.

    Args:
        grid: Grid ``(lat, lon, feature)``.
        layout: Rows and columns of the raster.
        target: File that is replaced when the raster is complete.
        work: Folder on the same disk for unfinished files.
    """
    rows, columns = layout
    nodata = NODATA[grid.dtype.name]
    plain, optimised = work / "plain.tif", work / "optimised.tif"
    with rasterio.open(
        plain,
        "w",
        driver="GTiff",
        height=len(rows.source),
        width=len(columns.source),
        count=grid.shape[2],
        dtype=grid.dtype.name,
        crs="EPSG:4326",
        transform=Affine(columns.step_deg, 0, columns.start_deg, 0, -rows.step_deg, rows.start_deg),
        nodata=nodata,
        tiled=True,
        blockxsize=TIF_BLOCK[1],
        blockysize=TIF_BLOCK[0],
        bigtiff="IF_SAFER",
        sparse_ok=True,
    ) as file:
        file.scales = [grid.attrs.get("scale_factor", 1.0)] * file.count
        about = {name: str(value) for name, value in grid.attrs.items()}
        file.update_tags(TIFFTAG_SOFTWARE=MADE_BY, **about)
        num_columns = WINDOW_BYTES // (TIF_BLOCK[0] * file.count * grid.dtype.itemsize)
        num_columns = max(1, num_columns // TIF_BLOCK[1]) * TIF_BLOCK[1]
        windows = product(range(0, file.height, TIF_BLOCK[0]), range(0, file.width, num_columns))
        for row, column in progress_bar(list(windows), delay=1):
            shown = rows.source[row : row + TIF_BLOCK[0]]
            across = columns.source[column : column + num_columns]
            if (across < 0).all():
                continue  # the file is sparse
            values = _pick(grid, shown, across)
            values[:, across < 0] = nodata
            window = Window(column, row, len(across), len(shown))
            file.write(np.moveaxis(values, -1, 0), window=window)
    rasterio.shutil.copy(
        plain, optimised, driver="COG", compress="ZSTD", bigtiff="IF_SAFER", overviews="NONE"
    )
    os.replace(optimised, target)


def _pick(
    grid: xr.DataArray, rows: Int64[np.ndarray, " rows"], columns: Int64[np.ndarray, " columns"]
) -> Shaped[np.ndarray, "rows columns features"]:
    """Values of some rows and columns of a grid; a row or column named twice is read once."""
    (row, row_again), (column, column_again) = (
        np.unique(index, return_inverse=True) for index in (rows, columns)
    )
    lat, lon, _ = grid.dims
    return grid.isel({lat: row, lon: column}).values[row_again][:, column_again]


def was_made_here(tif: Path) -> bool:
    """Whether :func:`write_raster` wrote a file."""
    try:
        with rasterio.open(tif, driver="GTiff") as file:
            return file.tags().get("TIFFTAG_SOFTWARE") == MADE_BY
    except RasterioError:
        return False
