"""What a benchmark says: means, paired intervals, tables and a paragraph, all from the numbers."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from satclip_lib.evaluation import summary
from satclip_lib.evaluation.ablations import load_full_size_runs
from satclip_lib.evaluation.benchmark import BenchmarkResult
from satclip_lib.evaluation.summary import (
    average_tasks,
    describe,
    load_committed_curve,
    load_committed_parts,
    load_published,
    make_table,
    save_tables,
    summarise,
)


@pytest.fixture
def result():
    """Two tasks, two seeds; ours beats the twin on one, both continents averaged."""
    rng = np.random.default_rng(0)
    common = {seed: rng.normal(scale=0.2, size=400) for seed in (0, 1)}  # shared by encoders
    rows, draws = [], []
    scores = {
        ("elevation", "R2", "ours"): 0.6,
        ("elevation", "R2", "twin"): 0.5,
        ("land_use", "accuracy", "ours"): 0.3,
        ("land_use", "accuracy", "twin"): 0.301,
        ("land_use", "accuracy", "nearest"): 0.4,
    }
    for (task, metric, encoder), score in scores.items():
        for seed in (0, 1):
            for part, shift in (("Africa", -0.1), ("Asia", 0.1), ("pooled", 0.3)):
                rows.append(
                    {
                        "task": task, "protocol": "continents", "part": part, "encoder": encoder,
                        "probe": "own" if encoder == "nearest" else "linear", "seed": seed,
                        "metric": metric, "score": score + shift, "z_mse": 0.5, "macro_f1": 0.1,
                        "label_km": 1000.0 + 1000 * shift,
                    }
                )  # fmt: skip
                own = rng.normal(scale=0.01, size=400)
                draws.append(score + shift + common[seed] + own)
    return BenchmarkResult(pd.DataFrame(rows), np.array(draws, np.float32), pd.DataFrame())


def test_means_and_intervals(result):
    """Scores average seeds and continents; the paired interval is far narrower than the score's."""
    table = summarise(result, reference="ours").set_index(["task", "encoder"])
    twin = table.loc["elevation", "twin"]
    assert twin.score == pytest.approx(0.5) and twin.num_seeds == 2 and twin.part == "mean"
    is_twin = (result.scores.encoder == "twin") & (result.scores.task == "elevation")
    draws = result.draws[is_twin & (result.scores.part != "pooled")].mean(axis=0)
    interval = np.sort(draws)[[9, 390]]  # of 400 draws, 10 lie beyond each end
    np.testing.assert_allclose([twin.low, twin.high], interval, atol=0.01)
    assert twin.difference == pytest.approx(-0.1)
    assert twin.difference_low < -0.1 < twin.difference_high < -0.05
    assert table.loc["elevation", "ours"].difference_high == 0
    assert table.loc["land_use", "nearest"].score == pytest.approx(0.4)
    assert [*table.loc["land_use"].index] == ["ours", "twin", "nearest"]  # as in the result
    parts = summarise(result, reference="ours", by_part=True)
    assert set(parts.part) == {"Africa", "Asia", "pooled"} and len(parts) == 3 * len(table)
    pooled = parts[parts.part == "pooled"].set_index(["task", "encoder"])
    assert pooled.score["elevation", "twin"] == pytest.approx(0.8)
    assert pooled.label_km["elevation", "twin"] == 1300 and twin.label_km == pytest.approx(1000)


def test_tasks_are_averaged_and_failures_count_once(result):
    """The mean over tasks is a task of its own; what scores below the floor counts as the floor."""
    in_asia = result.scores.part == "Asia"
    result.scores.loc[in_asia & (result.scores.encoder == "ours"), "score"] = -7.0
    result.draws[in_asia] -= 7.0
    both = average_tasks(result, tasks=["elevation", "land_use", "absent"])
    table = summarise(both, reference="ours").set_index("encoder")
    assert set(table.task) == {"mean of tasks"} and set(table.metric) == {"mean"}
    assert table.score["twin"] == pytest.approx((0.5 + 0.301) / 2)
    assert table.score["ours"] == pytest.approx((0.5 - 1 + 0.2 - 1) / 4)
    assert both.draws.min() == -1.0 and len(both.draws) == len(both.scores)
    assert table.difference["twin"] == pytest.approx(table.score["twin"] - table.score["ours"])
    one = summarise(average_tasks(result, tasks=["elevation"], lowest=-9.0), reference="ours")
    assert one.set_index("encoder").score["ours"] == pytest.approx((0.5 - 7) / 2)


def test_means_over_different_tasks_are_not_compared(result):
    """A protocol that lacks a task, and a result that has none, are errors."""
    protocol = result.scores.task.map({"elevation": "random", "land_use": "x"})
    scores = result.scores.assign(protocol=protocol)
    with pytest.raises(ValueError, match="not every protocol has the same tasks: random: elev"):
        average_tasks(replace(result, scores=scores), tasks=["elevation", "land_use"])
    with pytest.raises(ValueError, match="none of the tasks biome"):
        average_tasks(result, tasks=["biome"])


def test_the_paragraph_names_winners_and_losses(result):
    """Who is best where with the same probe, by how much, and who needs no encoder at all."""
    summary = summarise(result, reference="ours")
    text = describe(summary, reference="ours", twin="twin")
    assert text.startswith(
        "continents: of the probed encoders, ours is best on 1 of 2 tasks (elevation)."
    )
    assert "It loses land use to twin (0.300 against 0.301)" in text
    assert "nearest, which needs no probe, is ahead on 1 of 2" in text
    assert "ahead on 1 of 2, clearly (95 % interval) on 1, and clearly behind on 0" in text
    alone = describe(summary, reference="ours", twin="twin", not_ranked=["twin", "nearest"])
    assert "best on 2 of 2 tasks (elevation, land use)" in alone and "nearest" not in alone


def test_tables_say_metric_and_winner(result, tmp_path):
    """CSV has everything; LaTeX and Markdown have the metric in the head and the best in bold."""
    summary = summarise(result, reference="ours")
    paths = save_tables(summary, tmp_path / "table")
    assert [path.name for path in paths] == ["table.csv", "table.tex", "table.md"]
    pd.testing.assert_frame_equal(pd.read_csv(paths[0]), summary)
    latex, markdown = (" ".join(path.read_text().split()) for path in paths[1:])
    assert "elevation ($R^2$) & land use (accuracy)" in latex
    assert r"continents & ours & \textbf{0.60} & 0.30 \\" in latex
    assert r"continents & nearest & -- & \textbf{0.40} \\" in latex
    assert latex.count("&") == 3 * 4
    assert "| continents | ours | **0.60** | 0.30 |" in markdown
    assert "| continents | nearest | – | **0.40** |" in markdown
    assert list(make_table(summary)) == ["elevation", "land_use"]
    printed_alike = summary.replace({"score": {0.4: 0.304}})
    _, path, _ = save_tables(printed_alike, tmp_path / "table")
    assert path.read_text().count(r"\textbf{0.30}") == 3


def test_tasks_that_a_probe_does_not_predict_are_left_out(result):
    """A probe for classes alone has no numbers to compare those of other probes with."""
    scores = result.scores
    scores.loc[(scores.task == "land_use") & (scores.probe == "linear"), "probe"] = "logistic"
    scores.loc[(scores.task == "elevation") & (scores.encoder == "twin"), "probe"] = "own"
    table = summarise(result, reference="ours", probe="logistic")
    assert [*table.task] == ["land_use"] * 3 and (table.difference.abs() < 0.2).all()


def test_names_that_are_not_there_are_errors(result):
    """An unknown reference or probe is a ValueError that lists what there is; so is no score."""
    with pytest.raises(ValueError, match=r"no scores; see result\.absent"):
        summarise(replace(result, scores=pd.DataFrame()), reference="ours")
    with pytest.raises(ValueError, match=r"no encoder 'theirs' in the result, but \['ours'"):
        summarise(result, reference="theirs")
    with pytest.raises(ValueError, match="no probe 'knn'"):
        summarise(result, reference="ours", probe="knn")


@pytest.mark.parametrize(
    "load", [load_committed_curve, load_committed_parts, load_published, load_full_size_runs]
)
def test_results_of_the_repository_are_read_or_asked_for(load, monkeypatch, tmp_path):
    """In a checkout there are numbers; an installed package says where they are."""
    assert len(load()) > 5
    monkeypatch.setattr(summary, "COMMITTED", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"come with the repository.*`pip install -e \.`"):
        load()
