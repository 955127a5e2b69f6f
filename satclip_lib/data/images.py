"""Patches of any store as input of an image encoder, and as pictures in true colour."""

from collections.abc import Iterable

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from satclip_lib.data.blue_marble import Imagery, cut_patches, list_bands
from satclip_lib.data.patch_store import get_imagery, get_lonlat, read_patches
from satclip_lib.data.seasons import COLORS, SEASONS
from satclip_lib.data.sentinel2 import BAND_NAMES, MODEL_BAND_NAMES, insert_cirrus_band
from satclip_lib.data.transforms import center_crop
from satclip_lib.image_encoder import ImageEncoder

LIGHT_EXPONENTS = (0.7, 1.3, 2.6)  # of red, green, blue
FRAME_COLOR = (1.0, 0.85, 0.0)  # yellow, which neither land nor snow nor sea has
SENTINEL2_BRIGHTNESS = 3  # land reflects little: pictures are brightened by this factor


def load_images(
    dataset: xr.Dataset, index=slice(None), *, image_encoder: ImageEncoder | None = None
) -> Float32[Tensor, "batch bands height width"]:
    """Load patches as images with values of order one, the input of an encoder.

    Args:
        dataset: Open patch store.
        index: Which patches: a slice, row numbers or a mask.
        image_encoder: Encoder that will see the images. If it has 13 bands or a fixed size, an
            empty B10 is inserted or the middle is cut out. None only scales.

    Returns:
        ``(batch, bands, height, width)``, patches times the store's ``scale``.

    Raises:
        ValueError: If the encoder wants other bands or larger images than the store has.
    """
    images = read_patches(dataset, index).astype(np.float32)
    images *= np.float32(dataset.attrs["scale"])  # in place: these are the largest arrays there are
    if image_encoder is None:
        return torch.from_numpy(images)
    return prepare_images(torch.from_numpy(images), dataset.band.values, image_encoder)


def prepare_images(
    images: Float[Tensor, "batch bands height width"],
    band_names: Iterable[str],
    image_encoder: ImageEncoder,
    *,
    crop: bool = True,
) -> Float[Tensor, "batch num_bands size_px size_px"]:
    """Give images the bands and the size that an encoder takes.

    Args:
        images: Values of order one.
        band_names: Names of their bands.
        image_encoder: Encoder that will see them.
        crop: Whether to cut out the middle where the encoder takes one size only.

    Raises:
        ValueError: If the bands are neither those of the encoder nor the twelve of Level-2A
            for an encoder of thirteen, or if the images are smaller than the encoder's size.
    """
    names = tuple(map(str, band_names))
    if image_encoder.num_bands == len(MODEL_BAND_NAMES) and names == BAND_NAMES:
        images = insert_cirrus_band(images)
    elif image_encoder.num_bands != len(names):
        raise ValueError(
            f"the image encoder wants {image_encoder.num_bands} bands, the images have "
            f"{len(names)}: {', '.join(names)}. Give it the bands it was trained on, in their "
            "order, or use the encoder that these images are meant for"
        )
    if crop and image_encoder.size_px is not None:
        images = center_crop(images, size_px=image_encoder.size_px)
    return images


def load_true_color(
    dataset: xr.Dataset,
    index=slice(None),
    *,
    season: str | None = None,
    context_px: int | None = None,
) -> Float32[np.ndarray, "batch height width 3"]:
    """Patches of a store as people see them: red, green and blue from 0 to 1, channels last.

    Args:
        dataset: Open patch store.
        index: Which patches: a slice, row numbers or a mask.
        season: See :func:`to_true_color`.
        context_px: Side of a larger square around each patch that is shown in its place, with the
            patch framed in the middle. Only the Blue Marble has surroundings; other patches are
            shown as they are.
    """
    imagery = get_imagery(dataset)
    if context_px is None or imagery is None:
        return to_true_color(load_images(dataset, index), dataset.band.values, season=season)
    return cut_true_color(
        get_lonlat(dataset)[index],
        size_px=context_px,
        imagery=imagery,
        season=season,
        framed_px=dataset.sizes["x"],
    )


def cut_true_color(
    lonlat: Float64[np.ndarray, "batch 2"],
    *,
    size_px: int,
    imagery: Imagery = "seasons",
    season: str | None = None,
    framed_px: int | None = None,
) -> Float32[np.ndarray, "batch size_px size_px 3"]:
    """Squares of the Blue Marble as people see them: red, green and blue from 0 to 1.

    Args:
        lonlat: ``(batch, 2)`` longitude and latitude of the centres, degrees.
        size_px: Side of the squares, in pixels of 1/15 degree.
        imagery: See :func:`satclip_lib.data.blue_marble.cut_patches`.
        season: See :func:`to_true_color`.
        framed_px: Side of a patch in the middle, around which a frame is drawn.
    """
    pixels = torch.from_numpy(cut_patches(lonlat, size_px=size_px, imagery=imagery))
    pictures = to_true_color(pixels / 255, list_bands(imagery), season=season)
    if framed_px is not None:
        first, last = (size_px - framed_px) // 2, (size_px + framed_px) // 2
        ring = np.zeros((size_px, size_px), dtype=bool)
        ring[max(0, first - 1) : last + 1, max(0, first - 1) : last + 1] = True
        ring[first:last, first:last] = False  # around the patch, not on it
        pictures[:, ring] = FRAME_COLOR
    return pictures


def to_true_color(
    images: Float[Tensor, "batch bands height width"],
    band_names: Iterable[str],
    *,
    season: str | None = None,
) -> Float32[np.ndarray, "batch height width 3"]:
    """Images as people see them: red, green and blue from 0 to 1, channels last.

    Args:
        images: Values of order one.
        band_names: Names of their bands.
        season: Season to show, "jan", "apr", "jul" or "oct", if the bands are of four seasons; or
            "lights", the lights of the night from black over orange to white. None shows July, or
            the only picture that other images have.

    Raises:
        ValueError: If the bands do not have this season.
    """
    names = tuple(map(str, band_names))
    is_sentinel2 = "B04" in names
    bands: dict[str | None, tuple[str, ...]] = {
        name: tuple(f"{color}_{name}" for color in COLORS)
        for name in SEASONS
        if f"red_{name}" in names
    }
    if bands:
        bands["lights"] = ("lights",)
        season = season or "jul"
    else:
        bands[None] = ("B04", "B03", "B02") if is_sentinel2 else COLORS
    if season not in bands:
        raise ValueError(f"season must be one of {', '.join(map(str, bands))}, got {season!r}")
    images = images[:, [names.index(name) for name in bands[season]]]
    images = (images * (SENTINEL2_BRIGHTNESS if is_sentinel2 else 1)).clip(0, 1)
    if season == "lights":
        images = torch.cat([images**exponent for exponent in LIGHT_EXPONENTS], dim=1)
    return images.permute(0, 2, 3, 1).float().numpy()
