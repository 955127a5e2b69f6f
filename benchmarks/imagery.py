"""What seasons, lights and scales add to image features. ``python benchmarks/imagery.py``.

Random convolutional features of the Blue Marble at the place itself, 512 of them whatever the
imagery, under the linear probe and the protocols of the downstream benchmark; labels and imagery
are those of the repository. Writes ``benchmarks/results/imagery.json``: scores by encoder,
protocol and task, mean and spread of three seeds. A seed's score on continents is the mean over
six continents. Takes some ten minutes on one core.
"""

import functools
import json
import time
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from satclip_lib.evaluation.baselines import Encoder, encode_image_at
from satclip_lib.evaluation.benchmark import run_benchmark
from satclip_lib.files import write_atomically

TASKS = (
    "air_temperature",
    "precipitation",
    "elevation",
    "population_density",
    "climate_zone",
    "biome",
)
PROTOCOLS = ("random", "blocks", "continents")
NUM_POINTS, SEEDS, NUM_FEATURES = 8_000, (0, 1, 2), 512
VARIANTS = {
    "one month": {"imagery": "one_month"},
    "four seasons": {"imagery": "seasons", "without": ("lights",)},
    "+ lights": {"imagery": "seasons"},
    "+ lights, scales 1 and 8": {"imagery": "seasons", "zooms": (1, 8)},
}
BASE, OURS = "one month", "+ lights, scales 1 and 8"
GAINS = ("climate_zone", "biome")  # on continents, at least BAR over one month
BAR = 0.10
RESULT = Path(__file__).parent / "results" / "imagery.json"


def main() -> None:
    """Measure, and write the result."""
    start = time.perf_counter()
    encoders = [
        Encoder(
            name,
            functools.partial(encode_image_at, num_random_features=NUM_FEATURES, **settings),
        )
        for name, settings in VARIANTS.items()
    ]
    scores = run_benchmark(
        encoders,
        TASKS,
        protocols=PROTOCOLS,
        probes=("linear",),
        num_points=NUM_POINTS,
        seeds=SEEDS,
    ).scores
    by_seed = scores.groupby(["encoder", "protocol", "task", "seed"]).score.mean()
    of_seeds = by_seed.groupby(["encoder", "protocol", "task"])
    means, spreads = of_seeds.mean().round(3), (of_seeds.max() - of_seeds.min()).round(3)
    on_continents = by_seed.xs("continents", level="protocol")
    gains = {
        task: [
            round(float(gain), 3) for gain in on_continents[OURS, task] - on_continents[BASE, task]
        ]
        for task in GAINS
    }
    result = {
        "num_points": NUM_POINTS,
        "num_random_features": NUM_FEATURES,
        "seeds": SEEDS,
        "metric": "R2; accuracy for climate_zone and biome",
        "mean of seeds": to_dict(means),
        "largest minus smallest of seeds": to_dict(spreads),
        "gain on continents, by seed": gains,
        "bar": BAR,
        "met": all(gain >= BAR for of_task in gains.values() for gain in of_task),
        "seconds": round(time.perf_counter() - start),
        "torch": version("torch"),
    }
    with write_atomically(RESULT) as scratch:
        scratch.write_text(json.dumps(result, indent=1) + "\n")


def to_dict(scores: pd.Series) -> dict[str, dict[str, float]]:
    """Scores by "encoder | protocol" and task."""
    return {
        f"{encoder} | {protocol}": {task: scores[encoder, protocol, task] for task in TASKS}
        for encoder in VARIANTS
        for protocol in PROTOCOLS
    }


if __name__ == "__main__":
    main()
