"""The published layout: read exactly and without running anything, and written back."""

import argparse
import copy
import json
import os
import pickle
import socket
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from satclip_lib.checkpoints.archive import CONTAINERS
from satclip_lib.checkpoints.published import read_published, save_published
from satclip_lib.checkpoints.store import (
    CheckpointError,
    convert_published,
    load_config,
    load_location_encoder,
    load_satclip,
    save_pretrained,
)
from satclip_lib.image_encoder import make_image_encoder
from satclip_lib.location_encoder import Damping, LocationEncoder, LocationEncoderConfig
from satclip_lib.model import SatCLIP

FIXTURES = Path(__file__).parent / "fixtures"
LONLAT = torch.tensor([[2.35, 48.86], [139.69, 35.69], [180.0, -90.0]], dtype=torch.float64)
NETWORK = ("model.nnet.", "model.location.nnet.")
EXTRA_KEYS = ("eval_downstream", "air_temp_data_path", "election_data_path")

LOAD_WITHOUT_LIGHTNING = """
import json, sys
sys.modules["lightning"] = sys.modules["pytorch_lightning"] = sys.modules["timm"] = None
from satclip_lib import load_location_encoder
load_location_encoder(sys.argv[1])
json.dump(sorted(name for name in sys.modules if sys.modules[name]), sys.stdout)
"""


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Local files must be enough: any use of a socket fails."""

    def refuse(*args, **kwargs):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)


@pytest.fixture
def official():
    """The content of a checkpoint that the public implementation made."""
    return torch.load(FIXTURES / "official_l10.ckpt", weights_only=True)


def _save(checkpoint, path):
    torch.save(checkpoint, path)
    return path


def _make_encoder(seed=0, **settings):
    torch.manual_seed(seed)
    settings = {"num_degrees": 4, "embed_dim": 6, "hidden_dim": 16} | settings
    return LocationEncoder(LocationEncoderConfig(**settings)).eval()


def _make_model(name="resnet18", num_bands=13):
    torch.manual_seed(1)
    encoder = _make_encoder(convention="satclip-analytic")
    model = SatCLIP(make_image_encoder(name, num_bands=num_bands), encoder).eval()
    nn.init.constant_(model.logit_scale, 1.5)
    return model


def _assert_same_tensors(first, second):
    assert first.keys() == second.keys()
    for name, x in first.items():
        assert x.dtype == second[name].dtype and torch.equal(x, second[name]), name


# --- exactness ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stem", "harmonics_tolerance", "tolerance"),
    [("official_l10", 1e-10, 1e-8), ("official_l40_midlat", 1e-4, 1e-4)],
)
def test_agrees_with_the_public_implementation(stem, harmonics_tolerance, tolerance):
    """Harmonics and embeddings of the public code are reproduced in float64."""
    reference = np.load(FIXTURES / f"{stem}.npz")
    lonlat = torch.from_numpy(reference["lonlat"])
    model = load_location_encoder(FIXTURES / f"{stem}.ckpt", dtype=torch.float64)
    assert isinstance(model, LocationEncoder) and not model.training
    with torch.no_grad():
        harmonics, embeddings = model.compute_harmonics(lonlat).numpy(), model(lonlat).numpy()
    assert harmonics.shape == reference["harmonics"].shape
    assert np.abs(harmonics - reference["harmonics"]).max() < harmonics_tolerance
    assert np.abs(embeddings - reference["embedding"]).max() < tolerance
    lengths = np.linalg.norm(embeddings, axis=1)
    assert lengths.std() > 0.01  # not normalised


@pytest.mark.parametrize("stem", ["official_l10", "official_l40_midlat"])
def test_float32_agrees_with_float64(stem):
    """The default dtype gives finite embeddings within 1e-4 of float64, poles and seam included."""
    generator = np.random.default_rng(0)
    lonlat = np.stack([generator.uniform(-180, 180, 3000), generator.uniform(-90, 90, 3000)], 1)
    lonlat[:6] = [[-180, 12], [180, 12], [0, 90], [77, 90], [0, -90], [-180, -90]]
    lonlat = torch.from_numpy(lonlat)
    path = FIXTURES / f"{stem}.ckpt"
    with torch.no_grad():
        default = load_location_encoder(path)(lonlat)
        exact = load_location_encoder(path, dtype=torch.float64)(lonlat)
    assert default.dtype == torch.float32 and default.isfinite().all()
    assert ((default - exact).norm(dim=1) / exact.norm(dim=1)).max() < 1e-4
    torch.testing.assert_close(default[0], default[1])  # one meridian
    torch.testing.assert_close(default[2], default[3])  # one pole


def test_float64_tensors_are_kept(official):
    """With dtype=torch.float64 every weight is the file's, to the last bit."""
    loaded = load_location_encoder(FIXTURES / "official_l10.ckpt", dtype=torch.float64)
    expected = {
        name.removeprefix(NETWORK[0]): x
        for name, x in official["state_dict"].items()
        if name.startswith(NETWORK[0])
    }
    _assert_same_tensors(dict(loaded.network.state_dict()), expected)


def test_closed_form_harmonics_are_told_from_analytic_ones(official, tmp_path):
    """The hyper-parameter chooses the convention, and the convention changes the embeddings."""
    official["hyper_parameters"]["harmonics_calculation"] = "closed-form"
    closed = load_location_encoder(_save(official, tmp_path / "closed.ckpt"))
    analytic = load_location_encoder(FIXTURES / "official_l10.ckpt")
    assert closed.config.convention == "satclip-closed-form"
    assert analytic.config.convention == "satclip-analytic"
    assert not torch.allclose(closed(LONLAT), analytic(LONLAT), atol=0.1)


SIZES = {
    "num_degrees": 7, "embed_dim": 9, "hidden_dim": 24, "num_hidden_layers": 4,
}  # fmt: skip


@pytest.mark.parametrize("setting", SIZES)
def test_other_sizes_load(tmp_path, setting):
    """Legendre polynomials, embedding, capacity and depth are the file's."""
    saved = _make_encoder(convention="satclip-analytic", **{setting: SIZES[setting]})
    loaded = load_location_encoder(save_published(saved, tmp_path / "model.ckpt"))
    assert loaded.config == saved.config
    assert torch.equal(loaded(LONLAT), saved(LONLAT))


# --- containers and hyper-parameters --------------------------------------------------------------


def _make_container(name, values, monkeypatch):
    """What ``name`` pickles as, whether or not that package is installed here."""
    if name == "dict":
        return values
    if name == "argparse.Namespace":
        return argparse.Namespace(**values)
    module, _, class_name = name.rpartition(".")
    kind = type(class_name, (dict,), {"__module__": module})
    monkeypatch.setitem(sys.modules, module.partition(".")[0], types.ModuleType("package"))
    monkeypatch.setitem(sys.modules, module, argparse.Namespace(**{class_name: kind}))
    return kind(values)


@pytest.mark.parametrize("extra_keys", [True, False])
@pytest.mark.parametrize("container", ["dict", *CONTAINERS])
def test_hyper_parameters_come_in_many_containers(
    official, tmp_path, monkeypatch, container, extra_keys
):
    """Dict, namespace or Lightning's own, with or without the published files' extra keys."""
    values = official["hyper_parameters"]
    if not extra_keys:
        values = {name: value for name, value in values.items() if name not in EXTRA_KEYS}
    with monkeypatch.context() as patch:
        official["hyper_parameters"] = _make_container(container, values, patch)
        path = _save(official, tmp_path / "model.ckpt")
    expected = load_location_encoder(FIXTURES / "official_l10.ckpt")(LONLAT)
    assert torch.equal(load_location_encoder(path)(LONLAT), expected)


def test_a_genuine_lightning_container_loads_without_lightning(official, tmp_path):
    """A fresh process that cannot import Lightning or timm loads Lightning's own container."""
    parsing = pytest.importorskip("lightning.fabric.utilities.data")
    official["hyper_parameters"] = parsing.AttributeDict(official["hyper_parameters"])
    path = _save(official, tmp_path / "model.ckpt")
    command = [sys.executable, "-c", LOAD_WITHOUT_LIGHTNING, str(path)]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    modules = {name.partition(".")[0] for name in json.loads(run.stdout)}
    heavy = {"zarr", "xarray", "cartopy", "pandas", "matplotlib", "requests", "httpx", "scipy"}
    assert "torch" in modules and not modules & heavy


REFUSED = {
    "wrap": ("le_type", "wrap", "positional encoding"),
    "grid": ("le_type", "grid", "positional encoding"),
    "direct": ("le_type", "direct", "positional encoding"),
    "mlp": ("pe_type", "mlp", "network"),
    "linear": ("pe_type", "linear", "network"),
    "fcnet": ("pe_type", "fcnet", "network"),
    "discretized": ("harmonics_calculation", "discretized", "harmonics"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_other_architectures_are_refused_by_name(official, tmp_path, kind):
    """What is not implemented is named, with what is."""
    key, value, what = REFUSED[kind]
    official["hyper_parameters"][key] = value
    path = _save(official, tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match=f"{key}='{value}', a kind of {what} that is not"):
        load_location_encoder(path)


@pytest.mark.parametrize("key", ["embed_dim", "legendre_polys", "capacity", "pe_type"])
def test_a_missing_hyper_parameter_is_named(official, tmp_path, key):
    """Without one of the settings there is no model, and the error says which it is."""
    del official["hyper_parameters"][key]
    with pytest.raises(CheckpointError, match=f"lacks the hyper-parameter '{key}'"):
        load_location_encoder(_save(official, tmp_path / "model.ckpt"))


@pytest.mark.parametrize(("key", "value"), [("capacity", 0), ("num_hidden_layers", "two")])
def test_an_impossible_hyper_parameter_is_refused(official, tmp_path, shape_checks_off, key, value):
    """Values that describe no network are a damaged checkpoint, not a traceback."""
    official["hyper_parameters"][key] = value
    with pytest.raises(CheckpointError, match=r"model\.ckpt describes no model"):
        load_location_encoder(_save(official, tmp_path / "model.ckpt"))


# --- safety ---------------------------------------------------------------------------------------


class _RunsCode:
    """Pickles as a call of os.system that makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("where", ["hyper_parameters", "state_dict", "callbacks"])
def test_a_checkpoint_that_runs_code_is_refused(official, tmp_path, where):
    """A real malicious pickle is refused, the error says why, and its code does not run."""
    trace = tmp_path / "trace"
    official[where] = {**official[where], "payload": _RunsCode(trace)}
    path = _save(official, tmp_path / "evil.ckpt")
    torch.load(path, weights_only=False)  # the payload is real ...
    assert trace.exists()
    trace.unlink()
    for load in (load_location_encoder, read_published):
        with pytest.raises(CheckpointError, match=r"tries to run code.*system.*Nothing was run"):
            load(path)
    with pytest.raises(CheckpointError, match="tries to run code"):
        convert_published(path, tmp_path / "converted")
    assert not trace.exists() and not (tmp_path / "converted").exists()  # ... and was not run


def test_harmless_looking_calls_are_refused_too(official, tmp_path):
    """Whatever is not on the list is refused, builtins and the checkpoint's own classes alike."""
    for payload in (np.float64(1.5), pickle.PicklingError, Path("x"), len):
        path = _save({**official, "extra": payload}, tmp_path / "model.ckpt")
        with pytest.raises(CheckpointError, match="tries to run code: it asks for"):
            load_location_encoder(path)


def test_a_bare_pickle_is_not_even_opened(tmp_path):
    """A pickle that is no PyTorch archive is refused unread."""
    path, trace = tmp_path / "evil.ckpt", tmp_path / "trace"
    path.write_bytes(pickle.dumps({"state_dict": _RunsCode(trace)}))
    pickle.loads(path.read_bytes())
    assert trace.exists()
    trace.unlink()
    with pytest.raises(CheckpointError, match="bare pickle, which can run code"):
        load_location_encoder(path)
    assert not trace.exists()


def test_the_list_of_allowed_globals_is_restored():
    """Reading a checkpoint leaves torch's own allow-list as it was."""
    before = torch.serialization.get_safe_globals()
    load_location_encoder(FIXTURES / "official_l10.ckpt")
    assert set(torch.serialization.get_safe_globals()) == set(before)


# --- damage ---------------------------------------------------------------------------------------


def _change_location(official, change):
    for prefix in NETWORK:
        change(official["state_dict"], prefix)


def _rename(state_dict, prefix):
    state_dict[f"{prefix}last.weight"] = state_dict.pop(f"{prefix}last_layer.weight")


def _reshape(state_dict, prefix):
    state_dict[f"{prefix}last_layer.weight"] = torch.zeros(32, 63)


def _spoil(state_dict, prefix):
    state_dict[f"{prefix}layers.0.weight"].fill_(torch.nan)


def _disagree(state_dict, prefix):
    if prefix == NETWORK[1]:
        state_dict[f"{prefix}last_layer.bias"] = torch.zeros(32, dtype=torch.float64)


WRONG_TENSORS = {
    "wrong key": (_rename, r"last\.weight is not expected; .*last_layer\.weight is missing"),
    "wrong shape": (_reshape, r"last_layer\.weight has shape \(32, 63\), expected \(32, 64\)"),
    "NaN": (_spoil, r"layers\.0\.weight holds NaN or inf"),
    "two versions": (_disagree, r"two different versions of model\.location\.nnet\.last_layer"),
}


@pytest.mark.parametrize("damage", WRONG_TENSORS)
def test_wrong_tensors_are_named(official, tmp_path, damage):
    """Wrong keys, shapes, values and contradictions each have their own message."""
    change, message = WRONG_TENSORS[damage]
    _change_location(official, change)
    path = _save(official, tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match=message) as caught:
        load_location_encoder(path)
    assert str(path) in str(caught.value) and "again" in str(caught.value)


def _truncate(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def _garble(path):
    path.write_bytes(path.read_bytes().replace(b"official_l10/data.pkl", b"x" * 21))


DAMAGED_FILES = {
    "cut at the end": (lambda path: _truncate(path, 0.99), "is truncated"),
    "cut in the middle": (lambda path: _truncate(path, 0.5), "is truncated"),
    "empty": (lambda path: path.write_bytes(b""), "is not a PyTorch checkpoint"),
    "a web page": (lambda path: path.write_text("<html>gone"), "is not a PyTorch checkpoint"),
    "no state_dict": (lambda path: torch.save({"epoch": 1}, path), "is no SatCLIP checkpoint"),
    "no tensors": (
        lambda path: torch.save({"state_dict": {"x": 1}, "hyper_parameters": {}}, path),
        "is no SatCLIP checkpoint",
    ),
    "no hyper-parameters": (
        lambda path: torch.save({"state_dict": {}, "hyper_parameters": None}, path),
        "is no SatCLIP checkpoint",
    ),
    "a list": (lambda path: torch.save([1, 2], path), "is no SatCLIP checkpoint"),
    "garbled": (_garble, "is damaged"),
}


@pytest.mark.parametrize("damage", DAMAGED_FILES)
def test_damaged_files_say_what_they_are(tmp_path, damage):
    """A file that is no checkpoint says so, in words and with advice, whatever it is instead."""
    spoil, message = DAMAGED_FILES[damage]
    path = tmp_path / "model.ckpt"
    path.write_bytes((FIXTURES / "official_l10.ckpt").read_bytes())
    load_location_encoder(path)
    spoil(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_location_encoder(path)
    assert str(path) in str(caught.value) and "again" in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    """Where there is no file the error says which."""
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*nowhere\.ckpt"):
        load_location_encoder(tmp_path / "nowhere.ckpt")


def test_a_loaded_model_does_not_need_the_file(tmp_path):
    """Weights are copied: the file may be overwritten or deleted while the model is in use."""
    path = tmp_path / "model.ckpt"
    path.write_bytes((FIXTURES / "official_l10.ckpt").read_bytes())
    model = load_location_encoder(path, dtype=torch.float64)
    before = model(LONLAT)
    path.write_bytes(bytes(path.stat().st_size))
    assert torch.equal(model(LONLAT), before)


def test_loading_leaves_random_numbers_alone():
    """The same numbers are drawn with and without loading a model in between."""
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    load_location_encoder(FIXTURES / "official_l10.ckpt")
    assert torch.equal(torch.rand(3), expected)


# --- the image tower ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "vit_small_patch16_224"])
def test_the_image_tower_comes_along(tmp_path, name):
    """Both towers, projection and temperature are read, under timm's names, with no download."""
    saved = _make_model(name)
    path = save_published(saved, tmp_path / "model.ckpt")
    loaded = load_satclip(path, image_encoder=True)
    assert isinstance(loaded, SatCLIP) and not loaded.training
    assert loaded.image_encoder.config == {"name": name, "num_bands": 13}
    _assert_same_tensors(dict(loaded.state_dict()), dict(saved.state_dict()))
    images = torch.rand(2, 13, 224, 224)
    assert torch.equal(loaded.encode_images(images), saved.encode_images(images))
    assert not any(parameter.requires_grad for parameter in loaded.image_encoder.parameters())

    names = set(torch.load(path, weights_only=True, mmap=True)["state_dict"])
    visual = {n.removeprefix("model.visual.") for n in names if n.startswith("model.visual.")}
    projection = "head" if name.startswith("vit") else "fc"
    models = json.loads((FIXTURES / "timm_state_dicts.json").read_text())["models"]
    timm = {entry.split(" ")[0] for entry in models[name]["state_dict"]}
    assert visual == timm | {f"{projection}.weight", f"{projection}.bias"}


def test_the_image_tower_is_loaded_strictly(tmp_path):
    """A missing, an unknown and a NaN image weight are errors, for those who load them only."""
    path = save_published(_make_model(), tmp_path / "model.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    state_dict = checkpoint["state_dict"]
    del state_dict["model.visual.bn1.bias"]
    state_dict["model.visual.bn9.bias"] = torch.zeros(3)
    state_dict["model.visual.fc.weight"].fill_(torch.inf)
    _save(checkpoint, path)
    assert load_location_encoder(path)(LONLAT).isfinite().all()
    for message in (
        r"image_encoder\.bn1\.bias is missing",
        r"image_encoder\.bn9\.bias is not expected",
        r"image_projection\.weight holds NaN or inf",
    ):
        with pytest.raises(CheckpointError, match=message):
            load_satclip(path, image_encoder=True)


def test_a_file_without_image_tower_says_so():
    """image_encoder=True on a file that has none is an error with advice."""
    with pytest.raises(CheckpointError, match=r"location encoder only.*load_location_encoder"):
        load_satclip(FIXTURES / "official_l10.ckpt", image_encoder=True)


def test_an_unknown_image_tower_is_refused_alone(tmp_path):
    """A tower trained from scratch is named and refused; the location encoder still loads."""
    path = save_published(_make_model(), tmp_path / "model.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["hyper_parameters"]["vision_layers"] = (3, 4, 6, 3)
    _save(checkpoint, path)
    assert load_location_encoder(path)(LONLAT).isfinite().all()
    with pytest.raises(CheckpointError, match=r"vision_layers=\(3, 4, 6, 3\)"):
        load_satclip(path, image_encoder=True)


# --- there and back -------------------------------------------------------------------------------


def test_published_to_ours_and_back_is_exact(official, tmp_path):
    """Conversion and its inverse give every tensor back, in value and dtype."""
    folder = convert_published(FIXTURES / "official_l10.ckpt", tmp_path / "ours")
    ours = load_location_encoder(folder, dtype=torch.float64)
    expected = load_location_encoder(FIXTURES / "official_l10.ckpt", dtype=torch.float64)
    assert ours.config == expected.config and torch.equal(ours(LONLAT), expected(LONLAT))

    path = save_published(ours, tmp_path / "back.ckpt")
    again = torch.load(path, weights_only=True)
    _assert_same_tensors(again["state_dict"], official["state_dict"])
    for key, value in official["hyper_parameters"].items():
        assert key.endswith("_path") or again["hyper_parameters"][key] == value, key


def test_conversion_keeps_both_towers_and_the_origin(tmp_path):
    """A whole model converts in the file's own dtypes, with its provenance and a model card."""
    source = save_published(_make_model(), tmp_path / "model.ckpt")
    folder = convert_published(source, tmp_path / "ours")
    whole = load_satclip(folder, image_encoder=True)
    _assert_same_tensors(
        dict(whole.state_dict()), dict(load_satclip(source, image_encoder=True).state_dict())
    )
    provenance = load_config(folder)["provenance"]
    assert provenance["converted_from"] == "model.ckpt" and len(provenance["sha256"]) == 64
    assert provenance["hyper_parameters"]["vision_layers"] == "moco_resnet18"
    assert "load_location_encoder(" in (folder / "README.md").read_text()

    first, second = (
        torch.load(save_published(m, tmp_path / "back.ckpt"), weights_only=True)["state_dict"]
        for m in (whole, _make_model())
    )
    _assert_same_tensors(first, second)


@pytest.mark.parametrize("convention", ["orthonormal", "satclip-analytic", "satclip-closed-form"])
def test_ours_to_published_and_back_is_exact(tmp_path, convention):
    """Models of every convention keep their embeddings to the last bit."""
    saved = _make_encoder(convention=convention, num_degrees=7).double()
    before = copy.deepcopy(saved.state_dict())
    loaded = load_location_encoder(
        save_published(saved, tmp_path / "model.ckpt"), dtype=torch.float64
    )
    assert torch.equal(loaded(LONLAT), saved(LONLAT))
    _assert_same_tensors(dict(saved.state_dict()), dict(before))  # not changed in place
    written = "satclip-closed-form" if convention == "orthonormal" else convention
    assert loaded.config == replace(saved.config, convention=written)


@pytest.mark.parametrize("learned", [False, True])
def test_damping_goes_into_the_weights(tmp_path, learned):
    """A damped model is written for the undamped harmonics of the layout, and means the same."""
    saved = _make_encoder(num_degrees=7, damping=Damping(degree=3.0, learned=learned)).double()
    loaded = load_location_encoder(
        save_published(saved, tmp_path / "model.ckpt"), dtype=torch.float64
    )
    torch.testing.assert_close(loaded(LONLAT), saved(LONLAT), rtol=1e-6, atol=1e-6)
    assert loaded.config.damping is None


def test_the_first_frequency_goes_into_the_weights(tmp_path):
    """The layout always has 30; another is written as other weights, and means the same."""
    saved = _make_encoder(first_omega=10.0).double()
    loaded = load_location_encoder(
        save_published(saved, tmp_path / "model.ckpt"), dtype=torch.float64
    )
    torch.testing.assert_close(loaded(LONLAT), saved(LONLAT), rtol=1e-6, atol=1e-6)
    assert loaded.config.first_omega == 30.0


def test_what_is_written_is_what_the_public_code_expects(official, tmp_path):
    """Hyper-parameters, tensor names and dtypes are those of a file that the public code made."""
    written = torch.load(
        save_published(_make_encoder(), tmp_path / "model.ckpt"), weights_only=True
    )
    assert written["hyper_parameters"].keys() == official["hyper_parameters"].keys()
    assert written["state_dict"].keys() == official["state_dict"].keys()
    for name, x in written["state_dict"].items():
        assert x.dtype == official["state_dict"][name].dtype
    kinds = [written["hyper_parameters"][key] for key in ("le_type", "pe_type")]
    assert kinds == ["sphericalharmonics", "siren"]


def test_the_same_model_gives_the_same_bytes(tmp_path):
    """Neither the name of the file nor that of its scratch copy is part of its content."""
    first, second = (
        save_published(_make_encoder(), tmp_path / name).read_bytes() for name in ("a.ckpt", "b")
    )
    assert first == second


def test_what_the_layout_cannot_hold_is_refused(tmp_path):
    """Settings and image encoders without a place in the layout are named; nothing is written."""
    with pytest.raises(ValueError, match=r"no place for the image encoder .*'num_bands': 3"):
        save_published(_make_model(num_bands=3), tmp_path / "model.ckpt")
    assert not list(tmp_path.iterdir())


def test_dropout_is_no_obstacle(tmp_path):
    """Dropout matters while training only: a model without it is written, and embeds alike."""
    saved = _make_encoder(dropout=0.0, convention="satclip-analytic")
    loaded = load_location_encoder(save_published(saved, tmp_path / "model.ckpt"))
    assert torch.equal(loaded(LONLAT), saved(LONLAT))


def test_a_location_encoder_alone_is_saved_in_our_format(tmp_path):
    """save_pretrained takes a bare location encoder; asking it for both towers is an error."""
    saved = _make_encoder()
    folder = save_pretrained(saved, tmp_path / "ours")
    assert torch.equal(load_location_encoder(folder)(LONLAT), saved(LONLAT))
    with pytest.raises(CheckpointError, match="holds a location encoder only"):
        load_satclip(folder, image_encoder=True)
