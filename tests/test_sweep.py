"""A sweep changes one knob at a time, and trains each variant on the same places."""

import numpy as np
import pandas as pd
import pytest

from satclip_lib.checkpoints.store import load_config, load_location_encoder
from satclip_lib.data.patch_store import get_lonlat, make_blue_marble_patches
from satclip_lib.location_encoder import LocationEncoderConfig
from satclip_lib.training.curve import CURVE_NAME
from satclip_lib.training.fit import PretrainingConfig
from satclip_lib.training.sweep import Variant, train_variants

SMALL = Variant(
    pretraining=PretrainingConfig(
        location_encoder=LocationEncoderConfig(num_degrees=3, hidden_dim=8, embed_dim=8),
        batch_size=32,
        num_epochs=2,
        learning_rate=1e-3,
        jitter_m=0.0,
    ),
    num_random_features=8,
)


def test_a_setting_is_found_where_it_belongs():
    """Settings of encoder, run and data change together, the original stays; others are errors."""
    changed = SMALL.replace(num_degrees=5, batch_size=16, size_px=4)
    assert changed.pretraining.location_encoder.num_degrees == 5
    assert (changed.pretraining.batch_size, changed.size_px) == (16, 4)
    assert changed.replace(num_degrees=3, batch_size=32, size_px=8) == SMALL
    assert SMALL.pretraining.location_encoder.num_degrees == 3
    with pytest.raises(ValueError, match=r"unknown setting droput; there is .*dropout"):
        SMALL.replace(droput=0.0)


def test_variants_share_places_and_differ_in_what_they_say(tmp_path):
    """Same locations and split, patches of the asked size, views and filters; runs not repeated."""
    dataset = make_blue_marble_patches(num_patches=100, seed=3)
    variants = {
        "base": SMALL,
        "4 px": SMALL.replace(size_px=4),
        "2 views": SMALL.replace(num_views=2),
        "2 filters": SMALL.replace(num_random_features=4),
        "another seed": SMALL.replace(seed=4),
        "fewer": SMALL.replace(num_locations=80),
    }
    trained = train_variants(variants, dataset, seed=1, folder=tmp_path)
    assert list(trained) == list(variants)
    configs = {name: load_config(path) for name, path in trained.items()}
    seeds = [config["provenance"]["pretraining"]["seed"] for config in configs.values()]
    assert seeds == [1, 1, 1, 1, 5, 1]
    assert len({c["provenance"]["features"] for c in configs.values()}) == 5
    stores = [np.load(path) for path in (tmp_path / "features").glob("*/features.npy")]
    shapes = sorted(features.shape for features in stores)
    assert shapes == [(1, 80, 14), (1, 100, 10), (1, 100, 14), (1, 100, 14), (2, 100, 14)]
    for path in (tmp_path / "features").glob("*/lonlat.npy"):
        lonlat = np.load(path)
        np.testing.assert_array_equal(lonlat, get_lonlat(dataset)[: len(lonlat)])
    curves = {name: pd.read_csv(path / CURVE_NAME).train_loss for name, path in trained.items()}
    assert curves["base"].nunique() == 2 and not curves["base"].equals(curves["2 views"])
    assert load_location_encoder(trained["base"]).config == SMALL.pretraining.location_encoder
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("model.safetensors")}
    assert train_variants(variants, dataset, seed=1, folder=tmp_path) == trained
    assert before == {path: path.stat().st_mtime_ns for path in before} and len(before) == 6


def test_patches_are_of_the_imagery_of_the_store(tmp_path):
    """Seasons at two scales stay that: twice 13 bands, means and deviations, and the filters."""
    dataset = make_blue_marble_patches(num_patches=60, imagery="seasons", zooms=(1, 2))
    (folder,) = train_variants({"base": SMALL}, dataset, seed=0, folder=tmp_path).values()
    assert load_config(folder)["image_encoder"]["num_bands"] == 26
    (features,) = (np.load(path) for path in (tmp_path / "features").glob("*/features.npy"))
    assert features.shape == (1, 60, 8 + 2 * 26)
