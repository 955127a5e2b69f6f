"""Planes, colours and tables of embeddings are what they are called."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from sklearn.preprocessing import normalize

from satclip_lib.evaluation.projection import (
    align_plane,
    compute_class_similarity,
    compute_component_colors,
    compute_umap,
    find_neighbors,
)


def test_umap_depends_on_the_seed_alone():
    """One seed twice gives the same plane to the last bit; too few points are refused."""
    x = np.random.default_rng(0).normal(size=(80, 5))
    planes = [compute_umap(x, num_neighbors=5, seed=seed) for seed in (0, 0, 1)]
    assert np.array_equal(planes[0], planes[1]) and not np.array_equal(planes[0], planes[2])
    with pytest.raises(ValueError, match="6 neighbours per point need as many points, got 5"):
        compute_umap(np.eye(5), num_neighbors=6)


def test_neighbours_are_exact():
    """Indices and cosine distances are those of the full matrix, the point itself first."""
    x = normalize(np.random.default_rng(0).normal(size=(1200, 5))).astype(np.float32)
    x[7] = x[3]  # a twin
    index, distance = find_neighbors(x, num_neighbors=6)
    full = 1 - x.astype(float) @ x.T
    assert (index[:, 0] == np.arange(len(x))).all() and index[7, 1] == 3
    np.testing.assert_allclose(distance, np.sort(full, axis=1)[:, :6].clip(0), atol=2e-6)


def test_colours_are_principal_components():
    """On data with three known axes, each colour is one of them, stretched to 98 % of the land."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (4000, 5)) * [9, 3, 1, 0.01, 0.01]
    colors = compute_component_colors(x, x)
    for k in range(3):
        inside = (colors[:, k] > 0) & (colors[:, k] < 1)
        assert abs(np.corrcoef(colors[inside, k], x[inside, k])[0, 1]) > 0.999
        assert inside.mean() == pytest.approx(0.98, abs=0.005)


def test_independent_components_are_found():
    """ICA undoes a turn of independent sources, which PCA does not."""
    rng = np.random.default_rng(0)
    sources = rng.uniform(-1, 1, (4000, 2))
    x = sources @ (np.array([[1.0, 1.0], [-1.0, 1.0]]) / np.sqrt(2))
    correlation = {}
    for decomposition in ("pca", "ica"):
        colors = compute_component_colors(x, x, decomposition=decomposition, seed=1)[:, :2]
        matrix = np.abs(np.corrcoef(colors.T, sources.T)[:2, 2:])
        correlation[decomposition] = matrix.max(axis=1).min()
    assert correlation["ica"] > 0.98 > correlation["pca"]


@pytest.mark.parametrize("seed", [0, 1])
def test_independent_components_have_the_order_and_signs_of_principal_ones(seed):
    """Wherever the search begins, and although noise of rounding moves every number."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (4000, 3)) @ np.diag([3.0, 2.0, 1.0]) + 0.3 * rng.normal(size=(4000, 3))
    expected = compute_component_colors(x, x, decomposition="ica", seed=9)
    moved = x * (1 + 1e-7 * rng.normal(size=x.shape))
    found = compute_component_colors(moved, moved, decomposition="ica", seed=seed)
    np.testing.assert_allclose(found, expected, atol=0.01)
    principal = compute_component_colors(x, x)
    assert (np.diag(np.corrcoef(found.T, principal.T)[:3, 3:]) > 0.5).all()


def test_two_numbers_leave_the_third_colour_even(shape_checks_off):
    """Longitude and latitude have no third component."""
    grid = np.random.default_rng(0).uniform(-90, 90, (72, 2))
    colors = compute_component_colors(grid, grid)
    assert (colors[:, 2] == 0.5).all() and colors[:, :2].std() > 0.2
    with pytest.raises(ValueError, match="'pca' or 'ica', got 'tsne'"):
        compute_component_colors(grid, grid, decomposition="tsne")


def test_class_similarity_is_that_of_centred_means():
    """Opposite classes have cosine -1, whatever all embeddings have in common."""
    embeddings = np.array([[5.0, 1, 0], [5, 1, 0], [5, -1, 0], [5, -1, 0]])
    similarity = compute_class_similarity(embeddings, np.array(["x", "x", "y", "y"]))
    np.testing.assert_allclose(similarity, [[1, -1], [-1, 1]], atol=1e-9)
    assert list(similarity.index) == list(similarity.columns) == ["x", "y"]


def test_a_turned_plane_is_turned_back():
    """A mirrored, turned and shifted plane lies where it was; distances are kept otherwise."""
    rng = np.random.default_rng(0)
    plane, other = rng.normal(size=(2, 30, 2))
    moved = plane @ np.array([[0.6, 0.8], [0.8, -0.6]]) + 5
    np.testing.assert_allclose(align_plane(moved, plane), plane, atol=1e-12)
    aligned = align_plane(other, plane)
    np.testing.assert_allclose(pdist(aligned), pdist(other))
    assert ((aligned - plane) ** 2).sum() < ((other - plane) ** 2).sum()
