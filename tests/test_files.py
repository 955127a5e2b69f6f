"""Files: written whole or not at all, also when the writer is killed; named by the workspace."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import processes
import pytest

from satclip_lib import files
from satclip_lib.files import Workspace, project_root, write_atomically


def _write(path, text, *, folder=False, then=lambda: None):
    """A file, or a folder that holds one; ``then`` is done before it is put in its place."""
    with write_atomically(path) as scratch:
        if folder:
            scratch.mkdir()
        (scratch / "content" if folder else scratch).write_text(text)
        then()


def _read(path):
    return (path / "content" if path.is_dir() else path).read_text()


def _write_until_killed(path, folder):
    _write(path, "new", folder=folder, then=lambda: os.kill(os.getpid(), signal.SIGKILL))


def _make_leftover(path, *, folder=False):
    """What a killed writer of ``path`` leaves, as if another run had left it."""
    assert processes.find_exit_code(_write_until_killed, path, folder) == -signal.SIGKILL
    files.sweep.cache_clear()  # so that the next write is the first one of a run
    (leftover,) = (x for x in _hidden(path.parent) if x.name.endswith(f"-{path.name}"))
    return leftover


def _hidden(folder):
    return sorted(path for path in folder.iterdir() if path.name.startswith("."))


def test_a_file_appears_when_the_block_succeeds(workspace):
    """The target does not exist inside the block and is complete after it; parents are made."""
    path = workspace / "a/b/table.csv"
    with write_atomically(str(path)) as scratch:
        scratch.write_text("1,2")
        assert scratch.parent.parent == path.parent and not path.exists()
        assert scratch.name == path.name  # many writers look at the suffix
    assert path.read_text() == "1,2"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_is_replaced_as_a_whole(workspace):
    """Writing a folder again leaves nothing of the old one in it."""
    path = workspace / "store"
    _write(path, "old", folder=True)
    (path / "stale").write_text("old")
    _write(path, "new", folder=True)
    assert [(file.name, file.read_text()) for file in path.iterdir()] == [("content", "new")]
    assert _hidden(workspace) == []


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_one(workspace, folder, error):
    """An exception in the block passes through; the target stays as it was, nothing beside it."""
    path = workspace / "target"
    _write(path, "old", folder=folder)

    def fail():
        raise error

    with pytest.raises(error):
        _write(path, "new", folder=folder, then=fail)
    assert _read(path) == "old" and _hidden(workspace) == []


@pytest.mark.parametrize("folder", [False, True])
def test_a_block_that_writes_nothing_leaves_the_old_one(workspace, folder):
    """Forgetting to write is an error, and does not delete what stood there."""
    path = workspace / "target"
    _write(path, "old", folder=folder)
    with pytest.raises(FileNotFoundError), write_atomically(path):
        pass
    assert _read(path) == "old"


@pytest.mark.parametrize("folder", [False, True])
def test_a_killed_writer_changes_nothing(workspace, folder):
    """After SIGKILL half-way the target is as it was; the next writer in its folder sweeps."""
    path, foreign = workspace / "run [1]*.csv", workspace / ".partial-notes-target"
    foreign.mkdir()  # whose name only looks like that of a leftover
    _make_leftover(path, folder=folder)
    _make_leftover(workspace / "another")
    assert not path.exists()
    _write(path, "old", folder=folder)
    assert _hidden(workspace) == [foreign]
    _make_leftover(path, folder=folder)
    assert _read(path) == "old"


def _write_slowly(path, has_written, go_on):
    with write_atomically(path) as scratch:
        scratch.write_text("theirs")
        has_written.set()
        go_on.wait()


def test_leftovers_of_the_living_are_kept(workspace):
    """What a running process is writing to the same target is left alone, whatever its number."""
    path = workspace / "target"
    has_written, go_on = processes.context.Event(), processes.context.Event()
    other = processes.start(_write_slowly, path, has_written, go_on)
    assert has_written.wait(60)
    (scratch,) = _hidden(workspace)
    assert str(other.pid) not in scratch.name
    _write(path, "ours")
    assert (scratch / "target").read_text() == "theirs"
    go_on.set()
    other.join()
    assert path.read_text() == "theirs" and _hidden(workspace) == []


def test_where_there_are_no_locks_nothing_is_swept(workspace, monkeypatch):
    """A file system without locks says nothing about other runs; files are written all the same."""
    leftover = _make_leftover(workspace / "target")

    def refuse(descriptor, how):
        raise OSError("no locks available")

    monkeypatch.setattr(files.fcntl, "flock", refuse)
    _write(workspace / "target", "ours")
    assert (workspace / "target").read_text() == "ours" and _hidden(workspace) == [leftover]


def test_threads_write_one_target_at_once(workspace):
    """Each has a scratch folder of its own; one result stays, whole, and nothing beside it."""
    texts = [str(i) * 100_000 for i in range(8)]
    with ThreadPoolExecutor(8) as threads:
        for kind in (False, True):
            path = workspace / f"target-{kind}"
            list(threads.map(lambda text, p=path, k=kind: _write(p, text, folder=k), texts * 4))
            assert _read(path) in texts
    assert _hidden(workspace) == []


def test_planted_names_are_not_followed(workspace, monkeypatch):
    """A link where the scratch folder would be is an error, and what it leads to stays."""
    (workspace / "precious").mkdir()
    monkeypatch.setattr(files.secrets, "token_hex", lambda n: "0" * 16)
    (workspace / ".partial-0000000000000000-target").symlink_to(workspace / "precious")
    with pytest.raises(FileExistsError):
        _write(workspace / "target", "new")
    assert list((workspace / "precious").iterdir()) == []


@pytest.mark.parametrize("folder", [False, True])
def test_what_a_link_leads_to_is_written(workspace, folder):
    """The link stays, and what it leads to is replaced."""
    (workspace / "disk").mkdir()
    (workspace / "link").symlink_to(workspace / "disk" / "target")
    for text in ("old", "new"):
        _write(workspace / "link", text, folder=folder)
    assert (workspace / "link").is_symlink()
    assert _read(workspace / "disk/target") == "new"


def test_a_folder_is_listed_once(workspace, monkeypatch):
    """Many files in a folder cost no more each than few: the first write alone looks around."""
    listed = []
    iterdir = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: listed.append(path) or iterdir(path))
    for index in range(5):
        _write(workspace / "many" / str(index), "text")
    assert listed == [workspace / "many"]


def test_a_folder_is_held_by_one_run(workspace):
    """Another run is refused while it is held, and let in when it was removed meanwhile."""
    folder = workspace / "work"
    with files.hold_folder(folder), ThreadPoolExecutor(1) as other:
        held = files.hold_folder(folder)
        with pytest.raises(BlockingIOError, match=r"another run is at work in .*work: wait"):
            other.submit(held.__enter__).result()
        folder.rmdir()
        with files.hold_folder(folder):
            assert folder.is_dir()
    with files.hold_folder(folder):
        pass


def test_where_the_project_is(monkeypatch, tmp_path):
    """$SATCLIP_HOME decides, else the checkout around the current folder, else that folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for home in (str(tmp_path / "x" / ".." / "project"), "~/project"):
        monkeypatch.setenv("SATCLIP_HOME", home)
        assert project_root() == (tmp_path / "project").resolve()
    monkeypatch.delenv("SATCLIP_HOME")
    (tmp_path / "pyproject.toml").touch()  # perhaps another project's
    below = tmp_path / "notebooks" / "solutions"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert project_root() == below
    (tmp_path / "satclip_lib").mkdir()
    (tmp_path / "satclip_lib" / "files.py").touch()
    assert project_root() == tmp_path


def test_a_workspace_names_everything_and_makes_nothing(workspace):
    """All paths lie in the project, one folder per profile; asking for a name makes no folder."""
    demo, smoke = Workspace(), Workspace("smoke")
    assert demo.patches == workspace / "data/demo/patches.zarr"
    assert smoke.features == workspace / "data/smoke/features"
    assert smoke.checkpoints == workspace / "data/smoke/checkpoints"
    assert smoke.build == workspace / "build/smoke"
    assert demo.figures == workspace / "figures"
    assert smoke.figures == workspace / "figures/smoke"
    assert list(workspace.iterdir()) == []
