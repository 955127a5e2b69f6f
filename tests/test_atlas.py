"""The atlas, in a real browser: it opens alone, and both panels always show the same points.

Chromium is taken from ``$CHROMIUM`` or the PATH; `make test` installs it where it may. Pictures
of what the browser showed are kept in ``build/screenshots``.
"""

import base64
import os
import shutil
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from satclip_lib.plotting.atlas import SPRITE_COLUMNS, AtlasView, make_sprite, save_atlas
from satclip_lib.plotting.layers import Layer, make_class_layer

SCREENSHOTS = Path(__file__).parents[1] / "build" / "screenshots"
NUM_POINTS = 6_000
COLORS = {"africa": "#d00000", "america": "#0000d0"}


@pytest.fixture(scope="module")
def atlas(tmp_path_factory) -> Path:
    """6,000 points: those in Africa are left in the plane, those in South America are right."""
    rng = np.random.default_rng(0)
    in_africa = np.arange(NUM_POINTS) % 2 == 0
    center = np.where(in_africa[:, None], [20.0, 5.0], [-58.0, -10.0])
    lonlat = center + rng.uniform(-6, 6, (NUM_POINTS, 2))
    plane = np.where(in_africa[:, None], [-5.0, 0.0], [5.0, 0.0])
    plane = (plane + rng.uniform(-2, 2, (NUM_POINTS, 2))).astype(np.float32)
    classes = np.where(in_africa, "africa", "america")
    return save_atlas(
        tmp_path_factory.mktemp("atlas") / "atlas.html",
        plane=plane,
        lonlat=lonlat,
        patches=rng.integers(0, 256, (NUM_POINTS, 3, 8, 8), np.uint8),
        layers=[
            make_class_layer("Side", list(classes), colors=COLORS),
            Layer("Height", lonlat[:, 1], units="m"),
        ],
        title="A test",
        subtitle="of the atlas",
    )


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("NO BROWSER: install chromium or set CHROMIUM=path, the atlas goes untested")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Opens a file; whatever goes wrong in the browser or asks the network fails the test."""
    wrong, pages = [], []

    def open_file(path: Path):
        page = browser.new_page(viewport={"width": 1440, "height": 800})
        pages.append(page)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else 0)
        page.on("request", lambda request: wrong.append(request.url))
        page.on("dialog", lambda dialog: wrong.append(dialog.message) or dialog.dismiss())
        page.goto(path.as_uri())
        return page

    yield open_file
    for page in pages:
        page.close()
    harmless = ("file:", "data:", "blob:", "about:")
    assert not [what for what in wrong if not what.startswith(harmless)]


@pytest.fixture
def page(open_page, atlas):
    """The atlas, opened and ready."""
    page = open_page(atlas)
    page.wait_for_selector("#atlas[data-ready]")
    return page


def _selected(page) -> list[int]:
    return page.evaluate(
        "Bokeh.documents[0].get_model_by_name('points').selected.indices.toSorted((a, b) => a - b)"
    )


def _column(page, name: str) -> np.ndarray:
    script = "name => Array.from(Bokeh.documents[0].get_model_by_name('points').data[name])"
    return np.array(page.evaluate(script, name), dtype=float)


def _look(page, panel: str, name: str) -> np.ndarray:
    """What a panel shows, ``(height, width, 3)``; kept as a screenshot."""
    page.mouse.move(1, 1)  # off the panels, so that nothing is pointed at
    page.wait_for_timeout(400)  # one redraw
    picture = page.locator(f"#panel-{panel}").screenshot()
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    (SCREENSHOTS / f"atlas_{name}_{panel}.png").write_bytes(picture)
    return np.asarray(Image.open(BytesIO(picture)).convert("RGB")).astype(int)


def _count(picture: np.ndarray, color: str) -> int:
    """Pixels that are clearly of the colour of a class."""
    channel = {"africa": 0, "america": 2}[color]
    others = np.delete(picture, channel, axis=2).max(axis=2)
    return int((picture[:, :, channel] - others > 120).sum())


def _drag_around(page, panel: str, left: float, right: float) -> None:
    """A lasso around a part of a panel, from left to right in shares of its width."""
    box = page.locator(f"#panel-{panel}").bounding_box()
    corners = [(left, 0.12), (right, 0.12), (right, 0.95), (left, 0.95), (left, 0.12)]
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=3)
    page.mouse.up()
    page.wait_for_function("Bokeh.documents[0].get_model_by_name('points').selected.indices.length")


def test_file_is_small_and_whole(page, atlas):
    """Less than 15 MB for 20,000 points, patches that do not compress included."""
    assert atlas.stat().st_size < 15e6 * NUM_POINTS / 20_000
    assert len(_column(page, "x")) == NUM_POINTS
    for panel in ("plane", "map"):
        picture = _look(page, panel, "all")
        assert _count(picture, "africa") > 500 and _count(picture, "america") > 500
    page.screenshot(path=SCREENSHOTS / "atlas.png")


@pytest.mark.parametrize(("panel", "other"), [("plane", "map"), ("map", "plane")])
def test_selection_is_linked_both_ways(page, panel, other):
    """A lasso around Africa in one panel selects the same points, and mutes the others, in both."""
    is_africa = _column(page, "layer0") == 0
    left, right = (0.02, 0.5) if panel == "plane" else (0.48, 0.9)
    _drag_around(page, panel, left, right)
    assert _selected(page) == list(np.flatnonzero(is_africa))
    for name in (panel, other):
        picture = _look(page, name, f"selected_in_{panel}")
        assert _count(picture, "africa") > 500 and _count(picture, "america") == 0
    assert f"{NUM_POINTS // 2:,} of {NUM_POINTS:,}" in page.locator("#legend").inner_text()


def test_colours_switch(page):
    """By value, the class colours go, in both panels, and the bar has the units."""
    page.select_option("#layer", label="Height")
    for panel in ("plane", "map"):
        picture = _look(page, panel, "by_value")
        assert _count(picture, "africa") == _count(picture, "america") == 0
    assert page.locator("#legend .ends").inner_text().endswith(" m")
    page.select_option("#layer", label="Side")
    assert _count(_look(page, "map", "by_class_again"), "africa") > 500


def test_legend_hides_classes(page):
    """A click on a class hides its points in both panels, another shows them again."""
    page.locator("#legend button", has_text="america").click()
    for panel in ("plane", "map"):
        picture = _look(page, panel, "hidden")
        assert _count(picture, "america") == 0 and _count(picture, "africa") > 500
    page.locator("#legend button", has_text="america").click()
    assert _count(_look(page, "plane", "shown"), "america") > 500


def test_search_finds_the_nearest_point(page):
    """Longitude, then latitude: the nearest point is marked; what is no place is refused."""
    page.fill("#place", "20.0, 5.0")
    page.press("#place", "Enter")
    found = page.evaluate("Bokeh.documents[0].get_model_by_name('goal').data")
    lon, lat = _column(page, "lon"), _column(page, "lat")
    nearest = np.hypot(lon - 20, lat - 5).argmin()
    assert found["x"][0] == pytest.approx(_column(page, "x")[nearest])
    assert "km away: africa" in page.locator("#found").inner_text()
    page.fill("#place", "5, 120")
    page.press("#place", "Enter")
    assert "Longitude" in page.locator("#found").inner_text()


def test_pointing_shows_the_place(page):
    """Pointing at a place shows its coordinates, its labels, and its own patch."""
    box = page.locator("#panel-map").bounding_box()
    picture = _look(page, "map", "before_pointing")
    rows, columns = np.nonzero(picture[:, :, 0] - picture[:, :, 1:].max(axis=2) > 120)
    page.mouse.move(box["x"] + np.median(columns), box["y"] + np.median(rows))
    page.mouse.move(box["x"] + np.median(columns) + 1, box["y"] + np.median(rows))
    card = page.locator("#card")
    card.wait_for(state="visible")
    page.screenshot(path=SCREENSHOTS / "atlas_pointing.png")
    assert "Side: africa" in card.inner_text() and "° E" in card.inner_text()
    index = page.evaluate("Number(document.getElementById('card').dataset.index)")
    position = card.locator(".picture").evaluate("x => x.style.backgroundPosition")
    row, column = divmod(index, SPRITE_COLUMNS)
    assert position == f"-{96 * column}px -{96 * row}px".replace("-0px", "0px")


@pytest.mark.parametrize("in_notebook", [False, True])
def test_text_is_never_markup(open_page, tmp_path, in_notebook):
    """Tags and quotes in any text of the user's are shown as they are, alone and in a notebook."""

    def attack(name):
        return (
            f"{name} <script>alert('{name}')</script><img src=x onerror=\"alert('{name}')\">"
            f"\"><svg/onload=alert(1)></option></title></style>{{{{ 7 * 7 }}}}&lt;b&gt;'$x^"
        )

    path = save_atlas(
        tmp_path / "atlas.html",
        plane=np.array([[0, 0], [1, 1]], np.float32),
        lonlat=np.array([[10.0, 20.0], [50.0, 20.0]]),
        patches=np.zeros((2, 3, 8, 8), np.uint8),
        layers=[
            make_class_layer(attack("layer"), ["", attack("class")]),
            Layer(attack("value"), np.array([1.0, 2.0]), units=attack("unit")),
        ],
        title=attack("title"),
        subtitle=attack("subtitle"),
    )
    if in_notebook:
        (tmp_path / "notebook.html").write_text(AtlasView(path)._repr_html_())
        page = open_page(tmp_path / "notebook.html").frame_locator("iframe")
    else:
        page = open_page(path)
        assert page.title() == attack("title")
    page.locator("#atlas[data-ready]").wait_for()
    assert page.locator("h1").text_content() == attack("title")
    assert page.locator("header .hint").text_content() == attack("subtitle")
    names = page.locator("#layer option").all_text_contents()
    assert names == [attack("layer"), attack("value")]
    assert page.locator("#legend button em").text_content() == attack("class")
    page.locator("#place").fill("50, 20")
    page.locator("#place").press("Enter")
    assert page.locator("#found").text_content().endswith(attack("class"))
    page.locator("#layer").select_option(index=1)
    assert page.locator("#legend .ends").text_content().endswith(attack("unit"))
    page.locator("body").evaluate("_ => document.dispatchEvent("
        "new CustomEvent('atlas-hover', {detail: [0]}))")  # fmt: skip
    assert attack("value") in page.locator("#card span").inner_text()
    assert page.locator("img, svg[onload], #atlas script").count() == 0


def test_sprite_keeps_patches_apart():
    """Each patch comes back from its place in the sheet, with no colour of its neighbours."""
    patches = np.zeros((SPRITE_COLUMNS + 2, 3, 8, 8), np.uint8)
    patches[::2] = 255
    _, encoded = make_sprite(patches).split(",")
    sheet = np.asarray(Image.open(BytesIO(base64.b64decode(encoded)))).astype(int)
    assert sheet.shape == (16, 8 * SPRITE_COLUMNS, 3)
    for i in (0, 1, 2, SPRITE_COLUMNS, SPRITE_COLUMNS + 1):
        row, column = divmod(i, SPRITE_COLUMNS)
        block = sheet[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        assert np.abs(block - int(patches[i].max())).max() < 8


def test_bad_input_is_refused(tmp_path, shape_checks_off):
    """No layer, or arrays of different lengths, are errors that say so; no file is left."""
    arrays = {
        "plane": np.zeros((3, 2), np.float32),
        "lonlat": np.zeros((3, 2)),
        "patches": np.zeros((3, 3, 8, 8), np.uint8),
    }
    with pytest.raises(ValueError, match="layers is empty"):
        save_atlas(tmp_path / "a.html", **arrays, layers=[], title="t")
    with pytest.raises(ValueError, match=r"one length, got \[3, 3, 3, 2\]"):
        save_atlas(tmp_path / "a.html", **arrays, layers=[Layer("x", np.zeros(2))], title="t")
    assert not list(tmp_path.iterdir())
