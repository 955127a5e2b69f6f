"""Committed numbers are compared, and one that is off is found."""

import json
import sys
from pathlib import Path

import pandas as pd
import pytest

from satclip_lib.files import Workspace

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
import report  # noqa: E402
import verify  # noqa: E402

SCORES = pd.DataFrame({"task": ["a", "b"], "probe": ["linear", "linear"], "SatCLIP": [0.5, 0.25]})


def test_tables_become_numbers():
    """Cells of a table of scores, the last of a curve, means over many places; no UMAP."""
    assert verify.summarise(SCORES) == {"a, linear, SatCLIP": 0.5, "b, linear, SatCLIP": 0.25}
    curve = pd.DataFrame({"epoch": [0, 1], "val_loss": [5.0, 4.0]})
    assert verify.summarise(curve) == {"last val_loss": 4.0}
    places = pd.DataFrame({"lon": [0.0, 1.0] * 1000, "plane x": 3.0, "name": "taiga"})
    assert verify.summarise(places) == {"places": 2000.0, "mean lon": 0.5}


def test_what_is_off_is_found():
    """Within the tolerance numbers agree, beyond it they are off, and gaps are said."""
    expected = {"figure": {"small": 0.5, "large": 100.0, "gone": 1.0}}
    found = {"figure": {"small": 0.52, "large": 103.0, "new": 1.0}}
    off, absent, num_agreeing = verify.compare(expected, found)
    assert off == ["figure: large is 103, expected 100 +- 2"]
    assert absent == ["figure: gone was not measured here"] and num_agreeing == 1


def test_update_then_verify(workspace, monkeypatch, tmp_path, capsys):
    """What is taken as expected agrees with itself; a change ends in an error."""
    monkeypatch.setattr(verify, "__file__", str(tmp_path / "verify.py"))
    figures = Workspace("smoke").figures
    figures.mkdir(parents=True)
    SCORES.to_csv(figures / "downstream_table.csv", index=False)
    monkeypatch.setattr(sys, "argv", ["verify.py", "--profile", "smoke"])
    with pytest.raises(SystemExit, match="nothing is expected of profile 'smoke'"):
        verify.main()
    monkeypatch.setattr(sys, "argv", ["verify.py", "--profile", "smoke", "--update"])
    verify.main()
    monkeypatch.setattr(sys, "argv", ["verify.py", "--profile", "smoke"])
    verify.main()
    assert "2 numbers agree, 0 are off, 0 are absent" in capsys.readouterr().out
    SCORES.assign(SatCLIP=[0.5, 0.9]).to_csv(figures / "downstream_table.csv", index=False)
    with pytest.raises(SystemExit):
        verify.main()
    assert "b, linear, SatCLIP is 0.9, expected 0.25" in capsys.readouterr().out


def test_reproducing_shows_what_is_expected():
    """The table in REPRODUCING.md is the one made from the committed numbers."""
    expected = json.loads((ROOT / "benchmarks" / "expected" / "demo.json").read_text())
    shown = verify.REPRODUCING.read_text().split(verify.MARKS[0])[1].split(verify.MARKS[1])[0]
    assert shown == verify.make_table(expected)
    assert set(expected["numbers"]) <= set(verify.FIGURES)


def test_table_of_results_is_that_of_the_measurements():
    """Nobody typed a number into the page of results, and none is out of date."""
    page = report.PAGE.read_text()
    assert report.put_table(page) == page
    assert page.count("\n| ") > 30
