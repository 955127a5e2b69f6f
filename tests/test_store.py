"""Checkpoints: exact, complete or refused with advice, light to load, and never a pickle."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import processes
import pytest
import torch
from folders import hash_files
from safetensors.torch import load_file, save_file
from small import make_encoder, make_model

from satclip_lib import files
from satclip_lib.checkpoints import store as checkpoint
from satclip_lib.checkpoints.published import save_published
from satclip_lib.checkpoints.store import (
    hash_checkpoint,
    load_config,
    load_location_encoder,
    load_satclip,
    save_pretrained,
)
from satclip_lib.location_encoder import Damping, LocationEncoder
from satclip_lib.model import SatCLIP

LONLAT = torch.tensor([[2.35, 48.86], [139.69, 35.69], [180.0, -90.0]])
IMAGES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def folder(workspace):
    """A checkpoint on disk."""
    return save_pretrained(make_model(), workspace / "model", provenance={"seed": 0})


def test_a_whole_model_comes_back_exactly(folder):
    """Weights, configurations and provenance are the same to the last bit, in eval mode."""
    saved, loaded = make_model(), load_satclip(folder, image_encoder=True)
    assert isinstance(loaded, SatCLIP) and not loaded.training
    assert loaded.image_encoder.config == saved.image_encoder.config
    assert all(torch.equal(x, loaded.state_dict()[name]) for name, x in saved.state_dict().items())
    assert torch.equal(loaded(IMAGES, LONLAT), saved(IMAGES, LONLAT))
    assert not any(parameter.requires_grad for parameter in loaded.image_encoder.parameters())
    alone = load_location_encoder(folder)
    assert isinstance(alone, LocationEncoder) and not alone.training
    assert alone.config == saved.location_encoder.config
    assert torch.equal(alone(LONLAT), saved.location_encoder(LONLAT))
    config = load_config(folder)
    assert (config["format"], config["provenance"]) == (checkpoint.FORMAT, {"seed": 0})


def test_float64_weights_keep_their_digits(workspace):
    """A float64 model, as the public ones are, comes back exactly with dtype=torch.float64."""
    saved = make_model().double()
    with torch.no_grad():
        for parameter in saved.location_encoder.parameters():
            parameter /= 3  # no longer a float32 number
    folder = save_pretrained(saved, workspace / "double")
    loaded = load_location_encoder(folder, dtype=torch.float64, device=torch.device("cpu"))
    assert torch.equal(loaded(LONLAT.double()), saved.encode_locations(LONLAT.double()))
    assert {x.dtype for x in load_location_encoder(folder).parameters()} == {torch.float32}


def test_hashes_tell_weights_apart(folder, workspace):
    """The hash depends on the weights alone."""
    again = save_pretrained(make_model(), workspace / "again", provenance={"other": 1})
    other = save_pretrained(make_model(seed=1), workspace / "other")
    assert hash_checkpoint(again) == hash_checkpoint(folder) != hash_checkpoint(other)
    assert len(hash_checkpoint(folder)) == 64


def _save_until_killed(folder):
    """Replace a checkpoint in a process that dies in the middle."""

    def save_half(tensors, path):
        path.write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)

    checkpoint.save_file = save_half
    save_pretrained(load_satclip(folder, image_encoder=True), folder)


def test_a_killed_save_leaves_the_old_checkpoint(folder):
    """After SIGKILL while writing, the old checkpoint still loads and can be replaced."""
    assert processes.find_exit_code(_save_until_killed, folder) == -signal.SIGKILL
    assert torch.equal(load_location_encoder(folder)(LONLAT), make_model().location_encoder(LONLAT))
    files.sweep.cache_clear()  # as in a process of its own
    save_pretrained(make_model(seed=1), folder)
    assert torch.equal(
        load_location_encoder(folder)(LONLAT), make_model(seed=1).location_encoder(LONLAT)
    )
    assert list(folder.parent.iterdir()) == [folder]


def test_what_replaces_what(folder, workspace):
    """Only a model of ours is replaced; a thesis, a stranger's config or a file is not."""
    (folder / checkpoint.TRAINING_LONLAT_NAME).write_bytes(b"of the old model")
    save_pretrained(make_model(seed=1), folder, model_card=True)
    assert not (folder / checkpoint.TRAINING_LONLAT_NAME).exists()
    (folder / "thesis.tex").write_text("three years")
    stranger, file = workspace / "stranger", workspace / "file"
    stranger.mkdir()
    (stranger / "config.json").write_text('{"model_type": "bert"}')
    file.write_text("notes")
    for target, reason in ((folder, "thesis.tex"), (stranger, "not of a model"), (file, "a file")):
        before = hash_files(workspace)
        with pytest.raises(FileExistsError, match=f"holds other files.*{reason}.*pass a new or"):
            save_pretrained(make_model(), target)
        assert hash_files(workspace) == before


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_followed(workspace, exists):
    """A symbolic link stays, and what it points to, there or not yet, becomes the model."""
    link, target = workspace / "latest", workspace / "runs/seven"
    target.parent.mkdir()
    if exists:
        save_pretrained(make_model(seed=1), target)
    link.symlink_to(target)
    assert save_pretrained(make_model(), link) == link
    assert link.is_symlink() and not target.is_symlink()
    assert torch.equal(load_location_encoder(target)(LONLAT), load_location_encoder(link)(LONLAT))
    assert torch.equal(load_location_encoder(target)(LONLAT), make_model().location_encoder(LONLAT))


def test_names_may_hold_wrappers(folder):
    """DistributedDataParallel's and torch.compile's prefixes, also nested, mean nothing."""
    expected = load_location_encoder(folder)(LONLAT)
    path = folder / checkpoint.WEIGHTS_NAME
    tensors = {f"_orig_mod.module.{name}": x for name, x in load_file(path).items()}
    tensors = {name.replace(".network.", ".network._orig_mod."): x for name, x in tensors.items()}
    save_file(tensors, path)
    assert torch.equal(load_location_encoder(folder)(LONLAT), expected)
    load_satclip(folder, image_encoder=True)


def test_loading_draws_no_random_number(workspace):
    """Eight threads load both formats at once: all are right, and the generator is untouched."""
    damping = Damping(degree=3.0, learned=True, scaled_init=True)
    plain, damped = make_model(), make_encoder(num_degrees=7, damping=damping)
    paths = [
        save_pretrained(damped, workspace / "damped"),
        save_pretrained(plain, workspace / "whole"),
        save_published(plain.location_encoder, workspace / "model.ckpt"),
    ]
    loads = [*map(partial(partial, load_location_encoder), paths)]
    loads.append(partial(load_satclip, paths[1], image_encoder=True))
    before = torch.get_rng_state()
    expected = [load().state_dict() for load in loads]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda load: load().state_dict(), loads * 16))
    assert torch.equal(torch.get_rng_state(), before)
    for index, state_dict in enumerate(found):
        for name, x in expected[index % len(loads)].items():
            assert torch.equal(state_dict[name], x), name
    assert load_location_encoder(paths[0]).config == damped.config


def test_a_missing_checkpoint_says_how_to_make_one(workspace):
    """Where there is no checkpoint the error names the folder, a notebook and a command."""
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*nowhere.*make pretrain"):
        load_location_encoder(workspace / "nowhere")
