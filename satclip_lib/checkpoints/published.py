"""The layout of the published SatCLIP checkpoints: Lightning pickles, read without running them."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from satclip_lib.checkpoints.archive import is_plain, read_archive, strip_wrappers, to_plain
from satclip_lib.checkpoints.download import CheckpointError
from satclip_lib.files import write_atomically
from satclip_lib.location_encoder import LocationEncoder, SpectralDamping
from satclip_lib.model import SatCLIP

CONVENTIONS = {"analytic": "satclip-analytic", "closed-form": "satclip-closed-form"}
IMAGE_ENCODERS = {
    "moco_resnet18": "resnet18",
    "moco_resnet50": "resnet50",
    "moco_vit16": "vit_small_patch16_224",
}
FIRST_OMEGA = 30.0  # of every published SIREN; the layout has no place for it
NUM_BANDS = 13  # of every moco_* encoder, whatever in_channels says
LOCATION_PREFIXES = ("model.nnet.", "model.location.nnet.")  # the same tensors twice
VISUAL_PREFIX = "model.visual."
# What the public code must find but no weight depends on. It removes the last three again.
OTHER_HYPER_PARAMETERS = {
    "image_resolution": 256,
    "vision_width": 768,
    "vision_patch_size": 32,
    "frequency_num": 16,
    "max_radius": 0.01,
    "min_radius": 1e-5,
    "sh_embedding_dims": 32,
    "learning_rate": 1e-4,
    "weight_decay": 0.01,
    "eval_downstream": False,
    "air_temp_data_path": "",
    "election_data_path": "",
}


def read_published(path: Path | str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a checkpoint of the public implementation; no code in it is run.

    Args:
        path: ``.ckpt`` file as Lightning writes it. Names of tensors may have the parts that
            DistributedDataParallel and torch.compile add.

    Returns:
        The content of a ``config.json`` of ours (``"image_encoder"`` is None where the file holds
        no image tower), and the tensors by our names, in the file's own dtypes.

    Raises:
        FileNotFoundError: See :func:`read_archive`.
        CheckpointError: See :func:`read_archive`. Also raised if the file is no SatCLIP checkpoint,
            or of a variant that this package does not implement.
    """
    path = Path(path)
    checkpoint = read_archive(path)
    try:
        container, state_dict = checkpoint["hyper_parameters"], checkpoint["state_dict"]
        hyper_parameters = {**container, **getattr(container, "__dict__", {})}
        hyper_parameters = {str(name): to_plain(x) for name, x in hyper_parameters.items()}
        state_dict = {strip_wrappers(name): x.detach() for name, x in dict.items(state_dict)}
    except (LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is no SatCLIP checkpoint: it has no state_dict of tensors or no "
            "hyper_parameters; fetch it again, or train a model with the public code anew"
        ) from error
    tensors = _rename_tensors(state_dict, path)
    has_image_tower = any(name.startswith(VISUAL_PREFIX) for name in state_dict)
    vision_layers = hyper_parameters.get("vision_layers")
    config = {
        "location_encoder": _to_config(hyper_parameters, path),
        "image_encoder": {
            "name": IMAGE_ENCODERS.get(str(vision_layers), f"vision_layers={vision_layers}"),
            "num_bands": NUM_BANDS,
        }
        if has_image_tower
        else None,
        "provenance": {
            "hyper_parameters": hyper_parameters,
            **{k: to_plain(checkpoint[k]) for k in ("epoch", "global_step") if k in checkpoint},
        },
    }
    return config, tensors


def save_published(model: SatCLIP | LocationEncoder, path: Path | str) -> Path:
    """Write a model in the layout that the public code reads.

    The location encoder is stored as float64. The layout has no orthonormal harmonics; a model
    of that convention is written for "closed-form" harmonics instead, with the signs of the first
    layer's odd columns changed. :func:`~satclip_lib.checkpoints.store.load_location_encoder` reads
    it back with the same embeddings, to the last bit. The layout has no damping either, and no
    first frequency but 30: both are multiplied into the first layer's weights, which rounds them.

    Args:
        model: Model with an image encoder of 13 bands ("resnet18", "resnet50" or
            "vit_small_patch16_224"), or a location encoder alone. The public code builds both
            towers and does not read the latter; ``load_location_encoder`` does.
        path: Name of the ``.ckpt`` file. An existing file is replaced.

    Raises:
        ValueError: If the layout has no place for a setting of the model. Dropout is not part of
            the layout and does not matter once a model is trained.
    """
    location_encoder = model.location_encoder if isinstance(model, SatCLIP) else model
    config = location_encoder.config
    network = {name: x.double() for name, x in location_encoder.network.state_dict().items()}
    calculations = {convention: name for name, convention in CONVENTIONS.items()}
    columns = torch.ones(config.num_degrees**2, dtype=torch.float64)
    if config.convention == "orthonormal":
        columns[1::2] = -1.0  # column l * l + l + m is odd where m is
    if isinstance(location_encoder.damping, SpectralDamping):
        columns *= location_encoder.damping.factors().detach().double()
    omega = config.first_omega / FIRST_OMEGA
    network["layers.0.weight"] = network["layers.0.weight"] * columns * omega
    network["layers.0.bias"] = network["layers.0.bias"] * omega
    hyper_parameters = {
        "embed_dim": config.embed_dim,
        "vision_layers": "moco_vit16",
        "in_channels": NUM_BANDS,
        "le_type": "sphericalharmonics",
        "pe_type": "siren",
        "legendre_polys": config.num_degrees,
        "harmonics_calculation": calculations.get(config.convention, "closed-form"),
        "num_hidden_layers": config.num_hidden_layers,
        "capacity": config.hidden_dim,
        **OTHER_HYPER_PARAMETERS,
    }
    state_dict = {"model.logit_scale": torch.tensor(math.log(1 / 0.07))}
    if isinstance(model, SatCLIP):
        hyper_parameters["vision_layers"] = _find_vision_layers(model.image_encoder.config)
        projection = "head" if hyper_parameters["vision_layers"] == "moco_vit16" else "fc"
        state_dict = {
            "model.logit_scale": model.logit_scale.detach(),
            **_prefix(VISUAL_PREFIX, model.image_encoder.state_dict()),
            **_prefix(f"{VISUAL_PREFIX}{projection}.", model.image_projection.state_dict()),
        }
    for prefix in LOCATION_PREFIXES:
        state_dict |= _prefix(prefix, network)
    checkpoint = {
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": "2.0.0",
        "state_dict": state_dict,
        "hyper_parameters": hyper_parameters,
    }
    # a file object keeps the name of the scratch file out of the archive
    with write_atomically(path) as scratch, scratch.open("wb") as file:
        torch.save(checkpoint, file)
    return Path(path)


def _to_config(hyper_parameters: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Settings of our location encoder; an error names what this package does not implement."""
    try:
        kinds = [hyper_parameters[key] for key in ("le_type", "pe_type", "harmonics_calculation")]
        sizes = {
            "num_degrees": hyper_parameters["legendre_polys"],
            "embed_dim": hyper_parameters["embed_dim"],
            "hidden_dim": hyper_parameters["capacity"],
            "num_hidden_layers": hyper_parameters["num_hidden_layers"],
        }
    except KeyError as error:
        raise CheckpointError(
            f"{path} lacks the hyper-parameter {error}: fetch it again, or train it anew"
        ) from error
    encoding, network, calculation = kinds
    for what, key, value, known in (
        ("positional encoding", "le_type", encoding, ["sphericalharmonics"]),
        ("network", "pe_type", network, ["siren"]),
        ("harmonics", "harmonics_calculation", calculation, list(CONVENTIONS)),
    ):
        if value not in known:
            raise CheckpointError(
                f"{path} has {key}={value!r}, a kind of {what} that is not implemented here; "
                f"train it again with {' or '.join(known)}, or use the public code"
            )
    return sizes | {"first_omega": FIRST_OMEGA, "convention": CONVENTIONS[calculation]}


def _rename_tensors(state_dict: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Rename to our names; unknown names stay, so that loading reports them."""
    renaming = (
        *((prefix, "location_encoder.network.") for prefix in LOCATION_PREFIXES),
        (f"{VISUAL_PREFIX}fc.", "image_projection."),
        (f"{VISUAL_PREFIX}head.", "image_projection."),
        (VISUAL_PREFIX, "image_encoder."),
        ("model.logit_scale", "logit_scale"),
    )
    tensors: dict[str, Tensor] = {}
    num_bytes_left = path.stat().st_size  # one number stored can stand for any number of them
    for name, tensor in state_dict.items():
        old, new = next((pair for pair in renaming if name.startswith(pair[0])), ("", ""))
        ours = new + name.removeprefix(old)
        if ours not in tensors:
            tensors[ours] = tensor
            num_bytes_left -= tensor.nbytes if is_plain(tensor) else 0
        elif not _are_equal(tensors[ours], tensor):
            raise CheckpointError(
                f"{path} holds two different versions of {name}: fetch it again, or train it anew"
            )
        if num_bytes_left < 0:
            raise CheckpointError(f"{path} is smaller than its tensors claim: fetch it again")
    return tensors


def _are_equal(first: Tensor, second: Tensor) -> bool:
    """Whether two copies are equal; faults that both have are reported later."""
    if is_plain(first) and is_plain(second):
        is_same = first.shape == second.shape and first.dtype == second.dtype
        return is_same and torch.equal(first.nan_to_num(), second.nan_to_num())
    return not (is_plain(first) or is_plain(second))


def _find_vision_layers(config: Mapping[str, Any]) -> str:
    for vision_layers, name in IMAGE_ENCODERS.items():
        if config == {"name": name, "num_bands": NUM_BANDS}:
            return vision_layers
    raise ValueError(
        f"the published layout has no place for the image encoder {dict(config)}: pass "
        "model.location_encoder, or use save_pretrained"
    )


def _prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}
