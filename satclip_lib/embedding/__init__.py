"""Embeddings in arrays, tables, maps and grids, and what can be done with them."""
