"""The state of a run is written whole or not at all; test_fit continues from it."""

import pytest

from satclip_lib.training.checkpoint_io import WholeCheckpointIO


def test_a_failed_save_leaves_the_old_file(workspace):
    """A checkpoint that cannot be written does not spoil the one that is there."""
    io, path = WholeCheckpointIO(), workspace / "run/last.ckpt"
    io.save_checkpoint({"value": 1}, path)
    with pytest.raises(AttributeError):
        io.save_checkpoint({"value": lambda: 1}, path)
    assert io.load_checkpoint(path) == {"value": 1}
    assert list(path.parent.iterdir()) == [path]
