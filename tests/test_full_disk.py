"""A disk that fills up in the middle of a long step ends it, and leaves nothing half-written."""

import resource
import signal
from pathlib import Path

import numpy as np
import processes
import pytest

from satclip_lib.data.features import cache_features
from satclip_lib.data.images import load_images
from satclip_lib.data.patch_store import make_blue_marble_patches, open_patches, save_patches
from satclip_lib.image_encoder import RandomConvolutionalFeatures


def _make(step: str, folder: Path, max_bytes: int) -> None:
    """Patches or features, where no file can grow beyond ``max_bytes``.

    The system refuses in the middle of a write, as it does where a disk is full.
    """
    dataset = make_blue_marble_patches(num_patches=2000)
    encoder = RandomConvolutionalFeatures.fit(load_images(dataset), num_random_features=64)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, resource.RLIM_INFINITY))
    if step == "patches":
        save_patches(dataset, folder / "made")
        assert (open_patches(folder / "made").patches == dataset.patches).all()
    else:
        features = cache_features(dataset, encoder, folder=folder).features
        assert np.isfinite(features).all()


@pytest.mark.parametrize("step", ["patches", "features"])
def test_a_full_disk_leaves_nothing_half_written(workspace, step):
    """The step fails, nothing is taken for whole, and with room a rerun succeeds."""
    folder = workspace / "work"
    folder.mkdir()
    with pytest.raises(OSError, match="File too large"):
        processes.run(_make, step, folder, 20_000)
    assert list(folder.iterdir()) == []
    processes.run(_make, step, folder, resource.RLIM_INFINITY)
    assert len(list(folder.iterdir())) == 1
