"""Two runs at once, and a home folder in which nothing can be written."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import processes
from folders import hash_files

from satclip_lib.checkpoints.store import save_pretrained
from satclip_lib.data.features import cache_features
from satclip_lib.data.images import load_images
from satclip_lib.data.patch_store import make_blue_marble_patches, save_patches
from satclip_lib.embedding.grid import embed_grid
from satclip_lib.embedding.grid_files import save_grid
from satclip_lib.image_encoder import RandomConvolutionalFeatures
from satclip_lib.training.fit import PretrainingConfig, make_model

NO_HOME = """
import matplotlib.pyplot as plt
import numpy as np
from satclip_lib import LocationEncoder, embed
from satclip_lib.data.land import is_land
from satclip_lib.plotting.maps import add_map, plot_points

lonlat = np.array([[2.35, 48.86], [10.0, 50.0]])
assert embed(lonlat, LocationEncoder().eval()).shape == (2, 256)
assert is_land(lonlat).all()
fig = plt.figure()
plot_points(add_map(fig), lonlat, np.array([0.0, 1.0]), label="a value")
fig.canvas.draw()
"""


def _make(number: int, folder: Path, num_runs: int) -> None:
    """Everything three times, from when all runs are ready."""
    dataset = make_blue_marble_patches(num_patches=200)
    encoder = RandomConvolutionalFeatures.fit(load_images(dataset), num_random_features=16)
    model = make_model(PretrainingConfig(), encoder).eval()
    (folder.parent / f"ready-{number}").touch()
    while len(list(folder.parent.glob("ready-*"))) < num_runs:
        time.sleep(0.001)
    for seed in range(3):
        save_patches(dataset, folder / "patches")
        cache_features(dataset, encoder, folder=folder / "features", num_views=2, seed=seed)
        save_pretrained(model, folder / "model")
        for name in ("grid.zarr", "grid.tif"):
            with suppress(BlockingIOError):  # refused, for the other is at it
                save_grid(embed_grid(model.location_encoder, resolution_deg=45), folder / name)


def test_two_runs_at_once_do_not_disturb_each_other(workspace):
    """Two processes write the same stores, models and grids: they are as one alone leaves them."""
    processes.run_together(_make, workspace / "pairs", 2, count=2)
    _make(0, workspace / "alone", 1)
    assert hash_files(workspace / "pairs") == hash_files(workspace / "alone")


def test_works_where_nothing_can_be_written_at_home(workspace):
    """Embedding, the Blue Marble and maps need no folder of the user's."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "MPLCONFIG", "HF_"))}
    home = {"HOME": "/proc/nothing-here", "MPLBACKEND": "agg"}
    subprocess.run([sys.executable, "-c", NO_HOME], env=kept | home, check=True, timeout=300)
