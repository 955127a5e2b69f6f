"""A profile of its own for exercises: ``python -m tools.exercises``.

``data/exercises`` becomes a copy of what the notebooks made in ``data/demo``. A notebook that runs
with ``profile = "exercises"`` changes nothing else, and running this again starts afresh. Files
are shared by hard links where the disk has them, so the copy takes a second and no space; nothing
here is ever changed in place.
"""

import argparse
import errno
import logging
import os
import shutil
from pathlib import Path

from satclip_lib.files import Workspace, write_atomically

logger = logging.getLogger("tools.exercises")  # also when this module is run

PROFILE = "exercises"


def copy_profile(source: str, target: str = PROFILE) -> Path:
    """Copy all data of a profile into another one, which is replaced.

    Returns:
        Folder of the copy.

    Raises:
        FileNotFoundError: If the source has no data, with the command that makes it.
    """
    made, folder = Workspace(source).data, Workspace(target).data
    if not made.is_dir():
        raise FileNotFoundError(
            f"no data in {made}: run notebooks 01 and 02, or `make pretrain PROFILE={source}`"
        )
    with write_atomically(folder) as scratch:
        shutil.copytree(made, scratch, copy_function=_link)
    return folder


def _link(source: str, target: str) -> None:
    """Link a file, or copy it where the disk has no links or the copy would cross disks."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            raise
        shutil.copy2(source, target)


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="demo", help="the profile to copy")
    folder = copy_profile(parser.parse_args().profile)
    logging.basicConfig(format="%(message)s")
    logger.setLevel(logging.INFO)
    logger.info("%s is ready: set profile = %r in a notebook", folder, PROFILE)


if __name__ == "__main__":
    main()
