"""Images find places, and places find images; errors are measured on the sphere."""

import copy

import numpy as np
import pytest
import torch
from small import make_encoder

from satclip_lib.data import features
from satclip_lib.data.features import cache_features
from satclip_lib.data.images import load_images
from satclip_lib.data.land import is_land
from satclip_lib.data.patch_store import make_blue_marble_patches
from satclip_lib.embedding.localization import (
    Gallery,
    find_within,
    localize,
    make_gallery,
    retrieve,
    score_localization,
)
from satclip_lib.image_encoder import RandomConvolutionalFeatures
from satclip_lib.model import SatCLIP
from satclip_lib.sphere import compute_distance_km, make_equal_area_lonlat


@pytest.fixture(scope="module")
def dataset():
    """Thirty Blue Marble patches."""
    return make_blue_marble_patches(num_patches=30)


@pytest.fixture(scope="module")
def model(dataset):
    """An untrained model."""
    images = RandomConvolutionalFeatures.fit(load_images(dataset), num_random_features=8)
    return SatCLIP(images, make_encoder(num_degrees=5, embed_dim=12)).eval()


@pytest.fixture
def store(dataset, model, tmp_path):
    """Their features."""
    return cache_features(dataset, model.image_encoder, folder=tmp_path / "features")


def test_ranking_is_that_of_the_model(dataset, model):
    """Candidates are the places whose logits are the largest, best first."""
    gallery = make_gallery(model, num_points=500)
    images = load_images(dataset, slice(0, 4))
    found = localize(images, model, gallery, num_candidates=5)
    with torch.no_grad():
        logits = model(images, torch.from_numpy(gallery.lonlat)) / model.logit_scale.exp()
    np.testing.assert_allclose(found.similarity, logits, atol=1e-5)
    best = logits.topk(5, dim=1)
    ranked = found.ranked
    assert ranked.image.tolist() == np.repeat(range(4), 5).tolist()
    assert ranked["rank"].tolist() == list(range(5)) * 4
    np.testing.assert_allclose(ranked.similarity, best.values.ravel(), atol=1e-5)
    np.testing.assert_array_equal(ranked[["lon", "lat"]], gallery.lonlat[best.indices.ravel()])
    np.testing.assert_array_equal(found.best_lonlat, gallery.lonlat[best.indices[:, 0]])


def test_large_images_are_encoded_in_parts(dataset, model, monkeypatch):
    """As many at once as memory is meant to hold."""
    images, seen = load_images(dataset), []
    expected = localize(images, model, make_gallery(model, num_points=300)).similarity
    monkeypatch.setattr(features, "BATCH_BYTES", 7 * 4 * images[0].numel())
    encoder = model.image_encoder
    with encoder.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0]))):
        found = localize(images, model, make_gallery(model, num_points=300))
    assert seen == [7, 7, 7, 7, 2]
    np.testing.assert_allclose(found.similarity, expected, atol=1e-6)


def test_cached_features_are_images(dataset, model, store):
    """Rows of a feature store give what the images give."""
    gallery = make_gallery(model, num_points=300)
    rows = np.array([7, 3])
    by_images = localize(load_images(dataset, rows), model, gallery)
    by_features = localize(store, model, gallery, rows=rows)
    np.testing.assert_allclose(by_features.similarity, by_images.similarity, atol=1e-5)
    by_rows = localize(load_images(dataset), model, gallery, rows=rows)
    np.testing.assert_allclose(by_rows.similarity, by_images.similarity, atol=1e-5)
    assert localize(store, model, gallery, num_candidates=1).similarity.shape[0] == 30


def test_retrieval_is_the_other_direction(dataset, model, store):
    """The patches a place gets are those that suit it most among the rows allowed."""
    rows = np.array([20, 4, 11, 9])
    lonlat = np.array([[10.0, 50.0], [-60.0, 0.0]])
    found = retrieve(lonlat, store, model, num_results=3, rows=rows)
    with torch.no_grad():
        logits = model(load_images(dataset, rows), torch.from_numpy(lonlat)).T
    expected = rows[logits.topk(3, dim=1).indices]
    np.testing.assert_array_equal(found.patch.to_numpy().reshape(2, 3), expected)
    np.testing.assert_array_equal(found[["lon", "lat"]], store.lonlat[expected.ravel()])
    assert found.place.tolist() == [0, 0, 0, 1, 1, 1]
    assert len(retrieve(lonlat, store, model)) == 20


def test_retrieved_patches_can_be_kept_apart(model, store):
    """The best comes first, no two are nearer than asked, and too many are refused."""
    place = np.array([[10.0, 50.0]])
    found = retrieve(place, store, model, num_results=3, apart_km=2000)
    assert found.patch[0] == retrieve(place, store, model).patch[0]
    taken = found[["lon", "lat"]].to_numpy()
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert compute_distance_km(taken[[i]], taken[[j]]) >= 2000
    with pytest.raises(ValueError, match="change num_results or apart_km"):
        retrieve(place, store, model, num_results=3, apart_km=20_000)


def test_galleries_are_found_again(model, tmp_path, monkeypatch):
    """A gallery is embedded once per model and set of places."""
    first = make_gallery(model, num_points=300, folder=tmp_path)
    monkeypatch.setattr("satclip_lib.embedding.localization.embed", lambda *_: 1 / 0)
    again = make_gallery(model, num_points=300, folder=tmp_path)
    np.testing.assert_array_equal(first.embeddings, again.embeddings)
    with pytest.raises(ZeroDivisionError):
        make_gallery(model, num_points=301, folder=tmp_path)
    assert is_land(first.lonlat).all()


@pytest.mark.parametrize(
    ("region", "inside", "outside"),
    [
        ("Fiji", [(178.0, -17.8), (179.2, -16.6)], [(179.0, -20.0), (0.0, -17.0)]),
        ("new zealand", [(175.0, -39.0)], [(151.0, -33.8)]),
        ("FRA", [(2.35, 48.86), (-53.0, 4.0)], [(-0.13, 51.5)]),
        ((-10, 35, 30, 60), [(2.35, 48.86), (-10.0, 35.0)], [(2.35, 61.0), (31.0, 40.0)]),
        ((170, -50, -170, 0), [(175.0, -39.0), (-175.0, -20.0)], [(0.0, -20.0), (175.0, 1.0)]),
    ],
)
def test_regions_hold_their_places(region, inside, outside):
    """Boxes and countries hold what lies in them, and nothing else, across 180 E too."""
    assert find_within(np.array(inside), region).all()
    assert not find_within(np.array(outside), region).any()


def test_regions_that_are_none_are_refused(model):
    """The message says what a region is, or that it holds no point."""
    for region, message in {
        "Frence": "no country 'Frence': give a name such as france",
        (10, 60, 20, 50): "a box is",
        (0, 0, 361, 10): "a box is",
        (0, 0, 10): "a box is",
        (-30, 0, -29, 1): "none of 1000 points of the globe",
    }.items():
        with pytest.raises(ValueError, match=message):
            make_gallery(model, num_points=1000, within=region)


def test_a_gallery_of_other_weights_is_refused(dataset, model, tmp_path):
    """A gallery knows its encoder, also when found again; a hand-made one is taken if it fits."""
    weights = make_encoder(seed=1, num_degrees=5, embed_dim=12)
    other = SatCLIP(model.image_encoder, weights).eval()
    images = load_images(dataset, slice(0, 2))
    for folder in (None, tmp_path, tmp_path):
        gallery = make_gallery(model, num_points=300, folder=folder)
        localize(images, model, gallery)
        with pytest.raises(ValueError, match="make the gallery with this model"):
            localize(images, other, gallery)
    localize(images, other, Gallery(gallery.lonlat, gallery.embeddings))
    with pytest.raises(ValueError, match="3 numbers, the model of 12: make the gallery with"):
        localize(images, model, Gallery(np.zeros((1, 2)), np.ones((1, 3), np.float32)))


def test_features_of_another_encoder_are_refused(dataset, model, tmp_path):
    """As many features as the model wants are not enough: they must come from its image encoder."""
    images = load_images(dataset)
    other = RandomConvolutionalFeatures.fit(images, num_random_features=8, seed=1)
    store = cache_features(dataset, other, folder=tmp_path)
    with pytest.raises(ValueError, match="made by another image encoder than the model's"):
        localize(store, model, make_gallery(model, num_points=300))
    with pytest.raises(ValueError, match="made by another image encoder than the model's"):
        retrieve(np.zeros((1, 2)), store, model)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_images_take_the_precision_of_the_model(dataset, model, store, dtype):
    """Images and features are cast to it, and embeddings come back as float32."""
    cast = copy.deepcopy(model).to(dtype)
    gallery = make_gallery(cast, num_points=300)
    rows = np.array([7, 3])
    expected = localize(store, model, make_gallery(model, num_points=300), rows=rows)
    for images, options in ((store, {"rows": rows}), (load_images(dataset, rows), {})):
        found = localize(images, cast, gallery, **options)
        assert found.image_embeddings.dtype == np.float32
        np.testing.assert_allclose(found.similarity, expected.similarity, atol=0.05)


@pytest.mark.parametrize("num_points", [1, 2, 1000, 4001])
def test_points_share_the_sphere_evenly(num_points):
    """Each zone of equal area has its share of the points, and so has each wedge."""
    lonlat = make_equal_area_lonlat(num_points)
    assert lonlat.shape == (num_points, 2)
    assert (np.abs(lonlat) <= [180, 90]).all()
    zones = np.histogram(np.sin(np.radians(lonlat[:, 1])), bins=10, range=(-1, 1))[0]
    assert np.ptp(zones) <= 1
    wedges = np.histogram(lonlat[:, 0], bins=8, range=(-180, 180))[0]
    assert np.ptp(wedges) <= 4
    with pytest.raises(ValueError, match="at least 1, got 0"):
        make_equal_area_lonlat(0)


def test_scores_count_what_is_near_enough():
    """Median and shares of errors of 0, 1, 5, 20 and 90 degrees."""
    lonlat = np.zeros((5, 2))
    found = np.stack([np.zeros(5), [0.0, 1.0, 5.0, 20.0, 90.0]], axis=1)
    scores = score_localization(lonlat, found)
    assert scores.median_km == pytest.approx(5 * 111.195, rel=1e-5)
    assert scores.drop("median_km").tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8])
