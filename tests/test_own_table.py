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


@pytest.fixture
def frame():
    """Places with a number and a class."""
    frame = pd.DataFrame(sample_land_lonlat(300, seed=0), columns=["lon", "lat"])
    return frame.assign(
        heat=np.cos(np.radians(frame.lat)), half=np.where(frame.lat > 0, "north", "south")
    )


@pytest.mark.parametrize("suffix", ["csv", "parquet", "geojson"])
def test_every_kind_of_file_gives_the_same_task(frame, tmp_path, suffix):
    """CSV, Parquet and GeoJSON hold the same places and targets as the frame."""
    path = tmp_path / f"table.{suffix}"
    if suffix == "csv":
        frame.to_csv(path, index=False)
    elif suffix == "parquet":
        frame.to_parquet(path)
    else:
        places = geopandas.points_from_xy(frame.lon, frame.lat, crs=4326)
        geopandas.GeoDataFrame(frame[["heat"]], geometry=places).to_file(path)
    data = load_table(path, target="heat", units="1")
    np.testing.assert_allclose(data.lonlat, frame[["lon", "lat"]], atol=1e-6)
    np.testing.assert_allclose(data.target, frame.heat, atol=1e-9)
    assert data.task.kind == "regression" and data.task.name == "heat" and data.task.units == "1"


def test_projected_geometries_become_degrees(frame):
    """Points in metres of another projection are where they were."""
    places = geopandas.points_from_xy(frame.lon, frame.lat, crs=4326)
    table = geopandas.GeoDataFrame(frame[["half"]], geometry=places).to_crs("ESRI:54034")
    data = load_table(table, target="half")
    np.testing.assert_allclose(data.lonlat, frame[["lon", "lat"]], atol=1e-6)
    assert data.class_names == ("north", "south")


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
