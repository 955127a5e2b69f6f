"""Augmentations of the paper, as a few lines on tensors: crop, flips, blur.

Each image of a batch gets a random draw of its own. They run on the device of the tensor.

Source: Klemmer et al. (2023), arXiv 2311.17179, and its code.
"""

import torch
from jaxtyping import Float
from torch import Tensor

BLUR_SIGMA_PX = (0.1, 2.0)  # drawn uniformly


def augment(
    images: Float[Tensor, "batch bands height width"], *, size_px: int, seed: int
) -> Float[Tensor, "batch bands size_px size_px"]:
    """Crop at random, flip east-west and north-south with probability 1/2 each, and blur.

    Args:
        images: Images with any number of bands.
        size_px: Side of the crop, pixels; that of the images for no crop.
        seed: Random seed for all draws, which are the same on every device.

    Raises:
        ValueError: If the images are smaller than the crop.
    """
    _check_size(images, size_px)
    generator = torch.Generator().manual_seed(seed)
    batch, _, height, width = images.shape
    steps = torch.arange(size_px)

    def draw_lines(length: int) -> Tensor:
        """Row or column numbers of each crop, half of them backwards, ``(batch, size_px)``."""
        first = torch.randint(length - size_px + 1, (batch, 1), generator=generator)
        flip = torch.rand((batch, 1), generator=generator) < 0.5
        return (first + torch.where(flip, steps.flip(0), steps)).to(images.device)

    rows, columns = draw_lines(height), draw_lines(width)
    low, high = BLUR_SIGMA_PX
    sigma_px = low + (high - low) * torch.rand(batch, generator=generator)
    index = torch.arange(batch, device=images.device)[:, None, None]
    # Advanced indices around a slice come first: (batch, size_px, size_px, bands).
    cropped = images[index, :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
    return blur(cropped, sigma_px=sigma_px)


def blur(
    images: Float[Tensor, "batch bands height width"], *, sigma_px: Float[Tensor, " batch"]
) -> Float[Tensor, "batch bands height width"]:
    """Convolve each image with a Gaussian of 3 x 3 pixels; borders are mirrored.

    Args:
        images: Images with any number of bands, at least 2 x 2 pixels.
        sigma_px: Width of each image's Gaussian, pixels.
    """
    side = torch.exp(-0.5 / sigma_px.to(images) ** 2)[:, None, None, None]
    middle, side = 1 / (1 + 2 * side), side / (1 + 2 * side)  # each (batch, 1, 1, 1)
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1), mode="reflect")
    across = side * (padded[..., :-2] + padded[..., 2:]) + middle * padded[..., 1:-1]
    return side * (across[..., :-2, :] + across[..., 2:, :]) + middle * across[..., 1:-1, :]


def center_crop(
    images: Float[Tensor, "batch bands height width"], *, size_px: int
) -> Float[Tensor, "batch bands size_px size_px"]:
    """Cut out the middle of the images, without a copy, as validation sees it.

    Raises:
        ValueError: If the images are smaller than the crop.
    """
    _check_size(images, size_px)
    top, left = ((length - size_px) // 2 for length in images.shape[-2:])
    return images[..., top : top + size_px, left : left + size_px]


def _check_size(images: Tensor, size_px: int) -> None:
    if not 0 < size_px <= min(images.shape[-2:]):
        raise ValueError(
            f"size_px must be from 1 to the {min(images.shape[-2:])} pixels that images have, got "
            f"{size_px}"
        )
