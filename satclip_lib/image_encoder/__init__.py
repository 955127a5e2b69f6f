"""Frozen image encoders: from a patch to a fixed vector of features of what it shows.

All are ``nn.Module`` with ``num_bands``, ``num_features`` and ``config``, and map
``(batch, bands, height, width)`` to ``(batch, num_features)``. The trained projection to the
space shared with locations is not here but in :class:`satclip_lib.model.SatCLIP`.
"""

from typing import Any

from satclip_lib.image_encoder.backbones import (
    BACKBONES,
    ResNet,
    VisionTransformer,
    load_backbone_weights,
)
from satclip_lib.image_encoder.base import ImageEncoder, freeze
from satclip_lib.image_encoder.random_features import RandomConvolutionalFeatures

__all__ = [
    "IMAGE_ENCODERS",
    "ImageEncoder",
    "RandomConvolutionalFeatures",
    "ResNet",
    "VisionTransformer",
    "freeze",
    "load_backbone_weights",
    "make_image_encoder",
]

IMAGE_ENCODERS = {"rcf": RandomConvolutionalFeatures, **BACKBONES}


def make_image_encoder(name: str, **config: Any) -> ImageEncoder:
    """Build a frozen image encoder by name; its weights have yet to be loaded or fitted.

    Args:
        name: Kind of encoder: "rcf", "resnet18", "resnet50" or "vit_small_patch16_224".
        **config: Arguments of the constructor, for instance ``num_bands``. With them
            ``make_image_encoder(**encoder.config)`` builds the encoder of a checkpoint again.

    Raises:
        ValueError: If there is no encoder of this name.
    """
    if name not in IMAGE_ENCODERS:
        raise ValueError(f"name must be one of {', '.join(IMAGE_ENCODERS)}, got {name!r}")
    return freeze(IMAGE_ENCODERS[name](**config))
