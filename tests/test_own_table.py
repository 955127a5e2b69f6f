"""A table of your own is a task in one call, whatever file it is in."""

import geopandas
import numpy as np
import pandas as pd
import pytest

from satclip_lib.data.land import sample_land_lonlat
from satclip_lib.evaluation.baselines import Encoder
from satclip_lib.evaluation.benchmark import run_benchmark
from satclip_lib.evaluation.own_table import load_table
from satclip_lib.evaluation.positional import encode_unit_vector
from satclip_lib.evaluation.probes import fit_predict
from satclip_lib.evaluation.splits import make_splits


@pytest.fixture
def frame():
    """Places with a number and a class."""
    frame = pd.DataFrame(sample_land_lonlat(300, seed=0), columns=["lon", "lat"])
    return frame.assign(
        heat=np.cos(np.radians(frame.lat)), half=np.where(frame.lat > 0, "north", "south")
    )


def test_it_is_scored_beside_the_registered_tasks(frame):
    """One call of the benchmark takes the table and a name; blocks and random are scored."""
    result = run_benchmark(
        [Encoder("unit vector", encode_unit_vector)],
        [load_table(frame, target="half"), load_table(frame, target="heat"), "climate_zone"],
        protocols=["random", "blocks"],
        probes=["linear"],
        num_points=300,
    )
    assert list(result.scores.task.unique()) == ["half", "heat", "climate_zone"]
    assert result.scores[result.scores.task == "half"].score.min() > 0.9


def test_incomplete_rows_are_left_out_and_counted(frame):
    """A row without target or place is not used, and the source says how many were."""
    frame.loc[0, "heat"] = np.nan
    frame.loc[1, "lon"] = np.nan
    frame.loc[2, "lon"] += 360
    data = load_table(frame, target="heat")
    assert len(data.target) == 298 and "298 of 300 rows" in data.source
    assert data.lonlat[0, 0] == pytest.approx(frame.lon[2] - 360)


def test_numbered_classes_are_classes_if_one_says_so(frame):
    """Integers are numbers unless kind says otherwise; booleans are classes."""
    frame["code"] = (frame.lat > 0).astype(int)
    frame["flag"] = frame.lat > 0
    assert load_table(frame, target="code").task.kind == "regression"
    data = load_table(frame, target="code", kind="classification")
    assert data.class_names == ("0", "1")
    assert load_table(frame, target="flag").class_names == ("False", "True")


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
    named.to_csv(tmp_path / "a.csv.gz", index=False)
    named.to_csv(tmp_path / "b.csv", index=False, sep=";")
    places = geopandas.GeoDataFrame(
        frame[["heat"]].assign(lon=0, lat=0), geometry=geopandas.points_from_xy(*lonlat.T, crs=4326)
    )
    places.to_crs("EPSG:6933").to_parquet(tmp_path / "c.parquet")
    places.to_crs("EPSG:6933").to_file(tmp_path / "d.gpkg")
    for name in ("a.csv.gz", "b.csv", "c.parquet", "d.gpkg"):
        data = load_table(tmp_path / name, target="heat", units="1")
        assert (data.task.kind, data.task.name, data.task.units) == ("regression", "heat", "1")
        np.testing.assert_allclose(data.lonlat, lonlat, rtol=0, atol=1e-6)
        np.testing.assert_allclose(data.target, frame.heat, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="swapped: longitude comes first"):
        load_table(named, target="heat", lon="decimalLatitude", lat="decimalLongitude")


@pytest.mark.parametrize(
    ("labels", "class_names"),
    [
        (["NA", "DE", "FR"], ("DE", "FR", "NA")),
        (["01001", "1", "02"], ("01001", "02", "1")),
        (["True", "False", "True"], ("False", "True")),
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


@pytest.mark.parametrize("longitude", [-999, 9999, 500_000])
def test_marks_for_missing_values_are_refused_by_row(frame, longitude):
    """Numbers that mark missing values are not wrapped into longitudes."""
    frame.loc[7, "lon"] = longitude
    with pytest.raises(ValueError, match=r"beyond 540 degrees \(row 7 first\)"):
        load_table(frame, target="heat")
    frame.loc[7, "heat"] = np.nan  # a row that is not used
    assert len(load_table(frame, target="heat").target) == 299


def test_places_and_targets_are_put_together_by_position(frame):
    """An index that is doubled or shuffled, and a target that is a coordinate, do no harm."""
    doubled = frame.set_axis(np.zeros(len(frame), int))
    np.testing.assert_array_equal(load_table(doubled, target="heat").target, frame.heat)
    data = load_table(frame.iloc[::-1], target="lat")
    np.testing.assert_array_equal(data.target, data.lonlat[:, 1])


def test_infinite_targets_and_unknown_crs_are_named(frame):
    """They are refused by row, and geometries without a CRS as embed() refuses them."""
    for number in (-np.inf, 1e300):
        frame.loc[5, "heat"] = number
        with pytest.raises(ValueError, match=r"'heat' is infinite, or beyond .* rows, row 5 first"):
            load_table(frame, target="heat")
    places = geopandas.GeoDataFrame(frame, geometry=geopandas.points_from_xy(frame.lon, frame.lat))
    with pytest.raises(ValueError, match="no CRS"):
        load_table(places, target="half")


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


def test_numbers_among_objects_are_numbers_and_text_is_none(frame):
    """A column of Python numbers is regressed; text cannot be, whatever is asked for."""
    numbers = frame.assign(y=frame.heat.astype(object))
    assert load_table(numbers, target="y").task.kind == "regression"
    with pytest.raises(ValueError, match="'y' is text: make it numbers, or pass kind="):
        load_table(frame.assign(y="a"), target="y", kind="regression")


@pytest.mark.parametrize(
    ("probe", "power"), [("knn", 1), ("great circle", 1), ("inverse distance", 2)]
)
def test_of_few_rows_all_are_neighbours(probe, power):
    """Where fewer points are fitted than a probe has neighbours, it weighs all of them."""
    lonlat = np.stack([np.arange(0.0, 120, 20), np.zeros(6)], axis=1)
    table = pd.DataFrame(lonlat, columns=["lon", "lat"]).assign(y=2.0 ** np.arange(6))
    data = load_table(table, target="y")
    split = make_splits("random", data.lonlat)[0]
    (found,) = fit_predict(probe, data.lonlat, [data.target], [split], kind="regression")
    weights = np.abs(lonlat[split.test, :1] - lonlat[split.train, 0]) ** -float(power)
    expected = weights @ table.y.to_numpy()[split.train] / weights.sum(axis=1)
    np.testing.assert_allclose(found, expected)
