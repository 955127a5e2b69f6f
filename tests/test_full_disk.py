"""A disk that fills up in the middle of a long step ends it, and leaves nothing half-written."""

import resource
import signal
import subprocess
from pathlib import Path

import numpy as np
import processes
import pytest
import rasterio
from affine import Affine

from satclip_lib.data.features import cache_features
from satclip_lib.data.images import load_images
from satclip_lib.data.patch_store import make_blue_marble_patches, open_patches, save_patches
from satclip_lib.data.rebuild import _write_patch
from satclip_lib.data.scenes import ScenePatch
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


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", folder]).returncode:
        pytest.skip("a small disk can be mounted by root only, so a really full one goes untested")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_really_full_disk_is_an_error(small_disk):
    """Where memory is mapped from a file on it, the process is not killed by a signal."""
    with pytest.raises(OSError, match="No space left"):
        processes.run(_make, "features", small_disk, resource.RLIM_INFINITY)
    assert list(small_disk.iterdir()) == []


def _rebuild(folder: Path, sizes: list[int]) -> list[str]:
    """Write a patch where no file can grow beyond each of some sizes; the errors."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    numbers = np.random.default_rng(0).integers(1, 4000, (12, 256, 256)).astype("uint16")
    transform = Affine(10, 0, 600000, 0, -10, 4000020)
    patch = ScenePatch(numbers, rasterio.CRS.from_epsg(32632), transform, {"lat": 0.0, "lon": 0.0})
    errors = []
    for number, size in enumerate(sizes):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        try:
            _write_patch(folder, number, patch)
        except OSError as error:
            errors.append(str(error))
    return errors


def test_a_patch_of_the_rebuild_is_whole_or_not_there(tmp_path):
    """At any size of the disk, GDAL's silence about a failed write leaves no truncated patch."""
    assert processes.run(_rebuild, tmp_path / "whole", [2**30]) == []
    whole = (tmp_path / "whole/images/patch_0.tif").read_bytes()
    lacking = (-1, 0, 1, 9, 99, *range(1000, len(whole), 150_000))
    sizes = [len(whole) - num_bytes for num_bytes in lacking]
    errors = processes.run(_rebuild, tmp_path / "full", sizes)
    assert len(errors) == len(sizes) - 2 and all("File too large" in error for error in errors)
    left = sorted((tmp_path / "full/images").iterdir())
    assert [path.name for path in left] == ["patch_0.tif", "patch_1.tif"]
    assert all(path.read_bytes() == whole for path in left)
