"""The patch store: what goes in comes out, and the hash knows every change."""

import json

import numpy as np
import pytest
import torch
import xarray as xr

from satclip_lib.data import blue_marble
from satclip_lib.data import patch_store as patches
from satclip_lib.data.images import FRAME_COLOR, load_images, load_true_color, to_true_color
from satclip_lib.data.land import sample_land_lonlat
from satclip_lib.data.patch_store import (
    count_scales,
    get_lonlat,
    make_blue_marble_patches,
    make_patch_dataset,
    make_split,
    open_patches,
    read_patches,
    save_patches,
)
from satclip_lib.data.sentinel2 import BAND_NAMES
from satclip_lib.sphere import compute_block_ids, hold_out_blocks

CONTENT = {
    "patches": np.arange(10 * 2 * 4 * 4, dtype=np.uint16).reshape(10, 2, 4, 4),
    "lonlat": np.linspace((-180.0, 80.0), (179.0, -80.0), 10),
    "is_val": np.arange(10) % 3 == 0,
    "band_names": ("B04", "B08"),
    "scale": 1e-4,
    "source": "counting",
}


def _make(**changes):
    content = CONTENT | changes
    return make_patch_dataset(content.pop("patches"), content.pop("lonlat"), **content)


def test_a_store_gives_back_what_was_saved(workspace):
    """Patches, coordinates, units and attributes are the same to the last bit after reopening."""
    dataset = _make()
    path = save_patches(dataset, workspace / "patches.zarr")
    opened = open_patches(path)
    xr.testing.assert_identical(opened.load(), dataset)
    assert opened.patches.dtype == np.uint16
    assert opened.patches.dims == ("patch", "band", "y", "x")
    assert opened.lon.attrs == {"units": "degrees_east"}
    assert opened.lat.attrs == {"units": "degrees_north"}
    assert opened.split.values.tolist() == np.where(CONTENT["is_val"], "val", "train").tolist()
    assert opened.band.values.tolist() == ["B04", "B08"]
    assert opened.attrs["scale"] == 1e-4 and opened.attrs["source"] == "counting"
    np.testing.assert_array_equal(get_lonlat(opened), CONTENT["lonlat"])


@pytest.mark.parametrize(("chunk_bytes", "shard_bytes"), [(3 * 64, 8 * 64), (1, 1), (10**6, 10**9)])
def test_chunks_and_shards_do_not_show(workspace, monkeypatch, chunk_bytes, shard_bytes):
    """A store on disk is indexed as an array is; chunks are of whole patches, shards of chunks."""
    monkeypatch.setattr(patches, "CHUNK_BYTES", chunk_bytes)
    monkeypatch.setattr(patches, "SHARD_BYTES", shard_bytes)
    path = save_patches(_make(), workspace / "patches.zarr")
    opened = open_patches(path)
    rows = (np.array(rows, dtype=int) for rows in ([7, 1, 1, -1], [], [9]))
    for index in (*rows, CONTENT["is_val"], slice(2, 9, 3), slice(None)):
        np.testing.assert_array_equal(read_patches(opened, index), CONTENT["patches"][index])
    metadata = json.loads((path / "patches/zarr.json").read_text())
    assert metadata["zarr_format"] == 3 and metadata["codecs"][0]["name"] == "sharding_indexed"
    shard = metadata["chunk_grid"]["configuration"]["chunk_shape"]
    chunk = metadata["codecs"][0]["configuration"]["chunk_shape"]
    assert chunk[1:] == shard[1:] == [2, 4, 4] and shard[0] % chunk[0] == 0
    assert chunk[0] <= max(1, chunk_bytes // 64)


@pytest.mark.parametrize(
    "changes",
    [
        {"patches": np.where(CONTENT["patches"] == 100, np.uint16(0), CONTENT["patches"])},
        {"patches": CONTENT["patches"][:, ::-1]},
        {"patches": CONTENT["patches"].astype(np.int16)},
        {"lonlat": CONTENT["lonlat"] + [0.0, 1e-12]},
        {"is_val": ~CONTENT["is_val"]},
        {"band_names": ("B08", "B04")},
        {"scale": 2e-4},
    ],
    ids=["one pixel", "band order", "dtype", "location", "split", "band names", "scale"],
)
def test_the_hash_changes_with_the_content(changes):
    """Any change but of the layout in memory gives another SHA-256."""
    strided = np.asfortranarray(CONTENT["patches"])
    first, same, other = _make(), _make(patches=strided), _make(**changes)
    assert first.attrs["sha256"] == same.attrs["sha256"] != other.attrs["sha256"]
    assert len(first.attrs["sha256"]) == 64


def test_images_are_scaled_patches():
    """load_images gives float32 tensors, patches times scale, for slices and row numbers."""
    dataset = _make()
    images = load_images(dataset)
    assert images.dtype == torch.float32 and images.shape == (10, 2, 4, 4)
    np.testing.assert_allclose(images, CONTENT["patches"] * 1e-4, rtol=1e-6)
    assert torch.equal(load_images(dataset, slice(2, 5)), images[2:5])
    assert torch.equal(load_images(dataset, np.array([7, 1])), images[[7, 1]])
    np.testing.assert_array_equal(dataset.patches, CONTENT["patches"])


def test_blue_marble_patches_show_their_locations():
    """The store holds what is cut at locations over land; a share of these is held out."""
    dataset = make_blue_marble_patches(num_patches=300, size_px=6, val_fraction=0.3, seed=1)
    lonlat = get_lonlat(dataset)
    np.testing.assert_array_equal(lonlat, sample_land_lonlat(300, seed=1))
    held_out = hold_out_blocks(lonlat, fraction=0.3, seed=1)
    np.testing.assert_array_equal(dataset.split == "val", held_out)
    icy = make_blue_marble_patches(num_patches=300, include_antarctica=True)
    expected = sample_land_lonlat(300, seed=0, include_antarctica=True)
    np.testing.assert_array_equal(get_lonlat(icy), expected)
    np.testing.assert_array_equal(dataset.patches, blue_marble.cut_patches(lonlat, size_px=6))
    assert dataset.band.values.tolist() == ["red", "green", "blue"]
    assert 0 <= load_images(dataset).min() < 0.1 and 0.9 < load_images(dataset).max() <= 1
    assert "Blue Marble" in dataset.attrs["source"]


def test_seasons_and_scales_are_a_store_like_any_other(workspace):
    """Bands are named scale after scale, scales are counted, and the disk gives back all of it."""
    dataset = make_blue_marble_patches(num_patches=30, imagery="seasons", zooms=(1, 8))
    assert dataset.band.values.tolist() == list(blue_marble.list_bands("seasons", zooms=(1, 8)))
    expected = blue_marble.cut_patches(get_lonlat(dataset), imagery="seasons", zooms=(1, 8))
    np.testing.assert_array_equal(dataset.patches, expected)
    assert count_scales(dataset) == 2 and "Earth at Night" in dataset.attrs["source"]
    opened = open_patches(save_patches(dataset, workspace / "patches.zarr")).load()
    xr.testing.assert_identical(opened, dataset)
    assert count_scales(opened) == 2
    assert dataset.patches.nbytes / 30 * 40_000 < 70e6  # of the demo profile, before packing
    assert count_scales(make_blue_marble_patches(num_patches=3)) == 1


def test_patches_are_seen_in_true_colour():
    """July unless asked otherwise; lights are warm; one month and Sentinel-2 have one picture."""
    dataset = make_blue_marble_patches(num_patches=50, imagery="seasons", zooms=(1, 8))
    january, july, default, lights = (
        load_true_color(dataset, season=season) for season in ("jan", "jul", None, "lights")
    )
    assert july.shape == (50, 8, 8, 3) and july.dtype == np.float32
    np.testing.assert_array_equal(july, default)
    np.testing.assert_allclose(july[..., 0] * 255, dataset.patches[:, 6], atol=1e-3)
    assert january.mean() > july.mean() + 0.05  # snow
    brightness = dataset.patches.values[:, 12] / 255
    np.testing.assert_allclose(lights[..., 0], brightness**0.7, atol=1e-5)
    assert (lights[..., 0] >= lights[..., 1]).all() and (lights[..., 1] >= lights[..., 2]).all()
    one_month = make_blue_marble_patches(num_patches=5)
    pixels = one_month.patches.values.transpose(0, 2, 3, 1)
    np.testing.assert_allclose(load_true_color(one_month) * 255, pixels, atol=1e-3)
    with pytest.raises(ValueError, match="season must be one of None, got 'jan'"):
        load_true_color(one_month, season="jan")
    with pytest.raises(ValueError, match="jan, apr, jul, oct, lights, got 'may'"):
        load_true_color(dataset, season="may")
    wide = load_true_color(dataset, slice(2), context_px=64)  # 8 px in the middle, and a frame
    np.testing.assert_allclose(wide[:, 28:36, 28:36], july[:2], atol=1e-6)
    for side in (wide[:, 27, 27:37], wide[:, 36, 27:37], wide[:, 27:37, 27], wide[:, 27:37, 36]):
        np.testing.assert_allclose(side, np.broadcast_to(np.float32(FRAME_COLOR), side.shape))
    around = blue_marble.cut_patches(get_lonlat(dataset)[:2], size_px=64, imagery="seasons")
    np.testing.assert_allclose(wide[:, 0, 0] * 255, around[:, 6:9, 0, 0], atol=1e-3)
    level_2a = torch.full((2, 12, 4, 4), 0.1) * torch.arange(12)[:, None, None]
    seen = to_true_color(level_2a, BAND_NAMES)
    np.testing.assert_allclose(seen[0, 0, 0], [0.9, 0.6, 0.3], atol=1e-6)  # B04 B03 B02, times 3
    others = dataset.assign_attrs(source="another satellite")
    np.testing.assert_array_equal(load_true_color(others, context_px=64), july)  # as they are


def test_a_split_is_of_blocks_or_random(shape_checks_off):
    """Both hold out the share; only blocks keep neighbours together; the seed decides."""
    lonlat = sample_land_lonlat(1000, seed=0)
    blocks = compute_block_ids(lonlat)
    spatial, random = (
        make_split(lonlat, fraction=0.2, seed=1, kind=kind) for kind in ("spatial", "random")
    )
    np.testing.assert_array_equal(spatial, hold_out_blocks(lonlat, fraction=0.2, seed=1))
    assert random.sum() == 200
    assert np.isin(blocks[random], blocks[~random]).mean() > 0.8
    np.testing.assert_array_equal(random, make_split(lonlat, fraction=0.2, seed=1, kind="random"))
    assert (random != make_split(lonlat, fraction=0.2, seed=2, kind="random")).any()
    with pytest.raises(ValueError, match="a split is 'spatial' or 'random', got 'temporal'"):
        make_split(lonlat, fraction=0.2, seed=1, kind="temporal")
    with pytest.raises(ValueError, match=r"fraction must be between 0 and 1, got 1\.1"):
        make_split(lonlat, fraction=1.1, seed=1, kind="random")


def test_a_flipped_bit_is_never_another_pixel(tmp_path):
    """Of every byte of every shard one bit is flipped: an error, or the pixels as they were."""
    dataset = _make(patches=np.zeros((10, 2, 4, 4), np.uint16))
    path = save_patches(dataset, tmp_path / "store.zarr")
    shards = [file for file in (path / "patches" / "c").rglob("*") if file.is_file()]
    num_refused = 0
    for shard in shards:
        content = shard.read_bytes()
        for position in range(len(content)):
            flipped = bytearray(content)
            flipped[position] ^= 1 << position % 8
            shard.write_bytes(flipped)
            try:
                found = read_patches(open_patches(path))
            except Exception:  # Zarr's errors are of many kinds
                num_refused += 1
            else:
                np.testing.assert_array_equal(found, dataset.patches)
        shard.write_bytes(content)
    assert num_refused > 0
    np.testing.assert_array_equal(read_patches(open_patches(path)), dataset.patches)


def test_a_lost_or_short_shard_is_refused(tmp_path):
    """Without its file, or with a part of it, a chunk would read as zeros. Nor is no store read."""
    with pytest.raises(FileNotFoundError, match=r"no patch store at .*nowhere.*make data"):
        open_patches(tmp_path / "nowhere")
    path = save_patches(_make(), tmp_path / "store.zarr")
    shard = next(file for file in (path / "patches" / "c").rglob("*") if file.is_file())
    content = shard.read_bytes()
    for length in range(0, len(content), 7):
        shard.write_bytes(content[:length])
        with pytest.raises((ValueError, RuntimeError)):
            read_patches(open_patches(path))
    shard.unlink()
    with pytest.raises(ValueError, match=r"missing or empty: delete it"):
        open_patches(path)
