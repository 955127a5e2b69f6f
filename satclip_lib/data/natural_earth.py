"""Countries and continents of points, by the outlines of Natural Earth 1:110m."""

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

# Parts of countries that lie on another continent than the rest: country, continent, outline.
ELSEWHERE = (
    ("France", "South America", [(-60, 0), (-50, 0), (-50, 10), (-60, 10)]),
    ("United States of America", "Oceania", [(-165, 15), (-150, 15), (-150, 25), (-165, 25)]),
    ("Indonesia", "Oceania", [(130.3, 1), (130.3, -2.5), (131.2, -10), (141.5, -10), (141.5, 1)]),
    ("Egypt", "Asia", [(32.3, 31.7), (32.55, 29.9), (33.2, 28.7), (34.2, 27.4), (35.5, 29.5)]),
    (
        "Turkey", "Europe",  # north-west of the Dardanelles and the Bosporus
        [(26, 40), (26.7, 40.4), (28, 40.8), (29.05, 41), (29.2, 41.3), (28, 42.2), (25, 42.2)],
    ),
    ("Kazakhstan", "Europe", [(51.9, 46.5), (51.4, 51.4), (46, 52), (46, 46.5)]),  # of the Ural
)  # fmt: skip
OUTLINE_SPACING_DEG = 0.05  # at most 5.6 km between the outline vertices that distances go to


def natural_earth_folder() -> Path:
    """The folder ``data/natural_earth`` of the checkout this package runs from.

    It is part of the repository, unlike the files in ``$SATCLIP_HOME``. Its ``README.md`` describes
    the layers and how they were made.

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
    """Load the 177 countries of Natural Earth 1:110m, one row each.

    Returns:
        Columns ``country`` (English name), ``iso_a3``, ``iso_n3`` (missing for Kosovo, N. Cyprus
        and Somaliland), ``continent`` (Africa, Antarctica, Asia, Europe, North America, Oceania
        or South America: that of most of the country; :func:`lookup_regions` has that of a place)
        and ``geometry`` (lon, lat in degrees, cut at the antimeridian). It may be changed freely.
    """
    return _load_countries().copy()


def lookup_regions(
    lonlat: Float[np.ndarray, "num_points 2"], *, max_distance_km: float = 100.0
) -> pd.DataFrame:
    """Country and continent of each point.

    A point in no country, for example on a small island or a shore that 1:110m leaves out, belongs
    to the nearest country if its outline is within ``max_distance_km``. The continent is that of
    the place: French Guiana is in South America, Hawaii and western New Guinea are in Oceania. All
    of Russia counts as Europe.

    Args:
        lonlat: Longitude, latitude in degrees; any longitude (190 is -170), latitude -90 to 90.
        max_distance_km: Largest great-circle distance to an outline; 0 takes only points inside.

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

    named = countries[["country", "continent"]]
    regions = pd.DataFrame({name: named[name].array.take(rows, allow_fill=True) for name in named})
    for country, continent, outline in ELSEWHERE:
        inside = shapely.contains_xy(shapely.Polygon(outline), *lonlat.T)
        regions.loc[inside & (regions.country == country), "continent"] = continent
    return regions


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
