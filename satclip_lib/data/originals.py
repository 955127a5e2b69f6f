"""Label files as their authors publish them, fetched by hash through ``data.registry``.

``data.labels`` reads compact copies of these, made by ``python -m tools.make_labels``. Grids have
row 0 at 90 N and column 0 at 180 W.
"""

import geopandas
import numpy as np
import pandas as pd
import shapely
import xarray as xr
from jaxtyping import Float32, Float64

from satclip_lib.data.registry import FileUnavailableError, fetch_file
from satclip_lib.sphere import wrap_lonlat

STATION_FILES = ("stationDataAll.csv",)
INCOME_FILES = ("county_income.csv", "county_centers.csv")
HOUSING_FILES = ("california_housing.csv",)
ELEVATION_FILES = ("etopo20.cdf",)
POPULATION_FILES = ("gpw_v4_population_density_rev11_2020_30_min.asc",)
ECOREGION_FILES = tuple(f"Ecoregions2017.{suffix}" for suffix in ("shp", "shx", "dbf", "prj"))


def read_weather_stations() -> pd.DataFrame:
    """See :func:`satclip_lib.data.labels.load_stations`."""
    names = {"Lon": "lon", "Lat": "lat", "meanT": "air_temperature_c", "meanP": "precipitation_mm"}
    stations = pd.read_csv(fetch_file(*STATION_FILES), usecols=list(names))
    stations = stations.rename(columns=names).dropna(ignore_index=True).astype(np.float64)
    return stations.assign(lon=(stations["lon"] + 180) % 360 - 180)


def read_county_income() -> pd.DataFrame:
    """See :func:`satclip_lib.data.labels.load_county_income`."""
    income, centres = (fetch_file(name) for name in INCOME_FILES)
    income = pd.read_csv(income, thousands=",", dtype={"FIPS": str})
    income["fips"] = income["FIPS"].str.replace(",", "").str.zfill(5)
    counties = pd.read_csv(centres, dtype={"fips": str}).merge(income, on="fips")
    names = {"pclon10": "lon", "pclat10": "lat", "MedianIncome2018": "median_income_usd"}
    counties = counties[list(names)].rename(columns=names)
    return counties.dropna(ignore_index=True).astype(np.float64)


def read_california_housing() -> pd.DataFrame:
    """See :func:`satclip_lib.data.labels.load_california_housing`."""
    names = {"longitude": "lon", "latitude": "lat", "median_house_value": "house_value_usd"}
    houses = pd.read_csv(fetch_file(*HOUSING_FILES), usecols=list(names))
    return houses.rename(columns=names).astype(np.float64)


def read_elevation() -> Float32[np.ndarray, "540 1080"]:
    """Heights in m above the sea, cells of 20 arc-minutes; 0 where the ground is lower."""
    relief = xr.load_dataset(fetch_file(*ELEVATION_FILES), engine="scipy")["ROSE"]  # (540, 1081)
    # The file begins in the south and at 20 E, and its last column is its first again.
    heights = np.roll(relief.to_numpy()[::-1, :1080], 600, axis=1)
    return np.maximum(heights, 0).astype(np.float32)


def read_population_density() -> Float32[np.ndarray, "360 720"]:
    """People per km2 of land, cells of half a degree; NaN where not counted."""
    density = np.loadtxt(fetch_file(*POPULATION_FILES), skiprows=6)  # after six header lines
    return np.where(density == -9999, np.nan, density).astype(np.float32)


def read_ecoregions() -> geopandas.GeoDataFrame:
    """The 847 polygons: columns ``ecoregion``, ``biome`` (None on rock and ice), ``geometry``.

    Raises:
        FileUnavailableError: If the four parts of the shapefile are in different folders.
    """
    parts = [fetch_file(name) for name in ECOREGION_FILES]
    if len(folders := {part.parent for part in parts}) > 1:
        raise FileUnavailableError(
            "the parts of Ecoregions2017 (.shp .shx .dbf .prj) must be in one folder, found them "
            f"in {', '.join(sorted(map(str, folders)))}: copy all four into one of these"
        )
    polygons = geopandas.read_file(parts[0], columns=["ECO_NAME", "BIOME_NAME"])
    polygons = polygons.rename(columns={"ECO_NAME": "ecoregion", "BIOME_NAME": "biome"})
    names = polygons[["ecoregion", "biome"]].astype(object)
    names = names.where(names != "N/A", None)
    return polygons.assign(ecoregion=names["ecoregion"], biome=names["biome"])


def lookup_polygons(lonlat: Float64[np.ndarray, "num_points 2"]) -> pd.DataFrame:
    """Ecoregion and biome of each location by the polygons themselves, not by cells.

    Args:
        lonlat: Longitude and latitude in degrees, any longitude convention.

    Returns:
        As :func:`satclip_lib.data.labels.lookup_ecoregions`.
    """
    polygons = read_ecoregions()
    names = polygons[["ecoregion", "biome"]].to_numpy(dtype=object)
    points = shapely.STRtree(shapely.points(wrap_lonlat(lonlat)))
    polygon, point = points.query(polygons.geometry.to_numpy(), predicate="contains")
    found = np.full((len(lonlat), 2), None, dtype=object)
    found[point] = names[polygon]
    return pd.DataFrame(found, columns=["ecoregion", "biome"], dtype=object)
