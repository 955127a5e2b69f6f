"""The paper profile from tar shards to the atlas, with a small data set and untrained weights."""

import json
import os
from pathlib import Path

import jaxtyping
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import processes
import pytest
import rasterio
import torch
from cells import STEMS, run_cells
from folders import hash_files

from satclip_lib.checkpoints.store import load_config
from satclip_lib.data.moco import make_moco_encoder
from satclip_lib.data.patch_store import open_patches
from satclip_lib.data.quality import load_report
from satclip_lib.data.s2_folder import list_patches, read_patch
from satclip_lib.data.sentinel2 import BAND_NAMES
from satclip_lib.files import Workspace
from satclip_lib.image_encoder import BACKBONES
from satclip_lib.plotting.figures import FIGURES
from tools import make_rehearsal as maker
from tools import train_recipes as trainer
from tools.make_rehearsal import BANDS, FAULTS, make_rehearsal
from tools.run_notebook import load_environment

RECIPE = "paper-l10 --image-encoder resnet18 --num-epochs 2 --batch-size 16"
SMALL = {  # what is still smaller than in the profile; edits are of code
    "00_quickstart": {"num_points": 1000},
    "01_dataset_construction": {
        "num_patches": 500,
        "val_fraction": 0.5,
        "edits": [("num_points=2_000", "num_points=200")],
    },
    "02_pretraining": {
        "batch_size": 16,
        "num_epochs": 1,
        "edits": [("num_steps, num_pairs = 60", "num_steps, num_pairs = 6")],
    },
    "03_embedding_space": {
        "num_points": 500,
        "spacing_deg": 10,
        "edits": [("sample_land_lonlat(5_000", "sample_land_lonlat(500")],
    },
    "04_downstream_tasks": {"num_points": 300, "tasks": ["air_temperature", "climate_zone"]},
    "05_geographic_generalization": {"num_points": 400, "tasks": ["population_density", "country"]},
    "06_biome_clustering": {"num_points": 300, "num_atlas_points": 300},
    "07_image_localization": {"num_places": 4000},
    "08_ablations": {"num_locations": 60, "num_epochs": 1, "batch_size": 16, "num_points": 200},
}


def _lay_out_at_once(embeddings: np.ndarray, **settings) -> np.ndarray:
    """Two random projections in the place of UMAP."""
    directions = np.random.default_rng(0).normal(size=(embeddings.shape[1], 2))
    return (embeddings @ directions).astype(np.float32)


def _make_small(folder: Path, mirror: str) -> None:
    os.environ["SATCLIP_DATA_MIRROR"] = mirror  # a process has the environment of its server
    make_rehearsal(folder, num_patches=60, num_shards=5)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A project folder with the data set and the weights, as the profile's environment has it."""
    home = tmp_path_factory.mktemp("rehearsal")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SATCLIP_HOME", str(home))
        patch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as for a user
        make_rehearsal(home / "data/rehearsal/raw", num_patches=60, num_shards=5)
        yield home


@pytest.fixture
def in_home(home, monkeypatch):
    """Workspace of the rehearsal, in the environment of its profile."""
    monkeypatch.setenv("SATCLIP_HOME", str(home))
    for name, value in load_environment("rehearsal").items():
        monkeypatch.setenv(name, value)
    return Workspace("rehearsal")


def test_bands_are_those_of_the_genuine_patches(label_files):
    """The table in the tool is what a regression on the genuine patches gives."""
    logs, textures = [], []
    for path in sorted((label_files / "s2-sample/images").glob("*.tif")):
        with rasterio.open(path) as tif:
            values = np.log(np.maximum(tif.read(), 1) / 10_000)
        logs.append(values.mean(axis=(1, 2)))
        textures.append(values.std(axis=(1, 2)))
    logs = np.array(logs)  # (patches, bands)
    red, green, blue = logs[:, [3, 2, 1]].T
    looks = [look - look.mean() for look in (red + green + blue, green - red)]
    inputs = np.stack([np.ones(len(logs)), *(look / look.std() for look in looks)], axis=1)
    factors = np.linalg.lstsq(inputs, logs, rcond=None)[0]
    rest = (logs - inputs @ factors).std(axis=0)
    measured = np.stack([*factors, rest, np.median(textures, axis=0)], axis=1)
    np.testing.assert_allclose(list(BANDS.values()), measured, atol=0.0051)
    assert tuple(BANDS) == BAND_NAMES


def test_too_few_patches_or_other_settings_are_errors(home):
    """Faults need room, and a folder that was begun differently is not mixed with."""
    with pytest.raises(ValueError, match=r"at least 20 and 4 per shard.* got 19 patches in 3"):
        make_rehearsal(home, num_patches=19, num_shards=3)
    with pytest.raises(ValueError, match=r"was made with .*'num_patches': 60.* delete it"):
        make_rehearsal(home / "data/rehearsal/raw", num_patches=61, num_shards=5)


def test_weights_are_used_and_say_that_they_are_not_trained(in_home):
    """Each backbone takes 13 bands, and tells places apart."""
    images = torch.rand(2, 13, 224, 224)
    for name in BACKBONES:
        first, second = make_moco_encoder(name)(images)
        assert first.isfinite().all() and not torch.allclose(first, second)
    rows = json.loads((in_home.data / "raw/registry.json").read_text())
    assert all("not trained" in row["content"] for row in rows)


def test_a_killed_maker_ends_with_the_same_files(home, tmp_path):
    """Killed with kill -9 while it writes shards, and run again with two of the weights there."""
    raw, mirror = tmp_path / "raw", os.environ.get("SATCLIP_DATA_MIRROR", "")
    (raw / "moco").mkdir(parents=True)
    for name in ("resnet50.pth", "vit_small_patch16_224.pth"):
        os.link(home / "data/rehearsal/raw/moco" / name, raw / "moco" / name)
    make = (_make_small, raw, mirror)
    assert processes.find_exit_code(processes.die_at_step, 11, *make) == -9
    assert 0 < len(list((raw / "s2-100k/data").glob("shard-*.tar"))) < 5
    assert processes.find_exit_code(*make) == 0
    expected, found = hash_files(home / "data/rehearsal/raw"), hash_files(raw)
    expected.pop("registry.json"), found.pop("registry.json")  # it names the folder
    assert found == expected


@pytest.mark.slow
def test_from_shards_to_the_atlas(in_home, coarse_figures, monkeypatch):
    """Every notebook runs, after one recipe on two processes; what is bad is named and counted."""
    monkeypatch.setattr(trainer, "read_profile", lambda profile: {"recipes": [RECIPE]})
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("satclip_lib.evaluation.baselines.NUM_FITTING_IMAGES", 500)
    # UMAP compiles for long and knows nothing of profiles: the smoke run has it
    monkeypatch.setattr("satclip_lib.evaluation.projection.compute_umap", _lay_out_at_once)
    first, *others = STEMS[1], STEMS[2], STEMS[0], *STEMS[3:]
    run_cells(first, profile="rehearsal", **SMALL[first])
    _check_store(in_home)
    trainer.train_recipes("rehearsal")
    curve = pd.read_csv(in_home.checkpoints / "resnet18-l10/training_curve.csv")
    assert len(curve) == 2 and curve.train_loss.notna().all()
    for stem in others:
        names = run_cells(stem, profile="rehearsal", **SMALL[stem])
        plt.close("all")
        if stem.startswith("07"):
            compared = names["compared"].weights
    assert list(compared.index) == [
        "resnet18-l10",
        *(f"vit_small_patch16_224-l{n}" for n in (10, 40)),
    ]
    assert compared.str.startswith("not trained").all()
    for figure_id in FIGURES:
        assert (in_home.figures / f"{figure_id}.png").stat().st_size > 5_000
    assert (in_home.figures / "biome_atlas.html").is_file()
    for name in compared.index:
        assert load_config(in_home.checkpoints / name)["image_encoder"]["num_bands"] == 13


def _check_store(workspace: Workspace) -> None:
    """Bad patches have the planted reasons; the others are in the store, bit for bit."""
    raw = workspace.data / "raw"
    report = load_report(workspace.patches).set_index("fn")
    planted = json.loads((raw / "planted.json").read_text())
    assert report.reason[report.reason != ""].to_dict() == planted
    assert set(planted.values()) == set(FAULTS)
    store = open_patches(workspace.patches)
    files = {file.fn: file for file in list_patches(raw / "s2-100k")}
    assert set(store.fn.values) == set(files) - set(planted)
    for number in range(0, store.sizes["patch"], 7):
        patch = read_patch(files[store.fn.values[number]])
        assert np.array_equal(store.patches[number].values, patch)
    genuine = [name for name in files if int(name[6:-4]) < maker.FIRST_NUMBER]
    assert not set(genuine) & set(planted)
