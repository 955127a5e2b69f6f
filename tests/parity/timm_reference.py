"""What timm's models are and compute, written down for tests that run without timm.

Run from the checkout, where timm is installed (see requirements.txt beside this file), to make
tests/fixtures/timm_state_dicts.json again:

    python tests/parity/timm_reference.py
"""

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import numpy as np
import torch
from torch import Tensor, nn

FIXTURE = Path(__file__).parents[1] / "fixtures" / "timm_state_dicts.json"
SIZES_PX = {"resnet18": 64, "resnet50": 64, "vit_small_patch16_224": 224}  # by timm's model name
NUM_BANDS = 13
NUM_OUTPUTS = 16  # kept per image


def import_timm() -> ModuleType:
    """Import timm, with an empty torchvision where there is none.

    timm needs torchvision for its data transforms and one type, none of which the models here
    use; a torchvision that matches the CPU build of torch is not always to be had.
    """
    names = ["", ".ops", ".ops.misc", ".datasets", ".transforms", ".transforms.functional"]
    stubs = (
        {} if find_spec("torchvision") else {f"torchvision{name}": MagicMock() for name in names}
    )
    if stubs:
        stubs["torchvision.ops.misc"].FrozenBatchNorm2d = type(
            "FrozenBatchNorm2d", (nn.Module,), {}
        )
    sys.modules.update(stubs)
    try:
        import timm
    finally:
        for name in stubs:
            del sys.modules[name]
    return timm


def make_timm_model(name: str) -> nn.Module:
    """A randomly initialised timm model for 13 bands; without classes it gives the features."""
    return import_timm().create_model(name, in_chans=NUM_BANDS, num_classes=0)


def describe_state_dict(model: nn.Module) -> list[str]:
    """Names and shapes in order, for instance "conv1.weight 64x13x7x7"."""
    return [
        f"{key} {'x'.join(map(str, value.shape))}".strip()
        for key, value in model.state_dict().items()
    ]


def compute_reference_outputs(model: nn.Module, *, size_px: int) -> Tensor:
    """Features of two formula images with formula weights, every n-th of them, ``(2, 16)``.

    Overwrites the model's weights.
    """
    weights = {}
    for index, (key, value) in enumerate(model.state_dict().items()):
        noise = make_formula_noise(value.shape, index=index)
        if not value.is_floating_point():
            weights[key] = torch.zeros_like(value)
        elif value.ndim == 1 and key.endswith(("weight", "running_var")):
            weights[key] = 1 + noise / 2  # of a norm
        elif value.ndim == 1:
            weights[key] = noise / 2  # biases and running means
        elif key in ("cls_token", "pos_embed"):
            weights[key] = noise
        else:
            weights[key] = noise * (6 / value[0].numel()) ** 0.5
    model.load_state_dict(weights)
    images = make_formula_noise((2, NUM_BANDS, size_px, size_px), index=-1)
    with torch.no_grad():
        features = model.eval()(images)
    return features[:, :: features.shape[1] // NUM_OUTPUTS]


def make_formula_noise(shape: tuple[int, ...], *, index: int) -> Tensor:
    """Numbers in [-1, 1) that look random and are the same on every machine.

    Integer hashing (the finaliser of MurmurHash3) of the position in the tensor and of ``index``.
    """
    size = int(np.prod(shape, dtype=np.int64))
    bits = np.arange(size, dtype=np.uint32) + np.uint32((index + 1) * 0x9E3779B9 % 2**32)
    bits ^= bits >> 16
    bits *= np.uint32(0x85EBCA6B)
    bits ^= bits >> 13
    bits *= np.uint32(0xC2B2AE35)
    bits ^= bits >> 16
    return torch.from_numpy((bits / 2**31 - 1).astype(np.float32)).reshape(shape)


def make_fixture() -> dict:
    """Names, shapes and outputs of timm's models."""
    models = {name: make_timm_model(name) for name in SIZES_PX}
    return {
        "made_with": f"timm {import_timm().__version__}",
        "models": {
            name: {
                "state_dict": describe_state_dict(model),
                "outputs": compute_reference_outputs(model, size_px=SIZES_PX[name]).tolist(),
            }
            for name, model in models.items()
        },
    }


if __name__ == "__main__":
    FIXTURE.parent.mkdir(exist_ok=True)
    FIXTURE.write_text(json.dumps(make_fixture(), indent=1) + "\n")
