"""Each notebook runs as its exercises say, beside the lessons."""

import ast
import re
from pathlib import Path

import pytest
from cells import read_notebook, run_cells

from satclip_lib.data.patch_store import make_blue_marble_patches, save_patches
from satclip_lib.files import Workspace
from tools.exercises import PROFILE, copy_profile
from tools.run_notebook import list_parameters, load_profile

pytestmark = pytest.mark.slow

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
SMALLER = {  # than an exercise or the smoke profile says
    ("01_dataset_construction", "123"): {"num_patches": 1500},
    ("04_downstream_tasks", "1"): {"num_points": 200},
    ("04_downstream_tasks", "23"): {"num_points": 500},
    ("08_ablations", "13"): {"num_points": 300, "num_locations": 400},
}


@pytest.mark.parametrize(("stem", "numbers"), EXERCISES)
def test_exercises_run_as_written(stem, numbers, in_smoke_run):
    """A notebook changed as its exercises say runs to its end, and changes nothing of a lesson."""
    copy_profile("smoke")
    before = _list_files(in_smoke_run)
    values, edits = _read_exercises(stem, numbers)
    values = load_profile("smoke").get(stem, {}) | values | SMALLER.get((stem, numbers), {})
    edits += EXERCISES[stem, numbers]
    run_cells(stem, profile=PROFILE, edits=edits, **values)
    assert _list_files(in_smoke_run) == before


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


def test_patches_of_an_exercise_reach_no_later_lesson(in_smoke_run):
    """With patches of another size, the notebooks that use checkpoints refuse them."""
    copy_profile("smoke")
    patches = make_blue_marble_patches(num_patches=100, size_px=32, imagery="seasons", zooms=(1, 8))
    save_patches(patches, Workspace(PROFILE).patches)
    for stem in ("03_embedding_space", "07_image_localization"):
        with pytest.raises(ValueError, match=r"trained on patches .* run notebook 02 again"):
            run_cells(stem, profile=PROFILE, **load_profile("smoke")[stem])
