"""Small copies of all figures, which git tracks: ``python -m tools.save_reference``."""

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image

from satclip_lib.files import Workspace, write_atomically
from satclip_lib.plotting.figures import FIGURES

MAX_BYTES = 400_000


def save_reference(workspace: Workspace) -> None:
    """Keep small copies of all figures, with their sidecars, in ``figures/reference``."""
    folder = workspace.figures / "reference"
    for figure_id in FIGURES:
        source = workspace.figures / f"{figure_id}.png"
        save_small_copy(source, folder / f"{figure_id}.webp")
        shutil.copy(source.with_suffix(".json"), folder)


def save_small_copy(source: Path, target: Path) -> None:
    """Write a picture as WebP of half its width and height.

    The copy is lossless, so that colours of classes stay what they are, unless that takes more
    than 400 kB: a picture made of gradients alone is compressed at a quality of 90 %.
    """
    with Image.open(source) as image:
        half = image.convert("RGB").resize((image.width // 2, image.height // 2))
    content = _encode(half, lossless=True)
    if len(content) > MAX_BYTES:
        content = _encode(half, quality=90)
    with write_atomically(target) as scratch:
        scratch.write_bytes(content)


def _encode(image: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format="webp", method=6, **options)
    return file.getvalue()


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="demo")
    save_reference(Workspace(parser.parse_args().profile))


if __name__ == "__main__":
    main()
