"""Augmentations: what they move, and what they leave alone."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from satclip_lib.data import transforms
from satclip_lib.data.transforms import augment, blur, center_crop

# Every pixel says where it is: 100 * row + column; band 1 is ten thousand higher.
POSITIONS = (
    100.0 * torch.arange(12)[:, None] + torch.arange(16) + 10_000 * torch.arange(2)[:, None, None]
).repeat(200, 1, 1, 1)


@pytest.fixture
def no_blur(monkeypatch):
    """A Gaussian so narrow that it changes nothing."""
    monkeypatch.setattr(transforms, "BLUR_SIGMA_PX", (1e-3, 1e-3))


def test_a_crop_is_a_window_of_the_image(no_blur):
    """Rows and columns are consecutive, forwards or backwards, and the same in all bands."""
    crops = augment(POSITIONS, size_px=5, seed=0)
    assert crops.shape == (200, 2, 5, 5)
    torch.testing.assert_close(crops[:, 1] - crops[:, 0], torch.full((200, 5, 5), 10_000.0))
    rows, columns = crops[:, 0] // 100, crops[:, 0] % 100
    assert torch.equal(rows.diff(dim=2), torch.zeros(200, 5, 4))
    assert torch.equal(columns.diff(dim=1), torch.zeros(200, 4, 5))
    for steps in (rows.diff(dim=1), columns.diff(dim=2)):
        assert set(steps.unique().tolist()) == {-1.0, 1.0}
        assert (steps == steps[:, :1, :1]).all()


def test_every_window_and_flip_occurs(no_blur):
    """Each corner is drawn, each flip about half of the time, independently of each other."""
    crops = augment(POSITIONS, size_px=5, seed=1)[:, 0]
    corners = {int(value) for value in crops.amin(dim=(1, 2))}
    rows, columns = {c // 100 for c in corners}, {c % 100 for c in corners}
    assert rows == set(range(8)) and columns == set(range(12))
    flips = torch.stack([crops[:, 0, 0] > crops[:, 1, 0], crops[:, 0, 0] > crops[:, 0, 1]])
    assert ((flips.float().mean(dim=1) - 0.5).abs() < 0.12).all()
    assert abs(np.corrcoef(flips.numpy())[0, 1]) < 0.25


def test_blur_is_a_gaussian_of_three_pixels():
    """Each image's own agrees with SciPy's filter of radius 1 with mirrored borders."""
    images = torch.randn(3, 2, 6, 7, dtype=torch.float64)
    sigma_px = torch.tensor([0.1, 0.7, 2.0], dtype=torch.float64)
    found = blur(images, sigma_px=sigma_px)
    for blurred, expected, sigma in zip(found, images.numpy(), sigma_px.tolist(), strict=True):
        for axis in (1, 2):
            expected = gaussian_filter1d(expected, sigma, axis=axis, radius=1, mode="mirror")
        np.testing.assert_allclose(blurred, expected, atol=1e-12)


def test_the_input_stays():
    """Augmented images are copies; none come of none."""
    images = POSITIONS.clone()
    augment(images, size_px=5, seed=0)
    assert torch.equal(images, POSITIONS)
    assert augment(images[:0], size_px=5, seed=0).shape == (0, 2, 5, 5)


def test_center_crop_is_the_middle():
    """The window has as much of the image on either side, and shares its memory."""
    crop = center_crop(POSITIONS, size_px=4)
    assert torch.equal(crop, POSITIONS[..., 4:8, 6:10])
    assert crop.data_ptr() == POSITIONS[..., 4:, 6:].data_ptr()


@pytest.mark.parametrize("size_px", [0, 13])
def test_a_crop_must_fit(size_px, shape_checks_off):
    """A crop larger than the image, or empty, is an error that names the argument."""
    with pytest.raises(ValueError, match=f"size_px must be from 1 to the 12 .* got {size_px}"):
        augment(POSITIONS, size_px=size_px, seed=0)
    with pytest.raises(ValueError, match="size_px"):
        center_crop(POSITIONS, size_px=size_px)
