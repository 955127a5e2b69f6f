"""The patch store against the tifs it is made from: ``python benchmarks/patch_store.py FOLDER``.

FOLDER holds S2-100K or a part of it. Writes ``benchmarks/results/patch_store.json``: size, time
to read shuffled batches, whether the numbers are the same, and the peak memory of computing
features. To have volume, the patches are stored many times over, which is said in the result;
the tifs are read from the operating system's cache.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import zarr

from satclip_lib.data.patch_store import hash_patch, open_patches
from satclip_lib.data.patch_writer import PatchReader, PatchWriter
from satclip_lib.data.s2_100k import list_patches, make_s2_100k_store, read_patch
from satclip_lib.data.sentinel2 import BAND_NAMES
from satclip_lib.files import write_atomically

RESULT = Path(__file__).parent / "results" / "patch_store.json"
NUM_ROWS = (1000, 4000)  # of the stores with repeated patches
BATCH_SIZE, NUM_BATCHES, ROUNDS = 32, 6, 5
FEATURE_BATCH_SIZE = 64
BARS = {"size_ratio": 1.05, "speedup": 3.0, "peak_gb": 4.0}

# In a process of its own, whose peak nothing else has raised. The encoder only takes means, to be
# quick: what an encoder needs depends on the batch, not on the number of patches.
FEATURES = """
import re, sys
from pathlib import Path
from torch import nn
from satclip_lib.data.patch_store import open_patches
from satclip_lib.data.features import cache_features

class Means(nn.Module):
    num_bands, num_features, config = 12, 12, {"name": "means"}

    def forward(self, images):
        return images.mean(dim=(2, 3))

def peak_kb():  # not getrusage, which starts from the peak of the parent
    return re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]

before = peak_kb()
cache_features(open_patches(sys.argv[1]), Means(), folder=sys.argv[2], batch_size=int(sys.argv[3]))
print(before, peak_kb())
"""


def repeat(store: Path, path: Path, *, num_rows: int) -> Path:
    """A store of ``num_rows`` patches, those of ``store`` over and over, and their locations."""
    dataset = open_patches(store).load()
    patches = dataset.patches.values
    hashes = [hash_patch(patch) for patch in patches]
    writer = PatchWriter(
        path, plan="repeat", capacity=num_rows, patch_shape=patches.shape[1:], dtype=patches.dtype
    )
    for row in range(num_rows):
        i = row % len(patches)
        place = {"lon": float(dataset.lon[i]), "lat": float(dataset.lat[i]), "sha256": hashes[i]}
        writer.add(place, patches[i])
    return writer.finish(
        val_fraction=0.1, seed=0, band_names=BAND_NAMES, scale=1e-4, source="repeated"
    )


def time_reading(folder: Path, store: Path) -> dict:
    """Milliseconds per patch in shuffled batches, in turns, the median over rounds."""
    reader = PatchReader(store)
    tif_of = {file.fn: file for file in list_patches(folder)}
    names = open_patches(store.with_name("once.zarr")).fn.values
    rng, times, equal = np.random.default_rng(0), {"tifs": [], "store": []}, True
    for _ in range(ROUNDS):
        rows = rng.permutation(reader.dataset.sizes["patch"])[: BATCH_SIZE * NUM_BATCHES]
        batches = rows.reshape(NUM_BATCHES, BATCH_SIZE)
        start = time.perf_counter()
        from_tifs = [
            np.stack([read_patch(tif_of[names[row % len(names)]]) for row in batch])
            for batch in batches
        ]
        middle = time.perf_counter()
        from_store = [reader.read(batch) for batch in batches]
        end = time.perf_counter()
        times["tifs"].append(1000 * (middle - start) / rows.size)
        times["store"].append(1000 * (end - middle) / rows.size)
        equal &= np.array_equal(from_tifs, from_store)
    speedups = np.array(times["tifs"]) / np.array(times["store"])
    return {
        "batch_size": BATCH_SIZE,
        "tifs_ms_per_patch": round(float(np.median(times["tifs"])), 2),
        "store_ms_per_patch": round(float(np.median(times["store"])), 2),
        "speedup_in_each_round": speedups.round(2).tolist(),
        "speedup": round(float(np.median(speedups)), 2),
        "equal": bool(equal),
    }


def measure_memory(store: Path, folder: Path) -> dict:
    """Largest resident memory of ``cache_features``, GB, in a fresh process."""
    command = [sys.executable, "-c", FEATURES, store, folder, str(FEATURE_BATCH_SIZE)]
    output = subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL)
    before, peak = (int(kilobytes) * 1024 / 1e9 for kilobytes in output.split())
    dataset = open_patches(store)
    return {
        "num_patches": dataset.sizes["patch"],
        "batch_size": FEATURE_BATCH_SIZE,
        "patches_gb": round(dataset.patches.nbytes / 1e9, 2),
        "before_gb": round(before, 2),
        "peak_gb": round(peak, 2),
    }


def measure_bytes(path: Path) -> int:
    """Size of a folder."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def main(folder: Path) -> None:
    """Measure, and write the result."""
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        once = make_s2_100k_store(
            folder, scratch / "once.zarr", keep_sea=True, allow_incomplete=True
        )
        good = set(open_patches(once).fn.values)
        tif_bytes = sum(file.num_bytes for file in list_patches(folder) if file.fn in good)
        size = {"tif_bytes": tif_bytes, "store_bytes": measure_bytes(once)}
        size["size_ratio"] = round(size["store_bytes"] / tif_bytes, 3)
        stores = [repeat(once, scratch / f"{n}.zarr", num_rows=n) for n in NUM_ROWS]
        reading = time_reading(folder, stores[0])
        memory = [measure_memory(store, scratch / "features") for store in stores]
    result = {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "zarr": zarr.__version__,
        "distinct_patches": len(good),
        "note": "reading and memory use stores in which the distinct patches are repeated",
        "size": size,
        "reading": {"num_patches": NUM_ROWS[0]} | reading,
        "features": memory,
        "bars": BARS,
        "holds": {
            "size_ratio": size["size_ratio"] <= BARS["size_ratio"],
            "speedup": reading["speedup"] >= BARS["speedup"],
            "equal": reading["equal"],
            "peak_gb": max(row["peak_gb"] for row in memory) < BARS["peak_gb"],
        },
    }
    with write_atomically(RESULT) as scratch:
        scratch.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
