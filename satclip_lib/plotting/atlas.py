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
from bokeh.document import Document
from bokeh.embed import file_html
from bokeh.models import (
    BooleanFilter,
    BoxSelectTool,
    CDSView,
    ColumnDataSource,
    CustomJS,
    GlyphRenderer,
    HoverTool,
    LassoSelectTool,
    LinearColorMapper,
    Scatter,
)
from bokeh.plotting import figure
from bokeh.resources import INLINE
from cartopy.feature import NaturalEarthFeature
from jaxtyping import Float32, Float64, UInt8
from PIL import Image

from satclip_lib.files import write_atomically
from satclip_lib.plotting.layers import NO_VALUE_COLOR, Layer
from satclip_lib.plotting.maps import use_natural_earth
from satclip_lib.sphere import EARTH_RADIUS_KM

SPRITE_COLUMNS = 200  # patches in a row of the sheet of thumbnails
JPEG_QUALITY = 90
TOOLS = "pan,wheel_zoom,tap,reset"


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
        path: of the file.
        plane: coordinates of the points in the plane, from :func:`compute_umap`.
        lonlat: ``(num_points, 2)`` degrees.
        patches: red, green and blue of a small picture of each place, shown on hover.
        layers: ways to colour the points; the first is shown first.
        title: of the page.
        subtitle: how the plane was made.
        seed: of the drawing order, so that no class hides another.

    Raises:
        ValueError: if there is no layer, or arrays are not of one length.
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
    source = ColumnDataSource(
        {name: np.asarray(column, np.float32) for name, column in columns.items()}, name="points"
    )
    variables = {
        "subtitle": subtitle,
        "titles": [layer.title for layer in layers],
        "sprite": make_sprite(patches[order]),
        "sprite_columns": SPRITE_COLUMNS,
    }
    document = _make_document(source, layers)
    with write_atomically(path) as scratch:
        page = file_html(
            document, INLINE, title, template=_read("atlas.html"), template_variables=variables
        )
        scratch.write_text(page, encoding="utf-8")
    return Path(path)


class AtlasView:
    """The atlas inside a notebook: the same file in a frame of its own.

    Args:
        path: a file from :func:`save_atlas`.
        height_px: of the frame.
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
    num_points, bands, size, _ = patches.shape
    num_rows = -(-num_points // SPRITE_COLUMNS)
    sheet = np.zeros((num_rows * SPRITE_COLUMNS, bands, size, size), np.uint8)
    sheet[:num_points] = patches
    sheet = sheet.reshape(num_rows, SPRITE_COLUMNS, bands, size, size).transpose(0, 3, 1, 4, 2)
    image = Image.fromarray(sheet.reshape(num_rows * size, SPRITE_COLUMNS * size, bands))
    buffer = io.BytesIO()
    image.save(buffer, format="jpeg", quality=JPEG_QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _make_document(source: ColumnDataSource, layers: Sequence[Layer]) -> Document:
    """The two plots as roots ``plane`` and ``map``, and the script that runs beside them."""
    mapper = LinearColorMapper(palette=["#000000"], nan_color=NO_VALUE_COLOR)
    view = CDSView(filter=BooleanFilter())
    cursor, goal = (
        ColumnDataSource({key: [] for key in ("x", "y", "east", "north")}, name=name)
        for name in ("cursor", "goal")
    )
    panels = {"plane": ("x", "y"), "map": ("east", "north")}
    roots, renderers = [], []
    for name, (x, y) in panels.items():
        panel = figure(
            name=name,
            tools=TOOLS,
            active_scroll="wheel_zoom",
            match_aspect=True,
            sizing_mode="stretch_both",
            output_backend="webgl",
            toolbar_location="above",
        )
        lasso = LassoSelectTool(continuous=False)  # selects when it is closed, and so stays smooth
        panel.add_tools(lasso, BoxSelectTool(continuous=False))
        panel.toolbar.active_drag = lasso
        panel.toolbar.logo = None
        panel.axis.visible = panel.grid.visible = False
        panel.outline_line_color = "#bbbbbb"
        if name == "map":
            panel.patches(*_land_outlines(), color="#ebebeb", line_color="#999999", line_width=0.5)
        renderer = _add_points(panel, source, x, y, mapper=mapper, view=view)
        ring = {"fill_color": None, "line_color": "black", "line_width": 2}
        panel.scatter(x, y, source=cursor, size=14, **ring)
        panel.scatter(x, y, source=goal, size=20, marker="circle_cross", **ring)
        panel.add_tools(
            HoverTool(
                renderers=[renderer],
                tooltips=None,
                callback=CustomJS(
                    code="document.dispatchEvent(new CustomEvent('atlas-hover',"
                    " {detail: cb_data.index.indices}))"
                ),
            )
        )
        roots.append(panel)
        renderers.append(renderer)
    document = Document()
    for panel in roots:
        document.add_root(panel)
    arguments = {
        "source": source,
        "cursor": cursor,
        "goal": goal,
        "mapper": mapper,
        "filter": view.filter,
        "renderers": renderers,
        "layers": [_describe(layer) for layer in layers],
        "no_value_color": NO_VALUE_COLOR,
        "earth_radius_km": EARTH_RADIUS_KM,
    }
    document.js_on_event("document_ready", CustomJS(args=arguments, code=_read("atlas.js")))
    return document


def _describe(layer: Layer) -> dict:
    """All but the points, as atlas.js wants it."""
    low, high = layer.limits
    about = {"title": layer.title, "units": layer.units, "low": low, "high": high}
    return about | {"names": list(layer.names), "colors": list(layer.colors)}


def _add_points(panel, source, x, y, *, mapper, view) -> GlyphRenderer:
    color = {"field": "layer0", "transform": mapper}
    shown = Scatter(x=x, y=y, size=4, fill_color=color, line_color=None)
    muted = Scatter(x=x, y=y, size=2.5, fill_color="#b0b0b0", fill_alpha=0.2, line_color=None)
    return panel.add_glyph(
        source, shown, selection_glyph=shown.clone(), nonselection_glyph=muted, view=view
    )


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
