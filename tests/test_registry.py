"""Registered files: the rows, where copies are looked for, and what a download leaves behind."""

import hashlib
import json
import os
import re
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import processes
import pytest
from server import serve

from satclip_lib.data import registry
from satclip_lib.data.registry import (
    FileUnavailableError,
    HashMismatchError,
    RegisteredFile,
    fetch_file,
    load_registry,
)

CONTENT = b"longitude,latitude\n" * 20_000
NAME = "folder/table.csv"


SHA256 = hashlib.sha256(CONTENT).hexdigest()


def _register(monkeypatch, url: str = "http://127.0.0.1:9/table.csv", **changes) -> RegisteredFile:
    about = {"name": NAME, "url": url, "sha256": SHA256, "num_bytes": len(CONTENT)}
    terms = {"licence": "none", "citation": "nobody", "units": None, "content": "a table"}
    file = RegisteredFile(**about | terms | changes)
    monkeypatch.setattr(registry, "load_registry", lambda: {NAME: file})
    return file


def _write(folder: Path, content: bytes = CONTENT) -> Path:
    path = folder / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def folders(tmp_path, monkeypatch) -> dict[str, Path]:
    """The places a copy is looked for first, in order; only the mirror folder exists."""
    monkeypatch.setenv("SATCLIP_HOME", str(tmp_path / "project"))
    monkeypatch.setenv("SATCLIP_DATA_MIRROR", str(tmp_path / "mirror"))
    (tmp_path / "mirror").mkdir()
    return {"mirror": tmp_path / "mirror", "raw": tmp_path / "project/data/raw"}


@pytest.fixture
def server(monkeypatch):
    """Serves CONTENT, with the network allowed and no copy on disk; at /slow it never ends."""
    monkeypatch.delenv("SATCLIP_OFFLINE", raising=False)
    monkeypatch.delenv("SATCLIP_DATA_MIRROR", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    requests, end = [], threading.Event()

    def send_half():
        yield CONTENT[: len(CONTENT) // 2]
        end.wait()

    def answer(method, path, headers, asked):
        requests.append(path)
        return 200, {"Content-Length": len(CONTENT)}, send_half() if path == "/slow" else CONTENT

    with serve(answer) as address:
        yield SimpleNamespace(url=f"{address}/{{}}".format, requests=requests)
        end.set()


def test_rows_are_complete():
    """Every row names a relative path, an address pinned to a commit, a hash, size and terms."""
    files = load_registry()
    assert len(files) > 40
    for name, file in files.items():
        assert file.name == name and not name.startswith(("/", "."))
        raw, hub = "raw.githubusercontent.com/[^/]+/[^/]+", "huggingface.co/[^/]+/[^/]+/resolve"
        assert re.match(f"https://({raw}|{hub})/[0-9a-f]{{40}}/", file.url)
        # of weights the publisher gives the first digits, in their file's name
        assert re.fullmatch(r"[0-9a-f]{64}", file.sha256) or f"-{file.sha256}.pth" in file.url
        assert file.num_bytes is None or file.num_bytes > 0
        assert file.licence and file.citation and file.content


def test_rows_of_your_own_take_the_place_of_others(tmp_path, monkeypatch):
    """SATCLIP_REGISTRY names a file of rows; a row replaces the one of its name."""
    published = load_registry()
    own = vars(published["etopo20.cdf"]) | {"sha256": "0" * 64}
    (tmp_path / "own.json").write_text(json.dumps([own, own | {"name": "mine"}]))
    monkeypatch.setenv("SATCLIP_REGISTRY", str(tmp_path / "own.json"))
    assert load_registry() == published | {
        "etopo20.cdf": RegisteredFile(**own),
        "mine": RegisteredFile(**own | {"name": "mine"}),
    }


def test_first_digits_of_a_hash_are_checked(folders, monkeypatch):
    """Where no more of a hash is known, a file has to begin like it."""
    path = _write(folders["mirror"])
    _register(monkeypatch, sha256=SHA256[:8], num_bytes=None)
    assert fetch_file(NAME) == path
    _register(monkeypatch, sha256="0" * 8, num_bytes=None)
    with pytest.raises(HashMismatchError):
        fetch_file(NAME)


def test_rows_describe_the_files_at_hand(label_files, monkeypatch):
    """Files on this machine have the registered size and hash."""
    monkeypatch.setenv("SATCLIP_DATA_MIRROR", str(label_files))
    at_hand = [file for file in load_registry().values() if (label_files / file.name).is_file()]
    assert at_hand
    for file in at_hand:
        assert fetch_file(file.name) == label_files / file.name
        assert (label_files / file.name).stat().st_size == file.num_bytes


def test_copies_are_looked_for_in_order(folders, monkeypatch):
    """SATCLIP_DATA_MIRROR, which must be a folder, comes first, then data/raw, and no other."""
    _register(monkeypatch)
    _write(folders["raw"].parents[2] / "shared/data")
    with pytest.raises(FileUnavailableError):
        fetch_file(NAME)
    for name in ("raw", "mirror"):  # each new copy takes precedence
        path = _write(folders[name])
        assert fetch_file(NAME) == path
    monkeypatch.setenv("SATCLIP_DATA_MIRROR", str(folders["mirror"] / "nowhere"))
    with pytest.raises(NotADirectoryError, match=r"SATCLIP_DATA_MIRROR.*nowhere"):
        fetch_file(NAME)


def test_imagery_travels_with_the_repository(monkeypatch, tmp_path):
    """Four composites and the lights are the registered bytes, found without mirror or network."""
    monkeypatch.delenv("SATCLIP_DATA_MIRROR", raising=False)
    folder = Path(registry.__file__).parents[2] / "data/imagery"
    names = sorted(path.name for path in folder.iterdir())
    assert len(names) == 5 and sum((folder / name).stat().st_size for name in names) < 5e6
    for name in names:
        assert fetch_file(name) == folder / name
    monkeypatch.setattr(registry, "find_tracked", lambda name: None)
    with pytest.raises(FileUnavailableError, match=names[0]):
        fetch_file(names[0])


def test_a_wrong_copy_is_not_skipped(folders, monkeypatch):
    """A wrong file in the mirror is an error even if data/raw has a good one."""
    _register(monkeypatch)
    _write(folders["raw"])
    path = _write(folders["mirror"], CONTENT[:-1] + b"?")
    with pytest.raises(HashMismatchError) as caught:
        fetch_file(NAME)
    actual = hashlib.sha256(path.read_bytes()).hexdigest()
    assert all(text in str(caught.value) for text in (SHA256, actual, str(path), "Delete"))


def test_a_copy_is_hashed_once_and_again_when_it_changes(folders, monkeypatch):
    """Repeated calls do not hash again; a file changed in place is noticed."""
    _register(monkeypatch)
    path = _write(folders["raw"])
    hashed = []
    sha256_of_file = registry.sha256_of_file
    monkeypatch.setattr(registry, "sha256_of_file", lambda p: hashed.append(p) or sha256_of_file(p))
    fetch_file(NAME)
    fetch_file(NAME)
    assert hashed == [path]
    path.write_bytes(CONTENT[::-1])
    with pytest.raises(HashMismatchError):
        fetch_file(NAME)


def test_offline_says_where_it_looked_and_how_to_get_the_file(folders, server, monkeypatch):
    """SATCLIP_OFFLINE=1 opens no connection; the error names folders, command and variables."""
    _register(monkeypatch, server.url("whole"))
    monkeypatch.setenv("SATCLIP_OFFLINE", "1")
    with pytest.raises(FileUnavailableError) as caught:
        fetch_file(NAME)
    command = f"`python -m satclip_lib.data.registry {NAME}`"
    hints = [str(Path("data", "raw")), command, "SATCLIP_OFFLINE", "SATCLIP_DATA_MIRROR"]
    assert all(text in str(caught.value) for text in hints)
    assert "\n" not in str(caught.value) and server.requests == []


def test_unknown_names_are_answered_with_near_ones():
    """A misspelt name is a ValueError that suggests the registered one."""
    with pytest.raises(ValueError, match=r"'etopo2\.cdf'.*etopo20\.cdf"):
        fetch_file("etopo2.cdf")


def test_a_download_goes_to_data_raw_once(server, workspace, monkeypatch):
    """What is nowhere on disk is downloaded whole; the command that errors name brings it too."""
    _register(monkeypatch, server.url("whole"))
    monkeypatch.setattr(sys, "argv", ["registry", NAME])
    registry.main()
    path = workspace / "data/raw" / NAME
    assert path.read_bytes() == CONTENT and fetch_file(NAME) == path
    assert server.requests == ["/whole"] and list(path.parent.iterdir()) == [path]


def test_a_host_that_cannot_be_reached_is_one_short_line(server, monkeypatch):
    """Without a network the reason names the host, not the layers of a failed connection."""
    _register(monkeypatch)
    with pytest.raises(FileUnavailableError, match=r"127\.0\.0\.1 cannot be reached") as caught:
        fetch_file(NAME)
    assert "\n" not in str(caught.value) and "HTTPConnection" not in str(caught.value)


def _download(file, path):
    os.environ["NO_PROXY"] = "127.0.0.1"  # a process has the environment of its server
    registry._download(file, path)


def test_a_killed_download_is_cleaned_up_by_the_next(server, workspace, monkeypatch):
    """After SIGKILL half-way no file has the final name; the next download sweeps the rest."""
    file, path = _register(monkeypatch, server.url("slow")), workspace / "data/raw" / NAME
    process = processes.start(_download, file, path)
    while not list(path.parent.glob(f".partial-*/{path.name}")):
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join()
    (leftover,) = path.parent.iterdir()
    assert leftover != path

    _register(monkeypatch, server.url("whole"))
    assert fetch_file(NAME) == path and list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == CONTENT
