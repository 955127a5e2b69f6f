"""Grids are written block by block, whole or not at all, and continue where they stopped."""

import dask
import numpy as np
import pytest
import rasterio
import torch
import xarray as xr
from dask.distributed import Client, LocalCluster

from satclip_lib.embedding import grid as embedding_grid
from satclip_lib.embedding import grid_files
from satclip_lib.embedding.grid import embed_grid
from satclip_lib.embedding.grid_files import save_grid
from satclip_lib.location_encoder import LocationEncoder, LocationEncoderConfig


@pytest.fixture(scope="module")
def encoder():
    """A small location encoder."""
    torch.manual_seed(0)
    return LocationEncoder(LocationEncoderConfig(num_degrees=6, hidden_dim=16, embed_dim=5)).eval()


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of 16 rows, of 72 cells of 5 numbers."""
    monkeypatch.setattr(embedding_grid, "BLOCK_BYTES", 16 * 72 * 4 * 5)


def _open(path):
    return xr.open_zarr(path, consolidated=False).embedding


def test_zarr_holds_the_grid(encoder, tmp_path):
    """What is read back is what was computed, with attributes, and nothing else is left."""
    grid = embed_grid(encoder, resolution_deg=5)
    path = save_grid(grid, tmp_path / "globe.zarr")
    xr.testing.assert_identical(_open(path).compute(), grid.compute())
    assert xr.open_zarr(path, consolidated=False).attrs["Conventions"] == "CF-1.11"
    assert [child.name for child in tmp_path.iterdir()] == ["globe.zarr"]
    assert len(list((path / "embedding" / "c").iterdir())) == 3  # a file per block


def test_int8_is_decoded_by_xarray(encoder, tmp_path):
    """The scale factor is applied on opening, so numbers are embeddings again."""
    exact = embed_grid(encoder, resolution_deg=5).compute()
    path = save_grid(embed_grid(encoder, resolution_deg=5, dtype="int8"), tmp_path / "globe.zarr")
    found = _open(path)
    assert found.dtype.kind == "f"
    np.testing.assert_allclose(found, exact, atol=0.02)


def test_stopped_runs_continue(encoder, tmp_path, monkeypatch):
    """Blocks that are on disk are not computed again, and the result is the same."""
    grid = embed_grid(encoder, resolution_deg=5)
    written = []
    original = grid_files._write_block

    def stop_at_the_third(block, array, region):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(region)
        original(block, array, region)

    monkeypatch.setattr(grid_files, "_write_block", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt), dask.config.set(scheduler="synchronous"):
        save_grid(grid, tmp_path / "globe.zarr")
    assert not (tmp_path / "globe.zarr").exists()
    first = set(map(str, written))

    def note(block, array, region):
        written.append(region)
        original(block, array, region)

    monkeypatch.setattr(grid_files, "_write_block", note)
    save_grid(embed_grid(encoder, resolution_deg=5), tmp_path / "globe.zarr")
    assert len(written) == 3 and str(written[-1]) not in first
    xr.testing.assert_identical(_open(tmp_path / "globe.zarr").compute(), grid.compute())


def test_another_grid_does_not_continue_it(encoder, tmp_path, monkeypatch):
    """What one grid left half-written is not taken for another; a finished one is replaced."""
    original = grid_files._write_block
    monkeypatch.setattr(grid_files, "_write_block", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_grid(embed_grid(encoder, resolution_deg=5), tmp_path / "globe.zarr")
    monkeypatch.setattr(grid_files, "_write_block", original)
    for resolution in (10, 15):
        grid = embed_grid(encoder, resolution_deg=resolution)
        save_grid(grid, tmp_path / "globe.zarr")
        xr.testing.assert_identical(_open(tmp_path / "globe.zarr").compute(), grid.compute())


def test_grids_may_be_worked_on_first(encoder, tmp_path):
    """What xarray makes of a grid, still lazy, is written as well."""
    grid = embed_grid(encoder, resolution_deg=5)
    tropics = (2 * grid.sel(lat=slice(23.5, -23.5))).rename("tropics")
    save_grid(tropics, tmp_path / "tropics.zarr")
    found = xr.open_zarr(tmp_path / "tropics.zarr", consolidated=False).tropics
    np.testing.assert_array_equal(found, tropics.compute())


def test_a_cluster_writes_the_same(encoder, tmp_path):
    """With a distributed client the blocks come from its workers, to the same files."""
    grid = embed_grid(encoder, resolution_deg=5)
    with (
        dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}),
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster),
    ):
        save_grid(grid, tmp_path / "globe.zarr")
        assert "write_block" in cluster.scheduler.task_prefixes
    np.testing.assert_allclose(_open(tmp_path / "globe.zarr"), grid.compute(), atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_geotiff_is_cloud_optimised_and_north_up(encoder, tmp_path, dtype):
    """A band per feature, in place on the globe, also from a grid that runs north."""
    lat, lon = np.arange(-85.0, 90, 10), np.arange(-175.0, 180, 10)
    template = xr.Dataset(coords={"lat": lat, "lon": lon})
    grid = embed_grid(encoder, template=template, dtype=dtype)
    path = save_grid(grid, tmp_path / "globe.tif")
    with rasterio.open(path) as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert (file.count, file.dtypes[0], file.crs) == (5, dtype, "EPSG:4326")
        assert tuple(file.bounds) == (-180, -90, 180, 90)
        np.testing.assert_array_equal(np.moveaxis(file.read(), 0, -1), grid.values[::-1])
        assert file.scales[0] == grid.attrs.get("scale_factor", 1.0)
    assert [child.name for child in tmp_path.iterdir()] == ["globe.tif"]


def test_what_cannot_be_written_is_refused_before_any_work(encoder, tmp_path):
    """Half floats and uneven steps are no GeoTIFF, and a grid in memory needs no writer."""
    with pytest.raises(ValueError, match="float32 or int8, got float16"):
        save_grid(embed_grid(encoder, resolution_deg=5, dtype="float16"), tmp_path / "a.tif")
    uneven = xr.Dataset(coords={"lat": [0.0, 1.0, 3.0], "lon": [0.0, 1.0]})
    with pytest.raises(ValueError, match="equal steps: write Zarr"):
        save_grid(embed_grid(encoder, template=uneven), tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"write it with grid.to_zarr"):
        save_grid(embed_grid(encoder, resolution_deg=30).compute(), tmp_path / "a.zarr")
    assert not list(tmp_path.iterdir())
