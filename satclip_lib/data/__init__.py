"""Imagery, patches, and labels of places."""
