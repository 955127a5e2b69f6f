"""What a trained encoder is compared with: encoders that have seen no image, or only images."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import nn

from satclip_lib.data import blue_marble
from satclip_lib.data.blue_marble import Imagery
from satclip_lib.data.land import sample_land_lonlat
from satclip_lib.embedding.embed import embed
from satclip_lib.embedding.retrieval import Retrieval
from satclip_lib.fast.seeded import Seeded
from satclip_lib.image_encoder import RandomConvolutionalFeatures
from satclip_lib.location_encoder import LocationEncoder, LocationEncoderConfig
from satclip_lib.spherical_harmonics import SphericalHarmonics

NUM_FITTING_IMAGES = 5_000
NUM_IMAGE_FEATURES = 256


class EncoderUnavailableError(RuntimeError):
    """The weights or files of an encoder are not on this machine."""


@dataclass(frozen=True, eq=False)
class Encoder:
    """A named way to turn ``(num_points, 2)`` degrees into ``(num_points, num_features)``.

    Attributes:
        name: Name in tables.
        encode: Function from longitude and latitude to features.
        own_probe: One of :data:`~satclip_lib.evaluation.probes.LOCATION_PROBES` where the entry
            predicts from the location by itself, and no other probe is put on top.
    """

    name: str
    encode: Callable[
        [Float64[np.ndarray, "num_points 2"]], Float[np.ndarray, "num_points features"]
    ]
    own_probe: str | None = None


def make_untrained(config: LocationEncoderConfig, *, seed: int = 0) -> Encoder:
    """Make the network with its initial random weights, to compare a trained encoder with.

    Args:
        config: Architecture of the trained encoder.
        seed: Random seed of the weights.
    """
    with Seeded(seed):
        untrained = LocationEncoder(config).eval()
    return make_encoder(f"untrained L={config.num_degrees}", untrained)


def make_encoder(name: str, model: nn.Module, *, retrieval: Retrieval | None = None) -> Encoder:
    """Wrap a location encoder in eval mode for the benchmark, on request with retrieval."""
    return Encoder(name, lambda lonlat: embed(lonlat, model, retrieval=retrieval or False))


def encode_harmonics(
    lonlat: Float64[np.ndarray, "num_points 2"],
) -> Float64[np.ndarray, "num_points 100"]:
    """The input of an encoder with L = 10: real spherical harmonics, no network."""
    return SphericalHarmonics(10)(torch.tensor(lonlat)).numpy()


def encode_image_at(
    lonlat: Float64[np.ndarray, "num_points 2"],
    *,
    imagery: Imagery = "one_month",
    zooms: tuple[int, ...] = (1,),
    num_random_features: int = NUM_IMAGE_FEATURES,
    without: tuple[str, ...] = (),
) -> Float[np.ndarray, "num_points features"]:
    """MOSAIKS-style features of the Blue Marble patch around each location (8 x 8 pixels).

    Not a location encoder: it sees the image of the test location itself, while the others see
    coordinates alone. The filters come from 5,000 patches drawn over land.

    Args:
        lonlat: ``(num_points, 2)`` degrees.
        imagery: "one_month" or "seasons", see :mod:`satclip_lib.data.blue_marble`.
        zooms: Scales, see :func:`satclip_lib.data.blue_marble.cut_patches`.
        num_random_features: Number of features, over all scales, beside the means and deviations
            of the bands.
        without: Names of bands that are left out at every scale.

    Returns:
        ``(num_points, num_random_features + 2 * bands)``.

    Source: Rolf et al. (2021), doi:10.1038/s41467-021-24638-z.
    """
    encoder = _fit_image_features(imagery, zooms, num_random_features, without)
    features = [
        encoder(_cut_images(part, imagery, zooms, without)).numpy()
        for part in np.array_split(lonlat, max(1, len(lonlat) // 2048))
    ]
    return np.concatenate(features)


@functools.cache
def _fit_image_features(
    imagery: Imagery, zooms: tuple[int, ...], num_random_features: int, without: tuple[str, ...]
) -> RandomConvolutionalFeatures:
    lonlat = sample_land_lonlat(NUM_FITTING_IMAGES, seed=0)
    return RandomConvolutionalFeatures.fit(
        _cut_images(lonlat, imagery, zooms, without),
        num_random_features=num_random_features,
        num_scales=len(zooms),
        seed=0,
    )


def _cut_images(
    lonlat: np.ndarray, imagery: Imagery, zooms: tuple[int, ...], without: tuple[str, ...]
) -> torch.Tensor:
    names = blue_marble.list_bands(imagery) * len(zooms)
    kept = [number for number, name in enumerate(names) if name not in without]
    patches = blue_marble.cut_patches(lonlat, imagery=imagery, zooms=zooms)
    return torch.from_numpy(patches[:, kept]).float() / 255
