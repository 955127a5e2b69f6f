"""The sine network in pieces that stay in a processor's cache, and cheap dropout."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from satclip_lib.location_encoder import Siren

ROWS_AT_ONCE = 1024  # this many rows of hidden units fit in the cache of a CPU


def run_siren(
    network: Siren,
    x: Float[Tensor, "batch in_features"],
    *,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "batch out_features"]:
    """Compute ``network(x)``, on a CPU in pieces; there dropout draws other random numbers.

    Args:
        network: Sine network, in training or eval mode.
        x: Inputs of the network, ``(batch, in_features)``.
        generator: Source of the random numbers on a CPU; None takes that of the process.

    Returns:
        ``(batch, out_features)``.
    """
    if x.device.type != "cpu":
        return network(x)
    return torch.cat([_run_piece(network, piece, generator) for piece in x.split(ROWS_AT_ONCE)])


def draw_dropout(
    x: Float[Tensor, "*shape"], probability: float, generator: torch.Generator | None = None
) -> Float[Tensor, "*shape"]:
    """Draw the factors of dropout on a CPU from one random byte each, ten times as fast.

    Args:
        x: Values that the factors are for, on a CPU.
        probability: Share of values that become zero, rounded to a multiple of 1/256.
        generator: Source of the random bytes; None takes that of the process.

    Returns:
        Factors of the shape of ``x``: zero for a random share, and elsewhere the number that keeps
        the expected value of ``x``.
    """
    num_kept = max(1, round(256 * (1 - probability)))
    words = torch.empty(-(-x.numel() // 8), dtype=torch.int64)
    words.random_(-(2**63), None, generator=generator)
    random_bytes = words.view(torch.uint8)[: x.numel()].view(x.shape)
    # Compared as floats, because converting booleans takes longer; bytes end at 255, hence the 1.
    return random_bytes.to(x.dtype).le_(num_kept - 1).mul_(256 / num_kept)


class _DroppedSine(torch.autograd.Function):
    """``sin(x * factor)`` with few temporaries, for a factor that needs no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Tensor) -> Tensor:
        angle = x * factor
        ctx.save_for_backward(angle, factor)
        return angle.sin()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        angle, factor = ctx.saved_tensors
        return angle.cos().mul_(grad).mul_(factor), None


def _run_piece(network: Siren, x: Tensor, generator: torch.Generator | None) -> Tensor:
    for omega, layer in zip(network.omegas, network.layers, strict=True):
        x = layer(x)
        if network.training and network.dropout.p > 0:
            factor = draw_dropout(x, network.dropout.p, generator).mul_(omega)
            x = _DroppedSine.apply(x, factor)
        else:
            x = torch.sin(omega * x)
    return network.last_layer(x)
