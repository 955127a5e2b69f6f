"""The rearranged encoder gives the encoder's numbers, on points and on grids."""

import copy
import pickle

import pytest
import torch

from satclip_lib.fast.folded_encoder import FoldedEncoder
from satclip_lib.location_encoder import Damping, LocationEncoder, LocationEncoderConfig

CONFIGS = [
    {"num_degrees": 1},
    {"num_degrees": 7, "convention": "satclip-analytic"},
    {"num_degrees": 12, "convention": "satclip-closed-form", "num_hidden_layers": 1},
    {"num_degrees": 40, "damping": Damping()},
    {"num_degrees": 10, "damping": Damping(degree=3.0, learned=True), "num_hidden_layers": 3},
]
LON = torch.tensor([-180.0, -77.7, 0.0, 12.5, 180.0], dtype=torch.float64)
LAT = torch.tensor([90.0, 89.9, 45.0, 0.0, -33.3, -90.0], dtype=torch.float64)


@pytest.fixture(params=CONFIGS, ids=lambda c: f"L{c['num_degrees']}")
def encoder(request):
    """A small encoder of each kind, with weights that are not small."""
    torch.manual_seed(0)
    encoder = LocationEncoder(LocationEncoderConfig(hidden_dim=32, embed_dim=8, **request.param))
    return encoder.eval()


def _cross(lon, lat):
    return torch.stack([lon.repeat(len(lat)), lat.repeat_interleave(len(lon))], dim=1)


def test_points_are_those_of_the_encoder(encoder):
    """In float64 to 1e-12, in float32 to 1e-5; no dropout, no gradient."""
    lonlat = _cross(LON, LAT)
    for dtype, bar in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        model = copy.deepcopy(encoder).to(dtype)
        found = FoldedEncoder(model).embed(lonlat)
        assert found.dtype == dtype and not found.requires_grad
        torch.testing.assert_close(found, model(lonlat).detach(), rtol=0, atol=bar)


def test_grid_is_its_points(encoder):
    """Rows and columns give what their crossings give, at the poles and the date line too."""
    for dtype, bar in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        folded = FoldedEncoder(copy.deepcopy(encoder).to(dtype))
        found = folded.embed_grid(LON, LAT)
        assert found.shape == (6, 5, 8) and found.dtype == dtype
        expected = folded.embed(_cross(LON, LAT)).reshape(6, 5, 8)
        torch.testing.assert_close(found, expected, rtol=0, atol=bar)


def test_is_a_copy_that_travels(encoder):
    """Later changes of the encoder do not reach it, and it can be pickled for workers."""
    folded = FoldedEncoder(encoder)
    expected = folded.embed_grid(LON, LAT)
    again = pickle.loads(pickle.dumps(folded))
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.zero_()
    assert torch.equal(again.embed_grid(LON, LAT), expected)
    assert torch.equal(folded.embed_grid(LON, LAT), expected)
