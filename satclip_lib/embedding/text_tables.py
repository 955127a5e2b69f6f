"""Read tables of text, some records at a time, and keep each record as it is written.

Fields are separated by a comma, a tab or a semicolon; files may be compressed with gzip or bzip2,
and are in UTF-8 or UTF-16.
"""

import bz2
import csv
import gzip
import itertools
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
import pyarrow as pa
from jaxtyping import Float64

from satclip_lib.embedding.coordinates import find_lonlat

TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
COMPRESSIONS: dict[str, Callable] = {".gz": gzip.open, ".bz2": bz2.open}
DELIMITERS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
# How a missing number is written; other words are errors in a column of coordinates.
MISSING = {"", "na", "n/a", "#n/a", "<na>", "nan", "-nan", "null", "none", "nil"}


@dataclass(frozen=True)
class Chunk:
    """Some rows of a file.

    Attributes:
        lonlat: Locations, ``(num_rows, 2)``, degrees, not checked yet.
        columns: All columns, in their order. Those of a text file are text, with None for an empty
            field, but longitude and latitude are numbers.
        records: Header and rows of a text file as they are written there; None for other files.
        delimiter: Character between the fields of ``records``.
    """

    lonlat: Float64[np.ndarray, "num_rows 2"]
    columns: pa.Table
    records: list[str] | None = None
    delimiter: str = ","


def find_suffix(path: Path) -> str:
    """Suffix of a file in lower case, such as ".csv", without that of its compression."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if len(suffixes) > 1 and suffixes[-1] in COMPRESSIONS and suffixes[-2] in TEXT_SUFFIXES:
        return suffixes[-2]
    return suffixes[-1] if suffixes else ""


def read_text(
    path: Path, columns: tuple[str, str] | None, *, rows_per_chunk: int
) -> Iterator[Chunk]:
    """Read the rows of a text file, in their order; one empty chunk if there are none.

    Raises:
        ValueError: If the file is damaged, has no longitude and latitude, or a row has more or
            fewer fields than the header. The message names the file or the line.
    """
    with _reading(path), open_text(path) as file:
        lines: list[str] = []  # of the current record
        head = [file.readline().removeprefix("\ufeff")]
        while "".join(head).count('"') % 2 and (more := file.readline()):
            head.append(more)  # a name in quotes has more than one line
        delimiter = _find_delimiter("".join(head), default=DELIMITERS[find_suffix(path)])

        def keep_lines() -> Iterator[str]:
            for line in itertools.chain(head, file):
                lines.append(line)
                yield line

        reader = csv.reader(keep_lines(), delimiter=delimiter)

        def read_records() -> Iterator[tuple[int, list[str], str]]:
            number = 1  # of the line in which a record begins
            for fields in reader:
                if fields:  # else the line is blank
                    yield number, fields, "".join(lines).rstrip("\r\n")
                lines.clear()
                number = reader.line_num + 1

        records = read_records()
        _, header, record = next(records, (1, [], ""))
        positions = find_lonlat(header, columns=columns)
        rows = list(itertools.islice(records, rows_per_chunk))
        yield _make_text_chunk(rows, header, record, positions, delimiter)
        while rows := list(itertools.islice(records, rows_per_chunk)):
            yield _make_text_chunk(rows, header, record, positions, delimiter)


def _make_text_chunk(
    rows: list[tuple[int, list[str], str]],
    header: list[str],
    record: str,
    positions: tuple[int, int],
    delimiter: str,
) -> Chunk:
    for number, fields, _ in rows:
        if len(fields) != len(header):
            raise ValueError(
                f"line {number} has {len(fields)} fields, but the header has {len(header)}: put "
                "a name above each column, and quotes around text that holds the delimiter "
                f"{delimiter!r}"
            )
    texts = list(zip(*(fields for _, fields, _ in rows), strict=True)) or [()] * len(header)
    numbers = [line for line, _, _ in rows]
    lonlat = [_parse(texts[i], numbers, name=header[i]) for i in positions]
    arrays = [pa.array([text or None for text in column], pa.string()) for column in texts]
    for i, values in zip(positions, lonlat, strict=True):
        arrays[i] = pa.array(values, from_pandas=True)
    return Chunk(
        np.stack(lonlat, axis=1),
        pa.Table.from_arrays(arrays, names=header),
        [record, *(record for _, _, record in rows)],
        delimiter,
    )


def _parse(
    texts: tuple[str, ...], numbers: list[int], *, name: str
) -> Float64[np.ndarray, " num_rows"]:
    values = np.empty(len(texts))
    for index, text in enumerate(texts):
        try:
            values[index] = to_float(text)
        except ValueError:
            raise ValueError(
                f"line {numbers[index]}: column {name!r} must hold numbers, degrees with a decimal "
                f"point, got {text!r}"
            ) from None
    return values


def to_float(text: str) -> float:
    """Read a number from the text of a field; NaN where it is missing, see ``MISSING``.

    Raises:
        ValueError: If the text is no number.
    """
    if text.strip().lower() in MISSING:
        return np.nan
    if "_" in text:  # Python ignores it in numbers
        raise ValueError(f"{text!r} is no number")
    return float(text)


def _find_delimiter(header: str, *, default: str) -> str:
    """The default if the header has it outside of quotes, else the most frequent of the three."""
    header = re.sub(r'"[^"]*"', "", header)
    return default if default in header else max(",\t;", key=header.count)


@contextmanager
def open_text(path: Path, mode: str = "rt") -> Iterator[TextIO]:
    """Open a text file, compressed or not: UTF-16 if it begins with its mark, else UTF-8."""
    open_file = COMPRESSIONS.get(path.suffix.lower(), open)
    encoding = "utf-8"
    if mode == "rt":
        with open_file(path, "rb") as file:
            encoding = "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    with open_file(path, mode, encoding=encoding, newline="") as file:
        yield file


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Allow fields of any length, such as polygons, and name the file in errors."""
    before = csv.field_size_limit(2**31 - 1)  # the most that every system takes
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is not in UTF-8 or UTF-16: {error}") from error
    except (csv.Error, EOFError, OSError, zlib.error) as error:
        if getattr(error, "errno", None) is not None:  # of the disk; gzip and bz2 give none
            raise
        raise ValueError(f"{path.name} is damaged: {error}") from error
    finally:
        csv.field_size_limit(before)
