"""Do classes cluster? Scores of an embedding, or of a plane, by classes it has never seen."""

import numpy as np
import pandas as pd
from jaxtyping import Float, Float64, Shaped
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from satclip_lib.evaluation.splits import make_splits

NUM_NEIGHBORS = 15
SMALLEST_PART = 0.005  # of all points; a smaller part of a class on one continent has no centre
SILHOUETTE_POINTS = 4000  # its time and memory grow with the square


def vote_of_neighbors(
    points: Float[np.ndarray, "num_points num_features"],
    classes: Shaped[np.ndarray, " num_points"],
    *,
    num_neighbors: int = NUM_NEIGHBORS,
) -> float:
    """Share of points whose class is the most frequent among their nearest other points.

    A draw goes to the class that comes first in the alphabet.
    """
    return KNeighborsClassifier(num_neighbors).fit(points, classes).score(None, classes)


def vote_across_continents(
    points: Float[np.ndarray, "num_points num_features"],
    classes: Shaped[np.ndarray, " num_points"],
    lonlat: Float64[np.ndarray, "num_points 2"],
    *,
    num_neighbors: int = NUM_NEIGHBORS,
) -> float:
    """As :func:`vote_of_neighbors`, but neighbours are taken from other continents only."""
    is_right = []
    for split in make_splits("continents", lonlat):
        probe = KNeighborsClassifier(num_neighbors).fit(points[split.train], classes[split.train])
        is_right.append(probe.predict(points[split.test]) == classes[split.test])
    return float(np.concatenate(is_right).mean())


def find_centres(
    points: Float[np.ndarray, "num_points num_features"],
    classes: Shaped[np.ndarray, " num_points"],
    continents: Shaped[np.ndarray, " num_points"],
) -> pd.DataFrame:
    """The median of each class on each continent, ``(class, continent)`` by feature.

    Parts of a class with fewer than ``SMALLEST_PART`` of all points are left out.
    """
    parts = pd.DataFrame(points).groupby([np.asarray(classes), np.asarray(continents)])
    return parts.median()[parts.size() >= SMALLEST_PART * len(points)]


def compare_gaps(
    points: Float[np.ndarray, "num_points num_features"],
    classes: Shaped[np.ndarray, " num_points"],
    continents: Shaped[np.ndarray, " num_points"],
) -> float:
    """How far one class lies apart on two continents, in distances of two classes on one.

    Mean distance of the centres of :func:`find_centres`. Below 1 classes are farther apart than
    continents.
    """
    centres = find_centres(points, classes, continents)
    distance = cdist(centres, centres)
    same_class, same_continent = (
        names.to_numpy()[:, None] == names.to_numpy()
        for names in map(centres.index.get_level_values, (0, 1))
    )
    one_class = distance[same_class & ~same_continent].mean()
    return float(one_class / distance[same_continent & ~same_class].mean())


def score_clusters(
    points: Float[np.ndarray, "num_points num_features"],
    classes: Shaped[np.ndarray, " num_points"],
    *,
    seed: int = 0,
) -> dict[str, float]:
    """How well classes and clusters agree.

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
    *,
    num_neighbors: int = NUM_NEIGHBORS,
) -> float:
    """Share of the nearest points in ``first`` that are among the nearest in ``second`` too.

    1 if every point has the same neighbours in both, about ``num_neighbors / num_points`` by
    chance. It does not change when a plane is turned, mirrored or scaled.
    """
    in_first, in_second = (
        NearestNeighbors(n_neighbors=num_neighbors).fit(points).kneighbors(return_distance=False)
        for points in (first, second)
    )
    kept = (in_first[:, :, None] == in_second[:, None, :]).any(axis=2)
    return float(kept.mean())
