"""What a trained encoder is compared with: location encoders that have seen no image."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import nn

from satclip_lib.data.locations import lonlat_to_unit_vectors
from satclip_lib.embedding import embed
from satclip_lib.location_encoder import LocationEncoder, LocationEncoderConfig


@dataclass(frozen=True, eq=False)
class Encoder:
    """A named way to turn ``(num_points, 2)`` degrees into ``(num_points, num_features)``."""

    name: str
    encode: Callable[
        [Float64[np.ndarray, "num_points 2"]], Float[np.ndarray, "num_points features"]
    ]


def make_baselines(config: LocationEncoderConfig, *, seed: int = 0) -> list[Encoder]:
    """Encoders without training: raw degrees, unit vectors, and the network as initialised.

    Args:
        config: architecture of the untrained twin of the trained encoder.
        seed: of the twin's weights.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        untrained = LocationEncoder(config).eval()
    return [
        Encoder("raw lon/lat", lambda lonlat: lonlat),
        Encoder("unit vector", lonlat_to_unit_vectors),
        make_encoder(f"untrained L={config.num_degrees}", untrained),
    ]


def make_encoder(name: str, model: nn.Module) -> Encoder:
    """Wrap a location encoder in eval mode for the benchmark."""
    return Encoder(name, lambda lonlat: embed(lonlat, model))
