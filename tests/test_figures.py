"""Figures are saved whole, with what they show and where they came from."""

import json
import re
from html import escape

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from cells import ROOT
from PIL import Image
from scipy.ndimage import gaussian_filter
from small import make_model

from satclip_lib.checkpoints.store import hash_checkpoint, save_pretrained
from satclip_lib.data.patch_store import make_blue_marble_patches, save_patches
from satclip_lib.files import Workspace
from satclip_lib.plotting.figures import FIGURES, save_figure
from satclip_lib.plotting.style import BIOME_COLORS, CLIMATE_COLORS, CONTINENT_COLORS
from tools.contact_sheet import save_contact_sheet
from tools.save_reference import find_chromium, photograph, save_reference, save_small_copy


@pytest.fixture
def made():
    """A workspace with patches and two checkpoints."""
    made = Workspace("smoke")
    save_patches(make_blue_marble_patches(num_patches=20), made.patches)
    for seed, name in enumerate(("tiny", "other")):
        save_pretrained(make_model(seed), made.checkpoints / name)
    return made


@pytest.fixture
def fig():
    """A figure of 2 by 1 inches."""
    fig = plt.figure(figsize=(2, 1))
    fig.add_subplot().plot([0, 1])
    return fig


def test_saves_picture_data_and_provenance(made, fig):
    """PNG at 300 dpi, PDF, CSV of what is drawn, and a sidecar that names its inputs."""
    data, numbers = pd.DataFrame({"a": [1.5]}), {"share": 0.123456}
    save_figure(fig, "biome_umap", workspace=made, seed=3, data=data, numbers=numbers)
    with Image.open(made.figures / "biome_umap.png") as image:
        assert image.size == (600, 300)
    assert (made.figures / "biome_umap.pdf").read_bytes().startswith(b"%PDF")
    assert (made.figures / "biome_umap.csv").read_text() == "a\n1.5\n"
    sidecar = json.loads((made.figures / "biome_umap.json").read_text())
    assert sidecar["checkpoints"] == {}
    assert (sidecar["profile"], sidecar["seed"]) == ("smoke", 3)
    assert sidecar["numbers"] == {"share": 0.1235}
    assert sidecar["notebook"] == FIGURES["biome_umap"].notebook


def test_only_the_checkpoints_that_were_used_are_hashed(made, fig):
    """The sidecar names the models passed, by name or folder, not all that are there."""
    for used in ("tiny", made.checkpoints / "tiny"):
        save_figure(fig, "biome_umap", workspace=made, seed=0, checkpoints=[used])
        sidecar = json.loads((made.figures / "biome_umap.json").read_text())
        assert sidecar["checkpoints"] == {"tiny": hash_checkpoint(made.checkpoints / "tiny")}


def test_same_figure_same_bytes(made, fig):
    """Nothing that is saved holds the time of day."""
    contents = []
    for _ in range(2):
        save_figure(fig, "biome_umap", workspace=made, seed=0)
        contents.append([path.read_bytes() for path in sorted(made.figures.iterdir())])
    assert contents[0] == contents[1]


def test_unknown_figure_is_refused(made, fig):
    """A figure that is not in the table is not written."""
    with pytest.raises(ValueError, match="unknown figure 'biom_umap'"):
        save_figure(fig, "biom_umap", workspace=made, seed=0)
    assert not made.figures.exists()


def test_every_figure_has_a_reference_copy(made, fig, monkeypatch, caplog):
    """Half as wide and high as the original, beside a copy of its sidecar."""
    figures = [*FIGURES][:2]
    for figure_id in figures:
        save_figure(fig, figure_id, workspace=made, seed=0)
    monkeypatch.setattr("tools.save_reference.FIGURES", figures)
    monkeypatch.setattr("tools.save_reference.find_chromium", lambda: None)
    save_reference(made)
    assert "no Chromium found" in caplog.text
    for figure_id in figures:
        with Image.open(made.figures / "reference" / f"{figure_id}.webp") as image:
            assert image.size == (300, 150)
        sidecar = (made.figures / f"{figure_id}.json").read_bytes()
        assert (made.figures / "reference" / f"{figure_id}.json").read_bytes() == sidecar


@pytest.mark.skipif(find_chromium() is None, reason="no Chromium")
def test_the_atlas_has_a_picture_of_its_page(tmp_path):
    """What a browser shows at 1,280 by 800 pixels is kept, at twice that size."""
    page = "<body id='atlas' data-ready style='background: rgb(9, 99, 199)'>"
    (tmp_path / "atlas.html").write_text(page)
    photograph(tmp_path / "atlas.html", tmp_path / "atlas.png", chromium=find_chromium())
    with Image.open(tmp_path / "atlas.png") as image:
        assert image.size == (2560, 1600)
        assert image.convert("RGB").getcolors() == [(2560 * 1600, (9, 99, 199))]


def _count_colors(path) -> dict[str, int]:
    """Number of pixels of each colour of a picture."""
    with Image.open(path) as image:
        red, green, blue = np.moveaxis(np.asarray(image.convert("RGB"), int), 2, 0)
    numbers, counts = np.unique(red << 16 | green << 8 | blue, return_counts=True)
    return {f"#{number:06x}": n for number, n in zip(numbers, counts, strict=True)}


def test_small_copies_keep_the_colours_of_classes(tmp_path):
    """Beside a picture of thousands of colours each class still has its own, to the last bit."""
    colors = {**BIOME_COLORS, **CLIMATE_COLORS, **CONTINENT_COLORS}
    fig = plt.figure(figsize=(6, 3))
    fig.add_axes((0, 0, 1, 1)).bar(list(colors), 1, color=list(colors.values()))
    fig.figimage(np.random.default_rng(0).random((200, 200, 3)))
    fig.savefig(tmp_path / "large.png", dpi=300)
    save_small_copy(tmp_path / "large.png", tmp_path / "small.webp")
    counts = _count_colors(tmp_path / "small.webp")
    assert len(counts) > 5_000 and min(counts.get(c, 0) for c in colors.values()) > 1000


CLASSES_SHOWN = {
    "sample_map": BIOME_COLORS,
    "biome_umap": BIOME_COLORS,
    "umap_by_label": {**BIOME_COLORS, **CLIMATE_COLORS},
    "biome_similarity": BIOME_COLORS,
    "umap_stability": BIOME_COLORS,
}


@pytest.mark.parametrize("figure_id", CLASSES_SHOWN)
def test_committed_figures_have_the_colours_of_the_style_table(figure_id):
    """Every class has dozens of pixels of its own colour, to the last bit."""
    counts = _count_colors(ROOT / "figures" / "reference" / f"{figure_id}.webp")
    assert min(counts.get(color, 0) for color in CLASSES_SHOWN[figure_id].values()) >= 24


def test_small_copies_are_small(tmp_path, monkeypatch):
    """A photograph that is large without loss is compressed, with colours near the original's."""
    monkeypatch.setattr("tools.save_reference.MAX_BYTES", 50_000)
    smooth = gaussian_filter(np.random.default_rng(0).random((500, 400, 3)), (8, 8, 0))
    smooth = (smooth - smooth.min()) / np.ptp(smooth) * 255
    noise = np.random.default_rng(1).integers(-6, 7, smooth.shape)
    Image.fromarray((smooth + noise).clip(0, 255).astype(np.uint8)).save(tmp_path / "large.png")
    save_small_copy(tmp_path / "large.png", tmp_path / "small.webp")
    assert (tmp_path / "small.webp").stat().st_size < 50_000
    with Image.open(tmp_path / "small.webp") as copy, Image.open(tmp_path / "large.png") as large:
        difference = np.asarray(copy.convert("RGB"), float) - np.asarray(large.reduce(2), float)
    assert np.abs(difference).mean() < 4


def test_contact_sheet_has_all_figures_there_are(made, fig):
    """Each figure that was made, with caption, numbers and links that lead somewhere."""
    save_figure(fig, "biome_umap", workspace=made, seed=3, numbers={"k-NN < 1": 0.5})
    save_figure(fig, "sample_map", workspace=made, seed=0, data=pd.DataFrame({"a": [1]}))
    (made.figures / "biome_atlas.html").touch()
    made.build.mkdir(parents=True)
    for figure_id in ("biome_umap", "sample_map"):
        (made.build / f"{FIGURES[figure_id].notebook}.ipynb").touch()
    page = save_contact_sheet(made)
    text = page.read_text()
    links = re.findall(r'(?:href|src)="([^"]+)"', text)
    for link in set(links) - {"data:,"}:
        assert (page.parent / link).is_file(), link
    assert {"biome_atlas.html", "sample_map.csv", "biome_umap.pdf"} <= set(links)
    assert re.findall(r'<figure id="(\w+)">', text) == ["sample_map", "biome_umap"]
    assert "<dt>k-NN &lt; 1</dt><dd>0.5</dd>" in text
    assert escape(FIGURES["biome_umap"].caption) in text


MARKUP = "<script>alert(1)</script>\"><img src=x onerror='alert(1)'>{{ 1 }}$x</title>"
DAMAGE = ["", "[]", '{"notebook": 3}', "\udcff", "[" * 100_000]


@pytest.mark.parametrize("damage", DAMAGE, ids=range(len(DAMAGE)))
def test_a_damaged_sidecar_does_not_stop_the_contact_sheet(made, fig, damage):
    """Its figure is there and says so; the others are as they were."""
    for figure_id in ("biome_umap", "sample_map"):
        save_figure(fig, figure_id, workspace=made, seed=0)
    (made.figures / "biome_umap.json").write_bytes(damage.encode(errors="surrogateescape"))
    text = save_contact_sheet(made).read_text()
    assert "biome_umap.json is damaged: make the figure again" in text
    assert escape(FIGURES["sample_map"].caption) in text


def test_markup_on_the_contact_sheet_is_text(made, fig, open_page):
    """Whatever a sidecar or the name of a file holds is shown in Chromium, and runs nothing."""
    save_figure(fig, "biome_umap", workspace=made, seed=0)
    sidecar = made.figures / "biome_umap.json"
    about = json.loads(sidecar.read_text()) | {
        "numbers": {MARKUP: 1.0},
        "checkpoints": {MARKUP: MARKUP},
    }
    about |= dict.fromkeys(("caption", "notebook", "seed", "patches"), MARKUP)
    sidecar.write_text(json.dumps(about))
    (made.figures / f"{MARKUP.replace('/', '')}_atlas.html").touch()
    page = open_page(save_contact_sheet(made))
    assert page.locator("script, svg, img[src=x]").count() == 0
    assert page.evaluate("document.body.innerText").count("<script>alert(1)") >= 6
