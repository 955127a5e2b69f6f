"""A table of your own as a task."""

import contextlib
from collections.abc import Iterable
from numbers import Real
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from satclip_lib.embedding.containers import read_locations
from satclip_lib.embedding.tables import read_chunks
from satclip_lib.embedding.text_tables import to_float
from satclip_lib.evaluation.loaders import LabelledPoints
from satclip_lib.evaluation.tasks import Task, TaskData, make_data
from satclip_lib.sphere import check_locations

WRITTEN_BY_PROGRAMS = {"nan", "<na>", "null"}  # for a missing class; NA is Namibia
LARGEST = 1e100  # number to predict; the square of a much larger one overflows


def load_table(
    table: pd.DataFrame | Path | str,
    *,
    target: str,
    lon: str | None = None,
    lat: str | None = None,
    kind: Literal["regression", "classification"] | None = None,
    name: str | None = None,
    units: str = "",
    block_deg: float = 10.0,
) -> TaskData:
    """Make a task of a table of your own, for ``run_benchmark``.

    Places are found by the rule of :func:`~satclip_lib.embedding.embed.embed`. Geometries that are
    not points are replaced by their centres of mass on the sphere.

    Args:
        table: A data frame, or a file that ``satclip embed`` reads.
        target: Name of the column to predict. Rows without it, or without a place, are left out.
        lon: Name of the column with the longitude, degrees. None finds it by its name; if ``lat``
            is given, it must be "lon".
        lat: Name of the column with the latitude, degrees. None finds it by its name; if ``lon``
            is given, it must be "lat".
        kind: None takes numbers as "regression" and everything else as "classification"; pass
            the latter for classes that are numbered. Numbers of a text file that begin with a
            zero, such as 01001, are names of classes.
        name: Name of the task; None takes ``target``.
        units: Units of the target.
        block_deg: Side of the blocks that the protocol "blocks" holds out, degrees.

    Raises:
        ValueError: If a column is missing, a number is no longitude or latitude, the target is
            infinite, beyond 1e100, constant or neither real numbers nor text, the kind of file is
            not known, or no row or class is left.
    """
    columns = None if lon is None and lat is None else (lon or "lon", lat or "lat")
    if isinstance(table, pd.DataFrame):
        if target not in table:
            raise _no_column(target, table.columns)
        lonlat = read_locations(table, columns=columns, centres=True).lonlat
        values = table[target].infer_objects()
    else:
        lonlat, values = _read_file(table, target, columns)
    has_target = values.notna().to_numpy()
    lonlat, is_known = check_locations(
        np.where(has_target[:, None], lonlat, np.nan), missing="propagate", wrap_longitude=True
    )
    if not is_known.any():
        raise ValueError(f"no row has all of longitude, latitude and {target!r}")
    _refuse_other_kinds(values[is_known], target)
    is_number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if kind == "regression" and not is_number:
        raise ValueError(f"{target!r} is text: make it numbers, or pass kind='classification'")
    if is_number:
        numbers = values[is_known].to_numpy(np.float64)
        huge = ~(np.abs(numbers) < LARGEST)
        if huge.any():
            row = np.flatnonzero(is_known)[huge][0]
            raise ValueError(
                f"{target!r} is infinite, or beyond {LARGEST:g}, in {huge.sum()} rows, row {row} "
                "first: drop or rescale them"
            )
        if len(numbers) > 1 and numbers.var() == 0:
            raise ValueError(f"{target!r} is the same in all rows: there is nothing to predict")
    task = Task(
        name=name or target,
        kind=kind or ("regression" if is_number else "classification"),
        target_name=target,
        units=units,
        citation="",
        licence="",
        block_deg=block_deg,
    )
    source = f"{len(lonlat)} of {len(is_known)} rows of a table of your own"
    return make_data(task, LabelledPoints(lonlat, values[is_known].to_numpy(), source))


def _read_file(
    path: Path | str, target: str, columns: tuple[str, str] | None
) -> tuple[np.ndarray, pd.Series]:
    """Locations and labels of all rows; text that holds numbers becomes numbers."""
    lonlat, values, is_text = [], [], False
    for chunk in read_chunks(path, columns=columns, centres=True):
        if target not in chunk.columns.column_names:
            raise _no_column(target, chunk.columns.column_names)
        lonlat.append(chunk.lonlat)
        values.append(chunk.columns.column(target).to_pandas())
        is_text = chunk.records is not None
    labels = pd.concat(values, ignore_index=True)
    return np.concatenate(lonlat), _parse_labels(labels) if is_text else labels


def _parse_labels(texts: pd.Series) -> pd.Series:
    """Numbers, if all texts are numbers or missing; else names of classes, as they are written."""
    if texts.dtype == np.float64:  # a coordinate
        return texts
    is_code = texts.str.fullmatch(r"\s*[+-]?0\d.*").fillna(False).any()
    with contextlib.suppress(ValueError):
        numbers = pd.Series([to_float(text) for text in texts.fillna("")])
        if not is_code and numbers.notna().any():
            return numbers
    return texts.mask(texts.str.lower().isin(WRITTEN_BY_PROGRAMS))


def _refuse_other_kinds(values: pd.Series, target: str) -> None:
    """Raise unless all values are real numbers, or all are names of classes."""
    kinds = {type(value) for value in values} if values.dtype == object else set()
    is_one_kind = any(all(issubclass(kind, allowed) for kind in kinds) for allowed in (str, Real))
    if values.dtype.kind in "mMc" or not is_one_kind:
        found = ", ".join(sorted(kind.__name__ for kind in kinds)) or values.dtype
        raise ValueError(
            f"{target!r} holds {found}: make it real numbers, or names of classes as text"
        )


def _no_column(target: str, names: Iterable) -> ValueError:
    return ValueError(
        f"no column {target}; the table has {', '.join(map(str, names))}: pass target="
    )
