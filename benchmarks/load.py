"""How long loading takes, and how near float32 embeddings are: ``python benchmarks/load.py``.

Times are of fresh processes, after ``import torch``, with everything in the disk cache. The model
is of the size of the published ViT16-L40, with random weights, in three forms: a published name
in the cache of huggingface_hub, a ``.ckpt`` file, and a folder in our own format. Writes
``benchmarks/results/load.json``.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from satclip_lib import LocationEncoder, LocationEncoderConfig, SatCLIP, embed
from satclip_lib.checkpoints.download import PINNED_REVISIONS, PUBLISHED_MODELS
from satclip_lib.checkpoints.published import save_published
from satclip_lib.checkpoints.store import load_location_encoder, save_pretrained
from satclip_lib.files import write_atomically
from satclip_lib.image_encoder import make_image_encoder

NUM_RUNS = 7
NUM_POINTS = 1_000_000
NAME = "satclip-vit16-l40"
RESULT = Path(__file__).parent / "results" / "load.json"
TIMED = """
import sys, time, torch
start = time.perf_counter()
{code}
print(time.perf_counter() - start)
"""
IMPORT = "import satclip_lib\nfor name in satclip_lib.__all__: getattr(satclip_lib, name)"
LOAD = "import satclip_lib\nsatclip_lib.load_location_encoder(sys.argv[1])"


def time_code(code: str, *arguments: str, bar: float, cache: Path) -> dict:
    """Seconds that code takes in a fresh process; the first run only warms the disk cache."""
    command = [sys.executable, "-c", TIMED.format(code=code), *arguments]
    environment = os.environ | {"HF_HUB_CACHE": str(cache), "SATCLIP_OFFLINE": "1"}
    seconds = [
        float(subprocess.check_output(command, env=environment, text=True).splitlines()[-1])
        for _ in range(1 + NUM_RUNS)
    ][1:]
    median = statistics.median(seconds)
    return {
        "median_s": round(median, 4),
        "slowest_s": round(max(seconds), 4),
        "bar_s": bar,
        "holds": median < bar,
    }


def time_loading() -> dict[str, dict]:
    """Time the import, and loading the location encoder of one model in three forms."""
    torch.manual_seed(0)
    location_encoder = LocationEncoder(
        LocationEncoderConfig(num_degrees=40, convention="satclip-analytic")
    )
    model = SatCLIP(make_image_encoder("vit_small_patch16_224", num_bands=13), location_encoder)
    with tempfile.TemporaryDirectory() as scratch:
        cache, folder = Path(scratch) / "hub", Path(scratch) / "ours"
        repository = cache / f"models--{PUBLISHED_MODELS[NAME].replace('/', '--')}"
        cached = save_published(
            model, repository / "snapshots" / PINNED_REVISIONS[NAME] / f"{NAME}.ckpt"
        )
        save_pretrained(model, folder)
        return {
            "import satclip_lib and all its public names": time_code(IMPORT, bar=1.5, cache=cache),
            "load a published name": time_code(LOAD, NAME, bar=0.3, cache=cache),
            "load a .ckpt file": time_code(LOAD, str(cached), bar=0.3, cache=cache),
            "load a folder": time_code(LOAD, str(folder), bar=0.3, cache=cache),
        }


def compare_precisions(num_degrees: int) -> dict:
    """Largest relative difference between float32 and float64 embeddings of one model."""
    rng = np.random.default_rng(0)
    lonlat = np.stack([rng.uniform(-180, 180, NUM_POINTS), rng.uniform(-90, 90, NUM_POINTS)], 1)
    lonlat[:1000, 1], lonlat[1000:2000, 1] = 90, -90
    lonlat[2000:3000, 0], lonlat[3000:4000, 0] = 180, -180
    torch.manual_seed(0)
    config = LocationEncoderConfig(num_degrees=num_degrees, convention="satclip-analytic")
    with tempfile.TemporaryDirectory() as scratch:
        path = save_published(LocationEncoder(config).double(), Path(scratch) / "model.ckpt")
        single, double = (
            load_location_encoder(path, dtype=dtype) for dtype in (torch.float32, torch.float64)
        )
    largest, finite = 0.0, True
    for part in np.array_split(lonlat, 50):
        exact, fast = embed(part, double), embed(part, single)
        finite &= bool(np.isfinite(fast).all())
        error = np.linalg.norm(fast - exact, axis=1) / np.linalg.norm(exact, axis=1)
        largest = max(largest, float(error.max()))
    return {
        "num_points": NUM_POINTS,
        "largest_relative_difference": float(f"{largest:.2e}"),
        "all_finite": finite,
        "bar": 1e-4,
        "holds": finite and largest < 1e-4,
    }


def main() -> None:
    """Measure, and write the result."""
    result = {
        "machine": platform.machine(),
        "num_cpus": os.cpu_count(),
        "num_threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "numpy", "safetensors", "huggingface-hub")},
        "times": time_loading(),
        "float32_against_float64": {
            f"L={num_degrees}": compare_precisions(num_degrees) for num_degrees in (10, 40)
        },
    }
    with write_atomically(RESULT) as scratch:
        scratch.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
