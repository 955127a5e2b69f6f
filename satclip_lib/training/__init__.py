"""Pretraining: cached features, batches, the step, the run."""
