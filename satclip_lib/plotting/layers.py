"""Layers: ways to colour the same points, by class or by value, on paper and in the atlas."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize, to_hex
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from satclip_lib.data.labels import lookup_climate_zones, lookup_ecoregions
from satclip_lib.evaluation.tasks import TaskData
from satclip_lib.plotting.style import BIOME_COLORS, CLIMATE_COLORS, shorten_biome
from satclip_lib.sphere import chord_to_km, lonlat_to_unit_vectors

NO_VALUE_COLOR = "#d0d0d0"
NEAR_KM, SAME_PLACE_KM = 100.0, 1.0
ISLAND_BINS, ISLAND_SHARE, ISLAND_GAP = 48, 0.4, 0.3


@dataclass(frozen=True, eq=False)
class Layer:
    """One way to colour points: by class where ``names`` are given, else by value.

    Attributes:
        title: Name of what is shown.
        values: Index into ``names``, or quantity, of each point; NaN where nothing is known.
        units: Unit of a quantity.
        names: Names of the classes in the order of the legend; empty for a quantity.
        colors: Hexadecimal RGB colours, one per class, or a scale from the lowest to the highest
            value.
        is_log: Whether the values are log(1 + quantity), so that colours follow the logarithm.
    """

    title: str
    values: Float[np.ndarray, " num_points"]
    units: str = ""
    names: tuple[str, ...] = ()
    colors: tuple[str, ...] = tuple(to_hex(color) for color in colormaps["viridis"](range(256)))
    is_log: bool = False

    @property
    def scale_label(self) -> str:
        """Label of the colour bar."""
        return f"log(1 + x), {self.units}" if self.is_log else self.units

    @property
    def limits(self) -> tuple[float, float]:
        """Ends of the colour scale; of a quantity, its 1 % and 99 % quantiles."""
        if self.names:
            return -0.5, len(self.names) - 0.5
        known = self.values[np.isfinite(self.values)]
        low, high = np.quantile(known, [0.01, 0.99]) if len(known) else (0.0, 1.0)
        return float(low), float(high)

    @property
    def color_of_class(self) -> dict[str, str]:
        """Colour of each class, in the order of the legend."""
        return dict(zip(self.names, self.colors, strict=False))

    @property
    def scale(self) -> ScalarMappable:
        """Colour scale of ``values`` for matplotlib; unknown values are grey."""
        cmap = ListedColormap(self.colors).with_extremes(bad=NO_VALUE_COLOR)
        return ScalarMappable(Normalize(*self.limits), cmap)

    def to_rgb(self) -> Float64[np.ndarray, "num_points 3"]:
        """Red, green and blue (0 to 1) of each point."""
        return self.scale.to_rgba(self.values)[:, :3]


def make_class_layer(
    title: str, classes: Sequence[str], *, colors: Mapping[str, str] | None = None
) -> Layer:
    """Colour points by class.

    Args:
        title: Name of what is shown.
        classes: One class per point; empty where it is not known.
        colors: Colour of each class. Classes that are not in it count as unknown; the legend has
            those that occur, in this order. None cycles through fourteen colours, the most frequent
            class first.
    """
    if colors is None:
        names, counts = np.unique([name for name in classes if name], return_counts=True)
        turns = list(BIOME_COLORS.values())
        order = np.argsort(-counts, kind="stable")
        colors = {str(names[i]): turns[rank % len(turns)] for rank, i in enumerate(order)}
    occurring = set(classes)
    names = tuple(name for name in colors if name in occurring)
    index = {name: float(i) for i, name in enumerate(names)}
    values = np.array([index.get(name, np.nan) for name in classes])
    return Layer(title, values, names=names, colors=tuple(to_hex(colors[name]) for name in names))


def make_climate_layer(lonlat: Float64[np.ndarray, "num_points 2"]) -> Layer:
    """Colour points by the main groups of the Köppen-Geiger system; needs no download."""
    group_of_letter = {group[0]: group for group in CLIMATE_COLORS}
    zones = lookup_climate_zones(lonlat)
    groups = [group_of_letter[zone[0]] if zone else "" for zone in zones]
    return make_class_layer("Climate", groups, colors=CLIMATE_COLORS)


def make_biome_layer(lonlat: Float64[np.ndarray, "num_points 2"]) -> Layer:
    """Colour points by biome."""
    names = [shorten_biome(n) if n else "" for n in lookup_ecoregions(lonlat)["biome"]]
    colors = {shorten_biome(name): color for name, color in BIOME_COLORS.items()}
    return make_class_layer("Biome", names, colors=colors)


def make_task_layer(data: TaskData, lonlat: Float64[np.ndarray, "num_points 2"]) -> Layer:
    """Colour points by the labels of a task.

    If most points lie at labelled places, as with labels that come from a map and the same seed,
    only these points have a colour. Otherwise, as with weather stations, each point takes the
    nearest label within ``NEAR_KM``.

    Args:
        data: Labels from :func:`satclip_lib.evaluation.tasks.load_task`.
        lonlat: Longitude, latitude in degrees.
    """
    labelled = cKDTree(lonlat_to_unit_vectors(data.lonlat))
    chord, nearest = labelled.query(lonlat_to_unit_vectors(lonlat))
    distance_km = chord_to_km(chord)
    is_same = distance_km < SAME_PLACE_KM
    known = is_same if is_same.mean() > 0.5 else distance_km < NEAR_KM
    task = data.task
    title = task.target_name[0].upper() + task.target_name[1:]
    if data.class_names is not None:
        names = np.array([*data.class_names, ""])
        return make_class_layer(title, list(names[np.where(known, data.target[nearest], -1)]))
    values = np.where(known, data.target[nearest], np.nan)
    return Layer(title, values, units=task.units, is_log=bool(task.transform))


def find_islands(
    plane: Float32[np.ndarray, "num_points 2"], classes: Float64[np.ndarray, " num_points"]
) -> list[tuple[int, float, float]]:
    """Places in the plane for the names of classes: where many of their points lie together.

    A class may have several such islands. Each further one has at least ``ISLAND_SHARE`` of the
    first one's density, and lies at least ``ISLAND_GAP`` of the plane's width from the others.

    Args:
        plane: Coordinates of the points.
        classes: Number of the class of each point; NaN where it is not known.

    Returns:
        Class, x and y of each island, the most frequent class first.
    """
    low, width = plane.min(axis=0), float(np.ptp(plane, axis=0).max()) or 1.0
    known = classes[np.isfinite(classes)].astype(int)
    counts = np.bincount(known)
    islands = []
    for number in np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]:
        points = (plane[classes == number] - low) / width
        density, *_ = np.histogram2d(*points.T, bins=ISLAND_BINS, range=[[0, 1], [0, 1]])
        density = gaussian_filter(density, 2.0)
        first, taken = density.max(), np.empty((0, 2))
        for cell in np.argsort(-density, axis=None):
            at = (np.array(np.unravel_index(cell, density.shape)) + 0.5) / ISLAND_BINS
            if density.flat[cell] < ISLAND_SHARE * first:
                break
            if (np.hypot(*(taken - at).T) > ISLAND_GAP).all():
                taken = np.vstack([taken, at])
                x, y = low + at * width
                islands.append((int(number), float(x), float(y)))
    return islands
