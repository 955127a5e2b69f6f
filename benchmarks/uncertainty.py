"""Does error grow with the uncertainty that embed() reports? ``python benchmarks/uncertainty.py``.

A linear probe on the demo encoder (`make pretrain`) is fitted at half of the places that lie within
100 km of a pretraining location, and tested at all others. Most of these are as near; some lie in
the blocks that pretraining held out, in Antarctica or on islands. Test places are sorted into
fifths by each measure of uncertainty. Writes ``benchmarks/results/uncertainty.json``: the root mean
squared error of the z-scored target per fifth, and the rank correlation of error and measure.
"""

import numpy as np
from common import Bar, save_result
from scipy.stats import spearmanr
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from satclip_lib.checkpoints.store import hash_checkpoint, load_location_encoder
from satclip_lib.embedding.embed import embed
from satclip_lib.evaluation.tasks import load_task
from satclip_lib.files import Workspace

CHECKPOINTS = ("rcf-l10", "rcf-l40")
TASKS = ("elevation", "air_temperature", "precipitation", "population_density")
NUM_POINTS, SEED = 8_000, 1  # pretraining drew its locations with seed 0
LABELS_WITHIN_KM = 100


def measure(task: str, checkpoint) -> dict:
    """Errors of one task by fifths of each measure of uncertainty."""
    data = load_task(task, num_points=NUM_POINTS, seed=SEED)
    found = embed(data.lonlat, checkpoint, with_uncertainty=True)
    x = found.pop("embedding")
    y = (data.target - data.target.mean()) / data.target.std()
    near = found["distance_km"] < LABELS_WITHIN_KM
    is_labelled = near & (np.random.default_rng(SEED).random(len(y)) < 0.5)
    probe = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 7)))
    probe.fit(x[is_labelled], y[is_labelled])
    error = np.abs(probe.predict(x) - y)[~is_labelled]
    result = {"num_labelled": int(is_labelled.sum()), "num_tested": len(error)}
    for name, values in found.items():
        order = np.argsort(values[~is_labelled], kind="stable")
        fifths = [float(np.sqrt(np.mean(error[part] ** 2))) for part in np.array_split(order, 5)]
        result[name] = {
            "rmse_by_fifth": [round(value, 3) for value in fifths],
            "last / first": round(fifths[-1] / fifths[0], 2),
            "rank_correlation": round(float(spearmanr(values[~is_labelled], error).statistic), 3),
        }
    return result


def main() -> None:
    """Measure, and write the result."""
    result, bars = {"num_points": NUM_POINTS}, []
    for name in CHECKPOINTS:
        checkpoint = Workspace("demo").checkpoints / name
        damping = load_location_encoder(checkpoint).config.damping
        result[name] = {
            "checkpoint": hash_checkpoint(checkpoint),
            "damping_degree": damping and damping.degree,
            **{task: measure(task, checkpoint) for task in TASKS},
        }
        for way in ("distance_km", "dropout_spread"):
            holds = all(result[name][task][way]["last / first"] > 1 for task in TASKS)
            what = f"{name}: error grows with {way} in every task, last fifth over first"
            bars.append(Bar(what, "yes", "yes" if holds else "no", holds))
    save_result("uncertainty", result, bars=bars)


if __name__ == "__main__":
    main()
