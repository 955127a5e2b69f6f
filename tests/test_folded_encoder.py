"""The rearranged encoder gives the encoder's numbers, on points and on grids."""

import pickle

import pytest
import torch
from small import make_encoder

from satclip_lib.fast.folded_encoder import FoldedEncoder
from satclip_lib.location_encoder import Damping

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
    return make_encoder(hidden_dim=32, embed_dim=8, **request.param)


def test_numbers_are_those_of_the_encoder(encoder):
    """In float64 to 1e-12, in float32 to 1e-5, also on a grid; no dropout, no gradient."""
    lonlat = torch.cartesian_prod(LAT, LON).flip(1)
    for dtype, bar in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        folded = FoldedEncoder(encoder.to(dtype))
        expected = encoder(lonlat).detach()
        points, grid = folded.embed(lonlat), folded.embed_grid(LON, LAT)
        assert points.dtype == dtype and not points.requires_grad
        torch.testing.assert_close(points, expected, rtol=0, atol=bar)
        torch.testing.assert_close(grid, expected.reshape(6, 5, 8), rtol=0, atol=bar)


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
