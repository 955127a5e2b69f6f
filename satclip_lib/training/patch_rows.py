"""What a worker of :class:`satclip_lib.training.datamodule.PatchDataModule` does: read batches.

Workers import this module and not Lightning, and so begin twice as soon.
"""

from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Shaped
from torch import Tensor
from torch.utils.data import Dataset

from satclip_lib.data.patch_io import PatchReader

# Row numbers of a batch, its locations, and the seed of its augmentation.
BatchKey = tuple[Tensor, Tensor, int | None]


class PatchRows(Dataset):
    """The numbers of a patch store, batch by batch; every process opens it once, for itself."""

    def __init__(self, path: Path | str):
        self.path = Path(path)

    @cached_property
    def reader(self) -> PatchReader:
        """The open store."""
        return PatchReader(self.path)

    def __getitem__(
        self, key: BatchKey
    ) -> tuple[Shaped[Tensor, "batch bands height width"], Tensor, int | None]:
        rows, lonlat, seed = key
        return torch.from_numpy(self.reader.read(rows.numpy())), lonlat, seed

    def __getstate__(self) -> dict:
        return {"path": self.path}  # an open store does not travel between processes
