"""The script for one GPU runs here as well, at a size for a CPU."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_all_is_measured_and_written(tmp_path):
    """Every part gives finite numbers; training lowers the held-out loss; both losses agree."""
    sizes = {"num-pairs": 1200, "batch-size": 100, "num-epochs": 6, "num-images": 1}
    sizes |= {"num-points": 500, "matmul-side": 256, "repeats": 1}
    options = [word for name, value in sizes.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, ROOT / "benchmarks/gpu.py", "--device", "cpu", *options]
    subprocess.run([*command, "--out", tmp_path / "gpu.json"], check=True)
    (entry,) = json.loads((tmp_path / "gpu.json").read_text()).values()
    assert entry["matmul_tflop_per_s"]["float32"] > 0
    for row in entry["full_recipe"]:
        assert row["held_out_loss"] < row["uniform_loss"] and row["seconds"] > 0
    for row in entry["loss"]:
        assert row["ms"] > 0
        assert row["gradient_error"] < (1e-5 if row["mode"] == "float32" else 0.05)
    assert {row["backbone"] for row in entry["backbones"]} == {
        "resnet18", "resnet50", "vit_small_patch16_224",
    }  # fmt: skip
    assert all(row["images_per_s"] > 0 for row in entry["backbones"])
    assert all(row["embeddings_per_s"] > 0 for row in entry["locations"])
