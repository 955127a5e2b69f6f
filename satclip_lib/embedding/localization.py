"""Where an image may have been taken, and which images fit a place, by cosine similarity."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from satclip_lib.data.features import FeatureStore, choose_batch_size, hash_image_encoder
from satclip_lib.data.land import is_land
from satclip_lib.embedding.embed import embed
from satclip_lib.embedding.regions import Region, find_within
from satclip_lib.embedding.similarity_search import search
from satclip_lib.files import fingerprint, write_atomically
from satclip_lib.model import SatCLIP
from satclip_lib.sphere import choose_apart, compute_distance_km, make_equal_area_lonlat

RADII_KM = (25, 200, 750, 2500)  # a city, a region, a country, a continent
BATCH_SIZE = 4096  # of features


@dataclass(frozen=True)
class Gallery:
    """Places that an image is compared with.

    Attributes:
        lonlat: Longitude and latitude, degrees.
        embeddings: Their embeddings, of length one, memory-mapped where cached.
        index_path: File that keeps the index of a large gallery, see
            :func:`satclip_lib.embedding.similarity_search.search`; None builds it each time.
        encoder_hash: Hash of the location encoder that made them; None where it is not known.
    """

    lonlat: Float64[np.ndarray, "num_places 2"]
    embeddings: Float32[np.ndarray, "num_places embed_dim"]
    index_path: Path | None = None
    encoder_hash: str | None = None


@dataclass(frozen=True)
class Localization:
    """Where some images may have been taken.

    Attributes:
        ranked: One row per image and candidate, best first: ``image``, ``rank`` (from 0),
            ``lon``, ``lat`` (degrees) and ``similarity`` (cosine).
        image_embeddings: Embeddings of the images, of length one.
        gallery: Places that they were compared with.
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
    within: Region | None = None,
    folder: Path | None = None,
) -> Gallery:
    """Embed places that are spread evenly over the Earth, or a part of it.

    Args:
        model: Model whose location encoder is used.
        num_points: Number of places on the whole globe; 100,000 are 71 km apart.
        land_only: Whether to leave out places at sea.
        within: Part of the Earth that the places lie in, see
            :func:`~satclip_lib.embedding.regions.find_within`. A small part needs a larger
            ``num_points``.
        folder: Folder where galleries are kept; this one becomes ``folder/<hash>`` and is found
            again for as long as encoder and places stay the same. None keeps nothing.

    Raises:
        ValueError: If no place is left, or the region is unknown.
    """
    lonlat = make_equal_area_lonlat(num_points)
    if within is not None:
        lonlat = lonlat[find_within(lonlat, within)]
    if land_only:
        lonlat = lonlat[is_land(lonlat)]
    if len(lonlat) == 0:
        raise ValueError(f"none of {num_points} points of the globe is in {within}: use more")
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
    rows: Int64[np.ndarray, " num_rows"] | None = None,
) -> Localization:
    """Rank the places of a gallery by how well they fit an image.

    Args:
        images: Images as the model's image encoder wants them, or the features it made of them.
        model: Model with both encoders.
        gallery: Gallery that was made with the same model.
        num_candidates: Number of places per image.
        rows: Row numbers of the images to take; None takes all.

    Raises:
        ValueError: If the gallery has fewer places than that, or gallery or features come from
            another model.
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
    apart_km: float | int = 0,
) -> pd.DataFrame:
    """Rank the patches of a feature store by how well they fit a place.

    Args:
        lonlat: Longitude and latitude of the places, degrees.
        store: Features that the model's image encoder made; others are refused.
        model: Model with both encoders.
        num_results: Number of patches per place.
        rows: Patches to choose from; None takes all.
        apart_km: Least distance between any two patches of a place, kilometres.

    Returns:
        One row per place and patch, best first: ``place``, ``rank`` (from 0), ``patch`` (its row
        in the store), ``lon`` and ``lat`` (where it was taken, degrees) and ``similarity``
        (cosine).

    Raises:
        ValueError: If there are fewer patches than that (so far apart), or the features come from
            another model.
    """
    rows = np.arange(len(store.lonlat)) if rows is None else rows
    taken = store.lonlat[rows]
    units, places = _embed_images(store, model, rows), _embed_units(lonlat, model)
    if apart_km > 0:
        limits = {"num_results": num_results, "apart_km": apart_km}
        chosen = [choose_apart(taken, units @ place, **limits) for place in places]
        fewest = min(map(len, chosen))
        if fewest < max(1, num_results):
            raise ValueError(
                f"only {fewest} patches are {apart_km} km apart, not {num_results}: change "
                "num_results or apart_km"
            )
        patches = np.array(chosen)
        similarity = (units[patches] * places[:, None]).sum(axis=2)
    else:
        patches, similarity = search(places, units, num_results=num_results)
    ranked = _tabulate("place", taken, patches, similarity)
    ranked.insert(2, "patch", rows[patches.ravel()])
    return ranked


def score_localization(
    lonlat: Float64[np.ndarray, "num_images 2"], found: Float64[np.ndarray, "num_images 2"]
) -> pd.Series:
    """Compute ``median_km``, and the shares of errors within 25, 200, 750 and 2500 km.

    Args:
        lonlat: True longitude and latitude, degrees.
        found: Longitude and latitude that were found, in the same order.

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
    """Embeddings of length one, in batches, on the device and in the precision of the model."""
    weight = model.image_projection.weight
    if isinstance(images, FeatureStore):
        is_exact = weight.dtype == torch.float32  # else the encoder's own weights were rounded
        if is_exact and images.about["image_encoder"] != hash_image_encoder(model.image_encoder):
            raise ValueError(
                f"the features in {images.folder} were made by another image encoder than the "
                "model's: make them with cache_features(dataset, model.image_encoder)"
            )
        rows = np.arange(len(images.lonlat)) if rows is None else rows
        parts = np.split(rows, range(BATCH_SIZE, len(rows), BATCH_SIZE))
        batches = (torch.from_numpy(images.features[part]) for part in parts)
        encode = model.image_projection
    else:
        images = images if rows is None else images[rows]
        batches = images.split(choose_batch_size(images.shape[1:]))
        encode = model.encode_images
    with torch.inference_mode():
        units = [
            F.normalize(encode(batch.to(weight)), dim=-1).float().cpu().numpy() for batch in batches
        ]
    return np.concatenate(units)


def _tabulate(
    name: str, lonlat: np.ndarray, found: np.ndarray, similarity: np.ndarray
) -> pd.DataFrame:
    """A table with one row for each of the ``(num_queries, num_results)`` results."""
    query, rank = (index.ravel() for index in np.indices(found.shape))
    lon, lat = lonlat[found.ravel()].T
    columns = {name: query, "rank": rank, "lon": lon, "lat": lat, "similarity": similarity.ravel()}
    return pd.DataFrame(columns)


def _hash_encoder(model: SatCLIP) -> str:
    return fingerprint(model.location_encoder.config, model.location_encoder)
