"""The downstream benchmark on the demo profile: ``python benchmarks/downstream.py``.

Every task whose labels are at hand, every encoder that is present, random folds, blocks and
held-out continents, three seeds, two processes; after ``make figures``, whose checkpoints it
reads. Writes ``benchmarks/results/downstream.json`` and the tables ``downstream.{csv,tex,md}``
beside it: how long it took without and with the cache, whether the trained encoder beats its
untrained twin on held-out continents, and the paragraph that is computed from the numbers.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from satclip_lib.evaluation.benchmark import BenchmarkResult, run_benchmark
from satclip_lib.evaluation.encoders import make_encoders
from satclip_lib.evaluation.probes import METRICS
from satclip_lib.evaluation.summary import count_wins, describe, save_tables, summarise
from satclip_lib.evaluation.tasks import TASKS
from satclip_lib.files import Workspace, write_atomically

RESULTS = Path(__file__).parent / "results"
PROTOCOLS = ("random", "blocks", "continents")
SEEDS = (0, 1, 2)
BARS = {"tasks": 10, "baselines": 10, "protocols": 3, "seeds": 3, "minutes": 10, "wins_of_8": 6}
SEES_THE_IMAGE = "image features"


def time_benchmark(
    checkpoints: Path, *, cache: Path, num_points: int, num_jobs: int
) -> tuple[BenchmarkResult, float]:
    """The benchmark's result and its seconds."""
    start = time.perf_counter()
    result = run_benchmark(
        lambda seed: make_encoders(checkpoints, seed=seed),
        list(TASKS),
        protocols=PROTOCOLS,
        probes=("linear", "knn"),
        num_points=num_points,
        seeds=SEEDS,
        cache=cache,
        num_jobs=num_jobs,
    )
    return result, time.perf_counter() - start


def main() -> None:
    """Measure, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-points", type=int, default=4_000, help="per task, at most")
    parser.add_argument("--num-jobs", type=int, default=2, help="processes")
    arguments = parser.parse_args()
    checkpoints = Workspace("demo").checkpoints
    knobs = {"num_points": arguments.num_points, "num_jobs": arguments.num_jobs}
    with tempfile.TemporaryDirectory() as scratch:
        result, seconds = time_benchmark(checkpoints, cache=Path(scratch), **knobs)
        _, seconds_again = time_benchmark(checkpoints, cache=Path(scratch), **knobs)
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
    wins = count_wins(summary, "continents", over=twin)
    content = {
        "machine": platform.machine(),
        "num_cpus": os.cpu_count(),
        **{name: version(name) for name in ("torch", "numpy", "scikit-learn")},
        "num_points": arguments.num_points,
        "counts": counts,
        "minutes": round(seconds / 60, 2),
        "minutes_with_the_cache": round(seconds_again / 60, 2),
        "metrics": METRICS,
        "reference": reference,
        "trained_beats_untrained_on_continents": {
            "linear": wins._asdict(),
            "knn": count_wins(knn, "continents", over=twin)._asdict(),
        },
        "bars": BARS,
        "holds": {
            **{name: count >= BARS[name] for name, count in counts.items()},
            "minutes": seconds / 60 <= BARS["minutes"],
            "wins_of_8": wins.wins >= BARS["wins_of_8"],
        },
        "paragraph": paragraph.splitlines(),
        "absent": result.absent[["task", "protocol"]].to_dict("records"),
    }
    with write_atomically(RESULTS / "downstream.json") as scratch:
        scratch.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    save_tables(summary.round(4), RESULTS / "downstream")


if __name__ == "__main__":
    main()
