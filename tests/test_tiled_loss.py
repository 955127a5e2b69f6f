"""The loss for large batches: the numbers of the plain one, in tiles and over processes."""

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import processes
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F

from satclip_lib.fast import tiled_loss
from satclip_lib.fast.tiled_loss import tiled_contrastive_loss
from satclip_lib.loss import SoftTargets, contrastive_loss

NUM_PAIRS = 37


def _inputs(dtype=torch.float64, scale=1 / 0.07):
    generator = torch.Generator().manual_seed(0)
    images, noise = torch.randn(2, NUM_PAIRS, 16, generator=generator).to(dtype)
    locations = images + noise
    looks = F.normalize(images[:, :4], dim=-1)
    return images, locations, torch.tensor(math.log(scale), dtype=dtype), looks


def _run(loss_of, *, soft=False, dtype=torch.float64, scale=1 / 0.07):
    """The loss and its three gradients."""
    images, locations, logit_scale, looks = _inputs(dtype, scale)
    leaves = [x.requires_grad_() for x in (images, locations, logit_scale)]
    soft_targets = SoftTargets(looks, weight=0.4, temperature=0.2) if soft else None
    loss = loss_of(images, locations, logit_scale=logit_scale, soft_targets=soft_targets)
    loss.backward()
    return [loss.detach(), *(leaf.grad for leaf in leaves)]


@pytest.fixture(params=["kept", "made again"])
def small_tiles(request, monkeypatch):
    """Tiles of three rows in two pieces; exponentials kept for the gradient or made again."""
    monkeypatch.setattr(tiled_loss, "TILE_ELEMENTS", 3 * NUM_PAIRS)
    monkeypatch.setattr(tiled_loss, "PIECE_ELEMENTS", 2 * NUM_PAIRS)
    if request.param == "made again":
        monkeypatch.setattr(tiled_loss, "KEPT_ELEMENTS", 0)


@pytest.mark.parametrize("soft", [False, True])
def test_loss_and_gradients_are_those_of_the_definition(small_tiles, soft):
    """Tiles, kept or not, with and without soft targets, change nothing but the last digits."""
    torch.testing.assert_close(
        _run(tiled_contrastive_loss, soft=soft),
        _run(contrastive_loss, soft=soft),
        rtol=1e-10,
        atol=1e-12,
    )


@pytest.mark.parametrize("length", [0.0, 1e-13, 1.0])
def test_unit_vectors_are_those_of_torch_to_the_bit(length):
    """Values and gradients, also of vectors too short to have a direction."""
    x = (torch.randn(5, 16) * length).requires_grad_()
    grad = torch.randn(5, 16)
    ours, theirs = tiled_loss._Normalize.apply(x), F.normalize(x, dim=1)
    assert torch.equal(ours, theirs)
    found, expected = (torch.autograd.grad(unit, x, grad)[0] for unit in (ours, theirs))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("scale", [39.0, 41.0, 1000.0])
def test_large_scales_are_right(small_tiles, scale, soft):
    """Where exponentials vanish in float32 loss and gradients are still the definition's."""
    found = _run(tiled_contrastive_loss, dtype=torch.float32, scale=scale, soft=soft)
    torch.testing.assert_close(
        [x.double() for x in found],
        _run(contrastive_loss, scale=scale, soft=soft),
        rtol=2e-4,
        atol=1e-5 * scale,
    )


def test_a_second_forward_pass_does_not_spoil_the_first():
    """The buffer that passes share is not taken from a gradient that is still to be made."""
    images, locations, logit_scale, _ = _inputs()
    leaf = images.clone().requires_grad_()
    first = tiled_contrastive_loss(leaf, locations, logit_scale=logit_scale)
    second = tiled_contrastive_loss(leaf, locations.flip(0), logit_scale=logit_scale)
    (of_second,) = torch.autograd.grad(second, leaf)
    (of_first,) = torch.autograd.grad(first, leaf, retain_graph=True)
    (again,) = torch.autograd.grad(first, leaf)
    torch.testing.assert_close(of_first, _run(contrastive_loss)[1])
    torch.testing.assert_close(again, of_first)
    assert not torch.allclose(of_first, of_second)


def test_without_gradients_no_buffer_is_taken(monkeypatch):
    """Validation keeps nothing."""
    lender = vars(tiled_loss._Exponentials.of_thread)
    monkeypatch.delitem(lender, "latest", raising=False)
    images, locations, logit_scale, _ = _inputs()
    with torch.no_grad():
        loss = tiled_contrastive_loss(images, locations, logit_scale=logit_scale)
    torch.testing.assert_close(loss, _run(contrastive_loss)[0])
    assert "latest" not in lender


def test_threads_do_not_share_a_buffer():
    """Runs side by side give what each gives alone."""
    logit_scale = torch.tensor(2.0)

    def compute(seed):
        pair = torch.randn(2, 512, 16, generator=torch.Generator().manual_seed(seed))
        pair.requires_grad_()
        loss = tiled_contrastive_loss(*pair, logit_scale=logit_scale)
        return loss.detach(), *torch.autograd.grad(loss, pair)

    seeds = range(64)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(compute, seeds))
    torch.testing.assert_close(found, [compute(seed) for seed in seeds])


def test_autocast_makes_the_products_in_its_dtype():
    """Under bfloat16 the loss and gradients are float32, near the exact ones, and not equal."""
    exact = _run(tiled_contrastive_loss, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = _run(tiled_contrastive_loss, dtype=torch.float32)
    assert all(x.dtype == torch.float32 for x in found)
    assert found[0] != exact[0] and found[0].item() == pytest.approx(exact[0].item(), rel=0.01)
    assert F.cosine_similarity(found[1].flatten(), exact[1].flatten(), dim=0) > 0.999


def test_batches_must_match(shape_checks_off):
    """As in the definition."""
    with pytest.raises(ValueError, match=r"one shape, got \(3, 2\) and \(2, 2\)"):
        tiled_contrastive_loss(torch.zeros(3, 2), torch.zeros(2, 2), logit_scale=torch.tensor(0.0))


def _one_process(rank: int, count: int, folder: Path, soft: bool, inputs: dict) -> None:
    """The loss and gradients of every count-th pair, written to a file."""
    dist.init_process_group("gloo")
    own = slice(rank, None, count)

    def loss_of(images, locations, *, logit_scale, soft_targets):
        if soft_targets is not None:
            soft_targets = SoftTargets(
                soft_targets.components[own], soft_targets.weight, soft_targets.temperature
            )
        return tiled_contrastive_loss(
            images[own], locations[own], logit_scale=logit_scale, soft_targets=soft_targets
        )

    torch.save(_run(loss_of, soft=soft, **inputs), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("count", "soft", "inputs", "tolerance"),
    [
        (2, False, {}, 1e-10),
        (3, True, {}, 1e-10),
        (2, True, {"dtype": torch.float32, "scale": 100.0}, 1e-3),  # exponentials vanish
    ],
)
def test_processes_together_are_one(tmp_path, count, soft, inputs, tolerance):
    """Two or three with uneven parts: each has the whole loss, and gradients average to one's."""
    assert NUM_PAIRS % 2 and NUM_PAIRS % 3
    processes.run_together(_one_process, count, tmp_path, soft, inputs, count=count)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(count)]
    loss, *gradients = _run(contrastive_loss, soft=soft, **inputs | {"dtype": torch.float64})
    for part in parts:
        assert part[0].item() == pytest.approx(loss.item(), rel=tolerance)
    for index, gradient in enumerate(gradients, start=1):
        mean = sum(part[index].double() for part in parts) / count
        torch.testing.assert_close(mean, gradient, rtol=tolerance, atol=tolerance)
