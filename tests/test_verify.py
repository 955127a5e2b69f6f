"""Committed numbers are compared, and one that is off is found."""

import json
import re
import sys
from importlib.metadata import version

import numpy as np
import pandas as pd
import pytest
from cells import ROOT

from satclip_lib.evaluation.benchmark import BenchmarkResult
from satclip_lib.files import Workspace

sys.path.insert(0, str(ROOT / "benchmarks"))
import common
import downstream
import imagery
import main_job
import report
import verify

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
    expected = {"figure": {"small": 0.5, "large": 100.0, "gone": 1.0, "loss": 5.0}}
    found = {"figure": {"small": 0.52, "large": 103.0, "new": 1.0, "loss": float("nan")}}
    off, absent, num_agreeing = verify.compare(expected, found)
    large, loss = "large is 103, expected 100 ± 2", "loss is nan, expected 5 ± 0.1"
    assert off == [f"figure: {large}", f"figure: {loss}"]
    assert absent == ["figure: gone was not measured here"] and num_agreeing == 1


def test_image_features_are_averaged_over_continents():
    """The score of all continents together is no seventh continent."""
    about = {"encoder": "e", "protocol": "continents", "task": "biome", "seed": 0}
    rows = [about | {"part": p, "score": s} for p, s in (("Asia", 0.2), ("Africa", 0.4))]
    scores = pd.DataFrame([*rows, about | {"part": "pooled", "score": 0.9}])
    assert imagery.average_continents(scores).tolist() == [pytest.approx(0.3)]


def test_update_then_verify(workspace, monkeypatch, tmp_path, capsys):
    """What is taken as expected agrees with itself; a change ends in an error."""
    monkeypatch.setattr(verify, "__file__", str(tmp_path / "verify.py"))
    figures = Workspace("smoke").figures
    figures.mkdir(parents=True)
    SCORES.to_csv(figures / "downstream_table.csv", index=False)

    def run(*options):
        monkeypatch.setattr(sys, "argv", ["verify.py", "--profile", "smoke", *options])
        verify.main()

    with pytest.raises(SystemExit, match="nothing is expected of profile 'smoke'"):
        run()
    run("--update")
    run()
    assert "2 numbers agree, 0 are off, 0 are absent" in capsys.readouterr().out
    SCORES.assign(SatCLIP=[0.5, 0.9]).to_csv(figures / "downstream_table.csv", index=False)
    with pytest.raises(SystemExit):
        run()
    assert "b, linear, SatCLIP is 0.9, expected 0.25" in capsys.readouterr().out


def test_reproducing_shows_what_is_expected():
    """The table in REPRODUCING.md is the one made from the committed numbers."""
    expected = json.loads((ROOT / "benchmarks" / "expected" / "demo.json").read_text())
    shown = verify.REPRODUCING.read_text().split(verify.MARKS[0])[1].split(verify.MARKS[1])[0]
    assert shown == verify.make_table(expected)
    assert set(expected["numbers"]) <= set(verify.FIGURES)


def test_tables_are_those_of_the_measurements(monkeypatch, tmp_path):
    """Nobody typed a number into RESULTS or README, and none is out of date."""
    monkeypatch.setattr(sys, "argv", ["report.py", "--check"])
    report.main()
    assert report.PAGE.read_text().count("\n| ") > 30
    page = tmp_path / "README.md"
    page.write_text(report.README.read_text().replace("| 0.", "| 1."))
    monkeypatch.setattr(report, "README", page)
    with pytest.raises(SystemExit, match=r"README\.md is out of date: run benchmarks/report\.py"):
        report.main()


def test_every_cell_of_the_table_is_one_cell():
    """A bar in a name does not end its column; each device and precision has a row of its own."""
    table = report.make_table().splitlines()
    assert {re.sub(r"\\\|", "", row).count("|") for row in table} == {6}
    assert len({row.split(" | ")[0] for row in table if "`pretrain.py`" in row}) == sum(
        "`pretrain.py`" in row for row in table
    )
    step = {"num_degrees": 40, "share_of_matmul_rate": 0.6, "speedup_over_textbook": 3.0}
    entry = {"batch_size": 8192, "full_recipe": []}
    entry["one_step"] = [step | {"dtype": "float32"}, step | {"dtype": "bfloat16"}]
    single, half = report.list_pretraining_bars({"cpu: a": entry})
    assert (single.bar, single.holds, half.bar) == ("0.65", False, "")


def test_results_say_machine_and_bars(tmp_path, monkeypatch):
    """What a benchmark saves has versions, numbers and bars; the table is made from the bars."""
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    bar = common.Bar("its time", "5 s", "6.0 s", np.False_)
    common.save_result("load", {"seconds": 6.0}, bars=[bar], packages=["numpy"])
    result = json.loads((tmp_path / "load.json").read_text())
    assert (result["seconds"], result["numpy"]) == (6.0, version("numpy"))
    assert list(report.list_bars("load", result)) == [bar]


def test_a_page_without_marks_is_refused(tmp_path):
    """Nothing is written over where the marks are gone, or there twice."""
    page = tmp_path / "page.md"
    page.write_text("a <1> old <2> b")
    assert common.replace_marked(page, ("<1>", "<2>"), " new ") == "a <1> new <2> b"
    page.write_text("a <1> old <2> b <1>")
    with pytest.raises(ValueError, match=r"page\.md should have <1> \.\.\. <2> once"):
        common.replace_marked(page, ("<1>", "<2>"), " new ")


def test_a_lead_within_its_interval_is_level():
    """Means are ahead or behind only where the interval of the difference is on one side of 0."""
    result = common.load_result("downstream")
    summary = pd.read_csv(common.RESULTS / "downstream.csv")
    curve = pd.DataFrame(result["mean_of_zero_shot_tasks"])
    wide = curve.assign(difference_low=-1.0, difference_high=1.0)
    narrow = curve.assign(difference_low=curve.difference, difference_high=curve.difference)
    wide, narrow = (
        {bar.what: bar for bar in downstream.list_bars(result, summary, table)}
        for table in (wide, narrow)
    )
    names = [name for name in wide if name.startswith("mean of six tasks")]
    assert len(names) == 4 and {wide[name].holds for name in names} == {"level"}
    for name in names:
        assert narrow[name].holds == (narrow[name].measured.split(" (")[1][0] == "+")
    assert "-1.000 to +1.000" in wide[names[0]].measured


def test_the_first_run_is_judged_by_training_and_checkpoint(tmp_path):
    """Seconds of all epochs, and megabytes of the encoder that retrieves."""
    for name in ("rcf-l10", "rcf-l40"):
        folder = tmp_path / "data" / "demo" / "checkpoints" / name
        folder.mkdir(parents=True)
        (folder / "training_curve.csv").write_text("epoch,seconds\n0,60.5\n1,70\n")
    (folder / "model.safetensors").write_bytes(bytes(26_000_000))
    found = main_job.measure_checkpoints(tmp_path)
    assert found == {"training_s": {"rcf-l10": 130.5, "rcf-l40": 130.5}, "checkpoint_mb": 26.0}
    first = common.load_result("main_job")["first"] | found
    bars = {bar.what: bar for bar in main_job.list_bars({"first": first, "figures": []})}
    assert bars["training of its 2 encoders"][1:] == ("4 min", "4.3 min", False)
    assert not bars["a checkpoint with its map of images"].holds


def test_each_continent_has_its_rows(tmp_path, monkeypatch):
    """Scores on single continents and on all points are kept, those of random folds are not."""
    cases = [("random", "all", 0.9), ("continents", "Asia", 0.1), ("continents", "pooled", 0.25)]
    scores = pd.DataFrame(cases, columns=["protocol", "part", "score"])
    same = {"task": "biome", "encoder": "ours", "probe": "linear", "metric": "accuracy", "seed": 0}
    scores = scores.assign(**same, z_mse=0.0, macro_f1=0.0, label_km=0.0)
    result = BenchmarkResult(scores, np.zeros((3, 5), np.float32), pd.DataFrame())
    monkeypatch.setattr(downstream, "RESULTS", tmp_path)
    downstream.save_continents(result, reference="ours")
    found = pd.read_csv(tmp_path / "downstream_continents.csv").set_index("part").score
    assert found.to_dict() == {"Asia": 0.1, "pooled": 0.25}
