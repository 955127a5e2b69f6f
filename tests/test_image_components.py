"""Looks: unit vectors by which images are compared."""

import pytest
import torch

from satclip_lib.training.image_components import ImageComponents


def _features():
    """Features of which the first three vary, with standard deviations of about 16, 4 and 1."""
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([16.0, 4.0, 1.0, 1e-3, 1e-3])
    return 5 + spread * torch.randn(500, 5, generator=generator)


def test_components_are_half_whitened():
    """Standard deviations of 16, 4 and 1 become 4, 2 and 1: closer, and still in this order."""
    features = _features()
    looks = ImageComponents.fit(features, num_components=3)
    spread = ((features - looks.mean) @ looks.axes).std(dim=0)
    torch.testing.assert_close(spread, torch.tensor([1.0, 2.0, 4.0]), rtol=0.1, atol=0)
    torch.testing.assert_close(looks(features).norm(dim=1), torch.ones(500))


def test_a_fit_can_be_stored(tmp_path):
    """A state dict brings back a fitted object; features that never vary do not disturb."""
    features = torch.cat([_features(), torch.ones(500, 1)], dim=1)
    fitted = ImageComponents.fit(features, num_components=6)
    restored = ImageComponents(6, 6)
    restored.load_state_dict(fitted.state_dict())
    assert restored(features).isfinite().all()
    assert torch.equal(restored(features), fitted(features))


def test_there_are_no_more_components_than_features():
    """The error names both numbers."""
    with pytest.raises(ValueError, match="from 1 to the 5 features that there are, got 6"):
        ImageComponents.fit(_features(), num_components=6)
