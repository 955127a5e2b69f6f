"""The downstream benchmark on the demo profile: ``python benchmarks/downstream.py``.

Every task whose labels are at hand, every encoder that is present, random folds, blocks and
held-out continents, three seeds, two processes; after ``make figures``, whose checkpoints it
reads. Writes ``benchmarks/results/downstream.json`` and the tables ``downstream.{csv,tex,md}``
beside it: how long it took without and with the cache, whether the trained encoder beats its
untrained twin on held-out continents, and the paragraph that is computed from the numbers.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from common import RESULTS, Bar, save_result, time_once

from satclip_lib.evaluation.benchmark import BenchmarkResult, run_benchmark
from satclip_lib.evaluation.encoders import make_encoders
from satclip_lib.evaluation.probes import METRICS
from satclip_lib.evaluation.summary import count_wins, describe, save_tables, summarise
from satclip_lib.evaluation.tasks import TASKS
from satclip_lib.files import Workspace

PROTOCOLS = ("random", "blocks", "continents")
SEEDS = (0, 1, 2)
COUNTS = {"tasks": 10, "baselines": 10, "protocols": 3, "seeds": 3}  # at least
SEES_THE_IMAGE = "image features"


def time_benchmark(
    checkpoints: Path, *, cache: Path, num_points: int, num_jobs: int
) -> tuple[BenchmarkResult, float]:
    """The benchmark's result and its minutes."""
    result, seconds = time_once(
        lambda: run_benchmark(
            lambda seed: make_encoders(checkpoints, seed=seed),
            list(TASKS),
            protocols=PROTOCOLS,
            probes=("linear", "knn"),
            num_points=num_points,
            seeds=SEEDS,
            cache=cache,
            num_jobs=num_jobs,
        )
    )
    return result, round(seconds / 60, 2)


def list_bars(result: dict, summary: pd.DataFrame) -> Iterator[Bar]:
    """How much is compared, how long that takes, and what training is worth."""
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


def main() -> None:
    """Measure, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-points", type=int, default=4_000, help="per task, at most")
    parser.add_argument("--num-jobs", type=int, default=2, help="processes")
    arguments = parser.parse_args()
    checkpoints = Workspace("demo").checkpoints
    knobs = {"num_points": arguments.num_points, "num_jobs": arguments.num_jobs}
    with tempfile.TemporaryDirectory() as scratch:
        result, minutes = time_benchmark(checkpoints, cache=Path(scratch), **knobs)
        _, minutes_again = time_benchmark(checkpoints, cache=Path(scratch), **knobs)
    encoders = list(result.scores.encoder.unique())
    num_degrees = 40 if "SatCLIP L=40" in encoders else 10
    reference, twin = f"SatCLIP L={num_degrees}", f"untrained L={num_degrees}"
    baselines = [name for name in encoders if not name.startswith("SatCLIP")]
    summary = summarise(result, reference=reference)
    knn = summarise(result, reference=reference, probe="knn")
    paragraph = describe(summary, reference=reference, twin=twin, not_ranked=[SEES_THE_IMAGE])
    counts = {
        "tasks": int(result.scores.task.nunique()),
        "baselines": len(baselines),
        "protocols": int(result.scores.protocol.nunique()),
        "seeds": int(result.scores.seed.nunique()),
    }
    content = {
        "num_points": arguments.num_points,
        "counts": counts,
        "minutes": minutes,
        "minutes_with_the_cache": minutes_again,
        "metrics": METRICS,
        "reference": reference,
        "trained_beats_untrained_on_continents": {
            "linear": count_wins(summary, "continents", over=twin)._asdict(),
            "knn": count_wins(knn, "continents", over=twin)._asdict(),
        },
        "paragraph": paragraph.splitlines(),
        "absent": result.absent[["task", "protocol"]].to_dict("records"),
    }
    bars = list(list_bars(content, summary))
    save_result("downstream", content, bars=bars, packages=["torch", "numpy", "scikit-learn"])
    save_tables(summary.round(4), RESULTS / "downstream")


if __name__ == "__main__":
    main()
