"""The embedding space on paper: UMAP planes beside the world map, in the same colours."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float, Float32
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from satclip_lib.plotting.maps import add_map, plot_classes
from satclip_lib.plotting.style import PAGE_WIDTH_IN, styled


def compute_umap(
    embeddings: Float[np.ndarray, "num_points num_features"],
    *,
    num_neighbors: int = 30,
    min_dist: float = 0.1,
    seed: int = 0,
) -> Float32[np.ndarray, "num_points 2"]:
    """Lay embeddings out in the plane with UMAP on cosine distances; same seed, same plane.

    References:
        McInnes et al. (2018), UMAP, arXiv 1802.03426.
    """
    from umap import UMAP  # compiles on import, which takes seconds

    reducer = UMAP(
        n_neighbors=num_neighbors, min_dist=min_dist, metric="cosine", random_state=seed, n_jobs=1
    )
    return reducer.fit_transform(embeddings)


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
        subtitle: number of points and UMAP's parameters, printed below the planes.
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
        ax.set_xlabel(subtitle if column == len(planes) // 2 else " ")
    ax = add_map(fig, grid[1, :])
    plot_classes(ax, lonlat, classes, colors=colors, size=1.3, seed=seed)
    handles = [
        Line2D([], [], ls="", marker="o", ms=4.5, color=color, label=name)
        for name, color in colors.items()
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=3, handletextpad=0.2)
    return fig
