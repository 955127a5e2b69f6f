"""What make knows of notebooks: their sources and figures, no more and no less."""

from pathlib import Path

import pytest
from cells import ROOT

from tools.edges import find_sources, list_figures, make_edges


def _names(code: str) -> set[str]:
    return {path.as_posix() for path in find_sources(code)}


def test_the_committed_edges_are_current():
    """``notebooks/edges.mk`` is what ``make edges`` would write."""
    assert (ROOT / "notebooks" / "edges.mk").read_text() == make_edges()


def test_imports_are_followed(tmp_path):
    """A module is a source, and so are those it imports, inside functions as well, and packages."""
    package = tmp_path / "satclip_lib"
    for name, text in {
        "__init__.py": "import numpy",
        "a.py": "def later():\n    from satclip_lib.sub import b",
        "sub/__init__.py": "",
        "sub/b.py": "import satclip_lib.c as c",
        "c.py": "",
        "d.py": "from satclip_lib import a",
    }.items():
        (package / name).parent.mkdir(exist_ok=True, parents=True)
        (package / name).write_text(text)
    found = find_sources("from satclip_lib.a import later", root=tmp_path)
    names = ["__init__.py", "a.py", "c.py", "sub/__init__.py", "sub/b.py"]
    assert found == [Path("satclip_lib", name) for name in names]


@pytest.mark.parametrize(
    "code",
    ["from satclip_lib import embed as e", "import satclip_lib\nsatclip_lib.embed(lonlat)"],
)
def test_names_fetched_when_first_used_are_imports(code):
    """``from satclip_lib import embed`` draws an edge to the module of embed and to its imports."""
    names = _names(code)
    assert {"satclip_lib/embedding/embed.py", "satclip_lib/fast/folded_encoder.py"} <= names
    assert names == _names("from satclip_lib.embedding.embed import embed")


def test_files_beside_a_module_belong_to_it():
    """A change of the atlas's page or script remakes what is made by the atlas, nothing else."""
    atlas = _names("import numpy\nfrom satclip_lib.plotting.atlas import save_atlas")
    assert {f"satclip_lib/plotting/atlas.{kind}" for kind in ("py", "side.js", "html")} <= atlas
    assert not {name for name in _names("import satclip_lib.plotting.maps") if "atlas" in name}


def test_figures_are_found_however_the_call_is_written():
    """Calls of save_figure over one or several lines, and pages, but no mention of either."""
    code = 'save_figure(fig, "a_b")\nsave_figure(\n    make("x"), "c_d", seed=0\n)\n'
    code += 'save_atlas(folder.figures / "e.html")\n# save_figure(fig, "no")\nprint("no.html")'
    assert list_figures(code) == ["a_b.png", "c_d.png", "e.html"]
