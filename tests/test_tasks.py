"""Downstream tasks: known places have known labels, and points are where they are said to be."""

import numpy as np
import pytest
import xarray as xr

from satclip_lib.data import labels, natural_earth
from satclip_lib.data.land import sample_land_lonlat
from satclip_lib.data.natural_earth import lookup_regions
from satclip_lib.data.registry import FileUnavailableError, HashMismatchError
from satclip_lib.evaluation.tasks import (
    MIN_POINTS_PER_CLASS,
    TASKS,
    TaskUnavailableError,
    load_task,
)

TRACKED = [name for name in TASKS if name not in ("habitat", "inaturalist_2018")]


@pytest.fixture
def mirror(label_files, monkeypatch):
    """The originals are at hand."""
    monkeypatch.setenv("SATCLIP_DATA_MIRROR", str(label_files))
    return label_files


@pytest.fixture
def clone(monkeypatch):
    """Nothing is at hand but the repository, and there is no network."""
    monkeypatch.delenv("SATCLIP_DATA_MIRROR", raising=False)


@pytest.mark.parametrize("name", TRACKED)
def test_points_and_targets_are_well_formed(clone, name):
    """Every task gives finite (lon, lat) in range and one finite target for each."""
    data = load_task(name, num_points=2000, seed=0)
    assert data.task is TASKS[name] and data.task.name == name and data.source
    assert data.lonlat.dtype == np.float64 and data.lonlat.shape == (len(data.target), 2)
    assert (600 if name == "ecoregion" else 1500) < len(data.target) <= 2000
    assert np.all((data.lonlat >= [-180, -90]) & (data.lonlat < [180, 90]))
    assert np.all(np.isfinite(data.target))
    continents = lookup_regions(data.lonlat).continent.value_counts(normalize=True)
    assert (continents.max() < 0.7) == data.task.is_worldwide
    if data.task.kind == "classification":
        assert data.target.dtype == np.int64
        counts = np.bincount(data.target)
        assert len(counts) == len(data.class_names) and counts.min() >= MIN_POINTS_PER_CLASS
        assert list(data.class_names) == sorted(set(data.class_names))
    else:
        assert data.target.dtype == np.float64 and data.class_names is None
        assert data.task.units


@pytest.mark.parametrize("name", ["air_temperature", "biome"])  # rows of a table, and a map
def test_the_seed_decides(clone, name):
    """The same seed gives the same points and targets, another seed others."""
    first, again, other = (load_task(name, num_points=500, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.lonlat, again.lonlat)
    np.testing.assert_array_equal(first.target, again.target)
    assert not np.array_equal(first.lonlat, other.lonlat)


def test_tasks_on_land_share_their_points(clone):
    """Tasks of one seed have nearly all points in common, the first of those drawn on land."""
    expected = sample_land_lonlat(2000, seed=0)
    np.testing.assert_array_equal(load_task("elevation", num_points=2000).lonlat, expected)
    on_land = ("elevation", "population_density", "climate_zone", "biome")
    points = [set(map(tuple, load_task(name, num_points=2000).lonlat)) for name in on_land]
    assert len(set.intersection(*points)) > 0.95 * 2000


def test_stations_are_in_degrees_celsius_and_millimetres(clone):
    """Yakutsk, Singapore and the desert at Cairo have their known means; no place comes twice."""
    stations = labels.load_stations()
    assert len(stations) == 3076
    assert not stations[["lon", "lat"]].duplicated().any()

    def nearest(lon, lat):
        return stations.iloc[((stations.lon - lon) ** 2 + (stations.lat - lat) ** 2).argmin()]

    assert nearest(129.7, 62.0).air_temperature_c == pytest.approx(-9, abs=2)
    singapore = nearest(103.9, 1.3)
    assert singapore.air_temperature_c == pytest.approx(27, abs=1)
    assert singapore.precipitation_mm == pytest.approx(2300, abs=300)
    assert nearest(31.3, 29.9).precipitation_mm < 50


def test_known_places_have_known_labels(clone):
    """Height, biome, climate zone and people per km² of six places, at sea and on ice too."""
    places = [(10, 24), (91.1, 29.65), (-60, -3.1), (129.7, 62), (77.2, 28.6), (-40, 75), (-30, 0)]
    places = np.array(places, dtype=float)
    sahara, lhasa, manaus, yakutsk, delhi, ice, sea = range(7)
    height = labels.lookup_elevation(places)
    assert 3000 < height[lhasa] < 6000 and 300 < height[sahara] < 1500
    assert height[sea] == 0 and 0 <= labels.lookup_elevation(np.array([[4.9, 52.4]])) < 50
    regions = labels.lookup_ecoregions(places)
    biome = regions["biome"].to_numpy()
    assert biome[sahara] == "Deserts & Xeric Shrublands"
    assert biome[manaus] == "Tropical & Subtropical Moist Broadleaf Forests"
    assert biome[yakutsk] == "Boreal Forests/Taiga" and biome[ice] is biome[sea] is None
    assert regions["ecoregion"][sea] is None and regions["ecoregion"][ice] == "Rock and Ice"
    zone = labels.lookup_climate_zones(places)
    assert zone[sahara] == "BWh" and zone[manaus] in ("Af", "Am") and zone[sea] is None
    assert zone[yakutsk] in ("Dfc", "Dfd") and zone[ice] in ("EF", "ET")
    density = labels.lookup_population_density(places)
    assert 2000 < density[delhi] < 30_000 and 0 <= density[sahara] < 5 and np.isnan(density[sea])
    date_line = np.array([(179.999, 0.0), (180.0, 0.0)])
    assert np.isnan(labels.lookup_population_density(date_line)).all()
    assert list(labels.lookup_climate_zones(date_line)) == [None, None]


def test_heights_agree_with_xarray_interpolation(mirror):
    """Elevation is the bilinear interpolation in the file's own coordinates, sea floor at 0 m."""
    lonlat = sample_land_lonlat(300, seed=0)
    lonlat = lonlat[np.abs(lonlat[:, 0] - 20.1667) > 0.01]
    relief = xr.load_dataset(mirror / "etopo20.cdf", engine="scipy")["ROSE"].clip(min=0)
    expected = relief.interp(
        ETOPO20X1_1081=("points", (lonlat[:, 0] - 20.1667) % 360 + 20.1667),
        ETOPO20Y=("points", lonlat[:, 1]),
    )
    np.testing.assert_allclose(labels.lookup_elevation(lonlat), expected, atol=0.2)


@pytest.mark.parametrize("lon", [180.0, 20 + 1 / 6, 20.0, 0.0])
def test_heights_have_no_seam(clone, lon):
    """Elevation is continuous where the file wraps around, and 540 E is 180 E."""
    lat = np.linspace(-89, 89, 50)
    left, right, again = (
        labels.lookup_elevation(np.stack([np.full(50, x), lat], axis=1))
        for x in (lon - 1e-7, lon + 1e-7, lon + 360)
    )
    np.testing.assert_allclose(left, right, atol=0.01)
    np.testing.assert_allclose(left, again, atol=0.01)


def test_towns_come_with_their_countries_the_largest_first():
    """Those of at least so many people, and no others."""
    towns = labels.load_towns(50_000)
    assert towns.population.is_monotonic_decreasing and towns.population.min() >= 50_000
    assert 5_000 < len(towns) < 20_000 and not towns.isna().any(axis=None)
    town = towns[towns.name == "Nairobi"].iloc[0]
    assert (town.country, round(town.lon, 1), round(town.lat, 1)) == ("Kenya", 36.8, -1.3)


def test_population_is_the_log_of_one_plus_the_density(clone):
    """The transform named in the task is the one applied."""
    data = load_task("population_density", num_points=200)
    assert data.task.transform == "log(1 + x)"
    density = labels.lookup_population_density(data.lonlat)
    np.testing.assert_allclose(data.target, np.log(1 + density))


@pytest.mark.parametrize("name", sorted(TASKS.keys() - set(TRACKED)))
def test_absent_files_make_a_task_unavailable(clone, name):
    """What does not come with the package is named, with where it would be looked for."""
    with pytest.raises(TaskUnavailableError, match=rf"{name}.*SATCLIP_DATA_MIRROR") as caught:
        load_task(name)
    assert isinstance(caught.value.__cause__, FileUnavailableError)


def test_countries_need_their_outlines(clone, monkeypatch):
    """Where the package is installed without its checkout, the task of countries is absent."""
    load = natural_earth._load_countries.__wrapped__  # what has been read before does not count
    monkeypatch.setattr(natural_earth, "_load_countries", load)
    monkeypatch.setattr(natural_earth, "find_tracked", lambda name: None)
    with pytest.raises(TaskUnavailableError, match=r"'country'.*no Natural Earth shapefiles"):
        load_task("country", num_points=10)


def test_a_broken_file_is_not_passed_over(clone, workspace):
    """A wrong file is an error: the task is not just unavailable."""
    (workspace / "data/raw").mkdir(parents=True)
    (workspace / "data/raw" / labels.HABITAT_FILES[0]).write_text("surveyId,lon,lat,habitatId\n")
    with pytest.raises(HashMismatchError, match=labels.HABITAT_FILES[0]):
        load_task("habitat")


def test_rare_classes_are_dropped_and_counted(clone):
    """Points of classes with fewer than ten points are left out, and the source says how many."""
    data = load_task("country", num_points=1000)
    dropped = 1000 - len(data.target)
    assert dropped > 0
    assert f"{dropped} points of" in data.source


def test_what_cannot_be_loaded_is_an_error(clone):
    """Unknown tasks are answered with the known, and too few points with what to change."""
    with pytest.raises(ValueError, match=f"{', '.join(TASKS)}, got 'altitude'"):
        load_task("altitude")
    with pytest.raises(ValueError, match="num_points must be positive, got 0"):
        load_task("elevation", num_points=0)
    with pytest.raises(ValueError, match="increase num_points"):
        load_task("country", num_points=5)


def test_known_ecoregions_are_biomes_parts(clone):
    """Every ecoregion lies in one biome; ice, which has no biome, is not a class."""
    data = load_task("ecoregion", num_points=5000)
    assert len(data.class_names) > 100 and "Rock and Ice" not in data.class_names
    biome = labels.lookup_ecoregions(data.lonlat)["biome"]
    assert biome.groupby(data.target).nunique().max() == 1


def test_counties_have_their_income_and_place(clone):
    """San Francisco is rich and at the Pacific; totals of states are not counties."""
    counties = labels.load_county_income()
    assert 3100 < len(counties) < 3150 and counties.notna().all().all()
    assert counties.lon.between(-170, -66).all() and counties.lat.between(18.5, 72).all()
    nearest = ((counties.lon + 122.44) ** 2 + (counties.lat - 37.76) ** 2).argmin()
    assert counties.median_income_usd[nearest] > 100_000
    assert counties.median_income_usd.between(20_000, 150_000).all()


def test_houses_are_in_california(clone):
    """All block groups are in the state, values are capped, Beverly Hills is above Fresno."""
    houses = labels.load_california_housing()
    assert len(houses) == 20_640 and houses.house_value_usd.max() == 500_001
    assert houses.lon.between(-124.5, -114).all() and houses.lat.between(32.5, 42).all()

    def median_near(lon, lat):
        near = (houses.lon - lon).abs().lt(0.05) & (houses.lat - lat).abs().lt(0.05)
        return houses.house_value_usd[near].median()

    assert median_near(-118.40, 34.07) > 3 * median_near(-119.78, 36.75)


def test_a_plot_has_one_habitat(mirror):
    """Habitats are EUNIS codes of plots in Europe, one row each; salt marshes are at the coast."""
    plots = labels.load_habitats()
    assert 15_000 < len(plots) < 15_400 and plots.notna().all().all()
    assert plots.habitat.str.fullmatch(r"[A-Z]+[0-9A-Za-z]+").all()
    assert plots.lon.between(-10, 35).all() and plots.lat.between(34, 62).all()
    assert plots.habitat.nunique() > 150
