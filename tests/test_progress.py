"""Progress bars show, unless they are told not to."""

import io

from satclip_lib.progress import progress_bar


def test_a_bar_shows_what_it_counts():
    """The bar names what is done, and passes the items on."""
    out = io.StringIO()
    assert list(progress_bar(range(3), desc="epochs", file=out)) == [0, 1, 2]
    assert "epochs" in out.getvalue()


def test_executed_notebooks_have_no_bars(monkeypatch):
    """SATCLIP_PROGRESS=0 writes nothing, and the items still pass."""
    monkeypatch.setenv("SATCLIP_PROGRESS", "0")
    out = io.StringIO()
    assert list(progress_bar(range(3), desc="epochs", file=out)) == [0, 1, 2]
    assert out.getvalue() == ""
