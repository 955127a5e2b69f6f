"""SatCLIP: a frozen image encoder and a location encoder with a shared embedding space."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from satclip_lib.image_encoder.base import ImageEncoder
from satclip_lib.location_encoder import LocationEncoder


class SatCLIP(nn.Module):
    """Image tower and location tower with a learned temperature.

    Only the image projection, the location encoder and the temperature are trained. The image
    encoder's features therefore never change: training computes them once per image and then
    calls ``image_projection`` on them, see :mod:`satclip_lib.training`.

    Args:
        image_encoder: Frozen module ``(batch, bands, height, width) -> (batch, num_features)``
            with an attribute ``num_features``; see :mod:`satclip_lib.image_encoder`.
        location_encoder: Location tower, ``(batch, 2) -> (batch, embed_dim)``.

    References:
        Klemmer et al. (2023), SatCLIP, arXiv 2311.17179.
    """

    def __init__(self, image_encoder: ImageEncoder, location_encoder: LocationEncoder):
        super().__init__()
        self.image_encoder = image_encoder
        self.image_projection = nn.Linear(
            image_encoder.num_features, location_encoder.config.embed_dim
        )
        self.location_encoder = location_encoder
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def encode_images(
        self, images: Float[Tensor, "batch bands height width"]
    ) -> Float[Tensor, "batch embed_dim"]:
        """Embed images as ``(batch, embed_dim)``, not normalised."""
        return self.image_projection(self.compute_image_features(images))

    def compute_image_features(
        self, images: Float[Tensor, "batch bands height width"]
    ) -> Float[Tensor, "batch num_features"]:
        """Features of the frozen image encoder, without gradients; they can be kept and reused."""
        with torch.no_grad():
            return self.image_encoder(images)

    def encode_locations(self, lonlat: Float[Tensor, "batch 2"]) -> Tensor:
        """Embed (longitude, latitude) in degrees as ``(batch, embed_dim)``, not normalised."""
        return self.location_encoder(lonlat)

    def forward(
        self,
        images: Float[Tensor, "images bands height width"],
        lonlat: Float[Tensor, "locations 2"],
    ) -> Float[Tensor, "images locations"]:
        """Scaled cosine similarity of every image with every location, ``logits_per_image``."""
        image_embeddings = F.normalize(self.encode_images(images), dim=-1)
        location_embeddings = F.normalize(self.encode_locations(lonlat), dim=-1)
        return self.logit_scale.exp() * image_embeddings @ location_embeddings.T
