"""Public files the project reads: where they come from, and a verified copy of each on disk.

``python -m satclip_lib.data.registry NAME ...`` downloads files by name. ``SATCLIP_REGISTRY`` may
name a JSON file with rows of your own: they join those that come with the package, and one of the
same name takes its place.
"""

import argparse
import difflib
import functools
import json
import logging
import os
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from satclip_lib.files import (
    download_file,
    is_offline,
    project_root,
    sha256_of_file,
    write_atomically,
)


class FileUnavailableError(RuntimeError):
    """A registered file is not on this machine and could not be downloaded."""


class HashMismatchError(RuntimeError):
    """A file is there, but is not the registered one."""


@dataclass(frozen=True)
class RegisteredFile:
    """One row of ``registry.json``.

    Attributes:
        name: Path below the folder that holds the files, with forward slashes.
        url: Address the file is downloaded from, pinned to a commit.
        sha256: Hexadecimal SHA-256 of its content, or its first digits where no more are known.
        num_bytes: Its size; None where it is not known.
        licence: Terms of use.
        citation: Work to cite.
        units: Units of the values, where they have any.
        content: Content of the file: columns, shape, order of the axes.
    """

    name: str
    url: str
    sha256: str
    num_bytes: int | None
    licence: str
    citation: str
    units: str | None
    content: str


def load_registry() -> dict[str, RegisteredFile]:
    """All registered files by name: those of ``registry.json``, then those of your own."""
    rows = json.loads(files("satclip_lib.data").joinpath("registry.json").read_text("utf-8"))
    if own := os.environ.get("SATCLIP_REGISTRY"):
        rows += json.loads(Path(own).expanduser().read_text("utf-8"))
    return {row["name"]: RegisteredFile(**row) for row in rows}


def fetch_file(name: str) -> Path:
    """Path of a verified local copy of a registered file, downloaded if there is none.

    Looks in ``$SATCLIP_DATA_MIRROR``, in ``data/raw`` of the project and in ``data/imagery`` of
    the checkout, and then downloads into ``data/raw``, unless ``SATCLIP_OFFLINE=1``. The first
    copy found is used; if its content is wrong, that is an error, and no other copy is looked for.

    Args:
        name: Name as in ``load_registry()``, for example ``"etopo20.cdf"``.

    Raises:
        ValueError: If no file of that name is registered.
        NotADirectoryError: If ``SATCLIP_DATA_MIRROR`` does not name a folder.
        FileUnavailableError: If there is no copy and none can be downloaded.
        HashMismatchError: If the copy, or the download, does not have the registered SHA-256.
    """
    registry = load_registry()
    if name not in registry:
        near = difflib.get_close_matches(name, registry, n=3, cutoff=0.7) or list(registry)
        raise ValueError(f"no registered file is named {name!r}; there is {', '.join(near)}")
    file = registry[name]
    for folder in list_local_folders():
        if (folder / name).is_file():
            return _verify(folder / name, file, "Delete it to have it downloaded again")
    if tracked := find_tracked(f"imagery/{name}"):
        return _verify(tracked, file, "Get it back with `git checkout`")
    if is_offline():
        raise _unavailable(file, "SATCLIP_OFFLINE forbids downloading it")
    return _download(file, raw_folder() / name)


def find_tracked(name: str) -> Path | None:
    """Path of a file that travels with the repository; None where the checkout is not at hand.

    Args:
        name: Path below ``data/`` of the checkout, for example ``"natural_earth/README.md"``.
    """
    path = Path(__file__).resolve().parents[2] / "data" / name
    return path if path.is_file() else None


def raw_folder() -> Path:
    """``data/raw`` of the project, into which files are downloaded."""
    return project_root() / "data" / "raw"


def list_local_folders() -> list[Path]:
    """Where copies of public files are looked for, in this order; see :func:`fetch_file`.

    Raises:
        NotADirectoryError: If ``SATCLIP_DATA_MIRROR`` does not name a folder.
    """
    mirror = os.environ.get("SATCLIP_DATA_MIRROR")
    if not mirror:
        return [raw_folder()]
    if not Path(mirror).expanduser().is_dir():
        raise NotADirectoryError(
            f"SATCLIP_DATA_MIRROR is {mirror!r}, which is not a folder: correct or unset it"
        )
    return [Path(mirror).expanduser(), raw_folder()]


def _download(file: RegisteredFile, path: Path) -> Path:
    with write_atomically(path) as scratch:
        try:
            download_file(file.url, scratch, max_bytes=file.num_bytes)
        except OSError as error:
            raise _unavailable(file, f"the download failed ({error})") from error
        _verify(scratch, file, f"This is what {file.url} sent: try again later")
    return path


def _verify(path: Path, file: RegisteredFile, advice: str) -> Path:
    stat = path.stat()
    sha256 = _sha256_unless_changed(path, stat.st_size, stat.st_mtime_ns)
    if not sha256.startswith(file.sha256):
        raise HashMismatchError(
            f"{path} is not the registered {file.name}: its SHA-256 is {sha256} "
            f"({stat.st_size} bytes), expected {file.sha256} ({file.num_bytes} bytes). {advice}, "
            "or put a good copy in the folder that SATCLIP_DATA_MIRROR names."
        )
    return path


@functools.cache
def _sha256_unless_changed(path: Path, num_bytes: int, mtime_ns: int) -> str:
    return sha256_of_file(path)


def _unavailable(file: RegisteredFile, reason: str) -> FileUnavailableError:
    here = f"{project_root()}{os.sep}"
    looked_in = " nor in ".join(str(path).removeprefix(here) for path in list_local_folders())
    return FileUnavailableError(
        f"{file.name} is not in {looked_in}, and {reason}: with a network, "
        f"`python -m satclip_lib.data.registry {file.name}` brings it; or let "
        "SATCLIP_DATA_MIRROR name a folder that has it"
    )


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="+", help="as in registry.json")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for name in parser.parse_args().name:
        try:
            logging.info("%s", fetch_file(name))
        except (OSError, RuntimeError, ValueError) as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main()
