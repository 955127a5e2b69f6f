"""The benchmark of training measures all that it says, at a size for a test."""

import json
import subprocess
import sys

from cells import ROOT


def test_all_is_measured_and_written(tmp_path):
    """Every part gives finite numbers, and training lowers the held-out loss."""
    sizes = {"num-pairs": 1200, "batch-size": 100, "num-epochs": 6, "num-images": 1}
    sizes |= {"num-points": 500, "matmul-side": 256, "repeats": 1, "out": tmp_path / "made.json"}
    options = [str(word) for name, value in sizes.items() for word in (f"--{name}", value)]
    subprocess.run([sys.executable, ROOT / "benchmarks/pretrain.py", *options], check=True)
    (entry,) = json.loads((tmp_path / "made.json").read_text()).values()
    assert all(row["share_of_matmul_rate"] > 0 for row in entry["one_step"])
    assert {row["num_degrees"] for row in entry["full_recipe"]} == {10, 40}
    for row in entry["full_recipe"]:
        assert row["held_out_loss"] < row["uniform_loss"] and row["seconds_per_epoch"] > 0
    assert {row["backbone"] for row in entry["backbones"]} == {
        "resnet18", "resnet50", "vit_small_patch16_224",
    }  # fmt: skip
    assert all(row["samples_per_s"] > 0 for row in entry["backbones"])
    cached = max(row["samples_per_s"] for row in entry["full_recipe"])  # in any type of numbers
    resnet18 = [x["samples_per_s"] for x in entry["backbones"] if x["backbone"] == "resnet18"]
    assert entry["cached_over_per_step_backbone"] == round(cached / max(resnet18))
    assert all(row["embeddings_per_s"] > 0 for row in entry["locations"])
