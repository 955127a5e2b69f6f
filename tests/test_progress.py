"""Progress bars show, unless they are told not to."""

import io

import pytest

from satclip_lib.progress import progress_bar


@pytest.mark.parametrize("setting", ["0", "1"])
def test_bars_show_what_they_count_unless_told_not_to(monkeypatch, setting):
    """Items are passed on; SATCLIP_PROGRESS=0, as in executed notebooks, writes nothing."""
    monkeypatch.setenv("SATCLIP_PROGRESS", setting)
    out = io.StringIO()
    assert list(progress_bar(range(3), desc="epochs", file=out)) == [0, 1, 2]
    assert ("epochs" in out.getvalue()) == (out.getvalue() != "") == (setting == "1")
