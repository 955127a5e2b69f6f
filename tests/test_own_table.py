"""A table of your own is a task in one call, whatever file it is in."""

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely

from satclip_lib.data.land import sample_land_lonlat
from satclip_lib.evaluation.own_table import load_table


@pytest.fixture
def frame():
    """Places with a number and a class."""
    frame = pd.DataFrame(sample_land_lonlat(300, seed=0), columns=["lon", "lat"])
    return frame.assign(
        heat=np.cos(np.radians(frame.lat)), half=np.where(frame.lat > 0, "north", "south")
    )


def test_incomplete_rows_are_left_out_and_counted(frame):
    """A row without target or place is not used, and the source says how many were."""
    frame.loc[0, "heat"] = np.nan
    frame.loc[1, "lon"] = np.nan
    frame.loc[2, "lon"] += 360
    data = load_table(frame, target="heat")
    assert len(data.target) == 298 and "298 of 300 rows" in data.source
    assert data.lonlat[0, 0] == pytest.approx(frame.lon[2] - 360)


def test_mistakes_are_named(frame, tmp_path):
    """Missing columns, swapped coordinates, unknown files and empty tables are errors."""
    with pytest.raises(ValueError, match=r"no column yield; the table has lon, lat, heat, half"):
        load_table(frame, target="yield")
    with pytest.raises(ValueError, match="swapped"):
        load_table(frame, target="heat", lon="lat", lat="lon")
    with pytest.raises(ValueError, match=r"should end in one of \.csv"):
        load_table(tmp_path / "table.xlsx", target="heat")
    with pytest.raises(ValueError, match="no row has all"):
        load_table(frame.assign(heat=np.nan), target="heat")


def test_files_are_read_as_the_command_line_reads_them(frame, tmp_path):
    """Names of other people, semicolons, compression and geometries in any CRS: one rule."""
    lonlat = frame[["lon", "lat"]].to_numpy()
    named = frame.rename(columns={"lon": "decimalLongitude", "lat": "decimalLatitude"})
    named.to_csv(tmp_path / "a.csv.gz", index=False, sep=";")
    points = geopandas.points_from_xy(*lonlat.T, crs=4326)
    places = geopandas.GeoDataFrame(frame[["heat"]].assign(lon=0, lat=0), geometry=points)
    places.to_crs("EPSG:6933").to_parquet(tmp_path / "b.parquet")
    fields = places.set_geometry(shapely.box(*(lonlat - 1e-3).T, *(lonlat + 1e-3).T), crs=4326)
    fields.to_file(tmp_path / "c.gpkg")
    for table in (fields, tmp_path / "c.gpkg"):  # of areas, the centres count
        found = load_table(table, target="heat").lonlat
        np.testing.assert_allclose(found, lonlat, rtol=0, atol=1e-6)
    for name in ("a.csv.gz", "b.parquet"):
        data = load_table(tmp_path / name, target="heat", units="1")
        assert (data.task.kind, data.task.name, data.task.units) == ("regression", "heat", "1")
        np.testing.assert_allclose(data.lonlat, lonlat, rtol=0, atol=1e-6)
        np.testing.assert_allclose(data.target, frame.heat, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("labels", "class_names"),
    [
        (["NA", "DE", "FR"], ("DE", "FR", "NA")),
        (["01001", "1", "02"], ("01001", "02", "1")),
        (["nan", "NA", "null"], ("NA",)),
        (["a", "", "b"], ("a", "b")),
        (["1", "NA", "2.5"], None),
        (["1e3", "", "-7"], None),
    ],
)
def test_labels_of_text_files_are_taken_at_their_word(tmp_path, labels, class_names):
    """NA is Namibia among classes and nothing among numbers; 01001 is a code."""
    rows = [f"{i},{i % 80},{labels[i % 3]}" for i in range(90)]
    path = tmp_path / "labels.csv"
    path.write_text("\n".join(["lon,lat,y", *rows]) + "\n")
    data = load_table(path, target="y")
    assert data.class_names == class_names
    if class_names is None:
        words = [x for x in labels if x not in ("", "NA")]
        assert sorted(set(data.target)) == sorted(map(float, words))
    expected = np.array([[i, i % 80] for i in range(90)], dtype=float)
    kept = [labels[i % 3] in (class_names or words) for i in range(90)]
    np.testing.assert_array_equal(data.lonlat, expected[kept])


@pytest.mark.parametrize("dtype", ["bool", "boolean", "bool[pyarrow]"])
def test_true_and_false_are_classes(frame, dtype):
    """However pandas keeps them, with values missing or not."""
    frame["flag"] = (frame.lat > 0).astype(dtype)
    if dtype != "bool":
        frame.loc[3, "flag"] = None
    data = load_table(frame, target="flag")
    assert data.task.kind == "classification" and data.class_names == ("False", "True")
    assert len(data.target) == 300 - (dtype != "bool")


def test_marks_for_missing_values_are_refused_by_row(frame):
    """Such a longitude or target is named with its row, unless the row is not used."""
    for name, number, message in (
        ("lon", -999, r"beyond 540 degrees \(row 7 first\)"),
        ("heat", -np.inf, "'heat' is infinite, or beyond .* rows, row 7 first"),
        ("heat", 1e300, "'heat' is infinite, or beyond .* rows, row 7 first"),
    ):
        wrong = frame.copy()
        wrong.loc[7, name] = number
        with pytest.raises(ValueError, match=message):
            load_table(wrong, target="heat")
        wrong.loc[7, "heat"] = np.nan
        assert len(load_table(wrong, target="heat").target) == 299


def test_places_and_targets_are_put_together_by_position(frame):
    """An index that is doubled or shuffled, and a target that is a coordinate, do no harm."""
    doubled = frame.set_axis(np.zeros(len(frame), int))
    np.testing.assert_array_equal(load_table(doubled, target="heat").target, frame.heat)
    data = load_table(frame.iloc[::-1], target="lat")
    np.testing.assert_array_equal(data.target, data.lonlat[:, 1])


DAYS = pd.date_range("2020-01-01", periods=300)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1, 2]] * 300, "holds list: make it real numbers, or names of classes as text"),
        (DAYS, "holds datetime64"),
        (DAYS.date, "holds date: "),
        (DAYS - DAYS[0], "holds timedelta64"),
        (np.full(300, 1j), "holds complex128"),
        ([1, "a"] * 150, "holds int, str"),
        (np.ones(300), "is the same in all rows: there is nothing to predict"),
        (1e-200 * np.arange(300), "is the same in all rows"),
    ],
)
def test_what_cannot_be_predicted_is_refused(frame, values, message):
    """The kind is named, and what would do."""
    with pytest.raises(ValueError, match=f"'y' {message}"):
        load_table(frame.assign(y=values), target="y")


def test_numbers_are_numbers_unless_the_caller_says_otherwise(frame):
    """Python's too; classes may be numbered, but text cannot be regressed."""
    numbers = frame.assign(y=(frame.lat > 0).astype(int).astype(object))
    assert load_table(numbers, target="y").task.kind == "regression"
    assert load_table(numbers, target="y", kind="classification").class_names == ("0", "1")
    with pytest.raises(ValueError, match="'half' is text: make it numbers, or pass kind="):
        load_table(frame, target="half", kind="regression")
