"""Cluster scores know the extremes: perfect clusters, none, and a neighbour too few."""

import numpy as np
import pytest

from satclip_lib.evaluation.clusters import (
    NUM_NEIGHBORS,
    check_votes_across_continents,
    score_clusters,
    share_of_kept_neighbors,
    vote_across_continents,
    vote_of_neighbors,
)

NUM_POINTS = 300


@pytest.fixture
def clusters():
    """Three tight clusters far from each other, and the cluster of each point."""
    rng = np.random.default_rng(0)
    index = rng.integers(0, 3, NUM_POINTS)
    centers = np.array([[10.0, 0], [-10, 0], [0, 10]])
    return centers[index] + rng.normal(0, 0.1, (NUM_POINTS, 2)), np.array(["a", "b", "c"])[index]


def test_scores_know_the_extremes(clusters):
    """Where classes are clusters all are near 1; if shuffled, near chance, which is 1/3 or 0."""
    points, classes = clusters
    scores = score_clusters(points, classes)
    assert list(scores) == ["k-NN accuracy", "silhouette", "adjusted Rand", "mutual information"]
    assert min(scores.values()) > 0.98
    scores = score_clusters(points, np.random.default_rng(1).permutation(classes))
    assert scores.pop("k-NN accuracy") < 0.5
    assert max(map(abs, scores.values())) < 0.1


def test_vote_is_that_of_a_loop(clusters):
    """The vote agrees with one written out point by point, and leaves the point itself out."""
    points, classes = clusters
    points = points + np.random.default_rng(3).normal(0, 6, points.shape)
    right = 0
    for i in range(NUM_POINTS):
        distance = np.linalg.norm(points - points[i], axis=1)
        distance[i] = np.inf
        names, counts = np.unique(classes[np.argsort(distance)[:NUM_NEIGHBORS]], return_counts=True)
        right += names[counts.argmax()] == classes[i]
    assert vote_of_neighbors(points, classes) == right / NUM_POINTS


def test_votes_across_continents_ignore_the_own_continent():
    """What is known from the own continent alone is not found; what continents share is."""
    rng = np.random.default_rng(0)
    centers = [(20, 5), (90, 30), (15, 50), (-100, 45), (134, -24), (-60, -10)]
    lonlat = np.concatenate([center + rng.uniform(-3, 3, (40, 2)) for center in centers])
    continent = np.repeat(np.arange(6), 40)
    kind = rng.integers(0, 2, len(lonlat))
    shared = np.column_stack([10.0 * kind, continent]) + rng.normal(0, 0.1, (len(lonlat), 2))
    assert vote_across_continents(shared, kind, lonlat) == 1.0
    assert vote_across_continents(shared, continent, lonlat) == 0.0
    lonlat[:40] = [[-170.0, -60.0]]  # at sea
    votes = check_votes_across_continents(shared, kind, lonlat)
    assert np.isnan(votes[:40]).all() and (votes[40:] == 1.0).all()


def test_kept_neighbours_do_not_depend_on_turn_or_scale(clusters):
    """A plane that is turned and scaled keeps all neighbours; a shuffled one few."""
    points, _ = clusters
    turned = 3 * points @ np.array([[0.6, 0.8], [-0.8, 0.6]]) + 5
    assert share_of_kept_neighbors(points, turned) == 1.0
    shuffled = np.random.default_rng(0).permutation(points)
    assert share_of_kept_neighbors(points, shuffled) < 0.15
