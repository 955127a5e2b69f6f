"""Checkpoints: exact, complete or refused with advice, light to load, and never a pickle."""

import json
import os
import pickletools
import signal
import subprocess
import sys
from functools import partial

import processes
import pytest
import torch
from safetensors.torch import load_file, save_file

from satclip_lib import files
from satclip_lib.checkpoints import store as checkpoint
from satclip_lib.checkpoints.store import (
    CheckpointError,
    hash_checkpoint,
    load_config,
    load_location_encoder,
    load_satclip,
    save_pretrained,
)
from satclip_lib.image_encoder import RandomConvolutionalFeatures
from satclip_lib.location_encoder import LocationEncoder, LocationEncoderConfig
from satclip_lib.model import SatCLIP

LONLAT = torch.tensor([[2.35, 48.86], [139.69, 35.69], [180.0, -90.0]])
IMAGES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
HEAVY = ("lightning", "zarr", "xarray", "cartopy", "timm", "pandas", "torchvision", "matplotlib")

MODULES_AFTER_LOADING = """
import json, sys
from satclip_lib.checkpoints.store import load_location_encoder
load_location_encoder(sys.argv[1])
json.dump(sorted(sys.modules), sys.stdout)
"""


def _make_model(seed=0):
    torch.manual_seed(seed)
    config = LocationEncoderConfig(
        num_degrees=4, embed_dim=6, hidden_dim=16, convention="satclip-analytic"
    )
    image_encoder = RandomConvolutionalFeatures.fit(IMAGES, num_random_features=8)
    return SatCLIP(image_encoder, LocationEncoder(config)).eval()


@pytest.fixture
def folder(workspace):
    """A checkpoint on disk."""
    return save_pretrained(_make_model(), workspace / "model", provenance={"seed": 0})


def _change_tensors(folder, change):
    """Apply ``change`` to the dictionary of tensors in the file."""
    path = folder / checkpoint.WEIGHTS_NAME
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def _change_config(folder, change):
    path = folder / checkpoint.CONFIG_NAME
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def test_a_location_encoder_comes_back_exactly(folder):
    """Weights, configuration and embeddings are the same to the last bit, in eval mode."""
    saved, loaded = _make_model().location_encoder, load_location_encoder(folder)
    assert isinstance(loaded, LocationEncoder) and not loaded.training
    assert loaded.config == saved.config
    assert torch.equal(loaded(LONLAT), saved(LONLAT))


def test_a_whole_model_comes_back_exactly(folder):
    """With image_encoder=True both towers and the temperature are the same to the last bit."""
    saved, loaded = _make_model(), load_satclip(folder, image_encoder=True)
    assert isinstance(loaded, SatCLIP) and not loaded.training
    assert loaded.image_encoder.config == saved.image_encoder.config
    assert all(torch.equal(x, loaded.state_dict()[name]) for name, x in saved.state_dict().items())
    assert torch.equal(loaded(IMAGES, LONLAT), saved(IMAGES, LONLAT))
    assert not any(parameter.requires_grad for parameter in loaded.image_encoder.parameters())


def test_float64_weights_keep_their_digits(workspace):
    """A float64 model, as the public ones are, comes back exactly with dtype=torch.float64."""
    saved = _make_model().double()
    with torch.no_grad():
        for parameter in saved.location_encoder.parameters():
            parameter /= 3  # no longer a float32 number
    folder = save_pretrained(saved, workspace / "double")
    loaded = load_location_encoder(folder, dtype=torch.float64)
    assert torch.equal(loaded(LONLAT.double()), saved.encode_locations(LONLAT.double()))


def test_the_dtype_is_that_asked_for(folder):
    """The dtype and device asked for apply to all weights; the default is float32."""
    assert load_location_encoder(folder)(LONLAT).dtype == torch.float32
    double = load_location_encoder(folder, dtype=torch.float64, device=torch.device("cpu"))
    assert double(LONLAT).dtype == torch.float64
    assert all(parameter.dtype == torch.float64 for parameter in double.parameters())


def test_the_config_says_what_was_saved(folder):
    """config.json is readable JSON with format, both architectures and provenance."""
    config = load_config(folder)
    assert config["format"] == checkpoint.FORMAT
    assert config["provenance"] == {"seed": 0}
    assert config["location_encoder"]["convention"] == "satclip-analytic"
    assert config["image_encoder"]["name"] == "rcf"


def test_nothing_on_disk_is_a_pickle(folder):
    """A checkpoint is one safetensors file and one JSON file, neither of them a pickle."""
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    for path in folder.iterdir():
        with pytest.raises(ValueError):
            list(pickletools.genops(path.read_bytes()))


def test_hashes_tell_weights_apart(folder, workspace):
    """The hash depends on the weights alone."""
    again = save_pretrained(_make_model(), workspace / "again", provenance={"other": 1})
    other = save_pretrained(_make_model(seed=1), workspace / "other")
    assert hash_checkpoint(again) == hash_checkpoint(folder) != hash_checkpoint(other)
    assert len(hash_checkpoint(folder)) == 64


def test_a_location_encoder_reads_its_own_tensors_only(folder, monkeypatch):
    """Without image_encoder=True no tensor of the image tower is read from disk."""
    read = []

    class Spy:
        def __init__(self, *args, **kwargs):
            self.file = safe_open(*args, **kwargs)

        def __enter__(self):
            self.file = self.file.__enter__()
            return self

        def __exit__(self, *error):
            return self.file.__exit__(*error)

        def keys(self):
            return self.file.keys()

        def get_tensor(self, name):
            read.append(name)
            return self.file.get_tensor(name)

    safe_open = checkpoint.safe_open
    monkeypatch.setattr(checkpoint, "safe_open", Spy)
    load_location_encoder(folder)
    assert read and all(name.startswith("location_encoder.") for name in read)
    load_satclip(folder, image_encoder=True)
    assert "logit_scale" in read


def test_loading_is_light(folder):
    """A fresh process that loads a location encoder imports nothing for data, training or maps."""
    command = [sys.executable, "-c", MODULES_AFTER_LOADING, str(folder)]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    modules = {name.partition(".")[0] for name in json.loads(run.stdout)}
    assert "torch" in modules and not modules & set(HEAVY)


def test_a_failed_save_leaves_the_old_checkpoint(folder, monkeypatch):
    """An error while writing passes through; the old checkpoint loads and nothing is left over."""

    def fail(tensors, path):
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoint, "save_file", fail)
    with pytest.raises(OSError, match="no space left"):
        save_pretrained(_make_model(seed=1), folder)
    assert torch.equal(
        load_location_encoder(folder)(LONLAT), _make_model().location_encoder(LONLAT)
    )
    assert list(folder.parent.iterdir()) == [folder]


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
    assert torch.equal(
        load_location_encoder(folder)(LONLAT), _make_model().location_encoder(LONLAT)
    )
    files._find_leftovers.cache_clear()  # as in a process of its own
    save_pretrained(_make_model(seed=1), folder)
    assert torch.equal(
        load_location_encoder(folder)(LONLAT), _make_model(seed=1).location_encoder(LONLAT)
    )
    assert list(folder.parent.iterdir()) == [folder]


def test_other_files_are_not_deleted(workspace):
    """A folder of other things is refused and stays as it was; an empty one will do."""
    folder = workspace / "home"
    folder.mkdir()
    save_pretrained(_make_model(), folder)
    (folder / checkpoint.CONFIG_NAME).rename(folder / "notes.txt")
    before = sorted(folder.iterdir())
    with pytest.raises(FileExistsError, match=r"home holds other files.*pass a new or empty"):
        save_pretrained(_make_model(), folder)
    assert sorted(folder.iterdir()) == before


WEIGHT = "location_encoder.network.last_layer.weight"
EXTRA = {"location_encoder.extra": torch.zeros(1)}


def _truncate(folder):
    path = folder / checkpoint.WEIGHTS_NAME
    path.write_bytes(path.read_bytes()[:-100])


def _remove_weights(folder):
    (folder / checkpoint.WEIGHTS_NAME).unlink()


def _cut_json(folder):
    (folder / checkpoint.CONFIG_NAME).write_text('{"format": ')


DAMAGE = {
    "truncated": (_truncate, r"cannot read .*model\.safetensors"),
    "no weights": (_remove_weights, r"cannot read .*model\.safetensors"),
    "missing tensor": (
        partial(_change_tensors, change=lambda x: x.pop(WEIGHT)),
        r"network\.last_layer\.weight is missing",
    ),
    "unexpected tensor": (
        partial(_change_tensors, change=lambda x: x.update(EXTRA)),
        r"extra is not expected",
    ),
    "wrong shape": (
        partial(_change_tensors, change=lambda x: x[WEIGHT].resize_(6, 15)),
        r"last_layer\.weight has shape \(6, 15\), expected \(6, 16\)",
    ),
    "NaN": (
        partial(_change_tensors, change=lambda x: x[WEIGHT][0, 0].fill_(torch.nan)),
        r"last_layer\.weight holds NaN or inf",
    ),
    "other architecture": (
        partial(_change_config, change=lambda x: x["location_encoder"].update(hidden_dim=17)),
        r"last_layer\.weight has shape \(6, 16\), expected \(6, 17\)",
    ),
    "config not JSON": (_cut_json, r"config\.json is not JSON"),
    "other format": (
        partial(_change_config, change=lambda x: x.update(format="other/3")),
        r"config\.json has format 'other/3', expected 'satclip-lib/1'",
    ),
}
CONFIG_DAMAGE = {
    "unknown setting": (lambda x: x["location_encoder"].update(depth=3), "depth"),
    "no architecture": (lambda x: x.pop("location_encoder"), "location_encoder"),
    "impossible setting": (lambda x: x["location_encoder"].update(dropout=2.0), "dropout"),
}


@pytest.mark.parametrize("image_encoder", [False, True])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named(folder, damage, image_encoder):
    """Whatever is wrong with a checkpoint, the error names the file and the fault."""
    spoil, message = DAMAGE[damage]
    spoil(folder)
    load = partial(load_satclip, image_encoder=True) if image_encoder else load_location_encoder
    with pytest.raises(CheckpointError, match=message) as caught:
        load(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_comes_with_advice(folder, damage):
    """Every error about a damaged checkpoint says how to get a sound one."""
    DAMAGE[damage][0](folder)
    with pytest.raises(CheckpointError, match=r"again|anew"):
        load_location_encoder(folder)


@pytest.mark.parametrize("damage", CONFIG_DAMAGE)
def test_a_config_that_fits_no_model_is_named(folder, shape_checks_off, damage):
    """JSON that does not describe a location encoder is a damaged checkpoint too."""
    change, message = CONFIG_DAMAGE[damage]
    _change_config(folder, change)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_location_encoder(folder)
    assert str(folder) in str(caught.value)


def test_damage_to_the_image_tower_is_named(folder):
    """NaN among the image weights is an error for those who load them, and for nobody else."""
    name = "image_projection.weight"
    _change_tensors(folder, lambda x: x[name].fill_(torch.inf))
    assert load_location_encoder(folder)(LONLAT).isfinite().all()
    with pytest.raises(CheckpointError, match=f"{name} holds NaN or inf"):
        load_satclip(folder, image_encoder=True)


def test_a_missing_checkpoint_says_how_to_make_one(workspace):
    """Where there is no checkpoint the error names the folder, a notebook and a command."""
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*nowhere.*make pretrain"):
        load_location_encoder(workspace / "nowhere")
