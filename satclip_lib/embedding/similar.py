"""The places on Earth that look most like a given one."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float32, Float64

from satclip_lib.checkpoints.download import BUNDLED_MODEL
from satclip_lib.checkpoints.store import load_training_lonlat
from satclip_lib.embedding.retrieval import load_retrieval
from satclip_lib.sphere import check_locations, choose_apart, compute_distance_km

logger = logging.getLogger(__name__)


def compare_with(
    lon: float | int, lat: float | int, model: Path | str = BUNDLED_MODEL
) -> tuple[Float64[np.ndarray, "num_places 2"], Float32[np.ndarray, " num_places"]]:
    """Compare each training place of a model with one place, by what images show.

    Args:
        lon: Longitude of the place, degrees.
        lat: Latitude of the place, degrees.
        model: Checkpoint with a map of images, see :mod:`satclip_lib.embedding.retrieval`.

    Returns:
        Longitude and latitude of the places, and the cosine of their image components with those
        of the place: 1 where images show the same. A place far from all images, as at sea, is
        replaced by the nearest one that has an image, with a warning in the log.

    Raises:
        ValueError: If the model has no map or no list of places, or the place is not a longitude
            and latitude.
    """
    place, _ = check_locations(np.array([[lon, lat]], dtype=np.float64))
    lonlat = load_training_lonlat(model).astype(np.float64)
    retrieval = load_retrieval(model)
    if not retrieval.has_image(torch.from_numpy(place)):
        logger.warning("no image near longitude %g, latitude %g: the nearest is taken", lon, lat)
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
    """List the places that look most like a given one, far from it and from each other.

    Args:
        lon: Longitude of the place, degrees.
        lat: Latitude of the place, degrees.
        model: See :func:`compare_with`.
        num_results: Number of places at most; fewer if no more training places are so far apart.
        apart_km: Least distance between any two places, kilometres.

    Returns:
        Columns ``lon``, ``lat`` (degrees), ``similarity`` and ``distance_km``; best first.

    Raises:
        ValueError: If ``num_results`` is below 1; see also :func:`compare_with`.
    """
    if num_results < 1:
        raise ValueError(f"num_results must be at least 1, got {num_results}")
    lonlat, similarity = compare_with(lon, lat, model)
    distance = compute_distance_km(lonlat, np.array([[lon, lat]], dtype=np.float64))
    others = np.where(distance >= apart_km, similarity, -np.inf)
    rows = choose_apart(lonlat, others, num_results=num_results, apart_km=apart_km)
    return pd.DataFrame(
        {
            "lon": lonlat[rows, 0],
            "lat": lonlat[rows, 1],
            "similarity": similarity[rows],
            "distance_km": distance[rows],
        }
    )
