"""Four seasons and night lights: the right way up, in step with each other, dark where it is."""

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import map_coordinates

from satclip_lib.data import seasons
from satclip_lib.data.blue_marble import cut_patches, list_bands
from satclip_lib.data.land import sample_land_lonlat
from satclip_lib.data.registry import fetch_file
from satclip_lib.data.seasons import BAND_NAMES, load_lights, load_season, load_seasons
from satclip_lib.evaluation import baselines


def _look_at(places, *, size_px=8):
    """Mean of each band around each place, by name of the band."""
    patches = cut_patches(np.array(places), size_px=size_px, imagery="seasons")
    return dict(zip(BAND_NAMES, patches.mean(axis=(2, 3)).T, strict=True))


def test_bands_are_named_and_in_order():
    """Three colours per season, then lights; the pixels are those of the composites, read-only."""
    assert BAND_NAMES[:4] == ("red_jan", "green_jan", "blue_jan", "red_apr")
    assert len(BAND_NAMES) == 13 and BAND_NAMES[-1] == "lights"
    pixels = load_seasons()
    assert load_seasons() is pixels and not pixels.flags.writeable
    assert pixels.shape == (2700, 5400, 13) and pixels.dtype == np.uint8
    for number, season in enumerate(seasons.SEASONS):
        bands = pixels[::50, ::50, 3 * number : 3 * number + 3]
        np.testing.assert_array_equal(bands, load_season(season)[::50, ::50])
    np.testing.assert_array_equal(pixels[::50, ::50, 12], load_lights()[::50, ::50])
    with pytest.raises(ValueError, match="jan, apr, jul, oct, got 'may'"):
        load_season("may")


def test_places_look_as_they_do_in_each_season():
    """Siberia is white in January and green in July; the Sahel greens by July; deserts stay."""
    siberia, sahel, sahara = 0, 1, 2
    look = _look_at([(110.0, 60.0), (5.0, 12.0), (10.0, 24.0)])
    assert look["blue_jan"][siberia] > 120 > 60 > look["blue_jul"][siberia]
    assert look["green_jul"][siberia] > look["red_jul"][siberia]
    greenness = {s: look[f"green_{s}"] - look[f"red_{s}"] for s in seasons.SEASONS}
    assert greenness["jul"][sahel] > greenness["apr"][sahel] + 15
    reds = [look[f"red_{s}"][sahara] for s in seasons.SEASONS]
    assert min(reds) > 150 and max(reds) - min(reds) < 15


def test_cities_shine_where_they_are():
    """Within two pixels of a city there is light, as bright as any within a degree."""
    cities = [(2.35, 48.86), (139.7, 35.7), (-115.15, 36.17), (115.86, -31.95), (28.05, -26.2)]
    near, around = (
        cut_patches(np.array(cities), size_px=size, imagery="seasons")[:, -1].max(axis=(1, 2))
        for size in (4, 30)
    )
    assert (near > 200).all() and (near + 20.0 > around).all()


def test_empty_land_sea_and_ice_are_dark():
    """The blue of land, ice and sea is no light, nor is what compression leaves over forests."""
    places = [(10.0, 24.0), (-62.0, -5.0), (-40.0, 72.0), (90.0, -80.0), (-150.0, 0.0)]
    places += [(100.0, 66.0), (22.0, 0.0)]  # the taiga of Evenkia, the Congo basin
    assert _look_at(places, size_px=16)["lights"].max() == 0


def test_lights_are_interpolated_also_across_the_date_line():
    """Every pixel is the bilinear mean of the four around it in the picture, on a globe."""
    with Image.open(fetch_file(seasons.LIGHTS_FILE)) as picture:
        red, _, blue = np.moveaxis(np.asarray(picture, dtype=float), -1, 0)
    light = 255 * np.log1p(np.maximum(red - 0.6 * blue - 3, 0)) / np.log(81)
    rng = np.random.default_rng(0)
    rows = rng.integers(400, 1700, 20_000)
    columns = rng.integers(-100, 100, 20_000) % 5400  # 6 degrees on both sides
    rows[:10_000], columns[:10_000] = rng.integers(0, 2700, 10_000), rng.integers(0, 5400, 10_000)
    at = [(rows + 0.5) * 2048 / 2700 - 0.5, (columns + 0.5) * 4096 / 5400 - 0.5]
    expected = map_coordinates(
        np.pad(light, ((1, 1), (1, 1)), mode="wrap"), [at[0] + 1, at[1] + 1], order=1
    )
    inside = (rows > 0) & (rows < 2699)
    np.testing.assert_allclose(load_lights()[rows, columns][inside], expected[inside], atol=0.51)
    assert expected.max() > 150


def test_wider_scales_are_means_of_squares():
    """A pixel at scale 8 is the mean of 8 x 8 pixels of a patch of 64; bands come by scale."""
    lonlat = np.array([(2.35, 48.86), (180.0, 67.0), (-179.9, -17.0), (10.0, 89.0), (0.0, -90.0)])
    patches = cut_patches(lonlat, imagery="seasons", zooms=(1, 2, 8))
    assert patches.shape == (5, 39, 8, 8) and patches.dtype == np.uint8
    names = list_bands("seasons", zooms=(1, 2, 8))
    assert names[:13] == BAND_NAMES and names[13] == "red_jan_x2" and names[-1] == "lights_x8"
    for scale, zoom in enumerate((1, 2, 8)):
        wide = cut_patches(lonlat, size_px=8 * zoom, imagery="seasons")
        means = wide.reshape(5, 13, 8, zoom, 8, zoom).mean(axis=(3, 5))
        np.testing.assert_allclose(patches[:, 13 * scale : 13 * scale + 13], means, atol=0.5)


def test_scales_are_cut_alike_in_batches(monkeypatch):
    """How many patches are averaged at once changes nothing; none give none."""
    lonlat = np.random.default_rng(0).uniform([-180, -90], [180, 90], (20, 2))
    at_once = cut_patches(lonlat, imagery="seasons", zooms=(1, 4))
    monkeypatch.setattr("satclip_lib.data.blue_marble.BATCH_BYTES", 40_000)
    np.testing.assert_array_equal(cut_patches(lonlat, imagery="seasons", zooms=(1, 4)), at_once)
    assert cut_patches(lonlat[:0], imagery="seasons", zooms=(1, 8)).shape == (0, 26, 8, 8)


def test_image_features_are_of_the_bands_and_scales_asked_for(monkeypatch):
    """Band means among the features are those of the bands that are kept, at both scales."""
    monkeypatch.setattr(baselines, "NUM_FITTING_IMAGES", 100)
    places = np.array([(2.35, 48.86), (10.0, 24.0), (110.0, 60.0)])
    kept = [i for i, name in enumerate(BAND_NAMES * 2) if name != "lights"]
    features = baselines.encode_image_at(
        places, imagery="seasons", zooms=(1, 8), num_random_features=8, without=("lights",)
    )
    assert features.shape == (3, 8 + 2 * len(kept))

    def mean_bands(lonlat):
        patches = cut_patches(lonlat, imagery="seasons", zooms=(1, 8))[:, kept]
        return patches.mean(axis=(2, 3)) / 255

    fitting = mean_bands(sample_land_lonlat(100, seed=0))
    expected = (mean_bands(places) - fitting.mean(axis=0)) / fitting.std(axis=0)
    np.testing.assert_allclose(features[:, 8 : 8 + len(kept)], expected, atol=1e-3)
