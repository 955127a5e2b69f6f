"""Run a notebook headlessly with the parameters of a profile.

``python -m tools.run_notebook 02_pretraining --profile smoke`` executes
``notebooks/02_pretraining.ipynb`` into ``build/smoke/02_pretraining.ipynb``.
"""

import argparse
import ast
import logging
import os
import time
from pathlib import Path
from typing import Any

import nbformat
import papermill
import yaml

from satclip_lib.files import Workspace, write_atomically
from tools.edges import list_figures, read_code

logger = logging.getLogger("tools.run_notebook")  # also when this module is run

NOTEBOOKS_FOLDER = Path(__file__).resolve().parent.parent / "notebooks"


def list_profiles() -> list[str]:
    """Names of the profiles that can be run."""
    return sorted(path.stem for path in (NOTEBOOKS_FOLDER / "profiles").glob("*.yaml"))


def load_profile(profile: str) -> dict[str, dict[str, Any]]:
    """Parameters by notebook, where the profile's differ from the notebook's own.

    The values in a notebook's parameters cell are the demo profile; the others say what differs.

    Raises:
        ValueError: if the profile is unknown, or names an unknown notebook or parameter.
    """
    if profile not in list_profiles():
        raise ValueError(f"unknown profile {profile!r}; choose from {list_profiles()}")
    path = NOTEBOOKS_FOLDER / "profiles" / f"{profile}.yaml"
    parameters = yaml.safe_load(path.read_text()) or {}
    for notebook, values in parameters.items():
        known = list_parameters(notebook)
        if unknown := sorted(set(values) - set(known)):
            raise ValueError(
                f"{path.name} sets {unknown} for {notebook}, whose parameters are {sorted(known)}"
            )
    return parameters


def list_parameters(notebook: str) -> dict[str, Any]:
    """Names and default values (as source text) of a notebook's parameters.

    Raises:
        ValueError: if there is no such notebook.
    """
    path = NOTEBOOKS_FOLDER / f"{notebook}.ipynb"
    if not path.is_file():
        known = sorted(p.stem for p in NOTEBOOKS_FOLDER.glob("*.ipynb"))
        raise ValueError(f"unknown notebook {notebook!r}; choose from {known}")
    cells = nbformat.read(path, as_version=4).cells
    (source,) = [c.source for c in cells if "parameters" in c.metadata.get("tags", [])]
    return {
        line.targets[0].id: ast.get_source_segment(source, line.value)
        for line in ast.parse(source).body
    }


def run_notebook(notebook: str, *, profile: str = "demo") -> Path:
    """Execute one notebook; its executed copy appears only if every cell ran.

    A notebook that fails leaves what it had done in ``build/<profile>/<notebook>.failed.ipynb``.
    Start, end and every figure are logged, see :class:`Stage`.

    Returns:
        Path of the executed notebook.

    Raises:
        ValueError: if notebook, profile or a parameter of the profile is unknown.
        papermill.PapermillExecutionError: if a cell fails.
        nbclient.exceptions.DeadKernelError: if the kernel is killed.
    """
    list_parameters(notebook)
    parameters = {"profile": profile} | load_profile(profile).get(notebook, {})
    target = Workspace(profile).build / f"{notebook}.ipynb"
    failed = target.with_suffix(".failed.ipynb")
    stage = Stage(notebook, profile=profile)
    stage.log("started")
    with write_atomically(target) as scratch:
        try:
            papermill.execute_notebook(
                NOTEBOOKS_FOLDER / f"{notebook}.ipynb",
                scratch,
                parameters,
                kernel_name="python3",
                cwd=NOTEBOOKS_FOLDER,
                progress_bar=False,
                on_cell_executed=stage.log_figures,
                extra_arguments=["--log-level=50"],  # of the kernel, which chats otherwise
            )
        except Exception:
            if scratch.is_file():
                os.replace(scratch, failed)
                stage.log(f"failed, see {failed}")
            raise
    failed.unlink(missing_ok=True)
    # Dated when it started, so that what is edited meanwhile is newer, and so is what it made.
    os.utime(target, (stage.own_start, stage.own_start))
    stage.log(f"done in {time.time() - stage.own_start:.0f} s")
    return target


class Stage:
    """Progress of several notebooks that run one after another or side by side.

    ``SATCLIP_STAGE``, which ``make figures`` sets, holds when they started (seconds since 1970)
    and which notebooks they are; without it the notebook is on its own.

    Args:
        notebook: the one whose progress is logged.
        profile: of the run.
    """

    def __init__(self, notebook: str, *, profile: str):
        self.notebook, self.figures = notebook, Workspace(profile).figures
        self.own_start = time.time()
        start, *notebooks = os.environ.get("SATCLIP_STAGE", "").split() or [self.own_start]
        self.start = float(start)
        self.planned = [
            name
            for other in dict.fromkeys([*notebooks, notebook])
            for name in list_figures(read_code(NOTEBOOKS_FOLDER / f"{other}.ipynb"))
        ]

    def log(self, message: str) -> None:
        """Log a message with the time since the first notebook started."""
        minutes, seconds = divmod(int(time.time() - self.start), 60)
        logger.info("%3d:%02d  %-25s %s", minutes, seconds, self.notebook, message)

    def log_figures(self, cell: dict, **_) -> None:
        """Log the figures that a cell, which has just been executed, was there to make."""
        if cell["cell_type"] == "code":
            for name in list_figures(cell["source"]):
                self.log(f"figure {self._count_made()} of {len(self.planned)}: {name}")

    def _count_made(self) -> int:
        """Figures of all notebooks that have been written since the first one started."""
        files = [self.figures / name for name in self.planned]
        return sum(file.is_file() and file.stat().st_mtime >= int(self.start) for file in files)


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description="Execute a notebook with a profile's parameters.")
    parser.add_argument("notebook", help="for example 02_pretraining")
    parser.add_argument("--profile", default="demo", help=f"one of {list_profiles()}")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("satclip_lib").setLevel(logging.INFO)
    os.environ["SATCLIP_PROGRESS"] = "0"  # in the kernel: executed copies need no bars
    run_notebook(arguments.notebook, profile=arguments.profile)


if __name__ == "__main__":
    main()
