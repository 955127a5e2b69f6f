"""How long the atlas takes to make and to open: ``python benchmarks/atlas.py``.

UMAP of 20,000 places from 256 numbers each, by :func:`compute_umap` (exact neighbours) and by
umap-learn as it comes, both in fresh processes, compilation included. Then the size of the file,
and how long headless Chromium, which draws without a graphics card, takes to open it and to show
a selection. Writes ``benchmarks/results/atlas.json``.
"""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from common import Bar, run_fresh, save_result, time_once

from satclip_lib.data.blue_marble import cut_patches
from satclip_lib.data.land import sample_land_lonlat
from satclip_lib.plotting.atlas import save_atlas
from satclip_lib.plotting.layers import make_climate_layer

NUM_POINTS = 20_000
UMAP_BAR_S, SIZE_BAR_MB = 60, 15
TIMED = """
import sys, time
import numpy as np, torch
from satclip_lib import LocationEncoder, embed
from satclip_lib.data.land import sample_land_lonlat
torch.manual_seed(0)
lonlat = sample_land_lonlat({num_points}, seed=0)
x = embed(lonlat, LocationEncoder().eval())
start = time.perf_counter()
{code}
seconds = time.perf_counter() - start
np.save(sys.argv[1], plane)
print(seconds)
"""
OURS = "from satclip_lib.evaluation.projection import compute_umap\nplane = compute_umap(x)"
PLAIN = """from umap import UMAP
plane = UMAP(n_neighbors=30, metric="cosine", random_state=0, n_jobs=1).fit_transform(x)"""
SELECT = """() => new Promise(resolve => {
  const source = Bokeh.documents[0].get_model_by_name("points")
  const start = performance.now()
  source.selected.indices = [...Array(5000).keys()]
  requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - start)))
})"""


def time_atlas(path: Path) -> dict:
    """Seconds until Chromium shows the file, and until it shows 5,000 selected points."""
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 800})
        _, opened = time_once(
            lambda: page.goto(path.as_uri()) and page.wait_for_selector("#atlas[data-ready]")
        )
        selected = page.evaluate(SELECT) / 1000
        browser.close()
    return {"open_s": round(opened, 2), "select_s": round(selected, 3)}


def main() -> None:
    """Measure, and write the result."""
    with tempfile.TemporaryDirectory() as folder:
        planes = [Path(folder) / name for name in ("ours.npy", "again.npy", "plain.npy")]
        ours, again, plain = (
            run_fresh(TIMED.format(num_points=NUM_POINTS, code=code), path)[0]
            for code, path in zip((OURS, OURS, PLAIN), planes, strict=True)
        )
        plane = np.load(planes[0])
        same = bool(np.array_equal(plane, np.load(planes[1])))
        lonlat = sample_land_lonlat(NUM_POINTS, seed=0)
        atlas = save_atlas(
            Path(folder) / "atlas.html",
            plane=plane,
            lonlat=lonlat,
            patches=cut_patches(lonlat),
            layers=[make_climate_layer(lonlat)] * 8,
            title="Atlas",
        )
        size_mb = round(atlas.stat().st_size / 1e6, 2)
        opened = time_atlas(atlas)
    seconds = round(max(ours, again), 1)
    measured = f"{seconds} s (umap-learn as it comes: {plain:.1f} s)"
    bars = [
        Bar(f"UMAP of {NUM_POINTS:,} points", f"{UMAP_BAR_S} s", measured, seconds < UMAP_BAR_S),
        Bar("size of the atlas", f"{SIZE_BAR_MB} MB", f"{size_mb} MB", size_mb < SIZE_BAR_MB),
    ]
    result = {
        "num_points": NUM_POINTS,
        "umap": {
            "seconds": seconds,
            "plain_umap_s": round(plain, 1),
            "share_of_plain": round(ours / plain, 2),
            "same_plane_twice": same,
        },
        "atlas": {"layers": 8, "size_mb": size_mb, **opened},
    }
    save_result("atlas", result, bars=bars, packages=["umap-learn", "bokeh", "numba"])


if __name__ == "__main__":
    main()
