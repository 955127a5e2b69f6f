"""What make knows about notebooks: their sources and figures, no more and no less."""

import subprocess
import sys
from pathlib import Path

from tools import edges
from tools.edges import find_sources, list_edges, list_figures

ROOT = Path(__file__).parents[1]


def _names(code: str) -> set[str]:
    return {path.as_posix() for path in find_sources(code)}


def test_imports_are_followed():
    """A module is a source, and so are those it imports, inside functions as well, and packages."""
    names = _names("from satclip_lib.data.land import sample_land_lonlat")
    assert names == {
        "satclip_lib/__init__.py",
        "satclip_lib/data/__init__.py",
        "satclip_lib/sphere.py",
        "satclip_lib/data/blue_marble.py",
    } | _names("import satclip_lib")
    assert "satclip_lib/training/fit.py" not in names


def test_files_beside_a_module_belong_to_it():
    """A change of the atlas's page or script remakes what is made by the atlas, nothing else."""
    atlas = _names("import numpy\nfrom satclip_lib.plotting.atlas import save_atlas")
    assert {f"satclip_lib/plotting/atlas.{kind}" for kind in ("py", "js", "html")} <= atlas
    assert not {name for name in _names("import satclip_lib.plotting.maps") if "atlas" in name}


def test_figures_are_found_however_the_call_is_broken():
    """Calls of save_figure over one or several lines, and pages."""
    code = 'save_figure(fig, "a_b")\nsave_figure(\n    fig, "c_d", seed=0)\n'
    code += 'save_atlas(folder.figures / "e.html")'
    assert list_figures(code) == ["a_b.png", "c_d.png", "e.html"]


def test_a_missing_figure_forces_its_notebook(tmp_path, monkeypatch):
    """A notebook whose figure was deleted is run again, one whose figures are there is not."""
    (tmp_path / "notebooks").mkdir()
    text = '{"cells": [{"cell_type": "code", "source": ["save_figure(fig, \\"a_b\\")"]}]}'
    (tmp_path / "notebooks" / "01_x.ipynb").write_text(text)
    monkeypatch.setattr(edges, "ROOT", tmp_path)
    expected = [("figures/a_b.png", "build/01_x.ipynb")]
    assert list(list_edges(Path("build"), Path("figures"))) == [
        *expected,
        ("build/01_x.ipynb", "FORCE"),
    ]
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "a_b.png").touch()
    assert list(list_edges(Path("build"), Path("figures"))) == expected


def test_runs_on_bare_python():
    """Make asks before anything is installed: only the standard library is imported."""
    command = [sys.executable, "-S", "-E", "satclip_lib/sources.py", "build/demo", "figures"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    words = done.stdout.split()
    assert "figures/biome_umap.png:build/demo/06_biome_clustering.ipynb" in words
    assert all(word.count(":") == 1 for word in words)
