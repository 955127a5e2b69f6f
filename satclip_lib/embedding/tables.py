"""Read and write files of places, some rows at a time, with all columns that they have.

The records of a text file are copied as they are written, and so are the Arrow columns and the
metadata of a Parquet file. New columns come last.
"""

import contextlib
import csv
import io
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from jaxtyping import Float64

from satclip_lib.embedding.containers import read_locations, split_columns, to_numbers
from satclip_lib.embedding.coordinates import find_lonlat
from satclip_lib.embedding.text_tables import (
    DELIMITERS,
    TEXT_SUFFIXES,
    Chunk,
    find_suffix,
    open_text,
    read_text,
)

ROWS_PER_CHUNK = 65_536  # 64 MB of embeddings
GIS_SUFFIXES = (".geojson", ".geojsonl", ".json", ".gpkg", ".shp", ".fgb")


def read_chunks(
    path: Path | str, *, columns: tuple[str, str] | None = None, centres: bool = False
) -> Iterator[Chunk]:
    """Read a file of places.

    Args:
        path: Text (``.csv``, ``.tsv``, ``.txt``, also compressed), ``.parquet``, or what
            geopandas reads (``.geojson``, ``.gpkg``, ``.shp``, ``.fgb``). Where there are
            geometries, they are the places.
        columns: Names of longitude and latitude, if they are not called lon and lat; these columns
            are used instead of geometries.
        centres: Whether geometries other than points become their centres of mass, or are refused.

    Yields:
        Rows in the order of the file; one empty chunk if there are none.

    Raises:
        ValueError: If the kind of file is not known, or it has no longitude and latitude, or a row
            has more or fewer fields than the header. The message names the line.
    """
    path = Path(path)
    kind = find_suffix(path)
    if kind in TEXT_SUFFIXES:
        yield from read_text(path, columns, rows_per_chunk=ROWS_PER_CHUNK)
    elif kind == ".parquet":
        yield from _read_parquet(path, columns, centres=centres)
    elif kind in GIS_SUFFIXES:
        yield from _read_parquet(_read_gis(path), columns, centres=centres)
    else:
        known = ", ".join((*TEXT_SUFFIXES, ".parquet", *GIS_SUFFIXES))
        raise ValueError(f"a table of places should end in one of {known}, got {path.name}")


def write_chunks(chunks: Iterator[tuple[Chunk, dict[str, np.ndarray]]], path: Path) -> None:
    """Write the rows of a file with new columns behind those that are there.

    Args:
        chunks: Pairs of rows as :func:`read_chunks` gives them and of new columns by name, each
            ``(num_rows,)`` or ``(num_rows, n)``; the latter become ``name_0 .. name_<n-1>``.
        path: File to write: ``.csv`` or ``.tsv``, also compressed, or ``.parquet``.

    Raises:
        ValueError: If the kind of file is not known, or a new column has the name of an old one.
    """
    kind = find_suffix(path)
    if kind != ".parquet" and kind not in TEXT_SUFFIXES:
        raise ValueError(f"embeddings go to a .parquet, .csv or .tsv file, got {path.name}")
    with contextlib.ExitStack() as stack:
        write = None
        for chunk, found in chunks:
            arrays = split_columns(found)
            if taken := sorted(set(arrays) & set(chunk.columns.column_names)):
                raise ValueError(f"the table has columns {taken} already: rename or drop them")
            new = pa.table({name: pa.array(x, from_pandas=True) for name, x in arrays.items()})
            if write is None:
                make = _write_parquet if kind == ".parquet" else _write_text
                write = stack.enter_context(make(path, chunk, new))
            write(chunk, new)


def _read_gis(path: Path) -> io.BytesIO:
    """What geopandas reads, as a GeoParquet file in memory."""
    import geopandas
    import pandas as pd

    layers = geopandas.list_layers(path)["name"].tolist()
    if len(layers) > 1:
        raise ValueError(f"{path.name} has several layers, {layers}: save one of them alone")
    options = {"DATE_AS_STRING": "YES"} if "json" in path.suffix.lower() else {}
    frame = geopandas.read_file(
        path, use_arrow=True, arrow_to_pandas_kwargs={"types_mapper": pd.ArrowDtype}, **options
    )
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer


def _read_parquet(
    source: Path | io.BytesIO, columns: tuple[str, str] | None, *, centres: bool
) -> Iterator[Chunk]:
    with pq.ParquetFile(source) as file:
        schema = file.schema_arrow
        tables = (pa.Table.from_batches([batch]) for batch in file.iter_batches(ROWS_PER_CHUNK))
        for table in tables if file.metadata.num_rows else [schema.empty_table()]:
            whole = table.replace_schema_metadata(schema.metadata)
            yield Chunk(_locate(whole, columns, centres=centres), whole)


def _locate(
    table: pa.Table, columns: tuple[str, str] | None, *, centres: bool
) -> Float64[np.ndarray, "num_rows 2"]:
    """Longitude and latitude of a Parquet table, degrees: of its geometries, if it has any."""
    about = json.loads((table.schema.metadata or {}).get(b"geo", "{}"))
    if about and columns is None:
        import geopandas

        buffer = io.BytesIO()
        pq.write_table(table.select([about["primary_column"]]), buffer)
        return read_locations(geopandas.read_parquet(buffer), centres=centres).lonlat
    names = table.column_names
    positions = find_lonlat(names, columns=columns)
    return np.stack([to_numbers(table.column(i).to_pandas(), names[i]) for i in positions], axis=1)


@contextmanager
def _write_parquet(path: Path, chunk: Chunk, new: pa.Table) -> Iterator[Callable]:
    old = chunk.columns.schema
    schema = pa.schema([*old, *new.schema], metadata=old.metadata)
    with pq.ParquetWriter(path, schema) as writer:
        yield lambda chunk, new: writer.write_table(
            pa.table([*chunk.columns.columns, *new.columns], schema=schema)
        )


@contextmanager
def _write_text(path: Path, chunk: Chunk, new: pa.Table) -> Iterator[Callable]:
    delimiter = DELIMITERS[find_suffix(path)]
    if find_suffix(path) == ".csv" and chunk.delimiter == ";":
        delimiter = ";"
    with open_text(path, "wt") as file:

        def write_lines(records: list[str], lines: list[str]) -> None:
            for record, line in zip(records, lines, strict=True):
                file.write(f"{record}{delimiter}{line}\n")

        def write(chunk: Chunk, new: pa.Table) -> None:
            sink = pa.BufferOutputStream()
            options = pyarrow.csv.WriteOptions(include_header=False, delimiter=delimiter)
            pyarrow.csv.write_csv(new, sink, options)
            lines = sink.getvalue().to_pybytes().decode().splitlines()
            write_lines(_to_records(chunk, delimiter)[1:], lines)

        write_lines(_to_records(chunk, delimiter)[:1], [delimiter.join(new.column_names)])
        yield write


def _to_records(chunk: Chunk, delimiter: str) -> list[str]:
    """Header and rows as text; unchanged if they come from text with the same delimiter."""
    if chunk.records is not None and chunk.delimiter == delimiter:
        return chunk.records
    if chunk.records is not None:
        rows = csv.reader(chunk.records, delimiter=chunk.delimiter)
    else:
        about = json.loads((chunk.columns.schema.metadata or {}).get(b"geo", "{}"))
        geometries = about.get("columns", {})
        names = chunk.columns.column_names
        texts = [
            _to_texts(column, is_geometry=name in geometries)
            for name, column in zip(names, chunk.columns.columns, strict=True)
        ]
        rows = itertools.chain([names], zip(*texts, strict=True))
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter)  # quotes text with line ends, as it should
    records = []
    for row in rows:
        writer.writerow(row)
        records.append(buffer.getvalue().removesuffix("\r\n"))
        buffer.seek(0)
        buffer.truncate()
    return records


def _to_texts(column: pa.ChunkedArray, *, is_geometry: bool) -> list[str]:
    """Text of each value: numbers with all their digits, geometries as WKT, "" if missing."""
    if is_geometry and pa.types.is_binary(column.type):
        import shapely

        values = shapely.to_wkt(shapely.from_wkb(column.to_pylist()), rounding_precision=-1)
    elif pa.types.is_float32(column.type) or pa.types.is_timestamp(column.type):
        values = column.cast(pa.string()).to_pylist()
    else:
        values = column.to_pylist()
    return ["" if value is None else str(value) for value in values]
