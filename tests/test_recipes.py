"""Recipes: the paper's and ours by name, from a patch store to a checkpoint."""

import os
import sys
import time

import numpy as np
import processes
import pytest
import torch

from satclip_lib.checkpoints.store import load_config, load_location_encoder
from satclip_lib.data.features import cache_features
from satclip_lib.data.images import load_images
from satclip_lib.data.patch_store import make_blue_marble_patches, make_patch_dataset, save_patches
from satclip_lib.data.sentinel2 import BAND_NAMES
from satclip_lib.files import Workspace
from satclip_lib.image_encoder import make_image_encoder
from satclip_lib.training import recipes
from satclip_lib.training.fit import PretrainingConfig
from satclip_lib.training.recipes import (
    make_recipe,
    prepare_image_encoder,
)


def test_the_papers_recipe_is_the_default_one():
    """Nothing of ours slips into what carries the paper's name."""
    config = make_recipe("paper-l10")
    assert config == PretrainingConfig()
    assert (config.batch_size, config.num_epochs, config.seed) == (8192, 500, 0)
    assert (config.learning_rate, config.weight_decay) == (1e-4, 0.01)
    fine = make_recipe("paper-l40")
    assert fine.location_encoder.num_degrees == 40
    assert fine.location_encoder.damping is None and fine.soft_targets is None


def test_unknown_names_are_errors():
    """A recipe or an image encoder that does not exist is answered with all that do."""
    with pytest.raises(ValueError, match=r"unknown recipe 'best'; choose from paper-l10"):
        make_recipe("best")
    with pytest.raises(ValueError, match="name must be one of resnet18"):
        prepare_image_encoder("resnet1", make_blue_marble_patches(num_patches=10))


def test_random_features_are_fitted_to_what_memory_holds(monkeypatch):
    """Of large patches fewer are loaded."""
    dataset, loaded = make_blue_marble_patches(num_patches=50), []
    monkeypatch.setattr(recipes, "MAX_FITTING_BYTES", 7 * 4 * dataset.patches[0].size)

    def load(dataset, rows):
        loaded.append(len(rows))
        return load_images(dataset, rows)

    monkeypatch.setattr(recipes, "load_images", load)
    prepare_image_encoder("rcf", dataset, num_random_features=2)
    assert loaded == [7]


def test_level_2a_patches_get_the_band_they_lack(tmp_path):
    """An encoder of 13 bands sees 12-band patches with zeros as B10."""
    rng = np.random.default_rng(0)
    numbers = rng.integers(1, 5000, (6, 12, 64, 64), dtype=np.uint16)
    lonlat = rng.uniform(-80, 80, (6, 2))
    dataset = make_patch_dataset(
        numbers, lonlat, is_val=np.arange(6) < 2, band_names=BAND_NAMES, scale=1e-4, source="test"
    )
    encoder = make_image_encoder("resnet18", num_bands=13)
    store = cache_features(dataset, encoder, folder=tmp_path)
    images = np.insert(numbers / 1e4, 10, 0, axis=1).astype(np.float32)
    expected = encoder(torch.from_numpy(images))
    np.testing.assert_allclose(store.features, expected, rtol=1e-4, atol=1e-5)


def test_the_command_trains_from_a_patch_store(workspace, monkeypatch):
    """What torchrun starts reads a profile's patches and leaves a checkpoint with its recipe."""
    save_patches(make_blue_marble_patches(num_patches=100), Workspace("smoke").patches)
    arguments = "ours-l40 --profile smoke --num-epochs 1 --batch-size 32 --seed 2 --num-views 2"
    monkeypatch.setattr(sys, "argv", ["recipes", *arguments.split()])
    recipes.main()
    folder = Workspace("smoke").checkpoints / "rcf-l40"
    assert load_location_encoder(folder).config.damping.degree == 6.0
    run = load_config(folder)["provenance"]["pretraining"]
    assert (run["num_epochs"], run["batch_size"], run["seed"]) == (1, 32, 2)


def _train_on_two(rank, folder):
    """One of two processes; leaves a file with how many features it found, and its threads."""
    os.environ["SATCLIP_HOME"] = str(folder)

    def look_and_cache(*args, **options):
        found = list(options["folder"].glob("[!.]*"))
        (folder / f"found-{rank}").write_text(f"{len(found)} {torch.get_num_threads()}")
        if rank == 0:
            time.sleep(0.5)  # long enough for the other to overtake
        return cache_features(*args, **options)

    recipes.cache_features = look_and_cache
    sys.argv = ["recipes", *"paper-l10 --profile smoke --num-epochs 1 --batch-size 64".split()]
    recipes.main()


@pytest.mark.parametrize(("num_nodes", "num_threads"), [(1, 2), (2, 1)])
def test_one_of_two_processes_computes_the_features(workspace, num_nodes, num_threads):
    """With the threads of its machine; the other opens the finished store; then both train."""
    save_patches(make_blue_marble_patches(num_patches=100), Workspace("smoke").patches)
    processes.run_together(_train_on_two, workspace, count=2, num_nodes=num_nodes)
    found = [(workspace / f"found-{rank}").read_text() for rank in (0, 1)]
    assert found == [f"0 {num_threads}", "1 1"]
    assert (
        load_location_encoder(Workspace("smoke").checkpoints / "rcf-l10").config.num_degrees == 10
    )
