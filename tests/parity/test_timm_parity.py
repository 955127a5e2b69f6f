"""Optional: the ResNets and the vision transformer are timm's, to the last digit.

Needs timm, see requirements.txt beside this file; skipped where it is absent.
"""

import json
from importlib.util import find_spec

import pytest
import torch
from parity.timm_reference import FIXTURE, SIZES_PX, make_fixture, make_timm_model
from torch import nn

from satclip_lib.image_encoder import load_backbone_weights, make_image_encoder

pytestmark = pytest.mark.skipif(
    find_spec("timm") is None, reason="timm is absent, see tests/parity/requirements.txt"
)
TOLERANCE = {"rtol": 1e-6, "atol": 1e-6}


def make_pair(name: str) -> tuple[nn.Module, nn.Module]:
    """The model of timm with random weights, and ours with the same, both to be trained."""
    torch.manual_seed(0)
    theirs = make_timm_model(name)
    ours = make_image_encoder(name, num_bands=13)
    load_backbone_weights(ours, theirs.state_dict())
    ours.is_frozen = False
    return ours.requires_grad_(True), theirs


def compute_features_and_gradients(model: nn.Module, images: torch.Tensor) -> dict:
    """Features of images, and the gradients of their squared sum, by name."""
    images = images.clone().requires_grad_(True)
    features = model(images)
    features.square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    return {"features": features.detach(), "images": images.grad, **gradients}


@pytest.mark.parametrize("name", SIZES_PX)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_features_and_gradients_are_timms(name, mode):
    """With the same weights, features and all gradients agree, in eval and in train mode."""
    ours, theirs = (model.train(mode == "train") for model in make_pair(name))
    images = torch.rand(2, 13, SIZES_PX[name], SIZES_PX[name])
    expected = compute_features_and_gradients(theirs, images)
    actual = compute_features_and_gradients(ours, images)
    assert list(actual) == list(expected)
    for key, value in expected.items():
        torch.testing.assert_close(
            actual[key], value, **TOLERANCE, msg=lambda m, k=key: f"{k}: {m}"
        )
    for key, value in theirs.state_dict().items():  # batch norm has moved alike
        torch.testing.assert_close(ours.state_dict()[key], value, **TOLERANCE)


@pytest.mark.parametrize("name", SIZES_PX)
def test_timm_model_with_classifier_loads(name):
    """The classifier of a whole timm model, ``fc`` or ``head``, is left out when loading."""
    whole = make_timm_model(name, num_classes=7)
    encoder = load_backbone_weights(make_image_encoder(name), whole.state_dict())
    left_out = set(whole.state_dict()) - set(encoder.state_dict())
    assert left_out in ({"fc.weight", "fc.bias"}, {"head.weight", "head.bias"})


def test_fixture_is_what_timm_gives():
    """The fixture the base suite checks against is the one this timm makes."""
    fixture, made = json.loads(FIXTURE.read_text()), make_fixture()
    for name, model in made["models"].items():
        assert fixture["models"][name]["state_dict"] == model["state_dict"]
        torch.testing.assert_close(
            torch.tensor(fixture["models"][name]["outputs"]),
            torch.tensor(model["outputs"]),
            rtol=1e-4,
            atol=1e-4,
        )
