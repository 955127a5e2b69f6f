"""Classes in the embedding space: planes beside the map, cluster scores, similarity of classes."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from jaxtyping import Float, Float32
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.patheffects import withStroke
from scipy.cluster.hierarchy import dendrogram, linkage
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import pdist, squareform

from satclip_lib.plotting.layers import Layer, find_islands
from satclip_lib.plotting.maps import add_map, draw_points, make_class_handles, plot_classes
from satclip_lib.plotting.style import PAGE_WIDTH_IN, styled

NAMED_SHARE = 0.02  # classes with a smaller share of the points are not named in the plane
JOINED_POINTS = 10  # a class with fewer points on a continent is not joined there
NAME_WIDTH, NAME_HEIGHT = 0.0125, 0.04  # size of a letter as shares of the plane's extent
AXIS_LABELS = {
    "k-NN accuracy": "share of places",
    "silhouette": "from −1 to 1",
    "adjusted Rand": "k-means and classes",
    "mutual information": "k-means and classes",
}


@styled()
def plot_umap_and_map(
    planes: Mapping[str, Float32[np.ndarray, "_ 2"]],
    lonlat: Float[np.ndarray, "num_points 2"],
    classes: list[str],
    *,
    colors: Mapping[str, str],
    notes: Mapping[str, str],
    seed: int = 0,
) -> Figure:
    """The UMAP plane of one encoder with its islands named, small planes of others, and the map.

    Args:
        planes: Plane of each encoder by title; each holds all points or the first of them. The
            last plane is drawn large, and at most four others beside it.
        lonlat: Longitude, latitude in degrees.
        classes: One class per point.
        colors: Colour of each class; classes that do not occur are left out of the legend.
        notes: Short text below each plane, by title.
        seed: Random seed of the drawing order, so that no class hides another.
    """
    colors = {name: color for name, color in colors.items() if name in set(classes)}
    order = np.random.default_rng(seed).permutation(len(classes))
    point_colors = np.array([colors[name] for name in classes])
    fig = plt.figure(figsize=(PAGE_WIDTH_IN, 9.0))
    fig.get_layout_engine().set(h_pad=0.09)
    grid = fig.add_gridspec(3, 3, height_ratios=(1, 1, 1.5), width_ratios=(3.3, 1, 1))
    *_, large = planes
    for title, ax in _add_large_and_small(fig, grid, planes, notes).items():
        plane = planes[title]
        drawn = order[order < len(plane)]
        size = (2.0 if title == large else 0.35) * _shrink(plane)
        _draw_plane(ax, plane[drawn], point_colors[drawn], size=size)
        if title == large:
            _name_islands(ax, plane, np.array(classes[: len(plane)]))
    ax = add_map(fig, grid[2, :])
    plot_classes(ax, lonlat, classes, colors=colors, size=1.3 * _shrink(lonlat), seed=seed)
    _add_legend(fig, colors, size=4.5)
    return fig


def _shrink(points: np.ndarray) -> float:
    """Factor of the points' size; below 1 for more than 5,000, so that figures are not darker."""
    return min(1.0, (5_000 / len(points)) ** 0.5)


@styled()
def plot_plane_and_map_by_layer(
    plane: Float32[np.ndarray, "num_points 2"],
    lonlat: Float[np.ndarray, "num_points 2"],
    layers: Sequence[Layer],
    *,
    seed: int = 0,
) -> Figure:
    """One row per layer: the plane, the map in the same colours, and the legend.

    Args:
        plane: Plane from :func:`satclip_lib.evaluation.projection.compute_umap`.
        lonlat: Longitude, latitude of the same points in degrees.
        layers: Ways to colour the points.
        seed: Random seed of the drawing order.
    """
    order = np.random.default_rng(seed).permutation(len(plane))
    fig = plt.figure(figsize=(PAGE_WIDTH_IN, 1.75 * len(layers)))
    grid = fig.add_gridspec(len(layers), 3, width_ratios=(1, 2.1, 1.25))
    for row, layer in enumerate(layers):
        colors = layer.to_rgb()[order]
        _draw_plane(fig.add_subplot(grid[row, 0], title=layer.title), plane[order], colors)
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
        planes: Plane by (name of the row, name of the column).
        layer: Way to colour the points.
        notes: Short text below each plane.
        seed: Random seed of the drawing order.
    """
    rows, columns = (list(dict.fromkeys(names)) for names in zip(*planes, strict=True))
    order = np.random.default_rng(seed).permutation(len(layer.values))
    colors = layer.to_rgb()[order]
    size = PAGE_WIDTH_IN, 0.8 + PAGE_WIDTH_IN / len(columns) * len(rows)
    fig, axes = plt.subplots(len(rows), len(columns), squeeze=False, figsize=size)
    for (row, column), plane in planes.items():
        ax = axes[rows.index(row), columns.index(column)]
        _draw_plane(ax, plane[order], colors, size=1.2)
        ax.set_xlabel(notes[row, column])
        if row == rows[0]:
            ax.set_title(column)
        if column == columns[0]:
            ax.set_ylabel(row)
    _add_legend(fig, layer.color_of_class)
    return fig


@styled()
def plot_cluster_scores(scores: pd.DataFrame) -> Figure:
    """One panel per measure, one row per encoder; filled marks: embedding, hollow: UMAP plane.

    Args:
        scores: Columns ``encoder``, ``space`` ("embedding" or "UMAP plane") and one per measure.
    """
    measures = [name for name in scores if name not in ("encoder", "space")]
    encoders = list(dict.fromkeys(scores.encoder))
    size = PAGE_WIDTH_IN, 0.95 + 0.27 * len(encoders)
    fig, axes = plt.subplots(1, len(measures), figsize=size, sharey=True)
    colors = dict(zip(encoders, sns.color_palette(n_colors=len(encoders)), strict=True))
    for ax, measure in zip(axes, measures, strict=True):
        for space, face in (("embedding", None), ("UMAP plane", "white")):
            for encoder, score in (
                scores[scores.space == space].set_index("encoder")[measure].items()
            ):
                style = {"mfc": face or colors[encoder], "mec": colors[encoder], "mew": 1.2}
                ax.plot(score, encoders.index(encoder), "o", ms=5.5, **style)
        ax.set(title=measure, xlabel=AXIS_LABELS.get(measure, ""), ylim=(len(encoders) - 0.5, -0.5))
        ax.set_yticks(range(len(encoders)), encoders)
        ax.grid(axis="y", color="0.9", lw=0.6)
        ax.set_axisbelow(True)
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        ax.margins(x=0.15)
    handles = [
        plt.Line2D([], [], ls="", marker="o", mfc=face, mec="0.3", mew=1.2, label=label)
        for face, label in (("0.3", "embedding"), ("white", "UMAP plane"))
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=2)
    return fig


@styled()
def plot_votes(
    votes: pd.DataFrame,
    counts: pd.Series,
    *,
    planes: Mapping[str, Float32[np.ndarray, "num_points 2"]],
    groups: pd.DataFrame,
    colors: Mapping[str, str],
) -> Figure:
    """Planes in which each class is joined across continents; below, a row of votes per class.

    Below, each encoder is one mark, and a line goes from the lowest to the highest.

    Args:
        votes: Share of right votes, from 0 to 1; one row per class, one column per encoder. The
            first row is that of all classes and stands apart; the others are sorted by the last
            encoder, highest on top.
        counts: Number of points of each row, written beside its name.
        planes: Planes of the same points, by title.
        groups: Columns ``class`` and ``continent`` of each point; the classes of ``votes`` are
            joined.
        colors: Colour of each class.
    """
    votes = pd.concat([votes[:1], votes[1:].sort_values(votes.columns[-1], ascending=False)])
    rows = np.arange(len(votes)) + (np.arange(len(votes)) > 0) * 0.5
    heights = 0.3 + PAGE_WIDTH_IN / len(planes), 1.0 + 0.24 * len(votes)
    fig = plt.figure(figsize=(PAGE_WIDTH_IN, sum(heights)))
    top, bottom = fig.subfigures(2, 1, height_ratios=heights)
    shown = groups[groups["class"].isin(votes.index)]
    for column, (title, plane) in enumerate(planes.items(), start=1):
        ax = top.add_subplot(1, len(planes), column, title=title)
        _draw_joined(ax, plane, shown, colors)
    ax = bottom.add_subplot()
    ax.hlines(rows, votes.min(axis=1), votes.max(axis=1), color="0.8", lw=1.5, zorder=1)
    palette = sns.color_palette(n_colors=len(votes.columns))
    for encoder, color, marker in zip(votes, palette, cycle("osvPD"), strict=False):
        style = {"color": color, "edgecolor": "white", "linewidth": 0.5, "zorder": 2}
        ax.scatter(votes[encoder], rows, 42, marker=marker, label=encoder, **style)
    names = [f"{name} ({counts[name]:,})" for name in votes.index]
    ax.set(xlabel="share of right votes", xlim=(-0.03, 1.03), ylim=(rows[-1] + 0.6, -0.6))
    ax.set_yticks(rows, names)
    for name, row in zip(votes.index[1:], rows[1:], strict=True):
        beside = {"transform": ax.get_yaxis_transform(), "clip_on": False}
        ax.plot(-0.02, row, "o", ms=5, color=colors[name], **beside)
    ax.grid(axis="x", color="0.9", lw=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(axis="y", length=0, pad=13)
    ax.spines["left"].set_visible(False)
    bottom.legend(loc="outside lower center", ncols=len(votes.columns), handletextpad=0.1)
    return fig


@styled()
def plot_class_similarity(similarity: pd.DataFrame, *, colors: Mapping[str, str]) -> Figure:
    """Dendrogram of the classes beside the matrix of their similarities, in the same order.

    Args:
        similarity: Table from
            :func:`satclip_lib.evaluation.projection.compute_class_similarity`.
        colors: Colour of each class.
    """
    distance = squareform(1 - similarity.to_numpy(), checks=False)
    tree = linkage(distance, method="average", optimal_ordering=True)
    size = PAGE_WIDTH_IN, 3.6
    fig, (left, right) = plt.subplots(1, 2, figsize=size, width_ratios=(1, 3.3))
    style = {"color_threshold": 0, "above_threshold_color": "0.3", "no_labels": True}
    order = dendrogram(tree, orientation="left", ax=left, **style)["leaves"]
    left.set(xlabel="1 − cosine", yticks=[])
    left.invert_yaxis()
    left.spines["left"].set_visible(False)
    ordered = similarity.iloc[order, order]
    image = right.imshow(ordered, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
    right.set(xticks=[], yticks=range(len(order)), yticklabels=ordered.index)
    right.tick_params(axis="y", length=0, pad=13)
    right.spines[:].set_visible(False)
    for row, name in enumerate(ordered.index):
        style = {"marker": "o", "ms": 6, "color": colors[name], "clip_on": False}
        right.plot(-0.035, row, transform=right.get_yaxis_transform(), **style)
        right.plot(row, -0.035, transform=right.get_xaxis_transform(), **style)
    bar = fig.colorbar(image, ax=right, label="cosine of centred class means", pad=0.02)
    bar.outline.set_visible(False)
    return fig


def _add_large_and_small(
    fig: Figure, grid: GridSpec, titles: Iterable[str], notes: Mapping[str, str]
) -> dict[str, Axes]:
    """Axes of the last title at the left of a grid, and of four others in two columns beside."""
    *others, large = titles
    cells = [grid[row, column] for row in range(2) for column in (1, 2)]
    places = {large: grid[:2, 0]} | dict(zip(others[-4:], cells, strict=False))
    axes = {title: fig.add_subplot(cell, title=title) for title, cell in places.items()}
    for title, ax in axes.items():
        ax.set_xlabel(notes[title], fontsize=6)
    return axes


def _draw_plane(ax: Axes, plane: np.ndarray, colors, *, size: float = 1.0) -> None:
    """Points in a square frame without ticks, both axes in the same unit."""
    ax.set(xticks=[], yticks=[])
    ax.set_box_aspect(1)
    ax.scatter(*plane.T, c=colors, s=size, linewidths=0, rasterized=True)
    ax.set_aspect("equal", adjustable="datalim")
    ax.spines[["top", "right"]].set_visible(True)


def _draw_joined(
    ax: Axes, plane: np.ndarray, groups: pd.DataFrame, colors: Mapping[str, str]
) -> None:
    """Pale points; on them the mean of each class on each continent, joined to its nearest."""
    _draw_plane(ax, plane, "0.85", size=0.8)
    points = pd.DataFrame(plane, columns=["x", "y"]).loc[groups.index]
    by_group = points.groupby([groups["class"], groups["continent"]])
    means = by_group.mean()[by_group.size() >= JOINED_POINTS]
    for name, of_class in means.groupby(level=0):
        places = of_class.to_numpy()
        tree = minimum_spanning_tree(squareform(pdist(places))).nonzero()
        for pair in zip(*tree, strict=True):
            ax.plot(*places[[*pair]].T, color=colors[name], lw=1.0)
        style = {"color": colors[name], "edgecolor": "white", "linewidth": 0.4, "zorder": 3}
        ax.scatter(*places.T, 16, **style)


def _name_islands(ax: Axes, plane: np.ndarray, classes: np.ndarray) -> None:
    """One name for each of the larger classes, where few points are near its densest island."""
    names, numbers, counts = np.unique(classes, return_inverse=True, return_counts=True)
    is_named = counts[numbers] >= NAMED_SHARE * len(plane)
    islands = find_islands(plane, np.where(is_named, numbers, np.nan))
    first = {number: np.array(island) for number, *island in reversed(islands)}
    low, high = plane.min(axis=0), plane.max(axis=0)
    middle, extent = (low + high) / 2, (high - low).max()
    points = (plane - middle) / extent  # within half of the frame on each side
    radius, angle = np.meshgrid(np.linspace(0, 0.4, 21), np.linspace(0, 2 * np.pi, 24))
    ring = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1).reshape(-1, 2)
    taken, sizes = np.empty((0, 2)), np.empty((0, 2))
    outline = [withStroke(linewidth=1.8, foreground="white")]
    line = {"arrowstyle": "-", "lw": 0.5, "color": "0.3", "shrinkA": 0, "shrinkB": 0}
    for number in sorted(first, key=lambda number: -counts[number]):
        size = np.array([NAME_WIDTH * len(names[number]), NAME_HEIGHT])
        home, edge = (first[number] - middle) / extent, 0.53 - size / 2
        places = np.clip(home + ring, -edge, edge)
        hidden = [(np.abs(points - place) < size / 2).all(axis=1).mean() for place in places]
        apart = np.abs(taken - places[:, None])  # (places, names so far, 2)
        is_taken = (apart < (sizes + size) / 2).all(axis=2).any(axis=1)
        cost = np.array(hidden) + 0.1 * np.hypot(*(places - home).T) + is_taken
        best = places[cost.argmin()]
        taken, sizes = np.vstack([taken, best]), np.vstack([sizes, size])
        ax.annotate(
            names[number], first[number], middle + extent * best, arrowprops=line,
            ha="center", va="center", fontsize=6.5, path_effects=outline,
        )  # fmt: skip


def _add_legend(fig: Figure, colors: Mapping[str, str], *, size: float = 4.0) -> None:
    handles = make_class_handles(colors, size=size)
    fig.legend(handles=handles, loc="outside lower center", ncols=3, handletextpad=0.2)


def _draw_key(ax: Axes, layer: Layer) -> None:
    if layer.names:
        ax.legend(
            handles=make_class_handles(layer.color_of_class), loc="center left",
            bbox_to_anchor=(0, 0.5), borderpad=0, handletextpad=0.1, labelspacing=0.25, fontsize=6,
        )  # fmt: skip
        return
    place = ax.inset_axes((0.05, 0.1, 0.06, 0.8))
    bar = ax.figure.colorbar(layer.scale, cax=place, label=layer.scale_label, extend="both")
    bar.outline.set_linewidth(0.4)
