"""What make runs, and what it does not, in a checkout whose interpreter is a stand-in.

The stand-in notes which notebook it was to run, and leaves empty files where the notebook would
leave its executed copy, its figures and, for notebook 02, a checkpoint.
"""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from cells import ROOT, STEMS

from satclip_lib.plotting.figures import FIGURES

FIRST, SECOND, *LATER = STEMS[1], STEMS[2], STEMS[0], *STEMS[3:]
STAND_IN = """#!/bin/sh
test "$2" = tools.contact_sheet && touch figures/index.html
test "$2" = tools.run_notebook || exit 0
echo "begin $3 ${OMP_NUM_THREADS:-all}" >> log.txt
mkdir -p build/demo/solutions figures data/demo/checkpoints/rcf-l10
touch build/demo/$3.ipynb
sleep ${PACE:-0}
for figure in $(sed -n "s|^$3 ||p" made.txt); do touch figures/$figure; done
case $3 in 02*) test "$SAME" || touch data/demo/checkpoints/rcf-l10/model.safetensors;; esac
echo "end $3" >> log.txt
"""


class Checkout:
    """A copy of what make looks at."""

    def __init__(self, folder: Path):
        self.folder = folder
        skip = shutil.ignore_patterns("__pycache__")
        for name in ("notebooks", "satclip_lib", "tools"):
            shutil.copytree(ROOT / name, folder / name, ignore=skip)
        for name in ("Makefile", "pyproject.toml", "requirements.lock", "requirements.txt"):
            shutil.copy(ROOT / name, folder)
        made = [f"{entry.notebook} {name}.png" for name, entry in FIGURES.items()]
        self.write("made.txt", "\n".join([*made, "06_biome_clustering biome_atlas.html"]))
        self.write("benchmarks/results/ablations.json", "{}")
        for name in ("python", "uv"):
            self.write(f".venv/bin/{name}", STAND_IN).chmod(0o755)
        self.write(".venv/.ready", "")

    def write(self, name: str, text: str) -> Path:
        """Write one of its files."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def make(self, *arguments: str, **environment: str) -> list[str]:
        """Run make; the notebooks that it ran, in the order in which they began."""
        (self.folder / "log.txt").unlink(missing_ok=True)
        hidden = ("OMP_NUM_THREADS", "MAKEFLAGS", "MAKELEVEL", "PROFILE", "JOBS")
        kept = {name: value for name, value in os.environ.items() if name not in hidden}
        command = [os.environ.get("MAKE_TO_TEST", "make"), "PYTHON=.venv/bin/python", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=kept | environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        self.printed = done.stdout
        return [line[1] for line in self.log() if line[0] == "begin"]

    def log(self) -> list[list[str]]:
        """What the stand-in wrote down: begin or end, notebook, threads."""
        path = self.folder / "log.txt"
        return [line.split() for line in path.read_text().splitlines()] if path.is_file() else []

    def most_at_once(self) -> int:
        """The largest number of notebooks that ran side by side."""
        running = [1 if line[0] == "begin" else -1 for line in self.log()]
        return max(sum(running[:n]) for n in range(len(running) + 1))


@pytest.fixture
def checkout(tmp_path):
    """A fresh clone, with an environment."""
    return Checkout(tmp_path / "clone")


@pytest.fixture
def made(checkout):
    """A checkout in which all figures are made."""
    assert sorted(checkout.make("figures")) == STEMS
    return checkout


def test_help_names_every_target_for_people(checkout):
    """`make` alone lists the targets that have a comment, and runs nothing."""
    assert checkout.make() == []
    listed = re.findall(r"^([a-z]+) ", checkout.printed, flags=re.M)
    assert listed == re.findall(r"^(\w+):.*## ", (ROOT / "Makefile").read_text(), flags=re.M)
    assert {"help", "figures", "test", "lab", "clean"} <= set(listed)


def test_notebooks_run_in_order_two_at_a_time(checkout):
    """Data, then pretraining with all threads, then the others side by side with one each."""
    checkout.make("figures", PACE="0.2")
    lines = checkout.log()
    assert [line[:2] for line in lines[:4]] == [
        [what, stem] for stem in (FIRST, SECOND) for what in ("begin", "end")
    ]
    threads = {stem: n for what, stem, *n in lines if what == "begin"}
    assert threads == {stem: ["1"] if stem in LATER else ["all"] for stem in STEMS}
    assert checkout.most_at_once() == 2
    assert (checkout.folder / "figures" / "index.html").is_file()


def test_j_says_how_many_run_at_a_time(checkout):
    """`make -j4 figures` runs four notebooks side by side, `JOBS=1` one."""
    checkout.make("-j4", "figures", PACE="0.3")
    assert checkout.most_at_once() == 4
    (checkout.folder / "requirements.lock").touch()
    checkout.make("figures", "JOBS=1", PACE="0.01")
    assert checkout.most_at_once() == 1


@pytest.mark.parametrize(
    ("edited", "expected"),
    [
        ("requirements.lock", STEMS),
        ("notebooks/profiles/demo.yaml", STEMS),
        ("satclip_lib/files.py", STEMS),
        ("notebooks/03_embedding_space.ipynb", ["03_embedding_space"]),
        ("benchmarks/results/ablations.json", ["08_ablations"]),
        ("data/demo/checkpoints/rcf-l10/model.safetensors", LATER),
        ("README.md", []),
    ],
)
def test_an_edit_remakes_what_depends_on_it(made, edited, expected):
    """Notebooks made from it, and those after pretraining; then make does nothing, in seconds."""
    (made.folder / edited).touch()
    assert sorted(made.make("figures")) == sorted(expected)
    start = time.perf_counter()
    assert made.make("figures") == []
    assert time.perf_counter() - start < 5


def test_solutions_run_when_asked_for(made):
    """After the notebooks, with one thread each, and again when a notebook has run again."""
    solutions = [f"solutions/{stem}" for stem in STEMS]
    assert sorted(made.make("solutions")) == solutions
    assert {line[2] for line in made.log() if line[0] == "begin"} == {"1"}
    assert made.make("solutions") == [] == made.make("figures")
    (made.folder / "notebooks/03_embedding_space.ipynb").touch()
    assert sorted(made.make("solutions")) == sorted(["03_embedding_space", *solutions])


@pytest.mark.parametrize("same", ["", "yes"])
def test_pretraining_that_changes_nothing_remakes_nothing(made, same):
    """Later notebooks follow the checkpoints, not the notebook that found them up to date."""
    (made.folder / f"notebooks/{SECOND}.ipynb").touch()
    assert sorted(made.make("figures", SAME=same)) == sorted([SECOND] + ([] if same else LATER))


@pytest.mark.parametrize("name", ["embedding_globes.png", "biome_atlas.html"])
@pytest.mark.parametrize("target", ["figures", "figures/{name}"])
def test_a_deleted_figure_is_made_again(made, name, target):
    """By its notebook, which runs once, whether all figures are asked for or that one."""
    figure = made.folder / "figures" / name
    figure.unlink()
    notebook = "06_biome_clustering" if name == "biome_atlas.html" else "03_embedding_space"
    assert made.make(target.format(name=name)) == [notebook]
    assert figure.is_file() and made.make("figures") == []


def test_a_figure_of_a_fresh_clone_is_made_by_what_it_needs(checkout):
    """`make figures/biome_umap.png` runs data, pretraining and its own notebook."""
    assert checkout.make("figures/biome_umap.png") == [FIRST, SECOND, "06_biome_clustering"]


def test_clean_keeps_data_and_checkpoints(made):
    """Executed notebooks and figures go; what took long stays."""
    made.make("clean")
    assert not (made.folder / "build" / "demo").exists()
    assert not list((made.folder / "figures").iterdir())
    assert (made.folder / "data/demo/checkpoints/rcf-l10/model.safetensors").is_file()


def test_the_makefile_is_short_and_asks_nobody():
    """Fewer than 120 lines, and no program is run while make reads it."""
    text = (ROOT / "Makefile").read_text()
    assert len(text.splitlines()) < 120
    assert "$(shell" not in text and "(eval" not in text and "dry-run" not in text
