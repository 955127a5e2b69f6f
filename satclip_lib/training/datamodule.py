"""Images from a patch store, augmented, for training without cached features."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import lightning
import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from satclip_lib.data.patches import get_lonlat, make_split
from satclip_lib.data.sentinel2 import insert_cirrus_band, lacks_cirrus_band
from satclip_lib.data.transforms import augment, center_crop
from satclip_lib.training.batches import Batches
from satclip_lib.training.patch_rows import BatchKey, PatchRows


class PatchDataModule(lightning.LightningDataModule):
    """Batches of (images, lonlat) from a patch store, for :class:`SatCLIPModule`.

    Workers open the store once and read whole batches; integers travel as they are stored, and
    become images, scaled and augmented, on the device of the trainer. The order of epoch e, the
    jitter and the augmentation depend on ``(seed, e)`` alone, whatever the number of workers.
    Several processes share out each batch, with ``Trainer(use_distributed_sampler=False)``.

    Args:
        path: of the patch store.
        batch_size: patches per batch.
        size_px: side of the images: random crops in training, the middle in validation.
        split: "stored" is the one in the store; "spatial" and "random" make another, see
            :func:`satclip_lib.data.patches.make_split`.
        val_fraction: share of the validation patches, unless the split is "stored".
        jitter_m: training locations move by up to this many metres (1,112 m is 0.01 degree).
        num_workers: processes that read; 0 reads in this one.
        num_bands: of the image encoder; 13 gives Level-2A patches the empty B10 that it expects.
            None takes the bands as they are stored.
        seed: of split, order, jitter and augmentation.

    Raises:
        ValueError: if ``split`` is none of the three, or the store cannot give ``num_bands``.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        batch_size: int,
        size_px: int,
        split: Literal["stored", "spatial", "random"] = "stored",
        val_fraction: float = 0.1,
        jitter_m: float = 1112.0,
        num_workers: int = 0,
        num_bands: int | None = None,
        seed: int = 0,
    ):
        super().__init__()
        self.patches = PatchRows(path)
        self.batch_size, self.size_px = batch_size, size_px
        self.jitter_m, self.num_workers, self.seed = jitter_m, num_workers, seed
        dataset = self.patches.reader.dataset
        num_stored = dataset.sizes["band"]
        self.needs_cirrus = lacks_cirrus_band(
            dataset.band.values, num_bands=num_bands or num_stored
        )
        if num_bands not in (None, num_stored) and not self.needs_cirrus:
            raise ValueError(
                f"the store has {num_stored} bands and num_bands is {num_bands}: set it to "
                f"{num_stored}, or to 13 for the twelve bands of Level-2A"
            )
        self.lonlat = get_lonlat(dataset)
        if split == "stored":
            self.is_val = (dataset.split == "val").values
        else:
            self.is_val = make_split(self.lonlat, fraction=val_fraction, seed=seed, kind=split)

    def train_dataloader(self) -> "PatchLoader":
        """Shuffled batches of the training split."""
        return self._make_loader(train=True)

    def val_dataloader(self) -> "PatchLoader":
        """The validation split in the order of the store."""
        return self._make_loader(train=False)

    def on_after_batch_transfer(
        self, batch: tuple[Tensor, Tensor, int | None], dataloader_idx: int
    ) -> tuple[Float32[Tensor, "batch bands size_px size_px"], Float64[Tensor, "batch 2"]]:
        """Make images of what the loader sends; Lightning calls it on the trainer's device."""
        numbers, lonlat, seed = batch
        images = numbers.to(torch.float32).mul_(self.patches.reader.dataset.attrs["scale"])
        if self.needs_cirrus:
            images = insert_cirrus_band(images)
        if seed is None:
            return center_crop(images, size_px=self.size_px), lonlat
        return augment(images, size_px=self.size_px, seed=seed), lonlat

    def _make_loader(self, *, train: bool) -> "PatchLoader":
        batches = Batches(
            lambda rows, views: torch.from_numpy(rows),
            self.lonlat,
            rows=np.flatnonzero(self.is_val != train),
            batch_size=self.batch_size,
            shuffle=train,
            jitter_m=self.jitter_m,
            seed=self.seed,
        )
        return PatchLoader(
            self.patches,
            sampler=BatchSampler(batches),
            batch_size=None,  # the sampler makes batches, and the data set reads them whole
            collate_fn=tuple,  # as it is
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            multiprocessing_context="spawn" if self.num_workers else None,  # Zarr runs threads
            pin_memory=torch.cuda.is_available(),
        )


class BatchSampler(Sampler):
    """Says which rows make up each batch; drawn in the main process, the same for any workers."""

    def __init__(self, batches: Batches):
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[BatchKey]:
        batches = self.batches
        seeds = np.random.SeedSequence((batches.seed, batches.epoch)).generate_state(len(batches))
        for (rows, lonlat), seed in zip(batches, seeds.tolist(), strict=True):
            yield rows, lonlat, seed if batches.shuffle else None


class PatchLoader(DataLoader):
    """A loader whose order, jitter and augmentation follow the epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass."""
        self.sampler.batches.set_epoch(epoch)

    def share(self, rank: int, num_processes: int) -> None:
        """Read only one process's part of each batch."""
        self.sampler.batches.share(rank, num_processes)
