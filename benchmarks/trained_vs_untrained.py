"""Does pretraining on images add anything to the network it started from?

Trains the demo profile's encoder with several seeds and compares each with its untrained twin,
by linear probes: ``python benchmarks/trained_vs_untrained.py`` after ``make figures``. Writes
``benchmarks/results/trained_vs_untrained.json``.
"""

import ast
import json
import platform
from pathlib import Path

import pandas as pd
import torch

from satclip_lib.checkpoint import load_satclip
from satclip_lib.data.patches import open_patches
from satclip_lib.evaluation.baselines import make_baselines, make_encoder
from satclip_lib.evaluation.benchmark import run_benchmark
from satclip_lib.files import Workspace, write_atomically
from satclip_lib.notebooks import list_parameters
from satclip_lib.training.features import cache_features
from satclip_lib.training.fit import pretrain
from satclip_lib.training.recipes import make_recipe, prepare_image_encoder

SEEDS = (0, 1, 2)
# (task, protocol): the least that trained minus untrained should be, on average over seeds
BARS = {
    ("elevation", "blocks"): 0.05,
    ("climate_zone", "Africa"): 0.15,
    ("air_temperature", "random"): -0.03,
    ("biome", "random"): -0.03,
}
RESULT = Path(__file__).parent / "results" / "trained_vs_untrained.json"


def demo_parameters(notebook: str) -> dict:
    """The demo profile's values: what stands in the notebook's parameters cell."""
    return {name: ast.literal_eval(text) for name, text in list_parameters(notebook).items()}


def score_seed(seed: int) -> pd.DataFrame:
    """Scores of the trained and the untrained encoder of one seed."""
    workspace = Workspace("demo")
    parameters = demo_parameters("02_pretraining")
    dataset = open_patches(workspace.patches)
    image_encoder = prepare_image_encoder("rcf", dataset, seed=seed)
    names = ("batch_size", "num_epochs", "learning_rate", "schedule", "jitter_m")
    config = make_recipe("paper-l10", **{name: parameters[name] for name in names}, seed=seed)
    checkpoint = pretrain(
        config,
        cache_features(dataset, image_encoder, folder=workspace.features),
        image_encoder=image_encoder,
        folder=workspace.checkpoints / "seeds" / str(seed),
    )
    *_, untrained = make_baselines(config.location_encoder, seed=seed)
    encoders = [untrained, make_encoder("trained", load_satclip(checkpoint))]
    num_points = demo_parameters("04_downstream_tasks")["num_points"]
    scores = [
        run_benchmark(
            encoders, [task], protocols=[protocol], probes=["linear"], num_points=num_points,
            seeds=[seed],
        ).scores
        for task, protocol in BARS
    ]  # fmt: skip
    table = pd.concat(scores).pivot_table(
        index=["task", "protocol"], columns="encoder", values="score", sort=False
    )
    return table.rename(columns={untrained.name: "untrained"})


def main() -> None:
    """Score all seeds and write the result."""
    by_seed = pd.concat({seed: score_seed(seed) for seed in SEEDS}, names=["seed"])
    by_seed["gain"] = by_seed.trained - by_seed.untrained
    mean = by_seed.groupby(["task", "protocol"], sort=False).mean()
    rows = [
        {
            "task": task,
            "protocol": protocol,
            "bar": bar,
            "mean": mean.loc[(task, protocol)].round(4).to_dict(),
            "by_seed": by_seed.xs((task, protocol), level=("task", "protocol"))
            .round(4)
            .to_dict("records"),
            "holds": bool(mean.loc[(task, protocol), "gain"] >= bar),
        }
        for (task, protocol), bar in BARS.items()
    ]
    machine = {"machine": platform.processor() or platform.machine(), "torch": torch.__version__}
    with write_atomically(RESULT) as scratch:
        scratch.write_text(json.dumps({"seeds": SEEDS, **machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
