"""Where not to trust an embedding: far from all training locations, or unsure of itself."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Float64
from scipy.spatial import cKDTree
from torch import nn

from satclip_lib.data.locations import chord_to_km, lonlat_to_unit_vectors
from satclip_lib.files import write_atomically
from satclip_lib.hub import find_checkpoint
from satclip_lib.location_encoder import LocationEncoder

TRAINING_LONLAT_NAME = "training_lonlat.npy"
BATCH_SIZE = 2048


def compute_uncertainty(
    lonlat: Float64[np.ndarray, "num_points 2"],
    encoder: LocationEncoder,
    *,
    training_lonlat: Float[np.ndarray, "num_training 2"],
    num_passes: int = 16,
    seed: int = 0,
) -> dict[str, Float32[np.ndarray, " num_points"]]:
    """Two warnings for each location.

    Returns:
        ``distance_km``, see :func:`compute_distance_to_nearest_km`, and ``dropout_spread``, see
        :func:`compute_dropout_spread`.
    """
    return {
        "distance_km": compute_distance_to_nearest_km(lonlat, training_lonlat),
        "dropout_spread": compute_dropout_spread(lonlat, encoder, num_passes=num_passes, seed=seed),
    }


def compute_distance_to_nearest_km(
    lonlat: Float64[np.ndarray, "num_points 2"],
    training_lonlat: Float[np.ndarray, "num_training 2"],
) -> Float32[np.ndarray, " num_points"]:
    """Great-circle distance to the nearest location the encoder was trained on.

    Raises:
        ValueError: if there are no training locations.
    """
    if len(training_lonlat) == 0:
        raise ValueError("training_lonlat is empty: pass the locations the model was trained on")
    tree = cKDTree(lonlat_to_unit_vectors(np.asarray(training_lonlat, np.float64)))
    chord = tree.query(lonlat_to_unit_vectors(lonlat))[0] if len(lonlat) else np.empty(0)
    return chord_to_km(chord).astype(np.float32)


def compute_dropout_spread(
    lonlat: Float64[np.ndarray, "num_points 2"],
    encoder: LocationEncoder,
    *,
    num_passes: int = 16,
    seed: int = 0,
) -> Float32[np.ndarray, " num_points"]:
    """How much the direction of an embedding depends on which hidden units are dropped.

    The encoder runs ``num_passes`` times with the dropout it was trained with. One minus the
    length of the mean of the unit embeddings is the spread: 0 where they all agree, towards 1
    where they point anywhere.

    Args:
        lonlat: ``(num_points, 2)`` degrees.
        encoder: trained with dropout.
        num_passes: more give a steadier number.
        seed: of the dropped units; torch's own random numbers stay as they are.

    Raises:
        TypeError: if the encoder is no :class:`LocationEncoder`.
        ValueError: if it was trained without dropout, or ``num_passes`` is below 2.

    References:
        Gal & Ghahramani (2016), Dropout as a Bayesian approximation, arXiv 1506.02142.
    """
    if not isinstance(encoder, LocationEncoder):
        raise TypeError(f"dropout_spread needs a LocationEncoder, got {type(encoder).__name__}")
    if encoder.config.dropout == 0:
        raise ValueError("the model was trained without dropout, so there is no dropout_spread")
    if num_passes < 2:
        raise ValueError(f"num_passes must be at least 2, got {num_passes}")
    noisy = copy.deepcopy(encoder).train()
    device = noisy.network.last_layer.weight.device
    spreads = [np.empty(0, np.float32)]
    with torch.inference_mode(), _seeded(seed, device):
        for batch in torch.from_numpy(np.ascontiguousarray(lonlat)).split(BATCH_SIZE):
            harmonics = noisy.compute_harmonics(batch.to(device))
            passes = (
                F.normalize(noisy.embed_harmonics(harmonics), dim=-1) for _ in range(num_passes)
            )
            mean = sum(passes) / num_passes  # (batch, embed_dim)
            spreads.append((1 - mean.norm(dim=-1)).float().cpu().numpy())
    return np.concatenate(spreads)


def save_training_lonlat(folder: Path | str, lonlat: Float[np.ndarray, "num_training 2"]) -> Path:
    """Put the locations a model was trained on beside its weights, good to a metre."""
    path = Path(folder) / TRAINING_LONLAT_NAME
    with write_atomically(path) as scratch:
        np.save(scratch, lonlat.astype(np.float32))
    return path


def load_training_lonlat(model: nn.Module | Path | str) -> Float32[np.ndarray, "num_training 2"]:
    """The locations a checkpoint was trained on, ``(num_training, 2)`` degrees.

    Args:
        model: folder of the checkpoint; anything else has no such list.

    Raises:
        ValueError: if it is not known where the model was trained.
    """
    folder = find_checkpoint(model) if isinstance(model, str | Path) else None
    if folder is None or not (folder / TRAINING_LONLAT_NAME).is_file():
        raise ValueError(
            "it is not known where this model was trained: pass training_lonlat, or as model the "
            f"folder of a checkpoint with {TRAINING_LONLAT_NAME} in it"
        )
    return np.load(folder / TRAINING_LONLAT_NAME, allow_pickle=False)


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Random numbers of one's own, on the CPU and on ``device``."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
