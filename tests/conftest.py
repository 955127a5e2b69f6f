"""Fixtures shared by all tests. No test touches the network or the user's own files."""

import os
import shutil
import socket
import sys
from pathlib import Path

import hypothesis
import jaxtyping
import pytest
from filelock import FileLock

os.environ["SATCLIP_OFFLINE"] = "1"
hypothesis.settings.register_profile("busy machine", deadline=None)
hypothesis.settings.load_profile("busy machine")


FITTED = "satclip_lib.evaluation.baselines.NUM_FITTING_IMAGES"
DESKTOP = {"viewport": {"width": 1280, "height": 800}}
LONGEST = ["test_smoke", "test_rehearsal", "test_site", "test_stac", "test_exercises_run"]
LONGEST += ["test_grid_files", "test_fit", "test_atlas"]


def pytest_collection_modifyitems(items):
    """Begin with what takes longest, so that no process is left alone with it in the end."""
    items.sort(key=lambda item: (*LONGEST, item.path.stem).index(item.path.stem))


@pytest.fixture
def shape_checks_off():
    """Run as a user does: without jaxtyping, so that the library's own errors are seen."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def no_network(monkeypatch):
    """Any use of a socket fails, whatever SATCLIP_OFFLINE says."""

    def refuse(*args, **kwargs):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="session")
def label_files() -> Path:
    """Folder with the registered originals; skips where this machine has none."""
    if folder := os.environ.get("SATCLIP_DATA_MIRROR"):
        return Path(folder)
    pytest.skip("originals not at hand: set SATCLIP_DATA_MIRROR to a folder that holds them")


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch) -> Path:
    """Every test has a project folder of its own."""
    monkeypatch.setenv("SATCLIP_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(autouse=True)
def close_figures():
    """No figure outlives its test."""
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory) -> Path:
    """Project folder in which all notebooks ran in the smoke profile, without label files.

    They run in the first process that asks, where libraries are loaded and warnings are errors;
    each process has a copy.
    """
    from cells import STEMS, run_cells  # here, as notebooks load everything
    from matplotlib import pyplot as plt

    base = tmp_path_factory.getbasetemp()
    whole = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "smoke"
    quickstart, *others = STEMS
    with FileLock(whole.with_suffix(".lock")), pytest.MonkeyPatch.context() as patch:
        home = whole.with_suffix(".running")
        home.mkdir(exist_ok=True)
        patch.setenv("SATCLIP_HOME", str(home))
        patch.setenv("MPLBACKEND", "agg")
        patch.delenv("SATCLIP_DATA_MIRROR", raising=False)
        patch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as for a user
        patch.setattr("satclip_lib.plotting.figures.DPI", 100)  # coarse, but whole
        patch.setattr(FITTED, 1000)
        for stem in () if whole.is_dir() else (*others[:2], quickstart, *others[2:]):
            names = run_cells(stem, profile="smoke")
            plt.close("all")
            if stem.startswith("04"):
                (home / "absent.txt").write_text("\n".join(names["result"].absent.reason))
        if not whole.is_dir():
            home.rename(whole)
    return shutil.copytree(whole, tmp_path_factory.mktemp("copy") / "smoke")


@pytest.fixture
def coarse_figures(monkeypatch):
    """Figures are saved whole but coarse; a PDF, which takes as long again, is left empty."""
    from matplotlib.figure import Figure  # here, as most tests draw nothing

    save = Figure.savefig

    def save_coarsely(fig: Figure, path: Path, *, format: str, **options) -> None:
        if format == "pdf":
            path.touch()
        else:
            save(fig, path, format=format, dpi=100)

    monkeypatch.setattr(Figure, "savefig", save_coarsely)
    monkeypatch.setenv("MPLBACKEND", "agg")


@pytest.fixture
def in_smoke_run(smoke_run, shape_checks_off, coarse_figures, monkeypatch) -> Path:
    """The folder of ``smoke_run`` as the project's, for more notebooks in it; without labels."""
    monkeypatch.setenv("SATCLIP_HOME", str(smoke_run))
    monkeypatch.delenv("SATCLIP_DATA_MIRROR", raising=False)
    monkeypatch.setattr(FITTED, 1000)
    return smoke_run


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium, as the distribution packages it."""
    from tools.save_reference import find_chromium  # here, as it loads what draws figures

    if (path := find_chromium()) is None:
        pytest.skip("NO BROWSER, pages go untested: install chromium, or set CHROMIUM=path")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Opens a file; whatever goes wrong in the browser or asks the network fails the test."""
    wrong, contexts = [], []

    def open_file(path: Path, *, address: str = "", device: dict = DESKTOP):
        contexts.append(browser.new_context(**device))
        contexts[-1].set_default_timeout(120_000)  # the machine may be busy
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else 0)
        page.on("request", lambda request: wrong.append(request.url))
        page.on("dialog", lambda dialog: wrong.append(dialog.message) or dialog.dismiss())
        page.goto(path.as_uri() + address)
        return page

    yield open_file
    for context in contexts:
        context.close()
    harmless = ("file:", "data:", "blob:", "about:")
    assert not [what for what in wrong if not what.startswith(harmless)]
