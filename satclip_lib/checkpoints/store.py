"""Models on disk: ``model.safetensors`` beside ``config.json``, never a pickle."""

import json
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from satclip_lib.checkpoints.download import (
    CONFIG_NAME,
    WEIGHTS_NAME,
    CheckpointError,
    find_checkpoint,
)
from satclip_lib.checkpoints.model_card import CARD_NAME, make_model_card
from satclip_lib.checkpoints.published import read_published
from satclip_lib.files import is_offline, sha256_of_file, write_atomically
from satclip_lib.image_encoder import make_image_encoder
from satclip_lib.location_encoder import Damping, LocationEncoder, LocationEncoderConfig
from satclip_lib.model import SatCLIP

FORMAT = "satclip-lib/1"
LOCATION_PREFIX = "location_encoder."
TRAINING_LONLAT_NAME = "training_lonlat.npy"


def load_location_encoder(
    name_or_path: Path | str,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    revision: str | None = None,
) -> LocationEncoder:
    """Load a location encoder in eval mode. Only its tensors are read, and no code is run.

    Args:
        name_or_path: Folder that :func:`save_pretrained` wrote, ``.ckpt`` file in the published
            layout, published model ("satclip-vit16-l40" or "microsoft/SatCLIP-ViT16-L40"), another
            Hugging Face id with a model of ours, or https address of a ``.ckpt`` file. What exists
            on disk comes first. Downloads are cached; with ``SATCLIP_OFFLINE=1`` there are none.
        dtype: Type of the weights and embeddings. The published location encoders are float64;
            float32 embeddings agree with those of ``torch.float64``, the reference.
        device: Device on which the model runs.
        revision: Commit on the Hugging Face Hub; :func:`find_checkpoint` says what is loaded
            without it.

    Returns:
        A module with ``encoder(lonlat) -> (batch, embed_dim)``, not normalised.

    Raises:
        FileNotFoundError: If there is no such checkpoint, or it cannot be downloaded.
        CheckpointError: If it is damaged, would run code, or is of a kind not implemented.

    Example:
        >>> encoder = load_location_encoder("satclip-vit16-l40")
        >>> encoder(torch.tensor([[2.35, 48.86], [139.69, 35.69]])).shape
        torch.Size([2, 256])
    """
    config, tensors, path = _read(name_or_path, prefix=LOCATION_PREFIX, revision=revision)
    encoder = _make_location_encoder(config, path).to(dtype)
    _fill(encoder, {name.removeprefix(LOCATION_PREFIX): x for name, x in tensors.items()}, path)
    return encoder.to(device).eval()


def load_satclip(
    name_or_path: Path | str,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    image_encoder: bool | None = None,
    revision: str | None = None,
) -> SatCLIP | LocationEncoder:
    """Load a whole model, image tower and location tower, in eval mode.

    Args:
        name_or_path: See :func:`load_location_encoder`.
        dtype: Type of the weights and embeddings.
        device: Device on which the model runs.
        image_encoder: True, until version 0.3, when it will be the only meaning. Without it the
            location encoder alone is returned, as version 0.1 did, with a warning.
        revision: Commit on the Hugging Face Hub.

    Raises:
        FileNotFoundError, CheckpointError: See :func:`load_location_encoder`. A checkpoint of a
            location encoder alone is also refused.
    """
    if not image_encoder:
        warnings.warn(
            "load_satclip will return both towers in version 0.3: use load_location_encoder, or "
            "pass image_encoder=True",
            FutureWarning,
            stacklevel=2,
        )
        return load_location_encoder(name_or_path, dtype=dtype, device=device, revision=revision)
    config, tensors, path = _read(name_or_path, prefix="", revision=revision)
    model = _make_satclip(config, path).to(dtype)
    _fill(model, tensors, path)
    return model.to(device).eval()


def load_trained(folder: Path, names: Sequence[str]) -> dict[str, SatCLIP]:
    """Those of our checkpoints that are there, with both towers.

    Args:
        folder: Folder that holds them, ``Workspace(profile).checkpoints``.
        names: Names of checkpoints, such as "rcf-l10".

    Raises:
        FileNotFoundError: If there is none of them, with the command that makes them.
    """
    found = [name for name in names if (folder / name).is_dir()]
    if not found:
        raise FileNotFoundError(
            f"none of {', '.join(names)} is in {folder}: run notebook 02_pretraining, or "
            "`make pretrain`"
        )
    models = {name: load_satclip(folder / name, image_encoder=True) for name in found}
    return {name: model for name, model in models.items() if isinstance(model, SatCLIP)}


def save_pretrained(
    model: SatCLIP | LocationEncoder,
    folder: Path | str,
    *,
    provenance: dict[str, Any] | None = None,
    model_card: bool = False,
) -> Path:
    """Write a model to a folder, all of it or nothing.

    Args:
        model: both towers (the image encoder's frozen weights are written too), or a location
            encoder alone.
        folder: becomes ``folder/config.json`` and ``folder/model.safetensors``; a model that is
            there is replaced, with all other files of its folder.
        provenance: JSON-ready facts about the training run, kept under ``"provenance"``. A
            ``"licence"`` among them is that of the weights, for the model card; else it is MIT.
        model_card: also write ``folder/README.md``, as the Hugging Face Hub shows it.

    Raises:
        FileExistsError: if the folder holds other files and no model.
    """
    config = {
        "location_encoder": asdict(_find_location_encoder(model).config),
        "image_encoder": model.image_encoder.config if isinstance(model, SatCLIP) else None,
        "provenance": provenance or {},
    }
    prefix = "" if isinstance(model, SatCLIP) else LOCATION_PREFIX
    tensors = {prefix + name: x.contiguous() for name, x in model.state_dict().items()}
    return _write(folder, config, tensors, card=make_model_card(config) if model_card else None)


def convert_published(
    name_or_path: Path | str, folder: Path | str, *, revision: str | None = None
) -> Path:
    """Rewrite a published checkpoint in our format, every tensor as it is, with a model card.

    :func:`satclip_lib.checkpoints.published.save_published` is the way back.

    Args:
        name_or_path: see :func:`load_satclip`.
        folder: what :func:`save_pretrained` would write, with the image tower where there is one.
        revision: commit on the Hugging Face Hub.

    Raises:
        FileNotFoundError, CheckpointError: see :func:`load_satclip`.
        FileExistsError: see :func:`save_pretrained`.
    """
    path = find_checkpoint(name_or_path, revision=revision)
    config, tensors = read_published(path)
    model: SatCLIP | LocationEncoder
    if config["image_encoder"] is not None:
        model, prefix = _make_satclip(config, path), ""
    else:
        model, prefix = _make_location_encoder(config, path), LOCATION_PREFIX
    tensors = {name: x for name, x in tensors.items() if name.startswith(prefix)}
    _fill(model, {name.removeprefix(prefix): x for name, x in tensors.items()}, path)
    config["location_encoder"] = asdict(_find_location_encoder(model).config)
    config["provenance"] |= {"converted_from": path.name, "sha256": sha256_of_file(path)}
    return _write(folder, config, tensors, card=make_model_card(config))


def push_to_hub(
    model: SatCLIP | LocationEncoder,
    repo_id: str,
    *,
    provenance: dict[str, Any] | None = None,
    private: bool = False,
) -> str:
    """Publish a model with its model card on the Hugging Face Hub; needs ``hf auth login``.

    Args:
        model: see :func:`save_pretrained`.
        repo_id: "owner/name"; the repository is made if there is none.
        provenance: see :func:`save_pretrained`.
        private: of a new repository.

    Returns:
        Address of the commit.

    Raises:
        RuntimeError: if ``SATCLIP_OFFLINE=1``.
    """
    if is_offline():
        raise RuntimeError("SATCLIP_OFFLINE forbids publishing: unset it")
    from huggingface_hub import HfApi  # here, because it takes longer than all the rest

    api = HfApi()
    with tempfile.TemporaryDirectory() as scratch:
        folder = save_pretrained(model, Path(scratch) / "model", provenance=provenance)
        card = make_model_card(load_config(folder), repo_id=repo_id)
        (folder / CARD_NAME).write_text(card, encoding="utf-8")
        api.create_repo(repo_id, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repo_id, folder_path=folder).commit_url)


def load_config(folder: Path | str) -> dict[str, Any]:
    """The checkpoint's ``config.json``."""
    path = Path(folder) / CONFIG_NAME
    if not path.is_file():
        raise FileNotFoundError(
            f"no checkpoint at {folder} ({CONFIG_NAME} is missing): run notebook 02_pretraining, "
            "or `make pretrain`"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(
            f"{path} is not JSON ({error}); it was damaged: make it anew"
        ) from error
    kind = config.get("format") if isinstance(config, dict) else None
    if kind != FORMAT:
        raise CheckpointError(
            f"{path} has format {kind!r}, expected {FORMAT!r}: fetch or train the model again, or "
            "use the version of this package that wrote it"
        )
    return config


def save_training_lonlat(folder: Path | str, lonlat: Float[np.ndarray, "num_training 2"]) -> Path:
    """Put the locations a model was trained on beside its weights, good to a metre."""
    path = Path(folder) / TRAINING_LONLAT_NAME
    with write_atomically(path) as scratch:
        np.save(scratch, lonlat.astype(np.float32))
    return path


def load_training_lonlat(
    model: nn.Module | Path | str,
) -> Float[np.ndarray, "num_training 2"]:
    """The locations a checkpoint was trained on, ``(num_training, 2)`` degrees.

    Args:
        model: Folder of the checkpoint; anything else has no such list.

    Raises:
        ValueError: If it is not known where the model was trained.
    """
    folder = find_checkpoint(model) if isinstance(model, str | Path) else None
    if folder is None or not (folder / TRAINING_LONLAT_NAME).is_file():
        raise ValueError(
            "it is not known where this model was trained: pass training_lonlat, or as model the "
            f"folder of a checkpoint with {TRAINING_LONLAT_NAME} in it"
        )
    return np.load(folder / TRAINING_LONLAT_NAME, allow_pickle=False)


def hash_checkpoint(folder: Path | str) -> str:
    """SHA-256 of the weights, by which figures and tables name the model they were made with."""
    return sha256_of_file(Path(folder) / WEIGHTS_NAME)


def _write(
    folder: Path | str, config: dict[str, Any], tensors: dict[str, Tensor], *, card: str | None
) -> Path:
    folder = Path(folder)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / CONFIG_NAME).is_file():
        raise FileExistsError(
            f"{folder} holds other files, which would be deleted: pass a new or empty folder"
        )
    text = json.dumps({"format": FORMAT, **config}, indent=2, default=str)
    with write_atomically(folder) as scratch:
        scratch.mkdir()
        save_file(tensors, scratch / WEIGHTS_NAME)
        (scratch / CONFIG_NAME).write_text(text + "\n", encoding="utf-8")
        if card is not None:
            (scratch / CARD_NAME).write_text(card, encoding="utf-8")
    return folder


def _read(
    name_or_path: Path | str, *, prefix: str, revision: str | None
) -> tuple[dict[str, Any], dict[str, Tensor], Path]:
    """Config and tensors of a checkpoint; of the tensors, those whose names start with prefix."""
    path = find_checkpoint(name_or_path, revision=revision)
    if path.is_file():
        config, tensors = read_published(path)
        return config, {name: x for name, x in tensors.items() if name.startswith(prefix)}, path
    return load_config(path), _read_tensors(path / WEIGHTS_NAME, prefix=prefix), path


def _read_tensors(path: Path, *, prefix: str) -> dict[str, Tensor]:
    """The tensors of a file whose names start with ``prefix``; no others are read."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys() if name.startswith(prefix)}
    except (SafetensorError, FileNotFoundError) as error:
        raise CheckpointError(f"cannot read {path} ({error}): fetch or train it again") from error


def _find_location_encoder(model: SatCLIP | LocationEncoder) -> LocationEncoder:
    return model.location_encoder if isinstance(model, SatCLIP) else model


def _make_location_encoder(config: dict[str, Any], path: Path) -> LocationEncoder:
    """The encoder a config describes, with random weights; global random numbers stay."""
    with _describing(path), torch.random.fork_rng(devices=[]):
        return LocationEncoder(parse_location_config(config["location_encoder"]))


def _make_satclip(config: dict[str, Any], path: Path) -> SatCLIP:
    if config.get("image_encoder") is None:
        raise CheckpointError(
            f"{path} holds a location encoder only: load it with load_location_encoder, or fetch "
            "or train a whole model"
        )
    location_encoder = _make_location_encoder(config, path)
    with _describing(path), torch.random.fork_rng(devices=[]):
        return SatCLIP(make_image_encoder(**config["image_encoder"]), location_encoder)


def parse_location_config(values: dict[str, Any]) -> LocationEncoderConfig:
    """Settings of a location encoder out of JSON, also as version 0.1 wrote them.

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
    return LocationEncoderConfig(**values, damping=damping and Damping(**damping))


@contextmanager
def _describing(path: Path) -> Iterator[None]:
    """Whatever a config cannot build is the checkpoint's fault, and said so."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} describes no model that can be built ({error}): fetch or train it again"
        ) from error


def _fill(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Load tensors into a model; every one must be there, fit and be finite."""
    expected = model.state_dict()
    if problems := [
        *(f"{name} is missing" for name in expected.keys() - tensors.keys()),
        *(f"{name} is not expected" for name in tensors.keys() - expected.keys()),
        *(
            f"{name} has shape {tuple(tensors[name].shape)}, expected {tuple(tensor.shape)}"
            for name, tensor in expected.items()
            if name in tensors and tensors[name].shape != tensor.shape
        ),
        *(f"{name} holds NaN or inf" for name, x in tensors.items() if not x.isfinite().all()),
    ]:
        raise CheckpointError(
            f"{path} does not fit its config: {'; '.join(sorted(problems)[:5])}. "
            "Fetch or train it again"
        )
    model.load_state_dict(tensors)
