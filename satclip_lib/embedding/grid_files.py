"""Grids of embeddings on disk: Zarr or cloud-optimised GeoTIFF, block by block, resumable."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import dask
import numpy as np
import rasterio
import rasterio.shutil
import xarray as xr
import zarr
from jaxtyping import Shaped
from rasterio import Affine
from rasterio.windows import Window
from tqdm.dask import TqdmCallback
from zarr.codecs import BloscCodec

from satclip_lib.embedding.grid import CHUNK_CELLS
from satclip_lib.files import fingerprint, write_atomically
from satclip_lib.progress import progress_bar

COMPRESSOR = BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle")  # without loss
TIF_SUFFIXES = (".tif", ".tiff")


def save_grid(grid: xr.DataArray, path: Path | str) -> Path:
    """Compute a lazy grid block by block, and keep each block on disk.

    Memory holds a few blocks at a time. Blocks are computed by the threads of this process, or by
    the cluster of the current ``dask.distributed.Client``, whose workers must see the same disk.
    A run that was stopped continues where it was, as long as it is for the same grid; what is
    there meanwhile lies beside ``path`` under a hidden name.

    Args:
        grid: from :func:`embed_grid`, or computed from such a grid by xarray.
        path: becomes a Zarr store, or, if it ends in ".tif", a cloud-optimised GeoTIFF with a band
            per feature. Replaced if there.

    Raises:
        ValueError: if the grid is not lazy, or cannot be a GeoTIFF.
    """
    path = Path(path)
    if grid.chunks is None:
        raise ValueError("the grid is in memory already: write it with grid.to_zarr(path)")
    is_tif = path.suffix.lower() in TIF_SUFFIXES
    if is_tif:
        make_raster_profile(grid)  # says now what cannot be done later
    staged = path.with_name(f".{path.name}-{fingerprint(grid.data.name, grid.attrs)[:12]}")
    if not staged.is_dir():
        _write_header(grid, staged)
    array = staged / str(grid.name)
    tasks = [
        dask.delayed(_write_block)(grid.data.blocks[index], array, region)
        for index, region in _list_blocks(grid)
        if not array.joinpath("c", *map(str, index)).is_file()
    ]
    with TqdmCallback(desc=path.name, tqdm_class=progress_bar, delay=1):
        dask.compute(*tasks)
    if is_tif:
        save_raster(xr.open_zarr(staged, consolidated=False, mask_and_scale=False)[grid.name], path)
        shutil.rmtree(staged)
        return path
    with write_atomically(path) as scratch:
        os.replace(staged, scratch)
    return path


def save_raster(grid: xr.DataArray, path: Path | str) -> Path:
    """Write a grid as cloud-optimised GeoTIFF, a band per feature, some rows at a time.

    Raises:
        ValueError: see :func:`make_raster_profile`.
    """
    profile = make_raster_profile(grid)
    lat = grid.dims[0]
    if grid[lat][0] < grid[lat][-1]:
        grid = grid.isel({lat: slice(None, None, -1)})
    with write_atomically(path) as scratch:
        plain = scratch.with_suffix(".plain.tif")
        try:
            with rasterio.open(plain, "w", **profile) as file:
                file.scales = [grid.attrs.get("scale_factor", 1.0)] * file.count
                for start in progress_bar(range(0, file.height, profile["blockysize"]), delay=1):
                    rows = grid.isel({lat: slice(start, start + profile["blockysize"])})
                    window = Window(0, start, file.width, len(rows))
                    file.write(np.moveaxis(rows.values, -1, 0), window=window)
            rasterio.shutil.copy(
                plain, scratch, driver="COG", compress="ZSTD", bigtiff="IF_SAFER", overviews="NONE"
            )
        finally:
            plain.unlink(missing_ok=True)
    return Path(path)


def make_raster_profile(grid: xr.DataArray) -> dict:
    """What rasterio needs to know to write a grid ``(lat, lon, feature)``.

    Raises:
        ValueError: if steps are not equal, or GeoTIFF has no such numbers.
    """
    lat, lon = (grid[name].values for name in grid.dims[:2])
    steps = [np.diff(axis) for axis in (lat, lon)]
    if any(len(step) == 0 or not np.allclose(step, step[0], rtol=1e-6) for step in steps):
        raise ValueError("a GeoTIFF needs two or more lat and lon in equal steps: write Zarr")
    if grid.dtype not in (np.float32, np.int8):
        raise ValueError(f"a GeoTIFF holds float32 or int8, got {grid.dtype}: choose another dtype")
    height_deg, width_deg = abs(steps[0][0]), steps[1][0]
    return {
        "driver": "GTiff",
        "height": len(lat),
        "width": len(lon),
        "count": grid.shape[2],
        "dtype": str(grid.dtype),
        "crs": "EPSG:4326",
        "transform": Affine(
            width_deg, 0, lon[0] - width_deg / 2, 0, -height_deg, lat.max() + height_deg / 2
        ),
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "bigtiff": "IF_SAFER",
    }


def _write_header(grid: xr.DataArray, path: Path) -> None:
    """A Zarr store without values: a file per block, in which chunks can be read alone."""
    *block, num_features = (sizes[0] for sizes in grid.chunks)
    chunk = [min(cells, size) for cells, size in zip(CHUNK_CELLS, block, strict=True)]
    shard = [-(-size // cells) * cells for cells, size in zip(chunk, block, strict=True)]
    encoding = {
        "chunks": (*chunk, num_features),
        "shards": (*shard, num_features),
        "compressors": [COMPRESSOR],
    }
    dataset = grid.to_dataset().assign_attrs(Conventions="CF-1.11")
    with write_atomically(path) as scratch:
        dataset.to_zarr(
            scratch,
            zarr_format=3,
            consolidated=False,
            compute=False,
            encoding={grid.name: encoding},
        )


def _list_blocks(grid: xr.DataArray) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """Index and place of every block."""
    starts = [np.cumsum([0, *sizes]) for sizes in grid.chunks]
    for index in np.ndindex(grid.data.numblocks):
        yield index, tuple(slice(s[i], s[i + 1]) for s, i in zip(starts, index, strict=True))


def _write_block(block: Shaped[np.ndarray, "..."], array: Path, region: tuple[slice, ...]) -> None:
    zarr.open_array(array, mode="r+")[region] = block
