"""Countries and continents: Natural Earth 1:110m outlines, and which of them a point lies in."""

from functools import cache
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import shapely
from jaxtyping import Float
from scipy.spatial import cKDTree

from satclip_lib.data.registry import FileUnavailableError, find_tracked
from satclip_lib.sphere import EARTH_RADIUS_KM, check_locations, lonlat_to_unit_vectors, wrap_lonlat

OUTLINE_SPACING_DEG = 0.05  # at most 5.6 km between the outline vertices that distances go to


def natural_earth_folder() -> Path:
    """The folder ``data/natural_earth`` of the checkout this package runs from.

    It is part of the repository, unlike what ``$SATCLIP_HOME`` holds. Its ``README.md`` says
    what the layers are and how they were made.

    Raises:
        FileUnavailableError: If the package runs without its checkout.
    """
    if (readme := find_tracked("natural_earth/README.md")) is None:
        raise FileUnavailableError(
            "no Natural Earth shapefiles: they are part of the repository, install the package "
            "from a checkout (pip install -e .)"
        )
    return readme.parent


def load_countries() -> geopandas.GeoDataFrame:
    """The 177 countries of Natural Earth 1:110m, one row each, a copy of your own.

    Returns:
        Columns ``country`` (English name), ``iso_a3``, ``iso_n3`` (missing for Kosovo, N. Cyprus
        and Somaliland), ``continent`` (Africa, Antarctica, Asia, Europe, North America, Oceania
        or South America; a country has one, so all of Russia and French Guiana are Europe) and
        ``geometry`` (lon, lat in degrees, cut at the antimeridian).
    """
    return _load_countries().copy()


def lookup_regions(
    lonlat: Float[np.ndarray, "num_points 2"], *, max_distance_km: float = 100.0
) -> pd.DataFrame:
    """Country and continent of each point.

    A point in no country, say on an islet or a shore that 1:110m leaves out, belongs to the
    nearest country if its outline is within ``max_distance_km``.

    Args:
        lonlat: Longitude, latitude in degrees; any longitude (190 is -170), latitude -90 to 90.
        max_distance_km: Great-circle distance; 0 asks for points in countries only.

    Returns:
        Columns ``country`` and ``continent``, row i for point i; both missing far from land.

    Raises:
        ValueError: If the shape is wrong, a coordinate is not finite or a latitude beyond a pole,
            or if the distance is negative.
        FileUnavailableError: See :func:`natural_earth_folder`.
    """
    lonlat, _ = check_locations(wrap_lonlat(np.asarray(lonlat, dtype=np.float64)))
    if not max_distance_km >= 0:
        raise ValueError(f"max_distance_km must be 0 or more, got {max_distance_km}")

    countries = _load_countries()
    rows = np.full(len(lonlat), -1)
    tree = shapely.STRtree(shapely.points(lonlat))
    # Backwards: a point on a border goes to the country listed first, whatever the tree's order.
    country, point = tree.query(countries.geometry.values, predicate="intersects")[:, ::-1]
    rows[point] = country

    outside = np.flatnonzero(rows < 0)
    outlines, country_of_vertex = _outline_tree()
    chord = 2 * np.sin(min(max_distance_km / EARTH_RADIUS_KM, np.pi) / 2)
    _, vertex = outlines.query(lonlat_to_unit_vectors(lonlat[outside]), distance_upper_bound=chord)
    near = vertex < len(country_of_vertex)  # the tree answers "none" with its length
    rows[outside[near]] = country_of_vertex[vertex[near]]

    regions = countries[["country", "continent"]]
    return pd.DataFrame({name: regions[name].array.take(rows, allow_fill=True) for name in regions})


@cache
def _load_countries() -> geopandas.GeoDataFrame:
    folder = natural_earth_folder() / "shapefiles/natural_earth/cultural"
    countries = geopandas.read_file(folder / "ne_110m_admin_0_countries.shp")
    return countries.rename(columns={"NAME": "country"}).rename(columns=str.lower)


@cache
def _outline_tree() -> tuple[cKDTree, np.ndarray]:
    """Vertices along all outlines as unit vectors, and the country row of each."""
    outlines = shapely.boundary(_load_countries().geometry.values)
    outlines = shapely.segmentize(outlines, OUTLINE_SPACING_DEG)
    vertices, country = shapely.get_coordinates(outlines, return_index=True)
    return cKDTree(lonlat_to_unit_vectors(vertices)), country
