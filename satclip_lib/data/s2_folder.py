"""Folders in the layout of S2-100K: which patches there are, where, and what the index holds.

A folder holds ``index.csv`` (columns lat, lon, fn; a rebuilt one also has those of
``PROVENANCE``) and either ``images/patch_<N>.tif`` or ``data/shard-*.tar`` with these tifs
inside, which are read where they are. A patch is 12 bands (``sentinel2.BAND_NAMES``) of
256 x 256 pixels of 10 m, uint16, reflectance times 10,000.
"""

import csv
import logging
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from jaxtyping import Shaped

from satclip_lib.data.patch_store import PROVENANCE
from satclip_lib.data.sentinel2 import BAND_NAMES

logger = logging.getLogger(__name__)

NUMBERS = {"lon", "lat", "cloud_cover", "orbit"}  # columns of the index


@dataclass(frozen=True)
class PatchFile:
    """Where one patch is, and its row of the index.

    Attributes:
        fn: File name, "patch_<N>.tif".
        path: Path of the tif, or of the tar that holds it; None if it is missing.
        offset: Where the tif begins in the tar, bytes; None for a file of its own.
        num_bytes: Size of the tif.
        lonlat: Longitude and latitude in the index, degrees; None if they are not there.
        provenance: Other values of the index, see ``PROVENANCE``.
    """

    fn: str
    path: Path | None = None
    offset: int | None = None
    num_bytes: int = 0
    lonlat: tuple[float, float] | None = None
    provenance: dict[str, Any] = field(default_factory=dict)


def list_patches(folder: Path | str) -> list[PatchFile]:
    """All patches that the index names, in its order, then those it does not name, by name.

    Raises:
        FileNotFoundError: If the folder has neither an index nor patches.
        ValueError: If a line of the index cannot be read, a patch is named twice, or a shard or
            a tif is not a file, is no tar, or has a name that is not UTF-8.
    """
    folder = Path(folder)
    found = {file.fn: file for file in _find_tifs(folder)}
    index = _read_index(folder / "index.csv") if _has_index(folder) else []
    if not found and not index:
        raise FileNotFoundError(
            f"{folder} has no index.csv, no images/*.tif and no tar shards: is it the folder of "
            "the data set?"
        )
    named = [
        replace(
            found.pop(row["fn"], PatchFile(row["fn"])),
            lonlat=(float(row["lon"]), float(row["lat"])) if {"lon", "lat"} <= set(row) else None,
            provenance={name: row[name] for name in PROVENANCE if name != "fn" and name in row},
        )
        for row in index
    ]
    return named + [found[fn] for fn in sorted(found)]


def read_patch(file: PatchFile) -> Shaped[np.ndarray, "bands height width"]:
    """Read the pixels of one patch, as they are in the file.

    Raises:
        rasterio.errors.RasterioError: If the file is damaged or not there.
    """
    with open_patch(file) as tif:
        return tif.read()


def open_patch(file: PatchFile) -> rasterio.DatasetReader:
    """Open the tif of a patch: a file of its own, or a part of a tar."""
    where = "" if file.offset is None else f"/vsisubfile/{file.offset}_{file.num_bytes},"
    return rasterio.open(f"{where}{file.path}", driver="GTiff")


def encode_patch(
    pixels: Shaped[np.ndarray, "12 height width"],
    crs: rasterio.CRS | str,
    transform: rasterio.Affine,
) -> bytes:
    """Encode the tif of a patch as in the data set: LZW, one tile, bands with names.

    It is made in memory, because GDAL raises no error when a disk is full.

    Args:
        pixels: Bands in the order of ``BAND_NAMES``.
        crs: UTM zone of the scene.
        transform: Transform from (column, row) to (x, y) in metres.
    """
    count, height, width = pixels.shape
    with rasterio.MemoryFile() as memory:
        with memory.open(
            driver="GTiff", dtype=pixels.dtype, count=count, height=height, width=width, crs=crs,
            transform=transform, compress="lzw", tiled=True, blockxsize=256, blockysize=256,
        ) as file:  # fmt: skip
            file.write(pixels)
            file.descriptions = BAND_NAMES
        return bytes(memory.getbuffer())


def _has_index(folder: Path) -> bool:
    path = folder / "index.csv"
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is not a file: move it away")
    return path.is_file()


def _find_tifs(folder: Path) -> Iterator[PatchFile]:
    paths = [*sorted(folder.rglob("*.tar")), *sorted((folder / "images").glob("patch_*.tif"))]
    for path in paths:
        if not path.is_file():  # a pipe would be waited for without end
            raise ValueError(f"{str(path)!a} is not a file: move it away")
        _check_name(path.name)
    for path in paths:
        if path.suffix == ".tar":
            yield from _list_shard(path)
        else:
            yield PatchFile(path.name, path=path.resolve(), num_bytes=path.stat().st_size)


def _check_name(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the name {name!a} is not UTF-8: rename the file") from None


def _list_shard(shard: Path) -> list[PatchFile]:
    """The tifs of a tar, from its headers alone; those before the damage if it is damaged."""
    files: list[PatchFile] = []
    end, num_bytes = 0, shard.stat().st_size
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                if not 0 <= member.size <= num_bytes or member.issparse() or member.offset < end:
                    raise ValueError(f"{member.name!a} has an impossible size, {member.size} bytes")
                end = member.offset + tarfile.BLOCKSIZE
                if member.isfile() and member.name.endswith(".tif"):
                    _check_name(member.name)
                    place = {"offset": member.offset_data, "num_bytes": member.size}
                    files.append(PatchFile(Path(member.name).name, shard.resolve(), **place))
    except (tarfile.TarError, EOFError, OverflowError, MemoryError) as error:
        logger.warning("%s is damaged behind its first %d patches: %s", shard, len(files), error)
    except ValueError as error:
        raise ValueError(f"{shard} is no tar of patches, get it anew: {error}") from None
    return files


def _read_index(path: Path) -> list[dict[str, str]]:
    """Rows of the index as text, without the values that are empty."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        table = csv.DictReader(file, restkey="?", strict=True)
        try:
            if absent := {"lon", "lat", "fn"} - set(table.fieldnames or ()):
                raise ValueError(f"no column {', '.join(sorted(absent))} in {table.fieldnames}")
            rows = []
            for row in table:
                rows.append({name: value for name, value in row.items() if value})
                _check_row(rows[-1])
        except (csv.Error, ValueError) as error:  # a wrong encoding among the latter
            raise ValueError(f"{path}, line {table.line_num}: {error}") from None
    rows = [row | {"fn": Path(row["fn"]).name} for row in rows]
    if twice := [fn for fn, count in Counter(row["fn"] for row in rows).items() if count > 1]:
        raise ValueError(f"{path} names {len(twice)} patches more than once, such as {twice[0]}")
    return rows


def _check_row(row: dict[str, str]) -> None:
    if "?" in row:
        raise ValueError(f"{len(row['?'])} values more than the header has names")
    if not Path(row.get("fn", "")).name:
        raise ValueError("no file name: was the index cut short?")
    for name in NUMBERS & row.keys():
        try:
            float(row[name])
        except ValueError:
            raise ValueError(f"{name} must be a number, got {row[name][:40]!r}") from None
    if "datetime" in row:
        try:
            datetime.fromisoformat(row["datetime"])
        except ValueError:
            raise ValueError(f"no ISO 8601 datetime: {row['datetime'][:40]!r}") from None
