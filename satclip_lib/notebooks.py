"""Run a notebook headlessly with the parameters of a profile.

``python -m satclip_lib.notebooks 02_pretraining --profile smoke`` executes
``notebooks/02_pretraining.ipynb`` into ``build/smoke/02_pretraining.ipynb``.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import papermill
import yaml

from satclip_lib.files import Workspace, write_atomically

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
    return {name: about["default"] for name, about in papermill.inspect_notebook(path).items()}


def run_notebook(notebook: str, *, profile: str = "demo") -> Path:
    """Execute one notebook; its executed copy appears only if every cell ran.

    A notebook that fails leaves what it had done in ``build/<profile>/<notebook>.failed.ipynb``.

    Returns:
        Path of the executed notebook.

    Raises:
        ValueError: if notebook, profile or a parameter of the profile is unknown.
        papermill.PapermillExecutionError: if a cell fails.
    """
    list_parameters(notebook)
    parameters = {"profile": profile} | load_profile(profile).get(notebook, {})
    target = Workspace(profile).build / f"{notebook}.ipynb"
    failed = target.with_suffix(".failed.ipynb")
    with write_atomically(target) as scratch:
        try:
            papermill.execute_notebook(
                NOTEBOOKS_FOLDER / f"{notebook}.ipynb",
                scratch,
                parameters,
                kernel_name="python3",
                cwd=NOTEBOOKS_FOLDER,
                progress_bar={"desc": notebook},
            )
        except papermill.PapermillExecutionError:
            os.replace(scratch, failed)
            raise
    failed.unlink(missing_ok=True)
    return target


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description="Execute a notebook with a profile's parameters.")
    parser.add_argument("notebook", help="for example 02_pretraining")
    parser.add_argument("--profile", default="demo", help=f"one of {list_profiles()}")
    arguments = parser.parse_args()
    os.environ["SATCLIP_PROGRESS"] = "0"  # in the kernel: executed copies need no bars
    run_notebook(arguments.notebook, profile=arguments.profile)


if __name__ == "__main__":
    main()
