"""Every figure keeps its layout: text inside the page and large enough, ink where it was.

The pictures in ``fixtures/layout`` are what figures of made-up data looked like, a few dozen
pixels wide, so that fonts and versions do not matter but a lost panel or legend does. After a
change that is meant, ``SATCLIP_UPDATE_LAYOUT=1 pytest tests/test_layout.py`` draws them anew.
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image
from scipy.ndimage import gaussian_filter

from satclip_lib.data.images import load_true_color
from satclip_lib.data.patch_store import get_lonlat, make_blue_marble_patches
from satclip_lib.evaluation.ablations import ALL_TASKS
from satclip_lib.plotting.clusters import (
    plot_class_similarity,
    plot_cluster_scores,
    plot_plane_and_map_by_layer,
    plot_planes,
    plot_umap_and_map,
)
from satclip_lib.plotting.curves import plot_training_curves
from satclip_lib.plotting.forest import plot_rankings, plot_variants
from satclip_lib.plotting.globes import make_lonlat_grid, plot_globes
from satclip_lib.plotting.layers import Layer, make_class_layer
from satclip_lib.plotting.patches import plot_sample_map
from satclip_lib.plotting.schematic import plot_method_overview
from satclip_lib.plotting.similarity import plot_similarity_maps
from satclip_lib.plotting.style import BIOME_COLORS, PAGE_WIDTH_IN, shorten_biome

FIXTURES = Path(__file__).parent / "fixtures" / "layout"
WIDTH_PX = 64
MIN_FONT_PT = 5.5
COLORS = {shorten_biome(name): color for name, color in BIOME_COLORS.items()}


def _make_points(num_points: int = 600):
    """Places, a plane, and a class each; the longest names of classes are among them."""
    dataset = make_blue_marble_patches(num_patches=num_points, seed=1)
    lonlat = get_lonlat(dataset)
    plane = (lonlat / 30).astype(np.float32)
    classes = [list(COLORS)[int(lon + 180) % len(COLORS)] for lon in lonlat[:, 0]]
    return dataset, lonlat, plane, classes


def _draw_umap_and_map():
    _, lonlat, plane, classes = _make_points()
    others = ("unit vector", "untrained L=40", "SatCLIP L=10", "SatCLIP L=40")
    planes = dict.fromkeys((*others, "latitude + images, no SatCLIP"), plane)
    notes = dict.fromkeys(planes, "vote across continents 0.55")
    return plot_umap_and_map(planes, lonlat, classes, colors=COLORS, notes=notes)


def _draw_layers():
    _, lonlat, plane, classes = _make_points()
    layers = [make_class_layer("Biome", classes, colors=COLORS), Layer("North", lonlat[:, 1], "m")]
    return plot_plane_and_map_by_layer(plane, lonlat, layers)


def _draw_planes():
    _, _, plane, classes = _make_points()
    keys = [(f"{n} neighbours", f"seed {seed}") for n in (10, 30, 100) for seed in range(3)]
    notes = dict.fromkeys(keys, "72% of neighbours kept, k-NN 0.75")
    layer = make_class_layer("Biome", classes, colors=COLORS)
    return plot_planes(dict.fromkeys(keys, plane), layer, notes=notes)


def _draw_scores():
    measures = ("k-NN accuracy", "silhouette", "adjusted Rand", "mutual information")
    rows = [
        {"encoder": encoder, "space": space} | dict.fromkeys(measures, 0.1 * i)
        for i, encoder in enumerate(("unit vector", "untrained L=40", "SatCLIP L=40"))
        for space in ("embedding", "UMAP plane")
    ]
    return plot_cluster_scores(pd.DataFrame(rows))


def _draw_class_similarity():
    angle = np.linspace(0, 3, len(COLORS))
    cosine = np.cos(angle[:, None] - angle[None])
    table = pd.DataFrame(cosine, index=list(COLORS), columns=list(COLORS))
    return plot_class_similarity(table, colors=COLORS)


def _draw_globes():
    grid = make_lonlat_grid(10.0)
    red, green = (grid.T / [[360], [180]]) + 0.5
    rgb = np.column_stack([red, green, np.full(len(grid), 0.5)])
    colors = {"longitude, latitude": rgb, "SatCLIP L=40": 1 - rgb}
    titles = "principal components", "independent components"
    return plot_globes(colors, others=dict(zip(colors, (1 - rgb, rgb), strict=True)), titles=titles)


def _draw_similarity_maps():
    _, lonlat, _, _ = _make_points()
    places = {"Sahara": (10.0, 23.0), "Tokyo": (139.7, 35.7)}
    similarity = np.cos(np.radians(lonlat[:, 0]))
    keys = [(place, f"SatCLIP L={n}") for place in places for n in (10, 40)]
    return plot_similarity_maps(lonlat, dict.fromkeys(keys, similarity), places=places)


def _draw_overview():
    dataset, lonlat, _, _ = _make_points()
    cosines = np.eye(6) - 0.2
    towers = {"image_label": "frozen image encoder\nlinear projection"}
    towers["location_label"] = "spherical harmonics\nL = 40\nSIREN"
    return plot_method_overview(load_true_color(dataset, slice(6)), lonlat[:6], cosines, **towers)


def _draw_sample_map():
    dataset, _, _, classes = _make_points()
    return plot_sample_map(dataset, make_class_layer("Biome", classes, colors=COLORS))


def _draw_training_curves():
    epoch = np.arange(10)
    columns = {"epoch": epoch, "train_loss": 7 - 0.3 * epoch, "val_loss": 7 - 0.1 * epoch}
    columns |= {f"val_top{k}_accuracy": 0.002 * k * epoch for k in (1, 10)}
    return plot_training_curves(pd.DataFrame(columns), num_candidates=2048)


def _draw_variants():
    rows = [
        {"task": task, "protocol": protocol, "encoder": encoder, "difference": difference}
        for task in ("population_density", "air_temperature", "climate_zone", ALL_TASKS)
        for protocol in ("random", "blocks", "continents")
        for encoder, difference in _make_differences()[protocol].items()
    ]
    summary = pd.DataFrame(rows)
    low, high = summary.difference - 0.01, summary.difference + 0.01
    summary = summary.assign(difference_low=low, difference_high=high)
    return plot_variants(summary, reference="ours")


def _draw_rankings():
    table = _make_differences()
    return plot_rankings({"this sweep": table[["random", "blocks"]], "full size": table})


def _make_differences():
    names = ["ours", "paper L=40, learning rate 2e-4", *(f"variant {i}" for i in range(18))]
    columns = {"random": np.arange(20.0), "blocks": np.arange(20.0) * 7 % 20}
    columns["continents"] = 19 - columns["random"]
    return pd.DataFrame({k: (v - v[0]) / 100 for k, v in columns.items()}, index=names)


DRAWINGS = {
    "ablation_forest": _draw_variants,
    "split_ranking": _draw_rankings,
    "biome_umap": _draw_umap_and_map,
    "umap_by_label": _draw_layers,
    "umap_stability": _draw_planes,
    "cluster_scores": _draw_scores,
    "biome_similarity": _draw_class_similarity,
    "embedding_globes": _draw_globes,
    "similarity_places": _draw_similarity_maps,
    "method_overview": _draw_overview,
    "sample_map": _draw_sample_map,
    "training_curves": _draw_training_curves,
}


def _shrink(fig) -> np.ndarray:
    """The drawn figure, ``WIDTH_PX`` wide, ``(height, width, 3)``."""
    fig.set_dpi(150)
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    height = round(WIDTH_PX * picture.height / picture.width)
    return np.asarray(picture.resize((WIDTH_PX, height), Image.Resampling.BOX))


def _differ(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether ink was lost, in all or in one place."""
    difference = np.abs(a.astype(float) - b).mean(axis=2) / 255
    return difference.mean() > 0.03 or gaussian_filter(difference, 2).max() > 0.15


@pytest.mark.parametrize("name", DRAWINGS)
def test_figures_fit_the_page_and_keep_their_layout(name):
    """17.5 cm wide; no text below 5.5 pt or beyond the edge; as much ink as before, everywhere."""
    fig = DRAWINGS[name]()
    small = _shrink(fig)
    assert fig.get_figwidth() == PAGE_WIDTH_IN
    for text in fig.findobj(Text):
        if text.get_visible() and text.get_text().strip():
            assert text.get_fontsize() >= MIN_FONT_PT, text.get_text()
    drawn = fig.get_tightbbox()  # of all that is drawn, inches
    width, height = fig.get_size_inches()
    assert -0.01 < drawn.x0 and drawn.x1 < width + 0.01
    assert -0.01 < drawn.y0 and drawn.y1 < height + 0.01

    path = FIXTURES / f"{name}.png"
    if os.environ.get("SATCLIP_UPDATE_LAYOUT"):
        FIXTURES.mkdir(exist_ok=True)
        Image.fromarray(small).quantize(64).save(path, optimize=True)
    with Image.open(path) as image:
        assert image.size == pytest.approx(small.shape[1::-1], abs=2)
        expected = np.asarray(image.convert("RGB").resize(small.shape[1::-1]))
    assert not _differ(small, expected)


def test_layout_notices_a_lost_legend():
    """The comparison is not blind: the same figure without its legend differs."""
    fig = _draw_umap_and_map()
    whole = _shrink(fig)
    fig.legends[0].remove()
    assert _differ(whole, _shrink(fig))
