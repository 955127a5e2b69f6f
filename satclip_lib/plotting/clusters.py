"""Classes in the embedding space: which are alike, and how well they cluster."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from jaxtyping import Float, Shaped
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import dendrogram, linkage
from scipy.spatial.distance import squareform
from sklearn.preprocessing import normalize

from satclip_lib.plotting.style import PAGE_WIDTH_IN, styled

AXIS_LABELS = {
    "k-NN accuracy": "share of places",
    "silhouette": "from −1 to 1",
    "adjusted Rand": "k-means and classes",
    "mutual information": "k-means and classes",
}


def compute_class_similarity(
    embeddings: Float[np.ndarray, "num_points num_features"],
    classes: Shaped[np.ndarray, " num_points"],
) -> pd.DataFrame:
    """Cosine similarity between the mean embeddings of classes.

    The mean over classes is subtracted first: what all places share says nothing about any two.

    Args:
        embeddings: of any length; only their directions count.
        classes: one per point.

    Returns:
        Square table, -1 to 1, indexed by class on both sides.
    """
    unit = pd.DataFrame(normalize(embeddings)).groupby(np.asarray(classes)).mean()
    centred = normalize(unit - unit.mean())
    return pd.DataFrame(centred @ centred.T, index=unit.index, columns=unit.index)


@styled()
def plot_class_similarity(similarity: pd.DataFrame, *, colors: Mapping[str, str]) -> Figure:
    """Dendrogram of the classes beside the matrix of their similarities, in the same order.

    Args:
        similarity: from :func:`compute_class_similarity`.
        colors: colour of each class.
    """
    distance = 1 - similarity.to_numpy()
    tree = linkage(squareform(distance, checks=False), method="average", optimal_ordering=True)
    fig, (left, right) = plt.subplots(
        1, 2, figsize=(PAGE_WIDTH_IN, 3.6), width_ratios=(1, 3.3), sharey=False
    )
    drawn = dendrogram(
        tree, orientation="left", ax=left, color_threshold=0, above_threshold_color="0.3",
        no_labels=True,
    )  # fmt: skip
    order = drawn["leaves"]
    left.set(xlabel="1 − cosine", yticks=[])
    left.invert_yaxis()
    left.spines["left"].set_visible(False)
    names = similarity.index[order]
    image = right.imshow(
        similarity.to_numpy()[np.ix_(order, order)], cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto"
    )
    right.set(xticks=[], yticks=range(len(names)), yticklabels=names)
    right.tick_params(axis="y", length=0, pad=13)
    for spine in right.spines.values():
        spine.set_visible(False)
    for row, name in enumerate(names):
        right.plot(
            -0.035, row, "o", ms=6, color=colors[name], clip_on=False,
            transform=right.get_yaxis_transform(),
        )  # fmt: skip
        right.plot(
            row, -0.035, "o", ms=6, color=colors[name], clip_on=False,
            transform=right.get_xaxis_transform(),
        )  # fmt: skip
    bar = fig.colorbar(image, ax=right, label="cosine of centred class means", pad=0.02)
    bar.outline.set_visible(False)
    return fig


@styled()
def plot_cluster_scores(scores: pd.DataFrame) -> Figure:
    """One panel per measure, one row per encoder; filled in all dimensions, hollow in the plane.

    Args:
        scores: columns ``encoder``, ``space`` ("embedding" or "UMAP plane") and one per measure.
    """
    measures = [name for name in scores if name not in ("encoder", "space")]
    encoders = list(dict.fromkeys(scores.encoder))
    fig, axes = plt.subplots(
        1, len(measures), figsize=(PAGE_WIDTH_IN, 0.95 + 0.27 * len(encoders)), sharey=True
    )
    palette = sns.color_palette(n_colors=len(encoders))
    for ax, measure in zip(axes, measures, strict=True):
        for space, face in (("embedding", None), ("UMAP plane", "white")):
            rows = scores[scores.space == space].set_index("encoder")[measure]
            for row, encoder in enumerate(encoders):
                if encoder in rows:
                    color = palette[row]
                    ax.plot(rows[encoder], row, "o", ms=5.5, mfc=face or color, mec=color, mew=1.2)
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
