"""Where the points of a task come from: stations, places on land, tables.

A loader is called with ``(num_points, seed)`` and returns :class:`LabelledPoints`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Float64, Shaped

from satclip_lib.data import labels
from satclip_lib.data.land import sample_land_lonlat
from satclip_lib.data.natural_earth import lookup_regions


class LabelledPoints(NamedTuple):
    """Locations in degrees, a number or a class name for each, and where they come from.

    ``features``, ``(num_points, num_features)``, are other inputs of the probe, such as features
    of a photo that was taken at the point; they are put behind every embedding.
    """

    lonlat: Float64[np.ndarray, "num_points 2"]
    labels: Shaped[np.ndarray, " num_points"]
    source: str
    features: Float[np.ndarray, "num_points num_features"] | None = None


def load_rows(
    num_points: int, seed: int, *, load: Callable[[], pd.DataFrame], column: str, rows: str
) -> LabelledPoints:
    """One column of a table of places; a random subset if it has more rows than asked for.

    Args:
        num_points: Largest number of points.
        seed: Random seed for drawing the subset.
        load: Function that returns a table with ``lon`` and ``lat``, degrees, and ``column``.
        column: Name of the column with the labels.
        rows: Name of the rows in ``source``, such as "weather stations".
    """
    table = load()
    chosen = np.sort(np.random.default_rng(seed).permutation(len(table))[:num_points])
    lonlat = table[["lon", "lat"]].to_numpy(np.float64)[chosen]
    found = table[column].to_numpy()[chosen]
    return LabelledPoints(lonlat, found, f"{len(chosen)} of {len(table)} {rows}")


def load_on_land(
    num_points: int, seed: int, *, lookup: Callable[[np.ndarray], np.ndarray], source: str
) -> LabelledPoints:
    """Labels at locations drawn uniformly per land area; those without a label are skipped."""
    candidates = sample_land_lonlat(10 + num_points * 5 // 4, seed=seed)
    found = lookup(candidates)
    kept = np.flatnonzero(~pd.isna(found))[:num_points]
    source += f"; {len(kept)} locations drawn uniformly per land area"
    if len(kept) < num_points:
        source += f" ({num_points} asked for, {len(candidates)} tried, the others have no label)"
    return LabelledPoints(candidates[kept], found[kept], source)


def lookup_log_population_density(lonlat: np.ndarray) -> np.ndarray:
    """Logarithm of one plus the population density in people per km2."""
    return np.log1p(labels.lookup_population_density(lonlat))


def lookup_biome(lonlat: np.ndarray) -> np.ndarray:
    """Names of biomes; None at sea and on ice."""
    return labels.lookup_ecoregions(lonlat)["biome"].to_numpy()


def lookup_ecoregion(lonlat: np.ndarray) -> np.ndarray:
    """Names of ecoregions; None at sea and on ice, which has none."""
    regions = labels.lookup_ecoregions(lonlat)
    return regions["ecoregion"].where(regions["biome"].notna(), None).to_numpy()


def lookup_country(lonlat: np.ndarray) -> np.ndarray:
    """English names of countries; missing far from land."""
    return lookup_regions(lonlat)["country"].to_numpy(dtype=object)
