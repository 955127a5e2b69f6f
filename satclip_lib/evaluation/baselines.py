"""What a trained encoder is compared with: encoders that have seen no image, or only images."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import nn

from satclip_lib.data import blue_marble
from satclip_lib.data.land import sample_land_lonlat
from satclip_lib.embedding.embed import embed
from satclip_lib.image_encoder import RandomConvolutionalFeatures
from satclip_lib.location_encoder import LocationEncoder, LocationEncoderConfig
from satclip_lib.spherical_harmonics import SphericalHarmonics

NUM_FITTING_IMAGES = 5_000
NUM_IMAGE_FEATURES = 256


@dataclass(frozen=True, eq=False)
class Encoder:
    """A named way to turn ``(num_points, 2)`` degrees into ``(num_points, num_features)``.

    Attributes:
        name: in tables.
        encode: the function.
        own_probe: one of :data:`~satclip_lib.evaluation.probes.LOCATION_PROBES` where the entry
            predicts from the location by itself, and no other probe is put on top.
    """

    name: str
    encode: Callable[
        [Float64[np.ndarray, "num_points 2"]], Float[np.ndarray, "num_points features"]
    ]
    own_probe: str | None = None


def make_untrained(config: LocationEncoderConfig, *, seed: int = 0) -> Encoder:
    """The network as it is initialised: what it knows without having seen an image.

    Args:
        config: architecture, that of the trained encoder it is the twin of.
        seed: of the weights.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        untrained = LocationEncoder(config).eval()
    return make_encoder(f"untrained L={config.num_degrees}", untrained)


def make_encoder(name: str, model: nn.Module) -> Encoder:
    """Wrap a location encoder in eval mode for the benchmark."""
    return Encoder(name, lambda lonlat: embed(lonlat, model))


def encode_harmonics(
    lonlat: Float64[np.ndarray, "num_points 2"],
) -> Float64[np.ndarray, "num_points 100"]:
    """The input of an encoder with L = 10: real spherical harmonics, no network."""
    return SphericalHarmonics(10)(torch.tensor(lonlat)).numpy()


@functools.cache
def fit_image_features() -> RandomConvolutionalFeatures:
    """Random convolutional features with filters from Blue Marble chips drawn over land."""
    chips = blue_marble.cut_patches(sample_land_lonlat(NUM_FITTING_IMAGES, seed=0))
    images = torch.from_numpy(chips).float() / 255
    return RandomConvolutionalFeatures.fit(images, num_random_features=NUM_IMAGE_FEATURES, seed=0)


def encode_image_at(
    lonlat: Float64[np.ndarray, "num_points 2"],
) -> Float[np.ndarray, "num_points features"]:
    """MOSAIKS-style features of the Blue Marble chip around each location (8 x 8 pixels).

    Not a location encoder: it sees the image of the test location itself, which the others have
    to guess from coordinates. ``(num_points, 262)``.

    Source: Rolf et al. (2021), doi:10.1038/s41467-021-24638-z.
    """
    encoder = fit_image_features()
    features = [
        encoder(torch.from_numpy(blue_marble.cut_patches(part)).float() / 255).numpy()
        for part in np.array_split(lonlat, max(1, len(lonlat) // 2048))
    ]
    return np.concatenate(features)
