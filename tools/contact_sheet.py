"""All figures on one page: ``index.html`` in the folder of figures.

``python -m tools.contact_sheet --profile demo`` writes it from the sidecars.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from jinja2 import Template

from satclip_lib.files import Workspace, write_text
from satclip_lib.plotting.figures import FIGURES

PAGE = Template(Path(__file__).with_suffix(".html").read_text("utf-8"), autoescape=True)


def save_contact_sheet(workspace: Workspace) -> Path:
    """Write ``index.html``: every figure that is there, in the order of the table of figures.

    Each has its caption, the numbers to take away, where it came from, and links to its files
    and to the executed notebook that made it.
    """
    pages = sorted(page.name for page in workspace.figures.glob("*_atlas.html"))
    content = PAGE.render(
        profile=workspace.profile,
        pages=[name.encode(errors="replace").decode() for name in pages],
        cards=[
            _describe(workspace, name)
            for name in FIGURES
            if (workspace.figures / f"{name}.json").exists()
        ],
    )
    target = workspace.figures / "index.html"
    write_text(target, content)
    return target


def _describe(workspace: Workspace, figure_id: str) -> dict[str, Any]:
    """What the page shows of a figure; without ``about`` if its sidecar is damaged."""
    stem = workspace.figures / figure_id
    card = {"id": figure_id, "number": 1 + list(FIGURES).index(figure_id)}
    kinds = ("png", "pdf", "csv", "json")
    try:
        about = json.loads(stem.with_suffix(".json").read_text("utf-8"))
        inputs = {"patches": about["patches"], **about["checkpoints"]}
        executed = workspace.build / f"{about['notebook']}.ipynb"
        return card | {
            "about": {name: str(about[name]) for name in ("caption", "notebook", "seed")}
            | {
                "inputs": ", ".join(f"{name} {digest[:8]}" for name, digest in inputs.items()),
                "numbers": {name: f"{value:g}" for name, value in about["numbers"].items()},
            },
            "notebook": Path(os.path.relpath(executed, workspace.figures)).as_posix(),
            "kinds": [kind for kind in kinds if stem.with_suffix(f".{kind}").is_file()],
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return card


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description="Put all figures of a profile on one page.")
    parser.add_argument("--profile", default="demo")
    save_contact_sheet(Workspace(parser.parse_args().profile))


if __name__ == "__main__":
    main()
