"""Pretrained peers: the networks of other projects with their own weights, where these are here."""

import importlib.util
import itertools
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from huggingface_hub import try_to_load_from_cache

from satclip_lib.checkpoints.download import PINNED_REVISIONS, PUBLISHED_MODELS
from satclip_lib.checkpoints.store import load_location_encoder
from satclip_lib.data.land import sample_land_lonlat
from satclip_lib.data.registry import FileUnavailableError, fetch_file, load_registry
from satclip_lib.evaluation import peers
from satclip_lib.evaluation.baselines import Encoder, EncoderUnavailableError
from satclip_lib.evaluation.benchmark import run_benchmark
from satclip_lib.evaluation.peers import (
    TORCHSPATIAL,
    compute_torchspatial_inputs,
    load_geoclip,
    load_torchspatial,
)
from satclip_lib.evaluation.positional import compute_waves

PUBLISHED = "satclip-resnet18-l40"
LON_LAT = [
    (-75.8853212, 44.4318712), (-68.5643889, 47.1568951), (-81.975249, 36.7104018),
    (-94.34872812, 46.82987414),
]  # fmt: skip
FIRST_EIGHT = [  # measured by others, repository AsharMemon/opencatch
    (-6.018258, -0.78366864, 2.8997436, -0.98556596, -0.72316533, -3.4069698, 3.2516038, 1.3531628),
    (-2.86911, -2.2671072, -0.76272064, -0.35940573, 1.0942957, -6.581509, 2.4939058, 3.972473),
    (-1.7085428, 1.0338333, 0.5474735, -0.717879, 0.35592452, -1.2250386, 2.1755674, 3.1436229),
    (-4.894028, -1.3093094, 1.1950216, -0.82594675, 0.6384219, -2.3880882, 2.3706992, 0.9718515),
]


def load_stored(name):
    """Hyper-parameters and weights of a peer of TorchSpatial, or a skipped test."""
    try:
        path = fetch_file(f"torchspatial/model_{TORCHSPATIAL[name]}.pth.tar")
    except FileUnavailableError:
        pytest.skip("the files of TorchSpatial are not here: run `make peers`")
    stored = torch.load(path, map_location="cpu", weights_only=True)
    return stored["params"], stored["state_dict"]


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Nothing is downloaded."""
    monkeypatch.setenv("SATCLIP_OFFLINE", "1")


def compute_class_maps(name, lonlat):
    """Log probability of each class at each place, without its mean over places."""
    _, weights = load_stored(name)
    maps = torch.from_numpy(load_torchspatial(name)(lonlat)) @ weights["class_emb.weight"].T
    maps = maps.log_softmax(dim=1)
    return maps - maps.mean(dim=0)


def compare_maps(a, b):
    """Mean correlation over classes."""
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0).mean())


@pytest.mark.parametrize("name", TORCHSPATIAL)
def test_what_the_network_sees_has_its_width(name):
    """Each file's first layer has as many columns as there are inputs; embeddings are finite."""
    params, weights = load_stored(name)
    lonlat = sample_land_lonlat(1100, seed=0)
    inputs = compute_torchspatial_inputs(lonlat, params, weights)
    assert inputs.shape == (1100, weights["spa_enc.ffn.layers.0.linear.weight"].shape[1])
    encode = load_torchspatial(name)
    embeddings = encode(lonlat)
    assert embeddings.shape == (1100, 256) and np.isfinite(embeddings).all()
    np.testing.assert_allclose(embeddings[:3], encode(lonlat[:3]), atol=1e-4)
    assert encode(lonlat[:0]).shape == (0, 256)


@pytest.mark.parametrize(
    ("name", "num_waves"),
    [("TorchSpatial sphereM", 5), ("TorchSpatial sphereC+", 6), ("TorchSpatial theory", 6)],
)
def test_networks_trained_apart_see_the_same_classes(name, num_waves, monkeypatch):
    """Maps of the 62 classes agree best with another model's if the inputs are in our order."""
    lonlat = sample_land_lonlat(500, seed=0)
    reference = compute_class_maps("TorchSpatial rff", lonlat)
    agreement = compare_maps(compute_class_maps(name, lonlat), reference)
    assert agreement > 0.4

    def exchange(first, second):
        def compute_inputs(*arguments):
            x = compute_torchspatial_inputs(*arguments).reshape(500, -1, num_waves)
            x[:, :, [first, second]] = x[:, :, [second, first]]
            return x.reshape(500, -1)

        return compute_inputs

    for waves in itertools.combinations(range(num_waves), 2):
        monkeypatch.setattr(peers, "compute_torchspatial_inputs", exchange(*waves))
        assert compare_maps(compute_class_maps(name, lonlat), reference) < agreement - 0.02


def test_waves_of_longitude_come_first_in_the_grid():
    """Longitude has the first half of Space2Vec's grid; radii ascend; sine and cosine alternate."""
    params, weights = load_stored("TorchSpatial grid")
    lonlat = np.array([[30.0, 50.0]])
    found = compute_torchspatial_inputs(lonlat, params, weights).reshape(2, 64, 2)
    radii = 0.005 * (360 / 0.005) ** (np.arange(64) / 63)
    np.testing.assert_allclose(found[0, :, 0], np.sin(30.0 / radii), atol=1e-9)
    np.testing.assert_allclose(found[1, :, 1], np.cos(50.0 / radii), atol=1e-9)


def test_waves_are_those_of_the_papers():
    """One scale of sphereM is that of the baseline without parameters."""
    params, weights = load_stored("TorchSpatial sphereM")
    lonlat = sample_land_lonlat(5, seed=0)
    found = compute_torchspatial_inputs(lonlat, params, weights).reshape(5, 64, 5)
    waves = compute_waves("sphereM", np.radians(lonlat), np.array([1.0]))[:, :, 0]
    np.testing.assert_allclose(found[:, -1], waves, atol=1e-12)


def test_files_that_are_not_here_are_not_downloaded(monkeypatch, tmp_path):
    """The error names the command that brings them; so does that of a missing package."""
    monkeypatch.setattr(peers, "list_local_folders", lambda: [tmp_path])
    with pytest.raises(EncoderUnavailableError, match="make peers"):
        load_torchspatial("TorchSpatial xyz")
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EncoderUnavailableError, match="make peers"):
        load_geoclip()


def test_files_of_peers_are_registered():
    """Each has its url, hash and licence, which forbids to hand it on for money."""
    files = load_registry()
    for name in TORCHSPATIAL:
        assert "BY-NC" in files[peers._name_file(name)].licence


def test_geoclip_is_loaded_without_its_package(monkeypatch, tmp_path):
    """Its module alone runs, finds its neighbours, and is asked latitude first."""
    model = tmp_path / "geoclip" / "model"
    model.mkdir(parents=True)
    (model.parent / "__init__.py").write_text("raise ImportError('transformers')\n")
    (model / "misc.py").write_text("FACTOR = 10.0\n")
    (model / "location_encoder.py").write_text(
        "import torch\nfrom .misc import FACTOR\n\n"
        "class LocationEncoder(torch.nn.Module):\n"
        "    def forward(self, latlon):\n"
        "        return latlon * torch.tensor([1.0, FACTOR])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.startswith("_geoclip_model")]:
        monkeypatch.delitem(sys.modules, name)
    try:
        found = load_geoclip()(np.array([[2.0, 48.0]]))
    finally:
        for name in [name for name in sys.modules if name.startswith("_geoclip_model")]:
            del sys.modules[name]
    np.testing.assert_allclose(found, [[48.0, 20.0]])
    shutil.rmtree(model.parent)


def test_geoclip_gives_what_its_authors_code_gives():
    """Batches, order and precision of the wrapper change nothing."""
    try:
        encode = load_geoclip()
    except EncoderUnavailableError:
        pytest.skip("the package geoclip is not here: run `make peers`")
    lonlat = sample_land_lonlat(1100, seed=0)
    found = encode(lonlat)
    assert found.shape == (1100, 512) and found.dtype == np.float32
    model = sys.modules["_geoclip_model"].LocationEncoder().eval()
    with torch.inference_mode():
        expected = model(torch.tensor(lonlat[-100:, [1, 0]], dtype=torch.float32))
    np.testing.assert_allclose(found[-100:], expected.numpy(), rtol=1e-4, atol=1e-5)


def test_published_weights_give_the_numbers_that_others_got():
    """The first eight of 256 numbers at four places, measured by others in float64."""
    cached = try_to_load_from_cache(
        PUBLISHED_MODELS[PUBLISHED],
        f"{PUBLISHED}.ckpt",
        revision=PINNED_REVISIONS.get(PUBLISHED),
    )
    if not isinstance(cached, str):
        pytest.skip(f"{PUBLISHED} is not in the cache of huggingface_hub")
    encoder = load_location_encoder(PUBLISHED).double()
    with torch.inference_mode():
        found = encoder(torch.tensor(LON_LAT, dtype=torch.float64))[:, :8]
    # at L = 40 the authors' harmonics are good to 2e-4 at these latitudes
    np.testing.assert_allclose(found.numpy(), FIRST_EIGHT, atol=0.02)


@pytest.mark.skipif(importlib.util.find_spec("geoclip") is None, reason="needs `make peers`")
def test_peers_are_scored_by_several_processes():
    """Encoders that only a function can make are made in each process, with the same scores."""
    knobs = {"tasks": ["climate_zone", "biome"], "protocols": ["random"], "probes": ["knn"]}

    def make(seed):
        return [Encoder("GeoCLIP", peers.load_geoclip())]

    one, two = (run_benchmark(make, num_points=200, num_jobs=n, **knobs) for n in (1, 2))
    pd.testing.assert_frame_equal(one.scores, two.scores)
