"""A table of your own as a task."""

from pathlib import Path
from typing import Literal

import geopandas
import numpy as np
import pandas as pd

from satclip_lib.evaluation.loaders import LabelledPoints
from satclip_lib.evaluation.tasks import Task, TaskData, make_data
from satclip_lib.sphere import check_locations

EQUAL_AREA = "EPSG:6933"  # in which centroids are taken


def load_table(
    table: pd.DataFrame | Path | str,
    *,
    target: str,
    lon: str = "lon",
    lat: str = "lat",
    kind: Literal["regression", "classification"] | None = None,
    name: str | None = None,
    units: str = "",
    block_deg: float = 10.0,
) -> TaskData:
    """Make a task of a table of your own, for ``run_benchmark``.

    Args:
        table: a data frame, or a ``.csv``, ``.parquet`` or ``.geojson`` file. Of a file or frame
            with geometries their centroids are the locations, in whatever projection they are.
        target: column with what is to be predicted. Rows without it, or without a place, are
            left out.
        lon: column with the longitude, degrees.
        lat: column with the latitude, degrees.
        kind: None takes numbers as "regression" and everything else as "classification"; pass
            the latter for classes that are numbered.
        name: of the task; None takes ``target``.
        units: of the target.
        block_deg: side of the blocks that the protocol "blocks" holds out, degrees.

    Raises:
        ValueError: if a column is missing, a latitude is beyond 90 degrees, the kind of file is
            not known, or no row or class is left.
    """
    frame = _read_table(table) if not isinstance(table, pd.DataFrame) else table
    if isinstance(frame, geopandas.GeoDataFrame):
        places = frame.geometry
        if not (places.geom_type == "Point").all():
            places = places.to_crs(EQUAL_AREA).centroid
        if frame.crs is not None:
            places = places.to_crs(4326)
        frame = pd.DataFrame(frame).assign(**{lon: places.x, lat: places.y})
    if missing := {target, lon, lat} - set(frame):
        raise ValueError(
            f"no column {', '.join(sorted(missing))}; the table has {', '.join(map(str, frame))}: "
            "pass target=, lon= and lat="
        )
    frame = frame[[lon, lat, target]]
    complete = frame.dropna()
    lonlat = complete[[lon, lat]].to_numpy(np.float64)
    try:
        lonlat, _ = check_locations(lonlat, wrap_longitude=True)
    except ValueError as error:
        raise ValueError(f"columns {lon!r} and {lat!r}: {error}") from error
    values = complete[target]
    if kind is None:
        is_number = pd.api.types.is_numeric_dtype(values) and values.dtype != bool
        kind = "regression" if is_number else "classification"
    task = Task(
        name=name or target,
        kind=kind,
        target_name=target,
        units=units,
        citation="",
        licence="",
        block_deg=block_deg,
    )
    source = f"{len(complete)} of {len(frame)} rows of a table of your own"
    if len(complete) == 0:
        raise ValueError(f"no row has all of {lon!r}, {lat!r} and {target!r}")
    return make_data(task, LabelledPoints(lonlat, values.to_numpy(), source))


def _read_table(path: Path | str) -> pd.DataFrame:
    readers = {
        ".csv": pd.read_csv,
        ".parquet": pd.read_parquet,
        ".geojson": geopandas.read_file,
        ".gpkg": geopandas.read_file,
    }
    suffix = Path(path).suffix.lower()
    if suffix not in readers:
        raise ValueError(f"{path} should end in one of {', '.join(readers)}, or be a data frame")
    return readers[suffix](path)
