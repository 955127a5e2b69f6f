"""Fixtures shared by all tests. No test touches the network or the user's own files."""

import os
import socket
import sys
from pathlib import Path

import hypothesis
import jaxtyping
import pytest

os.environ["SATCLIP_OFFLINE"] = "1"
hypothesis.settings.register_profile("busy machine", deadline=None)
hypothesis.settings.load_profile("busy machine")


LONGEST = ["test_smoke", "test_rehearsal", "test_stac", "test_site", "test_fit", "test_atlas"]


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


@pytest.fixture
def no_labels(monkeypatch):
    """The label files of the repository are not at hand, as after a plain pip install."""
    from satclip_lib.data import labels  # here: the settings above come before the package

    monkeypatch.setattr(labels, "find_tracked", lambda name: None)
    monkeypatch.setattr(labels, "_read_grid", labels._read_grid.__wrapped__)  # past the cache


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
