"""The atlas: one HTML file in which a plane of embeddings and a globe are explored together.

It opens in any browser, a phone's too, without a network: places, pictures, towns and embeddings
are inside the file. ``atlas.html`` is the page. Of its script, ``atlas.panels.js`` draws the plane
and the globe, ``atlas.state.js`` compares and colours places, and ``atlas.side.js`` fills what
stands beside. The data are one gzipped safetensors file, whose metadata hold all text as JSON.
"""

import base64
import gzip
import html
import io
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import shapely
from cartopy.feature import NaturalEarthFeature
from jaxtyping import Float32, Float64, Int8, UInt8, UInt16
from matplotlib import colormaps
from matplotlib.colors import to_hex
from PIL import Image
from safetensors.numpy import save
from scipy.spatial import cKDTree

from satclip_lib.data.labels import load_towns
from satclip_lib.data.land import is_land
from satclip_lib.data.natural_earth import load_countries, lookup_regions
from satclip_lib.files import write_text
from satclip_lib.plotting.globes import make_lonlat_grid
from satclip_lib.plotting.layers import NO_VALUE_COLOR, Layer, find_islands
from satclip_lib.plotting.maps import use_natural_earth
from satclip_lib.sphere import EARTH_RADIUS_KM, chord_to_km, lonlat_to_unit_vectors

SPRITE_COLUMNS = 200  # patches in a row of the sheet of thumbnails
JPEG_QUALITY = 90
CELL_DEG = 0.25  # of the map
MAX_PLACES = 65_000
SEA, NO_PLACE = 65_535, 65_534  # cells of the map that belong to no place
NEAR_KM = 500.0  # a cell, or a touch, belongs to the nearest place within this distance
FAR_KM = 2000.0  # least distance of the listed similar places on other continents
TOWN_POPULATION = 50_000  # smallest town that is found by name
NUM_SLIDERS = 6
SIMILARITY_COLORS = [to_hex(color) for color in colormaps["magma_r"](np.linspace(0.02, 0.9, 256))]
NUMBER_COLORS = [to_hex(color) for color in colormaps["RdBu_r"](range(256))]


def save_atlas(
    path: Path | str,
    *,
    plane: Float32[np.ndarray, "num_points 2"],
    lonlat: Float64[np.ndarray, "num_points 2"],
    embeddings: Float32[np.ndarray, "num_points embed_dim"],
    patches: UInt8[np.ndarray, "num_points 3 size size"],
    layers: Sequence[Layer],
    title: str,
    subtitle: str = "",
    seed: int = 0,
) -> Path:
    """Write the atlas as one HTML file that needs nothing else.

    Args:
        path: File to write.
        plane: Coordinates of the points in the plane, from
            :func:`satclip_lib.evaluation.projection.compute_umap`.
        lonlat: Longitude, latitude in degrees.
        embeddings: Embedding of each point. The page compares points by the cosine of the first
            numbers, or of all; eight bits of each number are kept.
        patches: Red, green and blue of a small picture of each place.
        layers: Ways to colour the points; the first is shown first, and labels the islands.
        title: Title of the page; markup in this or any other text is shown as plain text.
        subtitle: How the plane was made.
        seed: Random seed of the drawing order, so that no class hides another.

    Raises:
        ValueError: If there is no layer, the arrays differ in length, or there are more than
            ``MAX_PLACES`` places.
    """
    if not layers:
        raise ValueError("layers is empty: give at least one way to colour the points")
    arrays = {"plane": plane, "lonlat": lonlat, "embeddings": embeddings, "patches": patches}
    lengths = [*map(len, arrays.values()), *(len(layer.values) for layer in layers)]
    if len(set(lengths)) > 1:
        raise ValueError(f"{', '.join(arrays)} and layers must be of one length, got {lengths}")
    if len(plane) > MAX_PLACES:
        raise ValueError(f"the atlas holds up to {MAX_PLACES:,} places, got {len(plane):,}")
    order = np.random.default_rng(seed).permutation(len(plane))
    plane, lonlat, embeddings, patches = (array[order] for array in arrays.values())
    regions = lookup_regions(lonlat, max_distance_km=NEAR_KM).fillna("")
    continents, continent = np.unique(regions.continent, return_inverse=True)
    countries, country = np.unique(regions.country, return_inverse=True)
    shores, shore_lengths = _load_shores()
    contents = {
        "plane": plane.astype(np.float32),
        "lonlat": lonlat.astype(np.float32),
        "embeddings": quantize(embeddings),
        "continent": continent.astype(np.uint8),
        "country": country.astype(np.uint8),
        "place_of_cell": find_nearest_places(lonlat),
        "shores": shores,
        "shore_lengths": shore_lengths,
    }
    for i, layer in enumerate(layers):
        contents[f"layer{i}"] = layer.values[order].astype(np.float32)
    facts = {
        "title": title,
        "subtitle": subtitle,
        "layers": [_describe(layer, plane, layer.values[order]) for layer in layers],
        "continents": list(continents),
        "countries": list(countries),
        "named_places": _list_named_places(),
        "similarity_colors": SIMILARITY_COLORS,
        "number_colors": NUMBER_COLORS,
        "no_value_color": NO_VALUE_COLOR,
        "num_sliders": min(NUM_SLIDERS, embeddings.shape[1]),
        "sprite_columns": SPRITE_COLUMNS,
        "sea": SEA,
        "no_place": NO_PLACE,
        "near_km": NEAR_KM,
        "far_km": FAR_KM,
        "earth_radius_km": EARTH_RADIUS_KM,
    }
    packed = gzip.compress(save(contents, {"facts": json.dumps(facts)}), mtime=0)
    parts = {
        "sprite": make_sprite(patches),
        "contents": base64.b64encode(packed).decode(),
        "script": "\n".join(_read(f"atlas.{part}.js") for part in ("panels", "state", "side")),
    }
    page = re.sub(r"\{\{ (\w+) \}\}", lambda found: parts[found[1]], _read("atlas.html"))
    write_text(path, page)
    return Path(path)


class AtlasView:
    """The atlas inside a notebook: the same file in an iframe.

    Args:
        path: File from :func:`save_atlas`.
        height_px: Height of the frame in pixels.
    """

    def __init__(self, path: Path | str, *, height_px: int = 760):
        self.path, self.height_px = Path(path), height_px

    def _repr_html_(self) -> str:
        page = html.escape(self.path.read_text(encoding="utf-8"), quote=True)
        style = f"width:100%;height:{self.height_px}px;border:1px solid #ccc"
        name = html.escape(self.path.name, quote=True)  # docs.build_site shows its copy instead
        return f'<iframe title="Atlas" style="{style}" data-file="{name}" srcdoc="{page}"></iframe>'


def quantize(
    embeddings: Float32[np.ndarray, "num_points embed_dim"],
) -> Int8[np.ndarray, "num_points embed_dim"]:
    """Round to eight bits: the largest absolute value of each point becomes 127.

    Each point has its own scale, which does not change the cosine of two points.
    """
    largest = np.abs(embeddings).max(axis=1, keepdims=True)
    return np.round(127 * embeddings / np.maximum(largest, 1e-30)).astype(np.int8)


def find_nearest_places(
    lonlat: Float64[np.ndarray, "num_points 2"],
) -> UInt16[np.ndarray, "num_cells"]:
    """Nearest place of each land cell of the world, within ``NEAR_KM``.

    Returns:
        One number for each cell of :func:`satclip_lib.plotting.globes.make_lonlat_grid` with
        ``CELL_DEG``: index of the place, ``NO_PLACE`` on land far from all places, or ``SEA``.
    """
    cells = make_lonlat_grid(CELL_DEG)
    on_land = is_land(cells)
    tree = cKDTree(lonlat_to_unit_vectors(lonlat))
    chord, place = tree.query(lonlat_to_unit_vectors(cells[on_land]))
    found = np.full(len(cells), SEA, np.uint16)
    found[on_land] = np.where(chord_to_km(chord) <= NEAR_KM, place, NO_PLACE)
    return found


def make_sprite(patches: UInt8[np.ndarray, "num_points 3 size size"]) -> str:
    """All patches in one JPEG, row by row, as a ``data:`` address.

    A patch whose side is a multiple of 8 pixels fills whole JPEG blocks, so its colours do not
    mix with those of its neighbours.
    """
    _, bands, size, _ = patches.shape
    sheet = np.pad(patches, ((0, -len(patches) % SPRITE_COLUMNS), (0, 0), (0, 0), (0, 0)))
    sheet = sheet.reshape(-1, SPRITE_COLUMNS, bands, size, size)
    sheet = sheet.transpose(0, 3, 1, 4, 2)  # (sheet row, y, sheet column, x, band)
    image = Image.fromarray(sheet.reshape(-1, SPRITE_COLUMNS * size, bands))
    buffer = io.BytesIO()
    image.save(buffer, format="jpeg", quality=JPEG_QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _describe(layer: Layer, plane: np.ndarray, values: np.ndarray) -> dict:
    low, high = layer.limits
    return {
        "title": layer.title,
        "units": layer.units,
        "is_log": layer.is_log,
        "low": low,
        "high": high,
        "names": list(layer.names),
        "colors": [to_hex(color) for color in layer.colors],
        "islands": find_islands(plane, values) if layer.names else [],
    }


def _list_named_places() -> list[list]:
    """Name, country, longitude and latitude of countries, then of towns, the largest first."""
    countries = load_countries().rename(columns={"country": "name"}).assign(country="")
    middles = countries.geometry.representative_point()
    countries = countries.assign(lon=middles.x, lat=middles.y)
    columns = ["name", "country", "lon", "lat"]
    named = pd.concat([pd.DataFrame(countries[columns]), load_towns(TOWN_POPULATION)[columns]])
    return named.round(2).values.tolist()


def _load_shores() -> tuple[np.ndarray, np.ndarray]:
    """Vertices of all shores, ``(num_vertices, 2)`` degrees, and the number in each line."""
    use_natural_earth()
    lines = list(NaturalEarthFeature("physical", "coastline", "110m").geometries())
    lines = shapely.get_parts(lines)
    return (
        shapely.get_coordinates(lines).astype(np.float32),
        shapely.get_num_points(lines).astype(np.uint16),
    )


def _read(name: str) -> str:
    return files("satclip_lib.plotting").joinpath(name).read_text(encoding="utf-8")
