"""Training checkpoints: any plain state comes back as it was, and nothing else is accepted."""

import collections
import math
import pickletools
from datetime import date

import pytest
import torch

from satclip_lib.training.checkpoint_io import SafetensorsCheckpointIO


@pytest.fixture
def path(workspace):
    """Where the checkpoint goes."""
    return workspace / "run/last.safetensors"


def _round_trip(value, path):
    io = SafetensorsCheckpointIO()
    io.save_checkpoint({"value": value}, path)
    return io.load_checkpoint(path)["value"]


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        2**70,
        0.1,
        1e-320,
        math.inf,
        -math.inf,
        "tensor",
        "ä\n\0",
        [],
        (),
        {},
        [1, [2, (3, [])], ()],
        ["tensor", "0"],
        ("dict", [["a", 1]]),
        {0: "int", "0": "str", None: 1, (1, 2): 2, 0.5: 3, True: {1: {2: (3,)}}},
    ],
    ids=repr,
)
def test_plain_values_come_back_as_they_were(path, value):
    """Nested dicts with keys of any plain type, lists, tuples and numbers keep value and type."""
    found = _round_trip(value, path)
    assert found == value and type(found) is type(value)
    assert repr(found) == repr(value)  # also tells tuples from lists, and True from 1, inside


def test_nan_comes_back(path):
    """NaN, which equals nothing, is still NaN."""
    assert math.isnan(_round_trip(math.nan, path))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(6.0).reshape(2, 3),
        torch.tensor(1.5),
        torch.empty(0, 3),
        torch.tensor([True, False]),
        torch.tensor([2**62]),
        torch.tensor([0.1], dtype=torch.float64),
        torch.tensor([1.5], dtype=torch.bfloat16),
        torch.tensor([math.nan, math.inf]),
        torch.arange(6.0).reshape(2, 3).T,
        torch.arange(10)[::3],
        torch.nn.Parameter(torch.ones(2)),
    ],
    ids=lambda x: f"{x.dtype} {tuple(x.shape)}",
)
def test_tensors_come_back_exactly(path, tensor):
    """Tensors keep values, dtype and shape, whatever their layout in memory."""
    found = _round_trip(tensor, path)
    assert type(found) is torch.Tensor and not found.requires_grad
    torch.testing.assert_close(found, tensor.detach(), rtol=0, atol=0, equal_nan=True)


def test_tensors_may_share_memory(path):
    """One tensor in two places, or two views of one, come back as equal tensors."""
    base = torch.arange(4.0)
    found = _round_trip({"a": base, "b": [base, base[1:]]}, path)
    assert torch.equal(found["a"], base) and torch.equal(found["b"][0], base)
    assert torch.equal(found["b"][1], base[1:])


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
    state = _round_trip(optimizer.state_dict(), path)
    resumed, resumed_optimizer = make()
    resumed.data.copy_(weight)
    resumed_optimizer.load_state_dict(state)
    step(weight, optimizer)
    step(resumed, resumed_optimizer)
    assert torch.equal(weight, resumed)


def test_what_lightning_uses_becomes_plain(path):
    """Ordered dictionaries and named tuples come back as dict and tuple."""
    pair = collections.namedtuple("pair", "a b")(1, torch.ones(1))
    found = _round_trip(collections.OrderedDict(b=1, a=pair), path)
    assert list(found) == ["b", "a"] and type(found) is dict and type(found["a"]) is tuple


@pytest.mark.parametrize("value", [date(2020, 1, 1), {1, 2}, b"bytes", print, object()])
def test_objects_are_refused(path, value):
    """Anything that would need a pickle is a TypeError that names it; no file is written."""
    with pytest.raises(TypeError, match=f"cannot hold a {type(value).__name__}"):
        _round_trip({"deep": [value]}, path)
    assert not path.exists()


def test_the_file_is_no_pickle(path):
    """The file is safetensors: the length of a header, then JSON."""
    _round_trip({"a": torch.ones(3)}, path)
    content = path.read_bytes()
    assert 0 < int.from_bytes(content[:8], "little") < len(content) and content[8:9] == b"{"
    with pytest.raises(ValueError):
        list(pickletools.genops(content))


def test_a_failed_save_leaves_the_old_file(path):
    """A checkpoint that cannot be written does not spoil the one that is there."""
    _round_trip(1, path)
    with pytest.raises(TypeError):
        _round_trip(object(), path)
    assert SafetensorsCheckpointIO().load_checkpoint(path) == {"value": 1}
    assert list(path.parent.iterdir()) == [path]


def test_the_state_is_not_changed(path):
    """Saving changes nothing in the state that is saved."""
    state = {"a": torch.ones(2, requires_grad=True), "b": [1, (2,)]}
    _round_trip(state, path)
    assert state["a"].requires_grad and state["b"] == [1, (2,)]


def test_removing_twice_is_fine(path):
    """A checkpoint is removed, and removing one that is gone is no error."""
    io = SafetensorsCheckpointIO()
    _round_trip(1, path)
    io.remove_checkpoint(path)
    assert not path.exists()
    io.remove_checkpoint(path)
