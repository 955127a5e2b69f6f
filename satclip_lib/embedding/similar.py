"""The places on Earth that look most like one."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float32, Float64

from satclip_lib.checkpoints.download import BUNDLED_MODEL
from satclip_lib.checkpoints.store import load_training_lonlat
from satclip_lib.embedding.retrieval import load_retrieval
from satclip_lib.sphere import check_locations, compute_distance_km


def compare_with(
    lon: float | int, lat: float | int, model: Path | str = BUNDLED_MODEL
) -> tuple[Float64[np.ndarray, "num_places 2"], Float32[np.ndarray, " num_places"]]:
    """How much each training place of a model looks like one place.

    Args:
        lon: Longitude of the place, degrees.
        lat: Latitude of the place, degrees.
        model: Checkpoint with a map of images, see :mod:`satclip_lib.embedding.retrieval`.

    Returns:
        Longitude and latitude of the places, and the cosine of their image components with those
        of the place: 1 where images show the same, about 0 where they have nothing in common.

    Raises:
        ValueError: If the model has no map or no list of places, or the place is no longitude and
            latitude.
    """
    place, _ = check_locations(np.array([[lon, lat]], dtype=np.float64))
    lonlat = load_training_lonlat(model).astype(np.float64)
    retrieval = load_retrieval(model)
    with torch.inference_mode():
        found = retrieval.look_up(torch.from_numpy(np.concatenate([place, lonlat])))
        found = F.normalize(found, dim=1)
    return lonlat, (found[1:] @ found[0]).numpy()


def find_similar(
    lon: float | int,
    lat: float | int,
    model: Path | str = BUNDLED_MODEL,
    *,
    num_results: int = 10,
    apart_km: float | int = 1000,
) -> pd.DataFrame:
    """List the places that look most like one, each far from it and from those before.

    Args:
        lon: Longitude of the place, degrees.
        lat: Latitude of the place, degrees.
        model: See :func:`compare_with`.
        num_results: Number of places at most; fewer if the Earth has no more so far apart.
        apart_km: Least distance between any two, kilometres.

    Returns:
        Columns ``lon``, ``lat``, ``similarity`` and ``distance_km``, from the place; best first.

    Raises:
        ValueError: See :func:`compare_with`.
    """
    lonlat, similarity = compare_with(lon, lat, model)
    distance = compute_distance_km(lonlat, np.array([[lon, lat]], dtype=np.float64))
    is_free = distance >= apart_km
    rows: list[int] = []
    while len(rows) < num_results and is_free.any():
        rows.append(int(np.where(is_free, similarity, -np.inf).argmax()))
        is_free &= compute_distance_km(lonlat, lonlat[rows[-1:]]) >= apart_km
    return pd.DataFrame(
        {
            "lon": lonlat[rows, 0],
            "lat": lonlat[rows, 1],
            "similarity": similarity[rows],
            "distance_km": distance[rows],
        }
    )
