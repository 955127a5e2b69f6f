"""Names and units of longitude and latitude are understood by one rule, or refused."""

import math

import pytest

from satclip_lib.embedding.coordinates import degrees_per_unit, find_lonlat


@pytest.mark.parametrize(
    "names",
    [
        ["lon", "lat"],
        ["Longitude", "LATITUDE"],
        ["lng", "lat"],
        [" long ", "lat "],
        ["decimalLongitude", "decimalLatitude"],
        ["nav_lon", "nav_lat"],
        ["XLONG", "XLAT"],
        ["place__lon", "place__lat"],
    ],
)
def test_names_decide_and_not_their_order(names):
    """Longitude is found wherever it stands."""
    assert find_lonlat([*names, "x"]) == (0, 1)
    assert find_lonlat(["id", names[1], names[0]]) == (2, 1)


def test_common_names_come_first():
    """A table with both is read as before rarer names were known."""
    assert find_lonlat(["decimalLatitude", "lat", "decimalLongitude", "lon"]) == (3, 1)


@pytest.mark.parametrize(
    "names",
    [
        ["lon", "lon", "lat"],
        ["lon", "longitude", "lat"],
        ["decimalLongitude", "nav_lon", "lat"],
        ["lat", "north"],
        ["x", "y"],
        [],
    ],
)
def test_doubled_and_unknown_names_are_refused(names):
    """The error says what was found and what to pass."""
    with pytest.raises(ValueError, match=r"it has \[.*\]: pass columns=\(longitude, latitude\)"):
        find_lonlat(names)


def test_named_columns_are_taken_unless_they_contradict():
    """Any two names may be longitude and latitude, but not a latitude as longitude."""
    names = ["north", "east", "lat", "lon", "lat"]
    assert find_lonlat(names, columns=("east", "north")) == (1, 0)
    assert find_lonlat([0, 1], columns=(1, 0)) == (1, 0)
    for columns, message in [
        (("latitude", "longitude"), r"no column \['latitude', 'longitude'\], only"),
        (("east", "lon"), "swapped: longitude comes first"),
        (("north", "lat"), r"more than one column \['lat'\]"),
        (("lon", "lon"), "must be two names"),
        (("lon", "north", "east"), "must be two names"),
    ]:
        with pytest.raises(ValueError, match=message):
            find_lonlat(names, columns=columns)
    for swapped in (("latitude", "longitude"), ("decimalLatitude", "x"), ("x", "LON")):
        with pytest.raises(ValueError, match="swapped"):
            find_lonlat([*swapped, "y"], columns=swapped)


UNITS = {  # by their factors to degrees east and north; None is refused
    (1, 1): ["", "deg", "°", "Decimal degrees"],
    (1, None): ["degrees_east", "degree_E", "degreesE"],
    (None, 1): ["degrees_north", "degreeN"],
    (-1, None): ["degrees_west"],
    (None, -1): ["degrees_south"],
    (180 / math.pi, 180 / math.pi): ["radians"],
    (-180 / math.pi, None): ["radian_west"],
    (None, None): ["km", "1", "arcmin"],
}


@pytest.mark.parametrize(("east", "north"), UNITS)
def test_units_become_degrees_or_are_refused(east, north):
    """Each unit of CF has its factor and its axis."""
    for units in UNITS[east, north]:
        for factor, is_latitude in ((east, False), (north, True)):
            if factor is not None:
                assert degrees_per_unit(units, is_latitude=is_latitude) == pytest.approx(factor)
                continue
            with pytest.raises(ValueError, match=f"has units '{units}': convert it to degrees_"):
                degrees_per_unit(units, is_latitude=is_latitude)
