"""S2-100K, the data set of the paper: fetch it, check it, and put it into a patch store.

It comes as a folder with ``index.csv`` (columns lat, lon, fn; a rebuilt one also has those of
``PROVENANCE``) and either ``images/patch_<N>.tif`` or ``data/shard-*.tar`` with these tifs
inside, which are read where they are. A patch is 12 bands (``sentinel2.BAND_NAMES``) of
256 x 256 pixels of 10 m, uint16, reflectance times 10,000.

Source: Klemmer et al. (2023), arXiv 2311.17179.
"""

import csv
import json
import logging
import tarfile
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.warp
from jaxtyping import Shaped
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from satclip_lib.data.patch_store import PROVENANCE, Split
from satclip_lib.data.patch_writer import PatchWriter
from satclip_lib.data.quality import (
    PATCH_SHAPE,
    PatchChecker,
    measure_patch,
    report_path,
    save_report,
)
from satclip_lib.data.registry import FileUnavailableError, list_local_folders, raw_folder
from satclip_lib.data.sentinel2 import (
    BAND_NAMES,
    DIGITAL_NUMBERS_PER_REFLECTANCE,
    find_bands_of_tif,
)
from satclip_lib.files import fingerprint, is_offline, write_atomically
from satclip_lib.progress import progress_bar
from satclip_lib.sphere import compute_distance_km

logger = logging.getLogger(__name__)

REPO_ID = "torchgeo/s2-100k"
COMPLETE_NAME = "complete.json"  # written last by fetch_s2_100k
HUB_FOLDER = ".cache/huggingface"  # made by a download before its first file
READ_AHEAD = 32  # patches; 1.5 MiB each
NUMBERS = {"lon", "lat", "cloud_cover", "orbit"}  # columns of the index


class IncompleteMirrorError(FileNotFoundError):
    """A copy of the data set lacks patches that its index names."""


@dataclass(frozen=True)
class PatchFile:
    """Where one patch is, and what the index says about it.

    Attributes:
        fn: File name, "patch_<N>.tif".
        path: Path of the tif, or of the tar that holds it; None if it is missing.
        offset: Where the tif begins in the tar, bytes; None for a file of its own.
        num_bytes: Size of the tif.
        lonlat: Longitude and latitude in the index, degrees; None if they are not there.
        provenance: What else the index says, see ``PROVENANCE``.
    """

    fn: str
    path: Path | None = None
    offset: int | None = None
    num_bytes: int = 0
    lonlat: tuple[float, float] | None = None
    provenance: dict[str, Any] = field(default_factory=dict)


def fetch_s2_100k(*, repo_id: str = REPO_ID, revision: str | None = None) -> Path:
    """Folder with a local copy of the data set, downloaded if there is none.

    Looks for ``s2-100k`` where :func:`satclip_lib.data.registry.fetch_file` looks for files, and
    then downloads into ``data/raw`` from the Hugging Face Hub, unless ``SATCLIP_OFFLINE=1``. A
    patch takes about 0.9 MB. An interrupted download goes on where it stopped.

    Args:
        repo_id: Data set on the Hub, in one of the layouts above. Like ``revision`` only for
            downloads, since a copy does not say what it was made from.
        revision: Commit, tag or branch; None is "main" as it was when it was first downloaded.

    Raises:
        ValueError: If there is such a copy, and ``repo_id`` or ``revision`` is given.
        NotADirectoryError: If ``SATCLIP_DATA_MIRROR`` does not name a folder.
        FileUnavailableError: If there is no copy and none can be downloaded.
    """
    raw = raw_folder() / "s2-100k"
    complete = raw / COMPLETE_NAME
    is_download = complete.is_file() or (raw / HUB_FOLDER).is_dir()
    folders = [folder / "s2-100k" for folder in list_local_folders()]
    for folder in folders:
        if not folder.is_dir() or (folder == raw and (is_download or not _has_index(raw))):
            continue
        if (repo_id, revision) != (REPO_ID, None):
            raise ValueError(
                f"repo_id is {repo_id!r} and revision {revision!r}, but the copy in {folder} does "
                "not say what it is of: leave both out, or move the copy away to download"
            )
        return folder
    wanted = {"repo_id": repo_id, "revision": revision}
    if complete.is_file() and json.loads(complete.read_text()) == wanted:
        return raw
    where = f"{repo_id} is not in {', '.join(map(str, folders))}"
    if is_offline():
        raise FileUnavailableError(
            f"{where}, and SATCLIP_OFFLINE forbids downloading it. Put a whole copy there, without "
            f"{HUB_FOLDER}, or a folder s2-100k into the one that SATCLIP_DATA_MIRROR names"
        )
    from huggingface_hub import snapshot_download  # here, because it takes long to import

    complete.unlink(missing_ok=True)  # of another revision, of which the download leaves a part
    try:
        snapshot_download(
            repo_id,
            repo_type="dataset",
            revision=revision,
            local_dir=raw,
            allow_patterns=["*.csv", "*.tar", "*.tif", "*.md"],
        )
    except OSError as error:  # connection, disk, and all errors of the Hub
        raise FileUnavailableError(
            f"{where}, and the download failed ({error}). What has arrived is kept in {raw}: "
            "run again to go on"
        ) from error
    with write_atomically(complete) as scratch:
        scratch.write_text(json.dumps(wanted))
    return raw


def list_patches(folder: Path | str) -> list[PatchFile]:
    """All patches that the index names, in its order, then those it does not name, by name.

    Raises:
        FileNotFoundError: If the folder has neither an index nor patches.
        ValueError: If a line of the index cannot be read, or names a patch twice, or if a shard
            or a file cannot be what its name says.
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
    with _open(file) as tif:
        return tif.read()


def make_s2_100k_store(
    folder: Path | str,
    path: Path | str,
    *,
    val_fraction: float = 0.1,
    split: Split = "spatial",
    seed: int = 0,
    keep_sea: bool = False,
    max_missing_share: float = 0.0,
    num_threads: int = 4,
) -> Path:
    """Put the good patches of a folder into a patch store, bit for bit, in the order of the index.

    The report, with the reason for each patch that was left out, is written beside the store, see
    :func:`satclip_lib.data.quality.load_report`. A run that was killed continues, and ends with
    the same store as one that was not; a store made before from the same files is kept.

    Args:
        folder: Folder of the data set, in one of the layouts at the head of this module.
        path: Patch store that is written.
        val_fraction: Share of the patches that are held out for validation.
        split: How these are chosen, see :func:`satclip_lib.data.patch_store.make_split`.
        seed: Random seed for the split.
        keep_sea: Whether patches at sea pass; the paper's data set has them.
        max_missing_share: Share of the patches, 0 to 1, that may be missing. What is missing is
            in the report; 1 takes whatever there is.
        num_threads: Number of threads that read patches.

    Raises:
        IncompleteMirrorError: If patches named in the index are missing, or there is no index to
            know by, more than ``max_missing_share`` of them.
        ValueError: If no patch is good, or as :func:`list_patches` says.
    """
    files = list_patches(folder)
    _check_complete(files, Path(folder), max_missing_share)
    plan = _hash_plan(files, val_fraction, split, seed, keep_sea)
    sizes = {"capacity": len(files), "patch_shape": PATCH_SHAPE, "dtype": "uint16"}
    with PatchWriter(path, plan=plan, **sizes) as writer:
        if writer.is_finished and report_path(path).is_file():
            return writer.path
        for row, patch in _check(files, keep_sea, num_threads, done=writer.rows):
            writer.add(row, patch)
        save_report(writer.rows, path)
        num_good = sum(row["is_kept"] for row in writer.rows)
        logger.info("%d of %d patches are good", num_good, len(files))
        return writer.finish(
            val_fraction=val_fraction,
            split=split,
            seed=seed,
            band_names=BAND_NAMES,
            scale=1 / DIGITAL_NUMBERS_PER_REFLECTANCE,
            source="S2-100K, Sentinel-2 Level-2A, 10 m (arXiv 2311.17179)",
        )


def _check(
    files: list[PatchFile], keep_sea: bool, num_threads: int, done: Sequence[dict[str, Any]] = ()
) -> Iterator[tuple[dict[str, Any], np.ndarray | None]]:
    """The row of the report of each file behind those done, and its pixels if they are good."""
    checker = PatchChecker(keep_sea=keep_sea)
    for row in done:
        if not row["reason"]:
            checker.remember(row)
    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor(num_threads) as pool,
        progress_bar(total=len(files), initial=len(done), desc="patches") as bar,
    ):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # it becomes a row of the report
        for start in range(len(done), len(files), READ_AHEAD):  # bounds what waits in memory
            for row, patch in pool.map(_examine, files[start : start + READ_AHEAD]):
                reason, detail = checker.find_fault(row) or ("", "")
                del row["fault"]
                yield row | {"reason": reason, "detail": detail}, None if reason else patch
                bar.update()


def _examine(file: PatchFile) -> tuple[dict[str, Any], np.ndarray | None]:
    """All that can be said of one file without knowing the others."""
    lon, lat = file.lonlat or (None, None)
    row = {"fn": file.fn, "lon": lon, "lat": lat, "coordinates": "index" if file.lonlat else ""}
    row |= {"distance_km": None, "fault": None} | file.provenance
    if file.path is None:
        return row | {"fault": ("missing", "")}, None
    try:
        with _open(file) as tif:
            fault, centre = _find_fault_of_format(tif), _find_centre(tif)
            patch = None if fault else tif.read()
    except (RasterioError, OSError, ValueError) as error:
        return row | {"fault": ("unreadable", str(error.__cause__ or error))}, None
    if file.lonlat and centre:
        row["distance_km"] = compute_distance_km(*np.array([[file.lonlat], [centre]])).item()
    elif centre:
        row |= {"lon": centre[0], "lat": centre[1], "coordinates": "file"}
    return (row | {"fault": fault}, None) if fault else (row | measure_patch(patch), patch)


def _find_fault_of_format(tif: rasterio.DatasetReader) -> tuple[str, str] | None:
    """What the head of a tif says is wrong, before memory is taken for its pixels."""
    if (shape := (tif.count, tif.height, tif.width)) != PATCH_SHAPE:
        return "wrong shape", str(shape)
    if set(tif.dtypes) != {"uint16"}:
        return "wrong dtype", tif.dtypes[0]
    with suppress(ValueError):
        if find_bands_of_tif(tif.descriptions, what=tif.name) == list(range(tif.count)):
            return None
    return "wrong bands", " ".join(map(str, tif.descriptions))


def _find_centre(tif: rasterio.DatasetReader) -> tuple[float, float] | None:
    """Longitude and latitude of the centre of the picture, degrees."""
    if tif.crs is None:
        return None
    left, bottom, right, top = tif.bounds
    x, y = (left + right) / 2, (bottom + top) / 2
    (lon,), (lat,) = rasterio.warp.transform(tif.crs, "EPSG:4326", [x], [y])
    return lon, lat


def _open(file: PatchFile) -> rasterio.DatasetReader:
    where = "" if file.offset is None else f"/vsisubfile/{file.offset}_{file.num_bytes},"
    return rasterio.open(f"{where}{file.path}", driver="GTiff")


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


def _check_complete(files: list[PatchFile], folder: Path, max_missing_share: float) -> None:
    missing = [file.fn for file in files if file.path is None]
    share = len(missing) / len(files)
    problem = f"{len(missing)} of the {len(files)} patches are missing, such as {missing[:1]}"
    if not missing and all(file.lonlat is None for file in files):
        share = 1.0
        problem = f"there are {len(files)} patches but no index.csv to say how many there should be"
    if share > max_missing_share:
        raise IncompleteMirrorError(
            f"in {folder} {problem}: complete it, or raise max_missing_share (now "
            f"{max_missing_share:g}; 1 takes what there is)"
        )


def _hash_plan(files: list[PatchFile], *settings: Any) -> str:
    """Hash of what the store depends on; where the files are does not matter."""
    about = [asdict(file) | {"path": file.path is None, "offset": None} for file in files]
    return fingerprint(settings, about)
