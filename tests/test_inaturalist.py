"""iNaturalist 2018 is read from the competition's own files, with image features if they are."""

import json

import numpy as np
import pytest

from satclip_lib.evaluation.baselines import Encoder
from satclip_lib.evaluation.benchmark import run_benchmark
from satclip_lib.evaluation.positional import encode_raw
from satclip_lib.evaluation.tasks import TaskUnavailableError, load_task

NUM_PHOTOS = 60  # in each part


@pytest.fixture
def competition(workspace, monkeypatch):
    """The four files, small: a species per hemisphere, photos 0 and 100 without a place."""
    monkeypatch.delenv("SATCLIP_DATA_MIRROR", raising=False)
    folder = workspace / "data/raw/inaturalist_2018"
    (folder / "inat2018_locations").mkdir(parents=True)
    for part, start in (("train", 0), ("val", 100)):
        ids = range(start, start + NUM_PHOTOS)
        annotations = [{"id": i, "image_id": i, "category_id": 5 + i % 2} for i in ids]
        (folder / f"{part}2018.json").write_text(json.dumps({"annotations": annotations}))
        places = [{"id": i, "lon": i / 2, "lat": 40 if i % 2 else -40, "date": ""} for i in ids]
        places[0] |= {"lon": None, "lat": None}
        name = f"{part}2018_locations.json"
        path = folder / ("inat2018_locations" if part == "val" else "") / name
        path.write_text(json.dumps(places))
    return folder


def test_photos_have_their_species_and_place(competition):
    """Labels stay with their places; photos without a place are left out."""
    data = load_task("inaturalist_2018")
    assert len(data.target) == 2 * NUM_PHOTOS - 2 and data.class_names == ("5", "6")
    np.testing.assert_array_equal(data.lonlat[:, 1] > 0, data.target == 1)
    assert data.features is None and "118 of 118 photos" in data.source


def test_image_features_stand_beside_every_embedding(competition):
    """Features are found by image id; what only they tell is predicted."""
    rng = np.random.default_rng(0)
    ids = rng.permutation(np.r_[0:NUM_PHOTOS, 100 : 100 + NUM_PHOTOS])
    features = np.stack([ids % 2, rng.normal(size=len(ids))], axis=1).astype(np.float32)
    np.savez(competition / "features.npz", image_id=ids, features=features)
    data = load_task("inaturalist_2018")
    np.testing.assert_array_equal(data.features[:, 0] > 0.5, data.target == 1)
    constant = Encoder("nothing", lambda lonlat: np.zeros((len(lonlat), 1)))
    result = run_benchmark(
        [constant, Encoder("raw", encode_raw)], ["inaturalist_2018"], protocols=["random"]
    )
    assert result.scores[result.scores.probe == "linear"].score.min() == 1


def test_missing_files_are_named(competition):
    """Without one of the files the task is absent, and says which one and where it belongs."""
    (competition / "val2018.json").unlink()
    with pytest.raises(TaskUnavailableError, match=r"val2018\.json of the iNaturalist.*inat_comp"):
        load_task("inaturalist_2018")
