"""Where was this image taken, and which images look like that place? Compared with a gallery."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from satclip_lib.data.features import FeatureStore
from satclip_lib.data.land import is_land
from satclip_lib.embedding.embed import embed
from satclip_lib.embedding.similarity_search import search
from satclip_lib.files import fingerprint, write_atomically
from satclip_lib.model import SatCLIP
from satclip_lib.sphere import compute_distance_km, make_equal_area_lonlat

RADII_KM = (25, 200, 750, 2500)  # a city, a region, a country, a continent
BATCH_SIZE = 4096


@dataclass(frozen=True)
class Gallery:
    """Places an image is compared with, spread evenly over the Earth.

    Attributes:
        lonlat: ``(num_places, 2)`` degrees.
        embeddings: ``(num_places, embed_dim)``, of length one, memory-mapped where cached.
        index_path: where the index of a large gallery is kept, see
            :func:`satclip_lib.embedding.similarity_search.search`; None builds it each time.
        encoder_hash: of the location encoder that made it; None where it is not known.
    """

    lonlat: Float64[np.ndarray, "num_places 2"]
    embeddings: Float32[np.ndarray, "num_places embed_dim"]
    index_path: Path | None = None
    encoder_hash: str | None = None


@dataclass(frozen=True)
class Localization:
    """Where some images may have been taken.

    Attributes:
        ranked: one row per image and candidate, best first: ``image``, ``rank`` (from 0),
            ``lon``, ``lat`` (degrees) and ``similarity`` (cosine).
        image_embeddings: ``(num_images, embed_dim)``, of length one.
        gallery: what they were compared with.
    """

    ranked: pd.DataFrame
    image_embeddings: Float32[np.ndarray, "num_images embed_dim"]
    gallery: Gallery

    @cached_property
    def similarity(self) -> Float32[np.ndarray, "num_images num_places"]:
        """Cosine similarity of every image with every place of the gallery: a map per image."""
        return self.image_embeddings @ self.gallery.embeddings.T

    @property
    def best_lonlat(self) -> Float64[np.ndarray, "num_images 2"]:
        """The first candidate of every image, degrees."""
        return self.ranked.loc[self.ranked["rank"] == 0, ["lon", "lat"]].to_numpy()


def make_gallery(
    model: SatCLIP,
    *,
    num_points: int = 100_000,
    land_only: bool = True,
    folder: Path | None = None,
) -> Gallery:
    """Embed places that are spread evenly over the Earth.

    Args:
        model: its location encoder is used.
        num_points: on the whole globe; 100,000 are 71 km apart.
        land_only: keep those on land.
        folder: where galleries are kept; this one becomes ``folder/<hash>`` and is found again
            for as long as encoder and places stay the same.
    """
    lonlat = make_equal_area_lonlat(num_points)
    if land_only:
        lonlat = lonlat[is_land(lonlat)]
    encoder_hash = _hash_encoder(model)
    if folder is None:
        return Gallery(lonlat, _embed_units(lonlat, model), encoder_hash=encoder_hash)
    path = Path(folder) / fingerprint(encoder_hash, lonlat)[:16]
    if not path.is_dir():
        with write_atomically(path) as scratch:
            scratch.mkdir()
            np.save(scratch / "embeddings.npy", _embed_units(lonlat, model))
    embeddings = np.load(path / "embeddings.npy", mmap_mode="r")
    return Gallery(lonlat, embeddings, path / "index.faiss", encoder_hash)


def localize(
    images: Float[Tensor, "num_images bands height width"] | FeatureStore,
    model: SatCLIP,
    gallery: Gallery,
    *,
    num_candidates: int = 10,
    rows: Int64[np.ndarray, " num_images"] | None = None,
) -> Localization:
    """Rank the places of a gallery by how well they fit an image.

    Args:
        images: as the model's image encoder wants them, or the features it made of them.
        model: image and location encoder.
        gallery: of the same model.
        num_candidates: places per image.
        rows: of a feature store; None is all of them.

    Raises:
        ValueError: if the gallery has not that many places, or is of another model.
    """
    units = _embed_images(images, model, rows)
    if units.shape[1] != gallery.embeddings.shape[1]:
        raise ValueError(
            f"the gallery has embeddings of {gallery.embeddings.shape[1]} numbers, the model of "
            f"{units.shape[1]}: make the gallery with this model"
        )
    if gallery.encoder_hash and gallery.encoder_hash != _hash_encoder(model):
        raise ValueError(
            "the gallery was made with other weights, or in another precision, than the model's "
            "location encoder has: make the gallery with this model"
        )
    places, similarity = search(
        units, gallery.embeddings, num_results=num_candidates, index_path=gallery.index_path
    )
    ranked = _tabulate("image", gallery.lonlat, places, similarity)
    return Localization(ranked, units, gallery)


def retrieve(
    lonlat: Float64[np.ndarray, "num_places 2"],
    store: FeatureStore,
    model: SatCLIP,
    *,
    num_results: int = 10,
    rows: Int64[np.ndarray, " num_patches"] | None = None,
) -> pd.DataFrame:
    """Rank the patches of a feature store by how well they fit a place.

    Args:
        lonlat: ``(num_places, 2)`` degrees.
        store: features that the model's image encoder made.
        model: image and location encoder.
        num_results: patches per place.
        rows: patches to choose from; None is all of them.

    Returns:
        One row per place and patch, best first: ``place``, ``rank`` (from 0), ``patch`` (its row
        in the store), where it was taken, ``lon`` and ``lat``, and ``similarity`` (cosine).
    """
    rows = np.arange(len(store.lonlat)) if rows is None else rows
    patches, similarity = search(
        _embed_units(lonlat, model), _embed_images(store, model, rows), num_results=num_results
    )
    ranked = _tabulate("place", store.lonlat[rows], patches, similarity)
    ranked.insert(2, "patch", rows[patches.ravel()])
    return ranked


def score_localization(
    lonlat: Float64[np.ndarray, "num_images 2"], found: Float64[np.ndarray, "num_images 2"]
) -> pd.Series:
    """How far from the truth: ``median_km``, and the shares within 25, 200, 750 and 2500 km.

    References:
        The radii are those of photo geolocation: Vo et al. (2017), Revisiting IM2GPS,
        arXiv 1705.04838, without its finest, 1 km.
    """
    error_km = compute_distance_km(lonlat, found)
    shares = {f"accuracy_{radius}_km": (error_km <= radius).mean() for radius in RADII_KM}
    return pd.Series({"median_km": np.median(error_km), **shares})


def _embed_units(
    lonlat: Float64[np.ndarray, "num_places 2"], model: SatCLIP
) -> Float32[np.ndarray, "num_places embed_dim"]:
    embeddings = embed(lonlat, model).astype(np.float32)
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


def _embed_images(
    images: Tensor | FeatureStore, model: SatCLIP, rows: np.ndarray | None
) -> Float32[np.ndarray, "num_images embed_dim"]:
    """Embeddings of length one, some images at a time, where and how precise the model is."""
    weight = model.image_projection.weight
    if isinstance(images, FeatureStore):
        rows = np.arange(len(images.lonlat)) if rows is None else rows
        batches = (torch.from_numpy(images.features[part]) for part in _split(rows))
        encode = model.image_projection
    else:
        batches, encode = images.split(BATCH_SIZE), model.encode_images
    with torch.inference_mode():
        units = [
            F.normalize(encode(batch.to(weight)), dim=-1).float().cpu().numpy() for batch in batches
        ]
    return np.concatenate(units)


def _split(rows: np.ndarray) -> list[np.ndarray]:
    return np.split(rows, range(BATCH_SIZE, len(rows), BATCH_SIZE))


def _tabulate(
    name: str, lonlat: np.ndarray, found: np.ndarray, similarity: np.ndarray
) -> pd.DataFrame:
    """Results ``(num_queries, num_results)`` as a table with a row for each."""
    query, rank = np.indices(found.shape)
    lon, lat = lonlat[found.ravel()].T
    return pd.DataFrame(
        {
            name: query.ravel(),
            "rank": rank.ravel(),
            "lon": lon,
            "lat": lat,
            "similarity": similarity.ravel(),
        }
    )


def _hash_encoder(model: SatCLIP) -> str:
    return fingerprint(model.location_encoder.config, model.location_encoder)
