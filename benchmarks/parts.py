"""Scores of each group of numbers, alone and together: ``python benchmarks/parts.py``.

Nothing is trained. The checkpoint of the demo profile (``make pretrain``) is scored on the six
zero-shot tasks, with all groups and with some left out, by linear probes under random folds, blocks
of 10 degrees and held-out continents. The groups were chosen on seeds 0 to 2; seeds 3 to 5 confirm
the choice. Writes ``benchmarks/results/parts.json``.
"""

import argparse
from functools import partial
from statistics import fmean

import numpy as np
from common import Bar, save_result
from sklearn.preprocessing import normalize

from satclip_lib.checkpoints.store import load_location_encoder
from satclip_lib.embedding.embed import embed
from satclip_lib.embedding.retrieval import load_retrieval
from satclip_lib.evaluation.baselines import Encoder, make_encoder, make_untrained
from satclip_lib.evaluation.benchmark import run_benchmark
from satclip_lib.evaluation.clusters import vote_across_continents
from satclip_lib.evaluation.summary import ZERO_SHOT_TASKS, average_tasks, summarise
from satclip_lib.evaluation.tasks import load_task
from satclip_lib.files import Workspace

PROTOCOLS = ("random", "blocks", "continents")
SEEDS = {"chosen on": (0, 1, 2), "confirmed on": (3, 4, 5)}
FIRST_ROUND_VOTE = 0.463  # of the first round's encoder
WHOLE = "zonal | retrieved | local | embedding"
FOLDER = Workspace("demo").checkpoints / "rcf-l40"


def make_parts() -> list[Encoder]:
    """The whole and its parts, of one checkpoint."""
    model, retrieval = load_location_encoder(FOLDER), load_retrieval(FOLDER)
    whole = make_encoder(WHOLE, model, retrieval=retrieval)

    def keep(name: str, *groups: str) -> Encoder:
        """Some of the groups of the whole."""

        def encode(lonlat):
            parts = retrieval.split(whole.encode(lonlat))
            return np.concatenate([parts[group] for group in groups], axis=1)

        return Encoder(name, encode)

    return [
        Encoder("embedding", lambda lonlat: embed(lonlat, model)),
        *(
            Encoder(f"first {n} of the embedding", partial(embed, model=model, num_dims=n))
            for n in (32, 64)
        ),
        keep("zonal", "zonal"),
        keep("retrieved", "retrieved"),
        keep("zonal | embedding", "zonal", "embedding"),
        keep("zonal | retrieved", "zonal", "retrieved"),
        keep("zonal | retrieved | embedding", "zonal", "retrieved", "embedding"),
        whole,
    ]


def vote_on_biomes(num_points: int) -> dict[str, dict[str, float]]:
    """Share of places whose biome the 15 nearest neighbours on other continents vote for."""
    twin = make_untrained(load_location_encoder(FOLDER).config, seed=0)
    encoders = {x.name: x for x in [twin, *make_parts()] if "|" not in x.name}
    found: dict[str, dict[str, float]] = {}
    for purpose, seeds in SEEDS.items():
        tasks = [load_task("biome", num_points=num_points, seed=seed) for seed in seeds]
        for name, encoder in encoders.items():
            votes = [
                vote_across_continents(normalize(encoder.encode(x.lonlat)), x.target, x.lonlat)
                for x in tasks
            ]
            found.setdefault(purpose, {})[name] = round(fmean(votes), 4)
    return found


def main() -> None:
    """Measure, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-points", type=int, default=4_000, help="per task")
    parser.add_argument("--num-jobs", type=int, default=2, help="processes")
    knobs = vars(parser.parse_args())
    means: dict[str, dict] = {}
    by_task: dict[str, dict] = {}
    for purpose, seeds in SEEDS.items():
        result = run_benchmark(
            make_parts(), ZERO_SHOT_TASKS, protocols=PROTOCOLS, probes=("linear",), seeds=seeds,
            **knobs,
        )  # fmt: skip
        for found, table in (
            (means, summarise(average_tasks(result), reference=WHOLE)),
            (by_task, summarise(result, reference=WHOLE)),
        ):
            columns = ["protocol"] if found is means else ["protocol", "task"]
            scores = table.pivot(index="encoder", columns=columns, values="score").round(4)
            if found is by_task:
                scores.columns = [" / ".join(name) for name in scores.columns]
            found[f"{purpose} seeds {seeds[0]} to {seeds[-1]}"] = scores.to_dict("index")
    last = list(means.values())[-1]
    bars = [
        Bar(
            f"{WHOLE}, {protocol}, over the embedding alone",
            "above it",
            f"{last[WHOLE][protocol]:.3f} against {last['embedding'][protocol]:.3f}",
            last[WHOLE][protocol] > last["embedding"][protocol],
        )
        for protocol in PROTOCOLS
    ]
    votes = vote_on_biomes(knobs["num_points"])
    confirmed = votes["confirmed on"]
    gain = confirmed["retrieved"] - confirmed["untrained L=40"]
    what = "biome by 15 neighbours on other continents, retrieved over the untrained twin"
    bars.append(Bar(what, "+0.15", f"{gain:+.3f}", gain >= 0.15))
    gain = confirmed["retrieved"] - FIRST_ROUND_VOTE
    what = f"the same, over the first round's {FIRST_ROUND_VOTE}"
    bars.append(Bar(what, "+0.08", f"{gain:+.3f}", gain >= 0.08))
    content = {
        "num_points": knobs["num_points"],
        "mean of six tasks": means,
        "biome by 15 neighbours on other continents": votes,
        "by task": by_task,
    }
    save_result("parts", content, bars=bars, packages=["torch", "numpy", "scikit-learn"])


if __name__ == "__main__":
    main()
