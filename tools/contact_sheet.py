"""All figures on one page: ``index.html`` in the folder of figures.

``python -m tools.contact_sheet --profile demo`` writes it from the sidecars.
"""

import argparse
import json
import os
from html import escape
from pathlib import Path
from string import Template

from satclip_lib.files import Workspace, write_atomically
from satclip_lib.plotting.figures import FIGURES

# The page, and what each figure becomes in it.
PAGE, CARD = map(
    Template, Path(__file__).with_suffix(".html").read_text("utf-8").split("<!-- a figure -->\n")
)


def save_contact_sheet(workspace: Workspace) -> Path:
    """Write ``index.html``: every figure that is there, in the order of the table of figures.

    Each has its caption, the numbers to take away, where it came from, and links to its files
    and to the executed notebook that made it.
    """
    made = [name for name in FIGURES if (workspace.figures / f"{name}.json").is_file()]
    pages = sorted(page.name for page in workspace.figures.glob("*_atlas.html"))
    links = [f'<a href="{page}">{page}</a>' for page in pages]
    target = workspace.figures / "index.html"
    with write_atomically(target) as scratch:
        page = PAGE.substitute(
            profile=escape(workspace.profile),
            explore=f"To explore, in any browser: {', '.join(links)}." if links else "",
            cards="\n".join(_make_card(workspace, name) for name in made),
        )
        scratch.write_text(page, encoding="utf-8")
    return target


def _make_card(workspace: Workspace, figure_id: str) -> str:
    stem = workspace.figures / figure_id
    about = json.loads(stem.with_suffix(".json").read_text())
    kinds = [
        kind for kind in ("png", "pdf", "csv", "json") if stem.with_suffix(f".{kind}").is_file()
    ]
    executed = workspace.build / f"{about['notebook']}.ipynb"
    inputs = {"patches": about["patches"], **about["checkpoints"]}
    return CARD.substitute(
        figure_id=figure_id,
        number=1 + list(FIGURES).index(figure_id),
        caption=escape(about["caption"]),
        notebook=escape(about["notebook"]),
        notebook_path=Path(os.path.relpath(executed, workspace.figures)).as_posix(),
        seed=about["seed"],
        inputs=", ".join(f"{escape(name)} {digest[:8]}" for name, digest in inputs.items()),
        links=", ".join(f'<a href="{figure_id}.{kind}">{kind.upper()}</a>' for kind in kinds),
        numbers="".join(
            f"<dt>{escape(name)}</dt><dd>{value:g}</dd>" for name, value in about["numbers"].items()
        ),
    )


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description="Put all figures of a profile on one page.")
    parser.add_argument("--profile", default="demo")
    save_contact_sheet(Workspace(parser.parse_args().profile))


if __name__ == "__main__":
    main()
