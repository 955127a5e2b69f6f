"""How well embeddings, or points of a plane, are grouped by classes they were not made from."""

import numpy as np
from jaxtyping import Float, Float64, Shaped
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from satclip_lib.evaluation.splits import make_splits

NUM_NEIGHBORS = 15
SILHOUETTE_POINTS = 4000  # its time and memory grow with the square


def vote_of_neighbors(
    points: Float[np.ndarray, "num_points num_features"],
    classes: Shaped[np.ndarray, " num_points"],
) -> float:
    """Share of points whose class is the most frequent among their 15 nearest other points.

    A tie goes to the class that sorts first.
    """
    return KNeighborsClassifier(NUM_NEIGHBORS).fit(points, classes).score(None, classes)


def vote_across_continents(
    points: Float[np.ndarray, "num_points num_features"],
    classes: Shaped[np.ndarray, " num_points"],
    lonlat: Float64[np.ndarray, "num_points 2"],
) -> float:
    """As :func:`vote_of_neighbors`, but neighbours are taken from other continents only."""
    votes = check_votes_across_continents(points, classes, lonlat)
    return float(np.nanmean(votes))


def check_votes_across_continents(
    points: Float[np.ndarray, "num_points num_features"],
    classes: Shaped[np.ndarray, " num_points"],
    lonlat: Float64[np.ndarray, "num_points 2"],
) -> Float64[np.ndarray, " num_points"]:
    """For each point, 1 if its class is the most frequent among neighbours elsewhere, else 0.

    Neighbours are the 15 nearest points that are not on the continent of the point. NaN in
    Antarctica, far from land, and on continents with fewer than 10 points.
    """
    is_right = np.full(len(points), np.nan)
    for split in make_splits("continents", lonlat):
        probe = KNeighborsClassifier(NUM_NEIGHBORS).fit(points[split.train], classes[split.train])
        is_right[split.test] = probe.predict(points[split.test]) == classes[split.test]
    return is_right


def score_clusters(
    points: Float[np.ndarray, "num_points num_features"],
    classes: Shaped[np.ndarray, " num_points"],
    *,
    seed: int = 0,
) -> dict[str, float]:
    """Compute how well classes and clusters agree.

    Args:
        points: Normalised embeddings, or points of a plane.
        classes: Class of each point.
        seed: Random seed of k-means and of the points that the silhouette is computed on.

    Returns:
        ``k-NN accuracy``: accuracy of the vote of the 15 nearest other points, 0 to 1.
        ``silhouette``: -1 to 1, 0 where classes overlap. ``adjusted Rand`` and ``mutual
        information`` (normalised): agreement of k-means, the best of three runs with as many
        clusters as classes, with the classes; 0 by chance, 1 if they are the same.
    """
    kmeans = KMeans(len(np.unique(classes)), n_init=3, random_state=seed)
    clusters = kmeans.fit_predict(points)
    sample = min(len(points), SILHOUETTE_POINTS)
    silhouette = silhouette_score(points, classes, sample_size=sample, random_state=seed)
    return {
        "k-NN accuracy": vote_of_neighbors(points, classes),
        "silhouette": float(silhouette),
        "adjusted Rand": float(adjusted_rand_score(classes, clusters)),
        "mutual information": float(normalized_mutual_info_score(classes, clusters)),
    }


def share_of_kept_neighbors(
    first: Float[np.ndarray, "num_points num_features"],
    second: Float[np.ndarray, "num_points num_other_features"],
) -> float:
    """Share of the 15 nearest points in ``first`` that are also among the 15 in ``second``.

    A point is not its own neighbour. The share is 1 if all neighbours are the same, and about
    ``15 / num_points`` by chance. It does not change when a plane is turned, mirrored or scaled.
    """
    in_first, in_second = (
        NearestNeighbors(n_neighbors=NUM_NEIGHBORS).fit(points).kneighbors(return_distance=False)
        for points in (first, second)
    )
    kept = (in_first[:, :, None] == in_second[:, None, :]).any(axis=2)
    return float(kept.mean())
