"""The two towers: the image encoder stays frozen, everything else is trained."""

import math

import pytest
import torch
from small import make_encoder
from torch import nn

from satclip_lib.image_encoder import ImageEncoder, freeze
from satclip_lib.loss import contrastive_loss
from satclip_lib.model import SatCLIP


class _ConvolutionEncoder(ImageEncoder):
    """Has what training could spoil: weights, and a batch norm with running statistics."""

    def __init__(self):
        super().__init__()
        self.num_bands, self.num_features, self.config = 3, 6, {}
        self.layers = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6))

    def compute_features(self, images):
        return self.layers(images).mean(dim=(2, 3))


@pytest.fixture
def model():
    """A small model in train mode."""
    location_encoder = make_encoder(embed_dim=5, dropout=0.0)
    return SatCLIP(freeze(_ConvolutionEncoder()), location_encoder).train()


def _batch(batch=8):
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(batch, 3, 8, 8, generator=generator)
    return images, 90 * torch.rand(batch, 2, generator=generator)


def test_a_step_trains_all_but_the_image_encoder(model):
    """One optimiser step moves projection, location encoder and temperature, and nothing else."""
    before = {name: x.clone() for name, x in model.state_dict().items()}
    images, lonlat = _batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    loss = contrastive_loss(
        model.encode_images(images), model.encode_locations(lonlat), logit_scale=model.logit_scale
    )
    loss.backward()
    assert all(parameter.grad is None for parameter in model.image_encoder.parameters())
    optimizer.step()
    moved = {name for name, x in model.state_dict().items() if not torch.equal(x, before[name])}
    assert moved == {name for name in before if not name.startswith("image_encoder.")}


def test_no_gradient_flows_through_the_image_encoder(model):
    """Features are computed without a graph, even for images that ask for gradients."""
    images = _batch()[0].requires_grad_()
    model.encode_images(images).sum().backward()
    assert images.grad is None
    assert model.image_projection.weight.grad.abs().max() > 0


def test_logits_are_scaled_cosines(model):
    """Row i, column j of the logits is exp(logit_scale) times the cosine of image i, location j."""
    model.eval()
    images, lonlat = _batch()
    logits = model(images[:3], lonlat)
    assert logits.shape == (3, 8)
    u, v = model.encode_images(images), model.encode_locations(lonlat)
    assert u.shape == v.shape == (8, 5)
    for i, j in ((0, 0), (1, 1), (2, 7)):
        cosine = torch.dot(u[i], v[j]) / (u[i].norm() * v[j].norm())
        assert logits[i, j].item() == pytest.approx(cosine.item() / 0.07, rel=1e-4)


def test_the_temperature_starts_as_in_clip(model):
    """logit_scale is a scalar parameter that starts at log(1 / 0.07)."""
    assert model.logit_scale.shape == () and model.logit_scale.requires_grad
    assert model.logit_scale.item() == pytest.approx(math.log(1 / 0.07))
