"""Downstream tasks, splits, probes, baselines, and the benchmark over them."""
