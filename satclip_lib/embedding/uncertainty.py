"""How far to trust an embedding: distance to the training locations, and spread under dropout."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Float64

from satclip_lib.location_encoder import LocationEncoder, Siren
from satclip_lib.sphere import chord_to_km, lonlat_to_unit_vectors

BATCH_SIZE = 1024


def compute_uncertainty(
    lonlat: Float64[np.ndarray, "num_points 2"],
    encoder: LocationEncoder,
    *,
    training_lonlat: Float[np.ndarray, "num_training 2"],
    num_passes: int = 16,
    seed: int = 0,
) -> dict[str, Float32[np.ndarray, " num_points"]]:
    """Compute two measures for each location; large values are warnings.

    Returns:
        ``distance_km``, see :func:`compute_distance_to_nearest_km`, and ``dropout_spread``, see
        :func:`compute_dropout_spread`, which also describes the arguments.
    """
    return {
        "distance_km": compute_distance_to_nearest_km(lonlat, training_lonlat),
        "dropout_spread": compute_dropout_spread(lonlat, encoder, num_passes=num_passes, seed=seed),
    }


def compute_distance_to_nearest_km(
    lonlat: Float64[np.ndarray, "num_points 2"],
    training_lonlat: Float[np.ndarray, "num_training 2"],
) -> Float32[np.ndarray, " num_points"]:
    """Great-circle distance to the nearest training location, km.

    Args:
        lonlat: Longitude and latitude, ``(num_points, 2)`` degrees.
        training_lonlat: Locations that the encoder was trained on, ``(num_training, 2)`` degrees.

    Raises:
        ValueError: If there are no training locations.
    """
    if len(training_lonlat) == 0:
        raise ValueError("training_lonlat is empty: pass the locations the model was trained on")
    trained = torch.from_numpy(lonlat_to_unit_vectors(np.asarray(training_lonlat, np.float64)))
    nearest = [
        (place[:, None] - trained[(place @ trained.T).argmax(dim=1), None]).norm(dim=-1)
        for place in torch.from_numpy(lonlat_to_unit_vectors(lonlat)).split(BATCH_SIZE)
    ]
    return chord_to_km(torch.cat(nearest).numpy()[:, 0]).astype(np.float32)


def compute_dropout_spread(
    lonlat: Float64[np.ndarray, "num_points 2"],
    encoder: LocationEncoder,
    *,
    num_passes: int = 16,
    seed: int = 0,
) -> Float32[np.ndarray, " num_points"]:
    """How much the direction of an embedding depends on which hidden units are dropped.

    The encoder runs ``num_passes`` times with the dropout it was trained with; in each pass the
    same units are dropped for all locations, so a location's spread does not depend on the others.
    The embeddings of all passes are scaled to length one; the spread is one minus the length of
    their mean: 0 where they all agree, towards 1 where their directions are random.

    Args:
        lonlat: Longitude and latitude, ``(num_points, 2)`` degrees.
        encoder: Encoder that was trained with dropout.
        num_passes: Number of passes; more give a steadier value.
        seed: Random seed for the dropped units; the global generators are not touched.

    Raises:
        TypeError: If the encoder is no :class:`LocationEncoder`.
        ValueError: If it was trained without dropout, or ``num_passes`` is below 2.

    References:
        Gal & Ghahramani (2016), Dropout as a Bayesian approximation, arXiv 1506.02142.
    """
    if not isinstance(encoder, LocationEncoder):
        raise TypeError(f"dropout_spread needs a LocationEncoder, got {type(encoder).__name__}")
    if encoder.config.dropout == 0:
        raise ValueError("the model was trained without dropout, so there is no dropout_spread")
    if num_passes < 2:
        raise ValueError(f"num_passes must be at least 2, got {num_passes}")
    network, share = encoder.network, encoder.config.dropout
    device, dtype = network.last_layer.weight.device, network.last_layer.weight.dtype
    generator = torch.Generator().manual_seed(seed)
    masks = [  # one per pass and layer, the same for every location
        [
            ((torch.rand(len(layer.weight), generator=generator) >= share) / (1 - share)).to(
                device, dtype
            )
            for layer in network.layers
        ]
        for _ in range(num_passes)
    ]
    spreads = [np.empty(0, np.float32)]
    with torch.inference_mode():
        for batch in torch.from_numpy(np.ascontiguousarray(lonlat)).split(BATCH_SIZE):
            harmonics = encoder.damping(encoder.compute_harmonics(batch.to(device)))
            first = network.layers[0](harmonics)  # (batch, hidden), of all passes
            passes = (F.normalize(_run_with_masks(network, first, mask), dim=-1) for mask in masks)
            mean = sum(passes) / num_passes  # (batch, embed_dim)
            spreads.append((1 - mean.norm(dim=-1)).float().cpu().numpy())
    return np.concatenate(spreads)


def _run_with_masks(network: Siren, x: torch.Tensor, masks: list[torch.Tensor]) -> torch.Tensor:
    """The network from its first pre-activation on, with given units dropped."""
    for index, (omega, mask) in enumerate(zip(network.omegas, masks, strict=True)):
        x = network.layers[index](x) if index else x
        x = torch.sin(omega * mask * x)
    return network.last_layer(x)
