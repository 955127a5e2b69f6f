"""Files: written whole or not at all, also when the writer is killed; named by the workspace."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import processes
import pytest

from satclip_lib import files
from satclip_lib.files import Workspace, project_root, sha256_of_file, write_atomically


def _write_until_killed(path, kind):
    """Write a file or a folder in a process that dies in the middle."""
    with write_atomically(path) as scratch:
        if kind == "folder":
            scratch.mkdir()
            (scratch / "first").write_text("new")
        else:
            scratch.write_text("new")
        os.kill(os.getpid(), signal.SIGKILL)


def _write(path, text, *, folder=False):
    with write_atomically(path) as scratch:
        if folder:
            scratch.mkdir()
            scratch = scratch / "content"
        scratch.write_text(text)


def _scratch_of(path, pid):
    """Where the process ``pid`` would write ``path`` aside."""
    with write_atomically(path) as scratch:
        scratch.write_text("")
    path.unlink()
    files._find_leftovers.cache_clear()  # so that the next write is the first one of a run
    return scratch.with_name(scratch.name.replace(str(os.getpid()), str(pid)))


def _hidden(folder):
    return sorted(path for path in folder.iterdir() if path.name.startswith("."))


@pytest.fixture
def dead_pid():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_file_appears_when_the_block_succeeds(workspace):
    """The target does not exist inside the block and is complete after it; parents are made."""
    path = workspace / "a/b/table.csv"
    with write_atomically(str(path)) as scratch:
        scratch.write_text("1,2")
        assert scratch.parent == path.parent and not path.exists()
        assert scratch.suffix == ".csv"  # many writers look at it
    assert path.read_text() == "1,2"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_is_replaced():
    """Writing again replaces the file."""
    path = project_root() / "table.csv"
    _write(path, "old")
    _write(path, "new")
    assert path.read_text() == "new"


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
    with pytest.raises(error), write_atomically(path) as scratch:
        if folder:
            scratch.mkdir()
        (scratch / "content" if folder else scratch).write_text("new")
        raise error
    assert (path / "content" if folder else path).read_text() == "old"
    assert _hidden(workspace) == []


def test_a_failure_before_anything_is_written_leaves_nothing(workspace):
    """A block that fails at once leaves neither target nor scratch."""
    with pytest.raises(ValueError, match="at once"), write_atomically(workspace / "target"):
        raise ValueError("at once")
    assert list(workspace.iterdir()) == []


@pytest.mark.parametrize("folder", [False, True])
def test_a_block_that_writes_nothing_leaves_the_old_one(workspace, folder):
    """Forgetting to write is an error, and does not delete what stood there."""
    path = workspace / "target"
    _write(path, "old", folder=folder)
    with pytest.raises(FileNotFoundError), write_atomically(path):
        pass
    assert (path / "content" if folder else path).read_text() == "old"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_killed_writer_leaves_no_target(workspace, kind):
    """After SIGKILL half-way there is no target, and the next writer sweeps the leftover."""
    path = workspace / "target"
    assert processes.find_exit_code(_write_until_killed, path, kind) == -signal.SIGKILL
    assert not path.exists() and len(_hidden(workspace)) == 1
    _write(path, "new", folder=kind == "folder")
    assert path.exists() and _hidden(workspace) == []


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_killed_writer_leaves_the_old_target(workspace, kind):
    """After SIGKILL half-way what stood there before is untouched."""
    path = workspace / "target"
    _write(path, "old", folder=kind == "folder")
    assert processes.find_exit_code(_write_until_killed, path, kind) == -signal.SIGKILL
    assert (path / "content" if kind == "folder" else path).read_text() == "old"


def test_leftovers_of_the_dead_are_swept(workspace, dead_pid):
    """What ended processes left is removed, files and folders, also under our own number."""
    path = workspace / "target"
    for pid in (dead_pid, os.getpid()):
        leftover = _scratch_of(path, pid)
        leftover.mkdir()
        (leftover / "half").write_text("half")
    of_another_target = _scratch_of(workspace / "another", dead_pid)
    of_another_target.write_text("half")
    _write(path, "new")
    assert _hidden(workspace) == [of_another_target]
    assert path.read_text() == "new"


def test_leftovers_of_the_living_are_kept(workspace):
    """What a running process is writing to the same target is left alone until it has ended."""
    path = workspace / "target"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        scratch = _scratch_of(path, other.pid)
        scratch.write_text("half")
        _write(path, "ours")
        assert scratch.read_text() == "half"
        other.communicate(b"\n")
    _write(path, "ours again")
    assert not scratch.exists()


def test_a_process_of_another_user_is_alive(workspace, monkeypatch):
    """A process we may not signal is running, and its scratch is kept."""

    def refuse(pid, number):
        raise PermissionError

    scratch = _scratch_of(workspace / "target", 1)
    scratch.write_text("half")
    monkeypatch.setattr(os, "kill", refuse)
    _write(workspace / "target", "ours")
    assert scratch.exists()


def test_a_folder_is_listed_once(workspace, monkeypatch):
    """Many files in a folder cost no more each than few: the first write alone looks around."""
    listed = []
    iterdir = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: listed.append(path) or iterdir(path))
    for index in range(5):
        _write(workspace / "many" / str(index), "text")
    assert listed == [workspace / "many"]


@pytest.mark.parametrize("longer", ["table.csv", "my-table", "my.table"])
def test_a_longer_name_being_written_is_left_alone(workspace, longer):
    """Writing ``table`` does not sweep the scratch of ``my-table``, which is being written."""
    with write_atomically(workspace / longer) as scratch:
        scratch.write_text("1,2")
        _write(workspace / "table", "other")
    assert (workspace / longer).read_text() == "1,2"


def test_foreign_files_are_left_alone(workspace):
    """A file whose name only looks like a leftover is neither removed nor an error."""
    foreign = _scratch_of(workspace / "target", "notes")
    foreign.write_text("mine")
    _write(workspace / "target", "new")
    assert foreign.read_text() == "mine"


def test_names_may_hold_any_character(workspace, dead_pid):
    """Brackets and stars in a name are not patterns: the leftovers of that name are swept."""
    path = workspace / "run [1]*.csv"
    leftover = _scratch_of(path, dead_pid)
    leftover.write_text("half")
    _write(path, "new")
    assert path.read_text() == "new" and not leftover.exists()


def test_the_project_is_where_the_environment_says(monkeypatch, tmp_path):
    """$SATCLIP_HOME decides; ~ is the home folder."""
    monkeypatch.setenv("SATCLIP_HOME", str(tmp_path / "x" / ".." / "project"))
    assert project_root() == (tmp_path / "project").resolve()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SATCLIP_HOME", "~/project")
    assert project_root() == (tmp_path / "project").resolve()


def test_the_project_is_the_checkout_around_the_current_folder(monkeypatch, tmp_path):
    """Without $SATCLIP_HOME a checkout that the current folder lies in is the project.

    It may be another one than that which the package was installed from.
    """
    monkeypatch.delenv("SATCLIP_HOME")
    for name in ("pyproject.toml", "satclip_lib/files.py", "notebooks/solutions/00.ipynb"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for folder in (tmp_path, tmp_path / "notebooks" / "solutions"):
        monkeypatch.chdir(folder)
        assert project_root() == tmp_path


def test_outside_a_checkout_the_project_is_the_current_folder(monkeypatch, tmp_path):
    """Neither where the package lies nor another project's pyproject.toml counts."""
    monkeypatch.delenv("SATCLIP_HOME")
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    assert project_root() == tmp_path


def test_a_workspace_names_everything_and_makes_nothing(workspace):
    """All paths lie in the project, one folder per profile; asking for a name makes no folder."""
    demo, smoke = Workspace(), Workspace("smoke")
    assert demo.profile == "demo"
    assert demo.patches == workspace / "data/demo/patches.zarr"
    assert smoke.features == workspace / "data/smoke/features"
    assert smoke.checkpoints == workspace / "data/smoke/checkpoints"
    assert smoke.build == workspace / "build/smoke"
    assert demo.figures == workspace / "figures"
    assert smoke.figures == workspace / "figures/smoke"
    assert list(workspace.iterdir()) == []


def test_hashes_are_those_of_sha256(workspace):
    """The hash is SHA-256 in hexadecimal, also of files of many blocks and of empty files."""
    for content in (b"", b"abc", bytes(range(256)) * 10_000):
        (workspace / "file").write_bytes(content)
        assert sha256_of_file(workspace / "file") == hashlib.sha256(content).hexdigest()
    assert sha256_of_file(str(workspace / "file")) == sha256_of_file(workspace / "file")
