"""The published layout: read exactly and without running anything, and written back."""

import argparse
import collections
import copy
import json
import os
import pathlib
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small import make_encoder
from torch import nn

from satclip_lib.checkpoints.archive import CONTAINERS
from satclip_lib.checkpoints.published import read_published, save_published
from satclip_lib.checkpoints.store import (
    CheckpointError,
    convert_published,
    load_config,
    load_location_encoder,
    load_satclip,
)
from satclip_lib.image_encoder import make_image_encoder
from satclip_lib.location_encoder import Damping, LocationEncoder
from satclip_lib.model import SatCLIP

pytestmark = pytest.mark.usefixtures("no_network")  # local files are enough
FIXTURES = Path(__file__).parent / "fixtures"
LONLAT = torch.tensor([[2.35, 48.86], [139.69, 35.69], [180.0, -90.0]], dtype=torch.float64)
EXTRA_KEYS = ("eval_downstream", "air_temp_data_path", "election_data_path")


@pytest.fixture
def official():
    """The content of a checkpoint that the public implementation made."""
    return torch.load(FIXTURES / "official_l10.ckpt", weights_only=True)


def _save(checkpoint, path):
    torch.save(checkpoint, path)
    return path


def _make_model(name="resnet18", num_bands=13):
    encoder = make_encoder(seed=1, convention="satclip-analytic")
    model = SatCLIP(make_image_encoder(name, num_bands=num_bands), encoder).eval()
    nn.init.constant_(model.logit_scale, 1.5)
    return model


def _assert_same_tensors(first, second):
    assert first.keys() == second.keys()
    for name, x in first.items():
        assert x.dtype == second[name].dtype and torch.equal(x, second[name]), name


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


def test_float32_agrees_with_float64():
    """The default dtype gives embeddings within 1e-4 of float64, at 40 degrees and a pole too."""
    lonlat = np.random.default_rng(0).uniform((-180, -90), (180, 90), (3000, 2))
    lonlat[:2] = [[-180, 12], [77, 90]]
    path = FIXTURES / "official_l40_midlat.ckpt"
    with torch.no_grad():
        default = load_location_encoder(path)(torch.from_numpy(lonlat))
        exact = load_location_encoder(path, dtype=torch.float64)(torch.from_numpy(lonlat))
    assert default.dtype == torch.float32
    assert ((default - exact).norm(dim=1) / exact.norm(dim=1)).max() < 1e-4


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


@pytest.mark.parametrize("container", ["dict", *CONTAINERS])
def test_hyper_parameters_come_in_many_containers(official, tmp_path, monkeypatch, container):
    """Dict, namespace or Lightning's own, also without the published files' extra keys."""
    values = {k: v for k, v in official["hyper_parameters"].items() if k not in EXTRA_KEYS}
    with monkeypatch.context() as patch:
        official["hyper_parameters"] = _make_container(container, values, patch)
        path = _save(official, tmp_path / "model.ckpt")
    expected = load_location_encoder(FIXTURES / "official_l10.ckpt")(LONLAT)
    assert torch.equal(load_location_encoder(path)(LONLAT), expected)


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("le_type", "wrap", "positional encoding"),
        ("pe_type", "mlp", "network"),
        ("harmonics_calculation", "discretized", "harmonics"),
    ],
)
def test_other_architectures_are_refused_by_name(official, tmp_path, key, value, what):
    """What is not implemented is named, with what is."""
    official["hyper_parameters"][key] = value
    path = _save(official, tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match=f"{key}='{value}', a kind of {what} that is not"):
        load_location_encoder(path)


@pytest.mark.parametrize("key", ["capacity", "pe_type"])
def test_a_missing_hyper_parameter_is_named(official, tmp_path, key):
    """Without one of the settings there is no model, and the error says which it is."""
    del official["hyper_parameters"][key]
    with pytest.raises(CheckpointError, match=f"lacks the hyper-parameter '{key}'"):
        load_location_encoder(_save(official, tmp_path / "model.ckpt"))


class _RunsCode:
    """Pickles as a call of os.system that makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("where", ["state_dict", "callbacks"])
def test_a_checkpoint_that_runs_code_is_refused(official, tmp_path, where):
    """A real malicious pickle is refused, the error says why, and its code does not run."""
    trace = tmp_path / "trace"
    official[where] = {**official[where], "payload": _RunsCode(trace)}
    path = _save(official, tmp_path / "evil.ckpt")
    torch.load(path, weights_only=False)  # the payload is real ...
    assert trace.exists()
    trace.unlink()
    for load in (load_location_encoder, read_published):
        with pytest.raises(CheckpointError, match=r"would run code.*system.*Nothing was run"):
            load(path)
    with pytest.raises(CheckpointError, match="would run code"):
        convert_published(path, tmp_path / "converted")
    assert not trace.exists() and not (tmp_path / "converted").exists()  # ... and was not run


def test_harmless_values_are_read(official, tmp_path):
    """NumPy's numbers, paths, types and containers in hyper-parameters become plain values."""
    settings = official["hyper_parameters"]
    expected = load_location_encoder(FIXTURES / "official_l10.ckpt")(LONLAT)
    by_kind = collections.defaultdict(list, a=[1])
    values = {
        "learning_rate": (np.float64(1e-4), 1e-4),
        "eval_downstream": (np.bool_(True), True),
        "big_endian": (np.array([258], ">i4")[0], 258),
        "le_type": (np.str_("sphericalharmonics"), "sphericalharmonics"),
        "embed_dim": (np.int64(settings["embed_dim"]), settings["embed_dim"]),
        "air_temp_data_path": (Path("/data/air temp.csv"), "/data/air temp.csv"),
        "windows": (pathlib.PureWindowsPath("C:/data"), None),
        "empty_path": (pathlib.PurePosixPath(), "."),
        "dtype": (torch.bfloat16, "torch.bfloat16"),
        "device": (torch.device("cuda:1"), "cuda:1"),
        "size": (torch.Size([3, 4]), (3, 4)),
        "by_kind": (by_kind, "<OrderedDict>"),
        "factory": (float, "<function>"),
        "sorted": (collections.OrderedDict(b=1), "<OrderedDict>"),
        "tensor": (torch.ones(2), "<Tensor>"),
    }
    official["hyper_parameters"] = settings | {name: value for name, (value, _) in values.items()}
    path = _save(official, tmp_path / "model.ckpt")
    assert torch.equal(load_location_encoder(path)(LONLAT), expected)
    read = read_published(path)[0]["provenance"]["hyper_parameters"]
    for name, (_, plain) in values.items():
        assert plain is None or (read[name] == plain and type(read[name]) is type(plain)), name
    json.dumps(read)


def test_wrappers_leave_no_trace(official, tmp_path):
    """Names from DistributedDataParallel and torch.compile, also nested, are understood."""
    expected = load_location_encoder(FIXTURES / "official_l10.ckpt")(LONLAT)
    official["state_dict"] = {
        "_orig_mod.module." + name.replace(".", "._orig_mod.", 1): x
        for name, x in official["state_dict"].items()
    }
    loaded = load_location_encoder(_save(official, tmp_path / "model.ckpt"))
    assert torch.equal(loaded(LONLAT), expected)


def test_the_list_of_allowed_globals_is_restored():
    """Reading a checkpoint leaves torch's own allow-list as it was."""
    before = torch.serialization.get_safe_globals()
    load_location_encoder(FIXTURES / "official_l10.ckpt")
    assert set(torch.serialization.get_safe_globals()) == set(before)


def test_a_loaded_model_does_not_need_the_file(tmp_path):
    """Weights are copied: the file may be overwritten or deleted while the model is in use."""
    path = tmp_path / "model.ckpt"
    path.write_bytes((FIXTURES / "official_l10.ckpt").read_bytes())
    model = load_location_encoder(path, dtype=torch.float64)
    before = model(LONLAT)
    path.write_bytes(bytes(path.stat().st_size))
    assert torch.equal(model(LONLAT), before)


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
    timm = saved.image_encoder.state_dict()  # by names, see test_image_encoder
    assert visual == {*timm, f"{projection}.weight", f"{projection}.bias"}


def test_an_unknown_image_tower_is_refused_alone(tmp_path):
    """A tower trained from scratch is named and refused; the location encoder still loads."""
    path = save_published(_make_model(), tmp_path / "model.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["hyper_parameters"]["vision_layers"] = (3, 4, 6, 3)
    _save(checkpoint, path)
    assert load_location_encoder(path)(LONLAT).isfinite().all()
    with pytest.raises(CheckpointError, match=r"vision_layers=\(3, 4, 6, 3\)"):
        load_satclip(path, image_encoder=True)


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


@pytest.mark.parametrize("convention", ["orthonormal", "satclip-analytic", "satclip-closed-form"])
def test_ours_to_published_and_back_is_exact(tmp_path, convention):
    """Models of every convention and size keep their embeddings to the last bit."""
    size = {"num_degrees": 7, "embed_dim": 9, "hidden_dim": 24, "num_hidden_layers": 4}
    saved = make_encoder(convention=convention, **size).double()
    before = copy.deepcopy(saved.state_dict())
    loaded = load_location_encoder(
        save_published(saved, tmp_path / "model.ckpt"), dtype=torch.float64
    )
    assert torch.equal(loaded(LONLAT), saved(LONLAT))
    _assert_same_tensors(dict(saved.state_dict()), dict(before))  # not changed in place
    written = "satclip-closed-form" if convention == "orthonormal" else convention
    assert loaded.config == replace(saved.config, convention=written)


@pytest.mark.parametrize("learned", [False, True])
def test_what_the_layout_lacks_goes_into_the_weights(tmp_path, learned):
    """Damping, and another first frequency than 30: the embeddings mean the same."""
    damping = Damping(degree=3.0, learned=learned)
    saved = make_encoder(num_degrees=7, damping=damping, first_omega=10.0, dropout=0.0).double()
    loaded = load_location_encoder(
        save_published(saved, tmp_path / "model.ckpt"), dtype=torch.float64
    )
    torch.testing.assert_close(loaded(LONLAT), saved(LONLAT), rtol=1e-6, atol=1e-6)
    assert loaded.config.damping is None and loaded.config.first_omega == 30.0


def test_the_same_model_gives_the_same_bytes(tmp_path):
    """Neither the name of the file nor that of its scratch copy is part of its content."""
    first, second = (
        save_published(make_encoder(), tmp_path / name).read_bytes() for name in ("a.ckpt", "b")
    )
    assert first == second


def test_what_the_layout_cannot_hold_is_refused(tmp_path):
    """Settings and image encoders without a place in the layout are named; nothing is written."""
    with pytest.raises(ValueError, match=r"no place for the image encoder .*'num_bands': 3"):
        save_published(_make_model(num_bands=3), tmp_path / "model.ckpt")
    assert not list(tmp_path.iterdir())
