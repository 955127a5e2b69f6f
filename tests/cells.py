"""The notebooks, and their code run in the process of a test."""

import ast
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import nbformat

from tools.claims import REPORTED, ClaimReporter
from tools.run_notebook import load_profile

ROOT = Path(__file__).parents[1]
STEMS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
SOLUTIONS = sorted(path.stem for path in (ROOT / "notebooks" / "solutions").glob("*.ipynb"))


def read_notebook(name: str) -> nbformat.NotebookNode:
    """A notebook as it is committed."""
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


def run_cells(
    name: str, *, profile: str, edits: Sequence[tuple[str, str]] = (), **parameters
) -> dict:
    """Run the code of a notebook here; what it defined.

    Args:
        name: Notebook, below ``notebooks/``.
        profile: Profile whose folders and parameters are used.
        edits: Pieces of code, and what stands in their place. Each stands in one cell only.
        parameters: Parameters that differ from the profile's.
    """
    names: dict = {"display": lambda *shown, **options: SimpleNamespace(update=lambda shown: None)}
    waiting = list(edits)
    for number, cell in enumerate(read_notebook(name).cells):
        if cell.cell_type == "code":
            for old, new in [edit for edit in waiting if edit[0] in cell.source]:
                cell.source = cell.source.replace(old, new)
                waiting.remove((old, new))
            code = ast.parse(cell.source)
            if profile in REPORTED:
                code = ClaimReporter().visit(code)
            exec(compile(code, f"{name}, cell {number}", "exec"), names)  # our own code
        if "parameters" in cell.metadata.get("tags", []):
            names |= {"profile": profile} | load_profile(profile).get(name, {}) | parameters
    assert not waiting, f"not in {name}: {waiting}"
    return names
