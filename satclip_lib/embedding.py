"""Embeddings for people who work with arrays."""

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import nn


def embed(
    lonlat: Float64[np.ndarray, "num_points 2"], model: nn.Module, *, batch_size: int = 8192
) -> Float[np.ndarray, "num_points embed_dim"]:
    """Embed locations with a location encoder, batch by batch, without gradients.

    Args:
        lonlat: ``(num_points, 2)`` longitude and latitude, degrees.
        model: a module ``(batch, 2) -> (batch, embed_dim)`` in eval mode.
        batch_size: locations per forward pass.

    Returns:
        ``(num_points, embed_dim)``, in the dtype of the model, not normalised.

    Raises:
        ValueError: if the model is in training mode (dropout would make embeddings random), or
            a coordinate is not a longitude and latitude.
    """
    if model.training:
        raise ValueError("the model is in training mode: call model.eval() before embed()")
    with torch.inference_mode():
        writable = np.require(lonlat, requirements=["C", "W"])  # as torch wants it; else a copy
        batches = torch.from_numpy(writable).split(batch_size)
        return torch.cat([model(batch) for batch in batches]).numpy()
