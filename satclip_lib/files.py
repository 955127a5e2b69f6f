"""Where files live, and how they are written: whole or not at all."""

import errno
import functools
import hashlib
import json
import os
import re
import secrets
import shutil
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, is_dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, build_opener

import numpy as np
import torch

with suppress(ImportError):  # Windows has no such locks
    import fcntl

TIMEOUT_S = 30.0  # longest wait for a byte; a longer download must reach MIN_BYTES_PER_S on average
MIN_BYTES_PER_S = 1024
MAX_DOWNLOAD_BYTES = 2**36  # limit for a file whose size is not known beforehand


def project_root() -> Path:
    """The folder that holds ``data/``, ``build/`` and ``figures/``.

    ``$SATCLIP_HOME`` if it is set, else the checkout of this project that the current folder lies
    in, else the current folder. It does not matter where the package is installed.
    """
    if home := os.environ.get("SATCLIP_HOME"):
        return Path(home).expanduser().resolve()
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if _is_checkout(folder)), here)


def _is_checkout(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ("pyproject.toml", "satclip_lib/files.py"))


def is_offline() -> bool:
    """Whether the environment variable ``SATCLIP_OFFLINE`` forbids downloads."""
    return os.environ.get("SATCLIP_OFFLINE", "") not in ("", "0")


@dataclass(frozen=True)
class Workspace:
    """Paths of everything that one profile makes; reading a path creates nothing.

    Attributes:
        profile: Name of the profile, such as "smoke", "demo" or "paper".
    """

    profile: str = "demo"

    @property
    def data(self) -> Path:
        """Folder of all files below."""
        return project_root() / "data" / self.profile

    @property
    def patches(self) -> Path:
        """The patch store."""
        return self.data / "patches.zarr"

    @property
    def features(self) -> Path:
        """Folder of the feature stores."""
        return self.data / "features"

    @property
    def checkpoints(self) -> Path:
        """Folder of the trained models."""
        return self.data / "checkpoints"

    @property
    def build(self) -> Path:
        """Folder of the executed notebooks."""
        return project_root() / "build" / self.profile

    @property
    def figures(self) -> Path:
        """``figures/`` for the demo profile, ``figures/<profile>/`` for the others."""
        figures = project_root() / "figures"
        return figures if self.profile == "demo" else figures / self.profile


@contextmanager
def write_atomically(path: Path | str) -> Iterator[Path]:
    """Yield a scratch path near ``path``; move it there only if the block succeeds.

    The scratch path has the name of ``path``, because many writers look at the suffix. It lies in
    a private folder with a random name, beside ``path``. Works for files and folders; if ``path``
    is a link, its target is written. If two runs write ``path`` at once, the later result stays.

    A run that dies half-way leaves ``path`` as it was. The next process that writes into the same
    folder deletes the scratch folders of dead runs, once, since folders may hold 100,000 files. A
    living run holds a lock on its scratch folder, which works across hosts and containers.

    Example:
        >>> with write_atomically(folder / "table.csv") as scratch:
        ...     table.to_csv(scratch)
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    folder, lock = _make_scratch_folder(path)
    try:
        scratch = folder / path.name
        yield scratch
        _put_in_place(scratch, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def write_text(path: Path | str, text: str) -> None:
    """Write text as UTF-8, whole or not at all."""
    with write_atomically(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


@functools.cache
def sweep(folder: Path) -> None:
    """Remove the scratch folders in ``folder`` whose runs are dead; once per process."""
    for leftover in folder.iterdir():
        if re.fullmatch(r"\.partial-[0-9a-f]{16}-.+", leftover.name):
            with suppress(OSError):  # a living run holds it, or that cannot be known
                lock = _lock(leftover)
                shutil.rmtree(leftover, ignore_errors=True)
                os.close(lock)


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Make a folder if there is none, and keep other runs out of it until the block ends.

    The lock is released when the process ends, in whatever way.

    Raises:
        BlockingIOError: If another run holds the folder.
    """
    lock = None
    while lock is None:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = _lock(folder)
            if not os.path.samestat(os.fstat(lock), folder.stat()):
                raise FileNotFoundError  # another run has removed it since, and made it anew
        except BlockingIOError:
            raise BlockingIOError(
                f"another run is at work in {folder}: wait for it, or choose another target"
            ) from None
        except FileNotFoundError:
            if lock is not None:
                os.close(lock)
            lock = None
        except OSError:  # no locks in this file system: nobody can be kept out
            break
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


class _StayOnHttps(HTTPRedirectHandler):
    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        if req.type == "https" and urlsplit(newurl).scheme != "https":
            fp.close()
            raise ConnectionError(f"the server sends us on to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download_file(url: str, path: Path, *, max_bytes: int | None = None) -> str | None:
    """Download a file, within limits of time and size.

    Args:
        url: Address, http or https; redirects from https to http are refused.
        path: File to write. It may be incomplete after an error.
        max_bytes: Largest number of bytes to accept; None for ``MAX_DOWNLOAD_BYTES``.

    Returns:
        The ETag without its quotes, if the server sends one.

    Raises:
        OSError: If the file cannot be downloaded or written, with the reason in one sentence.
    """
    import certifi  # here, because most runs find the file on disk

    from satclip_lib.progress import progress_bar

    limit, start, received = max_bytes or MAX_DOWNLOAD_BYTES, time.monotonic(), 0
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())  # Python on macOS brings no certificates
    opener = build_opener(_StayOnHttps, HTTPSHandler(context=context))
    try:
        with opener.open(url, timeout=TIMEOUT_S) as response, path.open("wb") as file:
            length = response.headers.get("Content-Length", "")
            size = int(length) if length.isdecimal() else None
            with progress_bar(total=size, unit="B", unit_scale=True, desc=path.name) as bar:
                while block := response.read1(2**16):  # what is there, however little
                    file.write(block)
                    bar.update(len(block))
                    received += len(block)
                    seconds = time.monotonic() - start
                    if seconds > TIMEOUT_S and received < seconds * MIN_BYTES_PER_S:
                        raise TimeoutError(f"{received:,} bytes came in {seconds:.0f} s: try again")
                    if received > limit:
                        raise OSError(f"more than {limit:,} bytes came")
    except HTTPError as error:
        error.close()  # it holds the connection
        reason = error.reason.splitlines()[0] if error.reason else ""
        raise ConnectionError(f"the server answered {error.code} {reason}") from error
    except URLError as error:
        raise ConnectionError(
            f"{urlsplit(url).hostname} cannot be reached ({error.reason})"
        ) from error
    except HTTPException as error:
        raise ConnectionError(f"the answer breaks off or is no HTTP ({error!r})") from error
    if size not in (None, received):
        raise ConnectionError(f"{received:,} of {size:,} bytes came: try again")
    etag: str | None = response.headers.get("ETag")
    return etag and etag.strip('"')


def sha256_of_file(path: Path | str) -> str:
    """Hexadecimal SHA-256 of a file, read in blocks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(*parts: Any) -> str:
    """Hexadecimal SHA-256 of values, to record what a result was made from.

    Args:
        parts: Arrays and tensors (hashed with their shape and type), modules (their parameters and
            buffers), dataclasses, and what JSON can hold. The order of a mapping does not matter.

    Raises:
        TypeError: If a part is something else.
    """
    digest = hashlib.sha256()
    for part in parts:
        _add_to_digest(digest, part)
    return digest.hexdigest()


def _add_to_digest(digest: Any, part: Any) -> None:
    if isinstance(part, torch.nn.Module):
        part = dict(part.state_dict())
    elif is_dataclass(part) and not isinstance(part, type):
        part = asdict(part)
    if isinstance(part, torch.Tensor):
        part = (
            part.detach().cpu().contiguous().view(-1).view(torch.uint8),
            str(part.dtype),
            *part.shape,
        )
        part = (part[0].numpy(), *part[1:])
    if isinstance(part, np.ndarray) and part.dtype != object:
        digest.update(f"array {part.shape} {part.dtype.str}:".encode())
        digest.update(np.ascontiguousarray(part))
    elif isinstance(part, Mapping):
        digest.update(f"mapping {len(part)}:".encode())
        for name in sorted(part, key=str):
            _add_to_digest(digest, str(name))
            _add_to_digest(digest, part[name])
    elif isinstance(part, list | tuple | np.ndarray):
        digest.update(f"sequence {len(part)}:".encode())
        for item in part:
            _add_to_digest(digest, item)
    else:
        digest.update(f"{json.dumps(part)};".encode())


def _make_scratch_folder(path: Path) -> tuple[Path, int | None]:
    """Make a folder beside ``path``; return it and its owner's lock, None without locks."""
    while True:
        folder = path.with_name(f".partial-{secrets.token_hex(8)}-{path.name}")
        folder.mkdir(mode=0o700)
        try:
            lock = _lock(folder)
        except (BlockingIOError, FileNotFoundError):  # swept before it was locked
            continue
        except OSError:  # no locks in this file system: nobody sweeps here
            return folder, None
        if folder.is_dir():
            return folder, lock
        os.close(lock)


def _lock(folder: Path) -> int:
    """Lock a folder until the descriptor is closed or the process ends.

    Raises:
        BlockingIOError: If another process holds the lock.
        OSError: If there is no such folder, or the system has no such locks.
    """
    descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _put_in_place(scratch: Path, path: Path) -> None:
    """Replace ``path`` by ``scratch``, also where ``path`` is a folder that is not empty."""
    while True:
        try:
            os.replace(scratch, path)
            return
        except OSError as error:
            # By now another run may have moved the folder that was in the way.
            in_the_way = error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR)
            if not (scratch.exists() and (in_the_way or path.is_dir())):
                raise
        with suppress(FileNotFoundError):  # another run has just moved it away
            os.rename(path, scratch.with_name(f"old-{secrets.token_hex(8)}"))
