"""How long loading takes, and how exact float32 embeddings are: ``python benchmarks/load.py``.

Times are of fresh processes, after ``import torch``, with everything in the disk cache. The model
is of the size of the published ViT16-L40, with random weights, in three forms: a published name
in the cache of huggingface_hub, a ``.ckpt`` file, and a folder in our own format. The first
embeddings are those of the model that is installed with the package, whose wheel is built and
weighed. Writes ``benchmarks/results/load.json``.
"""

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from common import Bar, run_fresh, save_result

from satclip_lib import LocationEncoder, LocationEncoderConfig, SatCLIP, embed
from satclip_lib.checkpoints.download import PINNED_REVISIONS, PUBLISHED_MODELS
from satclip_lib.checkpoints.published import save_published
from satclip_lib.checkpoints.store import load_location_encoder, save_pretrained
from satclip_lib.image_encoder import make_image_encoder

ROOT = Path(__file__).resolve().parents[1]
NUM_RUNS = 7
NUM_POINTS = 1_000_000
LARGEST_DIFFERENCE = 1e-4
NAME = "satclip-vit16-l40"
TIMED = """
import sys, time, torch
start = time.perf_counter()
{code}
print(time.perf_counter() - start)
"""
IMPORT = "import satclip_lib\nfor name in satclip_lib.__all__: getattr(satclip_lib, name)"
FIRST = "import satclip_lib\nsatclip_lib.embed([[2.35, 48.86]], retrieval={retrieval})"
BARS_S = {"import": 1.5, "first": 2.0, "load": 0.3}  # by the first word of what is timed
MAX_WHEEL_MB = 8
LOAD = "import satclip_lib\nsatclip_lib.load_location_encoder(sys.argv[1])"


def time_code(code: str, address: str, *, cache: Path) -> dict:
    """Seconds that code takes in a fresh process; the first run only warms the disk cache."""
    options = {"HF_HUB_CACHE": str(cache), "SATCLIP_OFFLINE": "1"}
    runs = [run_fresh(TIMED.format(code=code), address, **options)[0] for _ in range(1 + NUM_RUNS)]
    return {
        "median_s": round(statistics.median(runs[1:]), 4),
        "slowest_s": round(max(runs[1:]), 4),
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
            "import satclip_lib and all its public names": time_code(IMPORT, "", cache=cache),
            "first embedding, the package's model": time_code(
                FIRST.format(retrieval=False), "", cache=cache
            ),
            "first embedding with retrieval, the package's model": time_code(
                FIRST.format(retrieval=True), "", cache=cache
            ),
            "load a published name": time_code(LOAD, NAME, cache=cache),
            "load a .ckpt file": time_code(LOAD, str(cached), cache=cache),
            "load a folder": time_code(LOAD, str(folder), cache=cache),
        }


def weigh_wheel() -> float:
    """Size of the wheel in MB, built of what is committed."""
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(["git", "clone", "--quiet", "--depth=1", ROOT.as_uri(), scratch], check=True)
        command = ["pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
        subprocess.run([sys.executable, "-m", *command, "."], cwd=scratch, check=True)
        (wheel,) = Path(scratch).glob("*.whl")
        return round(wheel.stat().st_size / 1e6, 2)


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
    errors = []
    for part in np.array_split(lonlat, 50):
        exact, fast = embed(part, double), embed(part, single)
        errors.append(np.linalg.norm(fast - exact, axis=1) / np.linalg.norm(exact, axis=1))
    largest = float(np.concatenate(errors).max())  # not a number where one of them is not
    return {"num_points": NUM_POINTS, "largest_relative_difference": float(f"{largest:.2e}")}


def main() -> None:
    """Measure, and write the result."""
    times = time_loading()
    precisions = {f"L={n}": compare_precisions(n) for n in (10, 40)}
    wheel_mb = weigh_wheel()
    bars = [
        Bar("size of the wheel", f"{MAX_WHEEL_MB} MB", f"{wheel_mb} MB", wheel_mb <= MAX_WHEEL_MB)
    ]
    for what, row in times.items():
        bar_s = BARS_S[what.split()[0]]
        measured = f"{row['median_s']:.2f} s"
        bars.append(Bar(f"{what}, after torch", f"{bar_s:g} s", measured, row["median_s"] < bar_s))
    for degrees, row in precisions.items():
        what = f"float32 embeddings of {NUM_POINTS:,} points against float64, {degrees}"
        largest = row["largest_relative_difference"]
        holds = largest < LARGEST_DIFFERENCE
        bars.append(Bar(what, f"{LARGEST_DIFFERENCE:.0e}", f"{largest:.1e}", holds))
    result = {
        "num_threads": torch.get_num_threads(),
        "wheel_mb": wheel_mb,
        "times": times,
        "float32_against_float64": precisions,
    }
    packages = ["torch", "numpy", "safetensors", "huggingface-hub"]
    save_result("load", result, bars=bars, packages=packages)


if __name__ == "__main__":
    main()
