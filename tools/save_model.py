"""The model that travels with the package: ``python -m tools.save_model``, after pretraining.

Rounds the weights of the demo profile's encoder to float16, and puts them, the map of images, the
training locations and a model card where :func:`satclip_lib.load_location_encoder` finds them.
"""

import argparse
import shutil
from pathlib import Path

import torch

from satclip_lib.checkpoints.download import BUNDLED_MODEL, find_checkpoint
from satclip_lib.checkpoints.store import (
    RETRIEVAL_NAME,
    TRAINING_LONLAT_NAME,
    hash_checkpoint,
    load_config,
    load_location_encoder,
    save_pretrained,
)
from satclip_lib.files import Workspace

COMMAND = "make pretrain && python -m tools.save_model"
IMAGES = (
    "NASA Blue Marble Next Generation (2004, four months) and Earth at Night 2012, 7.4 km a pixel"
)


def save_model(source: Path, folder: Path) -> Path:
    """Write what travels of a trained checkpoint into ``folder``, which is replaced."""
    encoder = load_location_encoder(source, dtype=torch.float16)
    provenance = load_config(source)["provenance"] | {
        "made by": COMMAND,
        "trained on": IMAGES,
        "what it is not": "the published weights of the paper, which saw Sentinel-2 at 10 m",
        "sha256 of the weights before rounding to float16": hash_checkpoint(source),
    }
    save_pretrained(encoder, folder, provenance=provenance, model_card=True)
    for name in (RETRIEVAL_NAME, TRAINING_LONLAT_NAME):
        shutil.copy(source / name, folder)
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors keeps its files private
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="demo")
    workspace = Workspace(parser.parse_args().profile)
    print(save_model(workspace.checkpoints / "rcf-l40", find_checkpoint(BUNDLED_MODEL)))  # noqa: T201
