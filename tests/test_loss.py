"""The contrastive loss: a loop's numbers, CLIP's symmetries, and its two extremes."""

import math

import pytest
import torch
import torch.nn.functional as F

from satclip_lib.loss import contrastive_loss


def _embeddings(batch=6, *, embed_dim=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, batch, embed_dim, generator=generator, dtype=torch.float64)


SCALE = torch.tensor(math.log(1 / 0.07), dtype=torch.float64)


def test_agrees_with_a_loop_over_pairs():
    """The loss is the mean cross-entropy over images and over locations, pair by pair."""
    images, locations = _embeddings()
    losses = []
    for i in range(6):
        to_locations = SCALE.exp() * F.cosine_similarity(images[i], locations, dim=1)
        to_images = SCALE.exp() * F.cosine_similarity(locations[i], images, dim=1)
        losses += [F.cross_entropy(x, torch.tensor(i)) for x in (to_locations, to_images)]
    found = contrastive_loss(images, locations, logit_scale=SCALE)
    torch.testing.assert_close(found, torch.stack(losses).mean(), rtol=1e-12, atol=0)


def test_images_and_locations_are_equals():
    """Swapping the two sides changes nothing; shuffling one side only does."""
    images, locations = _embeddings()
    loss = contrastive_loss(images, locations, logit_scale=SCALE)
    torch.testing.assert_close(contrastive_loss(locations, images, logit_scale=SCALE), loss)
    shifted = contrastive_loss(images, locations.roll(1, dims=0), logit_scale=SCALE)
    assert abs(shifted - loss) > 0.01


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_embeddings_that_tell_nothing_score_log_batch(batch):
    """Constant embeddings give log(batch), the loss of guessing; zero for a batch of one."""
    constant = torch.ones(batch, 4, dtype=torch.float64)
    loss = contrastive_loss(constant, constant, logit_scale=SCALE)
    assert loss.item() == pytest.approx(math.log(batch), abs=1e-12)


def test_a_perfect_match_scores_near_zero():
    """Orthogonal embeddings, each like its partner's alone, leave almost no loss."""
    one_hot = torch.eye(10, dtype=torch.float64)
    expected = math.log(1 + 9 * math.exp(-1 / 0.07))
    loss = contrastive_loss(one_hot, one_hot, logit_scale=SCALE)
    assert loss.item() == pytest.approx(expected, rel=1e-6) and loss < 1e-4


def test_the_length_of_embeddings_does_not_matter():
    """Only directions count: rows may be scaled by any positive numbers."""
    images, locations = _embeddings()
    lengths = torch.logspace(-3, 3, 6, dtype=torch.float64)[:, None]
    scaled = contrastive_loss(images * lengths, locations / lengths, logit_scale=SCALE)
    expected = contrastive_loss(images, locations, logit_scale=SCALE)
    torch.testing.assert_close(scaled, expected, rtol=1e-12, atol=0)


def test_large_temperatures_stay_finite():
    """Logits of 1,000 do not overflow, in float32."""
    images, locations = _embeddings().float()
    loss = contrastive_loss(images, locations, logit_scale=torch.tensor(1000.0).log())
    assert loss.isfinite() and loss > 1


def test_gradients_are_those_of_finite_differences():
    """Gradients of both sides and of the temperature pass gradcheck."""
    images, locations = (x.requires_grad_() for x in _embeddings(4, embed_dim=3))
    scale = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda a, b, t: contrastive_loss(a, b, logit_scale=t), (images, locations, scale)
    )


def test_the_inputs_are_not_changed():
    """Normalising happens on copies."""
    images, locations = _embeddings()
    before = images.clone(), locations.clone()
    contrastive_loss(images, locations, logit_scale=SCALE)
    assert torch.equal(images, before[0]) and torch.equal(locations, before[1])


@pytest.mark.parametrize(
    "shapes", [((3, 4), (2, 4)), ((3, 4), (3, 5)), ((0, 4), (0, 4)), ((1, 4), (3, 4))]
)
def test_batches_must_match(shape_checks_off, shapes):
    """Different shapes and empty batches are errors that show both shapes."""
    with pytest.raises(ValueError, match="two non-empty batches of one shape") as caught:
        contrastive_loss(
            torch.ones(shapes[0]), torch.ones(shapes[1]), logit_scale=torch.tensor(0.0)
        )
    assert all(str(shape) in str(caught.value) for shape in shapes)
