"""Pretrained peers: the networks of other projects with their own weights, where these are here."""

import sys
from unittest.mock import patch

import numpy as np
import pytest
import torch
from huggingface_hub import try_to_load_from_cache

from satclip_lib.checkpoints.download import PINNED_REVISIONS, PUBLISHED_MODELS
from satclip_lib.checkpoints.store import load_location_encoder
from satclip_lib.data.land import sample_land_lonlat
from satclip_lib.data.registry import load_registry
from satclip_lib.evaluation import peers
from satclip_lib.evaluation.baselines import EncoderUnavailableError
from satclip_lib.evaluation.peers import TORCHSPATIAL, load_geoclip, load_torchspatial

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


# Longitude, latitude, sum of absolute values, first number: of geoclip 1.3.0's own class, latitude
# first: LocationEncoder()(torch.tensor([[48.86, 2.35], [-3.0, -60.0], [35.69, 139.69]])).
OF_GEOCLIP = np.array([
    [2.35, 48.86, 4.462984, -0.01383411],
    [-60.0, -3.0, 7.084948, -0.003201409],
    [139.69, 35.69, 4.673975, 0.003340379],
])  # fmt: skip
# Sum, largest number and its index at three places, of TorchSpatial's own code (commit 9f8d833).
OF_TORCHSPATIAL = {
    "xyz": [(21.7932, 6.84199, 86), (24.2700, 5.40938, 139), (13.2649, 5.53594, 220)],
    "rff": [(961.8851, 23.91623, 70), (11.6975, 5.00435, 14), (9.1278, 1.93633, 14)],
    "sphereM": [(63.4780, 6.58069, 168), (98.5748, 6.10750, 103), (25.4867, 3.21291, 204)],
    "sphereC+": [(52.8876, 6.76144, 120), (81.6771, 7.30059, 128), (17.9341, 3.98534, 188)],
    "theory": [(-45.4283, 4.33707, 75), (-15.9446, 4.58229, 223), (-118.2704, 4.27763, 201)],
    "grid": [(384.6185, 8.32792, 171), (551.4796, 12.49224, 171), (128.9304, 6.11938, 174)],
}


@pytest.mark.parametrize("name", TORCHSPATIAL)
def test_embeddings_are_those_of_the_projects_own_code(name):
    """London, Tokyo and Manaus: the order of waves, scales of angles and activations are right."""
    try:
        encode = load_torchspatial(name)
    except EncoderUnavailableError as error:
        pytest.skip(f"the files of TorchSpatial are not here: {error}")
    found = encode(np.array([[-0.1, 51.5], [139.7, 35.7], [-60.0, -3.1]]))
    sums, largest, index = np.transpose(OF_TORCHSPATIAL[name.removeprefix("TorchSpatial ")])
    np.testing.assert_allclose(found.sum(axis=1), sums, rtol=1e-4)
    np.testing.assert_allclose(found.max(axis=1), largest, rtol=1e-5)
    np.testing.assert_array_equal(found.argmax(axis=1), index)
    lonlat = sample_land_lonlat(1100, seed=0)  # more than a batch
    np.testing.assert_allclose(encode(lonlat)[-3:], encode(lonlat[-3:]), atol=1e-4)
    assert encode(lonlat[:0]).shape == (0, 256)


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
    with patch.dict(sys.modules):
        for name in [name for name in sys.modules if name.startswith("_geoclip_model")]:
            del sys.modules[name]
        found = load_geoclip()(np.array([[2.0, 48.0]]))
    np.testing.assert_allclose(found, [[48.0, 20.0]])


def test_geoclip_gives_what_its_authors_code_gives():
    """Three places among many, in two batches, have the numbers of the authors' own class."""
    try:
        encode = load_geoclip()
    except EncoderUnavailableError:
        pytest.skip("the package geoclip is not here: run `make peers`")
    lonlat = np.concatenate([sample_land_lonlat(1100, seed=0), OF_GEOCLIP[:, :2]])
    found = encode(lonlat)
    assert found.shape == (1103, 512) and found.dtype == np.float32
    np.testing.assert_allclose(np.abs(found[-3:]).sum(axis=1), OF_GEOCLIP[:, 2], rtol=1e-4)
    np.testing.assert_allclose(found[-3:, 0], OF_GEOCLIP[:, 3], rtol=1e-3)


def test_published_weights_give_the_numbers_that_others_got():
    """The first eight of 256 numbers at four places, measured by others in float64."""
    repository, revision = PUBLISHED_MODELS[PUBLISHED], PINNED_REVISIONS.get(PUBLISHED)
    cached = try_to_load_from_cache(repository, f"{PUBLISHED}.ckpt", revision=revision)
    if not isinstance(cached, str):
        pytest.skip(f"{PUBLISHED} is not in the cache of huggingface_hub")
    encoder = load_location_encoder(PUBLISHED).double()
    with torch.inference_mode():
        found = encoder(torch.tensor(LON_LAT, dtype=torch.float64))[:, :8]
    # at L = 40 the authors' harmonics are good to 2e-4 at these latitudes
    np.testing.assert_allclose(found.numpy(), FIRST_EIGHT, atol=0.02)
