"""Four seasons of the Blue Marble and the lights of the night: 13 bands of the whole Earth.

The pictures travel with the repository (``data/imagery``); without the checkout they are
downloaded by hash. All are in longitude and latitude, row 0 at 90 N, column 0 at 180 W. The
composites have 5400 x 2700 pixels, 1/15 degree, stretched for display; the ocean is painted.
North of 80 N and south of 60 S the four are equal up to compression: polar night was filled.

Source: NASA Earth Observatory, R. Stoeckli, Blue Marble Next Generation, 2004; NASA Earth
Observatory and NOAA NGDC, Earth at Night 2012 (Suomi NPP VIIRS). Public domain.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from satclip_lib.data.registry import fetch_file

SEASONS = {"jan": "200401", "apr": "200404", "jul": "200407", "oct": "200410"}  # year and month
COLORS = ("red", "green", "blue")
BAND_NAMES = (*(f"{color}_{season}" for season in SEASONS for color in COLORS), "lights")
SHAPE = (2700, 5400)  # of every picture here, 1/15 degree

LIGHTS_FILE = "earth_at_night_2012.jpg"
BLUE_OF_LAND = 0.6  # land is drawn in blue; only red above this share of the blue is light
DARK_RED = 3.0  # of 255: error of the compression over dark forests
BRIGHTEST_LIGHT = 80.0  # of 255: red that becomes 255; the largest in the picture is 70


def load_season(season: str) -> UInt8[np.ndarray, "2700 5400 3"]:
    """One seasonal composite, red, green and blue.

    Args:
        season: Season: "jan", "apr", "jul" or "oct".

    Raises:
        ValueError: If there is no such season.
        FileUnavailableError: If the picture is not at hand and cannot be downloaded.
    """
    if season not in SEASONS:
        raise ValueError(f"season must be one of {', '.join(SEASONS)}, got {season!r}")
    with Image.open(fetch_file(f"bluemarble_{SEASONS[season]}.jpg")) as picture:
        return np.asarray(picture)


def load_lights() -> UInt8[np.ndarray, "2700 5400"]:
    """Brightness of the lights at night, in steps of the logarithm, 0 where it is dark.

    The picture shows lights in red and yellow, and land and ice in blue. The light is r = red - 0.6
    blue - 3, or 0 where that is negative; the band is 255 log(1 + r) / log(81). Its 4096 x 2048
    pixels are interpolated to those of the composites, also across the date line.

    Raises:
        FileUnavailableError: If the picture is not at hand and cannot be downloaded.
    """
    with Image.open(fetch_file(LIGHTS_FILE)) as picture:
        red, _, blue = np.moveaxis(np.asarray(picture, dtype=np.float32), -1, 0)
    light = np.maximum(red - BLUE_OF_LAND * blue - DARK_RED, 0)
    light = 255 * np.log1p(light) / np.log1p(BRIGHTEST_LIGHT)
    height, width = light.shape
    wrapped = Image.fromarray(np.pad(light, ((0, 0), (2, 2)), mode="wrap"))
    middle = (2, 0, 2 + width, height)
    resized = wrapped.resize(SHAPE[::-1], Image.Resampling.BILINEAR, box=middle)
    return np.asarray(resized).round().astype(np.uint8)


@lru_cache(maxsize=1)
def load_seasons() -> UInt8[np.ndarray, "2700 5400 13"]:
    """All bands side by side, in the order of ``BAND_NAMES``, 190 MB.

    Raises:
        FileUnavailableError: If a picture is not at hand and cannot be downloaded.
    """
    pixels = np.empty((*SHAPE, len(BAND_NAMES)), np.uint8)
    for number, season in enumerate(SEASONS):
        pixels[..., 3 * number : 3 * number + 3] = load_season(season)
    pixels[..., -1] = load_lights()
    pixels.setflags(write=False)  # cached, and so shared by all callers
    return pixels
