"""Sentinel-2 images: which bands there are, in which order, and the input of an image encoder.

Level-2A products, and hence the patches of S2-100K, have twelve bands: B10 (cirrus) is used up by
the atmospheric correction. The image encoders of the published models were trained on thirteen.
They see B10 as a band of zeros, at its place between B09 and B11.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

BAND_NAMES = (
    "B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12",
)  # fmt: skip
MODEL_BAND_NAMES = (*BAND_NAMES[:10], "B10", *BAND_NAMES[10:])
DIGITAL_NUMBERS_PER_REFLECTANCE = 10_000
BAND_CODE = re.compile(r"(?<![0-9a-z_])b0?([1-9]|1[0-2]|8a)(?:_[126]0m)?(?![0-9a-z_])")
ALIASES = {  # common names of STAC and Earth Engine, without spaces, hyphens and underscores
    "coastal": "B01", "coastalaerosol": "B01", "aerosols": "B01",
    "blue": "B02", "green": "B03", "red": "B04",
    "rededge1": "B05", "rededge2": "B06", "rededge3": "B07",
    "nir": "B08", "nir08": "B8A", "narrownir": "B8A", "nirnarrow": "B8A", "rededge4": "B8A",
    "nir09": "B09", "watervapor": "B09", "watervapour": "B09",
    "swir16": "B11", "swir1": "B11", "swir22": "B12", "swir2": "B12",
}  # fmt: skip


def prepare_sentinel2(patch: Any) -> Float32[Tensor, "*batch 13 height width"]:
    """Turn a Level-2A patch into the input of a 13-band image encoder.

    Args:
        patch: Integer digital numbers, as the product has them, in one of three forms:
            an array ``(12, height, width)`` or ``(batch, 12, height, width)`` whose bands are in
            the order of ``BAND_NAMES``; the path of a GeoTIFF (needs rasterio), whose band
            descriptions say which band is which, see :func:`find_bands_of_tif`; or an
            ``xarray.DataArray`` with a dimension "band" that is labelled with band names, in any
            order.

    Returns:
        ``(13, height, width)`` or ``(batch, 13, height, width)``: digital numbers / 10000, in the
        order of ``MODEL_BAND_NAMES``, B10 zero. Nothing is cropped or resized; vision transformers
        want 224 x 224 pixels. The offset that later processing baselines add is left in, as it
        was in training.

    Raises:
        ValueError: If bands are unknown, missing or doubled (named), or the shape or dtype is
            not as above.
        ImportError: If rasterio is needed and not installed.

    References:
        Klemmer et al. (2023), arXiv 2311.17179; Wang et al. (2022), SSL4EO-S12, arXiv 2211.07044.
    """
    if isinstance(patch, str | Path):
        numbers = _read_geotiff(Path(patch))
    elif hasattr(patch, "dims"):
        numbers = _read_data_array(patch)
    else:
        numbers = np.asarray(patch)
    if numbers.ndim < 3 or numbers.shape[-3] != len(BAND_NAMES):
        raise ValueError(
            f"patch must have shape (12, height, width) or (batch, 12, height, width), got "
            f"{numbers.shape}; the bands are {', '.join(BAND_NAMES)}"
        )
    if not np.issubdtype(numbers.dtype, np.integer):
        raise ValueError(
            f"patch must hold integer digital numbers (uint16, about 10000 for white), got "
            f"{numbers.dtype}; pass what the product holds, before any scaling"
        )
    return insert_cirrus_band(
        torch.from_numpy(numbers.astype(np.float32)) / DIGITAL_NUMBERS_PER_REFLECTANCE
    )


def insert_cirrus_band(
    reflectance: Float32[Tensor, "*batch 12 height width"],
) -> Float32[Tensor, "*batch 13 height width"]:
    """Put a band of zeros where B10 belongs: Level-2A has none, and 13-band encoders expect it."""
    cirrus = torch.zeros_like(reflectance[..., :1, :, :])
    return torch.cat([reflectance[..., :10, :, :], cirrus, reflectance[..., 10:, :, :]], dim=-3)


def find_bands_of_tif(descriptions: Sequence[str | None], *, what: str) -> list[int]:
    """Index of each of ``BAND_NAMES`` among the band descriptions of a GeoTIFF.

    Understood are, in upper or lower case, the names of the bands with or without the zero ("B1",
    "b8a"), also in a longer text if it names one band only ("band_2 (B02)", "B2, central
    wavelength 490 nm", "B04_10m"), and the common names of ``ALIASES``. Numbers alone ("Band 9")
    and names with a prefix ("SR_B4" is Landsat's) mean different bands to different people.
    Without descriptions, or with the same one for all bands as in S2-100K, the order counts.

    Args:
        descriptions: One for each band, None for a band without.
        what: Name of the file for the error.

    Raises:
        ValueError: If descriptions are unknown, missing or doubled; the message names them.
    """
    if len(set(descriptions)) == 1 and _recognise(descriptions[0]) is None:
        return list(range(len(descriptions)))
    return _find_bands(descriptions, what)


def _read_geotiff(path: Path) -> np.ndarray:
    try:
        import rasterio  # here, because arrays do not need it
    except ImportError as error:
        raise ImportError(f"reading {path} needs rasterio: pip install rasterio") from error
    with rasterio.open(path, driver="GTiff") as file:
        return file.read()[find_bands_of_tif(file.descriptions, what=str(path))]


def _read_data_array(patch: Any) -> np.ndarray:
    if "band" not in patch.dims or "band" not in patch.coords or len(patch.dims) < 3:
        raise ValueError(
            "patch must have height, width and a dimension 'band' labelled with band names, got "
            f"dimensions {patch.dims}; use rename and assign_coords(band=[...])"
        )
    order = _find_bands(patch["band"].values.tolist(), "patch")
    *batch, row, column = [name for name in patch.dims if name != "band"]
    return patch.isel(band=order).transpose(*batch, "band", row, column).values


def _find_bands(names: Sequence[Any], what: str) -> list[int]:
    """Index of each of ``BAND_NAMES`` among the bands that ``names`` mean."""
    bands = [_recognise(name) for name in names]
    problems = {
        "unknown": [str(n) for n, band in zip(names, bands, strict=True) if band not in BAND_NAMES],
        "missing": [name for name in BAND_NAMES if name not in bands],
        "doubled": [name for name in BAND_NAMES if bands.count(name) > 1],
    }
    if any(problems.values()):
        details = "; ".join(f"{kind}: {', '.join(bad)}" for kind, bad in problems.items() if bad)
        raise ValueError(
            f"{what} must have the twelve Level-2A bands {', '.join(BAND_NAMES)} ({details}); "
            "select or rename its bands"
        )
    return [bands.index(name) for name in BAND_NAMES]


def _recognise(name: Any) -> str | None:
    """The band that a name means, "B01" to "B12" or "B8A"; None if it is not clear."""
    text = str(name).casefold()
    codes = {f"B{code.upper():0>2}" for code in BAND_CODE.findall(text)}
    if len(codes) == 1:
        return codes.pop()
    return None if codes else ALIASES.get(re.sub("[ _-]", "", text))
