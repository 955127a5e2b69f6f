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

from satclip_lib.files import Workspace, project_root, write_atomically
from tools import claims
from tools.edges import list_figures

logger = logging.getLogger("tools.run_notebook")  # also when this module is run

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS_FOLDER = ROOT / "notebooks"


def list_profiles() -> list[str]:
    """Names of the profiles that can be run."""
    return sorted(path.stem for path in (NOTEBOOKS_FOLDER / "profiles").glob("*.yaml"))


def load_profile(profile: str) -> dict[str, dict[str, Any]]:
    """Parameters by notebook, where the profile's differ from the notebook's own.

    The values in a notebook's parameters cell are the demo profile; the others say what differs.

    Raises:
        ValueError: If the profile is unknown, or names an unknown notebook or parameter.
    """
    parameters = read_profile(profile)
    for name in ("environment", "recipes"):
        parameters.pop(name, None)
    for notebook, values in parameters.items():
        known = list_parameters(notebook)
        if unknown := sorted(set(values) - set(known)):
            raise ValueError(
                f"{profile}.yaml sets {unknown} for {notebook}, "
                f"whose parameters are {sorted(known)}"
            )
    return parameters


def load_environment(profile: str) -> dict[str, str]:
    """Environment variables of a profile; their values are paths below the project's folder."""
    variables = read_profile(profile).get("environment", {})
    return {name: str(project_root() / path) for name, path in variables.items()}


def read_profile(profile: str) -> dict[str, Any]:
    """All settings of a profile: parameters by notebook, ``environment`` and ``recipes``.

    Raises:
        ValueError: If the profile is unknown.
    """
    if profile not in list_profiles():
        raise ValueError(f"unknown profile {profile!r}; choose from {list_profiles()}")
    path = NOTEBOOKS_FOLDER / "profiles" / f"{profile}.yaml"
    return yaml.safe_load(path.read_text()) or {}


def list_parameters(notebook: str) -> dict[str, Any]:
    """Names and default values (as source text) of a notebook's parameters.

    Raises:
        ValueError: If there is no such notebook.
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
    Start, end and every figure are logged, with the time since ``SATCLIP_STARTED`` (seconds since
    1970, set by ``make figures``) or else since this notebook started. So is every claim that does
    not hold, see :mod:`tools.claims`.

    Returns:
        Path of the executed notebook.

    Raises:
        ValueError: If notebook, profile or a parameter of the profile is unknown.
        papermill.PapermillExecutionError: If a cell fails.
        nbclient.exceptions.DeadKernelError: If the kernel is killed.
    """
    list_parameters(notebook)
    parameters = {"profile": profile} | load_profile(profile).get(notebook, {})
    target = Workspace(profile).build / f"{notebook}.ipynb"
    failed = target.with_suffix(".failed.ipynb")
    own_start = time.time()
    start = float(os.environ.get("SATCLIP_STARTED", own_start))

    def log(message: str) -> None:
        minutes, seconds = divmod(int(time.time() - start), 60)
        logger.info("%3d:%02d  %-25s %s", minutes, seconds, notebook, message)

    def log_cell(cell: dict, **_) -> None:
        if cell["cell_type"] == "code":
            for name in list_figures(cell["source"]):
                log(f"made {name}")
            for output in cell["outputs"]:
                for line in output.get("text", "").splitlines():
                    if line.startswith(claims.FALSE):
                        log(line)

    exec_lines = []
    if profile in claims.REPORTED:
        line = "from tools.claims import report_claims; report_claims()"
        exec_lines = [f"--InteractiveShellApp.exec_lines={line}"]
    log("started")
    with write_atomically(target) as scratch:
        try:
            papermill.execute_notebook(
                NOTEBOOKS_FOLDER / f"{notebook}.ipynb",
                scratch,
                parameters,
                kernel_name="python3",
                cwd=NOTEBOOKS_FOLDER,
                progress_bar=False,
                on_cell_executed=log_cell,
                extra_arguments=["--log-level=50", *exec_lines],  # the kernel chats otherwise
            )
        except Exception:
            if scratch.is_file():
                os.replace(scratch, failed)
                log(f"failed, see {failed}")
            raise
    failed.unlink(missing_ok=True)
    # Dated when it started, so that what is edited meanwhile is newer, and so is what it made.
    os.utime(target, (own_start, own_start))
    log(f"done in {time.time() - own_start:.0f} s")
    return target


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description="Execute a notebook with a profile's parameters.")
    parser.add_argument("notebook", help="for example 02_pretraining")
    parser.add_argument("--profile", default="demo", help=f"one of {list_profiles()}")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    logger.setLevel(logging.INFO)
    os.environ |= load_environment(arguments.profile)
    # In the kernel: no bars in executed copies, and the library of this checkout.
    os.environ["SATCLIP_PROGRESS"] = "0"
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    )
    run_notebook(arguments.notebook, profile=arguments.profile)


if __name__ == "__main__":
    main()
