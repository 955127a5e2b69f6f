"""Build a model from a config and a file of tensors, or say in one sentence what does not fit."""

import reprlib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from satclip_lib.checkpoints.archive import is_plain, strip_wrappers
from satclip_lib.checkpoints.download import CheckpointError, check_is_file
from satclip_lib.image_encoder import make_image_encoder
from satclip_lib.location_encoder import (
    Damping,
    LocationEncoder,
    LocationEncoderConfig,
    SpectralDamping,
)
from satclip_lib.model import SatCLIP

LOCATION_PREFIX = "location_encoder."
MAX_HEADER_BYTES = 2**20  # of a config, or of the names and shapes of tensors; ours have 40 KB
MAX_SIZE = 1_000_000  # largest integer in a config
MAX_NUMBER = 1e6  # largest other number in a config


def read_tensors(path: Path, *, prefix: str) -> dict[str, Tensor]:
    """Memory-map the tensors of a file whose names start with ``prefix``; others are not read.

    Raises:
        CheckpointError: If the file is damaged.
    """
    try:
        check_is_file(path)
        with path.open("rb") as head:
            num_bytes = int.from_bytes(head.read(8), "little")
        if num_bytes > MAX_HEADER_BYTES:
            raise ValueError(f"its header claims {num_bytes:,} bytes")
        with safe_open(path, framework="pt") as file:
            names = {strip_wrappers(name): name for name in file.keys()}
            return {
                ours: file.get_tensor(name)
                for ours, name in names.items()
                if ours.startswith(prefix)
            }
    except Exception as error:  # those of safetensors are of many kinds
        raise CheckpointError(f"cannot read {path} ({error}): fetch or train it again") from error


def assemble(
    config: dict[str, Any],
    tensors: dict[str, Tensor],
    path: Path,
    *,
    prefix: str,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
) -> Any:
    """The model that a config describes, with tensors as its weights, in eval mode.

    It is built on the meta device, where nothing is allocated and no random number drawn. The
    tensors, which may be mapped from a file, are compared with it before they are copied. Damping
    is built with its values, because fixed factors are not in the file.

    Args:
        config: Content of ``config.json``.
        tensors: Weights by name.
        path: File that errors name.
        prefix: ``LOCATION_PREFIX`` for a location encoder alone, "" for both towers.
        dtype: Type of the weights.
        device: Device on which the model runs.

    Raises:
        CheckpointError: If the config describes no model, or the tensors do not fit it.
    """
    if not prefix and config.get("image_encoder") is None:
        raise CheckpointError(
            f"{path} holds a location encoder only: load it with load_location_encoder, or fetch "
            "or train a whole model"
        )
    try:
        settings = parse_location_config(config["location_encoder"])
        if settings.num_hidden_layers > len(tensors):  # a million layers take minutes to describe
            raise ValueError(f"{settings.num_hidden_layers:,} layers, but {len(tensors)} tensors")
        with torch.device("meta"):
            encoder = LocationEncoder(replace(settings, damping=None))
        if settings.damping:
            encoder.damping = SpectralDamping(settings.num_degrees, settings.damping)
        encoder.config = settings
        model: SatCLIP | LocationEncoder = encoder
        if not prefix:
            with torch.device("meta"):
                model = SatCLIP(make_image_encoder(**config["image_encoder"]), encoder)
    except Exception as error:  # whatever a config cannot build is the checkpoint's fault
        reason = str(error).partition("\n")[0][:300]
        raise CheckpointError(
            f"{path} describes no model that can be built ({reason}): fetch or train it again"
        ) from error
    expected = model.to(dtype).state_dict()
    tensors = {name.removeprefix(prefix): x for name, x in tensors.items()}
    faults = [f"{name} is missing" for name in expected.keys() - tensors.keys()]
    for name, x in tensors.items():
        wanted = expected.get(name)
        if wanted is None:
            faults.append(f"{name} is not expected")
        elif not is_plain(x) or x.is_floating_point() != wanted.is_floating_point():
            faults.append(f"{name} holds {x.dtype} ({x.layout}, {x.device}), expected real numbers")
        elif x.shape != wanted.shape:
            faults.append(f"{name} has shape {tuple(x.shape)}, expected {tuple(wanted.shape)}")
    if not faults:  # all fit: only now are they read
        weights = {n: x.to(device, expected[n].dtype, copy=True) for n, x in tensors.items()}
        for name in (name for name, x in weights.items() if not x.isfinite().all()):
            was_finite = tensors[name].isfinite().all()
            faults.append(
                f"{name} holds {f'more than {dtype} can' if was_finite else 'NaN or inf'}"
            )
    if faults:
        raise CheckpointError(
            f"{path} does not fit its config: {'; '.join(f[:200] for f in sorted(faults)[:5])}. "
            "Fetch or train it again"
        )
    model.load_state_dict(weights, assign=True)
    return model.to(device).eval()


def parse_location_config(values: dict[str, Any]) -> LocationEncoderConfig:
    """Settings of a location encoder from parsed JSON, also in the form of version 0.1.

    Raises:
        TypeError, ValueError: If a setting is unknown or out of its range.
    """
    values = dict(values)
    old = {
        "damping_degree": "degree", "damping_power": "power", "learned_damping": "learned",
        "damped_init": "scaled_init",
    }  # fmt: skip
    flat = {new: values.pop(name) for name, new in old.items() if name in values}
    damping = values.pop("damping", flat if flat.get("degree") is not None else None)
    _check_numbers(LocationEncoderConfig, values)
    if damping is not None:
        _check_numbers(Damping, damping)
    return LocationEncoderConfig(**values, damping=damping and Damping(**damping))


def _check_numbers(kind: type[LocationEncoderConfig | Damping], values: dict[str, Any]) -> None:
    """Raise an error for text or NaN instead of a number, and for numbers beyond the limits."""
    for field in fields(kind):
        value = values.get(field.name, field.default)
        if field.type is int and not (type(value) is int and 1 <= value <= MAX_SIZE):
            what = f"a whole number from 1 to {MAX_SIZE:,}"
        elif field.type is float and not (type(value) in (int, float) and abs(value) <= MAX_NUMBER):
            what = f"a number of at most {MAX_NUMBER:,.0f}"
        elif field.type is bool and type(value) is not bool:
            what = "true or false"
        else:
            continue
        raise ValueError(f"{field.name} must be {what}, got {reprlib.repr(value)}")
