"""Every notebook is built alike, and runs."""

import ast
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jaxtyping
import matplotlib.pyplot as plt
import nbformat
import papermill
import pytest
import yaml
from jupyter_client.kernelspec import KernelSpecManager
from nbclient.exceptions import DeadKernelError

from satclip_lib.files import Workspace
from satclip_lib.plotting.figures import FIGURES
from tools import run_notebook as notebooks
from tools.edges import list_figures, read_code
from tools.run_notebook import list_parameters, list_profiles, load_profile, run_notebook

ROOT = Path(__file__).parents[1]
STEMS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
SOLUTIONS = sorted(path.stem for path in (ROOT / "notebooks" / "solutions").glob("*.ipynb"))


@pytest.fixture(params=STEMS)
def notebook(request):
    """Each notebook in turn."""
    return nbformat.read(ROOT / "notebooks" / f"{request.param}.ipynb", as_version=4)


def _sources(notebook, cell_type: str) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == cell_type]


def test_committed_without_outputs(notebook):
    """Notebooks hold no outputs and no execution counts; executed copies are built."""
    for cell in notebook.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None


def test_overview_lists_the_sections(notebook):
    """The numbered list of the overview is the numbered headings, in their order."""
    prose = "\n".join(_sources(notebook, "markdown"))
    overview = prose.split("## Overview")[1].split("\n## ")[0]
    listed = re.findall(r"^(\d+\. .+)$", overview, flags=re.M)
    assert listed == re.findall(r"^## (\d+\. .+)$", prose, flags=re.M)
    assert len(listed) >= 3


def test_has_all_parts(notebook):
    """Title, overview with time, files and figures, prerequisites, summary, exercises and so on."""
    prose = "\n".join(_sources(notebook, "markdown"))
    assert re.match(r"# \d\d \w+", prose)
    for heading in (
        "Overview",
        "Prerequisites",
        "Summary",
        "Exercises",
        "What's next",
        "References",
    ):
        assert f"## {heading}\n" in prose, heading
    for word in ("**Time**", "**Needs**", "**Makes**"):
        assert word in prose
    exercises = prose.split("## Exercises")[1].split("\n## ")[0]
    assert 3 <= len(re.findall(r"^\d\. ", exercises, flags=re.M)) <= 5


def test_imports_are_in_one_cell(notebook):
    """One cell imports, and no code cell does anything a script could not."""
    cells = _sources(notebook, "code")
    importing = [cell for cell in cells if re.search(r"^(import|from) ", cell, flags=re.M)]
    assert importing == cells[:1]
    assert not re.search(r"^[!%]|sys\.path|filterwarnings", "\n".join(cells), flags=re.M)


def test_parameters_are_few_literals_with_reasons(notebook):
    """One parameters cell with at most eight literals, each with a comment."""
    (cell,) = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    lines = cell.source.splitlines()
    assert 1 <= len(lines) <= 8
    for line in lines:
        ast.literal_eval(line.split("=", 1)[1].split("#")[0].strip())
        assert "  # " in line
    assert lines[0].startswith('profile = "demo"')


def test_figure_table_and_notebooks_agree():
    """Each figure of the table is saved once, by the notebook it names."""
    for stem in STEMS:
        saved = list_figures(read_code(ROOT / "notebooks" / f"{stem}.ipynb"))
        by_table = [f"{i}.png" for i, entry in FIGURES.items() if entry.notebook == stem]
        assert [name for name in saved if name.endswith(".png")] == by_table


@pytest.mark.parametrize("profile", ["smoke", "demo", "paper"])
def test_profiles_fit_the_notebooks(profile):
    """Every key of a profile is a parameter of the notebook it is for."""
    assert profile in list_profiles()
    load_profile(profile)


@pytest.mark.parametrize("profile", ["smoke", "demo", "paper"])
def test_later_notebooks_read_what_pretraining_writes(profile):
    """Checkpoints are named after notebook 02's image encoder, in every profile."""

    def get(stem, name):
        default = ast.literal_eval(list_parameters(stem)[name])
        return load_profile(profile).get(stem, {}).get(name, default)

    image_encoder = get("02_pretraining", "image_encoder")
    written = [f"{image_encoder}-l10", f"{image_encoder}-l40"]
    for stem in ("03_embedding_space", "06_biome_clustering", "07_image_localization"):
        assert get(stem, "checkpoints") == written
    assert get("00_quickstart", "model") == written[0]


def test_unknown_names_are_errors(tmp_path, monkeypatch):
    """An unknown profile, notebook or parameter is refused, and the message names the known."""
    with pytest.raises(ValueError, match=r"unknown profile 'dmeo'.*demo"):
        load_profile("dmeo")
    with pytest.raises(ValueError, match=r"unknown notebook '99_nothing'.*01_dataset_construction"):
        run_notebook("99_nothing", profile="smoke")
    _write_notebook(tmp_path, "seed = 0", profile={"note": {"sede": 1}})
    monkeypatch.setattr(notebooks, "NOTEBOOKS_FOLDER", tmp_path)
    with pytest.raises(ValueError, match=r"sets \['sede'\] for note, whose parameters are"):
        load_profile("test")


def _write_notebook(folder: Path, code: str, *, profile: dict) -> None:
    (folder / "profiles").mkdir()
    (folder / "profiles" / "test.yaml").write_text(yaml.safe_dump(profile))
    note = nbformat.v4.new_notebook()
    note.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "x"}
    parameters = nbformat.v4.new_code_cell('profile = "demo"\nvalue = 1')
    parameters.metadata["tags"] = ["parameters"]
    note.cells = [parameters, nbformat.v4.new_code_cell(code)]
    nbformat.write(note, folder / "note.ipynb")


def test_parameters_reach_the_notebook(tmp_path, monkeypatch, caplog):
    """A run has the profile's values, is written where the workspace says, and tells of figures.

    What it tells bears the time since all notebooks were started.
    """
    code = "assert (profile, value) == ('test', 2)\nsave_figure = print\nsave_figure(1, 'a_b')"
    _write_notebook(tmp_path, code, profile={"note": {"value": 2}})
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


def test_failed_run_is_not_taken_for_done(tmp_path, monkeypatch):
    """A notebook that raises leaves no target but a copy to look at; a good run removes that."""
    _write_notebook(tmp_path, "print('before')\n1 / value", profile={"note": {"value": 0}})
    monkeypatch.setattr(notebooks, "NOTEBOOKS_FOLDER", tmp_path)
    with pytest.raises(papermill.PapermillExecutionError, match="ZeroDivisionError"):
        run_notebook("note", profile="test")
    build = Workspace("test").build
    assert [path.name for path in build.iterdir()] == ["note.failed.ipynb"]
    (tmp_path / "profiles" / "test.yaml").write_text("note: {value: 1}")
    run_notebook("note", profile="test")
    assert [path.name for path in build.iterdir()] == ["note.ipynb"]


def test_a_killed_kernel_leaves_a_copy(tmp_path, monkeypatch):
    """What ran before the kernel died, out of memory say, can be looked at."""
    _write_notebook(tmp_path, "import os\nos.kill(os.getpid(), 9)", profile={})
    monkeypatch.setattr(notebooks, "NOTEBOOKS_FOLDER", tmp_path)
    with pytest.raises(DeadKernelError):
        run_notebook("note", profile="test")
    build = Workspace("test").build
    assert [path.name for path in build.iterdir()] == ["note.failed.ipynb"]
    nbformat.read(build / "note.failed.ipynb", as_version=4)


def test_a_copied_checkout_runs_its_own_code(tmp_path):
    """Notebooks and contact sheet use and fill the checkout they are run in.

    That is so wherever the environment was installed from.
    """
    clone = tmp_path / "clone"
    for folder in ("satclip_lib", "tools"):
        shutil.copytree(ROOT / folder, clone / folder)
    shutil.copy(ROOT / "pyproject.toml", clone)
    (clone / "notebooks").mkdir()
    code = "import satclip_lib\nprint(satclip_lib.__file__)"
    _write_notebook(clone / "notebooks", code, profile={})
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "SATCLIP_HOME")}
    for tool in (["run_notebook", "note", "--profile", "test"], ["contact_sheet"]):
        command = [sys.executable, "-m", f"tools.{tool[0]}", *tool[1:]]
        subprocess.run(command, cwd=clone, env=kept, check=True, capture_output=True)
    ran = (clone / "build" / "test" / "note.ipynb").read_text()
    assert str(clone / "satclip_lib" / "__init__.py") in ran
    assert (clone / "figures" / "index.html").is_file()


def _read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


@pytest.mark.parametrize("stem", SOLUTIONS)
def test_solutions_answer_the_exercises(stem):
    """Solutions are headed by the exercises, word for word, and each has something to check."""
    prose = "\n".join(_sources(_read(stem), "markdown"))
    exercises = prose.split("## Exercises\n")[1].split("\n## ")[0].strip().splitlines()
    solutions = _read(f"solutions/{stem}")
    test_committed_without_outputs(solutions)
    test_imports_are_in_one_cell(solutions)
    headings = re.findall(r"^## (.+)$", "\n".join(_sources(solutions, "markdown")), flags=re.M)
    assert headings == exercises
    checks = [cell for cell in _sources(solutions, "code") if re.search("^assert ", cell, re.M)]
    assert len(checks) >= len(exercises)


def _run_cells(name: str, *, profile: str) -> dict:
    """Run the code of a notebook here, with the parameters of a profile; what it defined."""
    names: dict = {"display": lambda *shown: None}
    for number, cell in enumerate(_read(name).cells):
        if cell.cell_type == "code":
            exec(compile(cell.source, f"{name}, cell {number}", "exec"), names)  # our own code
        if "parameters" in cell.metadata.get("tags", []):
            names |= {"profile": profile} | load_profile(profile).get(name, {})
    return names


@pytest.mark.parametrize("stem", [s for s in STEMS if not s.startswith("01")])
def test_missing_inputs_name_the_command(stem, workspace, monkeypatch):
    """With nothing made yet, a notebook ends at once, and says what to run."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.delenv("SATCLIP_DATA_MIRROR", raising=False)
    with pytest.raises(FileNotFoundError, match=r"`make (data|pretrain|figures)`"):
        _run_cells(stem, profile="smoke")
    assert not list(workspace.rglob("*.png"))


def test_the_kernel_is_chosen():
    """No notebook asks which kernel to use, and it is the one of this environment."""
    for path in (ROOT / "notebooks").rglob("*.ipynb"):
        if "checkpoints" not in path.parent.name:
            kernel = nbformat.read(path, as_version=4).metadata.kernelspec
            assert (kernel.name, kernel.language) == ("python3", "python"), path
    spec = KernelSpecManager().get_kernel_spec("python3")
    assert Path(spec.resource_dir).is_relative_to(sys.prefix)


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


@pytest.fixture(scope="module")
def smoke_run(tmp_path_factory) -> Path:
    """Project folder in which all notebooks ran in the smoke profile, without label files.

    Those that the others build on run as `make` runs them, in Jupyter; the others run here, where
    the libraries are loaded and warnings are errors.
    """
    home = tmp_path_factory.mktemp("smoke")
    in_jupyter = [stem for stem in STEMS if stem[:2] in ("01", "02")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SATCLIP_HOME", str(home))
        patch.setenv("MPLBACKEND", "agg")
        patch.delenv("SATCLIP_DATA_MIRROR", raising=False)
        patch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as for a user
        patch.setattr("satclip_lib.plotting.figures.DPI", 100)  # coarse, but whole
        for stem in in_jupyter:
            command = [sys.executable, "-m", "tools.run_notebook", stem, "--profile", "smoke"]
            subprocess.run(command, check=True, capture_output=True)
        for stem in [stem for stem in STEMS if stem not in in_jupyter]:
            names = _run_cells(stem, profile="smoke")
            plt.close("all")
            if stem.startswith("04"):
                (home / "absent.txt").write_text("\n".join(names["result"].absent.reason))
    return home


@pytest.mark.slow
def test_all_notebooks_run_without_network_or_label_files(smoke_run, monkeypatch):
    """The smoke profile runs end to end offline: figures are made, absent tasks say why."""
    monkeypatch.setenv("SATCLIP_HOME", str(smoke_run))
    figures = Workspace("smoke").figures
    for figure_id in FIGURES:
        assert (figures / f"{figure_id}.png").stat().st_size > 10_000
        assert (figures / f"{figure_id}.pdf").stat().st_size > 10_000
    assert (figures / "biome_atlas.html").stat().st_size > 1_000_000
    table = (figures / "downstream_table.csv").read_text()
    assert "climate_zone" in table and "population_density" in table
    assert "air_temperature" not in table
    assert "SATCLIP_OFFLINE forbids" in (smoke_run / "absent.txt").read_text()
    assert not list(smoke_run.rglob(".partial-*"))


@pytest.mark.slow
@pytest.mark.parametrize("stem", SOLUTIONS)
def test_solutions_hold(stem, smoke_run, shape_checks_off, monkeypatch):
    """Each solution runs after the notebooks, and what it asserts is so."""
    monkeypatch.setenv("SATCLIP_HOME", str(smoke_run))
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.delenv("SATCLIP_DATA_MIRROR", raising=False)
    _run_cells(f"solutions/{stem}", profile="smoke")
    plt.close("all")
