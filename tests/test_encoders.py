"""The registry of encoders: what is present works, what is absent says why."""

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small import make_encoder, make_model

from satclip_lib.checkpoints.store import save_pretrained
from satclip_lib.data.land import sample_land_lonlat
from satclip_lib.evaluation import baselines, encoders, peers
from satclip_lib.evaluation.baselines import EncoderUnavailableError
from satclip_lib.evaluation.encoders import ENCODERS, list_encoders, make_encoders


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    """A folder with a small rcf-l10, an empty cache of published weights, and few filters."""
    monkeypatch.setattr(baselines, "NUM_FITTING_IMAGES", 600)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    save_pretrained(make_model(num_degrees=10), tmp_path / "rcf-l10")
    return tmp_path


def test_what_is_present_embeds_and_what_is_absent_says_why(checkpoints):
    """Every entry either gives finite features of all points, or a reason."""
    lonlat = sample_land_lonlat(30, seed=0)
    present = {encoder.name: encoder for encoder in make_encoders(checkpoints)}
    table = list_encoders(checkpoints).set_index("encoder")
    assert list(table.index) == list(ENCODERS) and table.source.str.len().min() > 0
    for name, reason in table["absent because"].items():
        assert (name in present) == (reason == "")
    assert {"raw lon/lat", "harmonics L=10", "untrained L=10", "SatCLIP L=10"} <= set(present)
    assert len(present) >= 15
    for encoder in present.values():
        features = encoder.encode(lonlat)
        assert features.ndim == 2 and len(features) == 30 and np.isfinite(features).all()
    reasons = table["absent because"]
    assert "run notebook 02" in reasons["SatCLIP L=40"]
    assert "load_location_encoder('satclip-vit16-l40') downloads it" in reasons["satclip-vit16-l40"]
    for name in ("GeoCLIP", *peers.TORCHSPATIAL):
        assert reasons[name] in ("", "run `make peers`")
    of_others = table[(table.family == "pretrained") & ~table.source.str.startswith("this")]
    assert len(of_others) == 13 and of_others.licence.str.len().min() > 0


def test_trained_and_untrained_differ_only_in_their_weights(checkpoints):
    """The twin has the architecture of the checkpoint, and the seed decides its weights."""
    lonlat = sample_land_lonlat(30, seed=0)
    names = ["untrained L=10", "SatCLIP L=10"]
    twin, trained = make_encoders(checkpoints, names=names, seed=0)
    _, again = make_encoders(checkpoints, names=names, seed=1)
    (other,) = make_encoders(checkpoints, names=names[:1], seed=1)
    assert twin.encode(lonlat).shape == trained.encode(lonlat).shape == (30, 6)
    np.testing.assert_array_equal(trained.encode(lonlat), again.encode(lonlat))
    assert not np.allclose(twin.encode(lonlat), other.encode(lonlat))


def test_the_image_encoder_does_not_matter(checkpoints):
    """A checkpoint that is named after another image encoder is found; the last trained counts."""
    first = checkpoints / "rcf-l10"
    (own,) = make_encoders(checkpoints, names=["SatCLIP L=10"])
    save_pretrained(make_encoder(seed=1, num_degrees=10), checkpoints / "resnet18-l10")
    os.utime(first / "config.json", (0, 0))
    (other,) = make_encoders(checkpoints, names=["SatCLIP L=10"])
    lonlat = sample_land_lonlat(3, seed=0)
    assert not np.allclose(own.encode(lonlat), other.encode(lonlat))


def test_image_features_are_those_of_the_place(checkpoints):
    """The features of a place do not depend on the others, and differ between places."""
    (encoder,) = make_encoders(checkpoints, names=["image features"])
    lonlat = sample_land_lonlat(2100, seed=0)
    features = encoder.encode(lonlat)
    assert features.shape == (2100, 564)
    np.testing.assert_allclose(features[7:9], encoder.encode(lonlat[7:9]), atol=1e-4)
    assert np.abs(features[0] - features[1]).max() > 0.1


def test_an_encoder_that_is_named_but_not_there_is_an_error(checkpoints, monkeypatch):
    """A misspelt name is answered with all names, an absent encoder with what brings it."""
    with pytest.raises(ValueError, match=r"unknown encoder SatClip; there is raw lon/lat"):
        make_encoders(checkpoints, names=["SatClip"])
    monkeypatch.setitem(ENCODERS, "GeoCLIP", encoders._peer("GeoCLIP", _fail, "", "MIT"))
    message = r"not on this machine: GeoCLIP \(run `make peers`\); list_encoders\(\) tells which"
    with pytest.raises(EncoderUnavailableError, match=message):
        make_encoders(checkpoints, names=["raw lon/lat", "GeoCLIP"])
    with pytest.raises(EncoderUnavailableError, match=r"SatCLIP L=40 \(no .*`make pretrain`\)"):
        make_encoders(checkpoints, names=["SatCLIP L=40"])
    assert "GeoCLIP" not in [encoder.name for encoder in make_encoders(checkpoints)]


def _fail():
    raise EncoderUnavailableError("run `make peers`")


def test_readme_scores_a_table_in_a_fresh_clone(tmp_path, monkeypatch, capsys):
    """The lines of the README run with nothing trained, and print the scores of three encoders."""
    page = (Path(__file__).parents[1] / "README.md").read_text()
    (code,) = re.findall(r"## Score a task of your own\n\n```python\n(.*?)```", page, re.DOTALL)
    places = pd.DataFrame(sample_land_lonlat(300, seed=0), columns=["lon", "lat"])
    places.assign(**{"yield": places.lat.abs()}).to_csv(tmp_path / "mine.csv", index=False)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    printed = capsys.readouterr().out
    for name in ("inverse distance", "untrained L=40", "SatCLIP L=40 + retrieval"):
        assert len(re.findall(rf"{re.escape(name)} +-?[\d.]+$", printed, re.MULTILINE)) == 2
