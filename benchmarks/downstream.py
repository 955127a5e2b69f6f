"""The downstream benchmark on the demo profile: ``python benchmarks/downstream.py``.

Scores all encoders of ``make figures`` and ``make peers`` that are there on all tasks whose labels
are at hand: random folds, blocks of 1 to 40 degrees and held-out continents, three seeds, two
processes. The committed results are of ``--seeds 3 4 5``, which played no part in any choice.
Writes ``benchmarks/results/downstream.json`` and the tables ``downstream.{csv,tex,md}`` beside it:
the time, the tasks on which the trained encoder is ahead of its untrained twin and of each peer,
means of the six zero-shot tasks, and the paragraph that is computed from the numbers.
``downstream_continents.csv`` has the linear probes on each continent, which the tables average.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from common import RESULTS, Bar, save_result, time_once

from satclip_lib.evaluation.benchmark import BenchmarkResult, run_benchmark
from satclip_lib.evaluation.encoders import RETRIEVING, list_encoders, make_encoders
from satclip_lib.evaluation.probes import METRICS
from satclip_lib.evaluation.summary import (
    ZERO_SHOT_TASKS,
    average_tasks,
    count_wins,
    describe,
    save_tables,
    summarise,
)
from satclip_lib.evaluation.tasks import TASKS
from satclip_lib.files import Workspace, write_text

PROTOCOLS = ("random", "blocks", "continents")
BLOCKS = ("blocks@1", "blocks@5", "blocks@20", "blocks@40")  # "blocks" has 10 degrees
COUNTS = {"tasks": 10, "baselines": 10, "protocols": 3, "seeds": 3}  # at least
FIRST_ROUND = {"random": (0.813, 0.015), "blocks": (0.712, 0.04)}  # of seven tasks, and the gain
SEES_THE_IMAGE = "image features"
PEER = "GeoCLIP"  # the strongest on unseen continents
AHEAD_OF_PEER = {"random": (9, 11), "blocks": (9, 11), "continents": (6, 8)}  # tasks, of how many


def time_benchmark(checkpoints: Path, **knobs) -> tuple[BenchmarkResult, BenchmarkResult, float]:
    """Results on all tasks; on the zero-shot tasks with blocks of all sizes; and the minutes."""

    def run(tasks, protocols, probes):
        return run_benchmark(
            lambda seed: make_encoders(checkpoints, seed=seed),
            list(tasks),
            protocols=protocols,
            probes=probes,
            **knobs,
        )

    result, seconds = time_once(lambda: run(TASKS, PROTOCOLS, ("linear", "knn")))
    # what the first run has predicted is in the cache
    curve, more = time_once(lambda: run(ZERO_SHOT_TASKS, (*PROTOCOLS, *BLOCKS), ("linear",)))
    return result, curve, round((seconds + more) / 60, 2)


def tabulate_curve(result: BenchmarkResult, *, reference: str) -> pd.DataFrame:
    """Mean of the zero-shot tasks under each protocol, nearest labels first, per encoder."""
    columns = ["protocol", "encoder", "label_km", "score", "low", "high"]
    columns += ["difference", "difference_low", "difference_high"]
    table = summarise(average_tasks(result), reference=reference)[columns]
    return table.sort_values(["label_km", "encoder"]).round({"label_km": 1}).round(4)


def list_bars(result: dict, summary: pd.DataFrame, curve: pd.DataFrame) -> Iterator[Bar]:
    """Bars of coverage, time, training against none, and the peer."""
    for name, bar in COUNTS.items():
        count = result["counts"][name]
        yield Bar(f"downstream benchmark: {name}", f"{bar}", f"{count}", count >= bar)
    minutes, again = result["minutes"], result["minutes_with_the_cache"]
    yield Bar("its time", "10 min", f"{minutes} min, again {again} min", minutes <= 10)
    scores = summary[summary.protocol == "continents"]
    scores = scores.pivot(index="task", columns="encoder", values="score")
    for n in (10, 40):
        won = scores[f"SatCLIP L={n}"] > scores[f"untrained L={n}"]
        what = f"trained beats untrained on held-out continents, L = {n}"
        holds = bool(won.sum() * 8 >= 6 * len(won))
        yield Bar(what, "6 of 8 tasks", f"{won.sum()} of {len(won)}", holds)
    if PEER not in scores:
        return
    for protocol, (bar, num_tasks) in AHEAD_OF_PEER.items():
        record = count_wins(summary, protocol, over=PEER)
        what = f"ahead of {PEER}, {protocol}"
        holds = record.wins * num_tasks >= bar * record.num_tasks
        yield Bar(
            what, f"{bar} of {num_tasks} tasks", f"{record.wins} of {record.num_tasks}", holds
        )
    own = summary[summary.encoder == result["reference"]].set_index(["protocol", "task"]).score
    for task in ("air_temperature", "precipitation", "population_density"):
        score = own["continents", task]
        yield Bar(f"{task} on held-out continents", "above 0", f"{score:.3f}", bool(score > 0))
    for protocol, (first, bar) in FIRST_ROUND.items():
        gain = own[protocol][[*ZERO_SHOT_TASKS, "country"]].mean() - first
        what = f"mean of seven tasks, {protocol}, over the first round's {first} of 10,000 places"
        measured = f"{gain:+.3f} (of {result['num_points']:,} places)"
        yield Bar(what, f"{bar:+}", measured, bool(gain >= bar))
    means = curve.set_index(["protocol", "encoder"])
    for protocol in ("continents", "blocks@40"):
        for name in (PEER, "inverse distance"):
            own_mean, other = means.score[protocol, result["reference"]], means.loc[protocol, name]
            low, high = -other.difference_high, -other.difference_low
            yield Bar(
                f"mean of six tasks, {protocol}, against {name}",
                f"above {other.score:.3f}",
                f"{own_mean:.3f} ({-other.difference:+.3f}, over places {low:+.3f} to {high:+.3f})",
                "level" if low <= 0 <= high else bool(own_mean > other.score),
            )


def save_continents(result: BenchmarkResult, *, reference: str) -> None:
    """Write the scores on each continent, and on the points of all ("pooled")."""
    columns = ["task", "part", "encoder", "metric", "score", "low", "high"]
    columns += ["difference", "difference_low", "difference_high"]
    table = summarise(result, reference=reference, by_part=True)
    table = table[table.protocol == "continents"][columns].round(4)
    write_text(RESULTS / "downstream_continents.csv", table.to_csv(index=False))


def main() -> None:
    """Measure, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-points", type=int, default=4_000, help="per task, at most")
    parser.add_argument("--num-jobs", type=int, default=2, help="processes")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    knobs = vars(parser.parse_args())
    checkpoints = Workspace("demo").checkpoints
    with tempfile.TemporaryDirectory() as scratch:
        result, blocks, minutes = time_benchmark(checkpoints, cache=Path(scratch), **knobs)
        *_, minutes_again = time_benchmark(checkpoints, cache=Path(scratch), **knobs)
    encoders = list(result.scores.encoder.unique())
    num_degrees = 40 if "SatCLIP L=40" in encoders else 10
    plain, twin = f"SatCLIP L={num_degrees}", f"untrained L={num_degrees}"
    reference = plain + RETRIEVING if plain + RETRIEVING in encoders else plain
    about = list_encoders(checkpoints).set_index("encoder")
    summary = summarise(result, reference=reference)
    curve = tabulate_curve(blocks, reference=reference)
    paragraph = describe(summary, reference=reference, twin=twin, not_ranked=[SEES_THE_IMAGE])
    content = {
        "num_points": knobs["num_points"],
        "seeds": knobs["seeds"],
        "counts": {
            "tasks": int(result.scores.task.nunique()),
            "baselines": sum(not name.startswith("SatCLIP") for name in encoders),
            "protocols": int(result.scores.protocol.nunique()),
            "seeds": int(result.scores.seed.nunique()),
        },
        "minutes": minutes,
        "minutes_with_the_cache": minutes_again,
        "metrics": METRICS,
        "reference": reference,
        "trained_beats_untrained_on_continents": {
            probe: count_wins(table, "continents", over=twin)._asdict()
            for probe, table in (
                ("linear", summarise(result, reference=plain)),
                ("knn", summarise(result, reference=plain, probe="knn")),
            )
        },
        "ahead_of_peers": {
            name: {p: count_wins(summary, p, over=name)._asdict() for p in PROTOCOLS}
            for name in encoders
            if about.licence[name]
        },
        "licences_of_peers": {n: about.licence[n] for n in encoders if about.licence[n]},
        "mean_of_zero_shot_tasks": curve.to_dict("records"),
        "paragraph": paragraph.splitlines(),
        "absent": result.absent[["task", "protocol"]].to_dict("records"),
        "absent_encoders": about["absent because"][about["absent because"] != ""].to_dict(),
    }
    bars = list(list_bars(content, summary, curve))
    save_result("downstream", content, bars=bars, packages=["torch", "numpy", "scikit-learn"])
    save_tables(summary.round(4), RESULTS / "downstream")
    save_continents(result, reference=reference)


if __name__ == "__main__":
    main()
