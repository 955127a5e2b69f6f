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

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Figures, $profile profile</title>
<link rel="icon" href="data:,">
<style>
  body { font: 15px/1.45 system-ui, sans-serif; color: #222; margin: 2rem auto; max-width: 1300px;
         padding: 0 1rem; }
  main { display: grid; grid-template-columns: repeat(auto-fill, minmax(360px, 1fr)); gap: 1.4rem; }
  figure { margin: 0; padding: 1rem; border: 1px solid #ddd; border-radius: 6px; }
  img { display: block; width: 100%; height: 260px; object-fit: contain; margin-bottom: .7rem; }
  figcaption b { display: block; }
  dl { display: grid; grid-template-columns: 1fr auto; gap: 0 1rem; margin: .5rem 0; }
  dd { margin: 0; font-variant-numeric: tabular-nums; }
  small, dl { color: #555; font-size: 13px; }
</style>
<h1>Figures</h1>
<p>Profile <b>$profile</b>. $explore Click a picture for its full size.</p>
<main>
$cards
</main>
</html>
""")
CARD = Template("""<figure id="$figure_id">
  <a href="$figure_id.png"><img src="$figure_id.png" alt="$figure_id" loading="lazy"></a>
  <figcaption><b>Figure $number. $figure_id</b> $caption
    <dl>$numbers</dl>
    <small>Made by <a href="$notebook_path">$notebook</a>, seed $seed, $inputs.
      Files: $links</small>
  </figcaption>
</figure>""")


def save_contact_sheet(workspace: Workspace) -> Path:
    """Write ``index.html``: every figure that is there, in the order of the table of figures.

    Each has its caption, the numbers to take away, where it came from, and links to its files
    and to the executed notebook that made it.
    """
    cards = [
        _make_card(workspace, figure_id, number)
        for number, figure_id in enumerate(FIGURES, 1)
        if (workspace.figures / f"{figure_id}.json").is_file()
    ]
    pages = sorted(page.name for page in workspace.figures.glob("*_atlas.html"))
    links = [f'<a href="{page}">{page}</a>' for page in pages]
    target = workspace.figures / "index.html"
    with write_atomically(target) as scratch:
        page = PAGE.substitute(
            profile=escape(workspace.profile),
            explore=f"To explore, in any browser: {', '.join(links)}." if links else "",
            cards="\n".join(cards),
        )
        scratch.write_text(page, encoding="utf-8")
    return target


def _make_card(workspace: Workspace, figure_id: str, number: int) -> str:
    about = json.loads((workspace.figures / f"{figure_id}.json").read_text())
    kinds = [k for k in ("png", "pdf", "csv", "json") if _path(workspace, figure_id, k).is_file()]
    executed = workspace.build / f"{about['notebook']}.ipynb"
    inputs = {"patches": about["patches"], **about["checkpoints"]}
    return CARD.substitute(
        figure_id=figure_id,
        number=number,
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


def _path(workspace: Workspace, figure_id: str, kind: str) -> Path:
    return workspace.figures / f"{figure_id}.{kind}"


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description="Put all figures of a profile on one page.")
    parser.add_argument("--profile", default="demo")
    save_contact_sheet(Workspace(parser.parse_args().profile))


if __name__ == "__main__":
    main()
