"""The training step: two kinds of batch, one loss; metrics by hand; decay where it belongs."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from satclip_lib.image_encoder import RandomConvolutionalFeatures
from satclip_lib.location_encoder import LocationEncoder, LocationEncoderConfig
from satclip_lib.loss import SoftTargets, contrastive_loss
from satclip_lib.model import SatCLIP
from satclip_lib.training.image_components import ImageComponents
from satclip_lib.training.module import WARMUP_STEPS, SatCLIPModule, SoftTargetConfig, rank_of_match

IMAGES = torch.rand(24, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LONLAT = 90 * torch.rand(24, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture
def module():
    """A small module in train mode; what it logs is kept in ``logged``."""
    torch.manual_seed(0)
    config = LocationEncoderConfig(num_degrees=4, embed_dim=8, hidden_dim=16, dropout=0.0)
    image_encoder = RandomConvolutionalFeatures.fit(IMAGES, num_random_features=8)
    model = SatCLIP(image_encoder, LocationEncoder(config))
    module = SatCLIPModule(
        model, learning_rate=1e-3, weight_decay=0.1, schedule="constant", seed=7
    ).train()
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


def test_features_and_images_train_alike(module):
    """A batch of cached features gives the loss and gradients of the batch of its images."""
    from_images = _gradients(module, (IMAGES, LONLAT))
    from_features = _gradients(module, (module.model.image_encoder(IMAGES), LONLAT))
    torch.testing.assert_close(from_features, from_images, rtol=0, atol=0)
    assert all(gradient.abs().max() > 0 for gradient in from_images[1].values())


def test_harmonics_and_degrees_train_alike(module):
    """A batch of kept harmonics gives the loss and gradients of the batch of its locations."""
    harmonics = module.model.location_encoder.compute_harmonics(LONLAT)
    from_harmonics = _gradients(module, (IMAGES, harmonics))
    torch.testing.assert_close(from_harmonics, _gradients(module, (IMAGES, LONLAT)))


def test_soft_targets_are_those_of_the_features(module):
    """With components the loss is that of soft targets made from the images' features."""
    features = module.model.image_encoder(IMAGES)
    plain = module.training_step((IMAGES, LONLAT), 0)
    module.components = ImageComponents.fit(features, num_components=4)
    module.soft_targets = SoftTargetConfig(weight=0.3, temperature=0.2)
    loss = module.training_step((IMAGES, LONLAT), 0)
    expected = contrastive_loss(
        module.model.image_projection(features),
        module.model.encode_locations(LONLAT),
        logit_scale=module.model.logit_scale,
        soft_targets=SoftTargets(module.components(features), weight=0.3, temperature=0.2),
    )
    torch.testing.assert_close(loss, expected)
    assert not torch.isclose(loss, plain)


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


def test_the_loss_is_the_contrastive_loss(module):
    """training_step returns and logs the loss of the pairs."""
    loss = module.training_step((IMAGES, LONLAT), 0)
    expected = contrastive_loss(
        module.model.encode_images(IMAGES),
        module.model.encode_locations(LONLAT),
        logit_scale=module.model.logit_scale,
    )
    torch.testing.assert_close(loss, expected)
    assert module.logged["train_loss"] == pytest.approx(loss.item())


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
    """rank_of_match counts the locations that are more similar than the right one."""
    generator = torch.Generator().manual_seed(3)
    images, locations = torch.randn(2, 40, 5, generator=generator)
    found = rank_of_match(images, locations * torch.logspace(-2, 2, 40)[:, None])
    for i in range(40):
        cosine = torch.nn.functional.cosine_similarity(images[i], locations, dim=1)
        assert found[i] == cosine.argsort(descending=True).tolist().index(i)
    assert rank_of_match(images, images).tolist() == [0] * 40


def test_embeddings_that_tell_nothing_do_not_retrieve():
    """A collapsed encoder, for which all locations are alike, is not ranked first."""
    images = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    ranks = rank_of_match(images, torch.ones(50, 4))
    assert (ranks < 1).float().mean() < 0.1


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


def test_a_constant_schedule_keeps_the_rate(module):
    """The paper's schedule is none: every step has the configured learning rate."""
    np.testing.assert_allclose(_rates(module, "constant", 20), 1e-3)


def test_a_cosine_schedule_rises_and_falls(module):
    """The rate rises during the warm-up, follows half a cosine, and ends near zero."""
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
