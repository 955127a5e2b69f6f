"""Pretraining on real imagery: it learns, repeats itself, survives a kill, and knows when done."""

import json
import os
import pickletools
import signal
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import pandas as pd
import processes
import pytest
import torch

from satclip_lib import files
from satclip_lib.checkpoints.store import (
    hash_checkpoint,
    load_config,
    load_location_encoder,
    load_satclip,
)
from satclip_lib.data.features import FeatureStore, cache_features
from satclip_lib.data.images import load_images
from satclip_lib.data.patch_store import make_blue_marble_patches
from satclip_lib.image_encoder import RandomConvolutionalFeatures
from satclip_lib.location_encoder import Damping, LocationEncoderConfig
from satclip_lib.loss import contrastive_loss
from satclip_lib.training import fit
from satclip_lib.training.curve import CURVE_NAME
from satclip_lib.training.fit import PretrainingConfig, make_model, pretrain
from satclip_lib.training.module import SatCLIPModule, SoftTargetConfig

CONFIG = PretrainingConfig(
    location_encoder=LocationEncoderConfig(
        num_degrees=15, embed_dim=32, hidden_dim=64, dropout=0.1
    ),
    batch_size=64,
    num_epochs=6,
    learning_rate=6e-3,
    schedule="cosine",
)  # the held-out loss is lowest early, and rises while places are learnt by heart


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Features of a few hundred Blue Marble patches, and the encoder that made them."""
    dataset = make_blue_marble_patches(num_patches=400, size_px=8, val_fraction=0.2)
    encoder = RandomConvolutionalFeatures.fit(load_images(dataset), num_random_features=32)
    folder = tmp_path_factory.mktemp("features")
    return cache_features(dataset, encoder, folder=folder), encoder


@pytest.fixture(scope="module")
def train(inputs):
    """Pretrains on these features; configuration and folder are asked for."""
    store, encoder = inputs
    return partial(pretrain, store=store, image_encoder=encoder)


@pytest.fixture(scope="module")
def finished(train, tmp_path_factory):
    """The checkpoint of an uninterrupted run."""
    return train(CONFIG, folder=tmp_path_factory.mktemp("run") / "model")


def _curve(folder):
    """The training curve without the one column that cannot be repeated."""
    return pd.read_csv(folder / CURVE_NAME).drop(columns="seconds")


def _embed_pairs(model, store, rows):
    with torch.no_grad():
        images = model.image_projection(torch.from_numpy(store.features[rows]))
        return images, model.encode_locations(torch.from_numpy(store.lonlat[rows]))


def test_training_lowers_the_loss(inputs, finished):
    """The curve tells all of each epoch, and that the loss falls, also on the held-out blocks."""
    store, encoder = inputs
    curve = pd.read_csv(finished / CURVE_NAME)
    told = {"train_loss", "val_loss", "val_top1_accuracy", "val_top10_accuracy"}
    assert set(curve) == told | {"epoch", "logit_scale", "seconds"}
    assert curve.epoch.tolist() == list(range(6)) and np.isfinite(curve).all(axis=None)
    assert (curve.seconds > 0).all() and (curve.val_top1_accuracy <= curve.val_top10_accuracy).all()
    assert curve.train_loss.iloc[-1] < curve.train_loss.iloc[0] - 0.2
    untrained = make_model(CONFIG, encoder).eval()
    rows = np.flatnonzero(store.is_val)[:64]
    start = contrastive_loss(*_embed_pairs(untrained, store, rows), logit_scale=torch.tensor(0.0))
    trained = load_satclip(finished, image_encoder=True)
    end = contrastive_loss(*_embed_pairs(trained, store, rows), logit_scale=torch.tensor(0.0))
    assert end < start


def test_the_checkpoint_is_that_of_the_best_epoch(inputs, finished):
    """The model kept has the lowest held-out loss of the curve, not that of the last epoch."""
    store, _ = inputs
    curve = _curve(finished)
    assert curve.val_loss.idxmin() < 4
    model = load_satclip(finished, image_encoder=True)
    rows = np.flatnonzero(store.is_val)
    batches = np.split(rows, range(64, len(rows), 64))
    losses = [
        contrastive_loss(
            *_embed_pairs(model, store, batch), logit_scale=model.logit_scale.detach()
        ).item()
        for batch in batches
    ]
    expected = np.average(losses, weights=[len(batch) for batch in batches])
    assert curve.val_loss.min() == pytest.approx(expected, rel=1e-5)


def test_the_checkpoint_is_complete_and_no_pickle(inputs, finished):
    """It holds weights, configuration with provenance, and the curve, and none is a pickle."""
    names = sorted(path.name for path in finished.iterdir())
    assert names == ["config.json", "model.safetensors", CURVE_NAME, "training_lonlat.npy"]
    for path in finished.iterdir():
        with pytest.raises(ValueError):
            list(pickletools.genops(path.read_bytes()))
    provenance = load_config(finished)["provenance"]
    assert provenance["pretraining"] == json.loads(json.dumps(asdict(CONFIG)))
    assert provenance["features"] == inputs[0].key
    assert load_location_encoder(finished)(torch.tensor([[2.35, 48.86]])).shape == (1, 32)
    assert not list(finished.parent.glob(".*"))  # the state of the run is gone


def _pretrain_until_killed(store_folder, encoder, folder, epoch):
    """Run in a process of its own, which dies in the middle of an epoch."""
    take_step = SatCLIPModule.training_step

    def training_step(self, batch, batch_index):
        if (self.current_epoch, batch_index) == (epoch, 2):
            os.kill(os.getpid(), signal.SIGKILL)
        return take_step(self, batch, batch_index)

    SatCLIPModule.training_step = training_step
    pretrain(CONFIG, FeatureStore(store_folder), image_encoder=encoder, folder=folder)


def _interrupt(train, config, folder, *, epoch):
    """Start a run that an error ends when ``epoch`` begins."""
    start_epoch = SatCLIPModule.on_train_epoch_start

    def fail(self):
        if self.current_epoch == epoch:
            raise RuntimeError("interrupted")
        start_epoch(self)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(SatCLIPModule, "on_train_epoch_start", fail)
        with pytest.raises(RuntimeError, match="interrupted"):
            train(config, folder=folder)
    assert not folder.exists()


def _spy_on_epochs(monkeypatch):
    """A list to which every epoch that is begun is added."""
    epochs = []
    start_epoch = SatCLIPModule.on_train_epoch_start

    def on_train_epoch_start(self):
        epochs.append(self.current_epoch)
        start_epoch(self)

    monkeypatch.setattr(SatCLIPModule, "on_train_epoch_start", on_train_epoch_start)
    return epochs


def test_a_killed_run_continues(inputs, train, finished, workspace, monkeypatch):
    """After SIGKILL in epoch 4 a rerun starts there, not at the best, and ends as without."""
    store, encoder = inputs
    folder = workspace / "killed"
    exit_code = processes.find_exit_code(_pretrain_until_killed, store.folder, encoder, folder, 4)
    assert exit_code == -signal.SIGKILL
    assert not folder.exists()

    epochs = _spy_on_epochs(monkeypatch)
    train(CONFIG, folder=folder)
    assert epochs == [4, 5]
    assert hash_checkpoint(folder) == hash_checkpoint(finished)
    pd.testing.assert_frame_equal(_curve(folder), _curve(finished), check_exact=True)
    assert not list(folder.parent.glob(".*"))


@pytest.mark.parametrize("name", ["last", "best"])
def test_a_damaged_state_starts_anew(train, workspace, monkeypatch, name):
    """A truncated file of an interrupted run does not ask for a hand."""
    config = replace(CONFIG, num_epochs=2)
    _interrupt(train, config, workspace / "model", epoch=1)
    (state,) = workspace.glob(f".model-*/{name}.ckpt")
    state.write_bytes(state.read_bytes()[:-1])
    epochs = _spy_on_epochs(monkeypatch)
    with files.hold_folder(state.parent), pytest.raises(BlockingIOError, match="another run"):
        train(config, folder=workspace / "model")
    train(config, folder=workspace / "model")
    assert epochs == [0, 1] and _curve(workspace / "model").epoch.tolist() == [0, 1]


def test_a_run_that_diverges_stops_with_its_last_good_state(train, workspace, monkeypatch):
    """A parameter that becomes NaN ends the run; what was good is on disk and can be read."""
    step = SatCLIPModule.training_step

    def training_step(self, batch, batch_index):
        if self.current_epoch == 2:
            self.model.image_projection.weight.data[0, 0] = torch.nan
        return step(self, batch, batch_index)

    monkeypatch.setattr(SatCLIPModule, "training_step", training_step)
    with pytest.raises(FloatingPointError, match=r"NaN or infinite in epoch 2: lower"):
        train(CONFIG, folder=workspace / "model")
    assert not (workspace / "model").exists()
    (kept,) = workspace.glob(".model-*/last.ckpt")
    state = fit.WholeCheckpointIO().load_checkpoint(kept)
    assert state["epoch"] == 1
    assert all(tensor.isfinite().all() for tensor in state["state_dict"].values())


def test_patience_ends_a_run_that_overfits(train, workspace):
    """The run stops after so many epochs without a lower held-out loss; the best one is kept."""
    config = replace(CONFIG, num_epochs=50, patience=3)
    curve = _curve(train(config, folder=workspace / "model"))
    assert len(curve) == curve.val_loss.idxmin() + 4 < 50


def test_our_recipe_trains(inputs, workspace):
    """Damped harmonics, soft targets and augmented views together lower the held-out loss."""
    _, encoder = inputs
    dataset = make_blue_marble_patches(num_patches=400, size_px=8, val_fraction=0.2)
    store = cache_features(dataset, encoder, folder=workspace / "features", num_views=2)
    config = replace(
        CONFIG,
        location_encoder=replace(CONFIG.location_encoder, num_degrees=20, damping=Damping()),
        soft_targets=SoftTargetConfig(),
        jitter_m=0.0,
    )
    curve = _curve(pretrain(config, store, image_encoder=encoder, folder=workspace / "model"))
    assert curve.val_loss.min() < curve.val_loss[0] - 0.05


def test_impossible_settings_are_errors():
    """Each is named; zero is not another word for never."""
    for name in ("num_epochs", "patience"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1.*got 0"):
            replace(CONFIG, **{name: 0})
    with pytest.raises(ValueError, match=r"weight of soft targets must be above 0.*got 1\.5"):
        SoftTargetConfig(weight=1.5)
    with pytest.raises(ValueError, match="temperature of soft targets must be positive, got 0"):
        SoftTargetConfig(temperature=0.0)


def _pretrain_on_two(rank, store_folder, encoder, folder):
    """One process of a run on two machines; test_recipes has two on one machine."""
    machines = {"devices": 1, "num_nodes": 2}
    pretrain(UNEVEN, FeatureStore(store_folder), image_encoder=encoder, folder=folder, **machines)


# Dropout differs between processes; a batch of 63 does not divide by two.
UNEVEN = replace(
    CONFIG,
    location_encoder=replace(CONFIG.location_encoder, dropout=0.0),
    batch_size=63,
    num_epochs=2,
    soft_targets=SoftTargetConfig(),
)


def test_two_processes_train_as_one(inputs, train, workspace):
    """DDP on two processes gives the curve and the weights of one: all contrast with all."""
    store, encoder = inputs
    alone = train(UNEVEN, folder=workspace / "alone")
    together = workspace / "together"
    arguments = (store.folder, encoder, together)
    processes.run_together(_pretrain_on_two, *arguments, count=2, num_nodes=2)
    pd.testing.assert_frame_equal(_curve(together), _curve(alone), rtol=1e-4)
    weights = [
        load_satclip(folder, image_encoder=True).state_dict() for folder in (alone, together)
    ]
    torch.testing.assert_close(weights[1], weights[0], rtol=0, atol=1e-4)


def test_a_finished_run_is_not_repeated(train, finished, monkeypatch):
    """The same configuration and features train nothing."""
    monkeypatch.setattr(fit, "SatCLIPModule", None)
    before = (finished / CURVE_NAME).stat().st_mtime_ns
    assert train(CONFIG, folder=finished) == finished
    assert (finished / CURVE_NAME).stat().st_mtime_ns == before


def test_what_is_not_of_this_run_is_trained_again(train, workspace):
    """A checkpoint that was damaged, or has another setting, is not taken for up to date."""
    short = replace(CONFIG, num_epochs=1)
    folder = train(short, folder=workspace / "model")
    first = hash_checkpoint(folder)
    for name in ("config.json", "model.safetensors"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
        train(short, folder=folder)
        assert hash_checkpoint(folder) == first
        assert load_location_encoder(folder)(torch.zeros(1, 2)).isfinite().all()
    train(replace(short, jitter_m=0.0), folder=folder)
    assert hash_checkpoint(folder) != first
    assert load_config(folder)["provenance"]["pretraining"]["jitter_m"] == 0.0


def test_features_of_another_encoder_are_refused(inputs, workspace):
    """An encoder that cannot have made the features is an error before anything is trained."""
    store, _ = inputs
    other = RandomConvolutionalFeatures.fit(torch.rand(8, 3, 8, 8), num_random_features=4)
    with pytest.raises(ValueError, match="holds 38 features per patch, image_encoder makes 10"):
        pretrain(CONFIG, store, image_encoder=other, folder=workspace / "model")
