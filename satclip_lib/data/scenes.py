"""Windows of Sentinel-2 scenes, read over HTTP."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio
import rasterio.warp
from affine import Affine
from jaxtyping import UInt16
from rasterio.errors import RasterioError
from rasterio.windows import Window

from satclip_lib.data.remote_file import Access, RemoteFile
from satclip_lib.data.sentinel2 import BAND_NAMES

SIZE_PX = 256  # size of a patch
PIXEL_M = 10.0  # size of a pixel; bands of 20 and 60 m repeat theirs
MAX_MISSING = 0.1  # share of the pixels of a patch that may be missing
MAX_BLOCK_PX = 4096**2  # pixels of a tile; a scene has tiles of 512 or 1024 squared
FIRST_BASELINE_WITH_OFFSET = 4.0
BASELINE_OFFSET = -1000  # digital numbers, https://sentiwiki.copernicus.eu/web/s2-processing

Item = dict[str, Any]


class UnusableSceneError(ValueError):
    """A scene cannot give this patch, and trying again would not change that."""


@dataclass(frozen=True)
class ScenePatch:
    """A patch, and where it comes from.

    Attributes:
        numbers: Reflectance times 10,000, ``(12, 256, 256)``, in the order of ``BAND_NAMES``. Row 0
            is the northernmost. Pixels that the scene lacks are 0.
        crs: UTM zone of the scene.
        transform: Transform from (column, row) to (x, y) in metres.
        provenance: One value for each column of the index, ready for JSON.
    """

    numbers: UInt16[np.ndarray, "12 256 256"]
    crs: rasterio.CRS
    transform: Affine
    provenance: dict[str, Any]


def cut_patch(
    item: Item,
    lonlat: tuple[float, float] | None,
    rng: np.random.Generator,
    access: Access,
) -> ScenePatch:
    """Cut a patch out of a scene, at 10 m.

    Bands of 20 and 60 m are brought to 10 m by nearest neighbour, as in the published data set, so
    that no number is interpolated. The offset of scenes since processing baseline 04.00 is
    subtracted, so that numbers of all dates mean the same; negative results become 0.

    Args:
        item: The scene, as the API describes it.
        lonlat: Centre of the patch, degrees. The patch is moved if it would leave the scene. None
            draws a place in the scene.
        rng: Random generator that draws the place where ``lonlat`` is None.
        access: How to reach the files.

    Raises:
        UnusableSceneError: If more than ``MAX_MISSING`` of the pixels are missing in one band or
            another, or files are damaged or absent.
        OSError: If the server keeps failing.
    """
    with _open_band(item, BAND_NAMES[0], access) as file:
        crs, bounds = file.crs, file.bounds
    left, top = _choose_corner(crs, bounds, lonlat, rng)
    steps = PIXEL_M * (np.arange(SIZE_PX) + 0.5)
    numbers = np.empty((len(BAND_NAMES), SIZE_PX, SIZE_PX), dtype=np.uint16)
    is_missing = np.zeros((SIZE_PX, SIZE_PX), dtype=bool)
    for band, name in zip(numbers, BAND_NAMES, strict=True):
        with _open_band(item, name, access) as file:
            raw = _read_nearest(file, left + steps, top - steps)
        is_missing |= raw == 0
        if is_missing.mean() > MAX_MISSING:
            share = f"{is_missing.mean():.0%} of the pixels are missing"
            raise UnusableSceneError(f"{share} in the bands up to {name}")
        band[:] = np.maximum(raw + get_offset(item, name), 0)  # missing ones, 0, stay 0
    centre = left + PIXEL_M * SIZE_PX / 2, top - PIXEL_M * SIZE_PX / 2
    (lon,), (lat,) = rasterio.warp.transform(crs, "EPSG:4326", *([value] for value in centre))
    properties = item["properties"]
    provenance = {
        "lat": lat,
        "lon": lon,
        "datetime": properties["datetime"],
        "platform": properties.get("platform"),
        "scene_id": item["id"],
        "cloud_cover": properties.get("eo:cloud_cover"),
        "orbit": properties.get("sat:relative_orbit"),
        "processing_baseline": properties.get("s2:processing_baseline"),
        "offset": get_offset(item, "B02"),
        "missing_share": float(is_missing.mean()),
    }
    transform = Affine(PIXEL_M, 0, left, 0, -PIXEL_M, top)
    return ScenePatch(numbers, crs, transform, provenance)


def get_offset(item: Item, band: str) -> int:
    """Return what to add to the digital numbers of a scene to get reflectance times 10,000.

    ``raster:bands`` of the asset decides, or else ``s2:processing_baseline``.

    Raises:
        UnusableSceneError: If the item has neither, or one that is no number.
    """
    properties = item["properties"]
    if properties.get("earthsearch:boa_offset_applied"):
        return 0  # whatever raster:bands says
    try:
        raster = (item["assets"][band].get("raster:bands") or [{}])[0]
        if "offset" in raster:
            return round(raster["offset"] / raster.get("scale", 1e-4))
        baseline = float(properties["s2:processing_baseline"])
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise UnusableSceneError("has neither raster:bands nor s2:processing_baseline") from error
    return BASELINE_OFFSET if baseline >= FIRST_BASELINE_WITH_OFFSET else 0


def _choose_corner(
    crs: rasterio.CRS,
    bounds: rasterio.coords.BoundingBox,
    lonlat: tuple[float, float] | None,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Left and top of a window that lies wholly in the scene, on its 10 m grid, metres."""
    width = round((bounds.right - bounds.left) / PIXEL_M)
    height = round((bounds.top - bounds.bottom) / PIXEL_M)
    if min(width, height) < SIZE_PX:
        raise UnusableSceneError(f"is {height} x {width} pixels, smaller than a patch")
    if lonlat is None:
        column, row = rng.integers([width - SIZE_PX + 1, height - SIZE_PX + 1])
    else:
        (x,), (y,) = rasterio.warp.transform("EPSG:4326", crs, *([value] for value in lonlat))
        column = np.clip(round((x - bounds.left) / PIXEL_M) - SIZE_PX // 2, 0, width - SIZE_PX)
        row = np.clip(round((bounds.top - y) / PIXEL_M) - SIZE_PX // 2, 0, height - SIZE_PX)
    return float(bounds.left + PIXEL_M * column), float(bounds.top - PIXEL_M * row)


@contextmanager
def _open_band(item: Item, band: str, access: Access) -> Iterator[rasterio.DatasetReader]:
    """Open a band; a fault of the file is an UnusableSceneError, one of the server an OSError."""
    if band not in item["assets"]:
        raise UnusableSceneError(f"has no asset {band}, only {', '.join(item['assets'])}")
    try:
        remote = RemoteFile(item["assets"][band]["href"], access)
        try:
            with rasterio.open(remote.name, driver="GTiff", opener=remote.open) as file:
                tile_px = math.prod(file.block_shapes[0])
                if file.dtypes[0] != "uint16" or not file.crs or tile_px > MAX_BLOCK_PX:
                    raise UnusableSceneError(
                        f"{band} must have uint16 pixels in tiles, and a CRS; it has "
                        f"{file.dtypes[0]}, tiles of {tile_px} pixels, CRS {file.crs}"
                    )
                yield file
        except (RasterioError, UnusableSceneError) as error:
            is_damaged = isinstance(error, RasterioError)
            what = UnusableSceneError(f"{band} is damaged: {error}") if is_damaged else error
            raise remote.error or what from error
        if remote.error:
            raise remote.error
    except FileNotFoundError as error:
        raise UnusableSceneError(f"{band} is missing or empty, {error}") from error


def _read_nearest(file: rasterio.DatasetReader, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pixels that the points of a grid fall into, ``(len(y), len(x))`` int32."""
    columns = np.floor((x - file.bounds.left) / file.res[0]).astype(int)
    rows = np.floor((file.bounds.top - y) / file.res[1]).astype(int)
    left, top = columns.min(), rows.min()
    width, height = columns.max() - left + 1, rows.max() - top + 1
    if min(left, top) < 0 or left + width > file.width or top + height > file.height:
        raise UnusableSceneError("has bands that do not cover the same area")
    if max(width, height) > SIZE_PX + 1:
        raise UnusableSceneError(f"has pixels of {file.res} m, finer than {PIXEL_M} m")
    pixels = file.read(1, window=Window(left, top, width, height)).astype(np.int32)
    return pixels[rows[:, None] - top, columns - left]
