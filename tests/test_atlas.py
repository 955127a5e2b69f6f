"""The atlas, in a real browser: it opens alone, its panels agree, and its answers are NumPy's.

Chromium is taken from ``$CHROMIUM`` or the PATH; `make test` installs it where it may.
"""

import base64
import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image
from pyproj import Proj

from satclip_lib.data.natural_earth import lookup_regions
from satclip_lib.plotting.atlas import (
    CELL_DEG,
    FAR_KM,
    NO_PLACE,
    SEA,
    SIMILARITY_COLORS,
    SPRITE_COLUMNS,
    AtlasView,
    find_nearest_places,
    make_sprite,
    quantize,
    save_atlas,
)
from satclip_lib.plotting.layers import Layer, find_islands, make_class_layer
from satclip_lib.sphere import compute_distance_km

NUM_POINTS, EMBED_DIM = 6_000, 32
COLORS = {"africa": "#d00000", "america": "#0000d0", "oceania": "#00a000"}
CENTERS = {"africa": (20.0, 5.0), "america": (-58.0, -10.0), "oceania": (133.0, -24.0)}
IN_PLANE = {"africa": (-5.0, 0.0), "america": (5.0, 0.0), "oceania": (5.0, 5.0)}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def _make_inputs() -> dict:
    """Three groups, each on a continent of its own, and apart in the plane."""
    rng = np.random.default_rng(0)
    names = np.array([*COLORS])[np.arange(NUM_POINTS) % 3]
    lonlat = np.array([CENTERS[name] for name in names]) + rng.uniform(-6, 6, (NUM_POINTS, 2))
    plane = np.array([IN_PLANE[name] for name in names]) + rng.uniform(-2, 2, (NUM_POINTS, 2))
    embeddings = rng.normal(size=(NUM_POINTS, EMBED_DIM)).astype(np.float32)
    embeddings[:, 0] += 3  # the cosines are not all about 0
    return {
        "plane": plane.astype(np.float32),
        "lonlat": lonlat,
        "embeddings": embeddings,
        "patches": rng.integers(0, 256, (NUM_POINTS, 3, 8, 8), np.uint8),
        "layers": [
            make_class_layer("Side", list(names), colors=COLORS),
            Layer("Height", lonlat[:, 1], units="m"),
            Layer("People", np.full(NUM_POINTS, np.log1p(1234.0)), units="per km²", is_log=True),
        ],
    }


@pytest.fixture(scope="module")
def atlas(tmp_path_factory) -> Path:
    """6,000 places in Africa, South America and Australia."""
    path = tmp_path_factory.mktemp("atlas") / "atlas.html"
    return save_atlas(path, **_make_inputs(), title="A test", subtitle="of the atlas")


@pytest.fixture
def page(open_page, atlas):
    """The atlas, opened and ready."""
    page = open_page(atlas)
    page.wait_for_selector("#atlas[data-ready]")
    return page


@pytest.fixture
def phone(open_page, atlas):
    """The atlas on a telephone with a touch screen, 390 pixels wide."""
    page = open_page(atlas, device=PHONE)
    page.wait_for_selector("#atlas[data-ready]")
    return page


def _read(page, name: str) -> np.ndarray:
    """An array of the page, as numbers."""
    text = page.evaluate(f"JSON.stringify(Array.from({name}))")  # faster than number by number
    return np.array(json.loads(text), dtype=float)


def _shown(page) -> list[int]:
    return np.flatnonzero(_read(page, "atlas.is_shown")).tolist()


def _screen_position(page, panel: str, place: int) -> tuple[float, float]:
    """Where a place is on the screen, in the pixels of mouse and fingers."""
    return tuple(
        page.evaluate(
            """([panel, place]) => {
              const {canvas, ratio} = atlas[panel]
              const [x, y] = atlas[panel].to_screen(...atlas[panel].position(place))
              const box = canvas.getBoundingClientRect()
              return [box.left + x / ratio, box.top + y / ratio]
            }""",
            [panel, place],
        )
    )


def _touch_place(page) -> tuple[int, np.ndarray]:
    """The place that is chosen by a touch, and all embeddings, ``(num_points, embed_dim)``."""
    page.mouse.click(*_screen_position(page, "plane", 7))
    page.wait_for_function("atlas.state.place >= 0")
    embeddings = _read(page, "atlas.data.embeddings").reshape(NUM_POINTS, EMBED_DIM)
    return page.evaluate("atlas.state.place"), embeddings


def _look(page, panel: str) -> np.ndarray:
    """What a panel shows, ``(height, width, 3)``."""
    page.mouse.move(1, 1)  # off the panels, so that nothing is pointed at
    page.evaluate("new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    picture = page.locator(f"#panel-{panel}").screenshot()
    return np.asarray(Image.open(BytesIO(picture)).convert("RGB")).astype(int)


def _count_colors(page, panel: str) -> tuple[int, int]:
    """Pixels of a panel that are clearly red, as Africa, and clearly blue, as America."""
    red, green, blue = np.moveaxis(_look(page, panel), 2, 0)
    is_red, is_blue = red - np.maximum(green, blue) > 120, blue - np.maximum(red, green) > 120
    return int(is_red.sum()), int(is_blue.sum())


def _drag_around(page, panel: str, left: float, right: float) -> None:
    """A lasso around a part of a panel, from left to right in shares of its width."""
    page.click("#lasso")
    box = page.locator(f"#panel-{panel}").bounding_box()
    corners = [(left, 0.05), (right, 0.05), (right, 0.95), (left, 0.95), (left, 0.06)]
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=5)
    page.mouse.up()


def _similarity(embeddings: np.ndarray, query: np.ndarray) -> np.ndarray:
    """The cosine, in 64 bits, from whole numbers."""
    lengths = np.linalg.norm(embeddings, axis=1) * np.linalg.norm(query)
    return embeddings @ query / lengths


def test_map_is_equal_earth(page):
    """The flat map is PROJ's Equal Earth round its middle, and clicks are turned back."""
    rng = np.random.default_rng(0)
    lonlat = np.column_stack([rng.uniform(-169, 189, 50), rng.uniform(-89, 89, 50)])
    middle = page.evaluate("atlas.map.view.lon")
    expected = np.stack(Proj(proj="eqearth", R=1, lon_0=middle)(*lonlat.T), axis=1)
    found, back = page.evaluate(
        """lonlat => {
          const {map} = atlas
          const at = lonlat.map(([lon, lat]) => map.to_screen(lon, lat))
          return [at.map(([x, y]) => [(x - map.width / 2) / map.scale,
                                      (map.height / 2 - y) / map.scale]),
                  at.map(([x, y]) => map.to_world(x, y))]
        }""",
        lonlat.tolist(),
    )
    np.testing.assert_allclose(found, expected, atol=1e-9)
    lonlat[:, 0] = (lonlat[:, 0] + 180) % 360 - 180
    np.testing.assert_allclose(back, lonlat, atol=1e-6)


def test_globe_shows_one_half(page):
    """Turned to Africa, the globe hides America; what it shows it turns back."""
    page.click("#globe")
    assert page.locator("#globe").get_attribute("aria-pressed") == "true"
    assert _count_colors(page, "map")[0] > 500
    seen = page.evaluate("[atlas.map.to_screen(150, 0), atlas.map.to_screen(20, 5)]")
    assert seen[0] is None
    back = page.evaluate("at => atlas.map.to_world(...at)", seen[1])
    np.testing.assert_allclose(back, (20, 5), atol=1e-9)


@pytest.mark.parametrize("panel", ["plane", "map"])
def test_selection_is_linked_both_ways(page, panel):
    """A lasso around Africa in one panel selects the same places, and mutes the others, in both."""
    is_africa = _read(page, "atlas.layers[0].values") == 0
    left, right = (0.02, 0.5) if panel == "plane" else (0.48, 0.7)
    _drag_around(page, panel, left, right)
    assert _shown(page) == list(np.flatnonzero(is_africa))
    for name in ("plane", "map"):
        red, blue = _count_colors(page, name)
        assert red > 500 and blue == 0
    assert "2,000 of 6,000 places" in page.locator("#legend h2").inner_text()
    assert "In the lasso: 2,000 places" in page.locator("#answer").inner_text()


def test_lasso_crosses_the_date_line(page):
    """A lasso around 180 degrees selects both sides, and nothing else."""
    inside = page.evaluate(
        """() => {
          atlas.state.lasso = {panel: atlas.map, points: [[170, -60], [-170, -60], [-170, 60],
                                                          [170, 60]]}
          const is_inside = atlas.make_lasso_test()
          return [[175, 0], [-175, 0], [165, 0], [-165, 0], [0, 0], [175, 61]].map((position) => {
            atlas.map.position = () => position
            return is_inside(0)
          })
        }"""
    )
    assert inside == [True, True, False, False, False, False]


def test_colours_switch(page):
    """By value, the class colours go, and the bar has units, of x where values are log(1 + x)."""
    for name, shown in (("Height", " m"), ("People", "1,234 per km²")):
        page.select_option("#layer", label=name)
        assert _count_colors(page, "plane") == _count_colors(page, "map") == (0, 0)
        assert page.locator("#legend .ends").inner_text().endswith(shown)
    page.select_option("#layer", label="Side")
    assert _count_colors(page, "map")[0] > 500


def test_legend_chooses_classes(page):
    """Both panels show all; a click on a class leaves it alone, another brings the others back."""
    africa, america = (page.locator("#legend .row", has_text=x) for x in ("africa", "america"))
    assert "6,000 places" in page.locator("#legend h2").inner_text()
    for panel in ("plane", "map"):
        assert min(_count_colors(page, panel)) > 500
    africa.click()
    for panel in ("plane", "map"):
        red, blue = _count_colors(page, panel)
        assert red > 500 and blue == 0
    assert america.locator(".end").inner_text() == "2,000"
    africa.click()
    assert min(_count_colors(page, "plane")) > 500


def test_islands_are_labelled_in_place(page):
    """The name of a class is written on its points, black in white."""
    x, y = page.evaluate("atlas.plane.to_screen(...atlas.layers[0].islands[0].slice(1))")
    picture = _look(page, "plane")
    around = picture[round(y) - 8 : round(y) + 8, round(x) - 20 : round(x) + 20].max(axis=2)
    assert (around < 60).any() and (around > 230).any()


def test_search_finds_the_nearest_place(page):
    """Of coordinates, a town with or without its accents, or a country."""
    places = _read(page, "atlas.data.lonlat").reshape(-1, 2)
    for text, lonlat, name in (
        ("20.0, 5.0", (20, 5), "20.0, 5.0"),
        ("bangui", (18.55, 4.36), "Bangui"),
        ("cuiaba", (-56.1, -15.6), "Cuiabá"),
        ("Ndjam", (15.04, 12.11), "N'Djamena"),
        ("Bolivia", (-64.6, -16.7), "Bolivia"),
    ):
        page.fill("#place", text)
        page.press("#place", "Enter")
        distance_km = compute_distance_km(places, np.array([lonlat], dtype=float))
        found_km = distance_km[page.evaluate("atlas.state.place")]
        assert found_km < distance_km.min() + 15  # towns are rounded to a hundredth
        said = page.locator("#found").inner_text().replace("’", "'")
        assert said.startswith(f"{name}: nearest place") and "km away" in said


def test_search_offers_towns_and_refuses_what_is_none(page):
    """While somebody types, towns are offered, and can be chosen; nonsense is answered."""
    page.locator("#place").press_sequentially("kinsh")
    page.locator("#suggestions button", has_text="Kinshasa").click()
    assert page.locator("#place").input_value() == "Kinshasa"
    assert page.evaluate("atlas.state.place") >= 0
    page.fill("#place", "5, 120")
    page.press("#place", "Enter")
    assert "longitude (−180 to 180)" in page.locator("#found").inner_text()


def test_pointing_shows_the_place(page):
    """Pointing at a place shows its coordinates, its labels, and its own patch."""
    page.mouse.move(*_screen_position(page, "map", 0))
    card = page.locator("#card")
    card.wait_for(state="visible")
    index = int(card.locator(".picture").get_attribute("data-place"))
    side = [*COLORS][int(_read(page, "atlas.layers[0].values")[index])]
    assert card.locator("dd").first.inner_text() == side and "km from" in card.inner_text()
    assert "1,234 per km²" in card.inner_text()
    position = card.locator(".picture").evaluate("x => getComputedStyle(x).backgroundPosition")
    row, column = divmod(index, SPRITE_COLUMNS)
    assert position == f"{-96 * column}px {-96 * row}px"


def test_similarity_is_numpys(page):
    """After a touch, both panels have the colours that NumPy gives the 8-bit embeddings."""
    chosen, embeddings = _touch_place(page)
    cosine = _similarity(embeddings, embeddings[chosen])
    np.testing.assert_allclose(_read(page, "atlas.layers[3].values"), cosine, atol=1e-12)
    step = np.clip(np.floor(256 * cosine), 0, 255).astype(int)
    rgb = np.array([to_rgb(color) for color in SIMILARITY_COLORS])[step]
    pixels = _read(page, f"atlas.colours.slice(0, {NUM_POINTS})").astype(np.uint32)
    found = np.stack([pixels & 255, pixels >> 8 & 255, pixels >> 16 & 255], axis=1)
    np.testing.assert_array_equal(found, np.round(255 * rgb).astype(int))
    assert page.locator("#layer option:checked").inner_text() == "Similarity to a place"
    seen = {tuple(color) for color in _look(page, "map").reshape(-1, 3)}
    assert len(seen & {tuple(color) for color in found}) > 50


def test_embeddings_are_kept_to_eight_bits():
    """The order of magnitude of a place does not matter, and cosines change by less than 0.01."""
    embeddings = _make_inputs()["embeddings"][:500]
    embeddings *= np.logspace(-20, 20, 500, dtype=np.float32)[:, None]
    small = quantize(embeddings).astype(float)
    assert (np.abs(small).max(axis=1) == 127).all()
    exact = _similarity(embeddings.astype(float), embeddings[0].astype(float))
    np.testing.assert_allclose(_similarity(small, small[0]), exact, atol=0.01)
    assert not quantize(np.zeros((1, 4), np.float32)).any()


def test_most_similar_on_other_continents_are_numpys(page):
    """One far place on each other continent, the best first, with its picture and a mark."""
    chosen, embeddings = _touch_place(page)
    lonlat = _read(page, "atlas.data.lonlat").reshape(-1, 2)
    continent = lookup_regions(lonlat, max_distance_km=500.0).continent.to_numpy()
    table = np.column_stack([_similarity(embeddings, embeddings[chosen]), np.arange(NUM_POINTS)])
    far = compute_distance_km(lonlat, lonlat[[chosen]]) > FAR_KM
    best = [
        max(map(tuple, table[far & (continent == name)]))
        for name in {*continent} - {continent[chosen]}
    ]
    expected = [int(place) for _, place in sorted(best, reverse=True)]
    rows = page.locator("#answer .row")
    shown = [int(row.locator(".picture").get_attribute("data-place")) for row in rows.all()]
    assert len(expected) == 2 and shown == [chosen, *expected]
    assert rows.locator(".mark").all_inner_texts() == ["1", "2"]
    assert rows.nth(1).locator(".end").inner_text() == f"{max(best)[0]:.2f}"
    rows.nth(1).click()
    assert page.evaluate("atlas.state.place") == expected[0]


def test_sliders_change_what_is_compared(page):
    """Fewer numbers, or another first number, give the similarity that NumPy gives."""
    chosen, embeddings = _touch_place(page)
    sliders = page.locator("#numbers input")
    sliders.nth(0).fill("5")
    few = embeddings[:, :5]
    cosine = _similarity(few, few[chosen])
    np.testing.assert_allclose(_read(page, "atlas.layers[3].values"), cosine, atol=1e-12)
    assert "the first 5 of 32" in page.locator("#numbers").inner_text()
    high = float(sliders.nth(1).get_attribute("max"))
    sliders.nth(1).fill(sliders.nth(1).get_attribute("min"))
    query = few[chosen] / np.linalg.norm(embeddings[chosen])
    query[0] = -high
    cosine = _similarity(few, query)
    np.testing.assert_allclose(_read(page, "atlas.layers[3].values"), cosine, atol=1e-6)
    page.locator("#numbers button").nth(1).click()
    numbers = embeddings[:, 1] / np.linalg.norm(embeddings, axis=1)
    assert page.locator("#layer option:checked").inner_text() == "Number 2 of the embedding"
    np.testing.assert_allclose(_read(page, "atlas.layers[5].values"), numbers, atol=1e-12)


def test_state_survives_in_the_address(page, open_page, atlas):
    """Place, numbers, sliders, lasso, views and globe are there again; a reset forgets them."""
    _touch_place(page)
    page.locator("#numbers input").nth(0).fill("5")
    page.locator("#numbers input").nth(2).fill("0.1")
    page.click("#globe")
    _drag_around(page, "map", 0.4, 0.6)
    page.click("#lasso")
    page.mouse.wheel(0, -300)
    page.wait_for_timeout(600)  # the address follows with a delay
    page.wait_for_function("location.hash.includes('lasso=')")
    address = "#" + page.url.split("#")[1]
    again = open_page(atlas, address=address)
    again.wait_for_selector("#atlas[data-ready]")
    for what in ("state.place", "state.numbers", "state.globe", "state.layer", "map.view.zoom"):
        assert again.evaluate(f"atlas.{what}") == pytest.approx(page.evaluate(f"atlas.{what}"))
    for what in ("atlas.state.query", "Object.values(atlas.map.view)"):
        np.testing.assert_allclose(_read(again, what), _read(page, what), atol=1e-3)
    assert 0 < len(_shown(again)) < NUM_POINTS
    assert len(set(_shown(again)) ^ set(_shown(page))) < 20  # corners are rounded
    again.keyboard.press("Escape")
    assert again.evaluate("atlas.state.place") == -1 and len(_shown(again)) == NUM_POINTS


def test_damaged_address_opens_all_the_same(open_page, atlas):
    """Whatever the address says, the atlas shows something."""
    address = "#colour=no&place=x,y&numbers=-3&sliders=a:b&map=NaN&plane=1&lasso=plane,1&classes=z"
    page = open_page(atlas, address=address)
    page.wait_for_selector("#atlas[data-ready]")
    assert _count_colors(page, "map")[0] == 0  # no such class
    assert page.evaluate("atlas.state.numbers") >= 1


def test_phone_shows_everything_by_touch(phone):
    """A page of 390 px: nothing overflows, a tap asks the globe and the plane alike."""
    assert phone.evaluate("document.documentElement.scrollWidth") == 390
    phone.locator("#panel-map").scroll_into_view_if_needed()
    place = int(np.flatnonzero(_read(phone, "atlas.layers[0].values") == 0)[0])
    phone.touchscreen.tap(*_screen_position(phone, "map", place))
    phone.wait_for_function("atlas.state.place >= 0")
    assert phone.locator("#answer .row").count() == 3
    assert phone.locator("#answer .row").first.bounding_box()["width"] <= 390
    other = int(np.flatnonzero(_read(phone, "atlas.layers[0].values") == 1)[0])
    phone.locator("#panel-plane").scroll_into_view_if_needed()
    phone.touchscreen.tap(*_screen_position(phone, "plane", other))
    chosen = phone.evaluate("atlas.state.place")
    assert _read(phone, "atlas.layers[0].values")[chosen] == 1
    seen = phone.evaluate("atlas.map.to_screen(...atlas.map.position(atlas.state.place))")
    assert seen is not None  # the globe has turned to it


def test_phone_turns_and_zooms_by_fingers(phone):
    """One finger turns the globe, two zoom it, and neither touches a place."""
    fingers = phone.context.new_cdp_session(phone)
    box = phone.locator("#panel-map").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def send(kind: str, *points: tuple[float, float]) -> None:
        touches = [{"x": px, "y": py, "id": i} for i, (px, py) in enumerate(points)]
        fingers.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": touches})

    before = phone.evaluate("({...atlas.map.view})")
    send("Start", (x, y))
    for step in range(1, 6):
        send("Move", (x - 16 * step, y))
    send("End")
    turned = phone.evaluate("({...atlas.map.view})")
    assert turned["lon"] > before["lon"] + 10 and turned["zoom"] == 1
    send("Start", (x - 20, y), (x + 20, y))
    for step in range(1, 6):
        send("Move", (x - 20 - 8 * step, y), (x + 20 + 8 * step, y))
    send("End")
    assert phone.evaluate("atlas.map.view.zoom") == pytest.approx(3, rel=0.2)
    assert phone.evaluate("atlas.state.place") == -1


@pytest.mark.parametrize("in_notebook", [False, True])
def test_text_is_never_markup(open_page, tmp_path, in_notebook):
    """Tags and quotes in any text of the user's are shown as they are, alone and in a notebook."""

    def attack(name):
        return (
            f"{name} <script>alert('{name}')</script><img src=x onerror=\"alert('{name}')\">"
            f"\"><svg/onload=alert(1)></option></title></style>{{{{ sprite }}}}&lt;b&gt;'$x^"
        )

    path = save_atlas(
        tmp_path / "atlas.html",
        plane=np.array([[0, 0], [1, 1]], np.float32),
        lonlat=np.array([[10.0, 20.0], [50.0, 20.0]]),
        embeddings=np.eye(2, dtype=np.float32),
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
        page.wait_for_selector("#atlas[data-ready]")
        assert page.title() == attack("title")
    page.locator("#atlas[data-ready]").wait_for()
    assert page.locator("h1").text_content() == attack("title")
    assert page.locator("#subtitle").text_content() == attack("subtitle")
    names = page.locator("#layer option").all_text_contents()
    assert names[:2] == [attack("layer"), attack("value")]
    assert page.locator("#legend .row span").first.text_content() == attack("class")
    page.locator("#place").fill("50, 20")
    page.locator("#place").press("Enter")
    assert attack("class") in page.locator("#answer").text_content()
    assert attack("value") in page.locator("#legend dl").text_content()
    page.locator("#layer").select_option(index=1)
    assert page.locator("#legend .ends").text_content().endswith(attack("unit"))
    assert page.locator("img, svg, #atlas script").count() == 0


def test_cells_belong_to_their_nearest_place():
    """On land within 500 km the nearest place, beyond that none, and nothing at sea."""
    lonlat = np.array([[20.0, 5.0], [21.0, 5.0], [179.9, 68.0]])
    cells = find_nearest_places(lonlat).reshape(round(180 / CELL_DEG), -1)

    def at(lon, lat):
        return cells[int((90 - lat) / CELL_DEG), int((lon + 180) / CELL_DEG)]

    assert at(20.1, 5.1) == 0 and at(20.9, 5.1) == 1
    assert at(20.1, 5.1 + 5.5) == NO_PLACE and at(0.1, 0.1) == SEA
    assert at(-179.0, 67.0) == 2  # across the date line


def test_islands_are_where_points_are_dense():
    """Two clouds of a class give two labels, one in each; stray points give none."""
    rng = np.random.default_rng(0)
    middles = np.repeat([[0.0, 0.0], [10.0, 10.0], [0.0, 10.0]], [400, 300, 500], axis=0)
    plane = (middles + rng.normal(0, 0.4, middles.shape)).astype(np.float32)
    plane = np.vstack([plane, np.float32([[5, 5]])])
    classes = np.array([1.0] * 700 + [0.0] * 499 + [np.nan, 1.0])  # one unknown, one astray
    islands = find_islands(plane, classes)
    assert [number for number, *_ in islands] == [1, 1, 0]
    np.testing.assert_allclose([at for _, *at in islands], [(0, 0), (10, 10), (0, 10)], atol=0.7)


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
        "embeddings": np.ones((3, 4), np.float32),
        "patches": np.zeros((3, 3, 8, 8), np.uint8),
    }
    with pytest.raises(ValueError, match="layers is empty"):
        save_atlas(tmp_path / "a.html", **arrays, layers=[], title="t")
    with pytest.raises(ValueError, match=r"one length, got \[3, 3, 3, 3, 2\]"):
        save_atlas(tmp_path / "a.html", **arrays, layers=[Layer("x", np.zeros(2))], title="t")
    many = {name: np.repeat(array, 30_000, axis=0) for name, array in arrays.items()}
    with pytest.raises(ValueError, match=r"up to 65,000 places, got 90,000"):
        save_atlas(tmp_path / "a.html", **many, layers=[Layer("x", np.zeros(90_000))], title="t")
    assert not list(tmp_path.iterdir())
