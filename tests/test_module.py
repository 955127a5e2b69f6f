"""The training step: two kinds of batch, one loss; metrics by hand; decay where it belongs."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small import make_model

from satclip_lib.loss import SoftTargets, contrastive_loss
from satclip_lib.training.image_components import ImageComponents
from satclip_lib.training.module import WARMUP_STEPS, SatCLIPModule, SoftTargetConfig, rank_of_match

IMAGES = torch.rand(24, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LONLAT = 90 * torch.rand(24, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture
def module():
    """A small module in train mode; what it logs is kept in ``logged``."""
    settings = {"learning_rate": 1e-3, "weight_decay": 0.1, "schedule": "constant", "seed": 7}
    module = SatCLIPModule(make_model(embed_dim=8, dropout=0.0), **settings).train()
    module.logged = {}
    module.log = lambda name, value, **_: module.logged.update({name: value.item()})
    return module


def _gradients(module, batch):
    module.zero_grad()
    loss = module.training_step(batch, 0)
    loss.backward()
    return loss, {
        name: parameter.grad.clone()
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    }


def test_cached_and_computed_inputs_train_alike(module):
    """Features of images, and harmonics of locations, give the same loss and gradients as these."""
    features = module.model.image_encoder(IMAGES)
    harmonics = module.model.location_encoder.compute_harmonics(LONLAT)
    computed = _gradients(module, (IMAGES, LONLAT))
    torch.testing.assert_close(_gradients(module, (features, harmonics)), computed)
    assert all(gradient.abs().max() > 0 for gradient in computed[1].values())


def test_the_loss_is_that_of_the_definition(module):
    """It is returned and logged; with components it has soft targets made of the features."""
    features, scale = module.model.image_encoder(IMAGES), module.model.logit_scale
    pairs = module.model.image_projection(features), module.model.encode_locations(LONLAT)
    loss = module.training_step((IMAGES, LONLAT), 0)
    torch.testing.assert_close(loss, contrastive_loss(*pairs, logit_scale=scale))
    assert module.logged["train_loss"] == pytest.approx(loss.item())
    module.components = ImageComponents.fit(features, num_components=4)
    module.soft_targets = SoftTargetConfig(weight=0.3, temperature=0.2)
    soft = module.training_step((IMAGES, LONLAT), 0)
    targets = SoftTargets(module.components(features), weight=0.3, temperature=0.2)
    expected = contrastive_loss(*pairs, logit_scale=scale, soft_targets=targets)
    torch.testing.assert_close(soft, expected)
    assert not torch.isclose(soft, loss)


def test_a_loss_that_is_no_number_stops_the_run(module):
    """NaN is an error that says where, and what to change."""
    module.trainer = SimpleNamespace(current_epoch=4)
    lonlat = LONLAT.clone()
    lonlat[0] = torch.nan
    with pytest.raises(FloatingPointError, match=r"the loss became NaN.*epoch 4.*learning_rate"):
        module.training_step((IMAGES, lonlat), 0)
    with torch.no_grad():
        module.model.image_projection.bias[0] = torch.inf
    with pytest.raises(FloatingPointError, match=r"image_projection.bias became NaN"):
        module.on_train_epoch_end()


def test_validation_logs_loss_and_retrieval(module):
    """validation_step logs the loss, the shares of images found in the top k, the temperature."""
    module.eval()
    with torch.no_grad():
        loss = module.training_step((IMAGES, LONLAT), 0)
        module.validation_step((IMAGES, LONLAT), 0)
        similarity = module.model(IMAGES, LONLAT).numpy()
    assert module.logged["val_loss"] == pytest.approx(loss.item())
    assert module.logged["logit_scale"] == pytest.approx(np.log(1 / 0.07))
    for k in (1, 10):
        top = np.argsort(-similarity, axis=1)[:, :k]
        share = np.mean([i in top[i] for i in range(24)])
        assert 0 < share < 1 or k == 1
        assert module.logged[f"val_top{k}_accuracy"] == pytest.approx(share)


def test_ranks_are_those_of_sorting():
    """The rank counts more similar locations, and equal ones: a collapsed encoder is not first."""
    generator = torch.Generator().manual_seed(3)
    images, locations = torch.randn(2, 40, 5, generator=generator)
    found = rank_of_match(images, locations * torch.logspace(-2, 2, 40)[:, None])
    for i in range(40):
        cosine = torch.nn.functional.cosine_similarity(images[i], locations, dim=1)
        assert found[i] == cosine.argsort(descending=True).tolist().index(i)
    assert rank_of_match(images, images).tolist() == [0] * 40
    assert rank_of_match(images, torch.ones(40, 5)).tolist() == [39] * 40


def test_decay_is_on_matrices_only(module):
    """Biases and temperature are not decayed, frozen weights not optimised, all else once."""
    optimizer = module.configure_optimizers()["optimizer"]
    assert isinstance(optimizer, torch.optim.AdamW)
    group_of = {
        id(parameter): group for group in optimizer.param_groups for parameter in group["params"]
    }
    trained = {name: x for name, x in module.named_parameters() if x.requires_grad}
    assert len(group_of) == len(trained) == sum(len(g["params"]) for g in optimizer.param_groups)
    for name, parameter in trained.items():
        group = group_of[id(parameter)]
        assert group["lr"] == 1e-3
        assert group["weight_decay"] == (0.1 if name.endswith("weight") else 0.0), name
    assert id(module.model.logit_scale) in group_of


def _rates(module, schedule, num_steps):
    """Learning rate at each step of a run of ``num_steps``."""
    module.schedule = schedule
    module.trainer = SimpleNamespace(estimated_stepping_batches=num_steps)
    configured = module.configure_optimizers()
    assert configured["lr_scheduler"]["interval"] == "step"
    rates = []
    for _ in range(num_steps):
        rates.append(configured["optimizer"].param_groups[0]["lr"])
        configured["optimizer"].step()
        configured["lr_scheduler"]["scheduler"].step()
    return np.array(rates)


def test_schedules_keep_the_rate_or_follow_half_a_cosine(module):
    """The paper's rate is constant; the other rises during the warm-up, and ends near zero."""
    np.testing.assert_allclose(_rates(module, "constant", 20), 1e-3)
    rates = _rates(module, "cosine", 400)
    step = np.arange(400)
    cosine = 1e-3 * (1 + np.cos(np.pi * step / 400)) / 2
    np.testing.assert_allclose(rates[WARMUP_STEPS:], cosine[WARMUP_STEPS:])
    warmup = (step[:WARMUP_STEPS] + 1) / WARMUP_STEPS
    np.testing.assert_allclose(rates[:WARMUP_STEPS], warmup * cosine[:WARMUP_STEPS])
    assert rates[0] < 1e-4 < rates[WARMUP_STEPS] and rates[-1] < 1e-7


def test_unknown_schedules_are_answered_with_the_known(module, shape_checks_off):
    """A misspelt schedule is a ValueError that lists all."""
    with pytest.raises(ValueError, match=r"unknown schedule 'linear'.*constant.*cosine"):
        SatCLIPModule(module.model, learning_rate=1e-3, weight_decay=0.1, schedule="linear", seed=0)


def test_an_epoch_starts_from_seed_and_epoch_alone(module):
    """Order and dropout of an epoch do not depend on what was drawn before."""
    epochs = []
    loader = SimpleNamespace(set_epoch=epochs.append)

    def draw(epoch, seed=7):
        module.seed = seed
        module.trainer = SimpleNamespace(
            current_epoch=epoch, train_dataloader=loader, global_rank=0, world_size=1
        )
        module.on_train_epoch_start()
        return torch.rand(3, generator=module.generator).tolist()

    first, again, next_epoch, other_seed = draw(0), draw(0), draw(1), draw(0, seed=8)
    assert first == again
    assert first != next_epoch != other_seed != first
    assert epochs == [0, 0, 1, 0]
