"""Which modules each notebook imports and which figures it makes: ``python -m tools.edges``.

Writes ``notebooks/edges.mk``, which the Makefile includes. Run it (``make edges``) when a
notebook or a module imports something else, or a notebook makes another figure; a test says when.
It needs nothing but Python itself.
"""

import ast
import json
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "satclip_lib"
HEADER = "# Written by `make edges`: what each notebook imports, and the figures it makes.\n"


def make_edges(root: Path = ROOT) -> str:
    """The text of ``notebooks/edges.mk``: the figures and the sources of each notebook."""
    text = HEADER
    for notebook in sorted((root / "notebooks").glob("*.ipynb")):
        code, name = read_code(notebook), notebook.stem
        figures = " ".join(f"$(FIGURES)/{figure}" for figure in list_figures(code))
        sources = " ".join(path.as_posix() for path in find_sources(code, root=root))
        text += f"\n{_wrap(f'{name} := {figures}')}\n$({name}): $(BUILD)/{name}.ipynb\n"
        text += _wrap(f"$(BUILD)/{name}.ipynb: $(call missing,$({name})) {sources}") + "\n"
    return text


def _wrap(line: str) -> str:
    return " \\\n  ".join(textwrap.wrap(line, 96, break_on_hyphens=False))


def read_code(notebook: Path) -> str:
    """The code cells of a notebook, as one text."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")


def list_figures(code: str) -> list[str]:
    """Names of the files that the code of a notebook saves in the folder of figures.

    These are ``x.png`` for ``save_figure(fig, "x", ...)``, and pages as in ``folder / "x.html"``.
    """
    found = []
    for node in _walk(code):
        match node:
            case ast.Call(func=ast.Name("save_figure"), args=[_, ast.Constant(name), *_]):
                found.append((node.lineno, f"{name}.png"))
            case ast.BinOp(op=ast.Div(), right=ast.Constant(str(name))) if name.endswith(".html"):
                found.append((node.lineno, name))
    return [name for _, name in sorted(found)]


def find_sources(code: str, *, root: Path = ROOT) -> list[Path]:
    """Files of the package that the code imports, directly or not, relative to the root.

    A name of the package itself counts as an import of the module it comes from. Files that a
    module reads have its name: ``atlas.html`` belongs to ``atlas.py``.
    """
    lazy = _read_lazy_names(root)
    found, waiting = set(), list(_list_imports(code, lazy))
    while waiting:
        path = _find_module(waiting.pop(), root)
        if path and path not in found:
            found.add(path)
            waiting += _list_imports(path.read_text(encoding="utf-8"), lazy)
    beside = {other for path in found for other in path.parent.glob(f"{path.stem}.*")}
    return sorted(path.relative_to(root) for path in found | beside)


def _list_imports(code: str, lazy: dict[str, str]) -> Iterator[str]:
    """Dotted names, each of which may be a module or something in one, and their packages."""
    for node in _walk(code):
        match node:
            case ast.Import(names):
                imported = [alias.name for alias in names]
            case ast.ImportFrom(str(module), names):
                imported = [f"{module}.{alias.name}" for alias in names]
            case ast.Attribute(ast.Name(module), name):
                imported = [f"{module}.{name}"] if f"{module}.{name}" in lazy else []
            case _:
                continue
        for name in imported:
            parts = lazy.get(name, name).split(".")
            yield from (".".join(parts[: i + 1]) for i in range(len(parts)))


@cache
def _walk(code: str) -> list[ast.AST]:
    return list(ast.walk(ast.parse(code)))


def _read_lazy_names(root: Path) -> dict[str, str]:
    """The module behind each public name of the package, by the table in its ``__init__``."""
    for node in _walk((root / PACKAGE / "__init__.py").read_text(encoding="utf-8")):
        match node:
            case ast.Assign([ast.Name("_MODULES")], table):
                modules = ast.literal_eval(table)
                return {f"{PACKAGE}.{k}": f"{PACKAGE}.{v}" for k, v in modules.items()}
    return {}


def _find_module(name: str, root: Path) -> Path | None:
    path = root.joinpath(*name.split("."))
    files = (path.with_suffix(".py"), path / "__init__.py") if name.startswith(PACKAGE) else ()
    return next((file for file in files if file.is_file()), None)


if __name__ == "__main__":
    (ROOT / "notebooks" / "edges.mk").write_text(make_edges(), encoding="utf-8")
