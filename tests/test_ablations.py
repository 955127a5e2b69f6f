"""Variants are compared seed by seed, and their figures show what the tables say."""

import sys

import numpy as np
import pandas as pd
import pytest
from cells import ROOT

from satclip_lib.evaluation.ablations import (
    ALL_TASKS,
    PROTOCOLS,
    compare_runs,
    describe_leaders,
    load_full_size_runs,
    summarise_variants,
    tabulate_differences,
)
from satclip_lib.evaluation.baselines import Encoder
from satclip_lib.evaluation.benchmark import run_benchmark
from satclip_lib.plotting.forest import plot_rankings, plot_variants
from satclip_lib.sphere import lonlat_to_unit_vectors

sys.path.insert(0, str(ROOT / "benchmarks"))
import ablations


def _make_runs() -> pd.DataFrame:
    """Two seeds of "ours" and "worse", one of "odd"; continents turn the order round."""
    scores = {
        ("ours", 0): (0.8, 0.6, 0.1),
        ("worse", 0): (0.7, 0.5, 0.3),
        ("odd", 0): (0.75, 0.7, 0.2),
        ("ours", 1): (0.9, 0.6, 0.1),
        ("worse", 1): (0.6, 0.5, 0.3),
        ("alone", 7): (1.0, 1.0, 1.0),
    }
    rows = [
        {"encoder": name, "seed": seed, "task": task, "protocol": protocol, "score": score + more}
        for (name, seed), values in scores.items()
        for protocol, score in zip(PROTOCOLS, values, strict=True)
        for task, more in (("elevation", 0.0), ("air_temperature", 0.04 * (name == "odd")))
    ]
    return pd.DataFrame(rows)


def test_differences_are_paired_by_seed():
    """A seed counts only where both have run it, and the reference has to be there."""
    with pytest.raises(ValueError, match=r"no variant 'our' in the runs, but \['ours', 'worse'"):
        compare_runs(_make_runs(), reference="our")
    summary = compare_runs(_make_runs(), reference="ours")
    assert "alone" not in set(summary.encoder)
    rows = summary[(summary.protocol == "random") & (summary.task == ALL_TASKS)]
    rows = rows.set_index("encoder")
    np.testing.assert_allclose(rows.difference[["ours", "worse", "odd"]], [0, -0.2, -0.03])
    worse = rows.loc["worse"]
    np.testing.assert_allclose([worse.difference_low, worse.difference_high], [-0.3, -0.1])
    assert list(rows.num_seeds[["worse", "odd"]]) == [2, 1]


def test_says_where_the_reference_is_not_the_best():
    """Rank, who is ahead by how much on how many seeds, and the single tasks that are lost."""
    summary = compare_runs(_make_runs(), reference="ours")
    random, blocks, continents = describe_leaders(summary, reference="ours").splitlines()
    assert random.startswith("random: ours is number 1 of 3 on the mean of tasks. On 0 of 2")
    assert blocks == (
        "blocks: ours is number 2 of 3 on the mean of tasks; ahead of it odd (+0.120, 1 seed). "
        "On 2 of 2 single tasks some variant is better (air temperature, elevation)."
    )
    assert "worse (+0.200, 2 seeds)" in continents and "number 3 of 3" in continents


def test_live_summary_has_the_mean_of_tasks():
    """Score, difference and interval of the mean are those of the tasks' averages."""
    encoders = [Encoder("base", lonlat_to_unit_vectors), Encoder("raw", lambda lonlat: lonlat)]
    knobs = {"protocols": ["random"], "probes": ["linear"], "num_points": 400, "seeds": [0, 1]}
    result = run_benchmark(encoders, ["climate_zone", "population_density"], **knobs)
    summary = summarise_variants(result, reference="base")
    table = summary[summary.encoder == "raw"].set_index("task")
    single = table.drop(index=ALL_TASKS)
    assert len(single) == 2
    assert table.score[ALL_TASKS] == pytest.approx(single.score.mean())
    assert table.difference[ALL_TASKS] == pytest.approx(single.difference.mean())
    assert table.difference_low[ALL_TASKS] < table.difference[ALL_TASKS]
    assert table.difference_low[ALL_TASKS] > single.difference_low.min()
    assert list(tabulate_differences(summary).index) == ["base", "raw"]


def test_script_makes_what_was_measured():
    """Results are of the script's variants, each run once; ours has the measured temperature."""
    runs = load_full_size_runs()
    assert {"ours", "paper L=10"} <= {*runs.encoder} <= {*ablations.VARIANTS, *ablations.UNTRAINED}
    assert set(runs.protocol) == set(PROTOCOLS) and runs.score.between(-5, 1).all()
    assert not runs.duplicated(["encoder", "seed", "task", "protocol"]).any()
    assert ablations.ours.pretraining.soft_targets.temperature == 0.2


def test_continents_are_scored_together_and_alone():
    """All points together count as "continents"; countries lie on one continent and do not."""
    cases = [
        ("biome", "random", "all", 0.9), ("biome", "continents", "Asia", 0.1),
        ("biome", "continents", "Africa", 0.3), ("biome", "continents", "pooled", 0.25),
        ("country", "random", "all", 0.8), ("country", "continents", "pooled", 0.5),
    ]  # fmt: skip
    table = pd.DataFrame(cases, columns=["task", "protocol", "part", "score"])
    found = ablations.list_scores(table)
    assert {(row["task"], row["protocol"]): row["score"] for row in found} == {
        ("biome", "random"): 0.9, ("biome", "Asia"): 0.1, ("biome", "Africa"): 0.3,
        ("biome", "continents"): 0.25, ("country", "random"): 0.8,
    }  # fmt: skip


def test_forest_shows_variant_minus_reference():
    """Diamonds are means with the range of seeds, right of zero the variant is better."""
    summary = compare_runs(_make_runs(), reference="ours")
    fig = plot_variants(summary, reference="ours", encoders=["worse", "odd"])
    random, blocks, continents = fig.axes
    assert [ax.get_title(loc="left") for ax in fig.axes] == list(PROTOCOLS)
    assert [label.get_text() for label in random.get_yticklabels()] == ["worse", "odd"]
    diamonds = [c for c in continents.collections if c.get_label() == ALL_TASKS]
    np.testing.assert_allclose(diamonds[0].get_offsets(), [[0.2, 0], [0.12, 1]])
    tasks = [c.get_offsets() for c in blocks.collections if c.get_label() == "one task"]
    np.testing.assert_allclose(tasks[0], [[-0.1, 0], [0.14, 1]])
    key = [text.get_text() for text in fig.legends[0].texts]
    assert key == ["one task", ALL_TASKS, "95 % interval"]


def test_rankings_show_order_and_correlation():
    """Best on top in every column; the best of each is coloured, and rho is written."""
    differences = tabulate_differences(compare_runs(_make_runs(), reference="ours"))
    assert list(differences) == list(PROTOCOLS)
    fig = plot_rankings({"full size": differences, "small": differences[["random", "blocks"]]})
    ax = fig.axes[0]
    assert [text.get_text() for text in ax.texts] == ["ours", "worse", "odd"]
    ranks = [[1, 2, 3], [3, 3, 1], [2, 1, 2]]  # on random folds, blocks and continents
    np.testing.assert_allclose([line.get_ydata() for line in ax.lines], ranks)
    below = [label.get_text() for label in ax.get_xticklabels()]
    assert below[1:] == ["blocks\nρ = 0.50", "continents\nρ = −1.00"]
    ours, worse, odd = (line.get_color() for line in ax.lines)
    assert len({ours, worse, odd}) == 3 and "0.75" not in (ours, worse, odd)
    assert len(fig.axes[1].texts) == 3
