"""What seasons, lights and scales add to image features. ``python benchmarks/imagery.py``.

Scores random convolutional features of the Blue Marble at the place itself, 512 of them for any
imagery, by the linear probe under the protocols of the downstream benchmark. Labels and imagery are
those of the repository and its packages. Writes ``benchmarks/results/imagery.json``: scores by
encoder, protocol and task, as mean and spread of three seeds. The score on continents is the mean
over six continents. Takes a quarter of an hour on a shared core.
"""

import functools

import pandas as pd
from common import Bar, save_result, time_once

from satclip_lib.evaluation.baselines import Encoder, encode_image_at
from satclip_lib.evaluation.benchmark import POOLED, run_benchmark
from satclip_lib.evaluation.summary import ZERO_SHOT_TASKS

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


def main() -> None:
    """Measure, and write the result."""
    features = functools.partial(encode_image_at, num_random_features=NUM_FEATURES)
    encoders = [Encoder(name, functools.partial(features, **x)) for name, x in VARIANTS.items()]
    settings = {"protocols": PROTOCOLS, "num_points": NUM_POINTS, "seeds": SEEDS}
    found, seconds = time_once(
        lambda: run_benchmark(encoders, ZERO_SHOT_TASKS, probes=["linear"], **settings)
    )
    by_seed = average_continents(found.scores)
    of_seeds = by_seed.groupby(["encoder", "protocol", "task"])
    means, spreads = of_seeds.mean().round(3), (of_seeds.max() - of_seeds.min()).round(3)
    on_continents = by_seed.xs("continents", level="protocol")
    gain = (on_continents[OURS] - on_continents[BASE]).round(3)
    gains = {task: gain[task].tolist() for task in GAINS}
    result = {
        "num_points": NUM_POINTS,
        "num_random_features": NUM_FEATURES,
        "seeds": SEEDS,
        "metric": "R2; accuracy for climate_zone and biome",
        "mean of seeds": to_dict(means),
        "largest minus smallest of seeds": to_dict(spreads),
        "gain on continents, by seed": gains,
        "seconds": round(seconds),
    }
    save_result("imagery", result, bars=list_bars(gains), packages=["torch", "scikit-learn"])


def average_continents(scores: pd.DataFrame) -> pd.Series:
    """Score by encoder, protocol, task and seed; on continents the mean over the six."""
    scores = scores[scores.part != POOLED]
    return scores.groupby(["encoder", "protocol", "task", "seed"]).score.mean()


def list_bars(gains: dict[str, list[float]]) -> list[Bar]:
    """Bars of what seasons, lights and scales add on unseen continents."""
    return [
        Bar(
            f"image features at the place, continents, {task}: seasons, lights and scales over "
            "one month, each of three seeds",
            f"+{BAR:.2f}",
            ", ".join(f"{gain:+.3f}" for gain in of_task),
            min(of_task) >= BAR,
        )
        for task, of_task in gains.items()
    ]


def to_dict(scores: pd.Series) -> dict[str, dict[str, float]]:
    """Scores by "encoder | protocol" and task."""
    return {
        f"{encoder} | {protocol}": scores[encoder, protocol].loc[[*ZERO_SHOT_TASKS]].to_dict()
        for encoder in VARIANTS
        for protocol in PROTOCOLS
    }


if __name__ == "__main__":
    main()
