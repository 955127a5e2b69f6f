"""Which files each notebook is made from, and which figures it makes, for the Makefile.

``python satclip_lib/sources.py build/demo figures`` prints words of the form ``target:source``.
It needs nothing but Python itself, because ``make`` asks before anything is installed.
"""

import ast
import json
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SAVES = r'save_figure\(\s*\w+,\s*"(\w+)"|figures / "(\w+\.html)"'


def list_edges(build: Path, figures: Path) -> Iterator[tuple[str, str]]:
    """Pairs of target and source, for the notebooks executed into ``build`` and their figures.

    A notebook that was executed but whose figures are not all there any more has the source
    ``FORCE``, by which it is run again.
    """
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        executed = build / notebook.name
        code = read_code(notebook)
        made = [figures / name for name in list_figures(code)]
        yield from ((str(executed), str(source)) for source in find_sources(code))
        yield from ((str(figure), str(executed)) for figure in made)
        if not all((ROOT / figure).is_file() for figure in made):
            yield str(executed), "FORCE"


def read_code(notebook: Path) -> str:
    """The code cells of a notebook, as one text."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")


def list_figures(code: str) -> list[str]:
    """Names of the files that the code of a notebook saves in the folder of figures."""
    return [page or f"{figure_id}.png" for figure_id, page in re.findall(SAVES, code)]


def find_sources(code: str) -> list[Path]:
    """Files of this package that the code imports, directly or not, relative to the root.

    Files that are read belong to the module of the same name: ``atlas.js`` to ``atlas.py``.
    """
    found, waiting = set(), list(_list_imports(code))
    while waiting:
        path = _find_module(waiting.pop())
        if path and path not in found:
            found.add(path)
            waiting += _read_imports(path)
    beside = {other for path in found for other in path.parent.glob(f"{path.stem}.*")}
    return sorted(path.relative_to(ROOT) for path in found | beside)


@cache
def _read_imports(path: Path) -> list[str]:
    return list(_list_imports(path.read_text(encoding="utf-8")))


def _list_imports(code: str) -> Iterator[str]:
    """Dotted names, each of which may be a module or something in one, and their packages."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[: i + 1]) for i in range(len(parts)))


def _find_module(name: str) -> Path | None:
    if name.split(".")[0] != "satclip_lib":
        return None
    path = ROOT.joinpath(*name.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


if __name__ == "__main__":
    sys.stdout.write(
        "\n".join(f"{target}:{source}" for target, source in list_edges(*map(Path, sys.argv[1:])))
    )
