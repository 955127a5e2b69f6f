"""What each knob of pretraining is worth on tasks: ``python benchmarks/ablations.py``.

Trains variants of the demo profile's encoder (``make data`` first) and scores each by linear
probes on all tasks, under random folds, held-out blocks and held-out continents. A variant differs
from the paper's encoder, or from ours, in what its name says. Finished runs are kept in
``benchmarks/results/ablations.json`` and not repeated; ``--seeds 0 1 2 --only ours`` runs some,
``--jobs 2`` two at a time.

"continents" is the score over all points together, each predicted by a probe that was fitted on the
other continents; the score on each continent alone, where R2 is relative to that continent's own
variance, is kept beside it.
"""

import argparse
import itertools
import json
import logging
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from sklearn.metrics import accuracy_score, r2_score

from satclip_lib.checkpoints.store import load_location_encoder
from satclip_lib.data.features import cache_features
from satclip_lib.data.images import load_images
from satclip_lib.data.patch_store import make_blue_marble_patches
from satclip_lib.embedding.embed import embed
from satclip_lib.evaluation.prediction import predict
from satclip_lib.evaluation.splits import CONTINENTS, make_splits
from satclip_lib.evaluation.tasks import load_task
from satclip_lib.files import write_atomically
from satclip_lib.image_encoder import RandomConvolutionalFeatures
from satclip_lib.location_encoder import LocationEncoder, LocationEncoderConfig
from satclip_lib.training.fit import CURVE_NAME, PretrainingConfig, pretrain
from satclip_lib.training.recipes import make_recipe

RESULT = Path(__file__).parent / "results" / "ablations.json"
TASKS = (
    "air_temperature", "precipitation", "elevation", "population_density",
    "climate_zone", "biome", "country",
)  # fmt: skip
PROTOCOLS = ("random", "blocks")
NUM_POINTS = 10_000
SCRATCH = Path(tempfile.gettempdir()) / "satclip-ablations"

paper = PretrainingConfig(
    batch_size=2048, num_epochs=15, learning_rate=1e-3, schedule="cosine", jitter_m=0.0
)
fine = replace(paper, location_encoder=LocationEncoderConfig(num_degrees=40), num_epochs=20)


def encoder(config: PretrainingConfig, **changes) -> PretrainingConfig:
    """The same run with another location encoder."""
    return replace(config, location_encoder=replace(config.location_encoder, **changes))


damped = encoder(fine, damping_degree=6.0)
soft = replace(damped, soft_target_weight=0.5)
ours = make_recipe(
    "ours-l40",
    batch_size=2048,
    num_epochs=20,
    learning_rate=1e-3,
    schedule="cosine",
    jitter_m=0.0,
)

VARIANTS: dict[str, PretrainingConfig] = {
    "paper L=10": paper,
    "paper L=10, soft targets": replace(paper, soft_target_weight=0.5),
    "paper L=10, damped": encoder(paper, damping_degree=6.0),
    "paper L=40": fine,
    "paper L=40, learning rate 2e-4": replace(fine, learning_rate=2e-4),
    "damped L=40": damped,
    "damped L=40, soft targets": soft,
    "damped L=40, soft targets, init": encoder(soft, damped_init=True),
    "ours": ours,
    "ours, plain init, omega 30": encoder(ours, damped_init=False, first_omega=30.0),
    "ours, no soft targets": replace(ours, soft_target_weight=0.0),
    "ours, soft targets 0.8": replace(ours, soft_target_weight=0.8),
    "ours, temperature 0.1": replace(ours, soft_target_temperature=0.1),
    "ours, temperature 0.3": replace(ours, soft_target_temperature=0.3),
    "ours, first omega 8": encoder(ours, first_omega=8.0),
    "ours, first omega 30": encoder(ours, first_omega=30.0),
    "ours, damping degree 4": encoder(ours, damping_degree=4.0),
    "ours, damping degree 8": encoder(ours, damping_degree=8.0),
    "ours, damping power 2": encoder(ours, damping_power=2.0),
    "ours, damping learned": encoder(ours, learned_damping=True),
    "ours, dropout 0.2": encoder(ours, dropout=0.2),
    "ours, dropout 0": encoder(ours, dropout=0.0),
    "ours, learning rate 2e-3": replace(ours, learning_rate=2e-3),
    "ours, learning rate 5e-4": replace(ours, learning_rate=5e-4),
    "ours, embed 64": encoder(ours, embed_dim=64),
    "ours, weight decay 0.3": replace(ours, weight_decay=0.3),
    "ours, 40 epochs": replace(ours, num_epochs=40),
}
UNTRAINED = {"untrained L=10": paper, "untrained L=40, damped": damped}
# Variants of the data: number of locations, side of a chip in pixels, augmented views.
DATA = {"ours, 10,000 locations": (10_000, 8, 1), "ours, chips of 16 px": (40_000, 16, 1),
        "ours, chips of 4 px": (40_000, 4, 1), "ours, 4 views": (40_000, 8, 4)}  # fmt: skip


def train(name: str, *, seed: int, folder: Path) -> Path:
    """One run, from imagery to checkpoint."""
    num_patches, size_px, num_views = DATA.get(name, (40_000, 8, 1))
    config = replace(VARIANTS.get(name, ours), seed=seed)
    dataset = make_blue_marble_patches(num_patches=num_patches, size_px=size_px)
    image_encoder = RandomConvolutionalFeatures.fit(
        load_images(dataset, slice(0, 10_000)), seed=seed
    )
    store = cache_features(dataset, image_encoder, folder=SCRATCH / "features", num_views=num_views)
    return pretrain(config, store, image_encoder=image_encoder, folder=folder)


def score(model: torch.nn.Module, *, seed: int) -> list[dict]:
    """Linear probes on all tasks and protocols."""
    rows = []
    for task in TASKS:
        data = load_task(task, num_points=NUM_POINTS, seed=seed)
        compute_score = r2_score if data.class_names is None else accuracy_score
        embeddings = embed(data.lonlat, model)
        by_protocol = {name: make_splits(name, data.lonlat, seed=seed) for name in PROTOCOLS}
        for protocol, splits in by_protocol.items():
            tested = np.concatenate([split.test for split in splits])
            predicted = predict(data, embeddings, splits=splits)
            rows.append((task, protocol, compute_score(data.target[tested], predicted)))
        if task == "country":  # no class on both sides
            continue
        of_continents = []
        for continent in CONTINENTS:
            splits = make_splits(continent, data.lonlat, seed=seed)
            predicted = predict(data, embeddings, splits=splits)
            of_continents.append((data.target[splits[0].test], predicted))
            rows.append((task, continent, compute_score(*of_continents[-1])))
        together = [np.concatenate(part) for part in zip(*of_continents, strict=True)]
        rows.append((task, "continents", compute_score(*together)))
    return [
        {"task": task, "protocol": protocol, "score": round(float(value), 4)}
        for task, protocol, value in rows
    ]


def summarise(runs: list[dict]) -> pd.DataFrame:
    """Mean over tasks and seeds."""
    rows = pd.concat(
        pd.DataFrame(run["scores"]).assign(variant=run["variant"], seed=run["seed"]) for run in runs
    )
    rows = rows[rows.protocol.isin([*PROTOCOLS, "continents"])]
    table = rows.pivot_table(index="variant", columns="protocol", values="score", sort=False)
    return table.assign(seeds=rows.groupby("variant").seed.nunique())


def run_variant(name: str, seed: int) -> dict:
    """Train a variant and score it."""
    start = time.perf_counter()
    if name in UNTRAINED:
        torch.manual_seed(seed)
        model, curve = LocationEncoder(UNTRAINED[name].location_encoder), {}
    else:
        folder = SCRATCH / f"{name.replace(' ', '_')}-{seed}"
        checkpoint = train(name, seed=seed, folder=folder)
        model = load_location_encoder(checkpoint)
        table = pd.read_csv(checkpoint / CURVE_NAME)
        best = table.loc[table.val_loss.idxmin()]
        curve = best[["epoch", "val_loss", "val_top10_accuracy"]].round(4).to_dict()
    scores = score(model.eval(), seed=seed)
    seconds = round(time.perf_counter() - start, 1)
    return {"variant": name, "seed": seed, "seconds": seconds, **curve, "scores": scores}


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", default=[*UNTRAINED, *VARIANTS, *DATA])
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    os.environ["SATCLIP_PROGRESS"] = "0"
    runs = json.loads(RESULT.read_text())["runs"] if RESULT.is_file() else []
    done = {(run["variant"], run["seed"]) for run in runs}
    wanted = itertools.product(arguments.only, arguments.seeds)
    missing = [delayed(run_variant)(*each) for each in wanted if each not in done]
    for run in Parallel(arguments.jobs, return_as="generator_unordered")(missing):
        runs.append(run)
        save(runs)
        logging.info("%(variant)s, seed %(seed)d, %(seconds).0f s", run)
        logging.info("%s", summarise(runs).loc[[run["variant"]]])


def save(runs: list[dict]) -> None:
    """Write all runs and their summary."""
    summary = summarise(runs).round(4).reset_index().to_dict("records")
    result = {"num_points": NUM_POINTS, "tasks": TASKS, "summary": summary, "runs": runs}
    with write_atomically(RESULT) as scratch:
        scratch.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
