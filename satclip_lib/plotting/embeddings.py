"""The embedding space on paper: UMAP planes beside the world map, in the same colours."""

import warnings
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float, Float32, Int64
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.preprocessing import normalize

from satclip_lib.plotting.layers import Layer
from satclip_lib.plotting.maps import add_map, draw_points, plot_classes
from satclip_lib.plotting.style import PAGE_WIDTH_IN, styled

BLOCK_ROWS = 1000  # whose cosines with all points are held at a time


def compute_umap(
    embeddings: Float[np.ndarray, "num_points num_features"],
    *,
    num_neighbors: int = 30,
    min_dist: float = 0.1,
    seed: int = 0,
) -> Float32[np.ndarray, "num_points 2"]:
    """Lay embeddings out in the plane with UMAP on cosine distances; same seed, same plane.

    Neighbours are exact: for tens of thousands of points this is faster than UMAP's own search,
    which compiles first.

    Args:
        embeddings: of any length; only their directions count.
        num_neighbors: small values show local, large ones global structure.
        min_dist: how tightly points may be packed.
        seed: of the layout.

    References:
        McInnes et al. (2018), UMAP, arXiv 1802.03426.
    """
    from umap import UMAP  # compiles on import, which takes seconds

    unit = normalize(embeddings).astype(np.float32)
    reducer = UMAP(
        n_neighbors=num_neighbors,
        min_dist=min_dist,
        metric="cosine",
        precomputed_knn=find_neighbors(unit, num_neighbors=num_neighbors),
        force_approximation_algorithm=True,  # or it ignores these neighbours where points are few
        random_state=seed,
        n_jobs=1,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "precomputed_knn.*transform will be unavailable")
        return reducer.fit_transform(unit)


def find_neighbors(
    unit: Float32[np.ndarray, "num_points num_features"], *, num_neighbors: int
) -> tuple[
    Int64[np.ndarray, "num_points num_neighbors"], Float32[np.ndarray, "num_points num_neighbors"]
]:
    """The points with the largest cosine to each point, and their cosine distances.

    Args:
        unit: vectors of length one.
        num_neighbors: per point; the first is the point itself.
    """
    indices, distances = [], []
    for start in range(0, len(unit), BLOCK_ROWS):
        block = np.arange(start, min(start + BLOCK_ROWS, len(unit)))
        distance = 1 - unit[block] @ unit.T  # (block, num_points)
        distance[block - start, block] = -1  # itself first, before any twin
        near = np.argpartition(distance, num_neighbors - 1, axis=1)[:, :num_neighbors]
        order = np.take_along_axis(distance, near, axis=1).argsort(axis=1, kind="stable")
        indices.append(np.take_along_axis(near, order, axis=1))
        distances.append(np.take_along_axis(distance, indices[-1], axis=1).clip(0))
    return np.concatenate(indices), np.concatenate(distances)


@styled()
def plot_umap_and_map(
    planes: Mapping[str, Float32[np.ndarray, "num_points 2"]],
    lonlat: Float[np.ndarray, "num_points 2"],
    classes: list[str],
    *,
    colors: Mapping[str, str],
    subtitle: str,
    seed: int = 0,
) -> Figure:
    """UMAP planes of several encoders in a row, over the map of the same points.

    Args:
        planes: title and plane of each encoder, all of the same points.
        lonlat: ``(num_points, 2)`` degrees.
        classes: one class per point.
        colors: colour of each class; classes that do not occur are left out of the legend.
        subtitle: number of points and UMAP's parameters, printed between planes and map.
        seed: of the drawing order, so that no class hides another.
    """
    colors = {name: color for name, color in colors.items() if name in set(classes)}
    order = np.random.default_rng(seed).permutation(len(classes))
    point_colors = [colors[classes[i]] for i in order]
    fig = plt.figure(figsize=(PAGE_WIDTH_IN, 5.9))
    grid = fig.add_gridspec(2, len(planes), height_ratios=(1, 1.35))
    for column, (title, plane) in enumerate(planes.items()):
        ax = fig.add_subplot(grid[0, column], xticks=[], yticks=[], title=title)
        ax.set_box_aspect(1)
        ax.scatter(*plane[order].T, c=point_colors, s=1.0, linewidths=0, rasterized=True)
        ax.set_aspect("equal", adjustable="datalim")
        ax.spines[["top", "right"]].set_visible(True)
    ax = add_map(fig, grid[1, :])
    ax.set_title(subtitle, loc="center", weight="normal")
    plot_classes(ax, lonlat, classes, colors=colors, size=1.3, seed=seed)
    handles = [
        Line2D([], [], ls="", marker="o", ms=4.5, color=color, label=name)
        for name, color in colors.items()
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=3, handletextpad=0.2)
    return fig


@styled()
def plot_plane_and_map_by_layer(
    plane: Float32[np.ndarray, "num_points 2"],
    lonlat: Float[np.ndarray, "num_points 2"],
    layers: Sequence[Layer],
    *,
    seed: int = 0,
) -> Figure:
    """One row per layer: the plane, the map in the same colours, and what the colours mean.

    Args:
        plane: from :func:`compute_umap`.
        lonlat: ``(num_points, 2)`` degrees, of the same points.
        layers: what to colour them by.
        seed: of the drawing order.
    """
    order = np.random.default_rng(seed).permutation(len(plane))
    fig = plt.figure(figsize=(PAGE_WIDTH_IN, 1.75 * len(layers)))
    grid = fig.add_gridspec(len(layers), 3, width_ratios=(1, 2.1, 1.25))
    for row, layer in enumerate(layers):
        colors = layer.to_rgb()[order]
        ax = fig.add_subplot(grid[row, 0], xticks=[], yticks=[], title=layer.title)
        ax.set_box_aspect(1)
        ax.scatter(*plane[order].T, c=colors, s=1.0, linewidths=0, rasterized=True)
        ax.set_aspect("equal", adjustable="datalim")
        ax.spines[["top", "right"]].set_visible(True)
        draw_points(add_map(fig, grid[row, 1]), lonlat[order], size=1.1, color=colors)
        key = fig.add_subplot(grid[row, 2])
        key.set_axis_off()
        _draw_key(key, layer)
    return fig


@styled()
def plot_planes(
    planes: Mapping[tuple[str, str], Float32[np.ndarray, "num_points 2"]],
    layer: Layer,
    *,
    notes: Mapping[tuple[str, str], str],
    seed: int = 0,
) -> Figure:
    """A table of planes of the same points, one row and column per name.

    Args:
        planes: plane by (name of the row, name of the column).
        layer: what to colour the points by.
        notes: a short text below each plane.
        seed: of the drawing order.
    """
    rows, columns = (list(dict.fromkeys(names)) for names in zip(*planes, strict=True))
    order = np.random.default_rng(seed).permutation(len(layer.values))
    colors = layer.to_rgb()[order]
    fig, axes = plt.subplots(
        len(rows), len(columns), squeeze=False,
        figsize=(PAGE_WIDTH_IN, 0.8 + PAGE_WIDTH_IN / len(columns) * len(rows)),
    )  # fmt: skip
    for (row, column), plane in planes.items():
        ax = axes[rows.index(row), columns.index(column)]
        ax.set(xticks=[], yticks=[], xlabel=notes[row, column])
        ax.set_box_aspect(1)
        ax.scatter(*plane[order].T, c=colors, s=1.2, linewidths=0, rasterized=True)
        ax.set_aspect("equal", adjustable="datalim")
        ax.spines[["top", "right"]].set_visible(True)
        if row == rows[0]:
            ax.set_title(column)
        if column == columns[0]:
            ax.set_ylabel(row)
    fig.legend(handles=_make_handles(layer), loc="outside lower center", ncols=3, handletextpad=0.2)
    return fig


def _make_handles(layer: Layer) -> list[Line2D]:
    return [
        Line2D([], [], ls="", marker="o", ms=4, color=color, label=name)
        for name, color in zip(layer.names, layer.colors, strict=True)
    ]


def _draw_key(ax: Axes, layer: Layer) -> None:
    if layer.names:
        ax.legend(
            handles=_make_handles(layer), loc="center left", bbox_to_anchor=(0, 0.5), borderpad=0,
            handletextpad=0.1, labelspacing=0.25, fontsize=6,
        )  # fmt: skip
        return
    norm = Normalize(*layer.limits)
    mappable = ScalarMappable(norm, ListedColormap(layer.colors))
    place = ax.inset_axes((0.05, 0.1, 0.06, 0.8))
    bar = ax.figure.colorbar(mappable, cax=place, label=layer.units, extend="both")
    bar.outline.set_linewidth(0.4)
