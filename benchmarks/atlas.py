"""How long the atlas takes to make, to open and to respond: ``python benchmarks/atlas.py``.

Measures UMAP of 20,000 places from 256 numbers each, by :func:`compute_umap` (exact neighbours) and
by umap-learn itself, in fresh processes, compilation included. Then the
size of the file, and two times in headless Chromium, which draws without a graphics card: from the
start of loading to the first drawn panels, and from the end of a touch of the plane to the next
picture, for ``NUM_TOUCHES`` places. Writes ``benchmarks/results/atlas.json``.
"""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from common import Bar, run_fresh, save_result

from satclip_lib.data.blue_marble import cut_patches
from satclip_lib.data.land import sample_land_lonlat
from satclip_lib.plotting.atlas import save_atlas
from satclip_lib.plotting.layers import make_climate_layer

NUM_POINTS, EMBED_DIM, SIZE_PX, NUM_LAYERS = 20_000, 256, 16, 8
NUM_TOUCHES = 20
UMAP_BAR_S, SIZE_BAR_MB, OPEN_BAR_S, TOUCH_BAR_MS = 60, 12, 3, 100
SCREENS = {
    "desktop": {"viewport": {"width": 1280, "height": 800}},
    "phone": {
        "viewport": {"width": 390, "height": 844},
        "device_scale_factor": 2,
        "is_mobile": True,
        "has_touch": True,
    },
}
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
# From the finger's last event to the frame after the one that draws.
TOUCH = """([x, y]) => new Promise((resolve) => {
  const {canvas} = atlas.plane, box = canvas.getBoundingClientRect()
  const finger = {pointerId: 1, pointerType: "touch", bubbles: true,
                  clientX: box.left + x * box.width, clientY: box.top + y * box.height}
  canvas.setPointerCapture = () => {}  // a synthetic finger cannot be captured
  canvas.dispatchEvent(new PointerEvent("pointerdown", finger))
  const start = performance.now(), before = atlas.state.query
  canvas.dispatchEvent(new PointerEvent("pointerup", finger))
  if (atlas.state.query === before) return resolve(null)  // no place there
  requestAnimationFrame(() => requestAnimationFrame(() => resolve(performance.now() - start)))
})"""


def time_atlas(path: Path, *, screen: str) -> dict:
    """Seconds until Chromium has drawn the file, milliseconds until it has drawn a touch."""
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    rng = np.random.default_rng(0)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_context(**SCREENS[screen]).new_page()
        page.set_default_timeout(120_000)
        page.goto(path.as_uri())
        page.wait_for_selector("#atlas[data-ready]")
        drawn = page.evaluate("Number(document.getElementById('atlas').dataset.ready) / 1000")
        touches = []
        while len(touches) < NUM_TOUCHES:
            milliseconds = page.evaluate(TOUCH, rng.uniform(0.1, 0.9, 2).tolist())
            touches += [] if milliseconds is None else [milliseconds]
        browser.close()
    return {
        "open_s": round(drawn, 2),
        "first_touch_ms": round(touches[0]),
        "touch_ms": round(float(np.median(touches))),
        "slowest_touch_ms": round(max(touches)),
    }


def measure_umap(folder: Path) -> tuple[np.ndarray, dict]:
    """The plane of ``NUM_POINTS`` places, and the seconds it took."""
    planes = [folder / name for name in ("ours.npy", "again.npy", "plain.npy")]
    ours, again, plain = (
        run_fresh(TIMED.format(num_points=NUM_POINTS, code=code), path)[0]
        for code, path in zip((OURS, OURS, PLAIN), planes, strict=True)
    )
    seconds = round(max(ours, again), 1)
    return np.load(planes[0]), {
        "seconds": seconds,
        "plain_umap_s": round(plain, 1),
        "share_of_plain": round(seconds / plain, 2),
        "same_plane_twice": bool(np.array_equal(*map(np.load, planes[:2]))),
    }


def measure_atlas(folder: Path, *, plane: np.ndarray) -> dict:
    """The size of the atlas of these places, and how fast it opens and responds."""
    lonlat = sample_land_lonlat(NUM_POINTS, seed=0)
    embeddings = np.random.default_rng(0).normal(size=(NUM_POINTS, EMBED_DIM))
    atlas = save_atlas(
        folder / "atlas.html",
        plane=plane,
        lonlat=lonlat,
        embeddings=embeddings.astype(np.float32),
        patches=cut_patches(lonlat, size_px=SIZE_PX),
        layers=[make_climate_layer(lonlat)] * NUM_LAYERS,
        title="Atlas",
    )
    return {
        "layers": NUM_LAYERS,
        "size_mb": round(atlas.stat().st_size / 1e6, 2),
        **{screen: time_atlas(atlas, screen=screen) for screen in SCREENS},
    }


def save(umap: dict, atlas: dict) -> None:
    """Write the result, with its bars."""
    seconds, size_mb = umap["seconds"], atlas["size_mb"]
    open_s, touch_ms, slowest_ms = (
        max(atlas[screen][what] for screen in SCREENS)
        for what in ("open_s", "touch_ms", "slowest_touch_ms")
    )
    took = f"{seconds} s (umap-learn as it comes: {umap['plain_umap_s']} s)"
    touched = f"{touch_ms} ms (median; slowest {slowest_ms} ms)"
    where = "of the atlas, desktop and phone"
    colouring = "all places coloured by similarity after a touch, desktop and phone"
    bars = [
        Bar(f"UMAP of {NUM_POINTS:,} points", f"{UMAP_BAR_S} s", took, seconds < UMAP_BAR_S),
        Bar("size of the atlas", f"{SIZE_BAR_MB} MB", f"{size_mb} MB", size_mb < SIZE_BAR_MB),
        Bar(f"first drawing {where}", f"{OPEN_BAR_S} s", f"{open_s} s", open_s <= OPEN_BAR_S),
        Bar(colouring, f"{TOUCH_BAR_MS} ms", touched, touch_ms <= TOUCH_BAR_MS),
    ]
    result = {"num_points": NUM_POINTS, "umap": umap, "atlas": atlas}
    save_result("atlas", result, bars=bars, packages=["umap-learn", "numba"])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        plane, umap = measure_umap(Path(name))
        save(umap, measure_atlas(Path(name), plane=plane))
