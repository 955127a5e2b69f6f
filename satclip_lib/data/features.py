"""Image features, computed once: a frozen encoder gives the same ones in every epoch."""

import copy
import json
import math
import operator
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float32, Float64

from satclip_lib.data.images import load_images, prepare_images
from satclip_lib.data.patch_store import (
    cut_blue_marble_patches,
    get_imagery,
    get_lonlat,
    hash_patches,
)
from satclip_lib.data.transforms import augment, center_crop
from satclip_lib.files import fingerprint, sweep, write_atomically
from satclip_lib.image_encoder import ImageEncoder
from satclip_lib.progress import progress_bar

if TYPE_CHECKING:
    from distributed import Client

FORMAT = "features/3"  # of a store; stores of other formats are not found
BATCH_BYTES = 2**26  # of pixels as float32; what an encoder makes of them is several times that


@dataclass(frozen=True)
class FeatureStore:
    """A folder with the features of every patch, memory-mapped, and where each was taken."""

    folder: Path

    @cached_property
    def views(self) -> Float32[np.ndarray, "num_views num_patches num_features"]:
        """All views of all patches, read from disk only where touched; view 0 is the plain one."""
        return np.load(self.folder / "features.npy", mmap_mode="r")

    @property
    def features(self) -> Float32[np.ndarray, "num_patches num_features"]:
        """Features of the patches without augmentation: view 0."""
        return self.views[0]

    @cached_property
    def lonlat(self) -> Float64[np.ndarray, "num_patches 2"]:
        """Longitude and latitude of every patch, degrees."""
        return np.load(self.folder / "lonlat.npy")

    @cached_property
    def is_val(self) -> Bool[np.ndarray, " num_patches"]:
        """True for the patches that are held out of training."""
        return np.load(self.folder / "is_val.npy")

    @cached_property
    def about(self) -> dict[str, Any]:
        """What the features were made from.

        ``key`` and ``image_encoder`` are hashes; ``images`` has the ``scale`` and ``dtype`` of
        the patches and their hash, ``patches``.
        """
        return json.loads((self.folder / "features.json").read_text())

    @property
    def key(self) -> str:
        """Hash of the patches and of the encoder that the features were made from."""
        return self.about["key"]


def cache_features(
    dataset: xr.Dataset,
    image_encoder: ImageEncoder,
    *,
    folder: Path,
    num_views: int = 1,
    seed: int = 0,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    client: "Client | None" = None,
) -> FeatureStore:
    """Run a frozen image encoder over a patch store once per view, and keep the features.

    View 0 is the middle of the patch; the others are augmented (random crop, flips, blur) with a
    random draw for each patch and view. Training then draws among the views in every step.

    The features are found again, not recomputed, for as long as patches, encoder and arguments
    stay the same to the last bit. Memory use does not grow with the number of patches.

    Args:
        dataset: Open patch store. Level-2A patches get the empty B10 that encoders of 13 bands
            expect.
        image_encoder: Frozen encoder, ``(batch, bands, height, width) -> (batch, num_features)``.
        folder: Folder of feature stores; this one becomes ``folder/<key>``.
        num_views: Number of views per patch; 1 means no augmentation.
        seed: Random seed for the augmentation.
        batch_size: Number of patches per run of the encoder; None lets
            :func:`choose_batch_size` choose.
        device: Device on which a copy of the encoder runs; None takes the first GPU if there is
            one.
        client: Dask cluster whose workers read the patches and run the encoder. They must reach the
            patch store, by a shared folder or an address. This process writes the features.
    """
    if num_views < 1:
        raise ValueError(f"num_views must be at least 1, got {num_views}")
    num_patches = dataset.sizes["patch"]
    size_px = image_encoder.size_px or dataset.sizes["x"]  # whole patches are not shifted
    if batch_size is None:
        batch_size = choose_batch_size(dataset.patches.shape[1:])
    drawn = (num_views, seed, batch_size) if num_views > 1 else ()
    patches, encoder_hash = hash_patches(dataset), hash_image_encoder(image_encoder)
    key = fingerprint(FORMAT, patches, size_px, drawn, encoder_hash)
    path = Path(folder) / key[:16]
    if path.is_dir():
        sweep(path.parent)  # a run that was killed at its very end left its scratch folder
        return FeatureStore(path)
    with write_atomically(path) as scratch:
        scratch.mkdir()
        features = np.lib.format.open_memmap(
            scratch / "features.npy",
            mode="w+",
            dtype=np.float32,
            shape=(num_views, num_patches, image_encoder.num_features),
        )
        if hasattr(os, "posix_fallocate"):  # a full disk is an error now, and no crash later
            with open(scratch / "features.npy", "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, os.path.getsize(file.name))
        plain = _find_plain_features(path.parent, patches, encoder_hash) if num_views == 1 else None
        if plain is not None:
            features[0] = plain
        else:
            encoder = copy.deepcopy(image_encoder)  # which moves to the device
            compute = partial(_compute_features, dataset, encoder, size_px, num_views, seed, device)
            starts = range(0, num_patches, batch_size)
            slices = [slice(start, start + batch_size) for start in starts]
            found = map(compute, slices) if client is None else _compute_on(client, compute, slices)
            for batch, values in progress_bar(found, desc="image features", total=len(slices)):
                features[:, batch] = values
        features.flush()
        np.save(scratch / "lonlat.npy", get_lonlat(dataset))
        np.save(scratch / "is_val.npy", (dataset.split == "val").values)
        images = {"scale": dataset.attrs["scale"], "dtype": str(dataset.patches.dtype)}
        images["patches"] = patches
        about = {"key": key, "image_encoder": encoder_hash, "images": images}
        (scratch / "features.json").write_text(json.dumps(about))
    return FeatureStore(path)


def _find_plain_features(
    folder: Path, patches: str, encoder_hash: str
) -> Float32[np.ndarray, "num_patches num_features"] | None:
    """View 0 of a store that has more views of the same patches, if there is one."""
    for path in folder.glob("[!.]*/features.json"):
        about = json.loads(path.read_text())
        made_from = about.get("images", {}).get("patches"), about.get("image_encoder")
        if made_from == (patches, encoder_hash):
            return FeatureStore(path.parent).features
    return None


def _compute_features(
    dataset: xr.Dataset,
    image_encoder: ImageEncoder,
    size_px: int,
    num_views: int,
    seed: int,
    device: torch.device | str | None,
    batch: slice,
) -> tuple[slice, Float32[np.ndarray, "num_views batch num_features"]]:
    """Features of all views of a batch of patches, after the batch."""
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    image_encoder.to(device)
    images = load_images(dataset, batch).to(device)
    images = prepare_images(images, dataset.band.values, image_encoder, crop=False)
    views = []
    for view in range(num_views):
        if view == 0:
            seen = center_crop(images, size_px=size_px)
        else:
            draw = np.random.SeedSequence((seed, view, batch.start)).generate_state(1)[0]
            seen = augment(images, size_px=size_px, seed=int(draw))
        with torch.inference_mode():
            views.append(image_encoder(seen).cpu().numpy())
    return batch, np.stack(views)


def _compute_on(client: "Client", compute: Callable, batches: list[slice]) -> Iterator:
    """What a function returns for each batch, as the workers of a Dask cluster finish."""
    from distributed import as_completed  # here, because one machine does not need it

    sent = client.scatter(compute, broadcast=True)  # the encoder travels once to each worker
    futures = [client.submit(operator.call, sent, batch, pure=False) for batch in batches]
    for _, result in as_completed(futures, with_results=True):
        yield result


def choose_batch_size(image_shape: Sequence[int]) -> int:
    """How many images to encode at once: what ``BATCH_BYTES`` hold, at least 1, at most 1,024."""
    return max(1, min(1024, BATCH_BYTES // (4 * math.prod(image_shape))))


def hash_image_encoder(image_encoder: ImageEncoder) -> str:
    """Hexadecimal SHA-256 of the settings and weights of an image encoder."""
    return fingerprint(image_encoder.config, image_encoder)


def make_features_at(
    dataset: xr.Dataset, image_encoder: ImageEncoder
) -> Callable[[Float64[np.ndarray, "n 2"]], Float32[np.ndarray, "n num_features"]] | None:
    """Make a function that computes features at any place, from patches like those of a store.

    Args:
        dataset: Open patch store.
        image_encoder: Frozen encoder, on the CPU.

    Returns:
        Function from places, ``(n, 2)`` degrees, to features of the images there; None if the
        store was not cut from the Blue Marble, the only imagery that shows every place.
    """
    imagery = get_imagery(dataset)
    if imagery is None:
        return None

    def compute_features_at(lonlat: np.ndarray) -> np.ndarray:
        cut = cut_blue_marble_patches(
            lonlat,
            is_val=np.full(len(lonlat), False),
            size_px=dataset.sizes["x"],
            imagery=imagery,
            zooms=dataset.attrs.get("zooms", [1]),
        )
        with torch.inference_mode():
            return image_encoder(load_images(cut, image_encoder=image_encoder)).numpy()

    return compute_features_at
