"""Small copies of all figures, which git tracks: ``python -m tools.save_reference``."""

import argparse
import io
import logging
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from satclip_lib.files import Workspace, write_atomically
from satclip_lib.plotting.figures import FIGURES

logger = logging.getLogger("tools.save_reference")  # also when this module is run

MAX_BYTES = 600_000
ATLAS_STATE = "colour=Similarity+to+a+place&place=-63,-5&globe=0"  # as in the page's address


def save_reference(workspace: Workspace) -> None:
    """Keep small copies of all figures, with their sidecars, in ``figures/reference``.

    The atlas is shown as it looks after a touch in the Amazon. Without a browser its picture stays.
    """
    folder = workspace.figures / "reference"
    for figure_id in FIGURES:
        source = workspace.figures / f"{figure_id}.png"
        save_small_copy(source, folder / f"{figure_id}.webp")
        shutil.copy(source.with_suffix(".json"), folder)
    if chromium := find_chromium():
        with TemporaryDirectory() as scratch:
            picture = Path(scratch, "atlas.png")
            photograph(workspace.figures / "biome_atlas.html", picture, chromium=chromium)
            save_small_copy(picture, folder / "biome_atlas.webp")
    else:
        logger.warning("no Chromium found: the picture of the atlas stays. Set CHROMIUM=path.")


def find_chromium() -> str | None:
    """Path of the browser: ``$CHROMIUM``, or one that is installed."""
    installed = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    return os.environ.get("CHROMIUM") or next(filter(None, installed), None)


def photograph(atlas: Path, target: Path, *, chromium: str) -> None:
    """Write what a browser of 1,280 by 800 pixels shows of an atlas as PNG, at twice that size."""
    from playwright.sync_api import sync_playwright  # here, because only `make reference` needs it

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        size = {"width": 1280, "height": 800}
        page = browser.new_page(viewport=size, device_scale_factor=2)
        page.goto(f"{atlas.resolve().as_uri()}#{ATLAS_STATE}")
        page.wait_for_selector("#atlas[data-ready]")
        page.screenshot(path=target)
        browser.close()


def save_small_copy(source: Path, target: Path) -> None:
    """Write a picture as WebP of half its width and height.

    The copy is lossless, so that colours of classes stay what they are, unless that takes more
    than 600 kB: a picture made of gradients alone is compressed at a quality of 90 %.
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
