"""All notebooks and solutions run, one after another, in the smallest profile."""

import ast
import json
import re
from pathlib import Path

import jaxtyping
import matplotlib.pyplot as plt
import pytest
from cells import SOLUTIONS, STEMS, read_notebook, run_cells

from satclip_lib.data.patch_store import make_blue_marble_patches, save_patches
from satclip_lib.files import Workspace
from satclip_lib.plotting.figures import FIGURES
from tools.exercises import PROFILE, copy_profile
from tools.run_notebook import list_parameters, load_profile

# Exercises that are done in one run of a notebook, and what an exercise leaves to its reader to
# write: a piece of code, and what stands in its place. The others are in the solutions alone.
EXERCISES = {
    ("00_quickstart", "134"): [
        (
            '        ("Des Moines"',
            '        ("Berlin", 13.4, 52.5, "desert"),\n        ("Des Moines"',
        ),
    ],
    ("01_dataset_construction", "123"): [],
    ("02_pretraining", "123"): [
        ("plain = replace(\n    finer,", "plain = replace(\n    finer, learning_rate=2e-4,"),
        ("= replace(\n    coarse,", "= replace(\n    coarse, jitter_m=50_000.0,"),
    ],
    ("03_embedding_space", "2"): [
        ('    "Tokyo": (139.7, 35.7),', '    "Tokyo": (139.7, 35.7), "Berlin": (13.4, 52.5),')
    ],
    ("04_downstream_tasks", "1"): [],
    ("04_downstream_tasks", "23"): [],
    ("05_geographic_generalization", "13"): [],
    ("06_biome_clustering", "14"): [],
    ("07_image_localization", "124"): [
        ("make_gallery(model, ", "make_gallery(model, land_only=False, "),
        ('    "Alps": (10.0, 46.6),', '    "Alps": (10.0, 46.6), "Berlin": (13.4, 52.5),'),
    ],
    ("08_ablations", "13"): [
        ('    "no dropout":', '    "omega 10": base.replace(first_omega=10.0),\n    "no dropout":')
    ],
}
SMALLER = {"01_dataset_construction": {"num_patches": 1500}}


@pytest.fixture(scope="module")
def smoke_run(tmp_path_factory) -> Path:
    """Project folder in which all notebooks ran in the smoke profile, without label files.

    They run here, where the libraries are loaded and warnings are errors.
    """
    home = tmp_path_factory.mktemp("smoke")
    quickstart, *others = STEMS
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SATCLIP_HOME", str(home))
        patch.setenv("MPLBACKEND", "agg")
        patch.delenv("SATCLIP_DATA_MIRROR", raising=False)
        patch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as for a user
        patch.setattr("satclip_lib.plotting.figures.DPI", 100)  # coarse, but whole
        for stem in (*others[:2], quickstart, *others[2:]):
            names = run_cells(stem, profile="smoke")
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
    assert (figures / "biome_atlas.html").stat().st_size > 500_000
    table = (figures / "downstream_table.csv").read_text()
    assert all(name in table for name in ("climate_zone", "population_density", "air_temperature"))
    assert "SATCLIP_OFFLINE forbids" in (smoke_run / "absent.txt").read_text()
    assert not list(smoke_run.rglob(".partial-*"))


@pytest.mark.slow
def test_figures_name_the_models_they_were_made_with(smoke_run, monkeypatch):
    """Those that notebooks used, not what pretraining left beside them."""
    monkeypatch.setenv("SATCLIP_HOME", str(smoke_run))
    used = {
        path.stem: set(json.loads(path.read_text())["checkpoints"])
        for path in Workspace("smoke").figures.glob("*.json")
    }
    assert used["sample_map"] == set()
    assert used["training_curves"] == used["downstream_table"] == {"rcf-l10"}
    assert used["similarity_map"] == {"rcf-l40"}
    assert used["embedding_globes"] == used["biome_umap"] == {"rcf-l10", "rcf-l40"}
    assert used["biome_similarity"] == used["retrieved_patches"] == {"rcf-l40"}


@pytest.mark.slow
@pytest.mark.parametrize("stem", SOLUTIONS)
def test_solutions_hold(stem, smoke_run, shape_checks_off, monkeypatch):
    """Each solution runs after the notebooks, and what it asserts is so."""
    monkeypatch.setenv("SATCLIP_HOME", str(smoke_run))
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.delenv("SATCLIP_DATA_MIRROR", raising=False)
    run_cells(f"solutions/{stem}", profile="smoke")
    plt.close("all")


@pytest.mark.slow
@pytest.mark.parametrize(("stem", "numbers"), EXERCISES)
def test_exercises_run_as_written(stem, numbers, smoke_run, shape_checks_off, monkeypatch):
    """A notebook changed as its exercises say runs to its end, and changes nothing of a lesson."""
    monkeypatch.setenv("SATCLIP_HOME", str(smoke_run))
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.delenv("SATCLIP_DATA_MIRROR", raising=False)
    copy_profile("smoke")
    before = _list_files(smoke_run)
    values, edits = _read_exercises(stem, numbers)
    smoke = load_profile("smoke").get(stem, {}) | SMALLER.get(stem, {})
    edits += EXERCISES[stem, numbers]
    run_cells(stem, profile=PROFILE, edits=edits, **(smoke | values))
    plt.close("all")
    assert _list_files(smoke_run) == before


def _read_exercises(stem: str, numbers: str) -> tuple[dict, list[tuple[str, str]]]:
    """Parameters that exercises set, and code that they replace."""
    prose = "\n".join(c.source for c in read_notebook(stem).cells if c.cell_type == "markdown")
    exercises = prose.split("## Exercises\n")[1].split("\n## ")[0]
    text = "\n".join(re.findall(rf"^[{numbers}]\. .+$", exercises, flags=re.M))
    values = {
        name: ast.literal_eval(value)
        for name, value in re.findall(r"`(\w+) = ([^`]+)`", text)
        if name in list_parameters(stem)
    }
    edits = re.findall(r"replace `([^`]+)` by `([^`]+)`", text)
    assert values or edits or EXERCISES[stem, numbers]
    return values, edits


def _list_files(home: Path) -> dict[Path, int]:
    """All files but those of exercises, and when they were written."""
    return {
        path: path.stat().st_mtime_ns
        for path in home.rglob("*")
        if path.is_file() and PROFILE not in path.relative_to(home).parts
    }


@pytest.mark.slow
def test_patches_of_an_exercise_reach_no_later_lesson(smoke_run, shape_checks_off, monkeypatch):
    """With patches of another size, the notebooks that use checkpoints refuse them."""
    monkeypatch.setenv("SATCLIP_HOME", str(smoke_run))
    monkeypatch.setenv("MPLBACKEND", "agg")
    copy_profile("smoke")
    patches = make_blue_marble_patches(num_patches=100, size_px=32, imagery="seasons", zooms=(1, 8))
    save_patches(patches, Workspace(PROFILE).patches)
    for stem in ("03_embedding_space", "07_image_localization"):
        with pytest.raises(ValueError, match=r"trained on patches .* run notebook 02 again"):
            run_cells(stem, profile=PROFILE, **load_profile("smoke")[stem])
