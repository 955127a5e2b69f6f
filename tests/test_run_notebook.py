"""Notebooks are run with a profile's parameters; what fails is not taken for done."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import papermill
import pytest
import yaml
from cells import ROOT, STEMS, run_cells
from nbclient.exceptions import DeadKernelError

from satclip_lib.evaluation.baselines import EncoderUnavailableError
from satclip_lib.files import Workspace
from tools import claims
from tools import run_notebook as notebooks
from tools.run_notebook import list_parameters, load_profile, run_notebook


def test_unknown_names_are_errors(tmp_path, monkeypatch):
    """An unknown profile, notebook or parameter is refused, and the message names the known."""
    with pytest.raises(ValueError, match=r"unknown profile 'dmeo'.*demo"):
        load_profile("dmeo")
    with pytest.raises(ValueError, match=r"unknown notebook '99_nothing'.*01_dataset_construction"):
        run_notebook("99_nothing", profile="smoke")
    _write_notebook(tmp_path, "seed = 0", note={"sede": 1})
    monkeypatch.setattr(notebooks, "NOTEBOOKS_FOLDER", tmp_path)
    with pytest.raises(ValueError, match=r"sets \['sede'\] for note, whose parameters are"):
        load_profile("test")


def _write_notebook(folder: Path, code: str, **profile: dict) -> None:
    (folder / "profiles").mkdir(parents=True)
    (folder / "profiles" / "test.yaml").write_text(yaml.safe_dump(profile))
    note = nbformat.v4.new_notebook()
    note.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "x"}
    parameters = nbformat.v4.new_code_cell('profile = "demo"\nvalue = 1')
    parameters.metadata["tags"] = ["parameters"]
    note.cells = [parameters, nbformat.v4.new_code_cell(code)]
    nbformat.write(note, folder / "note.ipynb")


def test_parameters_reach_the_notebook(tmp_path, monkeypatch, caplog):
    """A run has the profile's values, is written in the workspace, and tells of figures in time."""
    code = "assert (profile, value) == ('test', 2)\nsave_figure = print\nsave_figure(1, 'a_b')"
    _write_notebook(tmp_path, code, note={"value": 2})
    monkeypatch.setattr(notebooks, "NOTEBOOKS_FOLDER", tmp_path)
    monkeypatch.setenv("SATCLIP_STARTED", f"{time.time() - 125:.0f}")
    assert list_parameters("note") == {"profile": '"demo"', "value": "1"}
    with caplog.at_level("INFO", logger="tools.run_notebook"):
        path = run_notebook("note", profile="test")
    assert path == Workspace("test").build / "note.ipynb" and path.is_file()
    assert path.stat().st_mtime < time.time() - 0.5  # dated when it started, not when it ended
    told = [message.split(maxsplit=2) for message in caplog.messages]
    assert [what[1:] for what in told[:2]] == [["note", "started"], ["note", "made a_b.png"]]
    assert re.fullmatch(r"2:\d\d", told[1][0]) and told[2][2].startswith("done in")


def test_a_false_claim_is_reported(tmp_path, monkeypatch, caplog):
    """It fails the notebook, which leaves a copy, but not where numbers are not the prose's."""
    code = "assert value == 1\nassert value == 2, 'never shown'\nprint('after')"
    _write_notebook(tmp_path, code)
    monkeypatch.setattr(notebooks, "NOTEBOOKS_FOLDER", tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with pytest.raises(papermill.PapermillExecutionError, match="never shown"):
        run_notebook("note", profile="test")
    build = Workspace("test").build
    assert [path.name for path in build.iterdir()] == ["note.failed.ipynb"]
    monkeypatch.setattr(claims, "REPORTED", ("test",))
    with caplog.at_level("INFO", logger="tools.run_notebook"):
        path = run_notebook("note", profile="test")
    assert [*build.iterdir()] == [path] and "after" in path.read_text()
    told = [message.split(maxsplit=2)[2] for message in caplog.messages]
    assert told[-2] == "does not hold here: value == 2" and "value == 1" not in "".join(told)


def test_a_killed_kernel_leaves_a_copy(tmp_path, monkeypatch):
    """What ran before the kernel died, out of memory say, can be looked at."""
    _write_notebook(tmp_path, "import os\nos.kill(os.getpid(), 9)")
    monkeypatch.setattr(notebooks, "NOTEBOOKS_FOLDER", tmp_path)
    with pytest.raises(DeadKernelError):
        run_notebook("note", profile="test")
    build = Workspace("test").build
    assert [path.name for path in build.iterdir()] == ["note.failed.ipynb"]
    nbformat.read(build / "note.failed.ipynb", as_version=4)


def test_a_copied_checkout_runs_its_own_code(tmp_path):
    """Notebooks and contact sheet use and fill the checkout they are run in, not the installed."""
    clone = tmp_path / "clone"
    for folder in ("satclip_lib", "tools"):
        shutil.copytree(ROOT / folder, clone / folder)
    shutil.copy(ROOT / "pyproject.toml", clone)
    code = "import satclip_lib\nprint(satclip_lib.__file__)"
    _write_notebook(clone / "notebooks", code)
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "SATCLIP_HOME")}
    for tool in (["run_notebook", "note", "--profile", "test"], ["contact_sheet"]):
        command = [sys.executable, "-m", f"tools.{tool[0]}", *tool[1:]]
        subprocess.run(command, cwd=clone, env=kept, check=True, capture_output=True)
    ran = (clone / "build" / "test" / "note.ipynb").read_text()
    assert str(clone / "satclip_lib" / "__init__.py") in ran
    assert (clone / "figures" / "index.html").is_file()


@pytest.mark.parametrize("stem", [s for s in STEMS if not s.startswith("01")])
def test_missing_inputs_name_the_command(stem, workspace, monkeypatch):
    """With nothing made yet, a notebook ends at once, and says what to run."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.delenv("SATCLIP_DATA_MIRROR", raising=False)
    missing = FileNotFoundError, EncoderUnavailableError
    with pytest.raises(missing, match=r"`make (data|pretrain|figures)`"):
        run_cells(stem, profile="smoke")
    assert not list(workspace.rglob("*.png"))


@pytest.mark.slow
def test_lab_opens_the_first_notebook(workspace):
    """The command of `make lab` starts a server that offers the quickstart."""
    command = subprocess.run(
        ["make", "--no-print-directory", "-n", "-o", ".venv/.ready", "lab"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert command[:2] == [".venv/bin/jupyter", "lab"]
    options = ["--no-browser", "--allow-root", "--ServerApp.port=0"]
    folders = {"JUPYTER_CONFIG_DIR": str(workspace), "JUPYTER_RUNTIME_DIR": str(workspace)}
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyter", *command[1:], *options],
        cwd=ROOT,
        env=os.environ | folders,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 180  # nothing is compiled yet on a new machine
        while not any(  # what a browser opens; it is written twice
            "/lab/tree/00_quickstart.ipynb" in page.read_text()
            for page in workspace.glob("jpserver-*-open.html")
        ):
            assert server.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
    finally:
        server.terminate()
        server.wait(timeout=30)
