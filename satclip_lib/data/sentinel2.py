"""Sentinel-2 images: which bands there are, in which order, and what an image encoder wants.

Level-2A products, and hence the patches of S2-100K, have twelve bands: B10 (cirrus) is used up by
the atmospheric correction. The image encoders of the published models were trained on thirteen.
They see B10 as a band of zeros, at its place between B09 and B11.
"""

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


def prepare_sentinel2(patch: Any) -> Float32[Tensor, "*batch 13 height width"]:
    """Turn a Level-2A patch into the input of a 13-band image encoder.

    Args:
        patch: integer digital numbers, as the product has them, in one of three forms:
            an array ``(12, height, width)`` or ``(batch, 12, height, width)`` whose bands are in
            the order of ``BAND_NAMES``; the path of a GeoTIFF, in that order too unless its band
            descriptions are band names (needs rasterio); or an ``xarray.DataArray`` with a
            dimension "band" that is labelled with band names, in any order.

    Returns:
        ``(13, height, width)`` or ``(batch, 13, height, width)``: digital numbers / 10000, in the
        order of ``MODEL_BAND_NAMES``, B10 zero. Nothing is cropped or resized; vision transformers
        want 224 x 224 pixels. The offset that later processing baselines add is left in, as it
        was in training.

    Raises:
        ValueError: if bands are unknown, missing or doubled (named), or the shape or dtype is
            not as above.
        ImportError: if rasterio is needed and not installed.

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


def _read_geotiff(path: Path) -> np.ndarray:
    try:
        import rasterio  # here, because arrays do not need it
    except ImportError as error:
        raise ImportError(f"reading {path} needs rasterio: pip install rasterio") from error
    with rasterio.open(path) as file:
        numbers, descriptions = file.read(), file.descriptions
    if set(descriptions) & set(MODEL_BAND_NAMES):
        return numbers[_find_bands([str(name) for name in descriptions], str(path))]
    return numbers


def _read_data_array(patch: Any) -> np.ndarray:
    if "band" not in patch.dims or "band" not in patch.coords or len(patch.dims) < 3:
        raise ValueError(
            "patch must have height, width and a dimension 'band' labelled with band names, got "
            f"dimensions {patch.dims}; use rename and assign_coords(band=[...])"
        )
    order = _find_bands([str(name) for name in patch["band"].values], "patch")
    *batch, row, column = [name for name in patch.dims if name != "band"]
    return patch.isel(band=order).transpose(*batch, "band", row, column).values


def _find_bands(names: list[str], what: str) -> list[int]:
    """Index of each of ``BAND_NAMES`` among ``names``."""
    problems = {
        "unknown": [name for name in names if name not in BAND_NAMES],
        "missing": [name for name in BAND_NAMES if name not in names],
        "doubled": [name for name in BAND_NAMES if names.count(name) > 1],
    }
    if any(problems.values()):
        details = "; ".join(f"{kind}: {', '.join(bad)}" for kind, bad in problems.items() if bad)
        raise ValueError(
            f"{what} must have the twelve Level-2A bands {', '.join(BAND_NAMES)} ({details}); "
            "select or rename its bands"
        )
    return [names.index(name) for name in BAND_NAMES]
