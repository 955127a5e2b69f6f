"""The sine network in pieces gives the numbers of the definition; its dropout is dropout."""

import pytest
import torch

from satclip_lib.fast.siren import ROWS_AT_ONCE, _DroppedSine, draw_dropout, run_siren
from satclip_lib.location_encoder import Siren


def _make_network(dropout: float = 0.5) -> Siren:
    torch.manual_seed(0)
    sizes = {"hidden_dim": 16, "num_hidden_layers": 3, "first_omega": 30.0}
    return Siren(9, 5, dropout=dropout, **sizes)


@pytest.mark.parametrize("num_rows", [0, 1, ROWS_AT_ONCE, 2 * ROWS_AT_ONCE + 7])
def test_pieces_are_the_whole(num_rows):
    """In eval mode the numbers and gradients are those of the network itself."""
    network = _make_network().double().eval()
    x = torch.randn(num_rows, 9, dtype=torch.float64)
    torch.testing.assert_close(run_siren(network, x), network(x))
    run_siren(network, x).square().sum().backward()
    found = [parameter.grad.clone() for parameter in network.parameters()]
    network.zero_grad()
    network(x).square().sum().backward()
    for gradient, parameter in zip(found, network.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad)


def test_training_drops_units_before_the_sine():
    """The mean over many passes of one linear layer after a sine is that of PyTorch's dropout."""
    network = _make_network().train()
    x = torch.randn(1, 9)
    many = x.expand(40_000, 9)
    with torch.no_grad():
        ours, theirs = run_siren(network, many), network(many)
    spread = theirs.std(dim=0) / len(many) ** 0.5
    assert ((ours.mean(dim=0) - theirs.mean(dim=0)).abs() < 6 * spread).all()
    torch.testing.assert_close(ours.std(dim=0), theirs.std(dim=0), rtol=0.03, atol=0)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_a_share_and_keeps_the_mean(p):
    """About the share p becomes zero, independently, and the rest is scaled up alike."""
    torch.manual_seed(0)
    out = draw_dropout(torch.ones(1001, 333), p)
    assert (out == 0).double().mean().item() == pytest.approx(p, abs=0.004)
    assert out.double().mean().item() == pytest.approx(1, abs=0.02)
    assert len(out.unique()) == 2
    rows = (out == 0).double()
    assert torch.corrcoef(rows[:50]).fill_diagonal_(0).abs().max() < 0.3


def test_dropout_follows_the_seed():
    """The same seed drops the same; below 1/512 nothing is dropped."""
    x = torch.randn(7, 5)
    torch.manual_seed(3)
    first = draw_dropout(x, 0.5)
    torch.manual_seed(3)
    assert torch.equal(draw_dropout(x, 0.5), first)
    assert not torch.equal(draw_dropout(x, 0.5), first)
    assert (draw_dropout(x, 0.001) == 1).all()
    assert draw_dropout(torch.empty(0, 4), 0.5).shape == (0, 4)


def test_gradients_in_training_are_those_of_the_sine_of_what_is_kept():
    """By autograd of the textbook's formula with the same draw, in float64."""
    x = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    factor = 30.0 * draw_dropout(x.detach(), 0.5)
    expected = torch.autograd.grad(torch.sin(factor * x).square().sum(), x)
    found = torch.autograd.grad(_DroppedSine.apply(x, factor).square().sum(), x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
