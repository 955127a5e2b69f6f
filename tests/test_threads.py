"""Threads that meet: whatever draws or writes gives in eight of them what it gives in one."""

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import torch
from folders import hash_files

from satclip_lib.checkpoints.store import load_satclip, save_pretrained
from satclip_lib.data.features import cache_features
from satclip_lib.data.images import load_images
from satclip_lib.data.land import sample_land_lonlat
from satclip_lib.data.patch_store import make_blue_marble_patches, save_patches
from satclip_lib.data.transforms import augment
from satclip_lib.embedding.grid import embed_grid
from satclip_lib.embedding.grid_files import save_grid
from satclip_lib.embedding.uncertainty import compute_uncertainty
from satclip_lib.evaluation.baselines import make_untrained
from satclip_lib.evaluation.clusters import score_clusters
from satclip_lib.evaluation.end_to_end import EndToEnd
from satclip_lib.evaluation.projection import compute_component_colors
from satclip_lib.evaluation.scoring import compute_score
from satclip_lib.evaluation.splits import make_splits
from satclip_lib.files import fingerprint
from satclip_lib.image_encoder import RandomConvolutionalFeatures
from satclip_lib.location_encoder import LocationEncoderConfig
from satclip_lib.sphere import hold_out_blocks
from satclip_lib.training.fit import PretrainingConfig, make_model, pretrain

NUM_THREADS = 8
SMALL = LocationEncoderConfig(num_degrees=5, embed_dim=8, hidden_dim=16, dropout=0.3)
PLACES = np.random.default_rng(0).uniform((-180, -60), (180, 80), (60, 2))
VALUES = np.random.default_rng(1).normal(size=(60, 4))
IMAGES = torch.rand(30, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def inputs():
    """Patches, an image encoder of theirs, and a small model."""
    patches = make_blue_marble_patches(num_patches=60, size_px=8)
    images = RandomConvolutionalFeatures.fit(load_images(patches), num_random_features=8)
    return patches, images, make_model(PretrainingConfig(location_encoder=SMALL), images).eval()


def _read(path: Path) -> str:
    files = hash_files(path)
    files.pop("training_curve.csv", None)  # it has a clock
    return fingerprint(files)


def _pretrain(inputs, seed, folder):
    patches, images, _ = inputs
    store = cache_features(patches, images, folder=folder / "features", num_views=2, seed=seed)
    config = PretrainingConfig(location_encoder=SMALL, batch_size=32, num_epochs=2, seed=seed)
    return _read(pretrain(config, store, image_encoder=images, folder=folder / "model"))


def _save(inputs, seed, folder):
    patches, _, model = inputs
    path = folder / "model"
    save_pretrained(model, path)
    save_patches(patches, folder / "patches")
    save_grid(embed_grid(model.location_encoder, resolution_deg=45), folder / "grid.zarr")
    save_grid(embed_grid(model.location_encoder, resolution_deg=45), folder / "grid.tif")
    return fingerprint(load_satclip(path, image_encoder=True)), _read(folder)


# Each: (inputs, seed, folder) -> what is compared.
CALLS = {
    "weights": lambda inputs, seed, _: fingerprint(
        make_model(PretrainingConfig(location_encoder=SMALL, seed=seed), inputs[1])
    ),
    "twin": lambda inputs, seed, _: make_untrained(SMALL, seed=seed).encode(PLACES),
    "end to end": lambda inputs, seed, _: (
        EndToEnd(kind="regression", num_degrees=4, hidden_dim=16, num_steps=20, seed=seed)
        .fit(PLACES, VALUES[:, 0])
        .predict(PLACES)
    ),
    "uncertainty": lambda inputs, seed, _: compute_uncertainty(
        PLACES, inputs[2].location_encoder, training_lonlat=PLACES[:9], seed=seed
    ),
    "random features": lambda inputs, seed, _: fingerprint(
        RandomConvolutionalFeatures.fit(IMAGES, num_random_features=8, seed=seed)
    ),
    "augmentation": lambda inputs, seed, _: augment(IMAGES, size_px=6, seed=seed),
    "blocks of places": lambda inputs, seed, _: hold_out_blocks(PLACES, fraction=0.3, seed=seed),
    **{
        f"{protocol} splits": lambda inputs, seed, _, protocol=protocol: [
            (s.name, s.train, s.test, s.fold_ids) for s in make_splits(protocol, PLACES, seed=seed)
        ]
        for protocol in ("random", "blocks")
    },
    "places": lambda inputs, seed, _: sample_land_lonlat(50, seed=seed),
    "bootstrap": lambda inputs, seed, _: compute_score(
        VALUES[:, 0], VALUES[:, seed % 4], kind="regression", lonlat=PLACES, variance=1.0
    ),
    "clusters": lambda inputs, seed, _: score_clusters(VALUES, np.arange(60) % 3, seed=seed),
    # independent components are not Gaussian
    "colours": lambda inputs, seed, _: compute_component_colors(
        VALUES**3, VALUES**3, decomposition="ica", seed=seed
    ),
    "training": _pretrain,
    "files": _save,
}


def _state():
    of_numpy = repr(np.random.get_state())  # noqa: NPY002 (its state is what is looked at)
    return torch.get_rng_state().tolist(), of_numpy, random.getstate()


@pytest.mark.parametrize("name", CALLS)
def test_threads_give_what_one_gives(inputs, name, tmp_path, shape_checks_off):
    """Each seed has its result, that of a thread alone; the random numbers of the process stay."""
    call, before = CALLS[name], _state()
    seeds = range(2)
    together = Barrier(NUM_THREADS)

    def run(number):
        together.wait()
        return fingerprint(call(inputs, number % len(seeds), tmp_path / f"thread-{number}"))

    def run_alone(seed):
        return fingerprint(call(inputs, seed, tmp_path / f"alone-{seed}"))

    with ThreadPoolExecutor(1) as thread:  # as those below, not with the threads of this one
        alone = list(thread.map(run_alone, seeds))
    with ThreadPoolExecutor(NUM_THREADS) as threads:
        found = list(threads.map(run, range(NUM_THREADS)))
    assert (alone[0] == alone[1]) == (name == "files")  # which are of one model
    assert found == [alone[number % len(seeds)] for number in range(NUM_THREADS)]
    assert _state() == before
