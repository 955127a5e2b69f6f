"""Published backbone weights: MoCo on SSL4EO-S12, thirteen Sentinel-2 bands."""

import torch

from satclip_lib.data.registry import fetch_file, load_registry
from satclip_lib.image_encoder.backbones import BACKBONES, load_backbone_weights
from satclip_lib.image_encoder.base import ImageEncoder, freeze


def make_moco_encoder(name: str) -> ImageEncoder:
    """Build a frozen encoder with 13 bands and the registered weights, ``moco/<name>.pth``.

    Downloads the weights on first use. Bands are B01 to B8A, B09, B10, B11, B12, reflectances
    (digital numbers / 10000); Level-2A products lack B10, which is then a band of zeros.

    Args:
        name: Name of the backbone, a key of ``BACKBONES``.

    Raises:
        ValueError: If there is no backbone of this name, or the file does not fit it.
        FileUnavailableError, HashMismatchError: See :func:`satclip_lib.data.registry.fetch_file`.

    References:
        Wang et al. (2022), SSL4EO-S12, arXiv 2211.07044.
    """
    _check_name(name)
    path = fetch_file(f"moco/{name}.pth")
    with torch.device("meta"):  # where no random number is drawn
        encoder = BACKBONES[name](num_bands=13)
    encoder = freeze(encoder.to_empty(device="cpu"))
    return load_backbone_weights(encoder, torch.load(path, map_location="cpu", weights_only=True))


def describe_weights(name: str) -> str:
    """Where the weights of an image encoder come from, by the registry.

    Args:
        name: Name of the encoder, a key of ``IMAGE_ENCODERS``.
    """
    if name == "rcf":
        return "random filters cut from the patches, untrained"
    _check_name(name)
    return load_registry()[f"moco/{name}.pth"].content


def _check_name(name: str) -> None:
    if name not in BACKBONES:
        raise ValueError(f"name must be one of {', '.join(BACKBONES)}, got {name!r}")
