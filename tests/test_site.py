"""The site is whole, works from disk without a network, and fits a phone."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from cells import ROOT, read_notebook

from docs.build_site import build_site, frame_files, rewrite_links
from docs.check_site import find_problems
from docs.pages import tables_of
from satclip_lib.plotting.atlas import AtlasView

PHONE = {"width": 375, "height": 800}  # CSS pixels
ATTACK = "<script>alert(1)</script><img src=x onerror=alert(1)>\n\n<b>[x](javascript:alert(1))`"
# The first words of whatever sticks out of the screen and cannot be scrolled into view.
CUT_OFF = """[...document.querySelectorAll('main *')].filter(element => {
  const box = element.getBoundingClientRect();
  if (!box.width || box.right <= innerWidth + 1) return false;
  for (let outer = element; outer && outer.tagName != 'MAIN'; outer = outer.parentElement)
    if (['auto', 'scroll'].includes(getComputedStyle(outer).overflowX)) return false;
  return !element.closest('dialog, .bd-sidebar-secondary, [aria-hidden=true]');
}).map(element => element.tagName + ' ' + element.textContent.trim().slice(0, 40)).slice(0, 3)"""


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The site as a fresh clone makes it, with one notebook that has run, in our environment."""
    clone = tmp_path_factory.mktemp("home") / "clone"
    for folder in ("satclip_lib", "tools", "docs", "notebooks", "figures/reference", "benchmarks"):
        shutil.copytree(ROOT / folder, clone / folder)
    for path in (*ROOT.glob("*.*"), ROOT / "figures/README.md", *ROOT.glob("data/**/README.md")):
        if path.is_file():
            (clone / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, clone / path.relative_to(ROOT))
    loss = clone / "satclip_lib" / "loss.py"
    loss.write_text(loss.read_text().replace('"""', '"""As edited in the clone. ', 1))
    ran = read_notebook("00_quickstart")
    wide = nbformat.v4.new_output("stream", name="stdout", text="wide " * 100)
    ran.cells[5 if ran.cells[5].cell_type == "code" else 3].outputs = [wide]
    (clone / "build" / "demo").mkdir(parents=True)
    nbformat.write(ran, clone / "build" / "demo" / "00_quickstart.ipynb")
    (clone / "figures" / "biome_atlas.html").write_text("<p>Atlas</p>")
    (clone / "figures" / f"{ATTACK.replace('/', '')}.html").write_text("<p>Atlas</p>")
    hostile = {"rows": [{ATTACK: ATTACK}], ATTACK: ATTACK, f"{ATTACK}s": [{"a": 1}]}
    (clone / "benchmarks" / "results" / "a.json").write_text(json.dumps(hostile))
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "SATCLIP_HOME")}
    command = [sys.executable, "-m", "docs.build_site", "--profile", "demo"]
    subprocess.run(command, cwd=clone, env=kept, check=True)
    return clone / "build" / "site"


def test_has_every_part(site):
    """Front page, course, figures, interactive pages, API, data, results, questions are there."""
    for page in (
        "index", "course", "gallery", "benchmarks", "faq", "models", "data/index", "api/index",
        "api/satclip_lib.loss", "notebooks/00_quickstart", "notebooks/02_pretraining",
        "project/contributing", "project/reproducing", "project/changelog", "biome_atlas",
    ):  # fmt: skip
        assert (site / f"{page}.html").is_file(), page
    assert "was not run" not in (site / "notebooks" / "00_quickstart.html").read_text()
    assert "was not run" in (site / "notebooks" / "02_pretraining.html").read_text()
    assert "biome_atlas.html" in (site / "gallery.html").read_text()
    assert "As edited in the clone" in (site / "api" / "satclip_lib.loss.html").read_text()


def test_no_page_fails_loads_from_outside_or_is_wider_than_a_phone(site, open_page):
    """Opened from disk: no error, no missing image, no request to a network, no overflow."""
    pages = [path for path in sorted(site.rglob("*.html")) if "_modules" not in path.parts]
    alike = [path for path in pages if path.stem.startswith("satclip_lib.")]
    paths = [path for path in pages if path not in alike or path in alike[::4]]
    tab = open_page(paths[0], device={"viewport": PHONE, "offline": True})
    problems: list[str] = []
    for path in paths:
        tab.goto(path.as_uri())
        width = tab.evaluate("document.documentElement.scrollWidth")
        if width > PHONE["width"]:
            problems.append(f"{path.relative_to(site)} is {width} px wide")
        problems += [f"{path.relative_to(site)} cuts off {what}" for what in tab.evaluate(CUT_OFF)]
        broken = "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
        problems += [f"{path.relative_to(site)} lacks {src}" for src in tab.evaluate(broken)]
    assert not problems
    assert len(paths) > 20


def test_menu_is_one_line(site, open_page):
    """On a screen of 1,280 pixels the bar at the top is one line."""
    tops = open_page(site / "index.html").evaluate(
        """[...document.querySelectorAll('.bd-header .nav-link, .bd-header .search-button-field')]
           .map(link => link.getBoundingClientRect()).filter(box => box.width)
           .map(box => box.top + box.height / 2)"""
    )
    assert len(tops) >= 8 and max(tops) - min(tops) < 10


def test_equations_and_search_work_from_disk(site, browser):
    """MathJax sets the loss in type, and the search finds a function."""
    tab = browser.new_context(offline=True).new_page()
    tab.goto((site / "notebooks" / "02_pretraining.html").as_uri())
    tab.wait_for_selector("mjx-container svg")
    tab.goto((site / "search.html").as_uri() + "?q=prepare_sentinel2")
    tab.wait_for_selector("ul.search li a[href*='sentinel2']")


def test_checker_finds_what_is_broken(tmp_path):
    """A missing page, a missing place in a page, an empty image, and a script from outside."""
    (tmp_path / "empty.png").touch()
    (tmp_path / "a.html").write_text(
        "<p id=here></p><a href='#here'></a><a href='https://example.org'></a>"
        "<a href='b.html'></a><a href='#there'></a><img src='empty.png'>"
        "<script src='https://example.org/x.js'></script>"
    )
    assert find_problems(tmp_path) == [
        "a.html refers to #there, a place that page does not have",
        "a.html refers to b.html, which is not there",
        "a.html refers to empty.png, which is not there",
        "a.html loads https://example.org/x.js from outside",
    ]


@pytest.mark.parametrize("document", [*ROOT.glob("*.md"), *ROOT.glob("[!.]*/*.md")], ids=str)
def test_links_of_a_document_lead_to_files(document):
    """On the repository's own web page too; what `make figures` makes may not be there yet."""
    text = document.read_text()
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    broken = [link for link in links if not (document.parent / link).exists()]
    assert [link for link in broken if not link.endswith(".html")] == []
    assert "{py:" not in text


def test_links_of_the_repository_become_links_of_the_site():
    """To pages where there is one, to nothing where there is none; images from outside go."""
    text = (
        "[data](data/README.md) [code](satclip_lib/loss.py#top) [licence](LICENSE) "
        "[web](https://example.org) [![badge](https://example.org/b.svg)](https://example.org)"
    )
    assert rewrite_links(text, document="README.md", page="index") == (
        "[data](data/index.md) [code](api/satclip_lib.loss.md#top) licence "
        "[web](https://example.org) [badge](https://example.org)"
    )
    below = rewrite_links("[x](../README.md)", document="data/README.md", page="data/index")
    assert below == "[x](../index.md)"


def test_frames_show_the_copy_of_the_file_that_the_site_has(tmp_path):
    """The atlas is on the site once; a frame of a file that is not there stays as it is."""
    shown = ""
    for name in ("a.html", "b.html"):
        (tmp_path / name).write_text("<p>Atlas</p>")
        shown += AtlasView(tmp_path / name)._repr_html_()
    (tmp_path / "b.html").unlink()
    framed = frame_files(shown, page="notebooks/06", figures=tmp_path)
    assert framed.count('src="../a.html"') == 1 and framed.count("srcdoc=") == 1
    assert 'data-file="b.html" srcdoc="&lt;p&gt;' in framed


def test_results_become_tables():
    """Rows in a list, and single values by their path; what is nested deeper is left out."""
    html = tables_of(
        {"seed": 0, "rows": [{"a": {"b": 0.25}, "all": [{"c": 1}]}], "by": {"x": {"holds": True}}}
    )
    assert html.count("<table") == 2
    for cell in ("<td>seed</td>", "<th>a b</th>", "<td>0.25</td>", "<td>by, x, holds</td>"):
        assert cell in html
    assert "<td>yes</td>" in html and "<th>all" not in html


def test_a_broken_site_is_not_published(workspace, monkeypatch):
    """A link that leads nowhere ends the build, and leaves the site that was there."""
    (workspace / "build" / "site").mkdir(parents=True)

    def pretend_to_build(options):
        (Path(options[-1]) / "_static").mkdir(parents=True)
        (Path(options[-1]) / "_static" / "webpack-macros.html").touch()
        return 0

    monkeypatch.setattr("docs.build_site.collect_pages", lambda source, workspace: None)
    monkeypatch.setattr("docs.build_site.find_problems", lambda folder: ["a.html is broken"])
    monkeypatch.setattr("docs.build_site.build_main", pretend_to_build)
    with pytest.raises(RuntimeError, match=r"the site is broken:\na\.html is broken"):
        build_site("demo")
    assert [path.name for path in (workspace / "build" / "site").iterdir()] == []
