"""Models on disk: ``model.safetensors`` beside ``config.json``, never a pickle."""

import json
import reprlib
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from satclip_lib.checkpoints.assemble import (
    LOCATION_PREFIX,
    MAX_HEADER_BYTES,
    assemble,
    read_tensors,
)
from satclip_lib.checkpoints.download import (
    CONFIG_NAME,
    WEIGHTS_NAME,
    CheckpointError,
    check_is_file,
    find_beside,
    find_checkpoint,
)
from satclip_lib.checkpoints.model_card import CARD_NAME, make_model_card
from satclip_lib.checkpoints.published import read_published
from satclip_lib.files import is_offline, sha256_of_file, write_atomically
from satclip_lib.location_encoder import LocationEncoder
from satclip_lib.model import SatCLIP
from satclip_lib.sphere import check_locations

FORMAT = "satclip-lib/1"
TRAINING_LONLAT_NAME = "training_lonlat.npy"
RETRIEVAL_NAME = "retrieval.safetensors"  # see embedding.retrieval
# What a folder may hold to be replaced; the last one is written by training.fit.
FILES_OF_A_MODEL = {
    CONFIG_NAME, WEIGHTS_NAME, CARD_NAME, TRAINING_LONLAT_NAME, RETRIEVAL_NAME,
    "training_curve.csv",
}  # fmt: skip


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
            on disk is preferred. Downloads are cached; with ``SATCLIP_OFFLINE=1`` there are none.
        dtype: Type of the weights and embeddings. The published location encoders are float64;
            float32 embeddings agree with those of ``torch.float64``, the reference.
        device: Device on which the model runs.
        revision: Commit on the Hugging Face Hub; for the default see :func:`find_checkpoint`.

    Returns:
        A module ``encoder(lonlat) -> (batch, embed_dim)``; embeddings are not normalised.

    Raises:
        FileNotFoundError: If there is no such checkpoint, or it cannot be downloaded.
        CheckpointError: If it is damaged, would run code, or is of a kind not implemented.

    Example:
        >>> encoder = load_location_encoder("satclip-vit16-l40")
        >>> encoder(torch.tensor([[2.35, 48.86], [139.69, 35.69]])).shape
        torch.Size([2, 256])
    """
    config, tensors, path = _read(name_or_path, prefix=LOCATION_PREFIX, revision=revision)
    return assemble(config, tensors, path, prefix=LOCATION_PREFIX, dtype=dtype, device=device)


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
        image_encoder: Pass True. From version 0.3 on, both towers are always loaded; until then,
            without True, the location encoder alone is returned with a warning, as in version 0.1.
        revision: Commit on the Hugging Face Hub.

    Raises:
        FileNotFoundError: See :func:`load_location_encoder`.
        CheckpointError: See :func:`load_location_encoder`. Also raised if the checkpoint holds a
            location encoder alone.
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
    return assemble(config, tensors, path, prefix="", dtype=dtype, device=device)


def load_trained(folder: Path, names: Sequence[str]) -> dict[str, SatCLIP]:
    """Load those of some checkpoints that exist, with both towers.

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
    return {name: cast(SatCLIP, load_satclip(folder / name, image_encoder=True)) for name in found}


def save_pretrained(
    model: SatCLIP | LocationEncoder,
    folder: Path | str,
    *,
    provenance: dict[str, Any] | None = None,
    model_card: bool = False,
) -> Path:
    """Write a model to a folder, whole or not at all.

    Args:
        model: Both towers (the image encoder's frozen weights are written too), or a location
            encoder alone.
        folder: Folder that will hold ``config.json`` and ``model.safetensors``. A model that is
            there is replaced; a symbolic link is followed.
        provenance: JSON-ready facts about the training run, kept under ``"provenance"``. Its entry
            ``"licence"`` is the licence of the weights on the model card, "mit" by default.
        model_card: Whether ``folder/README.md`` is written too, as the Hugging Face Hub shows it.

    Returns:
        ``folder``.

    Raises:
        FileExistsError: If there is a file, or a folder that holds something other than a model.
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
    """Rewrite a published checkpoint in our format with the same tensors, and a model card.

    :func:`satclip_lib.checkpoints.published.save_published` converts in the other direction.

    Args:
        name_or_path: See :func:`load_location_encoder`.
        folder: Folder to write, as by :func:`save_pretrained`, with the image tower if the
            checkpoint has one.
        revision: Commit on the Hugging Face Hub.

    Raises:
        FileNotFoundError, CheckpointError: See :func:`load_location_encoder`.
        FileExistsError: See :func:`save_pretrained`.
    """
    path = find_checkpoint(name_or_path, revision=revision)
    config, tensors = read_published(path)
    prefix = LOCATION_PREFIX if config["image_encoder"] is None else ""
    tensors = {name: x for name, x in tensors.items() if name.startswith(prefix)}
    model = assemble(config, tensors, path, prefix=prefix, dtype=torch.float64)
    config["location_encoder"] = asdict(_find_location_encoder(model).config)
    config["provenance"] |= {"converted_from": path.name, "sha256": sha256_of_file(path)}
    return _write(folder, config, tensors, card=make_model_card(config))


def push_to_hub(
    model: SatCLIP | LocationEncoder,
    repo_id: str,
    *,
    provenance: dict[str, Any] | None = None,
    private: bool = False,
    checkpoint: Path | str | None = None,
) -> str:
    """Publish a model with its model card on the Hugging Face Hub; needs ``hf auth login``.

    Args:
        model: See :func:`save_pretrained`.
        repo_id: Hugging Face id, "owner/name"; the repository is made if there is none.
        provenance: See :func:`save_pretrained`.
        private: Whether a new repository is private.
        checkpoint: Folder whose map of images and training locations are published too; retrieval
            and uncertainty need them. None publishes the weights alone.

    Returns:
        Address of the commit.

    Raises:
        RuntimeError: If ``SATCLIP_OFFLINE=1``.
    """
    if is_offline():
        raise RuntimeError("SATCLIP_OFFLINE forbids publishing: unset it")
    from huggingface_hub import HfApi  # here, because it takes longer than all the rest

    api = HfApi()
    with tempfile.TemporaryDirectory() as scratch:
        folder = save_pretrained(model, Path(scratch) / "model", provenance=provenance)
        for name in (RETRIEVAL_NAME, TRAINING_LONLAT_NAME):
            if checkpoint is not None and (source := find_beside(checkpoint, name)) is not None:
                shutil.copy(source, folder)
        write_model_card(folder, address=repo_id)
        api.create_repo(repo_id, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repo_id, folder_path=folder).commit_url)


def write_model_card(folder: Path, *, address: str) -> None:
    """Describe a saved model in its README, with the hash of its weights.

    Args:
        folder: Folder of :func:`save_pretrained`, with the map of images if it has one.
        address: What :func:`load_location_encoder` is given to load it.
    """
    card = make_model_card(
        load_config(folder),
        address=address,
        sha256=hash_checkpoint(folder),
        has_retrieval=(folder / RETRIEVAL_NAME).is_file(),
    )
    (folder / CARD_NAME).write_text(card, encoding="utf-8")


def load_config(folder: Path | str) -> dict[str, Any]:
    """Read a checkpoint's ``config.json``; a CheckpointError if it is not in our format."""
    path = Path(folder) / CONFIG_NAME
    if not path.exists():
        raise FileNotFoundError(
            f"no checkpoint at {folder} ({CONFIG_NAME} is missing): run notebook 02_pretraining, "
            "or `make pretrain`"
        )
    check_is_file(path)
    try:
        if path.stat().st_size > MAX_HEADER_BYTES:
            raise ValueError(f"it has more than {MAX_HEADER_BYTES:,} bytes")
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is not JSON ({error}); it was damaged: make it anew"
        ) from error
    kind = config.get("format") if isinstance(config, dict) else None
    if kind != FORMAT:
        raise CheckpointError(
            f"{path} has format {reprlib.repr(kind)}, expected {FORMAT!r}: fetch or train the "
            "model again, or use the version of this package that wrote it"
        )
    return config


def save_training_lonlat(folder: Path | str, lonlat: Float[np.ndarray, "num_training 2"]) -> Path:
    """Write the locations a model was trained on beside its weights, as float32 (about 1 m)."""
    path = Path(folder) / TRAINING_LONLAT_NAME
    with write_atomically(path) as scratch:
        np.save(scratch, lonlat.astype(np.float32))
    return path


def load_training_lonlat(
    model: nn.Module | Path | str,
) -> Float[np.ndarray, "num_training 2"]:
    """The locations a checkpoint was trained on, ``(num_training, 2)`` degrees.

    Args:
        model: Folder or name of the checkpoint, see :func:`find_checkpoint`; a module has no list.

    Raises:
        ValueError: If the checkpoint has no list, or ``model`` is a module.
        CheckpointError: If the list is damaged.
        FileNotFoundError: If there is no such checkpoint.
    """
    path = find_beside(model, TRAINING_LONLAT_NAME) if isinstance(model, str | Path) else None
    if path is None:
        raise ValueError(
            "it is not known where this model was trained: pass training_lonlat, or as model a "
            f"checkpoint folder that has {TRAINING_LONLAT_NAME}"
        )
    try:  # mapped, so that a header cannot claim more rows than the file has
        lonlat = np.array(np.lib.format.open_memmap(path, mode="r"))
        check_locations(lonlat.astype(np.float64))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): train the model again") from error
    return lonlat


def hash_checkpoint(folder: Path | str) -> str:
    """SHA-256 of the weights, by which figures and tables name the model they were made with."""
    return sha256_of_file(Path(folder) / WEIGHTS_NAME)


def _write(
    folder: Path | str, config: dict[str, Any], tensors: dict[str, Tensor], *, card: str | None
) -> Path:
    asked_for, folder = Path(folder), Path(folder).resolve()  # a link stays, its target is written
    if folder.exists() and (others := _find_foreign(folder)):
        raise FileExistsError(
            f"{asked_for} holds other files, which would be deleted ({others}): pass a new or "
            "empty folder"
        )
    text = json.dumps({"format": FORMAT, **config}, indent=2, default=str)
    with write_atomically(folder) as scratch:
        scratch.mkdir()
        save_file(tensors, scratch / WEIGHTS_NAME)
        (scratch / CONFIG_NAME).write_text(text + "\n", encoding="utf-8")
        if card is not None:
            (scratch / CARD_NAME).write_text(card, encoding="utf-8")
    return asked_for


def _find_foreign(folder: Path) -> str:
    """Names of files in a folder that are not of an older model of ours; "" if there are none."""
    if not folder.is_dir():
        return "it is a file"
    names = {path.name for path in folder.iterdir()}
    try:
        if names and not names - FILES_OF_A_MODEL:
            load_config(folder)
            return ""
    except (FileNotFoundError, CheckpointError):
        return f"{CONFIG_NAME} is not of a model of ours"
    return ", ".join(sorted(names - FILES_OF_A_MODEL)[:3])


def _read(
    name_or_path: Path | str, *, prefix: str, revision: str | None
) -> tuple[dict[str, Any], dict[str, Tensor], Path]:
    """Config of a checkpoint, its tensors whose names start with ``prefix``, and its path."""
    path = find_checkpoint(name_or_path, revision=revision)
    if path.is_dir():
        return load_config(path), read_tensors(path / WEIGHTS_NAME, prefix=prefix), path
    if not path.exists() and path.suffix != ".ckpt":
        load_config(path)  # says how a checkpoint of ours is made
    config, tensors = read_published(path)
    return config, {name: x for name, x in tensors.items() if name.startswith(prefix)}, path


def _find_location_encoder(model: SatCLIP | LocationEncoder) -> LocationEncoder:
    return model.location_encoder if isinstance(model, SatCLIP) else model
