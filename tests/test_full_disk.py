"""A disk that fills up in the middle of a long step ends it, and leaves nothing half-written."""

import subprocess
import sys
from pathlib import Path

import pytest

# The system refuses to let any file grow beyond the limit, in the middle of a write, as a full
# disk does. The second run has room again.
LIMITED = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from satclip_lib.data.patches import (
    load_images, make_blue_marble_patches, open_patches, save_patches
)
from satclip_lib.image_encoder import RandomConvolutionalFeatures
from satclip_lib.training.features import cache_features

folder = Path(sys.argv[1])
dataset = make_blue_marble_patches(num_patches=2000)
encoder = RandomConvolutionalFeatures.fit(load_images(dataset), num_random_features=64)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
if sys.argv[2] != "unlimited":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
if sys.argv[3] == "patches":
    save_patches(dataset, folder / "made")
    assert (open_patches(folder / "made").patches == dataset.patches).all()
else:
    features = cache_features(dataset, encoder, folder=folder).features
    assert np.isfinite(features).all()
"""


@pytest.mark.parametrize("step", ["patches", "features"])
def test_a_full_disk_leaves_nothing_half_written(workspace, step):
    """The step fails, nothing is taken for whole, and with room a rerun succeeds."""
    folder = workspace / "work"
    folder.mkdir()

    def run(limit: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-c", LIMITED, folder, limit, step], capture_output=True, text=True
        )

    failed = run("20000")
    assert failed.returncode != 0 and "Error" in failed.stderr
    assert [path.name for path in Path(folder).iterdir()] == []
    succeeded = run("unlimited")
    assert succeeded.returncode == 0, succeeded.stderr
    assert len(list(folder.iterdir())) == 1
