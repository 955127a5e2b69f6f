"""Shuffled batches of (features or images, locations) for the training step."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor

from satclip_lib.location_encoder import LocationEncoder
from satclip_lib.sphere import METRES_PER_DEG, wrap_lonlat

MAX_HARMONICS_BYTES = 2**30  # harmonics of a split are kept up to this size


class Batches:
    """Iterates over locations with their features or images, in a new order each epoch.

    The order of epoch e depends on ``(seed, e)`` alone, so a resumed run gets the same batches as
    an uninterrupted one. Call :meth:`set_epoch` before each pass. If several processes call
    :meth:`share`, their parts together are the batches that one process would get.

    Args:
        load: Function that takes sorted row numbers and the view drawn for each, and returns
            features ``(batch, num_features)`` or images ``(batch, bands, height, width)``.
        lonlat: Locations of all patches, ``(num_patches, 2)`` degrees.
        rows: Row numbers of this split.
        batch_size: Number of rows per batch, at most all rows. A smaller last batch is dropped when
            shuffling, because the loss depends on the number of negatives; otherwise it is kept
            unless it has a single row.
        shuffle: Whether to draw a new order each epoch, and jitter the locations.
        jitter_m: Largest distance in metres by which locations move, north-south and east-west.
        num_views: Number of views per patch. One is drawn when shuffling; otherwise view 0 is used.
        seed: Random seed for order, jitter and views.

    Raises:
        ValueError: If ``batch_size`` is below 2, or the split has fewer than two rows.
    """

    def __init__(
        self,
        load: Callable[[Int64[np.ndarray, " batch"], Int64[np.ndarray, " batch"]], Tensor],
        lonlat: Float64[np.ndarray, "num_patches 2"],
        *,
        rows: Int64[np.ndarray, " num_rows"],
        batch_size: int,
        shuffle: bool,
        jitter_m: float = 0.0,
        num_views: int = 1,
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
        self.shuffle, self.seed = shuffle, seed
        self.jitter_m, self.num_views = (jitter_m, num_views) if shuffle else (0.0, 1)
        self.harmonics: Tensor | None = None
        self.epoch, self.part = 0, slice(None)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that decides the order of the next pass."""
        self.epoch = epoch

    def share(self, rank: int, num_processes: int) -> None:
        """Yield only one process's part of each batch; parts may differ by one in size."""
        self.part = slice(rank, None, num_processes)

    def keep_harmonics(self, harmonics: Float[Tensor, "num_rows num_features"]) -> None:
        """Yield these harmonics, one for each row number in ascending order, instead of degrees."""
        self.harmonics = harmonics

    def __len__(self) -> int:
        full, rest = divmod(len(self.rows), self.batch_size)
        return full + (rest >= 2 and not self.shuffle)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.permutation(self.rows) if self.shuffle else self.rows
        for index in range(len(self)):
            rows = np.sort(order[index * self.batch_size : (index + 1) * self.batch_size])
            lonlat, views = self.lonlat[rows], np.zeros(len(rows), dtype=np.int64)
            if self.jitter_m:
                lonlat = jitter_lonlat(lonlat, max_metres=self.jitter_m, rng=rng)
            if self.num_views > 1:
                views = rng.integers(self.num_views, size=len(rows))
            rows = rows[self.part]
            if self.harmonics is None:
                locations = torch.from_numpy(lonlat[self.part])
            else:
                places = torch.from_numpy(np.searchsorted(self.rows, rows))
                locations = self.harmonics[places.to(self.harmonics.device)]
            yield self.load(rows, views[self.part]), locations


def make_batches(
    views: Float32[np.ndarray, "num_views num_patches num_features"],
    lonlat: Float64[np.ndarray, "num_patches 2"],
    *,
    is_val: Bool[np.ndarray, " num_patches"],
    encoder: LocationEncoder,
    batch_size: int,
    jitter_m: float,
    seed: int,
    device: torch.device,
) -> tuple[Batches, Batches]:
    """Batches of the training split and of the validation split, from cached features.

    The harmonics of locations that do not move are computed once, up to ``MAX_HARMONICS_BYTES``.
    """
    features: np.ndarray | Tensor = views
    if device.type == "cuda":  # all of them, once: a batch is then a look-up in its memory
        features = torch.from_numpy(np.array(views)).to(device)

    def load(rows: np.ndarray, drawn: np.ndarray) -> Tensor:
        if isinstance(features, Tensor):
            return features[torch.from_numpy(drawn).to(device), torch.from_numpy(rows).to(device)]
        return torch.from_numpy(features[drawn, rows])

    training, held_out = (
        Batches(
            load,
            lonlat,
            rows=np.flatnonzero(is_val != is_training),
            batch_size=batch_size,
            shuffle=is_training,
            jitter_m=jitter_m,
            num_views=len(views),
            seed=seed,
        )
        for is_training in (True, False)
    )
    for batches in (training, held_out):
        num_bytes = 4 * len(batches.rows) * encoder.harmonics.num_features
        if not batches.jitter_m and num_bytes <= MAX_HARMONICS_BYTES:
            places = torch.from_numpy(lonlat[batches.rows]).split(8192)
            harmonics = [encoder.compute_harmonics(place.to(device)) for place in places]
            batches.keep_harmonics(torch.cat(harmonics))
    return training, held_out


def jitter_lonlat(
    lonlat: Float64[np.ndarray, "batch 2"], *, max_metres: float, rng: np.random.Generator
) -> Float64[np.ndarray, "batch 2"]:
    """Move locations by up to ``max_metres`` along both axes, symmetrically, anywhere on Earth.

    The published code adds 0 to 0.01 degree to both coordinates. This moves every location to the
    north-east, and by fewer metres to the east near the poles.
    """
    north_deg, east_deg = rng.uniform(-1, 1, (2, len(lonlat))) * max_metres / METRES_PER_DEG
    lat = np.clip(lonlat[:, 1] + north_deg, -90, 90)
    lon = lonlat[:, 0] + east_deg / np.maximum(np.cos(np.radians(lat)), 1e-3)
    return wrap_lonlat(np.stack([lon, lat], axis=1))
