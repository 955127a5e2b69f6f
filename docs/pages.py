"""The pages of the site that are made from code and results."""

import ast
import json
import shutil
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import pandas as pd
from nbformat import NotebookNode

import satclip_lib
from satclip_lib.data.registry import load_registry
from satclip_lib.plotting.figures import FIGURES

MAX_OPEN_ROWS = 30  # longer tables are unfolded by the reader


def toctree(entries: Iterable[str], *, caption: str = "") -> str:
    """A hidden table of contents: the entries appear in the menus only."""
    options = ":hidden:\n:glob:\n" + (f":caption: {caption}\n" if caption else "")
    return f"\n\n```{{toctree}}\n{options}\n" + "\n".join(entries) + "\n```\n"


def html_table(rows: pd.DataFrame) -> str:
    """A table that scrolls sideways where it is wider than the screen."""
    rows = rows.rename(columns=lambda name: _one_line(name).replace("_", " "))
    html = rows.to_html(index=False, border=0, classes="table", na_rep="", justify="left")
    return f'\n<div class="wide-table">\n{html}\n</div>\n'


# --- the course ---------------------------------------------------------------------------------
def make_course_page(notebooks: Mapping[str, NotebookNode]) -> str:
    """The notebooks, with what the reader holds at the end of each, and the solutions."""
    lessons = {page: notebook for page, notebook in notebooks.items() if "solutions" not in page}
    solutions = [page for page in notebooks if "solutions" in page]
    text = "# The course\n\n| notebook | at the end |\n|---|---|\n"
    for page, notebook in lessons.items():
        title, _, purpose = notebook.cells[0].source.partition("\n\n")
        purpose = purpose.split("\n\n")[0].removeprefix("At the end ").strip()
        text += f"| [{title.removeprefix('# ')}]({page}.ipynb) | {purpose} |\n"
    text += (
        "\nIn a checkout, `make lab` opens them. Each ends with exercises"
        + ("; the solutions are in the menu." if solutions else ".")
        + "\n"
    )
    return text + toctree(lessons) + (toctree(solutions, caption="Solutions") if solutions else "")


# --- figures ------------------------------------------------------------------------------------
def make_gallery_page(source: Path, *, figures: Path) -> str:
    """All figures of the table, with captions, files to download, and interactive pages.

    On the site this page replaces the contact sheet, ``index.html`` among the figures.

    Args:
        source: Folder of the site's source; the files that are shown are copied into it.
        figures: Folder of the profile's figures. If one is missing, its tracked copy is shown.
    """
    text = "# Figures\n\nNotebooks make all figures from real data (`make figures`).\n"
    for path in sorted(set(figures.glob("*.html")) - {figures / "index.html"}):
        shutil.copy(path, source / "extra")
        title = escape(_one_line(_title(path.stem)))
        text += f'\n<p><a href="{quote(path.name)}">Interactive: {title}</a></p>\n'
    for figure_id, entry in FIGURES.items():
        shown = Path("figures", "reference", f"{figure_id}.webp")
        files = []
        for suffix in (".png", ".pdf", ".csv", ".json"):
            made = (figures / figure_id).with_suffix(suffix)
            if made.is_file():
                shutil.copy(made, source / "figures")
                files.append(f"{{download}}`{suffix[1:].upper()} <figures/{made.name}>`")
                shown = Path("figures", made.name) if suffix == ".png" else shown
        if not (source / shown).is_file():
            continue
        text += (
            f"\n## {_title(figure_id)}\n\n"
            f"```{{figure}} {shown.as_posix()}\n:alt: {entry.caption}\n\n{entry.caption}\n```\n\n"
            f"From [{entry.notebook}](notebooks/{entry.notebook}.ipynb)"
            + (". Files: " + ", ".join(files) if files else ", as tracked by git")
            + ".\n"
        )
    return text


def _title(stem: str) -> str:
    words = stem.replace("_", " ").replace("umap", "UMAP")
    return words[0].upper() + words[1:]


# --- benchmark results --------------------------------------------------------------------------
def make_benchmarks_page(folder: Path) -> str:
    """Every result file as tables, under the first sentence of its script's docstring."""
    text = "# Benchmarks\n\nMeasured by the scripts in `benchmarks/`. A bar is a number's goal.\n"
    for path in sorted((folder / "results").glob("*.json")):
        script = folder / f"{path.stem}.py"
        about = ast.get_docstring(ast.parse(script.read_text())) if script.is_file() else ""
        about = (about or "").split("``")[0].strip().removesuffix(":")  # before the command
        text += f"\n## {_title(path.stem)}\n\n{about}\n"
        text += tables_of(json.loads(path.read_text()))
    return text


def tables_of(result: dict[str, Any]) -> str:
    """Show parsed JSON as tables: one for each list of rows, and one for all single values."""
    flat = pd.json_normalize(result, sep=", ").astype(object).iloc[0]
    is_list = flat.map(_is_list_of_rows)
    text = ""
    for name, rows in flat[is_list].items():
        table = pd.json_normalize(rows, sep=" ")
        single = [column for column in table if not table[column].map(_is_list_of_rows).any()]
        title = escape(_one_line(name).replace("_", " "))
        is_open = " open" if len(table) <= MAX_OPEN_ROWS else ""
        text += f"\n<details{is_open}><summary><b>{title}</b>, {len(table)} rows</summary>\n"
        text += html_table(table[single].map(_show)) + "\n</details>\n"
    rest = flat[~is_list].map(_show)
    return text + html_table(pd.DataFrame({"what": rest.index.map(_one_line), "value": rest}))


def _is_list_of_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "" if value != value else f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(map(_show, value))
    return "" if value is None else _one_line(value)


def _one_line(value: Any) -> str:
    """Text on one line: after an empty line, Markdown would be parsed again inside HTML."""
    return " ".join(str(value).split())


# --- data ---------------------------------------------------------------------------------------
def make_registry_section() -> str:
    """A table of the registered files."""
    rows = pd.DataFrame(
        {
            "file": entry.name,
            "content": entry.content,
            "units": entry.units,
            "licence": entry.licence,
            "source": entry.citation,
            "MB": "" if entry.num_bytes is None else f"{entry.num_bytes / 1e6:.1f}",
            "SHA-256": entry.sha256[:12],
        }
        for entry in load_registry().values()
    )
    return "\n## Every file\n" + html_table(rows)


# --- API ----------------------------------------------------------------------------------------
def module_name(path: PurePosixPath) -> str:
    """Dotted name of the module in a file, given its path from the repository's root."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def make_api_pages(package: Path) -> dict[str, str]:
    """A page for each module, and one with the public names and the list of modules."""
    text = "# API\n\n`import satclip_lib` and use these. Longitude first, degrees, always.\n\n"
    text += "| name | what |\n|---|---|\n"
    for name in satclip_lib.__all__:
        member = getattr(satclip_lib, name)
        full = f"{member.__module__}.{name}"
        text += f"| {{py:obj}}`{name} <{full}>` | {_first_line(member.__doc__)} |\n"
    text += "\n## All modules\n\n| module | what |\n|---|---|\n"
    pages = {}
    for path in sorted(package.rglob("*.py")):
        name = module_name(PurePosixPath(path.relative_to(package.parent).as_posix()))
        module = ast.parse(path.read_text())
        if name == package.name or len(module.body) == 1:  # nothing but a docstring
            continue
        short = name.removeprefix("satclip_lib.")
        text += f"| [{short}]({name}.md) | {_first_line(ast.get_docstring(module))} |\n"
        pages[f"api/{name}"] = f"# {short}\n\n```{{eval-rst}}\n.. automodule:: {name}\n```\n"
    modules = [page.removeprefix("api/") for page in pages]
    return {"api/index": text + toctree(modules)} | pages


def _first_line(docstring: str | None) -> str:
    return escape((docstring or "").strip().split("\n")[0])
