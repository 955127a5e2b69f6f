"""Find checkpoints by name, path or address, and download them, also from the Hugging Face Hub."""

import hashlib
import re
import zipfile
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch

from satclip_lib.files import (
    download_file,
    fingerprint,
    is_offline,
    sha256_of_file,
    write_atomically,
)

WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"

PUBLISHED_MODELS = {
    f"satclip-{tower.lower()}-l{num_degrees}": f"microsoft/SatCLIP-{tower}-L{num_degrees}"
    for tower in ("ResNet18", "ResNet50", "ViT16")
    for num_degrees in (10, 40)
}
# Trained by the demo profile, and in the package: see its README.md.
BUNDLED_MODEL = "blue-marble-l40"
# The commit that torchgeo pins. For the other five nobody has published one: see find_checkpoint.
PINNED_REVISIONS = {"satclip-vit16-l40": "0ef2acc0b91d3c8cfdf4a0cc03207095989287ab"}

MAX_DOWNLOAD_BYTES = 2**33  # the largest published model has 0.6 GB
MAX_REQUESTS = 50  # for one file of the Hub, resumed ones and redirects included

_addresses: ContextVar[list[str] | None] = ContextVar("_addresses", default=None)


class CheckpointError(ValueError):
    """A checkpoint is damaged, incomplete, unsafe, or of a kind that this package cannot load."""


def find_checkpoint(name_or_path: str | Path, *, revision: str | None = None) -> Path:
    """Path of a checkpoint on this machine, downloaded if needed.

    A checkpoint that is on this machine is used without asking the network, so a model that was
    loaded once stays the same. With ``SATCLIP_OFFLINE=1`` nothing is ever downloaded.

    Args:
        name_or_path: Folder or file that exists (for one of the two files of our format, its
            folder is returned); ``BUNDLED_MODEL``; key of ``PUBLISHED_MODELS``; Hugging Face id,
            ``"owner/name"``; or https address of a ``.ckpt`` file.
        revision: Commit, tag or branch on the Hugging Face Hub. If it is not given,
            "satclip-vit16-l40" comes from a pinned commit, and everything else from the commit
            that "main" was when it was first downloaded. Give a commit for a fixed version.

    Returns:
        A folder in our format, or a ``.ckpt`` file. A path that does not exist is returned
        unchanged; reading it then raises the error.

    Raises:
        FileNotFoundError: If it is not on this machine and cannot be downloaded.
        CheckpointError: If a download differs from what the server announced; it is not kept.
        ValueError: If an address is not https.
    """
    path = Path(name_or_path)
    if isinstance(name_or_path, Path) or path.exists():
        return path.parent if path.name in (WEIGHTS_NAME, CONFIG_NAME) else path
    if "://" in name_or_path:
        return _fetch_url(name_or_path)
    if name_or_path == BUNDLED_MODEL:
        return Path(__file__).parent / BUNDLED_MODEL
    published = name_or_path.lower().removeprefix("microsoft/")
    if repo_id := PUBLISHED_MODELS.get(published):
        revision = revision or PINNED_REVISIONS.get(published)
        return fetch_from_hub(repo_id, f"{published}.ckpt", revision=revision)
    if _is_hub_id(name_or_path):
        weights = fetch_from_hub(name_or_path, WEIGHTS_NAME, revision=revision)
        commit = weights.parent.name  # so that both files are of one commit
        return fetch_from_hub(name_or_path, CONFIG_NAME, revision=commit).parent
    if path.name == name_or_path and not path.suffix:
        raise FileNotFoundError(
            f"{name_or_path!r} is neither a folder nor the name of a model: pass one of "
            f"{', '.join([BUNDLED_MODEL, *PUBLISHED_MODELS])}, or make the models of the notebooks "
            "with `make pretrain`"
        )
    return path


def find_beside(name_or_path: str | Path, file_name: str) -> Path | None:
    """Path of a file that some models have beside their weights, downloaded if needed.

    Args:
        name_or_path: See :func:`find_checkpoint`.
        file_name: Name of the file.

    Returns:
        The path, or None if the model has no such file.

    Raises:
        FileNotFoundError, CheckpointError: See :func:`find_checkpoint`; raised for the model only.
    """
    folder = find_checkpoint(name_or_path)
    if (folder / file_name).exists():
        return folder / file_name
    name = str(name_or_path)
    if isinstance(name_or_path, Path) or Path(name).exists() or not _is_hub_id(name):
        return None
    if name.lower().removeprefix("microsoft/") in PUBLISHED_MODELS:
        return None  # one .ckpt file and no more
    try:
        return fetch_from_hub(name, file_name, revision=folder.name)  # of the same commit
    except FileNotFoundError:
        return None


def _is_hub_id(name: str) -> bool:
    return bool(re.fullmatch(r"\w[\w.-]*/[\w.-]+", name)) and Path(name).suffix != ".ckpt"


def check_is_file(path: Path) -> None:
    """Raise an error unless this is a file; reading a pipe or a device might never end."""
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint at {path}")
    if not path.is_file():
        raise CheckpointError(
            f"{path} is a folder, pipe or device where a file belongs: pass another path, or "
            "fetch or train the model again"
        )


def fetch_from_hub(repo_id: str, file_name: str, *, revision: str | None = None) -> Path:
    """Path of a file in the Hugging Face cache, downloaded if it is not there.

    Args:
        repo_id: Hugging Face id, ``"owner/name"``.
        file_name: Name of the file in that repository.
        revision: Commit, tag or branch; None for "main" as it was when it was first downloaded.

    Raises:
        FileNotFoundError: If it is not cached and cannot be downloaded.
        CheckpointError: If the download differs from what the Hub announced; it is not kept.
        ValueError: If ``HF_ENDPOINT`` is no http or https address.
    """
    if cached := _find_cached(repo_id, file_name, revision or "main"):
        return cached
    if is_offline():
        raise _unavailable(f"{repo_id}/{file_name}", "SATCLIP_OFFLINE forbids it")
    from huggingface_hub import constants, get_session, hf_hub_download  # here, because it is slow

    if not constants.ENDPOINT.startswith(("https://", "http://")):
        raise ValueError(
            f"HF_ENDPOINT must begin with https://, got {constants.ENDPOINT!r}: set it to "
            f"https://{constants.ENDPOINT}, or unset it"
        )
    hooks = get_session().event_hooks["request"]
    if _watch_requests not in hooks:
        hooks.append(_watch_requests)
    token = _addresses.set([constants.ENDPOINT])
    try:
        path = Path(hf_hub_download(repo_id, file_name, revision=revision))
    except Exception as error:  # those of its HTTP library are no OSError
        raise _unavailable(f"{repo_id}/{file_name}", str(error)) from error
    finally:
        _addresses.reset(token)
    blob = path.resolve()
    try:
        _check_arrived(blob, kind=path.suffix, announced=blob.name)
    except CheckpointError:
        path.unlink()
        blob.unlink(missing_ok=True)
        raise
    return path


def _watch_requests(request: Any) -> None:
    """Called by huggingface_hub's HTTP client before each request, redirects included."""
    addresses = _addresses.get()
    if addresses is None:  # a request of somebody else in this process
        return
    addresses.append(str(request.url))
    if addresses[0].startswith("https://") and not addresses[-1].startswith("https://"):
        raise ConnectionError(f"the server sends us on to {request.url}, which is not https")
    if len(addresses) > MAX_REQUESTS:  # huggingface_hub goes on as long as any byte comes
        raise ConnectionError("the server breaks off again and again")


def _check_arrived(path: Path, *, kind: str, announced: str | None) -> None:
    """Raise an error if a download is cut short, or is a web page instead of the file.

    Servers announce a SHA-256; the Hub announces git's SHA-1 for small files.
    """
    with path.open("rb") as file:
        head = file.read(9)
    if {
        ".ckpt": not zipfile.is_zipfile(path),
        ".safetensors": head[8:] != b"{",
        ".json": head.lstrip()[:1] != b"{",
    }.get(kind):
        raise CheckpointError(f"what arrived is no {kind} file but begins with {head!r}: try again")
    digest = announced
    if announced and re.fullmatch(r"[0-9a-f]{64}", announced):
        digest = sha256_of_file(path)
    elif announced and re.fullmatch(r"[0-9a-f]{40}", announced):
        content = path.read_bytes()
        digest = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    if digest != announced:
        raise CheckpointError(f"the file arrived damaged (its hash is not {announced}): try again")


def _find_cached(repo_id: str, file_name: str, revision: str) -> Path | None:
    """Find the file in the cache of huggingface_hub without the slow import of that package."""
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = Path(HF_HUB_CACHE) / f"models--{repo_id.replace('/', '--')}"
    branch = folder / "refs" / revision
    commit = branch.read_text().strip() if branch.is_file() else revision
    path = folder / "snapshots" / commit / file_name
    return path if path.is_file() else None


def _fetch_url(url: str) -> Path:
    if not url.startswith("https://"):
        raise ValueError(f"the address of a checkpoint must begin with https://, got {url!r}")
    name = Path(urlsplit(url).path).name[-100:]
    path = Path(torch.hub.get_dir()) / "checkpoints" / f"{fingerprint(url)[:16]}-{name}"
    if path.is_file():
        return path
    if is_offline():
        raise _unavailable(url, "SATCLIP_OFFLINE forbids it")
    with write_atomically(path) as scratch:
        try:
            announced = download_file(url, scratch, max_bytes=MAX_DOWNLOAD_BYTES)
        except OSError as error:
            raise _unavailable(url, str(error)) from error
        _check_arrived(scratch, kind=".ckpt", announced=announced)
    return path


def _unavailable(what: str, reason: str) -> FileNotFoundError:
    return FileNotFoundError(
        f"{what} is neither here nor in the cache, and cannot be downloaded: {reason}"
    )
