"""Two runs at once, and a home folder in which nothing can be written."""

import os
import subprocess
import sys
import time
from pathlib import Path

import processes

from satclip_lib.data.features import cache_features
from satclip_lib.data.images import load_images
from satclip_lib.data.patch_store import make_blue_marble_patches, save_patches
from satclip_lib.image_encoder import RandomConvolutionalFeatures

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


def _make(number: int, folder: Path) -> None:
    """The same patches and features again and again, from when the other is ready too."""
    dataset = make_blue_marble_patches(num_patches=200)
    encoder = RandomConvolutionalFeatures.fit(load_images(dataset), num_random_features=16)
    (folder / f"ready-{number}").touch()
    while len(list(folder.glob("ready-*"))) < 2:
        time.sleep(0.001)
    for _ in range(5):
        save_patches(dataset, folder / "patches")
        features = cache_features(dataset, encoder, folder=folder / "features").features
        assert features.shape == (200, 22)


def test_two_runs_at_once_do_not_disturb_each_other(workspace):
    """Two processes write the same store and the same features; both succeed, both are whole."""
    processes.run_together(_make, workspace, count=2)
    assert not list(workspace.rglob(".partial-*"))


def test_works_where_nothing_can_be_written_at_home(workspace):
    """Embedding, the Blue Marble and maps need no folder of the user's."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "MPLCONFIG", "HF_"))}
    home = {"HOME": "/proc/nothing-here", "MPLBACKEND": "agg"}
    subprocess.run([sys.executable, "-c", NO_HOME], env=kept | home, check=True, timeout=300)
