"""Maps: what is drawn where, in which colour, and without the network."""

import cartopy
import cartopy.crs as ccrs
import cartopy.feature
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from cartopy.mpl.feature_artist import FeatureArtist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from satclip_lib.plotting import maps
from satclip_lib.plotting.maps import add_map, plot_classes, plot_points


@pytest.fixture(autouse=True)
def new_cartopy(no_network, tmp_path, monkeypatch):
    """A cartopy as freshly installed: no layer read so far, and any connection is an error."""
    monkeypatch.setitem(cartopy.config, "pre_existing_data_dir", tmp_path / "nothing")
    monkeypatch.setitem(cartopy.config, "data_dir", tmp_path / "nothing")
    monkeypatch.setattr(cartopy.feature, "_NATURAL_EARTH_GEOM_CACHE", {})


def render(fig: Figure) -> np.ndarray:
    """The drawn figure as (height, width, 3) in 0..1."""
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3] / 255


def color_at(ax, lon: float, lat: float) -> np.ndarray:
    """Colour (3,) of the drawn figure at a place."""
    picture = render(ax.figure)
    place = ax.projection.transform_point(lon, lat, ccrs.PlateCarree())
    column, row = ax.transData.transform(place)
    return picture[picture.shape[0] - 1 - int(row), int(column)]


@pytest.fixture
def fig() -> Figure:
    """A figure as wide as the printed page."""
    return Figure(figsize=(6.9, 3.6), dpi=150)


@pytest.mark.parametrize("projection", ["equal_earth", "robinson", "orthographic"])
def test_land_is_drawn_where_it_is_and_nothing_is_downloaded(fig, projection):
    """The Sahara is land-coloured, the Gulf of Guinea is white; no connection is opened."""
    ax = add_map(fig, projection=projection)
    land = to_rgb(maps.LAND_COLOR)
    assert color_at(ax, 20.0, 26.0) == pytest.approx(land, abs=0.02)
    assert color_at(ax, -5.0, 0.0) == pytest.approx((1, 1, 1), abs=0.02)


@pytest.mark.parametrize(
    ("projection", "central_lonlat"),
    [("equal_earth", (150.0, 0.0)), ("robinson", (180.0, 0.0)), ("orthographic", (180.0, 60.0))],
)
def test_the_date_line_leaves_no_trace(fig, projection, central_lonlat):
    """On maps of the Pacific, Chukotka is one colour, with no line at 180."""
    ax = add_map(fig, projection=projection, central_lonlat=central_lonlat)
    for lon in (178.5, 179.5, 180.0, -179.9, -179.5, -178.5):
        assert color_at(ax, lon, 67.2) == pytest.approx(to_rgb(maps.LAND_COLOR), abs=0.05)


@pytest.mark.parametrize("by_class", [False, True])
def test_points_have_the_colour_of_their_value_or_class(fig, by_class):
    """Whatever the drawing order, low is the first colour and high the last, each at its place."""
    lonlat = np.array([[-150.0, 0], [-30, -30], [80, -20], [-170, 30], [70, -40]])
    values = np.array([0.0, 1, 0, 1, 1])
    colors = {value: mpl.colormaps["coolwarm"](value)[:3] for value in (0.0, 1.0)}
    ax = add_map(fig)
    if by_class:
        plot_classes(ax, lonlat, pd.Series(values), colors=colors, size=8.0, seed=1)
    else:
        plot_points(ax, lonlat, values, cmap="coolwarm", size=8.0, seed=1)
    for place, value in zip(lonlat, values, strict=True):
        assert color_at(ax, *place) == pytest.approx(colors[value], abs=0.01)


def test_drawing_order_is_shuffled_by_the_seed(fig):
    """The same seed draws in the same order, another in another; each point keeps its value."""
    rng = np.random.default_rng(0)
    lonlat = np.column_stack([rng.uniform(-180, 180, 200), rng.uniform(-90, 90, 200)])
    values, before = np.arange(200.0), lonlat.copy()
    ax = add_map(fig)
    orders = [plot_points(ax, lonlat, values, seed=seed).get_array() for seed in (0, 0, 1)]
    drawn = plot_points(ax, lonlat, values)
    assert np.array_equal(orders[0], orders[1]) and not np.array_equal(orders[0], orders[2])
    assert not np.array_equal(orders[0], values) and np.array_equal(np.sort(orders[0]), values)
    assert np.array_equal(drawn.get_offsets(), lonlat[drawn.get_array().astype(int)])
    assert np.array_equal(lonlat, before)


def test_points_are_rasterised_between_land_and_shores(fig):
    """A PDF stays small and shores stay visible: points are pixels under the coastline."""
    ax = add_map(fig)
    points = plot_points(ax, np.zeros((1, 2)), np.zeros(1), size=3.0)
    land, coastline = (child for child in ax.get_children() if isinstance(child, FeatureArtist))
    assert points.get_rasterized()
    assert land.get_zorder() < points.get_zorder() < coastline.get_zorder()
    assert points.get_sizes() == pytest.approx([9.0])  # matplotlib counts points squared


def test_values_that_are_not_finite_are_left_out(fig):
    """NaN is no value: its point is not drawn, and the colour range is that of the others."""
    lonlat = np.array([[0.0, 0], [10, 0], [20, 0]])
    points = plot_points(add_map(fig), lonlat, np.array([1.0, np.nan, 3.0]))
    assert sorted(points.get_array()) == [1, 3] and points.get_clim() == (1, 3)


def test_legend_names_every_class_in_the_given_order(fig):
    """The legend follows the order of colors, whatever occurs in the data; 0 columns mean none."""
    colors = {"b": "C1", "a": "C0", "c": "C2"}
    ax = add_map(fig)
    plot_classes(ax, np.zeros((2, 2)), ["a", "b"], colors=colors)
    assert ax.get_legend() is None
    plot_classes(ax, np.zeros((2, 2)), ["a", "b"], colors=colors, legend_columns=3)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["b", "a", "c"]


def test_the_far_side_of_the_globe_is_not_drawn(fig):
    """On a globe, points behind it leave no mark and no warning; no points at all is fine too."""
    ax = add_map(fig, projection="orthographic", central_lonlat=(0.0, 0.0))
    before = render(fig)
    plot_points(ax, np.array([[180.0, 0.0], [170, 10]]), np.array([0.0, 1.0]), size=8.0)
    plot_classes(ax, np.empty((0, 2)), [], colors={})
    assert np.array_equal(render(fig), before)


def test_what_cannot_be_drawn_is_refused(fig, shape_checks_off):
    """Impossible maps, wrong shapes and classes without a colour are errors that say so."""
    with pytest.raises(ValueError, match=r"equal_earth.*got 'mercator'"):
        add_map(fig, projection="mercator")
    with pytest.raises(ValueError, match='latitude 0 or projection="orthographic"'):
        add_map(fig, central_lonlat=(0.0, 40.0))
    ax, lonlat = add_map(fig), np.zeros((3, 2))
    with pytest.raises(ValueError, match=r"lonlat must have shape \(num_points, 2\), got \(2, 3\)"):
        plot_points(ax, lonlat.T, np.zeros(2))
    with pytest.raises(ValueError, match=r"values must have one entry for each of the 3 points"):
        plot_points(ax, lonlat, np.zeros(2))
    with pytest.raises(ValueError, match=r"classes must have one entry for each of the 3 points"):
        plot_classes(ax, lonlat, ["a", "b"], colors={"a": "C0", "b": "C1"})
    with pytest.raises(ValueError, match=r"colors lacks the classes \['b', 'nan'\]"):
        plot_classes(ax, lonlat, ["a", "b", np.nan], colors={"a": "C0"})
