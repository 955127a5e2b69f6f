"""Parts of the Earth by name or by their corners."""

from difflib import get_close_matches
from typing import TypeAlias

import numpy as np
import shapely
from jaxtyping import Bool, Float64

from satclip_lib.data.natural_earth import load_countries

Region: TypeAlias = tuple[float | int, ...] | str  # a box or a country


def find_within(
    lonlat: Float64[np.ndarray, "num_points 2"], region: Region
) -> Bool[np.ndarray, " num_points"]:
    """True for the points that lie in a box or a country.

    Args:
        lonlat: Longitude and latitude, degrees.
        region: Box ``(west, south, east, north)``, degrees, which crosses 180 E if west is larger
            than east; or the name of a country, or its three letters (ISO 3166), as
            :func:`satclip_lib.data.natural_earth.load_countries` has them. Its outline is coarse
            (1:110 million), so that points near the coast may be missed.

    Raises:
        ValueError: If the numbers are no box, or there is no such country.
    """
    if isinstance(region, str):
        countries = load_countries()
        names = {str(n).casefold(): i for i, n in enumerate(countries["iso_a3"])}
        names |= {str(n).casefold(): i for i, n in enumerate(countries["country"])}
        if region.casefold() not in names:
            similar = get_close_matches(region.casefold(), names, n=5) or ["France", "FRA"]
            raise ValueError(
                f"there is no country {region!r}: give a name such as {', '.join(similar)}, or a "
                "box (west, south, east, north) in degrees"
            )
        outline = countries.geometry.iloc[names[region.casefold()]]
        shapely.prepare(outline)
        return shapely.intersects_xy(outline, *lonlat.T)
    west, south, east, north = region if len(region) == 4 else [np.nan] * 4
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south < north <= 90):
        raise ValueError(
            f"a box is (west, south, east, north), from -180 to 180 and -90 to 90 degrees, got "
            f"{tuple(region)}"
        )
    lon, lat = lonlat.T
    is_across = (lon >= west) | (lon <= east) if west > east else (lon >= west) & (lon <= east)
    return is_across & (lat >= south) & (lat <= north)
