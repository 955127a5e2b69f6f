"""The notebooks, and their code run in the process of a test."""

from pathlib import Path
from types import SimpleNamespace

import nbformat

from tools.run_notebook import load_profile

ROOT = Path(__file__).parents[1]
STEMS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
SOLUTIONS = sorted(path.stem for path in (ROOT / "notebooks" / "solutions").glob("*.ipynb"))


def read_notebook(name: str) -> nbformat.NotebookNode:
    """A notebook as it is committed."""
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


def run_cells(name: str, *, profile: str) -> dict:
    """Run the code of a notebook here, with the parameters of a profile; what it defined."""
    names: dict = {"display": lambda *shown, **options: SimpleNamespace(update=lambda shown: None)}
    for number, cell in enumerate(read_notebook(name).cells):
        if cell.cell_type == "code":
            exec(compile(cell.source, f"{name}, cell {number}", "exec"), names)  # our own code
        if "parameters" in cell.metadata.get("tags", []):
            names |= {"profile": profile} | load_profile(profile).get(name, {})
    return names
