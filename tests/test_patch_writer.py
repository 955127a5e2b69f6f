"""Large patch stores: the same bits however they are written and read, and wherever it stopped."""

import shutil
from operator import attrgetter

import numpy as np
import pytest
import xarray as xr
from folders import hash_files

from satclip_lib.data import patch_store as patches
from satclip_lib.data import patch_writer
from satclip_lib.data.patch_store import (
    hash_patch,
    make_patch_dataset,
    make_split,
    open_patches,
    save_patches,
)
from satclip_lib.data.patch_writer import PatchWriter

SHAPE = (2, 4, 4)
PATCHES = np.arange(11 * 32, dtype=np.uint16).reshape(11, *SHAPE)
LONLAT = np.linspace((-170.0, 80.0), (170.0, -80.0), 11)
PROVENANCE = {
    "fn": [f"patch_{i}.tif" for i in range(11)],
    "datetime": ["2022-05-01T10:20:30.123Z", *["2023-01-02T03:04:05Z"] * 9, None],
    "platform": ["Sentinel-2A", None, *["Sentinel-2B"] * 9],
    "cloud_cover": [1.5, None, *[3.0] * 9],
    "orbit": list(range(11)),
}
FINISH = {"val_fraction": 0.3, "seed": 1, "band_names": ("a", "b"), "scale": 0.5, "source": "test"}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """One patch per chunk, three per shard."""
    monkeypatch.setattr(patches, "CHUNK_BYTES", 64)
    monkeypatch.setattr(patches, "SHARD_BYTES", 3 * 64)


def _writer(path, plan="plan"):
    return PatchWriter(path, plan=plan, capacity=14, patch_shape=SHAPE, dtype="uint16")


def test_one_writer_at_a_time(tmp_path):
    """A second one of the same store is refused, until the first is finished or gone."""
    with _writer(tmp_path / "a"), pytest.raises(BlockingIOError, match="another run is at work"):
        _writer(tmp_path / "a")
    _write(tmp_path / "a")
    assert _writer(tmp_path / "a").is_finished
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def _write(path, *, left_out=(), plan="plan"):
    with _writer(path, plan) as writer:
        for i in range(len(writer.rows), 11):
            row = {name: values[i] for name, values in PROVENANCE.items()}
            row |= {"lon": LONLAT[i, 0], "lat": LONLAT[i, 1], "sha256": hash_patch(PATCHES[i])}
            writer.add(row, None if i in left_out else PATCHES[i])
        return writer.finish(**FINISH)


def test_a_streamed_store_is_the_saved_store(workspace):
    """Written patch by patch or at once: the same pixels, coordinates, attributes and hash."""
    streamed = open_patches(_write(workspace / "a.zarr")).load()
    is_val = make_split(LONLAT, fraction=0.3, seed=1)
    about = {name: FINISH[name] for name in ("band_names", "scale", "source")}
    made = make_patch_dataset(PATCHES, LONLAT, is_val=is_val, **about)
    saved = open_patches(save_patches(made, workspace / "b.zarr")).load()
    assert streamed.attrs.pop("plan") == "plan"
    xr.testing.assert_identical(streamed.drop_vars(PROVENANCE), saved)
    assert streamed.datetime.values[0] == np.datetime64("2022-05-01T10:20:30.123")
    assert np.isnat(streamed.datetime.values[-1]) and np.isnan(streamed.cloud_cover.values[1])
    assert streamed.platform.values[1] == "" and streamed.orbit.values[3] == 3


def test_left_out_patches_have_rows_only(workspace):
    """A patch given as None is not in the store; the others move up. None at all is an error."""
    kept = [i for i in range(11) if i not in (0, 4, 5, 6, 10)]
    dataset = open_patches(_write(workspace / "a.zarr", left_out=(0, 4, 5, 6, 10)))
    np.testing.assert_array_equal(dataset.patches, PATCHES[kept])
    np.testing.assert_array_equal(dataset.lon, LONLAT[kept, 0])
    assert [path.name for path in workspace.iterdir()] == ["a.zarr"]
    with pytest.raises(ValueError, match="none of 11 patches is good"):
        _write(workspace / "b.zarr", left_out=range(11))


class StoppedError(Exception):
    """Takes the place of a kill."""


@pytest.mark.parametrize(
    ("step", "stride"),
    [("PatchWriter.add", 4), ("write_text", 1), ("shutil.rmtree", 2), ("os.replace", 5)],
)
def test_a_run_stopped_at_any_step_is_continued(workspace, monkeypatch, step, stride):
    """Stopped before any call of it, the rerun has the same files; an older store is whole."""
    old = _write(workspace / "old.zarr", plan="old")
    expected = hash_files(_write(workspace / "whole.zarr", left_out=(4,)))
    original = attrgetter(step)(patch_writer)
    num_stops = 0
    for allowed in range(0, 1000, stride):
        path, num_calls = workspace / f"{allowed}.zarr", iter(range(1000))

        def stop(*args, allowed=allowed, num_calls=num_calls, **kwargs):
            if next(num_calls) == allowed:
                raise StoppedError
            return original(*args, **kwargs)

        shutil.copytree(old, path)
        with monkeypatch.context() as patched:
            patched.setattr(f"satclip_lib.data.patch_writer.{step}", stop)
            try:
                _write(path, left_out=(4,))
            except StoppedError:
                num_stops += 1
        assert not path.exists() or open_patches(path).attrs["plan"] in ("old", "plan")
        if not _writer(path).is_finished:
            _write(path, left_out=(4,))
        assert hash_files(path) == expected
        assert not list(workspace.glob(f".building-*-{path.name}"))
        if next(num_calls) <= allowed:  # the step is not taken as often
            break
    assert num_stops >= 2


def test_another_plan_makes_another_store(workspace, caplog):
    """What was begun with other settings is neither continued nor deleted, but named."""
    writer = _writer(workspace / "a.zarr", "old")
    for patch in PATCHES[:4]:
        writer.add({"lon": 0.0, "lat": 0.0, "sha256": hash_patch(patch)}, patch)
    dataset = open_patches(_write(workspace / "a.zarr", plan="new"))
    np.testing.assert_array_equal(dataset.patches, PATCHES)
    assert "begun with other settings" in caplog.text
    assert list(workspace.glob(".building-old*"))
