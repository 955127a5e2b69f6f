"""Files of places are read right or refused, and other columns come back as they were."""

import bz2
import csv
import gzip

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from shapely.geometry import MultiPolygon, Point, box
from small import make_encoder

from satclip_lib import cli
from satclip_lib.checkpoints.store import save_pretrained
from satclip_lib.embedding import tables
from satclip_lib.embedding.embed import embed
from satclip_lib.embedding.tables import read_chunks

ENCODER = make_encoder(num_degrees=3, hidden_dim=4, embed_dim=2)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Files of four rows are read and written in two parts."""
    monkeypatch.setattr(tables, "ROWS_PER_CHUNK", 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a checkpoint in it."""
    folder = tmp_path_factory.mktemp("tables")
    save_pretrained(ENCODER, folder / "model")
    return folder


def _embed(folder, source, target="out.csv", *options):
    """Run the command line; its exit code and the path of the result."""
    call = ["embed", str(source), "-o", str(folder / target), "--model", str(folder / "model")]
    return cli.main([*call, *options]), folder / target


def _read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def _read_lonlat(path, **options):
    return np.concatenate([chunk.lonlat for chunk in read_chunks(path, **options)])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("lon,lat,name\n1,2,a\n3,4,b,\n", 3),
        ("lon,lat\nrow1,1,2\nrow2,3,4\n", 2),
        ('lon,lat,name\n1,2,"a\nb"\n\n3,4\n', 5),
        ("lon;lat;name\n1;2\n", 2),
    ],
)
def test_shifted_columns_are_refused_by_line(folder, capsys, text, line):
    """Rows longer or shorter than the header do not become other columns or other rows."""
    source = folder / "shifted.csv"
    source.write_text(text)
    code, target = _embed(folder, source, "shifted-out.csv")
    assert code == 1 and not target.exists()
    assert f"line {line} has" in capsys.readouterr().err


def test_a_trailing_comma_of_header_and_rows_is_a_column(folder):
    """Where the header ends in one as well, nothing is shifted."""
    source = folder / "comma.csv"
    source.write_text("lon,lat,\n1,2,\n3,4,\n")
    np.testing.assert_array_equal(_read_lonlat(source), [[1, 2], [3, 4]])


OTHERS = {
    "iso": ["NA", "DE", "", "null"],
    "fips": ["01001", "1e5", "1.50", "+7"],
    "id": ["617700169958293504", "9007199254740993", "", "3"],
    "flag": ["True", "true", "1", "yes"],
    "when": ["2020-01-01", "01/02/03", "", "12:00"],
    "text": ["a,b", 'say "x"', "two\nlines", " blank "],
}
LONG_NAME = 'mehr,;\t\n"ü"'


@pytest.mark.parametrize(
    ("suffix", "encoding"),
    [(".csv", "utf-8-sig"), (".tsv", "utf-16"), (".csv.gz", "utf-8"), (".csv.bz2", "utf-16")],
)
def test_text_passes_through_unread(folder, suffix, encoding):
    """Codes, identifiers, dates and NA are the same text afterwards, chunk after chunk."""
    frame = pd.DataFrame({"lon": ["1.10", "-2", "3e0", "4"], "lat": list("5678"), **OTHERS})
    frame[LONG_NAME] = "ß"
    delimiter = "\t" if suffix == ".tsv" else ","
    text = frame.to_csv(index=False, sep=delimiter, quoting=csv.QUOTE_NONNUMERIC)
    source = folder / f"text{suffix}"
    open_file = {".gz": gzip.open, ".bz2": bz2.open}.get(source.suffix, open)
    with open_file(source, "wb") as file:
        file.write(text.encode(encoding))
    code, target = _embed(folder, source, f"text-out{suffix}")
    assert code == 0
    with open_file(target, "rb") as file:
        found = file.read().decode().splitlines()
    for before, after in zip(text.splitlines(), found, strict=True):
        assert after.startswith(before)
    code, target = _embed(folder, source, "text-out.parquet")
    stored = pq.read_table(target).to_pandas().fillna("")
    for name in [*OTHERS, LONG_NAME]:
        assert stored[name].tolist() == frame[name].tolist()
    np.testing.assert_array_equal(stored[["lon", "lat"]], [[1.1, 5], [-2, 6], [3, 7], [4, 8]])
    expected = embed(stored[["lon", "lat"]].to_numpy(), ENCODER)
    np.testing.assert_allclose(stored[["embedding_0", "embedding_1"]], expected, atol=1e-6)


def test_parquet_keeps_its_columns_and_metadata(folder):
    """Arrow types, dictionaries, lists, the index and metadata of others are as they were."""
    columns = {
        "id": pa.array([617700169958293504, None, 3], pa.int64()),
        "lon": pa.array([1, 2, 3], pa.int32()),
        "tiny": pa.array([1, 2, 3], pa.uint8()),
        "land": pa.array(["NA", "DE", None]).dictionary_encode(),
        "when": pa.array([0, 1, None], pa.timestamp("us", "UTC")),
        "list": pa.array([[1], [], None], pa.list_(pa.int8())),
        "lat": pa.array(["4.5", None, "6"]),
        "f32": pa.array([0.1, 1 / 3, None], pa.float32()),
    }
    table = pa.table(columns).replace_schema_metadata({"mine": "kept"})
    pq.write_table(table, folder / "types.parquet")
    options = ("--missing", "propagate")
    code, target = _embed(folder, folder / "types.parquet", "types-out.parquet", *options)
    assert code == 0
    found = pq.read_table(target)
    assert found.select(table.column_names).equals(table)
    assert found.schema.metadata[b"mine"] == b"kept"
    assert np.isnan(found["embedding_0"].to_numpy()).tolist() == [False, True, False]
    code, target = _embed(folder, folder / "types.parquet", "types-out.csv", *options)
    rows = _read_csv(target)
    assert [row[0] for row in rows] == ["id", "617700169958293504", "", "3"]
    assert [row[3] for row in rows] == ["land", "NA", "DE", ""]
    assert [row[5] for row in rows] == ["list", "[1]", "[]", ""]
    assert [row[7] for row in rows] == ["f32", "0.1", "0.33333334", ""]
    assert rows[2][8:] == ["", ""]


@pytest.mark.parametrize("kind", ["parquet", "geojson", "gpkg", "fgb", "shp"])
def test_geometries_are_the_places(folder, kind):
    """Columns lon and lat of zeros beside a geometry do not count; CRS and name of it stay."""
    places = gpd.GeoSeries.from_xy([14.0, 15.5, 15.6], [50.0, 49.2, 48.0], crs=4326)
    others = {
        "iso": ["NA", "DE", "FR"],
        "when": ["2020-01-02", "2020-01-03", "2021-01-01"],
        "n": pd.array([617700169958293505, None, 3], "Int64"),
    }
    frame = gpd.GeoDataFrame(
        {"lon": 0.0, "lat": 0.0, **others},
        geometry=places.to_crs(4326 if kind == "geojson" else 3857),
    ).rename_geometry("geom")
    source = folder / f"places.{kind}"
    frame.to_parquet(source) if kind == "parquet" else frame.to_file(source)
    expected = np.stack([places.x, places.y], axis=1)
    order = [2, 0, 1] if kind == "fgb" else [0, 1, 2]
    found = _read_lonlat(source)
    if kind == "fgb":  # has an order of its own
        order = [int(np.abs(expected - place).sum(axis=1).argmin()) for place in found]
    np.testing.assert_allclose(found, expected[order], rtol=0, atol=1e-6)
    code, target = _embed(folder, source, "places-out.parquet")
    assert code == 0
    stored = gpd.read_parquet(target)
    assert stored.crs == frame.crs
    for name in others:
        assert stored[name].tolist() == frame[name].iloc[order].tolist()
    assert stored.geometry.name == ("geom" if kind == "parquet" else "geometry")
    np.testing.assert_array_equal(stored.geometry.x, frame.geometry.x.iloc[order])
    np.testing.assert_allclose(stored["embedding_0"], embed(found, ENCODER)[:, 0], atol=1e-6)
    code, target = _embed(folder, source, "places-out.csv")
    rows = _read_csv(target)
    texts = [row[rows[0].index(stored.geometry.name)] for row in rows[1:]]
    assert shapely.equals(shapely.from_wkt(texts), stored.geometry.to_numpy()).all()


def test_named_columns_are_taken_instead_of_geometries(folder):
    """``--columns`` is meant as it is said."""
    frame = gpd.GeoDataFrame({"x": [1.0], "y": [2.0]}, geometry=[Point(50, 60)], crs=4326)
    frame.to_parquet(folder / "both.parquet")
    np.testing.assert_array_equal(_read_lonlat(folder / "both.parquet"), [[50, 60]])
    found = _read_lonlat(folder / "both.parquet", columns=("x", "y"))
    np.testing.assert_array_equal(found, [[1, 2]])


@pytest.mark.parametrize("suffix", ["parquet", "gpkg"])
def test_areas_have_centres_where_they_are_wanted(folder, suffix):
    """load_table takes them, across 180 degrees too; the embedding of an area is not guessed."""
    fiji = MultiPolygon([box(177, -18, 180, -16), box(-180, -18, -177, -16)])
    frame = gpd.GeoDataFrame(geometry=[fiji], crs=4326)
    source = folder / f"fiji.{suffix}"
    frame.to_parquet(source) if suffix == "parquet" else frame.to_file(source)
    np.testing.assert_allclose(np.abs(_read_lonlat(source, centres=True)), [[180, 17]], atol=0.01)
    with pytest.raises(ValueError, match="geometries must be points, got MultiPolygon"):
        _read_lonlat(source)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "it has []"),
        ("a.csv", "lon,lat\n1,2\n3,48°51'N\n", "line 3: column 'lat' must hold numbers"),
        ("a.csv", "lon,lat\n1_000,2\n", "line 2: column 'lon'"),
        ("a.csv", b"lon,lat,\xe9\n1,2,3\n", "a.csv is not in UTF-8 or UTF-16"),
        ("a.csv.gz", b"lon,lat\n", "a.csv.gz is damaged: Not a gzipped file"),
        ("a.csv.gz", gzip.compress(b"lon,lat\n1,2\n", mtime=0)[:-9], "a.csv.gz is damaged"),
        ("a.csv", "lon,lat\n1,2\ninf,5\n", "1 of 2 locations are infinite (row 1 first)"),
        ("a.csv", "lon,lat,embedding_0\n1,2,3\n", "has columns ['embedding_0'] already"),
        ("a.xlsx", b"", "should end in one of .csv"),
    ],
)
def test_what_is_unclear_is_refused_in_one_line(folder, capsys, name, content, message):
    """Each says what came, and where."""
    source = folder / name
    source.write_bytes(content if isinstance(content, bytes) else content.encode())
    code, target = _embed(folder, source, "unclear.csv")
    (line,) = capsys.readouterr().err.splitlines()
    assert code == 1 and not target.exists()
    assert message in line


def test_rows_are_counted_through_the_file(folder, capsys):
    """An error in a later chunk says after how many rows."""
    source = folder / "late.csv"
    source.write_text("lon,lat\n" + "1,2\n" * 5 + "1,95\n")
    assert _embed(folder, source, "late-out.csv")[0] == 1
    assert "in the rows from 3 on, 1 of 3 latitudes" in capsys.readouterr().err


def test_files_of_several_layers_are_refused(folder):
    """Which layer is meant is a question."""
    frame = gpd.GeoDataFrame(geometry=[Point(1, 2)], crs=4326)
    for layer in ("a", "b"):
        frame.to_file(folder / "layers.gpkg", layer=layer)
    with pytest.raises(ValueError, match=r"several layers, \['a', 'b'\]"):
        _read_lonlat(folder / "layers.gpkg")


def test_semicolons_and_long_fields_stay(folder):
    """A semicolon where there is no comma is the delimiter; polygons as text may be long."""
    long = "x" * 200_000
    source = folder / "semicolons.csv"
    source.write_text(f'lon;lat;"text,\nlong"\n1.5;2;{long}\n')
    before = csv.field_size_limit()
    code, target = _embed(folder, source, "semicolons-out.csv")
    assert code == 0 and csv.field_size_limit() == before
    assert target.read_text().splitlines()[2].startswith(f"1.5;2;{long};")
