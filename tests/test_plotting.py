"""Colours, tables and planes show what they are given."""

from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgb

from satclip_lib.data.images import load_true_color
from satclip_lib.data.patch_store import make_blue_marble_patches
from satclip_lib.embedding.localization import RADII_KM
from satclip_lib.plotting.clusters import (
    plot_class_similarity,
    plot_cluster_scores,
    plot_plane_and_map_by_layer,
    plot_planes,
    plot_umap_and_map,
    plot_votes,
)
from satclip_lib.plotting.curves import plot_curves, plot_localization_errors, plot_training_curves
from satclip_lib.plotting.forest import LARGEST_DIFFERENCE, plot_forest
from satclip_lib.plotting.layers import make_class_layer
from satclip_lib.plotting.patches import plot_sample_map
from satclip_lib.plotting.predictions import plot_continent_maps, plot_prediction_map
from satclip_lib.plotting.style import BIOME_COLORS, CLIMATE_COLORS, CONTINENT_COLORS
from satclip_lib.plotting.tables import plot_table

# Linear RGB as seen with protanopia and deuteranopia: Machado et al. (2009), severity 1,
# doi:10.1109/TVCG.2009.113
SIGHT = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}


def _to_cielab(colors: list[str], sight: str) -> np.ndarray:
    rgb = np.array([to_rgb(color) for color in colors])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.transpose(SIGHT[sight]), 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = seen @ np.transpose(to_xyz) / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack(
        [116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1
    )


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("colors", [BIOME_COLORS, CLIMATE_COLORS, CONTINENT_COLORS])
def test_class_colours_can_be_told_apart(colors, sight):
    """Any two classes differ by 14 units of CIELAB, for colour-blind readers too."""
    lab = _to_cielab(list(colors.values()), sight)
    distance = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    assert distance[np.triu_indices(len(lab), 1)].min() >= 14


def _make_summary() -> pd.DataFrame:
    rows = [
        ("random", "air_temperature", "R2", "a", 0.5, 0.0),
        ("random", "air_temperature", "R2", "b", 0.6, 0.1),
        ("random", "country", "accuracy", "a", 0.9, 0.0),
        ("random", "country", "accuracy", "b", 0.8, -0.1),
        ("blocks", "air_temperature", "R2", "a", -40.0, 0.0),
        ("blocks", "air_temperature", "R2", "b", 0.1, 40.1),
    ]
    columns = ["protocol", "task", "metric", "encoder", "score", "difference"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(
        part="all",
        low=table.score - 0.05,
        high=table.score + 0.05,
        difference_low=table.difference - 0.02,
        difference_high=table.difference + 0.03,
    )


def test_printed_table_marks_the_best_and_names_the_absent():
    """Best scores are bold and darkest, worst are white, hopeless ones cut off, absences named."""
    families = {"b": "coordinates", "a": "pretrained"}
    summary = pd.concat([_make_summary(), _make_summary().replace({"encoder": {"a": "c"}})])
    table = {"reference": "a", "families": families}
    fig = plot_table(summary, **table, absent=["sea_level"], note="Linear probe.")
    texts = {text.get_text(): text.get_weight() for text in fig.axes[0].texts}
    assert texts["0.60"] == "bold" and texts["0.50"] == "normal" and texts["0.90"] == "bold"
    assert texts["< −10"] == "normal" and texts["0.10"] == "bold"
    assert "–" in texts and "R²" in texts  # countries in blocks; the metric of the column
    assert "Labels not at hand: sea level." in texts and "Linear probe." in " ".join(texts)
    assert texts["a"] == "bold" and texts["b"] == "normal" and "c" not in texts
    assert "pretrained" in texts
    colors = [box.get_facecolor() for box in fig.axes[0].patches]  # b, then a; random, then blocks
    assert len(colors) == 6 and colors[0] == colors[3] and colors[1] == colors[2]
    assert sum(colors[0][:3]) < sum(colors[1][:3])


def test_forest_shows_the_reference_minus_the_others():
    """Right of zero the reference is ahead; what is beyond the axis is an arrow with its value."""
    fig = plot_forest(_make_summary(), reference="a", encoders=["b"])
    random, blocks = fig.axes
    (interval, _), points = random.collections[0].get_segments(), random.collections[1]
    np.testing.assert_allclose(points.get_offsets(), [[-0.1, 0.0], [0.1, 1.0]])
    np.testing.assert_allclose(interval, [[-0.13, 0.0], [-0.08, 0.0]])
    arrows = [c.get_offsets() for c in blocks.collections[1:] if len(c.get_offsets())]
    ((x, y),) = np.concatenate(arrows)
    assert x == pytest.approx(-LARGEST_DIFFERENCE, abs=0.02) and y == 0
    assert [text.get_text() for text in blocks.texts] == ["−40.10"] and not random.texts
    labels = [label.get_text() for label in random.get_yticklabels()]
    assert labels == ["air temperature (R²)", "country (accuracy)"]


def test_more_encoders_than_colours_are_refused():
    """Six beside the reference and seven curves are drawn; one more is an error, not left out."""
    summary = _make_summary().replace({"protocol": {"random": "Asia+5%", "blocks": "Asia+10%"}})
    names = list("bcdefghi")
    assert len(plot_forest(summary, reference="a", encoders=names[:6]).legends[0].texts) == 6
    with pytest.raises(ValueError, match="7 encoders, but colours for 6"):
        plot_forest(summary, reference="a", encoders=names[:7])
    assert len(plot_curves(summary, encoders=names[:7], xlabel="%").legends[0].texts) == 7
    with pytest.raises(ValueError, match="8 encoders, but colours for 7"):
        plot_curves(summary, encoders=names, xlabel="%")


def test_errors_are_a_share_within_each_distance():
    """A curve per way, in its own colour and dashes, that ends at all images."""
    errors_km = {"good": np.array([10.0, 100.0]), "bad": np.array([5000.0, 300.0])}
    fig = plot_localization_errors(errors_km, radii_km=RADII_KM)
    (ax,) = fig.axes
    curves = ax.get_lines()[:2]
    assert [line.get_label() for line in curves] == ["good", "bad"]
    assert len({(to_hex(line.get_color()), line.get_linestyle()) for line in curves}) == 2
    np.testing.assert_array_equal(curves[1].get_xdata(), [300, 5000])
    np.testing.assert_array_equal(curves[1].get_ydata(), [0.5, 1.0])
    assert ax.get_xlabel().endswith("km")


def test_curves_keep_gaps_and_the_order_of_what_grows():
    """Each encoder is a line over all ticks; a protocol that a task lacks is a gap."""
    summary = _make_summary().replace({"protocol": {"random": "Asia+5%", "blocks": "Asia+10%"}})
    fig = plot_curves(summary, encoders=["a", "b"], xlabel="%", num_columns=2)
    temperature, country = fig.axes
    assert [tick.get_text() for tick in temperature.get_xticklabels()] == ["5", "10"]
    lines = {line.get_label(): line.get_ydata() for line in temperature.lines}
    np.testing.assert_allclose(lines["b"], [0.6, 0.1])
    assert np.isnan(country.lines[0].get_ydata()[1]) and country.get_ylabel() == "accuracy"
    assert (temperature.get_yscale(), country.get_yscale()) == ("symlog", "linear")
    assert temperature.get_ylim()[0] < summary.low.min()  # the hopeless score is not cut off


@pytest.fixture
def measured():
    """Fifty places and a value at each."""
    rng = np.random.default_rng(0)
    lonlat = np.stack([rng.uniform(-180, 180, 50), rng.uniform(-60, 80, 50)], axis=1)
    return lonlat, rng.normal(size=50)


def _check_scales(fig, values: list[int], errors: dict[int, float]) -> None:
    """Values have one scale, errors another that is centred on zero; errors are in their place."""
    fig.draw_without_rendering()
    maps = [ax for ax in fig.axes if hasattr(ax, "projection")]
    drawn = [next(c for c in ax.collections if np.size(c.get_array()) == 50) for ax in maps]
    assert len({drawn[i].get_clim() for i in values}) == 1
    assert len({drawn[i].get_clim() for i in errors}) == 1
    for i, error in errors.items():
        assert drawn[i].norm.vmin == -drawn[i].norm.vmax
        np.testing.assert_allclose(drawn[i].get_array(), error)


def test_prediction_map_shows_the_error_around_zero(measured):
    """The error comes first, in colours centred on zero; both value maps share one scale."""
    lonlat, target = measured
    fig = plot_prediction_map(lonlat, target, target + 1.0, label="x", title="t")
    _check_scales(fig, values=[1, 2], errors={0: 1.0})
    titles = [ax.get_title(loc="left") for ax in fig.axes if hasattr(ax, "projection")]
    assert titles == ["predicted minus measured", "measured", "t"]


def test_continent_maps_share_their_colours(measured):
    """Two encoders' values and errors have common scales; bars end at -1, numbers go on."""
    lonlat, target = measured
    rows = [("Asia", "a", 0.5), ("Asia", "b", -3.0)]
    scores = pd.DataFrame(rows, columns=["part", "encoder", "score"])
    predicted = {"a": target + 1.0, "b": target - 2.0}
    fig = plot_continent_maps(lonlat, target, predicted, scores=scores, label="x (m)")
    _check_scales(fig, values=[0, 1, 2], errors={3: 1.0, 4: -2.0})
    bars = next(ax for ax in fig.axes if ax.get_title(loc="left").startswith("R²"))
    assert sorted(bar.get_width() for bar in bars.patches) == [-1.0, 0.5]
    assert {text.get_text() for text in bars.texts} == {"0.50", "−3.00"}


def test_table_of_planes_is_in_order():
    """Rows and columns are named at the edge, each plane has its own note and points."""
    layer = make_class_layer("x", ["a", "a"], colors={"a": "#ff0000"})
    keys = [("r1", "c1"), ("r1", "c2"), ("r2", "c1"), ("r2", "c2")]
    planes = {key: np.full((2, 2), i, np.float32) for i, key in enumerate(keys)}
    fig = plot_planes(planes, layer, notes={key: "/".join(key) for key in keys})
    for i, (ax, key) in enumerate(zip(fig.axes, keys, strict=True)):
        assert ax.get_xlabel() == "/".join(key)
        assert (ax.collections[0].get_offsets() == i).all()
    assert [ax.get_ylabel() for ax in fig.axes] == ["r1", "", "r2", ""]


def test_planes_share_colours_and_the_large_one_is_named():
    """A class has one colour everywhere; the last plane is large, and names what is dense."""
    rng = np.random.default_rng(0)
    plane = np.concatenate([rng.normal(0, 0.1, (40, 2)), rng.normal(9, 0.1, (40, 2)), [[5, 5]]])
    plane, classes = plane.astype(np.float32), ["x"] * 40 + ["y"] * 40 + ["z"]
    lonlat = np.stack([np.linspace(-90, 90, 81), np.linspace(-50, 50, 81)], 1)
    colors = {"x": "#ff0000", "y": "#0000ff", "z": "#00ff00", "absent": "#000000"}
    notes = {"the first 60": "vote 0.1", "all": "vote 0.9"}
    planes = {"the first 60": plane[:60], "all": plane}
    fig = plot_umap_and_map(planes, lonlat, classes, colors=colors, notes=notes, seed=1)
    large, small = fig.axes[:2]
    assert (large.get_title("left"), large.get_xlabel()) == ("all", "vote 0.9")
    assert (small.get_title("left"), small.get_xlabel()) == ("the first 60", "vote 0.1")
    for ax, num_points in ((large, 81), (small, 60)):
        (points,) = ax.collections
        drawn = zip(points.get_offsets().tolist(), points.get_facecolors(), strict=True)
        expected = zip(plane[:num_points].tolist(), classes, strict=False)
        assert {tuple(at): to_hex(color) for at, color in drawn} == {
            tuple(at): colors[name] for at, name in expected
        }
    assert [text.get_text() for text in fig.legends[0].texts] == ["x", "y", "z"]
    found = {text.get_text(): np.array(text.xy) for text in large.texts}
    assert found.keys() == {"x", "y"} and not small.texts
    assert np.abs(found["x"]).max() < 0.5 and np.abs(found["y"] - 9).max() < 0.5


def test_votes_have_a_row_per_class_and_a_mark_per_encoder():
    """The first row is that of all, the others are sorted; above, continents are joined."""
    votes = pd.DataFrame({"a": [0.3, 0.2, 0.4], "b": [0.5, 0.1, 0.9]}, index=["all", "x", "y"])
    plane = np.repeat([[0, 0], [1, 0], [3, 0]], 10, axis=0).astype(np.float32)
    groups = pd.DataFrame({"class": ["x"] * 30, "continent": list("abc") * 10}).sort_values(
        "continent", ignore_index=True
    )
    fig = plot_votes(
        votes,
        pd.Series({"all": 1234, "x": 1000, "y": 234}),
        planes={"p": plane},
        groups=groups,
        colors={"x": "#ff0000", "y": "#0000ff"},
    )
    joined, ax = fig.axes
    assert sorted(sorted(line.get_xdata()) for line in joined.lines) == [[0, 1], [1, 3]]
    assert {line.get_color() for line in joined.lines} == {"#ff0000"}
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "all (1,234)", "y (234)", "x (1,000)"
    ]  # fmt: skip
    _, a, b = ax.collections
    assert list(a.get_offsets()[:, 0]) == [0.3, 0.4, 0.2]
    assert list(b.get_offsets()[:, 0]) == [0.5, 0.9, 0.1]
    assert [text.get_text() for text in fig.subfigs[1].legends[0].texts] == ["a", "b"]


def test_the_kept_epoch_is_marked():
    """It is the one with the lowest held-out loss."""
    curve = pd.DataFrame({"epoch": [0, 1, 2], "val_loss": [3.0, 2.5, 2.7]})
    curve = curve.assign(train_loss=1.0, val_top1_accuracy=0.1, val_top10_accuracy=0.3)
    fig = plot_training_curves(curve, num_candidates=100)
    kept = next(line for line in fig.axes[0].lines if line.get_label() == "kept")
    assert (kept.get_xdata()[0], kept.get_ydata()[0]) == (2, 2.5)


def test_sample_map_shows_every_patch_and_examples_of_its_class():
    """Points have the colour of their class; a strip holds patches of its class; rare ones none."""
    dataset = make_blue_marble_patches(num_patches=60)
    classes = ["x"] * 30 + ["y"] * 27 + ["rare"] * 2 + [""]
    colors = {"x": "#ff0000", "y": "#0000ff", "rare": "#00ff00"}
    layer = make_class_layer("t", classes, colors=colors)
    fig = plot_sample_map(dataset, layer, num_examples=3)
    points = next(c for c in fig.axes[0].collections if len(c.get_offsets()) == 59)
    drawn = [to_hex(color) for color in points.get_facecolors()]
    assert [drawn.count(color) for color in colors.values()] == [30, 27, 2]
    strips = fig.axes[1:]
    assert [ax.texts[0].get_text() for ax in strips] == ["x", "y"]
    first = strips[0].images[0].get_array()[:, :64]  # (64, 64, 3), with the patch amid it
    of_class = load_true_color(dataset, slice(0, 30), context_px=64)
    assert min(np.abs(patch - first).max() for patch in of_class) < 1e-6


def test_dendrogram_and_matrix_have_one_order():
    """Rows and columns of the matrix stand beside their leaf, and alike classes stand together."""
    names = ["a", "b", "c", "d"]
    values = np.array([[1, -0.9, 0.8, -0.7], [0, 1, -0.8, 0.7], [0, 0, 1, -0.9], [0, 0, 0, 1]])
    similarity = pd.DataFrame(np.triu(values) + np.triu(values, 1).T, index=names, columns=names)
    fig = plot_class_similarity(similarity, colors=dict.fromkeys(names, "#000000"))
    matrix = next(ax for ax in fig.axes if ax.images)
    order = [text.get_text() for text in matrix.get_yticklabels()]
    assert {frozenset(order[:2]), frozenset(order[2:])} == {frozenset("ac"), frozenset("bd")}
    np.testing.assert_allclose(matrix.images[0].get_array(), similarity.loc[order, order])


def test_scores_are_drawn_where_they_are():
    """Each encoder has a filled mark for its embedding and a hollow one for its plane."""
    scores = pd.DataFrame(
        [("p", "embedding", 0.5), ("q", "embedding", 0.7), ("p", "UMAP plane", 0.4)],
        columns=["encoder", "space", "k-NN accuracy"],
    ).assign(silhouette=0.1)
    fig = plot_cluster_scores(scores)
    marks = [(line.get_xdata()[0], line.get_ydata()[0]) for line in fig.axes[0].lines]
    assert marks == [(0.5, 0), (0.7, 1), (0.4, 0)]
    assert fig.axes[0].lines[2].get_markerfacecolor() == "white"


def test_names_are_neither_formulas_nor_markup(tmp_path):
    """Dollar signs and tags in names are shown as they are, in the picture's SVG too."""
    name = "US$ 5 to $\\frac <script>alert(1)</script>"
    layer = make_class_layer(name, [name, name], colors={name: "#ff0000"})
    plane, lonlat = np.eye(2, dtype=np.float32), np.eye(2)
    fig = plot_plane_and_map_by_layer(plane, lonlat, [layer])
    with mpl.rc_context({"svg.fonttype": "none"}):
        fig.savefig(tmp_path / "a.svg")
    page = ElementTree.parse(tmp_path / "a.svg")
    assert [text.text for text in page.iterfind(".//{*}text")].count(name) == 2
    assert not list(page.iterfind(".//{*}script"))
