"""Batches for training from images: what is in them, and that workers and epochs keep order."""

import lightning
import numpy as np
import pytest
import torch

from satclip_lib.data.patches import (
    get_lonlat,
    load_images,
    make_blue_marble_patches,
    make_patch_dataset,
    make_split,
    open_patches,
    save_patches,
)
from satclip_lib.data.sentinel2 import BAND_NAMES
from satclip_lib.image_encoder import RandomConvolutionalFeatures
from satclip_lib.location_encoder import LocationEncoder, LocationEncoderConfig
from satclip_lib.model import SatCLIP
from satclip_lib.training import patch_rows
from satclip_lib.training.batches import EARTH_METRES_PER_DEG
from satclip_lib.training.datamodule import PatchDataModule
from satclip_lib.training.module import SatCLIPModule


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """100 patches of 8 x 8 pixels of the Blue Marble."""
    path = tmp_path_factory.mktemp("store") / "patches.zarr"
    return save_patches(make_blue_marble_patches(num_patches=100, val_fraction=0.3), path)


def _make(store, **changes):
    return PatchDataModule(store, **{"batch_size": 16, "size_px": 6, "jitter_m": 0.0} | changes)


def _epoch(module, loader, epoch=0):
    if epoch is not None:
        loader.set_epoch(epoch)
    return [module.on_after_batch_transfer(batch, 0) for batch in loader]


def _rows(store, batches):
    """Row of each location in the store."""
    lonlat = get_lonlat(open_patches(store)).tolist()
    return [lonlat.index(place) for _, places in batches for place in places.tolist()]


def test_training_batches_are_augmented_and_shuffled(store):
    """Float crops of training patches, each once, in another order each epoch."""
    module = _make(store)
    loader = module.train_dataloader()
    first, again, second = (_epoch(module, loader, epoch) for epoch in (0, 0, 1))
    is_train = (open_patches(store).split == "train").values
    assert len(first) == len(loader) == is_train.sum() // 16
    for images, lonlat in first:
        assert images.shape == (16, 3, 6, 6) and images.dtype == torch.float32
        assert lonlat.shape == (16, 2) and lonlat.dtype == torch.float64
        assert 0 <= images.min() and images.max() <= 1
    rows = _rows(store, first)
    assert len(set(rows)) == len(rows) and is_train[rows].all()
    assert rows != _rows(store, second)
    for (images, lonlat), (same_images, same_lonlat) in zip(first, again, strict=True):
        assert torch.equal(images, same_images) and torch.equal(lonlat, same_lonlat)


def test_augmentation_is_for_training_alone(store):
    """Validation sees the middle of each of its patches, unchanged, in the store's order."""
    module = _make(store)
    batches = _epoch(module, module.val_dataloader(), None)
    dataset = open_patches(store)
    rows = np.flatnonzero(dataset.split == "val")
    images = torch.cat([images for images, _ in batches])
    assert torch.equal(images, load_images(dataset, rows)[..., 1:7, 1:7])
    assert _rows(store, batches) == rows.tolist()


def test_training_images_belong_to_their_locations(store):
    """A crop of full size is the patch of its location, but for flips and blur."""
    module = _make(store, size_px=8)
    images, lonlat = _epoch(module, module.train_dataloader())[0]
    whole = load_images(open_patches(store), np.array(_rows(store, [(images, lonlat)])))
    distances = torch.cdist(images.mean(dim=(2, 3)), whole.mean(dim=(2, 3)))
    assert (distances.argmin(dim=1) == torch.arange(16)).float().mean() > 0.8


def test_locations_are_jittered_in_training_alone(store):
    """Training locations move, by no more than asked; validation locations do not."""
    still, moved = _make(store), _make(store, jitter_m=1000.0)
    places, moved_places = (
        torch.cat([lonlat for _, lonlat in _epoch(m, m.train_dataloader())]) for m in (still, moved)
    )
    shift = (moved_places[:, 1] - places[:, 1]).abs() * EARTH_METRES_PER_DEG
    assert 500 < shift.max() <= 1000.001
    assert set(_rows(store, _epoch(moved, moved.val_dataloader(), None)))


@pytest.mark.parametrize("split", ["spatial", "random"])
def test_a_split_can_be_made_anew(store, split):
    """The split is make_split's, by seed and share; "stored" is the store's."""
    lonlat = get_lonlat(open_patches(store))
    expected = make_split(lonlat, fraction=0.2, seed=3, kind=split)
    made = _make(store, split=split, val_fraction=0.2, seed=3)
    np.testing.assert_array_equal(made.is_val, expected)
    np.testing.assert_array_equal(_make(store).is_val, open_patches(store).split == "val")
    assert 0.15 < expected.mean() < 0.4


def test_an_unknown_split_is_an_error(store, shape_checks_off):
    """The error names what a split may be."""
    with pytest.raises(ValueError, match="'spatial' or 'random', got 'temporal'"):
        _make(store, split="temporal")


def test_workers_change_nothing(store):
    """Two processes give the batches of none, epoch after epoch, without starting anew."""
    alone, helped = _make(store), _make(store, num_workers=2)
    own, others, processes = alone.train_dataloader(), helped.train_dataloader(), []
    for epoch in (0, 1):
        pairs = zip(_epoch(alone, own, epoch), _epoch(helped, others, epoch), strict=True)
        for (images, lonlat), (other_images, other_lonlat) in pairs:
            assert torch.equal(images, other_images) and torch.equal(lonlat, other_lonlat)
        processes.append({worker.pid for worker in others._iterator._workers})
    assert len(processes[0]) == 2 and processes[0] == processes[1]
    others._iterator._shutdown_workers()


def test_processes_share_out_each_batch(store):
    """Two processes together see the batches of one, each its part."""
    module = _make(store)
    loaders = [module.train_dataloader() for _ in range(3)]
    for rank in (0, 1):
        loaders[rank].share(rank, 2)
    first, second, alone = ([lonlat for _, lonlat in _epoch(module, loader)] for loader in loaders)
    for part, other, whole in zip(first, second, alone, strict=True):
        assert torch.equal(part, whole[0::2]) and torch.equal(other, whole[1::2])


def test_level_2a_patches_get_the_band_they_lack(workspace):
    """An encoder of 13 bands sees B10 as zeros, in both splits; others see what is stored."""
    numbers = np.random.default_rng(0).integers(1, 5000, (8, 12, 8, 8), dtype=np.uint16)
    lonlat = np.stack([np.arange(8.0), np.arange(8.0)], axis=1)
    dataset = make_patch_dataset(
        numbers, lonlat, is_val=np.arange(8) < 4, band_names=BAND_NAMES, scale=1e-4, source="test"
    )
    path = save_patches(dataset, workspace / "patches.zarr")
    plain, filled = (_make(path, batch_size=4, num_bands=n) for n in (None, 13))
    for name in ("train_dataloader", "val_dataloader"):
        ((images, _),), ((more, _),) = (_epoch(m, getattr(m, name)()) for m in (plain, filled))
        assert images.shape[1] == 12 and not more[:, 10].any()
    assert torch.equal(torch.cat([more[:, :10], more[:, 11:]], dim=1), images)
    with pytest.raises(ValueError, match="has 12 bands and num_bands is 3: set it to 12"):
        _make(path, num_bands=3)


def test_a_process_opens_the_store_once(store, monkeypatch):
    """Two loaders and two epochs open it once."""
    opened = []

    class CountingReader(patch_rows.PatchReader):
        def __init__(self, path):
            opened.append(path)
            super().__init__(path)

    monkeypatch.setattr(patch_rows, "PatchReader", CountingReader)
    module = _make(store)
    for epoch in (0, 1):
        _epoch(module, module.train_dataloader(), epoch)
        _epoch(module, module.val_dataloader(), epoch)
    assert opened == [store]


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:Found .* in eval mode")
@pytest.mark.filterwarnings("ignore:.*LeafSpec")
def test_lightning_trains_from_a_store(store, workspace):
    """A Trainer takes the data module as it is, and the loss falls."""
    module = _make(store, batch_size=32)
    encoder = RandomConvolutionalFeatures.fit(
        load_images(open_patches(store))[..., 1:7, 1:7], num_random_features=16
    )
    torch.manual_seed(0)
    model = SatCLIP(encoder, LocationEncoder(LocationEncoderConfig(num_degrees=5)))
    trained = SatCLIPModule(
        model, learning_rate=1e-3, weight_decay=0.0, schedule="constant", seed=0
    )
    losses = []

    class Losses(lightning.Callback):
        def on_train_epoch_end(self, trainer, module):
            losses.append(trainer.callback_metrics["train_loss"].item())

    trainer = lightning.Trainer(
        max_epochs=8, accelerator="cpu", devices=1, logger=False, callbacks=[Losses()],
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        num_sanity_val_steps=0, log_every_n_steps=1, default_root_dir=workspace,
    )  # fmt: skip
    trainer.fit(trained, datamodule=module)
    assert losses[-1] < 0.9 * losses[0]
    assert trainer.callback_metrics["val_loss"].isfinite()
