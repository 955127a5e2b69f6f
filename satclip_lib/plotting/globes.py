"""Colours of a global grid, drawn pixel by pixel on globes and maps."""

from collections.abc import Mapping

import cartopy.crs as ccrs
import matplotlib.pyplot as plt
import numpy as np
from cartopy.mpl.geoaxes import GeoAxes
from jaxtyping import Float, Float64
from matplotlib.figure import Figure
from scipy.ndimage import binary_closing, map_coordinates

from satclip_lib.data.land import is_land
from satclip_lib.plotting.maps import LAND_ZORDER, add_map
from satclip_lib.plotting.style import PAGE_WIDTH_IN, styled

FADE = 0.6  # share of white that is mixed into colours at sea and in Antarctica
ANTARCTICA_NORTH_DEG = -60.0
PIXELS_PER_IN = 250
GLOBES = (("orthographic", (20.0, 15.0)), ("orthographic", (-85.0, 15.0)))
WORLD = ("robinson", (0.0, 0.0))


def make_lonlat_grid(spacing_deg: float = 1.5) -> Float64[np.ndarray, "num_points 2"]:
    """Centres of the cells of a global grid, row by row from the north, each from 180 W.

    There are twice as many columns as rows.

    Args:
        spacing_deg: Width and height of a cell in degrees; it must divide 180.
    """
    lon = np.arange(-180 + spacing_deg / 2, 180, spacing_deg)
    lat = np.arange(90 - spacing_deg / 2, -90, -spacing_deg)
    return np.stack(np.meshgrid(lon, lat), axis=-1).reshape(-1, 2)


@styled()
def plot_globes(
    colors: Mapping[str, Float[np.ndarray, "num_points 3"]],
    *,
    others: Mapping[str, Float[np.ndarray, "num_points 3"]] | None = None,
    titles: tuple[str, str] = ("", ""),
) -> Figure:
    """One row per encoder: two globes and a world map, pale at sea and in Antarctica.

    Args:
        colors: Red, green and blue (0 to 1) of the grid of :func:`make_lonlat_grid`, by encoder.
        others: Other colours of the same encoders, for a second world map on the right.
        titles: Heads of the columns: what the colours are, and what the others are.
    """
    columns = [(colors, view) for view in (*GLOBES, WORLD)]
    columns += [(others, WORLD)] if others else []
    widths = [1.0 if view in GLOBES else 1.95 for _, view in columns]
    height_in = 0.2 + 0.95 * PAGE_WIDTH_IN / sum(widths)
    fig = plt.figure(figsize=(PAGE_WIDTH_IN, height_in * len(colors)))
    grid = fig.add_gridspec(len(colors), len(columns), width_ratios=widths)
    for row, name in enumerate(colors):
        above = [titles[0], "", "", titles[1]] if row == 0 else [""] * 4
        for column, (of_column, (projection, center)) in enumerate(columns):
            style = {"projection": projection, "central_lonlat": center}
            ax = add_map(fig, grid[row, column], title=above[column], **style)
            draw_raster(ax, of_column[name])
            if column == 0:
                beside = {"rotation": 90, "ha": "right", "va": "center", "fontsize": 7.5}
                ax.text(-0.06, 0.5, name, transform=ax.transAxes, **beside)
    return fig


def draw_raster(ax: GeoAxes, rgb: Float[np.ndarray, "num_points 3"]) -> None:
    """Fill a map with the colours of a global grid.

    Every pixel of the map is looked up in the grid, which is faster than warping the grid and
    leaves no gap at the date line.

    Args:
        ax: Map from ``add_map``.
        rgb: Colours of the cells of :func:`make_lonlat_grid`, 0 to 1.
    """
    west, east = ax.get_xlim()
    south, north = ax.get_ylim()
    width_px = int(ax.get_position().width * ax.figure.get_figwidth() * PIXELS_PER_IN)
    height_px = max(1, round(width_px * (north - south) / (east - west)))
    x = west + (np.arange(width_px) + 0.5) / width_px * (east - west)
    y = north - (np.arange(height_px) + 0.5) / height_px * (north - south)
    x, y = np.meshgrid(x, y)
    lonlat = ccrs.PlateCarree().transform_points(ax.projection, x, y)[..., :2]
    on_globe = np.isfinite(lonlat).all(axis=-1)
    back = ax.projection.transform_points(ccrs.PlateCarree(), *np.moveaxis(lonlat, -1, 0))[..., :2]
    distance = np.abs(back - np.stack([x, y], axis=-1)).max(axis=-1)
    on_globe &= distance < 1e-3 * (east - west)  # flat maps answer beyond their edge as well
    pixels = np.zeros((height_px, width_px, 4))
    places = lonlat[on_globe]
    pixels[on_globe] = np.column_stack([_look_up(rgb, places), np.ones(len(places))])
    seen = np.zeros_like(on_globe)
    seen[on_globe] = is_land(places) & (places[:, 1] > ANTARCTICA_NORTH_DEG)
    faded = on_globe & ~binary_closing(seen, iterations=2)  # small lakes count as land
    pixels[faded, :3] = 1 - (1 - FADE) * (1 - pixels[faded, :3])
    ax.imshow(
        pixels, extent=(west, east, south, north), transform=ax.projection,
        zorder=LAND_ZORDER + 0.1, interpolation="nearest",
    )  # fmt: skip


def _look_up(rgb: np.ndarray, lonlat: np.ndarray) -> np.ndarray:
    """Interpolate between centres of cells, also across the date line, ``(num_points, 3)``."""
    num_rows = round((len(rgb) / 2) ** 0.5)
    grid = rgb.reshape(num_rows, 2 * num_rows, 3)
    grid = np.pad(grid, ((0, 0), (1, 1), (0, 0)), mode="wrap")
    row = (90 - lonlat[:, 1]) / 180 * num_rows - 0.5
    column = (lonlat[:, 0] + 180) / 360 * (2 * num_rows) - 0.5 + 1  # after the wrapped one
    style = {"order": 1, "mode": "nearest"}
    colors = [map_coordinates(grid[..., k], [row, column], **style) for k in range(3)]
    return np.stack(colors, axis=1)
