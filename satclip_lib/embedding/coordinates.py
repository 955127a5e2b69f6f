"""Which of many names are longitude and latitude, and what their units are: one rule for all."""

import math
import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

COMMON_NAMES = (("lon", "longitude", "lng", "long"), ("lat", "latitude"))
NAMES = (  # looked for where there are no columns of the common names
    (*COMMON_NAMES[0], "decimallongitude", "decimal_longitude", "nav_lon", "xlong"),
    (*COMMON_NAMES[1], "decimallatitude", "decimal_latitude", "nav_lat", "xlat"),
)
STANDARD_NAMES = ("longitude", "latitude")  # CF attributes of variables
ANGLE = re.compile(
    r"(?:(?:arc|decimal)_?)?(?:(degrees?|deg|°)|radians?|rad)_?(?:(e|n)(?:ast|orth)?|(w|s)(?:est|outh)?)?"
)


def find_lonlat(
    names: Sequence[Hashable], *, columns: Sequence[Hashable] | None = None
) -> tuple[int, int]:
    """Where longitude and latitude stand among the names of columns.

    Args:
        names: Names of all columns. Upper and lower case are the same, and a prefix that ends in
            two underscores, as scikit-learn's ``ColumnTransformer`` writes it, is ignored.
        columns: Names of longitude and latitude, if they are called something else.

    Returns:
        Position of the longitude, position of the latitude.

    Raises:
        ValueError: If there is no such column, or more than one, or ``columns`` contradicts the
            names. The message says which names there are.
    """
    names = list(names)
    if columns is not None:
        return _find_named(names, tuple(columns))
    for known in (COMMON_NAMES, NAMES):
        found = [[i for i, n in enumerate(names) if _simplify(n) in axis] for axis in known]
        if len(found[0]) == len(found[1]) == 1:
            return found[0][0], found[1][0]
    raise ValueError(
        f"the table must have one column called {' or '.join(COMMON_NAMES[0])} and one called "
        f"{' or '.join(COMMON_NAMES[1])}, but it has {names}: pass columns=(longitude, latitude)"
    )


def find_variables(variables: Mapping[Hashable, Any]) -> tuple[Hashable, Hashable] | None:
    """Names of longitude and latitude among variables of xarray, by name or CF standard name.

    Returns:
        The two names; None unless there is exactly one of each.
    """
    try:
        positions = find_lonlat(list(variables))
        return list(variables)[positions[0]], list(variables)[positions[1]]
    except ValueError:
        return find_by_standard_name(variables, STANDARD_NAMES)


def find_by_standard_name(
    variables: Mapping[Hashable, Any], standard_names: tuple[str, str]
) -> tuple[Hashable, Hashable] | None:
    """Names of two variables with given CF standard names, None unless there is one of each."""
    found = [
        [name for name, x in variables.items() if x.attrs.get("standard_name") == standard_name]
        for standard_name in standard_names
    ]
    return (found[0][0], found[1][0]) if len(found[0]) == len(found[1]) == 1 else None


def degrees_per_unit(units: str, *, is_latitude: bool) -> float:
    """Factor that turns numbers in CF units into degrees east or north.

    Args:
        units: Units, such as "degrees_east", "degrees_west", "radians"; "" means degrees.
        is_latitude: Whether the numbers are latitudes.

    Raises:
        ValueError: If the units are not those of a longitude or a latitude.
    """
    units = units.strip()
    if not units:
        return 1.0
    found = ANGLE.fullmatch(units.lower().replace(" ", "_"))
    direction = found and (found[2] or found[3])
    if not found or (direction and (direction in "ns") != is_latitude):
        wanted = "degrees_north" if is_latitude else "degrees_east"
        raise ValueError(
            f"{STANDARD_NAMES[is_latitude]} has units {units!r}: convert it to {wanted}, and say "
            "so in its attribute units"
        )
    return (1.0 if found[1] else math.degrees(1.0)) * (-1 if found[3] else 1)


def _find_named(names: list[Hashable], columns: tuple[Hashable, ...]) -> tuple[int, int]:
    if len(columns) != 2 or columns[0] == columns[1]:
        raise ValueError(f"columns must be two names, longitude and latitude, got {columns}")
    if absent := [name for name in columns if name not in names]:
        raise ValueError(f"the table has no column {absent}, only {names}")
    if doubled := [name for name in columns if names.count(name) > 1]:
        raise ValueError(f"the table has more than one column {doubled}: rename all but one")
    if _simplify(columns[0]) in NAMES[1] or _simplify(columns[1]) in NAMES[0]:
        raise ValueError(f"columns {columns} are swapped: longitude comes first, then latitude")
    return names.index(columns[0]), names.index(columns[1])


def _simplify(name: Hashable) -> str:
    return str(name).strip().lower().rpartition("__")[2]
