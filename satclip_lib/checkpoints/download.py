"""Where checkpoints come from: names, addresses, and the Hugging Face Hub."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import torch

from satclip_lib.files import fingerprint, is_offline, sha256_of_file

WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"

PUBLISHED_MODELS = {
    f"satclip-{tower.lower()}-l{num_degrees}": f"microsoft/SatCLIP-{tower}-L{num_degrees}"
    for tower in ("ResNet18", "ResNet50", "ViT16")
    for num_degrees in (10, 40)
}
# The commit that torchgeo pins. For the other five nobody has published one: see find_checkpoint.
PINNED_REVISIONS = {"satclip-vit16-l40": "0ef2acc0b91d3c8cfdf4a0cc03207095989287ab"}


class CheckpointError(ValueError):
    """A checkpoint is damaged, incomplete, unsafe, or of a kind that this package cannot load."""


def find_checkpoint(name_or_path: str | Path, *, revision: str | None = None) -> Path:
    """Path of a checkpoint on this machine, downloaded if it has to be.

    What is on this machine already is used without asking the network, so a model once loaded
    stays the same. With ``SATCLIP_OFFLINE=1`` nothing is ever downloaded.

    Args:
        name_or_path: a folder or file that exists (one of the two files of our format stands for
            its folder); a key of ``PUBLISHED_MODELS``; a Hugging Face id, ``"owner/name"``; or
            the https address of a ``.ckpt`` file.
        revision: commit, tag or branch on the Hugging Face Hub. Where it is not given,
            "satclip-vit16-l40" comes from a pinned commit, and everything else from the commit
            that "main" was when it was first downloaded: give a commit to be sure of more.

    Returns:
        A folder in our format, or a ``.ckpt`` file. A path that does not exist comes back as it
        is, for the reader to complain about.

    Raises:
        FileNotFoundError: if it is not on this machine and cannot be downloaded.
        CheckpointError: if a download does not have the SHA-256 that it was announced with.
        ValueError: if an address is not https.
    """
    path = Path(name_or_path)
    if isinstance(name_or_path, Path) or path.exists():
        return path.parent if path.name in (WEIGHTS_NAME, CONFIG_NAME) else path
    if "://" in name_or_path:
        return _fetch_url(name_or_path)
    published = name_or_path.lower().removeprefix("microsoft/")
    if repo_id := PUBLISHED_MODELS.get(published):
        revision = revision or PINNED_REVISIONS.get(published)
        return fetch_from_hub(repo_id, f"{published}.ckpt", revision=revision)
    if re.fullmatch(r"\w[\w.-]*/[\w.-]+", name_or_path) and path.suffix != ".ckpt":
        weights = fetch_from_hub(name_or_path, WEIGHTS_NAME, revision=revision)
        commit = weights.parent.name  # so that both files are of one commit
        return fetch_from_hub(name_or_path, CONFIG_NAME, revision=commit).parent
    if path.name == name_or_path and not path.suffix:
        raise FileNotFoundError(
            f"{name_or_path!r} is neither a folder here nor a published model; those are "
            f"{', '.join(PUBLISHED_MODELS)}. `make pretrain` makes those of the notebooks"
        )
    return path


def fetch_from_hub(repo_id: str, file_name: str, *, revision: str | None = None) -> Path:
    """Path of a file in the Hugging Face cache, downloaded if it is not there.

    Args:
        repo_id: ``"owner/name"``.
        file_name: in that repository.
        revision: commit, tag or branch; None for "main" as it was when it was first downloaded.

    Raises:
        FileNotFoundError: if it is not cached and cannot be downloaded.
        CheckpointError: if the download does not have the SHA-256 that it was announced with.
    """
    if cached := _find_cached(repo_id, file_name, revision or "main"):
        return cached
    if is_offline():
        raise _unavailable(f"{repo_id}/{file_name}", "SATCLIP_OFFLINE forbids it")
    from huggingface_hub import hf_hub_download  # here, because it takes longer than all the rest

    try:
        path = Path(hf_hub_download(repo_id, file_name, revision=revision))
    except OSError as error:
        raise _unavailable(f"{repo_id}/{file_name}", str(error)) from error
    announced = path.resolve().name  # the cache names large files by their SHA-256
    if len(announced) == 64 and sha256_of_file(path) != announced:
        path.resolve().unlink()
        raise CheckpointError(
            f"{file_name} of {repo_id} arrived damaged (its SHA-256 is not {announced}) and was "
            "deleted: try again"
        )
    return path


def _find_cached(repo_id: str, file_name: str, revision: str) -> Path | None:
    """The file in the cache of huggingface_hub, without the time it takes to import that."""
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = Path(HF_HUB_CACHE) / f"models--{repo_id.replace('/', '--')}"
    branch = folder / "refs" / revision
    commit = branch.read_text().strip() if branch.is_file() else revision
    path = folder / "snapshots" / commit / file_name
    return path if path.is_file() else None


def _fetch_url(url: str) -> Path:
    if not url.startswith("https://"):
        raise ValueError(f"the address of a checkpoint must begin with https://, got {url!r}")
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / f"{fingerprint(url)[:16]}-{Path(urlsplit(url).path).name}"
    if path.is_file():
        return path
    if is_offline():
        raise _unavailable(url, "SATCLIP_OFFLINE forbids it")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path))
    except OSError as error:
        raise _unavailable(url, str(error)) from error
    return path


def _unavailable(what: str, reason: str) -> FileNotFoundError:
    return FileNotFoundError(
        f"{what} is neither here nor in the cache, and cannot be downloaded: {reason}"
    )
