"""The most similar vectors are found: all of them exactly, or nearly all by an index."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from satclip_lib.embedding import similarity_search
from satclip_lib.embedding.similarity_search import search


def _make_units(num_vectors, *, seed, embed_dim=16):
    vectors = np.random.default_rng(seed).normal(size=(num_vectors, embed_dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@given(st.integers(0, 5), st.integers(1, 9), st.data())
def test_exact_search_is_a_sort(num_queries, num_vectors, data):
    """Results are those of sorting all similarities, whatever the numbers of each."""
    num_results = data.draw(st.integers(1, num_vectors))
    queries, vectors = _make_units(num_queries, seed=0), _make_units(num_vectors, seed=1)
    rows, similarity = search(queries, vectors, num_results=num_results)
    everything = queries @ vectors.T
    expected = np.argsort(-everything, axis=1)[:, :num_results]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(similarity, np.take_along_axis(everything, rows, 1), atol=1e-6)


def test_index_finds_nearly_all(tmp_path):
    """An index finds nine tenths of the ten best, with their true similarity, best first."""
    vectors = _make_units(20_000, seed=0)
    queries = vectors[:200] + 0.3 * _make_units(200, seed=1)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    exact, _ = search(queries, vectors, num_results=10, exact=True)
    rows, similarity = search(queries, vectors, num_results=10, exact=False)
    hits = [len(set(a) & set(b)) for a, b in zip(exact, rows, strict=True)]
    assert np.mean(hits) > 9 and (rows[:, 0] == np.arange(200)).mean() > 0.95
    assert (np.diff(similarity) <= 0).all()
    expected = (queries[:, None] * vectors[rows]).sum(axis=2)
    np.testing.assert_allclose(similarity, expected, atol=1e-5)


def test_index_is_kept(tmp_path, monkeypatch):
    """An index is built once, and read the next time, also beside read-only vectors."""
    np.save(tmp_path / "vectors.npy", _make_units(2000, seed=0))
    vectors = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    options = {"num_results": 3, "index_path": tmp_path / "index.faiss", "exact": False}
    first, _ = search(vectors[:5], vectors, **options)
    monkeypatch.setattr(similarity_search, "build_index", lambda _: 1 / 0)
    again, _ = search(vectors[:5], vectors, **options)
    np.testing.assert_array_equal(first, again)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.faiss", "vectors.npy"]


def test_many_vectors_are_searched_by_an_index(monkeypatch):
    """Beyond a number of vectors the index is the default."""
    vectors = _make_units(500, seed=0)
    monkeypatch.setattr(similarity_search, "EXACT_UP_TO", 499)
    built = []
    original = similarity_search.build_index
    monkeypatch.setattr(
        similarity_search, "build_index", lambda x: built.append(len(x)) or original(x)
    )
    rows, _ = search(vectors[:5], vectors, num_results=1)
    assert built == [500] and rows.ravel().tolist() == [0, 1, 2, 3, 4]


def test_cells_with_too_few_vectors_are_made_up_for(monkeypatch):
    """Where the cells that are looked into hold too few vectors, all are compared."""
    vectors = _make_units(500, seed=0)
    monkeypatch.setattr(similarity_search, "PROBED", 0)  # one cell
    index = similarity_search.build_index(vectors)
    assert (index.search(vectors[:5], 400)[1] == -1).any()
    expected = search(vectors[:5], vectors, num_results=400, exact=True)
    found = search(vectors[:5], vectors, num_results=400, exact=False)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_allclose(found[1], expected[1], atol=1e-6)


@pytest.mark.parametrize("num_results", [0, 5])
def test_more_results_than_vectors_are_refused(num_results):
    """One can only be given what there is."""
    with pytest.raises(ValueError, match=f"cannot give {num_results} of 4: change num_results"):
        search(_make_units(1, seed=0), _make_units(4, seed=0), num_results=num_results)
