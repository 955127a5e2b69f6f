"""World maps for print: Natural Earth land and shores, and points coloured by value or class."""

from collections.abc import Hashable, Iterable, Mapping

import cartopy
import cartopy.crs as ccrs
import numpy as np
from cartopy.feature import NaturalEarthFeature
from cartopy.mpl.geoaxes import GeoAxes
from jaxtyping import Float, Num
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.lines import Line2D
from matplotlib.typing import ColorType

from satclip_lib.data.natural_earth import natural_earth_folder

PROJECTIONS = {
    "equal_earth": ccrs.EqualEarth,
    "robinson": ccrs.Robinson,
    "orthographic": ccrs.Orthographic,
}
LAND_COLOR, COAST_COLOR, COAST_WIDTH_PT = "0.92", "0.35", 0.35
LAND_ZORDER, POINTS_ZORDER, LINES_ZORDER, MARKS_ZORDER = 0.5, 1.5, 2.5, 5
MARK = {"marker": "o", "ms": 3.5, "mfc": "white", "mec": "black", "mew": 0.6}
STAR = MARK | {"marker": "*", "ms": 9, "mfc": "gold"}


def use_natural_earth() -> None:
    """Make cartopy read the layers in ``data/natural_earth`` instead of downloading its own.

    Cartopy would still download a layer that is not there. ``add_map`` calls this function.

    Raises:
        FileUnavailableError: If the package runs without its checkout.
    """
    cartopy.config["pre_existing_data_dir"] = natural_earth_folder()


def add_map(
    fig: Figure,
    position: tuple[int, int, int] | SubplotSpec = (1, 1, 1),
    *,
    title: str = "",
    projection: str = "equal_earth",
    central_lonlat: tuple[float, float] = (0.0, 0.0),
) -> GeoAxes:
    """Add a map with light land and thin shores to a figure; nothing is downloaded.

    Args:
        fig: Figure to draw in.
        position: (rows, columns, index from 1) as for ``fig.add_subplot``, or a grid cell.
        title: Text above the map.
        projection: ``"equal_earth"`` (equal area, so densities and shares can be compared),
            ``"robinson"`` (compromise) or ``"orthographic"`` (half a globe).
        central_lonlat: Longitude, latitude in degrees of the middle of the map; only
            ``"orthographic"`` takes a latitude other than 0.

    Returns:
        Axes with equal aspect and without ticks. Shores lie above the points drawn later.

    Raises:
        ValueError: If the projection is unknown or cannot have this central latitude.
        FileUnavailableError: If the package runs without its checkout.
    """
    use_natural_earth()
    ax = fig.add_subplot(
        *([position] if isinstance(position, SubplotSpec) else position),
        projection=_make_projection(projection, central_lonlat),
        title=title,
    )
    ax.set_global()
    land = {"facecolor": LAND_COLOR, "zorder": LAND_ZORDER}
    style = {"edgecolor": COAST_COLOR, "linewidth": COAST_WIDTH_PT}
    shores = {"facecolor": "none", "zorder": LINES_ZORDER} | style
    ax.add_feature(NaturalEarthFeature("physical", "land", "110m"), **land)
    ax.add_feature(NaturalEarthFeature("physical", "coastline", "110m"), **shores)
    ax.spines["geo"].set(**style)
    return ax


def plot_points(
    ax: GeoAxes,
    lonlat: Float[np.ndarray, "num_points 2"],
    values: Num[np.ndarray, " num_points"],
    *,
    size: float = 1.2,
    label: str | None = None,
    seed: int = 0,
    **colouring,
) -> PathCollection:
    """Draw points coloured by a number, in random order so that no group hides another.

    Args:
        ax: Map from ``add_map``.
        lonlat: Longitude, latitude in degrees.
        values: One number per point, any unit; points whose value is not finite are left out.
        size: Diameter of a point in typographic points (1/72 inch).
        label: Quantity and unit; where given, a colour bar carries it below the map.
        seed: Random seed of the drawing order.
        colouring: How numbers become colours, as in ``ax.scatter``: ``cmap`` (sequential for a
            magnitude, diverging for an error), and ``norm``, say ``CenteredNorm()``, or ``vmin``
            and ``vmax`` in the unit of values; without them the range is that of the values.

    Returns:
        The points, rasterised in PDF and SVG; hand them to ``fig.colorbar`` for another bar.

    Raises:
        ValueError: If lonlat and values do not match, or norm comes with vmin or vmax.
    """
    _check_points(lonlat, values=values)
    order = np.random.default_rng(seed).permutation(len(lonlat))
    order = order[np.isfinite(values[order])]
    style = {"cmap": "viridis"} | colouring
    points = draw_points(ax, lonlat[order], size=size, c=values[order], **style)
    if label is not None:
        bar = add_color_bar(points, ax, label)
        bar.ax.tick_params(width=COAST_WIDTH_PT, length=2)
    return points


def plot_classes(
    ax: GeoAxes,
    lonlat: Float[np.ndarray, "num_points 2"],
    classes: Iterable[Hashable],
    *,
    colors: Mapping[Hashable, ColorType],
    size: float = 1.2,
    legend_columns: int = 0,
    seed: int = 0,
) -> PathCollection:
    """Draw points coloured by class, in random order so that no class hides another.

    Args:
        ax: Map from ``add_map``.
        lonlat: Longitude, latitude in degrees.
        classes: One class per point: a list, array or pandas column.
        colors: Colour of each class, the same in every figure; may name more than occur.
        size: Diameter of a point in typographic points (1/72 inch).
        legend_columns: Columns of a legend below the map, in the order of ``colors``; 0 for none.
        seed: Random seed of the drawing order.

    Returns:
        The points, rasterised in PDF and SVG.

    Raises:
        ValueError: If lonlat and classes do not match, or a class has no colour.
    """
    classes = list(classes)
    _check_points(lonlat, classes=classes)
    if unknown := set(classes) - set(colors):
        raise ValueError(f"colors lacks the classes {sorted(map(str, unknown))}")
    order = np.random.default_rng(seed).permutation(len(lonlat))
    points = draw_points(ax, lonlat[order], size=size, color=[colors[classes[i]] for i in order])
    if legend_columns:
        ax.legend(
            handles=make_class_handles(colors),
            ncols=legend_columns,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.02),
            handletextpad=0.1,
            columnspacing=1.0,
        )
    return points


def draw_points(
    ax: GeoAxes, lonlat: Float[np.ndarray, "num_points 2"], *, size: float, **colouring
) -> PathCollection:
    """Draw points in the given order, between land and shores; pixels in PDF and SVG.

    Args:
        ax: Map from ``add_map``.
        lonlat: Longitude, latitude in degrees.
        size: Diameter of a point in typographic points (1/72 inch).
        colouring: ``color``, or ``c`` and ``cmap`` and so on, of ``ax.scatter``.
    """
    style = {"linewidths": 0, "rasterized": True, "zorder": POINTS_ZORDER}
    return ax.scatter(*lonlat.T, s=size**2, transform=ccrs.PlateCarree(), **style, **colouring)


def mark_place(ax: GeoAxes, lonlat: Iterable[float], *, star: bool = False) -> None:
    """Draw a circle or a star at one place, above everything else.

    Args:
        ax: Map from ``add_map``.
        lonlat: Longitude, latitude in degrees.
        star: Whether the mark is a golden star; otherwise it is a small white circle.
    """
    style = STAR if star else MARK
    ax.plot(*lonlat, transform=ccrs.PlateCarree(), zorder=MARKS_ZORDER, **style)


def add_color_bar(
    points: PathCollection, axes: Axes | list[Axes], label: str, *, pad: float = 0.04
) -> Colorbar:
    """Add one colour bar below a map, or below several that share their colours.

    Below a single map it keeps its distance, however much room the figure leaves there.

    Args:
        points: Points from ``plot_points``, on one of the maps.
        axes: Map, or maps, that the bar stands below.
        label: Quantity and unit.
        pad: Distance to the maps as a share of their height.
    """
    if isinstance(axes, Axes):
        place = {"cax": axes.inset_axes((0.25, -0.03 - pad, 0.5, 0.03))}
    else:
        place = {"ax": axes, "shrink": 0.5, "aspect": 50, "pad": pad}
    bar = points.figure.colorbar(points, orientation="horizontal", label=label, **place)
    bar.outline.set_linewidth(COAST_WIDTH_PT)
    return bar


def make_class_handles(colors: Mapping[Hashable, ColorType], *, size: float = 4.0) -> list[Line2D]:
    """Dots for a legend of classes.

    Args:
        colors: Colour of each class, in the order of the legend.
        size: Diameter of a dot in typographic points.
    """
    return [
        Line2D([], [], ls="", marker="o", ms=size, color=color, label=str(name))
        for name, color in colors.items()
    ]


def _make_projection(name: str, central_lonlat: tuple[float, float]) -> ccrs.Projection:
    if name not in PROJECTIONS:
        raise ValueError(f"projection must be one of {[*PROJECTIONS]}, got {name!r}")
    lon, lat = central_lonlat
    if name == "orthographic":
        return ccrs.Orthographic(lon, lat)
    if lat != 0:
        raise ValueError(
            f"{name} is centred on the equator, got central_lonlat {central_lonlat}: "
            'choose latitude 0 or projection="orthographic"'
        )
    return PROJECTIONS[name](lon)


def _check_points(lonlat: np.ndarray, **per_point: np.ndarray | list) -> None:
    if np.ndim(lonlat) != 2 or np.shape(lonlat)[1] != 2:
        raise ValueError(f"lonlat must have shape (num_points, 2), got {np.shape(lonlat)}")
    for name, values in per_point.items():
        if np.shape(values) != (len(lonlat),):
            raise ValueError(
                f"{name} must have one entry for each of the {len(lonlat)} points of lonlat, "
                f"got shape {np.shape(values)}"
            )
