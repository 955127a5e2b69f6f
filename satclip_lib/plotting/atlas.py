"""The atlas: one HTML file with the embedding plane beside the map, linked, to be explored.

Opens in any browser without a network: BokehJS, the points, and a picture of every place are
inside the file. ``atlas.html`` is the page around the two plots and ``atlas.js`` what happens
when somebody points, selects, searches or chooses other colours.
"""

import base64
import html
import io
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import cartopy.crs as ccrs
import numpy as np
import shapely
from bokeh import models
from bokeh.document import Document
from bokeh.embed import file_html
from bokeh.plotting import figure
from bokeh.resources import INLINE
from cartopy.feature import NaturalEarthFeature
from jaxtyping import Float32, Float64, UInt8
from matplotlib.colors import to_hex
from PIL import Image

from satclip_lib.files import write_atomically
from satclip_lib.plotting.layers import NO_VALUE_COLOR, Layer
from satclip_lib.plotting.maps import use_natural_earth
from satclip_lib.sphere import EARTH_RADIUS_KM

SPRITE_COLUMNS = 200  # patches in a row of the sheet of thumbnails
JPEG_QUALITY = 90
SEND_HOVER = """
document.dispatchEvent(new CustomEvent("atlas-hover", {detail: cb_data.index.indices}))
"""


def save_atlas(
    path: Path | str,
    *,
    plane: Float32[np.ndarray, "num_points 2"],
    lonlat: Float64[np.ndarray, "num_points 2"],
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
        patches: Red, green and blue of a small picture of each place, shown on hover.
        layers: Ways to colour the points; the first is shown first.
        title: Title of the page; like all text it may hold any letters, markup is shown as such.
        subtitle: How the plane was made.
        seed: Random seed of the drawing order, so that no class hides another.

    Raises:
        ValueError: If there is no layer, or arrays are not of one length.
    """
    if not layers:
        raise ValueError("layers is empty: give at least one way to colour the points")
    lengths = [len(plane), len(lonlat), len(patches), *(len(layer.values) for layer in layers)]
    if len(set(lengths)) > 1:
        raise ValueError(f"plane, lonlat, patches and layers must be of one length, got {lengths}")
    order = np.random.default_rng(seed).permutation(len(plane))
    columns = {"x": plane[order, 0], "y": plane[order, 1]}
    columns["east"], columns["north"] = _project(lonlat[order]).T
    columns["lon"], columns["lat"] = lonlat[order].T
    columns |= {f"layer{i}": layer.values[order] for i, layer in enumerate(layers)}
    source = models.ColumnDataSource(
        {name: np.asarray(column, np.float32) for name, column in columns.items()}, name="points"
    )
    variables = {
        "subtitle": subtitle,
        "titles": [layer.title for layer in layers],
        "sprite": make_sprite(patches[order]),
        "sprite_columns": SPRITE_COLUMNS,
    }
    page = file_html(
        _make_document(source, layers), INLINE, title, template=_read("atlas.html"),
        template_variables=variables,
    )  # fmt: skip
    with write_atomically(path) as scratch:
        scratch.write_text(page, encoding="utf-8")
    return Path(path)


class AtlasView:
    """The atlas inside a notebook: the same file in a frame of its own.

    Args:
        path: File from :func:`save_atlas`.
        height_px: Height of the frame in pixels.
    """

    def __init__(self, path: Path | str, *, height_px: int = 720):
        self.path, self.height_px = Path(path), height_px

    def _repr_html_(self) -> str:
        page = html.escape(self.path.read_text(encoding="utf-8"), quote=True)
        style = f"width:100%;height:{self.height_px}px;border:1px solid #ccc"
        return f'<iframe title="Atlas" style="{style}" srcdoc="{page}"></iframe>'


def make_sprite(patches: UInt8[np.ndarray, "num_points 3 size size"]) -> str:
    """All patches in one JPEG, row by row, as a ``data:`` address.

    A patch of 8 by 8 pixels is one block of JPEG's, and so does not bleed into its neighbours.
    """
    _, bands, size, _ = patches.shape
    sheet = np.pad(patches, ((0, -len(patches) % SPRITE_COLUMNS), (0, 0), (0, 0), (0, 0)))
    sheet = sheet.reshape(-1, SPRITE_COLUMNS, bands, size, size)
    sheet = sheet.transpose(0, 3, 1, 4, 2)  # (sheet row, y, sheet column, x, band)
    image = Image.fromarray(sheet.reshape(-1, SPRITE_COLUMNS * size, bands))
    buffer = io.BytesIO()
    image.save(buffer, format="jpeg", quality=JPEG_QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _make_document(source: models.ColumnDataSource, layers: Sequence[Layer]) -> Document:
    """The two plots as roots ``plane`` and ``map``, and the script that runs beside them."""
    mapper = models.LinearColorMapper(palette=["#000000"], nan_color=NO_VALUE_COLOR)
    view = models.CDSView(filter=models.BooleanFilter())
    cursor, goal = (
        models.ColumnDataSource({key: [] for key in ("x", "y", "east", "north")}, name=name)
        for name in ("cursor", "goal")
    )
    color = {"field": "layer0", "transform": mapper}
    ring = {"fill_color": None, "line_color": "black", "line_width": 2}
    document, renderers = Document(), []
    for name, x, y in (("plane", "x", "y"), ("map", "east", "north")):
        panel = _make_panel(name)
        if name == "map":
            panel.patches(*_land_outlines(), color="#ebebeb", line_color="#999999", line_width=0.5)
        shown = models.Scatter(x=x, y=y, size=4, fill_color=color, line_color=None)
        muted = shown.clone(size=2.5, fill_color="#b0b0b0", fill_alpha=0.2)
        states = {"selection_glyph": shown.clone(), "nonselection_glyph": muted}
        renderers.append(panel.add_glyph(source, shown, view=view, **states))
        panel.scatter(x, y, source=cursor, size=14, **ring)
        panel.scatter(x, y, source=goal, size=20, marker="circle_cross", **ring)
        hover = models.CustomJS(code=SEND_HOVER)
        panel.add_tools(models.HoverTool(renderers=renderers[-1:], tooltips=None, callback=hover))
        document.add_root(panel)
    arguments = {
        "source": source,
        "cursor": cursor,
        "goal": goal,
        "mapper": mapper,
        "filter": view.filter,
        "renderers": renderers,
        "layers": [
            {
                "title": layer.title,
                "units": layer.units,
                "low": layer.limits[0],
                "high": layer.limits[1],
                "names": list(layer.names),
                "colors": [to_hex(color) for color in layer.colors],
            }
            for layer in layers
        ],
        "earth_radius_km": EARTH_RADIUS_KM,
    }
    script = models.CustomJS(args=arguments, code=_read("atlas.js"))
    document.js_on_event("document_ready", script)
    return document


def _make_panel(name: str) -> figure:
    """An empty plot with its tools and without axes."""
    panel = figure(
        name=name,
        tools="pan,wheel_zoom,tap,reset",
        active_scroll="wheel_zoom",
        match_aspect=True,
        sizing_mode="stretch_both",
        output_backend="webgl",
        toolbar_location="above",
        outline_line_color="#bbbbbb",
    )
    # These select when they are closed, and so stay smooth.
    lasso = models.LassoSelectTool(continuous=False)
    panel.add_tools(lasso, models.BoxSelectTool(continuous=False))
    panel.toolbar.active_drag = lasso
    panel.toolbar.logo = None
    panel.axis.visible = panel.grid.visible = False
    return panel


def _project(lonlat: np.ndarray) -> np.ndarray:
    """Equal Earth, ``(num_points, 2)``, in thousands of km."""
    points = ccrs.EqualEarth().transform_points(ccrs.PlateCarree(), *lonlat.T)
    return points[:, :2] / 1e6


def _land_outlines() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Outer rings of all land but the lakes' holes, in the map's coordinates."""
    use_natural_earth()
    land = NaturalEarthFeature("physical", "land", "110m").geometries()
    projected = [ccrs.EqualEarth().project_geometry(shape, ccrs.PlateCarree()) for shape in land]
    parts = shapely.get_parts(shapely.union_all(projected))
    rings = [shapely.get_coordinates(part.exterior).astype(np.float32) / 1e6 for part in parts]
    return [ring[:, 0] for ring in rings], [ring[:, 1] for ring in rings]


def _read(name: str) -> str:
    return files("satclip_lib.plotting").joinpath(name).read_text(encoding="utf-8")
