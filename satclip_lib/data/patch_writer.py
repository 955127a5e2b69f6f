"""Patch stores that are larger than memory: written shard by shard, read patch by patch."""

import json
import logging
import os
import shutil
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from jaxtyping import Shaped

from satclip_lib.data.patch_store import (
    COMPRESSORS,
    PROVENANCE,
    Split,
    choose_chunks,
    hash_content,
    make_coordinates,
    make_split,
    open_patches,
)
from satclip_lib.files import hold_folder, write_text

logger = logging.getLogger(__name__)


DATETIME_ENCODING = {
    "units": "milliseconds since 1970-01-01",
    "dtype": "int64",
    "_FillValue": np.iinfo(np.int64).min,
}
WRITE_ZEROS = {"write_empty_chunks": True}  # so that a file that is not there was lost


class PatchWriter:
    """Writes a patch store that is larger than memory, and continues what a killed run began.

    Patches are collected until a shard is full; the shard is written first, then a file with the
    rows of its patches. So whenever a run is killed, the next one finds on disk what was finished:
    it is in ``rows``, and the run goes on with the patch that follows. The store appears under its
    name only when it is complete.

    Args:
        path: Path of the store.
        plan: Hash of everything the result depends on. A run continues another one only if their
            plans are the same, and replaces a store that was made by another plan.
        capacity: Largest number of patches that may come.
        patch_shape: Shape of a patch, (bands, size, size).
        dtype: Type of the patches.

    Raises:
        BlockingIOError: If another run is writing this store by this plan.

    Attributes:
        rows: Values that :meth:`add` was given for each patch, in order, also by earlier runs.

    Example:
        >>> sizes = {"capacity": 100, "patch_shape": (3, 8, 8), "dtype": "u1"}
        >>> with PatchWriter(path, plan=plan, **sizes) as writer:
        ...     for name in names[len(writer.rows) :]:
        ...         writer.add({"fn": name, "lon": 0.0, "lat": 0.0, "sha256": ...}, read(name))
        ...     writer.finish(...)
    """

    def __init__(
        self,
        path: Path | str,
        *,
        plan: str,
        capacity: int,
        patch_shape: tuple[int, int, int],
        dtype: str | np.dtype,
    ):
        self.path, self.plan = Path(path), plan
        self._folder = self.path.with_name(f".building-{plan[:16]}-{self.path.name}")
        self._store = self._folder / "store"
        self._capacity, self._patch_shape, self._dtype = capacity, patch_shape, np.dtype(dtype)
        self.rows: list[dict[str, Any]] = []
        self._num_saved = self._num_buffered = 0
        self._held = ExitStack()
        if self.is_finished:  # what is left if a run was killed after its last step but one
            shutil.rmtree(self._folder, ignore_errors=True)
            return
        self._held.enter_context(hold_folder(self._folder))
        for other in self.path.parent.glob(f".building-*-{self.path.name}"):
            if other != self._folder:
                logger.warning("%s was begun with other settings; delete it if unwanted", other)
        for file in sorted(self._folder.glob("rows-*.json")):
            self.rows += json.loads(file.read_text())
        self._num_saved = len(self.rows)  # the rows that are on disk, and the shards with them
        if self.rows:
            logger.info("continuing %s behind %d patches", self._folder, len(self.rows))

    def __enter__(self) -> "PatchWriter":
        return self

    def __exit__(self, *error: object) -> None:
        """Let the next run in, also after an error."""
        self._held.close()

    @property
    def is_finished(self) -> bool:
        """Whether the store is there, made by the same plan."""
        return self.path.is_dir() and open_patches(self.path).attrs.get("plan") == self.plan

    def add(self, row: dict[str, Any], patch: Shaped[np.ndarray, "bands size size"] | None) -> None:
        """Append a patch, or the row of one that is left out.

        Args:
            row: Values that JSON can hold; for a patch at least "lon", "lat", degrees, and
                "sha256", see :func:`hash_patch`.
            patch: Pixels; None if the patch is left out of the store. Its row is kept in ``rows``.
        """
        self.rows.append(row | {"is_kept": patch is not None})
        if patch is not None:
            self._buffer[self._num_buffered] = patch
            self._num_buffered += 1
            if self._num_buffered == len(self._buffer):
                self._write_shard()

    def finish(
        self,
        *,
        val_fraction: float,
        seed: int,
        band_names: tuple[str, ...],
        scale: float,
        source: str,
        split: Split = "spatial",
    ) -> Path:
        """Write what is left, the coordinates and the attributes, and put the store in its place.

        Rows may have values for the names in ``PROVENANCE``. The other arguments are those of
        :func:`make_patch_dataset` and :func:`make_split`.

        Raises:
            ValueError: If no patch was kept.
        """
        if self._num_saved < len(self.rows):
            self._write_shard()
        kept = [row for row in self.rows if row["is_kept"]]
        if not kept:
            raise ValueError(f"none of {len(self.rows)} patches is good: there is nothing to store")
        array = self._open_array()
        array.resize((len(kept), *self._patch_shape))
        lonlat = np.array([(row["lon"], row["lat"]) for row in kept])
        is_val = make_split(lonlat, fraction=val_fraction, seed=seed, kind=split)
        description = f"{self._patch_shape} {self._dtype} {band_names} {scale}"
        patch_hashes = [row["sha256"] for row in kept]
        dataset = make_coordinates(lonlat, is_val, band_names).assign_attrs(
            scale=scale,
            source=source,
            sha256=hash_content(patch_hashes, lonlat, is_val, description),
            plan=self.plan,
        )
        for name, meaning in PROVENANCE.items():
            values = pd.Series([row.get(name) for row in kept], dtype=object)
            if values.notna().any():
                column = ("patch", _to_column(name, values), {"long_name": meaning})
                dataset = dataset.assign_coords({name: column})
        for leftover in self._store.iterdir():  # of a run killed while it did what follows
            if leftover.name != "patches" and leftover.is_dir():
                shutil.rmtree(leftover)
        encoding = {"datetime": DATETIME_ENCODING} if "datetime" in dataset.coords else {}
        dataset.to_zarr(self._store, mode="a", zarr_format=3, consolidated=False, encoding=encoding)
        if self.path.is_dir():  # not deleted in its place: that may be killed half-way
            os.replace(self.path, self._folder / "replaced")
        os.replace(self._store, self.path)
        shutil.rmtree(self._folder)
        return self.path

    @cached_property
    def _buffer(self) -> np.ndarray:
        _, shard = choose_chunks(self._capacity, self._patch_shape, self._dtype)
        return np.empty(shard, self._dtype)

    def _write_shard(self) -> None:
        start = sum(row["is_kept"] for row in self.rows[: self._num_saved])
        shard_file = self._store / f"patches/c/{start // len(self._buffer)}"
        shutil.rmtree(shard_file, ignore_errors=True)  # of a run killed between the two files
        if self._num_buffered:
            self._open_array()[start : start + self._num_buffered] = self._buffer[
                : self._num_buffered
            ]
        number = len(list(self._folder.glob("rows-*.json")))
        new = json.dumps(self.rows[self._num_saved :])
        write_text(self._folder / f"rows-{number:05}.json", new)
        self._num_saved, self._num_buffered = len(self.rows), 0

    def _open_array(self) -> zarr.Array:
        if (self._store / "patches/zarr.json").is_file():
            array = zarr.open_array(self._store, path="patches", mode="r+", config=WRITE_ZEROS)
            array.resize((self._capacity, *self._patch_shape))  # a killed finish() made it smaller
            return array
        chunk, shard = choose_chunks(self._capacity, self._patch_shape, self._dtype)
        return zarr.create_array(
            self._store,
            name="patches",
            shape=(self._capacity, *self._patch_shape),
            dtype=self._dtype,
            chunks=chunk,
            shards=shard,
            compressors=COMPRESSORS,
            config=WRITE_ZEROS,
            fill_value=0,
            dimension_names=("patch", "band", "y", "x"),
            overwrite=True,
        )


def _to_column(name: str, column: pd.Series) -> np.ndarray:
    """Times as datetime64, numbers as float64 (NaN where not known), the rest as text."""
    if name == "datetime":
        times = pd.to_datetime(column, utc=True, format="ISO8601")
        return times.dt.tz_localize(None).to_numpy("datetime64[ms]")
    if name in ("cloud_cover", "orbit"):
        return pd.to_numeric(column).to_numpy(np.float64)
    return column.where(column.notna(), "").astype(str).to_numpy(object)
