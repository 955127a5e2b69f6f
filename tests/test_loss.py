"""The contrastive loss: a loop's numbers, and that of guessing; see also test_tiled_loss."""

import math

import pytest
import torch
import torch.nn.functional as F

from satclip_lib.loss import contrastive_loss

IMAGES, LOCATIONS = torch.randn(
    2, 6, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64
)
SCALE = torch.tensor(math.log(1 / 0.07), dtype=torch.float64)


def test_agrees_with_a_loop_over_pairs():
    """The loss is the mean cross-entropy over images and over locations, pair by pair."""
    losses = []
    for i in range(6):
        to_locations = SCALE.exp() * F.cosine_similarity(IMAGES[i], LOCATIONS, dim=1)
        to_images = SCALE.exp() * F.cosine_similarity(LOCATIONS[i], IMAGES, dim=1)
        losses += [F.cross_entropy(x, torch.tensor(i)) for x in (to_locations, to_images)]
    found = contrastive_loss(IMAGES, LOCATIONS, logit_scale=SCALE)
    torch.testing.assert_close(found, torch.stack(losses).mean(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_embeddings_that_tell_nothing_score_log_batch(batch):
    """Constant embeddings give log(batch), the loss of guessing; zero for a batch of one."""
    constant = torch.ones(batch, 4, dtype=torch.float64)
    loss = contrastive_loss(constant, constant, logit_scale=SCALE)
    assert loss.item() == pytest.approx(math.log(batch), abs=1e-12)


def test_the_inputs_are_not_changed():
    """Normalising happens on copies."""
    images, locations = IMAGES.clone(), LOCATIONS.clone()
    contrastive_loss(images, locations, logit_scale=SCALE)
    assert torch.equal(images, IMAGES) and torch.equal(locations, LOCATIONS)


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
