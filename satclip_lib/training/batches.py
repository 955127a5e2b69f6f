"""Shuffled batches of (features or images, lonlat): what the training step is fed."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

EARTH_METRES_PER_DEG = 111_195.0


class Batches:
    """Iterates over locations and what was seen there, in a new order each epoch.

    The order of epoch e depends on ``(seed, e)`` alone, so a resumed run sees what an
    uninterrupted one would have seen. Call :meth:`set_epoch` before each pass.

    Args:
        load: called with sorted row numbers, returns features ``(batch, num_features)`` or
            images ``(batch, bands, height, width)``, in the order of the rows.
        lonlat: ``(num_patches, 2)`` degrees.
        rows: the rows of this split.
        batch_size: rows per batch; a last batch that is smaller is dropped when shuffling,
            because the loss depends on the number of negatives, and kept when not.
        shuffle: draw a new order each epoch, and jitter the locations.
        jitter_m: locations move by up to this many metres north-south and east-west.
        seed: of order and jitter.
    """

    def __init__(
        self,
        load: Callable[[Int64[np.ndarray, " batch"]], Tensor],
        lonlat: Float64[np.ndarray, "num_patches 2"],
        *,
        rows: Int64[np.ndarray, " num_rows"],
        batch_size: int,
        shuffle: bool,
        jitter_m: float = 0.0,
        seed: int = 0,
    ):
        if batch_size < 2:
            raise ValueError(f"batch_size must be at least 2 to have negatives, got {batch_size}")
        if len(rows) < 2:
            raise ValueError(
                f"a split needs at least 2 patches, got {len(rows)}: raise num_patches"
            )
        self.load, self.lonlat, self.rows = load, lonlat, np.sort(rows)
        self.batch_size = min(batch_size, len(rows))
        self.shuffle, self.jitter_m, self.seed = shuffle, jitter_m, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass."""
        self.epoch = epoch

    def __len__(self) -> int:
        full, rest = divmod(len(self.rows), self.batch_size)
        return full + (rest >= 2 and not self.shuffle)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.permutation(self.rows) if self.shuffle else self.rows
        for index in range(len(self)):
            rows = np.sort(order[index * self.batch_size : (index + 1) * self.batch_size])
            lonlat = self.lonlat[rows]
            if self.shuffle and self.jitter_m:
                lonlat = jitter_lonlat(lonlat, max_metres=self.jitter_m, rng=rng)
            yield self.load(rows), torch.from_numpy(lonlat)


def jitter_lonlat(
    lonlat: Float64[np.ndarray, "batch 2"], *, max_metres: float, rng: np.random.Generator
) -> Float64[np.ndarray, "batch 2"]:
    """Move locations by up to ``max_metres`` along both axes, symmetrically, anywhere on Earth.

    The published code adds 0 to 0.01 degree to both coordinates, which pulls every location to
    the north-east, and less far east the closer it is to a pole.
    """
    north_deg, east_deg = rng.uniform(-1, 1, (2, len(lonlat))) * max_metres / EARTH_METRES_PER_DEG
    lat = np.clip(lonlat[:, 1] + north_deg, -90, 90)
    lon = lonlat[:, 0] + east_deg / np.maximum(np.cos(np.radians(lat)), 1e-3)
    return np.stack([(lon + 180) % 360 - 180, lat], axis=1)
