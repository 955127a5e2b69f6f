"""S2-100K, the data set of the paper: fetch it, check it, and put it into a patch store.

:mod:`satclip_lib.data.s2_folder` describes its layout.

Source: Klemmer et al. (2023), arXiv 2311.17179.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.warp
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from satclip_lib.data.patch_store import Split
from satclip_lib.data.patch_writer import PatchWriter
from satclip_lib.data.quality import (
    PATCH_SHAPE,
    PatchChecker,
    measure_patch,
    report_path,
    save_report,
)
from satclip_lib.data.registry import FileUnavailableError, list_local_folders
from satclip_lib.data.s2_folder import PatchFile, list_patches, open_patch
from satclip_lib.data.sentinel2 import (
    BAND_NAMES,
    DIGITAL_NUMBERS_PER_REFLECTANCE,
    find_bands_of_tif,
)
from satclip_lib.files import fingerprint, is_offline
from satclip_lib.progress import progress_bar
from satclip_lib.sphere import compute_distance_km

logger = logging.getLogger(__name__)

REPO_ID = "torchgeo/s2-100k"
NUM_THREADS = 4  # that read patches
READ_AHEAD = 32  # patches; 1.5 MiB each


class IncompleteMirrorError(FileNotFoundError):
    """A copy of the data set lacks patches that its index names."""


def fetch_s2_100k() -> Path:
    """Folder with a local copy of the data set, downloaded if there is none.

    Looks for ``s2-100k`` where :func:`satclip_lib.data.registry.fetch_file` looks for files, and
    then downloads into ``data/raw`` from the Hugging Face Hub, unless ``SATCLIP_OFFLINE=1``. A
    patch takes about 0.9 MB. An interrupted download waits in ``s2-100k.part``, and goes on where
    it stopped.

    Raises:
        NotADirectoryError: If ``SATCLIP_DATA_MIRROR`` does not name a folder.
        FileUnavailableError: If there is no copy and none can be downloaded.
    """
    folders = [folder / "s2-100k" for folder in list_local_folders()]
    for folder in folders:
        if folder.is_dir():
            return folder
    where = f"{REPO_ID} is not in {', '.join(map(str, folders))}"
    if is_offline():
        raise FileUnavailableError(
            f"{where}, and SATCLIP_OFFLINE forbids downloading it. Put a whole copy there, or "
            "into a folder s2-100k inside SATCLIP_DATA_MIRROR"
        )
    from huggingface_hub import snapshot_download  # here, because it takes long to import

    part = folders[-1].with_suffix(".part")
    wanted = ["*.csv", "*.tar", "*.tif", "*.md"]
    try:
        snapshot_download(REPO_ID, repo_type="dataset", local_dir=part, allow_patterns=wanted)
    except OSError as error:  # connection, disk, and all errors of the Hub
        raise FileUnavailableError(
            f"{where}, and the download failed ({error}). The files so far are in {part}: "
            "run again to continue"
        ) from error
    return part.rename(folders[-1])


def make_s2_100k_store(
    folder: Path | str,
    path: Path | str,
    *,
    val_fraction: float = 0.1,
    split: Split = "spatial",
    seed: int = 0,
    keep_sea: bool = False,
    max_missing_share: float = 0.0,
) -> Path:
    """Put the good patches of a folder into a patch store, bit for bit, in the order of the index.

    The report, with the reason for each patch that was left out, is written beside the store, see
    :func:`satclip_lib.data.quality.load_report`. A run that was killed continues, and ends with
    the same store as one that was not; a store made before from the same files is kept.

    Args:
        folder: Folder of the data set, see :mod:`satclip_lib.data.s2_folder`.
        path: Patch store that is written.
        val_fraction: Share of the patches that are held out for validation.
        split: How these are chosen, see :func:`satclip_lib.data.patch_store.make_split`.
        seed: Random seed for the split.
        keep_sea: Whether patches at sea pass; the paper's data set has them.
        max_missing_share: Largest share of the patches, 0 to 1, that may be missing. The report
            lists them; 1 takes all patches that are there.

    Raises:
        IncompleteMirrorError: If more than ``max_missing_share`` of the patches in the index are
            missing. Without an index that share counts as 1.
        ValueError: If no patch is good, or if :func:`list_patches` raises it.
    """
    files = list_patches(folder)
    _check_complete(files, Path(folder), max_missing_share)
    plan = _hash_plan(files, val_fraction, split, seed, keep_sea)
    sizes = {"capacity": len(files), "patch_shape": PATCH_SHAPE, "dtype": "uint16"}
    with PatchWriter(path, plan=plan, **sizes) as writer:
        if writer.is_finished and report_path(path).is_file():
            return writer.path
        for row, patch in _check(files, keep_sea, done=writer.rows):
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
    files: list[PatchFile], keep_sea: bool, done: Sequence[dict[str, Any]] = ()
) -> Iterator[tuple[dict[str, Any], np.ndarray | None]]:
    """The row of the report of each file behind those done, and its pixels if they are good."""
    checker = PatchChecker(keep_sea=keep_sea)
    for row in done:
        if not row["reason"]:
            checker.remember(row)
    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor(NUM_THREADS) as pool,
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
    """The row of the report of one file, before it is compared with others, and its pixels."""
    lon, lat = file.lonlat or (None, None)
    row = {"fn": file.fn, "lon": lon, "lat": lat, "coordinates": "index" if file.lonlat else ""}
    row |= {"distance_km": None, "fault": None} | file.provenance
    if file.path is None:
        return row | {"fault": ("missing", "")}, None
    try:
        with open_patch(file) as tif:
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
    """A fault that the header of a tif shows, before its pixels are read into memory."""
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
            f"{max_missing_share:g}; 1 takes all that are there)"
        )


def _hash_plan(files: list[PatchFile], *settings: Any) -> str:
    """Hash of what the store depends on; where the files are does not matter."""
    about = [asdict(file) | {"path": file.path is None, "offset": None} for file in files]
    return fingerprint(settings, about)
