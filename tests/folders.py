"""What is in a folder, to be compared with what was or should be in it."""

from pathlib import Path

from satclip_lib.files import sha256_of_file


def hash_files(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by its path there; of a folder it is empty."""
    return {
        path.relative_to(folder).as_posix(): sha256_of_file(path) if path.is_file() else ""
        for path in folder.rglob("*")
    }
