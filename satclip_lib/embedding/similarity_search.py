"""The most similar of many unit vectors: by comparing all where they are few, else by an index."""

from pathlib import Path

import faiss
import numpy as np
import torch
from jaxtyping import Float32, Int64

from satclip_lib.files import write_atomically

EXACT_UP_TO = 300_000  # vectors; a query compares with all of them in some ten milliseconds
PROBED = 1 / 8  # share of an index's cells that a query looks into
TRAINING_VECTORS_PER_CELL = 40
BATCH_SIZE = 1024


def search(
    queries: Float32[np.ndarray, "num_queries embed_dim"],
    vectors: Float32[np.ndarray, "num_vectors embed_dim"],
    *,
    num_results: int,
    index_path: Path | None = None,
    exact: bool | None = None,
) -> tuple[
    Int64[np.ndarray, "num_queries num_results"], Float32[np.ndarray, "num_queries num_results"]
]:
    """Find the vectors with the largest inner product with each query.

    Args:
        queries: Vectors of length one, so that the product is the cosine.
        vectors: Vectors of length one.
        num_results: Number of results per query.
        index_path: File that keeps the index of these vectors; one that is there is used as it is.
            None keeps nothing.
        exact: Whether to compare with all vectors, or to use an index that misses some of the
            best. None is exact up to ``EXACT_UP_TO`` vectors.

    Returns:
        Row numbers of the vectors, best first, and their inner products with the query.

    Raises:
        ValueError: If ``num_results`` is not between 1 and the number of vectors.
    """
    if not 1 <= num_results <= len(vectors):
        raise ValueError(f"cannot give {num_results} of {len(vectors)}: change num_results")
    if exact is None:
        exact = len(vectors) <= EXACT_UP_TO
    if exact:
        return _search_all(queries, vectors, num_results)
    index = _load_or_build(vectors, index_path)
    similarity, rows = index.search(np.ascontiguousarray(queries), num_results)
    short = (rows < 0).any(axis=1)  # the cells these looked into hold fewer than num_results
    if short.any():
        rows[short], similarity[short] = _search_all(queries[short], vectors, num_results)
    return rows, similarity


def build_index(vectors: Float32[np.ndarray, "num_vectors embed_dim"]) -> faiss.Index:
    """Sort vectors into cells around means; a query looks only into the cells nearest to it.

    References:
        Douze et al. (2024), The Faiss library, arXiv 2401.08281.
    """
    num_vectors, embed_dim = vectors.shape
    num_cells = max(1, min(round(4 * num_vectors**0.5), num_vectors // TRAINING_VECTORS_PER_CELL))
    quantizer = faiss.IndexFlatIP(embed_dim)
    index = faiss.IndexIVFFlat(quantizer, embed_dim, num_cells, faiss.METRIC_INNER_PRODUCT)
    step = max(1, num_vectors // (num_cells * TRAINING_VECTORS_PER_CELL))
    index.train(np.ascontiguousarray(vectors[::step]))
    for start in range(0, num_vectors, EXACT_UP_TO):
        index.add(np.ascontiguousarray(vectors[start : start + EXACT_UP_TO]))
    index.nprobe = max(1, round(PROBED * num_cells))
    return index


def _search_all(
    queries: np.ndarray, vectors: np.ndarray, num_results: int
) -> tuple[np.ndarray, np.ndarray]:
    matrix = torch.tensor(vectors).T  # a copy, for it may be read-only
    batches = torch.tensor(queries).split(BATCH_SIZE)
    best = [(batch @ matrix).topk(num_results, dim=1) for batch in batches]
    rows, similarity = (torch.cat([getattr(x, n) for x in best]) for n in ("indices", "values"))
    return rows.numpy(), similarity.numpy()


def _load_or_build(vectors: np.ndarray, path: Path | None) -> faiss.Index:
    if path is not None and path.is_file():
        return faiss.read_index(str(path))
    index = build_index(vectors)
    if path is not None:
        with write_atomically(path) as scratch:
            faiss.write_index(index, str(scratch))
    return index
