"""Natural Earth layers, country lookup and the recipe behind them."""

import runpy
from types import SimpleNamespace

import geopandas
import numpy as np
import pytest
import shapely

from satclip_lib.data import natural_earth
from satclip_lib.data.natural_earth import load_countries, lookup_regions, natural_earth_folder
from satclip_lib.data.registry import FileUnavailableError

CONTINENTS = {
    "Africa", "Antarctica", "Asia", "Europe", "North America", "Oceania", "South America",
}  # fmt: skip
PHYSICAL = [
    f"physical/ne_{scale}_{name}" for scale in ("110m", "50m") for name in ("land", "coastline")
]
CULTURAL = ["cultural/ne_110m_admin_0_countries", "cultural/ne_110m_admin_0_boundary_lines_land"]


def read_layer(name: str) -> geopandas.GeoDataFrame:
    """A layer by folder and name."""
    return geopandas.read_file(natural_earth_folder() / f"shapefiles/natural_earth/{name}.shp")


def segments_of(lines) -> np.ndarray:
    """(num_segments, 2 ends, 2) of lines."""
    coordinates = [shapely.get_coordinates(line) for line in shapely.get_parts(lines)]
    return np.concatenate([np.stack([line[:-1], line[1:]], axis=1) for line in coordinates])


def area_km2(geometries) -> float:
    """Area on the sphere, through the equal-area cylinder (lon, sin lat)."""

    def to_cylinder(lonlat):
        lon, lat = np.radians(lonlat).T
        return np.column_stack([lon, np.sin(lat)]) * natural_earth.EARTH_RADIUS_KM

    return shapely.area(shapely.transform(geometries, to_cylinder)).sum()


@pytest.fixture(scope="module")
def recipe():
    """The recipe by its names; it is a script beside the data, not part of the package."""
    return SimpleNamespace(**runpy.run_path(natural_earth_folder() / "make_natural_earth.py"))


@pytest.mark.parametrize("name", PHYSICAL + CULTURAL)
def test_every_layer_is_valid_and_inside_the_world(name):
    """All geometries are valid, not empty, in degrees, and between 180 W and 180 E."""
    layer = read_layer(name)
    west, south, east, north = layer.total_bounds
    assert layer.is_valid.all() and not layer.is_empty.any()
    assert layer.crs.to_epsg() == 4326
    assert -180 <= west < east <= 180 and -90 <= south < north <= 90


@pytest.mark.parametrize("name", [name for name in PHYSICAL + CULTURAL if "line" in name])
def test_lines_have_no_trace_of_the_cut(name):
    """No line runs along 180 degrees, along the south pole or right across the map."""
    ends = segments_of(read_layer(name).geometry.values)
    assert not (np.abs(ends[:, :, 0]) > 179.999).all(axis=1).any()
    assert not (ends[:, :, 1] < -89).any()
    assert np.abs(np.diff(ends[:, :, 0], axis=1)).max() < 20


def test_countries_tile_the_land():
    """Countries do not overlap, and together they are the land of the same scale."""
    countries = load_countries().geometry.values
    together = shapely.union_all(countries)
    land = shapely.union_all(read_layer("physical/ne_110m_land").geometry.values)
    assert area_km2(countries) == pytest.approx(area_km2(together), rel=1e-5)
    assert area_km2(shapely.symmetric_difference(together, land)) < 0.001 * area_km2(land)


def test_countries_have_names_codes_and_continents():
    """177 different names, seven continents in full, and codes for all but three countries."""
    countries = load_countries().set_index("country")
    assert len(countries) == 177 and countries.index.is_unique
    assert set(countries.continent) == CONTINENTS
    assert set(countries.index[countries.iso_a3.isna()]) == {"Kosovo", "N. Cyprus", "Somaliland"}
    assert tuple(countries.loc["Côte d'Ivoire", ["iso_a3", "iso_n3"]]) == ("CIV", "384")
    assert tuple(countries.loc["Afghanistan", ["iso_a3", "iso_n3"]]) == ("AFG", "004")
    assert countries.continent["Russia"] == "Europe"
    load_countries()["continent"] = "Atlantis"  # of a copy
    assert set(load_countries().continent) == CONTINENTS


def test_countries_agree_with_the_original(label_files):
    """Shapes overlap Natural Earth's own by 99 %; continents are the same but for open ocean."""
    ours = load_countries().set_index("country")
    theirs = geopandas.read_file(label_files / "ne_110m_admin_0_countries.json")
    theirs = theirs.set_index("NAME").rename(index={"Swaziland": "eSwatini"}).loc[ours.index]
    shapes = shapely.make_valid(theirs.geometry.values)
    both = shapely.intersection(ours.geometry.values, shapes)
    either = shapely.union(ours.geometry.values, shapes)
    assert area_km2(both) > 0.998 * area_km2(either)
    assert (shapely.area(both) / shapely.area(either)).min() > 0.99
    different = ours.index[ours.continent != theirs.CONTINENT]
    assert list(different) == ["Fr. S. Antarctic Lands"]


@pytest.mark.parametrize(
    ("lon", "lat", "country", "continent"),
    [
        (2.35, 48.86, "France", "Europe"),  # Paris
        (-179.95, -16.3, "Fiji", "Oceania"),  # Taveuni, beyond the date line
        (179.0, 67.0, "Russia", "Europe"),  # Chukotka, west of 180
        (-175.0, 66.5, "Russia", "Europe"),  # Chukotka, east of 180
        (180.0, 67.0, "Russia", "Europe"),
        (-180.0, 67.0, "Russia", "Europe"),
        (-53.0, 4.5, "France", "South America"),  # French Guiana
        (-155.5, 19.5, "United States of America", "Oceania"),  # Hawaii
        (140.7, -2.7, "Indonesia", "Oceania"),  # Jayapura
        (129.5, -3.1, "Indonesia", "Asia"),  # Seram
        (33.9, 28.9, "Egypt", "Asia"),  # Sinai
        (33.6, 27.2, "Egypt", "Africa"),  # Hurghada
        (26.6, 41.6, "Turkey", "Europe"),  # Edirne
        (26.5, 40.1, "Turkey", "Asia"),  # Çanakkale
        (49.5, 50.0, "Kazakhstan", "Europe"),  # west of the river Ural
        (0.0, -90.0, "Antarctica", "Antarctica"),
        (103.82, 1.35, "Malaysia", "Asia"),  # Singapore is not drawn: the nearest is
    ],
)
def test_known_places(lon, lat, country, continent):
    """Known places lie in the country and continent they are known to lie in."""
    found = lookup_regions(np.array([[lon, lat]])).iloc[0]
    assert tuple(found) == (country, continent)


def test_nearest_country_agrees_with_every_distance():
    """Off the shore, the answer is that of the haversine distance to every outline vertex."""
    rng = np.random.default_rng(0)
    anywhere = np.column_stack([rng.uniform(-180, 180, 60), rng.uniform(-80, 84, 60)])
    date_line = np.column_stack([rng.uniform(179, 181, 20), rng.uniform(60, 75, 20)])
    points = np.concatenate([anywhere, date_line])
    points = points[lookup_regions(points, max_distance_km=0.0).country.isna()]

    countries = load_countries()
    outlines = shapely.segmentize(shapely.boundary(countries.geometry.values), 0.05)
    vertices, country = shapely.get_coordinates(outlines, return_index=True)
    lon, lat = np.radians(points).T[:, :, None]
    lon_v, lat_v = np.radians(vertices).T
    half = np.sin((lat_v - lat) / 2) ** 2  # (points, vertices)
    half += np.cos(lat) * np.cos(lat_v) * np.sin((lon_v - lon) / 2) ** 2
    nearest = countries.country.to_numpy()[country[half.argmin(axis=1)]]
    distance_km = 2 * natural_earth.EARTH_RADIUS_KM * np.arcsin(np.sqrt(half.min(axis=1)))
    for limit_km in (100.0, 500.0, 3000.0):
        found = lookup_regions(points, max_distance_km=limit_km).country
        within = distance_km < limit_km
        assert within.any() and found[within].tolist() == nearest[within].tolist()
        assert found[~within].isna().all()


def test_rows_follow_the_points():
    """Shuffled points give shuffled rows, numbered from 0, and the input stays as it was."""
    rng = np.random.default_rng(1)
    lonlat = np.column_stack([rng.uniform(-180, 180, 500), rng.uniform(-90, 90, 500)])
    before, order = lonlat.copy(), rng.permutation(500)
    expected = lookup_regions(lonlat).iloc[order].reset_index(drop=True)
    assert lookup_regions(lonlat[order]).equals(expected)
    assert lookup_regions(lonlat[order] + [360.0, 0.0]).equals(expected)  # 190 E is 170 W
    assert np.array_equal(lonlat, before)
    assert 0.2 < expected.country.isna().mean() < 0.8


def test_single_precision_no_points_and_no_locations():
    """float32 is welcome; no points give an empty table; what is no location is an error."""
    lonlat = np.array([[2.35, 48.86]], dtype=np.float32)
    assert lookup_regions(lonlat).country.tolist() == ["France"]
    empty = lookup_regions(np.empty((0, 2)))
    assert empty.shape == (0, 2) and list(empty.columns) == ["country", "continent"]
    with pytest.raises(ValueError, match="columns look swapped"):
        lookup_regions(np.array([[48.86, 135.0]]))
    with pytest.raises(ValueError, match="max_distance_km must be 0 or more, got -1"):
        lookup_regions(np.zeros((1, 2)), max_distance_km=-1.0)


def test_a_package_without_its_checkout_says_so(monkeypatch):
    """Without data/natural_earth beside the package, the error names the cure."""
    monkeypatch.setattr(natural_earth, "find_tracked", lambda name: None)
    with pytest.raises(FileUnavailableError, match="from a checkout"):
        natural_earth_folder()


def test_recipe_cuts_a_ring_at_the_antimeridian(recipe):
    """A ring from 170 E to 160 W becomes two boxes that meet at 180."""
    ring = np.array([[170.0, 0], [-160, 0], [-160, 10], [170, 10], [170, 0]])
    expected = shapely.MultiPolygon([shapely.box(170, 0, 180, 10), shapely.box(-180, 0, -160, 10)])
    assert recipe.fill_ring(ring).equals(expected)


def test_recipe_closes_a_ring_at_the_pole(recipe):
    """A ring round the south pole becomes the band below it, without a shore along its cuts."""
    lon = np.array([-90.0, 0, 90, 180, -90])
    ring = np.column_stack([lon, np.full(5, -80.0)])
    band = recipe.fill_ring(ring)
    shore = recipe.make_coastline(np.array([band]))
    assert band.equals(shapely.box(-180, -90, 180, -80))
    assert shapely.union_all(shore).equals(shapely.LineString([(-180, -80), (180, -80)]))


def test_recipe_refuses_another_archive(recipe, tmp_path):
    """An archive that is not world-atlas 2.0.2 is refused before anything is written."""
    archive = tmp_path / "other.tgz"
    archive.write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"is not world-atlas 2\.0\.2"):
        recipe.main(archive)
