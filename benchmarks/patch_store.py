"""The patch store against the tifs it is made from: ``python benchmarks/patch_store.py FOLDER``.

FOLDER holds S2-100K or a part of it. Writes ``benchmarks/results/patch_store.json``: the size, the
time to read shuffled batches, whether the pixels are the same, and the peak memory of computing
features. For a realistic volume the store repeats the patches, which the result notes; the tifs are
read from the operating system's cache.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from common import Bar, run_fresh, save_result, time_in_turns

from satclip_lib.data.patch_store import hash_patch, open_patches, read_patches
from satclip_lib.data.patch_writer import PatchWriter
from satclip_lib.data.s2_100k import make_s2_100k_store
from satclip_lib.data.s2_folder import list_patches, read_patch
from satclip_lib.data.sentinel2 import BAND_NAMES

NUM_ROWS = (1000, 4000)  # of the stores with repeated patches
BATCH_SIZE, NUM_BATCHES, ROUNDS = 32, 6, 5
FEATURE_BATCH_SIZE = 64
SIZE_RATIO, SPEEDUP, PEAK_GB = 1.05, 3.0, 4.0  # the bars

# Runs in a process of its own, so that its peak is that of this code alone. The encoder only takes
# means, to be fast: the memory of an encoder depends on the batch, not on the number of patches.
FEATURES = """
import re, sys
from pathlib import Path
from torch import nn
from satclip_lib.data.patch_store import open_patches
from satclip_lib.data.features import cache_features

class Means(nn.Module):
    num_bands, num_features, size_px, config = 12, 12, None, {"name": "means"}

    def forward(self, images):
        return images.mean(dim=(2, 3))

def peak_kb():  # not getrusage, whose peak includes that of the parent
    return re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]

before = peak_kb()
cache_features(open_patches(sys.argv[1]), Means(), folder=sys.argv[2], batch_size=int(sys.argv[3]))
print(before, peak_kb())
"""


def repeat(store: Path, path: Path, *, num_rows: int) -> Path:
    """Write a store of ``num_rows`` patches that repeats those of ``store``."""
    dataset = open_patches(store).load()
    patches = dataset.patches.values
    hashes = [hash_patch(patch) for patch in patches]
    sizes = {"capacity": num_rows, "patch_shape": patches.shape[1:], "dtype": patches.dtype}
    with PatchWriter(path, plan="repeat", **sizes) as writer:
        for row in range(num_rows):
            i = row % len(patches)
            place = {"lon": float(dataset.lon[i]), "lat": float(dataset.lat[i])}
            writer.add(place | {"sha256": hashes[i]}, patches[i])
        return writer.finish(
            val_fraction=0.1, seed=0, band_names=BAND_NAMES, scale=1e-4, source="repeated"
        )


def time_reading(folder: Path, store: Path) -> dict:
    """Milliseconds per patch in shuffled batches, in turns, the median over rounds."""
    dataset = open_patches(store)
    tif_of = {file.fn: file for file in list_patches(folder)}
    names = open_patches(store.with_name("once.zarr")).fn.values
    rows = np.random.default_rng(0).permutation(dataset.sizes["patch"])[: BATCH_SIZE * NUM_BATCHES]
    batches = rows.reshape(NUM_BATCHES, BATCH_SIZE)
    found = {}

    def from_tifs() -> None:
        files = [[tif_of[names[row % len(names)]] for row in batch] for batch in batches]
        found["tifs"] = [np.stack([read_patch(file) for file in batch]) for batch in files]

    def from_store() -> None:
        found["store"] = [read_patches(dataset, batch) for batch in batches]

    seconds = time_in_turns({"tifs": from_tifs, "store": from_store}, num_rounds=ROUNDS)
    tifs, stored = (1000 / rows.size * np.array(seconds[name]) for name in ("tifs", "store"))
    return {
        "num_patches": dataset.sizes["patch"],
        "batch_size": BATCH_SIZE,
        "tifs_ms_per_patch": round(float(np.median(tifs)), 2),
        "store_ms_per_patch": round(float(np.median(stored)), 2),
        "speedup_in_each_round": (tifs / stored).round(2).tolist(),
        "speedup": round(float(np.median(tifs / stored)), 2),
        "equal": bool(np.array_equal(found["tifs"], found["store"])),
    }


def measure_memory(store: Path, folder: Path) -> dict:
    """Largest resident memory of ``cache_features``, GB, in a fresh process."""
    kilobytes = run_fresh(FEATURES, store, folder, FEATURE_BATCH_SIZE)
    before, peak = (round(1024 * value / 1e9, 2) for value in kilobytes)
    dataset = open_patches(store)
    return {
        "num_patches": dataset.sizes["patch"],
        "batch_size": FEATURE_BATCH_SIZE,
        "patches_gb": round(dataset.patches.nbytes / 1e9, 2),
        "before_gb": before,
        "peak_gb": peak,
    }


def main(folder: Path) -> None:
    """Measure, and write the result."""
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        once = make_s2_100k_store(
            folder, scratch / "once.zarr", keep_sea=True, max_missing_share=1.0
        )
        good = set(open_patches(once).fn.values)
        tif_bytes = sum(file.num_bytes for file in list_patches(folder) if file.fn in good)
        store_bytes = sum(file.stat().st_size for file in once.rglob("*") if file.is_file())
        stores = [repeat(once, scratch / f"{n}.zarr", num_rows=n) for n in NUM_ROWS]
        reading = time_reading(folder, stores[0])
        memory = [measure_memory(store, scratch / "features") for store in stores]
    ratio, speedup = round(store_bytes / tif_bytes, 3), reading["speedup"]
    peak_gb, equal = max(row["peak_gb"] for row in memory), reading["equal"]
    size = "size of the store over that of the tifs"
    bars = [
        Bar("shuffled batches, store over tifs", f"{SPEEDUP}x", f"{speedup}x", speedup >= SPEEDUP),
        Bar("numbers equal to the last bit", "yes", "yes" if equal else "no", equal),
        Bar(size, f"{SIZE_RATIO}", f"{ratio}", ratio <= SIZE_RATIO),
        Bar("memory while features are built", f"{PEAK_GB} GB", f"{peak_gb} GB", peak_gb < PEAK_GB),
    ]
    result = {
        "distinct_patches": len(good),
        "note": "reading and memory use stores in which the distinct patches are repeated",
        "size": {"tif_bytes": tif_bytes, "store_bytes": store_bytes, "size_ratio": ratio},
        "reading": reading,
        "features": memory,
    }
    save_result("patch_store", result, bars=bars, packages=["zarr"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
