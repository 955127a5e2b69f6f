"""Cached features: what the encoder says, said once, and never mistaken for another's."""

import signal
from functools import partial

import dask
import distributed
import numpy as np
import processes
import pytest
import server
import torch

from satclip_lib.data.features import cache_features, choose_batch_size, make_features_at
from satclip_lib.data.images import load_images
from satclip_lib.data.patch_store import (
    get_lonlat,
    make_blue_marble_patches,
    open_patches,
    save_patches,
)
from satclip_lib.files import sweep
from satclip_lib.image_encoder import RandomConvolutionalFeatures


@pytest.fixture(scope="module")
def dataset():
    """A few patches of the Blue Marble, in memory."""
    return make_blue_marble_patches(num_patches=50, size_px=4, val_fraction=0.3)


@pytest.fixture
def encoder(dataset):
    """A small encoder that counts the images that it or a copy is shown, in ``num_seen``."""
    encoder = RandomConvolutionalFeatures.fit(load_images(dataset), num_random_features=8)
    encoder.num_seen = 0

    def count(_, images):
        encoder.num_seen += len(images[0])

    encoder.register_forward_pre_hook(count)
    return encoder


@pytest.mark.parametrize("batch_size", [1, 7, 1024])
def test_features_are_what_the_encoder_says(dataset, encoder, workspace, batch_size):
    """Whatever the batch size, row i holds the encoder's features of patch i, and its place."""
    settings = {"batch_size": batch_size, "device": "cpu:0"}
    store = cache_features(dataset, encoder, folder=workspace, **settings)
    assert {tensor.device for tensor in encoder.buffers()} == {torch.device("cpu")}  # as before
    assert store.features.dtype == np.float32 and store.features.shape == (50, 14)
    np.testing.assert_allclose(store.features, encoder(load_images(dataset)), atol=1e-5)
    np.testing.assert_array_equal(store.lonlat, get_lonlat(dataset))
    np.testing.assert_array_equal(store.is_val, dataset.split == "val")
    assert 0 < store.is_val.sum() < 50


def test_features_at_places_are_those_of_patches_there():
    """Of a store with two scales; a store that is no picture of the whole Earth has none."""
    dataset = make_blue_marble_patches(num_patches=30, size_px=4, zooms=(1, 2))
    encoder = RandomConvolutionalFeatures.fit(
        load_images(dataset), num_random_features=8, num_scales=2
    )
    found = make_features_at(dataset, encoder)(get_lonlat(dataset)[5:15])
    np.testing.assert_allclose(found, encoder(load_images(dataset))[5:15], atol=1e-6)
    assert make_features_at(dataset.assign_attrs(source="Sentinel-2"), encoder) is None


def test_features_are_computed_once(dataset, encoder, workspace):
    """The same patches and encoder are found again, mapped and read-only; no encoder is run."""
    first = cache_features(dataset, encoder, folder=workspace)
    assert encoder.num_seen == 50
    again = cache_features(dataset, encoder, folder=workspace, batch_size=3)
    assert encoder.num_seen == 50
    assert again.folder == first.folder and again.key == first.key
    assert first.folder.name == first.key[:16]
    assert isinstance(again.features, np.memmap) and not again.features.flags.writeable


def test_other_patches_or_encoders_have_other_features(dataset, encoder, workspace):
    """A change of the patches, of one weight or of the encoder's configuration is seen."""
    keys = {cache_features(dataset, encoder, folder=workspace).key}
    other = make_blue_marble_patches(num_patches=50, size_px=4, seed=1)
    keys.add(cache_features(other, encoder, folder=workspace).key)
    encoder.weight[0, 0, 0, 0] += 1e-3
    keys.add(cache_features(dataset, encoder, folder=workspace).key)
    encoder.config = encoder.config | {"note": 1}
    keys.add(cache_features(dataset, encoder, folder=workspace).key)
    assert len(keys) == 4 and encoder.num_seen == 200


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_a_run_killed_at_a_change_of_the_disk_is_finished(dataset, workspace, step):
    """The next run has the whole features, and nothing of the dead one is left."""
    encoder = RandomConvolutionalFeatures.fit(load_images(dataset), num_random_features=8)
    make = partial(cache_features, dataset, encoder, folder=workspace / "features")
    assert processes.find_exit_code(processes.die_at_step, step, make) == -signal.SIGKILL
    sweep.cache_clear()  # as in a new process
    store = make()
    assert list((workspace / "features").iterdir()) == [store.folder]
    np.testing.assert_allclose(store.features, encoder(load_images(dataset)), atol=1e-5)


def test_views_are_augmented_once_and_for_all(dataset, encoder, workspace):
    """View 0 is the plain patch, the others differ from it and from each other, by seed."""
    plain = cache_features(dataset, encoder, folder=workspace)
    assert plain.views.shape == (1, 50, 14)
    store = cache_features(dataset, encoder, folder=workspace, num_views=3)
    assert store.views.shape == (3, 50, 14) and store.key != plain.key
    np.testing.assert_array_equal(store.features, plain.features)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(store.views[first] - store.views[second]).max(axis=1).min() > 0
    assert cache_features(dataset, encoder, folder=workspace, num_views=3).key == store.key
    other = cache_features(dataset, encoder, folder=workspace, num_views=3, seed=1)
    np.testing.assert_array_equal(other.features, plain.features)
    assert np.abs(other.views[1] - store.views[1]).max() > 0
    with pytest.raises(ValueError, match="num_views must be at least 1, got 0"):
        cache_features(dataset, encoder, folder=workspace, num_views=0)


def test_plain_features_are_those_of_a_store_with_more_views(dataset, encoder, workspace):
    """The encoder is not run again for them, but for a part of the patches."""
    several = cache_features(dataset, encoder, folder=workspace, num_views=2)
    assert encoder.num_seen == 100
    plain = cache_features(dataset, encoder, folder=workspace)
    assert encoder.num_seen == 100 and plain.key != several.key
    assert plain.views.shape[0] == 1
    np.testing.assert_array_equal(plain.features, several.views[0])
    part = cache_features(dataset.isel(patch=slice(10, 19)), encoder, folder=workspace)
    assert encoder.num_seen == 109
    np.testing.assert_allclose(part.features, several.views[0, 10:19], atol=1e-6)
    np.testing.assert_array_equal(part.lonlat, get_lonlat(dataset)[10:19])


def _serve(root, method, path, headers, _):
    """Answer as object storage does: listings, sizes, and parts of files."""
    path = root / path.lstrip("/")
    if path.is_dir():
        names = [entry.name + "/" * entry.is_dir() for entry in path.iterdir()]
        return 200, {}, "".join(f'<a href="{name}">{name}</a>' for name in names).encode()
    if not path.is_file():
        return 404, {}, b""
    content = path.read_bytes()
    if method == "HEAD":
        return 200, {"Content-Length": len(content), "Accept-Ranges": "bytes"}, b""
    if "range" not in headers:
        return 200, {}, content
    first, last = map(int, headers["range"].removeprefix("bytes=").split("-"))
    part = content[first : last + 1]
    return 206, {"Content-Range": f"bytes {first}-{first + len(part) - 1}/{len(content)}"}, part


def test_workers_of_a_cluster_read_the_store_by_its_address(workspace, encoder, dataset):
    """Two processes, patches over HTTP: the same features to the last bit, all views."""
    path = save_patches(dataset, workspace / "patches.zarr")
    encoder._forward_pre_hooks.clear()  # it counts in this process alone
    options = {"num_views": 2, "batch_size": 7}
    alone = cache_features(open_patches(path), encoder, folder=workspace / "alone", **options)
    with (
        server.serve(partial(_serve, workspace)) as address,
        dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}),
        distributed.Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client,
    ):
        remote = open_patches(f"{address}/patches.zarr")
        together = cache_features(
            remote, encoder, folder=workspace / "together", client=client, **options
        )
        (path / "patches/c/0/0/0/0").unlink()
        with pytest.raises(ValueError, match="missing or empty"):
            open_patches(f"{address}/patches.zarr")
    assert together.key == alone.key
    np.testing.assert_array_equal(together.views, alone.views)


def test_batches_fit_into_memory():
    """64 MB of float32 pixels, at least one image, and at most 1,024."""
    assert choose_batch_size((12, 256, 256)) == 2**26 // (4 * 12 * 256**2)
    assert choose_batch_size((26, 8, 8)) == 1024 and choose_batch_size((13, 5000, 5000)) == 1
