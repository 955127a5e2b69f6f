"""Embeddings reduced to what can be drawn: a plane, three colours, a table of classes."""

import warnings
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Float32, Int64, Shaped
from scipy.linalg import orthogonal_procrustes
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import PCA, FastICA
from sklearn.preprocessing import normalize

Decomposition = Literal["pca", "ica"]
BLOCK_ROWS = 1000  # whose cosines with all points are held at a time


def compute_umap(
    embeddings: Float[np.ndarray, "num_points num_features"],
    *,
    num_neighbors: int = 30,
    min_dist: float = 0.1,
    seed: int = 0,
) -> Float32[np.ndarray, "num_points 2"]:
    """Lay embeddings out in the plane with UMAP on cosine distances; same seed, same plane.

    Neighbours are exact: for tens of thousands of points this is faster than UMAP's own search,
    which compiles first.

    Args:
        embeddings: Vectors of any length; only their directions count.
        num_neighbors: Neighbours per point. Small values show local, large ones global structure.
        min_dist: Smallest distance between points in the plane, in units of the plane.
        seed: Random seed of the layout.

    Raises:
        ValueError: If there are fewer points than ``num_neighbors``.

    References:
        McInnes et al. (2018), UMAP, arXiv 1802.03426.
    """
    from umap import UMAP  # compiles on import, which takes seconds

    unit = normalize(embeddings).astype(np.float32)
    reducer = UMAP(
        n_neighbors=num_neighbors,
        min_dist=min_dist,
        metric="cosine",
        precomputed_knn=find_neighbors(unit, num_neighbors=num_neighbors),
        force_approximation_algorithm=True,  # or it ignores these neighbours where points are few
        random_state=seed,
        n_jobs=1,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "precomputed_knn.*transform will be unavailable")
        return reducer.fit_transform(unit)


def align_plane(
    plane: Float[np.ndarray, "num_points 2"], reference: Float[np.ndarray, "num_points 2"]
) -> Float[np.ndarray, "num_points 2"]:
    """Turn, mirror and shift a plane so that its points lie nearest to those of another.

    The orthogonal Procrustes problem, in least squares; distances stay what they are.
    """
    centred = plane - plane.mean(axis=0)
    rotation, _ = orthogonal_procrustes(centred, reference - reference.mean(axis=0))
    return centred @ rotation + reference.mean(axis=0)


def find_neighbors(
    unit: Float32[np.ndarray, "num_points num_features"], *, num_neighbors: int
) -> tuple[
    Int64[np.ndarray, "num_points num_neighbors"], Float32[np.ndarray, "num_points num_neighbors"]
]:
    """Find the points with the largest cosine to each point, and their cosine distances.

    Args:
        unit: Vectors of length one.
        num_neighbors: Neighbours per point; the first is the point itself.

    Raises:
        ValueError: If there are fewer points than that.
    """
    if num_neighbors > len(unit):
        raise ValueError(
            f"{num_neighbors} neighbours per point need as many points, got {len(unit)}: lower "
            "num_neighbors, or take more points"
        )
    indices, distances = [], []
    for start in range(0, len(unit), BLOCK_ROWS):
        block = np.arange(start, min(start + BLOCK_ROWS, len(unit)))
        distance = 1 - unit[block] @ unit.T  # (block, num_points)
        distance[block - start, block] = -1  # itself first, before any twin
        near = np.argpartition(distance, num_neighbors - 1, axis=1)[:, :num_neighbors]
        order = np.take_along_axis(distance, near, axis=1).argsort(axis=1, kind="stable")
        indices.append(np.take_along_axis(near, order, axis=1))
        distances.append(np.take_along_axis(distance, indices[-1], axis=1).clip(0))
    return np.concatenate(indices), np.concatenate(distances)


def compute_component_colors(
    everywhere: Float[np.ndarray, "num_points num_features"],
    on_land: Float[np.ndarray, "num_land_points num_features"],
    *,
    decomposition: Decomposition = "pca",
    seed: int = 0,
) -> Float[np.ndarray, "num_points 3"]:
    """Three components of embeddings as red, green and blue, 0 to 1.

    Components are fitted to places on land, and each is stretched so that 98 % of these places
    lie between none and all of its colour. Which component is which colour, and which end of it
    is bright, means nothing.

    Args:
        everywhere: Embeddings to colour.
        on_land: Embeddings that the components are fitted to.
        decomposition: ``"pca"``, the three directions of largest variance, or ``"ica"``, these
            three turned so that they are as independent as can be.
        seed: Random seed of ICA's start.

    Raises:
        ValueError: If the decomposition is unknown.
    """
    if decomposition not in ("pca", "ica"):
        raise ValueError(f"decomposition must be 'pca' or 'ica', got {decomposition!r}")
    pca = PCA(min(3, on_land.shape[1]), svd_solver="full").fit(on_land)
    fitted, components = pca.transform(on_land), pca.transform(everywhere)
    if decomposition == "ica":
        ica = FastICA(random_state=seed, whiten="unit-variance", max_iter=1000, tol=1e-4)
        alike = fitted.T @ ica.fit_transform(fitted) / fitted.std(axis=0)[:, None]
        # ICA gives no order and no signs: each takes those of the principal component it is like.
        rows, order = linear_sum_assignment(-np.abs(alike))
        turn = np.sign(alike[rows, order])
        fitted, components = (turn * ica.transform(x)[:, order] for x in (fitted, components))
    low, high = np.quantile(fitted, [0.01, 0.99], axis=0)
    colors = np.full((len(components), 3), 0.5)  # where there are fewer than three components
    colors[:, : components.shape[1]] = ((components - low) / (high - low)).clip(0, 1)
    return colors


def compute_class_similarity(
    embeddings: Float[np.ndarray, "num_points num_features"],
    classes: Shaped[np.ndarray, " num_points"],
) -> pd.DataFrame:
    """Cosine similarity between the mean embeddings of classes.

    The mean over classes is subtracted first: what all places share says nothing about any two.

    Args:
        embeddings: Vectors of any length; only their directions count.
        classes: One class per point.

    Returns:
        Square table, -1 to 1, indexed by class on both sides.
    """
    unit = pd.DataFrame(normalize(embeddings)).groupby(np.asarray(classes)).mean()
    centred = normalize(unit - unit.mean())
    return pd.DataFrame(centred @ centred.T, index=unit.index, columns=unit.index)
