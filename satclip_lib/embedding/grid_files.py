"""Grids of embeddings on disk: Zarr or cloud-optimised GeoTIFF, block by block, resumable."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import dask
import numpy as np
import rasterio
import rasterio.shutil
import xarray as xr
import zarr
from dask.array.core import slices_from_chunks
from filelock import FileLock, Timeout
from jaxtyping import Int64, Shaped
from rasterio import Affine
from rasterio.errors import RasterioError
from rasterio.windows import Window
from tqdm.dask import TqdmCallback
from zarr.codecs import BloscCodec

from satclip_lib.embedding.containers import find_lonlat_names
from satclip_lib.embedding.grid import CHUNK_CELLS
from satclip_lib.files import fingerprint, write_atomically
from satclip_lib.progress import progress_bar

COMPRESSOR = BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle")  # without loss
TIF_SUFFIXES = (".tif", ".tiff")
TIF_BLOCK = (64, 256)  # rows and columns of a tile
WINDOW_BYTES = 2**27  # what memory holds of a raster
NODATA = {"float32": np.nan, "int8": -128}
MADE_BY = "satclip_lib"  # how files say that they may be replaced
STORE_FILE = re.compile(r"([^/]+/)?(zarr\.json|c(/\d+)*)")
STEP_TOLERANCE = 0.02  # of a step: how far float32 puts the lines of an axis from their places


def save_grid(grid: xr.DataArray, path: Path | str) -> Path:
    """Compute a lazy grid block by block, and keep each block on disk.

    Memory holds a few blocks at a time. Blocks are computed by the threads of this process, or by
    the cluster of the current ``dask.distributed.Client``, whose workers must see the same disk.
    A run that was stopped continues where it was, as long as it is for the same grid. Until then
    its blocks lie beside ``path`` in a hidden folder, which the next run for ``path`` clears away.

    Args:
        grid: Grid from :func:`embed_grid`, or computed from such a grid by xarray. Blocks of
            unequal size, as slicing and concatenating leave them, are made equal.
        path: Zarr store or, if it ends in ".tif", cloud-optimised GeoTIFF, see
            :func:`save_raster`. What this function wrote there before is replaced. A link is
            followed.

    Raises:
        ValueError: If the grid is not lazy, or cannot be a GeoTIFF.
        FileExistsError: If there is something else at ``path``.
        BlockingIOError: If another process is writing to ``path``.
    """
    if grid.chunks is None:
        raise ValueError("the grid is in memory already: write it with grid.to_zarr(path)")
    if grid.size == 0:
        raise ValueError(f"the grid has no cells: its sizes are {dict(grid.sizes)}")
    is_tif = Path(path).suffix.lower() in TIF_SUFFIXES
    if is_tif:
        grid, layout = _lay_out(grid)  # says now what cannot be done later
    grid = grid.chunk({dim: max(sizes) for dim, sizes in zip(grid.dims, grid.chunks, strict=True)})
    grid = grid.rename(grid.name or "embedding")
    grid = grid.assign_coords({n: c.compute() for n, c in grid.coords.items() if c.chunks})
    with _reserve(path) as (target, work):
        about = (grid.data.name, {name: str(value) for name, value in grid.attrs.items()})
        axes = [str(grid.coords[name].values.tolist()) for name in sorted(map(str, grid.coords))]
        store = work / fingerprint(about, axes)[:12]
        if not store.is_dir():
            _write_header(grid, store)
        array = store / str(grid.name)
        blocks = zip(
            np.ndindex(grid.data.numblocks),
            grid.data.to_delayed().ravel(),
            slices_from_chunks(grid.chunks),
            strict=True,
        )
        tasks = [
            dask.delayed(_write_block)(block, array, region)
            for index, block, region in blocks
            if not array.joinpath("c", *map(str, index)).is_file()
        ]
        with TqdmCallback(desc=target.name, tqdm_class=progress_bar, delay=1):
            dask.compute(*tasks)
        if is_tif:
            stored = xr.open_zarr(store, consolidated=False, mask_and_scale=False)[grid.name]
            _write_raster(stored, layout, target, work)
            return Path(path)
        for leftover in store.rglob("*.partial"):  # of a run killed while it wrote a block
            leftover.unlink()
        if target.exists():
            shutil.rmtree(work / "replaced", ignore_errors=True)
            target.rename(work / "replaced")
        store.rename(target)
    return Path(path)


def save_raster(grid: xr.DataArray, path: Path | str) -> Path:
    """Write a grid as cloud-optimised GeoTIFF, a band per feature, some rows at a time.

    The raster is north up and within 180 W to 180 E and 90 S to 90 N, whatever the grid's
    longitudes. What a GIS samples at a place is the number of the nearest point of the grid. Where
    points lie on a pole or on 180 E, half of their cell would lie off the map: such a grid is
    written in half cells, with each number twice along that axis. Where a regional grid goes
    across 180 E, the gap between its two parts holds nodata: NaN, or -128 for int8.

    Args:
        grid: Grid with coordinates lon and lat, and at most one dimension more.
        path: File that is written. What this function wrote there before is replaced.

    Raises:
        ValueError: If steps are not equal, cells reach off the map, or GeoTIFF has no such
            numbers.
        FileExistsError: If there is something else at ``path``.
        BlockingIOError: If another process is writing to ``path``.
    """
    grid, layout = _lay_out(grid)
    with _reserve(path) as (target, work):
        _write_raster(grid, layout, target, work)
    return Path(path)


@dataclass(frozen=True)
class _Lines:
    """The rows or columns of a raster.

    Attributes:
        source: Index along the grid that each line shows; -1 for none.
        start_deg: Outer edge of the first line: the northern or the western one.
        step_deg: Width of a line.
    """

    source: Int64[np.ndarray, " lines"]
    start_deg: float
    step_deg: float


def _lay_out(grid: xr.DataArray) -> tuple[xr.DataArray, tuple[_Lines, _Lines]]:
    """The grid as ``(lat, lon, feature)``, and the rows and columns of its raster."""
    names = find_lonlat_names(grid.coords)
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


def _lay_out_rows(latitude_deg: Shaped[np.ndarray, " rows"]) -> _Lines:
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
    return _Lines(source, start_deg, (start_deg - max(south_deg, -90.0)) / len(source))


def _lay_out_columns(longitude_deg: Shaped[np.ndarray, " columns"]) -> _Lines:
    source, west_deg, step_deg = _find_edges(
        np.unwrap(longitude_deg.astype(np.float64), period=360)
    )
    tolerance = STEP_TOLERANCE * step_deg
    west_deg = (west_deg + tolerance + 180) % 360 - 180 - tolerance  # from -180, or just before
    if west_deg + step_deg * len(source) <= 180 + tolerance:
        start_deg = max(west_deg, -180.0)
        return _Lines(source, start_deg, min(step_deg, (180 - start_deg) / len(source)))
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
    return _Lines(columns, -180.0, 360 / len(columns))


def _find_edges(
    axis_deg: Shaped[np.ndarray, " lines"],
) -> tuple[Int64[np.ndarray, " lines"], float, float]:
    """Order of the lines of an axis from the least, the lower edge of the first, and the step."""
    order = np.argsort(axis_deg)
    places = axis_deg[order].astype(np.float64)
    step_deg = (places[-1] - places[0]) / max(1, len(places) - 1) if len(places) else 0.0
    errors = np.abs(places - places[:1] - step_deg * np.arange(len(places)))
    if step_deg == 0 or not errors.max() <= STEP_TOLERANCE * step_deg:
        raise ValueError("a GeoTIFF needs two or more lat and lon in equal steps: write Zarr")
    return order, float(places[0] - step_deg / 2), float(step_deg)


def _write_raster(
    grid: xr.DataArray, layout: tuple[_Lines, _Lines], target: Path, work: Path
) -> None:
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
    """Values of some rows and columns of a grid, of which each is read once."""
    (row, row_again), (column, column_again) = (
        np.unique(index, return_inverse=True) for index in (rows, columns)
    )
    lat, lon, _ = grid.dims
    return grid.isel({lat: row, lon: column}).values[row_again][:, column_again]


def _write_header(grid: xr.DataArray, path: Path) -> None:
    """A Zarr store without values: a file per block, in which chunks can be read alone."""
    names = find_lonlat_names(grid.coords) or ()
    cells = {grid[n].dims: size for n, size in zip(names, CHUNK_CELLS[::-1], strict=False)}
    block = {dim: sizes[0] for dim, sizes in zip(grid.dims, grid.chunks, strict=True)}
    chunk = {dim: min(cells.get((dim,), size), size) for dim, size in block.items()}
    encoding = {
        "chunks": tuple(chunk.values()),
        "shards": tuple(-(-block[dim] // chunk[dim]) * chunk[dim] for dim in block),
        "compressors": [COMPRESSOR],
    }
    dataset = grid.to_dataset().assign_attrs(Conventions="CF-1.11", source=MADE_BY)
    with write_atomically(path) as scratch:
        dataset.to_zarr(
            scratch,
            zarr_format=3,
            consolidated=False,
            compute=False,
            encoding={grid.name: encoding},
        )


def _write_block(block: Shaped[np.ndarray, "..."], array: Path, region: tuple[slice, ...]) -> None:
    zarr.open_array(array, mode="r+")[region] = block


@contextmanager
def _reserve(path: Path | str) -> Iterator[tuple[Path, Path]]:
    """Yield what a path leads to, and a folder beside it for this process alone.

    The folder stays if the block fails, for a later run to go on, and goes if it succeeds.
    """
    target = Path(path).resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    work = target.with_name(f".{target.name}.saving")
    lock = FileLock(work.with_suffix(".lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise BlockingIOError(
            f"another process is writing {target}: wait for it, or choose another path"
        ) from None
    try:
        _refuse_others(target)
        work.mkdir(exist_ok=True)
        yield target, work
        shutil.rmtree(work)
    finally:
        with suppress(OSError):
            work.rmdir()  # if nothing was kept
        Path(lock.lock_file).unlink(missing_ok=True)  # while it is held, so that none is lost
        lock.release()


def _refuse_others(target: Path) -> None:
    """Let only nothing, or what this module wrote, be replaced."""
    if target.suffix.lower() in TIF_SUFFIXES:
        is_ours = not target.exists() or (target.is_file() and _was_made_here(target))
    else:
        files = [path for path in target.rglob("*") if not path.is_dir()]
        names = [path.relative_to(target).as_posix() for path in files]
        is_ours = not target.exists() or (target.is_dir() and not files)
        if "zarr.json" in names and all(map(STORE_FILE.fullmatch, names)):
            attrs = zarr.open_group(target, mode="r").attrs
            is_ours = attrs.get("source") == MADE_BY
    if not is_ours:
        raise FileExistsError(
            f"{target} holds something that save_grid did not write: move it away, or choose "
            "another path"
        )


def _was_made_here(tif: Path) -> bool:
    try:
        with rasterio.open(tif, driver="GTiff") as file:
            return file.tags().get("TIFFTAG_SOFTWARE") == MADE_BY
    except RasterioError:
        return False
