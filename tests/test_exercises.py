"""Exercises are done beside the lessons, and a checkpoint knows the patches it was trained on."""

import errno
import os
import shutil

import pytest
from small import make_encoder

from satclip_lib.checkpoints.store import save_pretrained
from satclip_lib.data.features import cache_features
from satclip_lib.data.images import load_images
from satclip_lib.data.patch_store import make_blue_marble_patches, open_patches, save_patches
from satclip_lib.files import Workspace, write_atomically
from satclip_lib.image_encoder import RandomConvolutionalFeatures
from satclip_lib.location_encoder import LocationEncoderConfig
from satclip_lib.training.fit import PretrainingConfig, pretrain
from tools import exercises

SMALL = LocationEncoderConfig(num_degrees=2, hidden_dim=4, embed_dim=3)


def test_the_copy_leaves_the_lesson_as_it_was():
    """What is written in the copy is not written in the lesson, which has to be there."""
    with pytest.raises(FileNotFoundError, match=r"run notebooks 01 and 02, or `make pretrain"):
        exercises.copy_profile("demo")
    lesson = Workspace("demo").data
    (lesson / "checkpoints").mkdir(parents=True)
    (lesson / "checkpoints" / "weights").write_text("lesson")
    copy = exercises.copy_profile("demo")
    assert (copy / "checkpoints" / "weights").samefile(lesson / "checkpoints" / "weights")
    with write_atomically(copy / "checkpoints" / "weights") as scratch:
        scratch.write_text("exercise")
    assert (lesson / "checkpoints" / "weights").read_text() == "lesson"
    exercises.copy_profile("demo")
    assert (copy / "checkpoints" / "weights").read_text() == "lesson"


def test_files_are_copied_where_disks_have_no_links(monkeypatch):
    """Another disk gets a copy; any other error is not hidden."""
    lesson = Workspace("demo").data
    lesson.mkdir(parents=True)
    (lesson / "weights").write_text("lesson")

    def refuse(*names):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    number = errno.EXDEV
    assert (exercises.copy_profile("demo") / "weights").read_text() == "lesson"
    number = errno.EACCES
    with pytest.raises(shutil.Error, match="Permission denied"):
        exercises.copy_profile("demo")


def test_a_checkpoint_of_other_patches_is_refused(workspace):
    """Patches of another size, and a model that does not say what it saw, are not taken."""
    path, features = workspace / "patches.zarr", workspace / "features"
    save_patches(make_blue_marble_patches(num_patches=60, val_fraction=0.3), path)
    dataset = open_patches(path)
    encoder = RandomConvolutionalFeatures.fit(load_images(dataset), num_random_features=8)
    config = PretrainingConfig(location_encoder=SMALL, batch_size=16, num_epochs=1)
    store = cache_features(dataset, encoder, folder=features)
    trained = pretrain(config, store, image_encoder=encoder, folder=workspace / "trained")
    open_patches(path, trained=[trained])
    silent = save_pretrained(make_encoder(), workspace / "silent")
    with pytest.raises(ValueError, match="silent was trained on patches with the hash None"):
        open_patches(path, trained=[trained, silent])
    save_patches(make_blue_marble_patches(num_patches=60, size_px=32, val_fraction=0.3), path)
    with pytest.raises(ValueError, match=r"trained was trained on patches.*run notebook 02 again"):
        open_patches(path, trained=[trained])
