"""Small models, made alike in many tests; only what the light core has is needed."""

import torch

from satclip_lib.image_encoder import RandomConvolutionalFeatures
from satclip_lib.location_encoder import LocationEncoder, LocationEncoderConfig
from satclip_lib.model import SatCLIP


def make_encoder(seed: int = 0, **settings) -> LocationEncoder:
    """A location encoder in eval mode, the same for the same seed and settings."""
    torch.manual_seed(seed)
    small = {"num_degrees": 4, "hidden_dim": 16, "embed_dim": 6}
    return LocationEncoder(LocationEncoderConfig(**small | settings)).eval()


def make_model(seed: int = 0, **settings) -> SatCLIP:
    """A model of such a location encoder and random convolutional features of three bands."""
    images = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    features = RandomConvolutionalFeatures.fit(images, num_random_features=4)
    return SatCLIP(features, make_encoder(seed, **settings)).eval()
