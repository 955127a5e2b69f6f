"""Grids of embeddings on disk: Zarr or cloud-optimised GeoTIFF, block by block, resumable."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import dask
import numpy as np
import xarray as xr
import zarr
from dask.array.core import slices_from_chunks
from jaxtyping import Shaped
from tqdm.dask import TqdmCallback
from zarr.codecs import BloscCodec, Crc32cCodec

from satclip_lib.embedding.coordinates import find_variables
from satclip_lib.embedding.grid import CHUNK_CELLS
from satclip_lib.embedding.grid_rasters import MADE_BY, lay_out, was_made_here, write_raster
from satclip_lib.files import fingerprint, hold_folder, write_atomically
from satclip_lib.progress import progress_bar

# Without loss, and with a checksum, so that a flipped bit is an error.
COMPRESSORS = (BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle"), Crc32cCodec())
TIF_SUFFIXES = (".tif", ".tiff")
STORE_FILE = re.compile(r"([^/]+/)?(zarr\.json|c(/\d+)*)")


def save_grid(grid: xr.DataArray, path: Path | str) -> Path:
    """Compute a lazy grid block by block, and keep each block on disk.

    Memory holds a few blocks at a time. Blocks are computed by the threads of this process, or by
    the cluster of the current ``dask.distributed.Client``, whose workers must see the same disk.
    A run that was stopped is continued by the next one for the same grid and ``path``. Until then
    its blocks lie in a hidden folder beside ``path``; a run for another grid removes them.

    Args:
        grid: Grid from :func:`embed_grid`, or computed from such a grid by xarray. Blocks of
            unequal size, as slicing and concatenating leave them, are made equal.
        path: Zarr store (".zarr" or no suffix) or, if it ends in ".tif" or ".tiff", cloud-optimised
            GeoTIFF, see :func:`save_raster`. What this function wrote there before is replaced. A
            link is followed.

    Raises:
        ValueError: If the grid is not lazy, has no cells, or cannot be a GeoTIFF, or the suffix of
            ``path`` is another one.
        FileExistsError: If there is something else at ``path``.
        BlockingIOError: If another run is writing to ``path``.
    """
    if grid.chunks is None:
        raise ValueError("the grid is in memory already: use grid.to_zarr(path) or save_raster()")
    if grid.size == 0:
        raise ValueError(f"the grid has no cells: its sizes are {dict(grid.sizes)}")
    suffix = Path(path).suffix.lower()
    if suffix not in (".zarr", *TIF_SUFFIXES, ""):
        raise ValueError(f"a grid goes to .zarr, .tif or .tiff, got {Path(path).name}")
    is_tif = suffix in TIF_SUFFIXES
    if is_tif:
        grid, layout = lay_out(grid)  # says now what cannot be done later
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
            write_raster(stored, layout, target, work)
            _discard(store, work)
            return Path(path)
        for leftover in store.rglob("*.partial"):  # of a run killed while it wrote a block
            leftover.unlink()
        if target.exists():
            _discard(target, work)
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
        ValueError: If the steps of lon or lat are not equal, cells reach beyond the map, or the
            numbers are neither float32 nor int8.
        FileExistsError: If there is something else at ``path``.
        BlockingIOError: If another run is writing to ``path``.
    """
    grid, layout = lay_out(grid)
    with _reserve(path) as (target, work):
        write_raster(grid, layout, target, work)
    return Path(path)


def _write_header(grid: xr.DataArray, path: Path) -> None:
    """A Zarr store without values: a file per block, in which chunks can be read alone."""
    names = find_variables(grid.coords) or ()
    cells = {grid[n].dims: size for n, size in zip(names, CHUNK_CELLS[::-1], strict=False)}
    block = {dim: sizes[0] for dim, sizes in zip(grid.dims, grid.chunks, strict=True)}
    chunk = {dim: min(cells.get((dim,), size), size) for dim, size in block.items()}
    encoding = {
        "chunks": tuple(chunk.values()),
        "shards": tuple(-(-block[dim] // chunk[dim]) * chunk[dim] for dim in block),
        "compressors": COMPRESSORS,
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
    """Yield the target of a path, with links followed, and a folder beside it for one process.

    The folder is kept if the block fails, so that a later run can continue, and removed otherwise.
    """
    target = Path(path).resolve()
    work = target.with_name(f".{target.name}.saving")
    with hold_folder(work):
        try:
            _refuse_others(target)
            yield target, work
            shutil.rmtree(work)
        finally:
            with suppress(OSError):
                work.rmdir()  # if nothing was kept


def _discard(folder: Path, work: Path) -> None:
    """Move a folder away at once: a run killed while it deletes would leave half of it."""
    shutil.rmtree(work / "discarded", ignore_errors=True)
    folder.rename(work / "discarded")


def _refuse_others(target: Path) -> None:
    """Raise if there is anything at a path that this module did not write."""
    if target.suffix.lower() in TIF_SUFFIXES:
        is_ours = not target.exists() or (target.is_file() and was_made_here(target))
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
