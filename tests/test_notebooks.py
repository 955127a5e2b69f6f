"""Every notebook is built alike."""

import ast
import re
import sys
from pathlib import Path
from statistics import median

import nbformat
import pytest
from cells import ROOT, SOLUTIONS, STEMS, read_notebook
from jupyter_client.kernelspec import KernelSpecManager

from satclip_lib.plotting.figures import FIGURES
from tools.edges import list_figures, read_code
from tools.run_notebook import list_parameters, list_profiles, load_profile, read_profile


@pytest.fixture(params=STEMS)
def notebook(request):
    """Each notebook in turn."""
    return read_notebook(request.param)


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
    headings = ("Overview", "Prerequisites", "Summary", "Exercises", "What's next", "References")
    assert [heading for heading in headings if f"## {heading}\n" not in prose] == []
    for word in ("**Time**", "**Needs**", "**Makes**"):
        assert word in prose
    exercises = prose.split("## Exercises")[1].split("\n## ")[0]
    assert 3 <= len(re.findall(r"^\d\. ", exercises, flags=re.M)) <= 5
    assert 'run `make exercises` and set `profile = "exercises"`' in exercises


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


def test_code_cells_are_short():
    """Half of all code cells have at most six lines, not counting imports and parameters."""
    cells = [source for stem in STEMS for source in _sources(read_notebook(stem), "code")[2:]]
    assert median(len(cell.splitlines()) for cell in cells) <= 6


def test_the_method_is_built_and_checked():
    """Each piece of the method stands in a cell, and a cell says that the library has the same."""
    built = {
        "01_dataset_construction": ("F.conv2d(", "torch.allclose(features, library(images)"),
        "02_pretraining": (
            "def compute_legendre(", "def compute_harmonics(", "SphericalHarmonics(L)(lonlat)",
            "def siren_layer(", "torch.allclose(embeddings, library(lonlat)",
            "def compute_loss(", "model.logit_scale.exp()), library)",
            "def take_step(", "torch.allclose(after, library.encode_locations(lonlat)",
        ),
        "03_embedding_space": ("np.argsort(-cosine)", "search(here[None]", "np.linalg.svd("),
        "04_downstream_tasks": ("np.linalg.solve(", "np.allclose(predicted, library.predicted"),
        "06_biome_clustering": ("np.exp(-(distance", "find_ab_params("),
    }  # fmt: skip
    for stem, pieces in built.items():
        code = "\n".join(_sources(read_notebook(stem), "code"))
        assert [piece for piece in pieces if piece not in code] == [], stem


def test_figure_table_and_notebooks_agree():
    """Each figure of the table is saved once, by the notebook it names."""
    for stem in STEMS:
        saved = list_figures(read_code(ROOT / "notebooks" / f"{stem}.ipynb"))
        by_table = [f"{i}.png" for i, entry in FIGURES.items() if entry.notebook == stem]
        assert [name for name in saved if name.endswith(".png")] == by_table


@pytest.mark.parametrize("profile", ["smoke", "demo", "rehearsal", "paper"])
def test_profiles_fit_the_notebooks(profile):
    """Keys are parameters of notebooks; later ones read what notebook 02 names its checkpoints."""
    assert profile in list_profiles()

    def get(stem, name):
        default = ast.literal_eval(list_parameters(stem)[name])
        return load_profile(profile).get(stem, {}).get(name, default)

    image_encoder = get("02_pretraining", "image_encoder")
    written = [f"{image_encoder}-l10", f"{image_encoder}-l40"]
    for stem in ("03_embedding_space", "06_biome_clustering"):
        assert get(stem, "checkpoints") == written
    of_recipes = []
    for line in read_profile(profile).get("recipes", []):
        recipe, _, other, *_ = line.split()
        of_recipes.append(f"{other}-{recipe.split('-')[1]}")
    assert get("07_image_localization", "checkpoints") == [*of_recipes, *written]
    assert get("00_quickstart", "model") == written[1]


@pytest.mark.parametrize("stem", SOLUTIONS)
def test_solutions_answer_the_exercises(stem):
    """Solutions are headed by the exercises, word for word, and each has something to check."""
    prose = "\n".join(_sources(read_notebook(stem), "markdown"))
    exercises = prose.split("## Exercises\n")[1].split("\n## ")[0]
    exercises = re.findall(r"^\d\. .+$", exercises, flags=re.M)
    solutions = read_notebook(f"solutions/{stem}")
    test_committed_without_outputs(solutions)
    test_imports_are_in_one_cell(solutions)
    headings = re.findall(r"^## (.+)$", "\n".join(_sources(solutions, "markdown")), flags=re.M)
    assert headings == exercises
    checks = [cell for cell in _sources(solutions, "code") if re.search("^assert ", cell, re.M)]
    assert len(checks) >= len(exercises)


def test_the_kernel_is_chosen():
    """No notebook asks which kernel to use, and it is the one of this environment."""
    for path in (ROOT / "notebooks").rglob("*.ipynb"):
        if "checkpoints" not in path.parent.name:
            kernel = nbformat.read(path, as_version=4).metadata.kernelspec
            assert (kernel.name, kernel.language) == ("python3", "python"), path
    spec = KernelSpecManager().get_kernel_spec("python3")
    assert Path(spec.resource_dir).is_relative_to(sys.prefix)
