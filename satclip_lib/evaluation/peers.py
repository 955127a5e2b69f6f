"""Pretrained location encoders of other projects, with the weights that their authors released.

``make peers`` brings them: the package geoclip without what it depends on, and six files of
TorchSpatial. Their weights never enter this repository. Everything runs offline once it is here.
"""

import importlib.util
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Float64

from satclip_lib.data.registry import fetch_file, list_local_folders
from satclip_lib.evaluation.baselines import EncoderUnavailableError
from satclip_lib.evaluation.positional import compute_waves, encode_unit_vector

BATCH_SIZE = 1024
COMMAND = "run `make peers`"
TORCHSPATIAL = {
    "TorchSpatial xyz": "fmow_xyz_inception_v3_0.0050_64_0.0005000_1_512",
    "TorchSpatial rff": "fmow_rff_inception_v3_0.0050_64_0.0000010_1_512_2.0",
    "TorchSpatial sphereM": "fmow_Sphere2Vec-sphereM_inception_v3_0.0050_64_0.0001000_1_512",
    "TorchSpatial sphereC+": "fmow_Sphere2Vec-sphereC+_inception_v3_0.0050_64_0.0001000_1_512",
    "TorchSpatial theory": "fmow_Space2Vec-theory_inception_v3_0.0200_64_0.0001000_360.000_1_512"
    "_BATCH8192_leakyrelu",
    "TorchSpatial grid": "yfcc_Space2Vec-grid_inception_v3_0.0100_64_0.0050000_360.000_1_512"
    "_BATCH4096_leakyrelu",
}

LonLat = Float64[np.ndarray, "num_points 2"]
Encode = Callable[[LonLat], Float32[np.ndarray, "num_points num_features"]]


def fetch_peers() -> list[Path]:
    """Download the files of TorchSpatial that are not on this machine, and check all hashes.

    Raises:
        FileUnavailableError: If a file is not on this machine and cannot be downloaded.
    """
    return [fetch_file(_name_file(name)) for name in TORCHSPATIAL]


def load_geoclip() -> Encode:
    """GeoCLIP's location encoder, 512 numbers, from the wheel of the package geoclip (MIT).

    Its module is loaded by itself: the package's own ``__init__`` needs transformers and its
    image encoder.

    Raises:
        EncoderUnavailableError: If the package is not installed.

    References:
        Vivanco Cepeda et al. (2023), arXiv 2309.16020.
    """
    spec = importlib.util.find_spec("geoclip")
    if spec is None or not spec.submodule_search_locations:
        raise EncoderUnavailableError(COMMAND)
    folder = Path(spec.submodule_search_locations[0]) / "model"
    model = _load_package("_geoclip_model", folder, "location_encoder.py").LocationEncoder().eval()

    def encode_batch(lonlat: LonLat) -> torch.Tensor:
        return model(torch.from_numpy(lonlat[:, ::-1].astype(np.float32)))  # latitude first

    return _in_batches(encode_batch)


def load_torchspatial(name: str) -> Encode:
    """A location encoder of TorchSpatial, 256 numbers, trained on classes of images and places.

    Five were trained on Functional Map of the World (62 kinds of land use), the one named "grid"
    on YFCC100M-GEO100 (100 kinds of photos). CC BY-NC 4.0: for comparison, not for redistribution.

    Args:
        name: A key of ``TORCHSPATIAL``.

    Raises:
        EncoderUnavailableError: If its file is not on this machine.

    References:
        Wu et al. (2024), TorchSpatial, arXiv 2406.15658.
    """
    file_name = _name_file(name)
    if not any((folder / file_name).is_file() for folder in list_local_folders()):
        raise EncoderUnavailableError(COMMAND)
    stored = torch.load(fetch_file(file_name), map_location="cpu", weights_only=True)
    params, weights = stored["params"], stored["state_dict"]
    slope = {"relu": 0.0, "leakyrelu": 0.2}[params["spa_f_act"]]

    def linear(x: torch.Tensor, layer: str) -> torch.Tensor:
        parts = (weights[f"spa_enc.ffn.layers.{layer}.{part}"] for part in ("weight", "bias"))
        return F.linear(x, *parts)

    def activate(x: torch.Tensor) -> torch.Tensor:
        return F.leaky_relu(x, slope)

    def encode_batch(lonlat: LonLat) -> torch.Tensor:
        x = torch.from_numpy(_compute_inputs(lonlat, params, weights)).float()
        norm = (weights[f"spa_enc.ffn.layers.0.layernorm.{part}"] for part in ("weight", "bias"))
        hidden = F.layer_norm(activate(linear(x, "0.linear")), (params["hidden_dim"],), *norm)
        return activate(linear(hidden, "1.linear"))

    return _in_batches(encode_batch)


def _compute_inputs(
    lonlat: LonLat, params: dict[str, Any], weights: dict[str, torch.Tensor]
) -> Float[np.ndarray, "num_points num_inputs"]:
    """Inputs of a network of TorchSpatial, in the order of its first layer's columns.

    Radii ascend, and all waves of a radius are next to each other; in "Space2Vec-grid" all those of
    longitude come first. Space2Vec divides degrees, Sphere2Vec radians. "rff" has random
    directions, which are stored, and scales the stored ``map_range`` to -1 to 1.
    """
    kind = params["spa_enc_type"]
    if kind == "xyz":
        return encode_unit_vector(lonlat)
    if kind == "rff":
        directions, shift = (
            weights[f"spa_enc.position_encoder.{part}"].double().numpy()
            for part in ("dirvec", "shift")
        )
        low, high = np.reshape(params["map_range"], (2, 2)).T  # west, east, south, north
        scaled = 2 * (lonlat - low) / (high - low) - 1
        return np.sqrt(2 / len(shift)) * np.cos(scaled @ directions + shift)
    radii = np.geomspace(params["min_radius"], params["max_radius"], params["frequency_num"])
    angles = lonlat if kind.startswith("Space2Vec") else np.radians(lonlat)
    kind = kind.removeprefix("Sphere2Vec-").replace("-", " ")
    waves = compute_waves(kind, angles, radii)  # (num_points, num_waves, num_scales)
    num_points, num_waves, num_scales = waves.shape
    num_blocks = 2 if kind == "Space2Vec grid" else 1
    blocks = waves.reshape(num_points, num_blocks, num_waves // num_blocks, num_scales)
    return blocks.transpose(0, 1, 3, 2).reshape(num_points, num_waves * num_scales)


def _name_file(name: str) -> str:
    return f"torchspatial/model_{TORCHSPATIAL[name]}.pth.tar"


def _load_package(name: str, folder: Path, entry: str) -> ModuleType:
    """A module that imports its neighbours relatively, as a package with a name of our own."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            name, folder / entry, submodule_search_locations=[str(folder)]
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            with warnings.catch_warnings():  # of a function that torch will drop one day
                warnings.filterwarnings("ignore", ".*torch.jit.script", DeprecationWarning)
                spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _in_batches(encode_batch: Callable[[LonLat], torch.Tensor]) -> Encode:
    def encode(lonlat: LonLat) -> Float32[np.ndarray, "num_points num_features"]:
        parts = np.array_split(lonlat, max(1, -(-len(lonlat) // BATCH_SIZE)))
        with torch.inference_mode():
            return torch.cat([encode_batch(part) for part in parts]).numpy()

    return encode


if __name__ == "__main__":
    fetch_peers()
