"""Make the site from what exists: ``python -m docs.build_site --profile demo``.

Collects pages in ``build/site-work``, renders them with Sphinx, looks for broken links, and only
then moves the result to ``build/site``. Nothing is executed and nothing is downloaded.
"""

import argparse
import re
import shutil
import sys
from pathlib import Path, PurePosixPath

import nbformat
from sphinx.cmd.build import build_main

from docs import pages
from docs.check_site import find_problems
from satclip_lib.files import Workspace, project_root, write_atomically
from tools.run_notebook import list_profiles

ROOT = Path(__file__).resolve().parents[1]
# Documents of the repository and the page each becomes; those that do not exist are left out.
DOCUMENTS = {
    "README.md": "index",
    "data/README.md": "data/index",
    "data/natural_earth/README.md": "data/natural_earth",
    "MODELCARD.md": "models",
    "benchmarks/RESULTS.md": "results",
    "benchmarks/README.md": "benchmarks",
    "figures/README.md": "gallery",
    "REPRODUCING.md": "project/reproducing",
    "CONTRIBUTING.md": "project/contributing",
    "CHANGELOG.md": "project/changelog",
    **{f"docs/{page}.md": page for page in ("faq", "locations", "regional", "cloud")},
}
GENERATED = ("benchmarks", "gallery")  # pages that are generated instead of made from the document
# Short titles, so that the first six and the search stand on one line; the others are under "More".
MENU = [
    "Course <course>", "Figures <gallery>", "Results <results>", "Questions <faq>",
    "Inputs <locations>", "API <api/index>", "Data <data/index>", "benchmarks", "models",
    "regional", "cloud", "project/*",
]  # fmt: skip
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")


def build_site(profile: str = "demo") -> Path:
    """Build the whole site.

    Returns:
        Its folder.

    Raises:
        RuntimeError: If Sphinx gives a warning, or a link or an image is broken.
    """
    site = project_root() / "build" / "site"
    work = project_root() / "build" / "site-work"
    shutil.rmtree(work, ignore_errors=True)
    source, doctrees, html = (work / name for name in ("source", "doctrees", "html"))
    collect_pages(source, workspace=Workspace(profile))
    with write_atomically(site) as scratch:
        options = ["-b", "html", "-q", "-W", "--keep-going", "-d", str(doctrees)]
        if build_main([*options, str(source), str(html)]):
            raise RuntimeError("Sphinx found something to warn of, see above")
        (html / "_static" / "webpack-macros.html").unlink()  # a template that the theme leaves
        if problems := find_problems(html):
            raise RuntimeError("the site is broken:\n" + "\n".join(problems))
        html.rename(scratch)
    return site


def collect_pages(source: Path, *, workspace: Workspace) -> None:
    """Write all pages, as Markdown and notebooks, and what they show, into a folder."""
    shutil.copytree(ROOT / "docs", source, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    shutil.copy(ROOT / "docs" / "conf.py", source)
    shutil.copytree(ROOT / "figures" / "reference", source / "figures" / "reference")
    (source / "extra").mkdir()
    notebooks = collect_notebooks(source, build=workspace.build, figures=workspace.figures)
    written = {
        "course": pages.make_course_page(notebooks),
        "gallery": pages.make_gallery_page(source, figures=workspace.figures),
        "benchmarks": pages.make_benchmarks_page(ROOT / "benchmarks"),
        **pages.make_api_pages(ROOT / "satclip_lib"),
    }
    for document, page in DOCUMENTS.items():
        if page not in GENERATED and (ROOT / document).is_file():
            text = (ROOT / document).read_text()
            written[page] = rewrite_links(text, document=document, page=page)
    written["data/index"] += pages.make_registry_section() + pages.toctree(["natural_earth"])
    written["index"] += pages.toctree(MENU)
    for page, text in written.items():
        path = source / f"{page}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def collect_notebooks(
    source: Path, *, build: Path, figures: Path
) -> dict[str, nbformat.NotebookNode]:
    """Copy the executed notebooks, or the committed ones of those that have not run.

    Returns:
        The notebooks by page.
    """
    notebooks = {}
    for path in sorted((ROOT / "notebooks").rglob("[0-9]*.ipynb")):
        document = path.relative_to(ROOT).as_posix()
        page = document.removesuffix(".ipynb")
        executed = build / path.relative_to(ROOT / "notebooks")
        notebook = nbformat.read(executed if executed.is_file() else path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = rewrite_links(cell.source, document=document, page=page)
            for output in cell.get("outputs", []):
                if "text/html" in output.get("data", {}):
                    shown = output.data["text/html"]
                    output.data["text/html"] = frame_files(shown, page=page, figures=figures)
        if not executed.is_file():
            target = "solutions" if "solutions" in page else "figures"
            notebook.cells[0].source += (
                f"\n\n```{{note}}\nThis notebook was not run for this site: `make {target}` runs "
                "it.\n```"
            )
        target = source / document
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, target)
        notebooks[page] = notebook
    return notebooks


def frame_files(shown: str, *, page: str, figures: Path) -> str:
    """Make iframes that embed a whole file load the site's copy of the file instead.

    Args:
        shown: HTML of an output.
        page: Path of the page that has it, from the site's root, without suffix.
        figures: Folder of the files of which the site has copies.
    """

    def rewrite(match: re.Match) -> str:
        up = "../" * page.count("/")
        return f'src="{up}{match[1]}"' if (figures / match[1]).is_file() else match[0]

    return re.sub(r'data-file="([^"]+)" srcdoc="[^"]*"', rewrite, shown)


def rewrite_links(text: str, *, document: str, page: str) -> str:
    """Rewrite links between files of the repository as links between pages of the site.

    A link to a file that is no page is replaced by its text, as is an image from the network.

    Args:
        text: Markdown.
        document: Path of the file that has the text, from the repository's root.
        page: Path of the page it becomes, from the site's root, without suffix.
    """

    def rewrite(match: re.Match) -> str:
        image, label, target = match.groups()
        label = LINK.sub(rewrite, label)
        if target.startswith(("http:", "https:", "mailto:")):
            return label if image else f"[{label}]({target})"
        path, _, anchor = target.partition("#")
        if not path:
            return match[0]
        found = find_page(PurePosixPath(document).parent / path)
        if found is None:
            return label
        up = "../" * page.count("/")
        return f"{image}[{label}]({up}{found}{'#' + anchor if anchor else ''})"

    return LINK.sub(rewrite, text)


def find_page(target: PurePosixPath) -> str | None:
    """The file in the site's source that stands for a file of the repository, if there is one."""
    path = (ROOT / target).resolve()
    if not path.exists() or not path.is_relative_to(ROOT):
        return None
    name = path.relative_to(ROOT).as_posix()
    if name in DOCUMENTS:
        return DOCUMENTS[name] + ".md"
    if name.startswith("benchmarks"):
        return "benchmarks.md"
    if name.startswith("satclip_lib/") and path.suffix == ".py":
        return f"api/{pages.module_name(PurePosixPath(name))}.md"
    if re.match(r"notebooks/(solutions/)?\d\d_\w+\.ipynb|figures/reference/\w+\.webp", name):
        return name
    return None


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="demo", help=f"one of {list_profiles()}")
    try:
        site = build_site(parser.parse_args().profile)
    except RuntimeError as error:
        sys.exit(str(error))
    print(f"open {site / 'index.html'}")


if __name__ == "__main__":
    main()
