"""Published backbone weights: MoCo on SSL4EO-S12, thirteen Sentinel-2 bands."""

from pathlib import Path
from typing import NamedTuple

import torch

from satclip_lib.checkpoints.download import CheckpointError, fetch_from_hub
from satclip_lib.files import sha256_of_file
from satclip_lib.image_encoder.backbones import BACKBONES, load_backbone_weights
from satclip_lib.image_encoder.base import ImageEncoder, freeze


class MocoWeights(NamedTuple):
    """Where weights are published, and how their file's SHA-256 begins."""

    repo_id: str
    revision: str
    file_name: str
    sha256_prefix: str


MOCO_WEIGHTS = {
    "resnet18": MocoWeights(
        "torchgeo/resnet18_sentinel2_all_moco",
        "5b8cddc9a14f3844350b7f40b85bcd32aed75918",
        "resnet18_sentinel2_all_moco-59bfdff9.pth",
        "59bfdff9",
    ),
    "resnet50": MocoWeights(
        "torchgeo/resnet50_sentinel2_all_moco",
        "da4f3c9dbe09272eb902f3b37f46635fa4726879",
        "resnet50_sentinel2_all_moco-df8b932e.pth",
        "df8b932e",
    ),
    "vit_small_patch16_224": MocoWeights(
        "torchgeo/vit_small_patch16_224_sentinel2_all_moco",
        "1cb683f6c14739634cdfaaceb076529adf898c74",
        "vit_small_patch16_224_sentinel2_all_moco-67c9032d.pth",
        "67c9032d",
    ),
}


def make_moco_encoder(name: str) -> ImageEncoder:
    """Build a frozen encoder with 13 bands and the weights of MoCo on SSL4EO-S12.

    Downloads the weights on first use. Bands are B01 to B8A, B09, B10, B11, B12, reflectances
    (digital numbers / 10000); Level-2A products lack B10, which is then a band of zeros.

    Raises:
        ValueError, FileNotFoundError, CheckpointError: See :func:`fetch_moco_weights`.

    References:
        Wang et al. (2022), SSL4EO-S12, arXiv 2211.07044.
    """
    path = fetch_moco_weights(name)
    encoder = freeze(BACKBONES[name](num_bands=13))
    return load_backbone_weights(encoder, torch.load(path, map_location="cpu", weights_only=True))


def fetch_moco_weights(name: str) -> Path:
    """Path of published weights in the Hugging Face cache, downloaded if they are not there.

    With the environment variable ``SATCLIP_OFFLINE=1`` nothing is downloaded.

    Args:
        name: Name of the backbone, a key of ``MOCO_WEIGHTS``.

    Raises:
        ValueError: If there are no weights of this name.
        FileNotFoundError: If the file is not cached and cannot be downloaded.
        CheckpointError: If it is not the published one.
    """
    if name not in MOCO_WEIGHTS:
        raise ValueError(f"name must be one of {', '.join(MOCO_WEIGHTS)}, got {name!r}")
    weights = MOCO_WEIGHTS[name]
    path = fetch_from_hub(weights.repo_id, weights.file_name, revision=weights.revision)
    digest = sha256_of_file(path)
    if not digest.startswith(weights.sha256_prefix):
        raise CheckpointError(
            f"{path} has SHA-256 {digest}, expected it to begin with {weights.sha256_prefix}; "
            "delete the file and fetch it again"
        )
    return path
