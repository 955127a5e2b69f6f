"""The state of a run comes back as it was, whole or not at all."""

import pytest
import torch

from satclip_lib.training.checkpoint_io import WholeCheckpointIO


@pytest.fixture
def path(workspace):
    """Where the checkpoint goes."""
    return workspace / "run/last.ckpt"


def test_an_optimiser_continues_from_its_state(path):
    """AdamW restored from a checkpoint takes the same steps as one that was never stopped."""

    def make():
        weight = torch.nn.Parameter(torch.ones(3))
        return weight, torch.optim.AdamW([weight], lr=0.1)

    def step(weight, optimizer):
        weight.grad = weight.detach() ** 2
        optimizer.step()

    weight, optimizer = make()
    step(weight, optimizer)
    io = WholeCheckpointIO()
    io.save_checkpoint({"weight": weight.detach(), "state": optimizer.state_dict()}, path)
    found = io.load_checkpoint(path)
    resumed, resumed_optimizer = make()
    resumed.data.copy_(found["weight"])
    resumed_optimizer.load_state_dict(found["state"])
    step(weight, optimizer)
    step(resumed, resumed_optimizer)
    assert torch.equal(weight, resumed)


def test_a_failed_save_leaves_the_old_file(path):
    """A checkpoint that cannot be written does not spoil the one that is there."""
    io = WholeCheckpointIO()
    io.save_checkpoint({"value": 1}, path)
    with pytest.raises(AttributeError):
        io.save_checkpoint({"value": lambda: 1}, path)
    assert io.load_checkpoint(path) == {"value": 1}
    assert list(path.parent.iterdir()) == [path]
