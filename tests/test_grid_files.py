"""Grids are written block by block, whole or not at all, and continue where they stopped."""

import signal

import dask
import numpy as np
import processes
import pytest
import rasterio
import rasterio.shutil
import xarray as xr
from folders import hash_files
from small import make_encoder

from satclip_lib.embedding import grid as embedding_grid
from satclip_lib.embedding import grid_files, grid_rasters
from satclip_lib.embedding.embed import embed
from satclip_lib.embedding.grid import embed_grid
from satclip_lib.embedding.grid_files import save_grid, save_raster


@pytest.fixture(scope="module")
def encoder():
    """A small location encoder."""
    return make_encoder(num_degrees=6, embed_dim=5)


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
    written, most = [], 2
    write_block = grid_files._write_block

    def write_or_stop(block, array, region):
        if len(written) == most:
            raise KeyboardInterrupt
        write_block(block, array, region)
        written.append(str(region))

    monkeypatch.setattr(grid_files, "_write_block", write_or_stop)
    grid = embed_grid(encoder, resolution_deg=5)
    with pytest.raises(KeyboardInterrupt), dask.config.set(scheduler="synchronous"):
        save_grid(grid, tmp_path / "globe.zarr")
    assert not (tmp_path / "globe.zarr").exists()
    most = 3
    save_grid(embed_grid(encoder, resolution_deg=5), tmp_path / "globe.zarr")
    assert len(set(written)) == 3
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


OPERATIONS = {
    "arithmetic": lambda grid: (2 * grid.sel(lat=slice(23.5, -23.5))).rename("tropics"),
    "slice": lambda grid: grid.isel(lat=slice(5, None), lon=slice(3, 50)),
    "coarsened": lambda grid: grid.coarsen(lat=3, lon=4, boundary="trim").mean(),
    "transposed": lambda grid: grid.transpose("feature", "lon", "lat"),
    "concatenated": lambda grid: xr.concat([grid[-7:], grid[:20], grid[20:-7]], "lat"),
    "one feature": lambda grid: grid.isel(feature=2),
    "a mean": lambda grid: grid.mean("lat"),
    "without a name": lambda grid: grid.rename(None),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_grids_may_be_worked_on_first(encoder, tmp_path, operation):
    """What xarray makes of a grid, still lazy, is written with its values, order and axes."""
    grid = OPERATIONS[operation](embed_grid(encoder, resolution_deg=5))
    path = save_grid(grid, tmp_path / "grid.zarr")
    found = xr.open_zarr(path, consolidated=False)[grid.name or "embedding"]
    xr.testing.assert_equal(found.compute(), grid.compute())
    assert found.dims == grid.dims


def test_a_cluster_writes_the_same(encoder, tmp_path):
    """With a distributed client the blocks come from its workers, to the same files."""
    from dask.distributed import Client, LocalCluster  # processes of other tests need it not

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
    path = save_grid(grid.transpose("feature", ...), tmp_path / "globe.tif")
    with rasterio.open(path) as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert (file.count, file.dtypes[0], file.crs) == (5, dtype, "EPSG:4326")
        assert tuple(file.bounds) == (-180, -90, 180, 90)
        np.testing.assert_array_equal(np.moveaxis(file.read(), 0, -1), grid.values[::-1])
        assert file.scales[0] == grid.attrs.get("scale_factor", 1.0)
        assert file.tags()["sha256_of_inputs"] == grid.attrs["sha256_of_inputs"]
    assert [child.name for child in tmp_path.iterdir()] == ["globe.tif"]


def _axes(lat, lon):
    return {"template": xr.Dataset(coords={"lat": lat, "lon": lon})}


STRIP = np.arange(-20.0, -9, 0.5)
FINE = np.arange(-16.8, -16.2, 0.1, dtype=np.float32)
GRIDS = {
    "gridline": ({"resolution_deg": 1}, (-180, -90, 180, 90)),
    "0 to 360, both ends": (_axes(np.arange(-90.0, 91, 2), np.arange(0.0, 361, 2)), None),
    "0 to 360, pixel": (_axes(np.arange(-89.0, 90, 2), np.arange(1.0, 360, 2)), None),
    "-180 to 180, both ends": (_axes(STRIP, np.arange(-180.0, 181, 1)), (-180, -20.25, 180, -9.25)),
    "Fiji, gridline": (_axes(STRIP, np.arange(170.0, 191, 1)), (-180, -20.25, 180, -9.25)),
    "Fiji, wrapped": (
        _axes(STRIP, np.r_[np.arange(170.0, 180), np.arange(-180.0, -170)]),
        (-180, -20.25, 180, -9.25),
    ),
    "east of 180": (_axes(STRIP, np.arange(200.0, 211, 1)), (-160.5, -20.25, -149.5, -9.25)),
    "float32": (_axes(FINE, np.arange(179.1, 179.9, 0.1, dtype=np.float32)), None),
    "float32, across": (_axes(FINE, np.arange(179.1, 181.05, 0.1, dtype=np.float32)), None),
    "from a pole": (_axes(np.arange(90.0, 59, -3), np.arange(-9.0, 9, 3)), (-10.5, 58.5, 7.5, 90)),
}


@pytest.mark.parametrize("name", GRIDS)
def test_a_gis_samples_the_embedding_of_the_place(encoder, tmp_path, name):
    """Anywhere on the map a GIS finds the embedding of the nearest grid point, or nodata."""
    options, bounds = GRIDS[name]
    grid = embed_grid(encoder, **options)
    path = save_grid(grid, tmp_path / "grid.tif")
    rng = np.random.default_rng(0)
    places = np.stack([rng.uniform(-180, 180, 300), np.degrees(np.arcsin(rng.uniform(-1, 1, 300)))])
    seam = [
        [179.8, -179.9, 179.3, -175.2, 175.7, -155.1],
        [-16.51, -16.46, -16.56, -15.1, -14.8, -13.1],
    ]
    poles = [[3.03, -4.04, 179.07, -178.93], [89.9, 89.3, -89.9, 89.6]]
    lon, lat = np.concatenate([places, seam, poles], axis=1)
    off_lat = np.abs(lat[:, None] - grid.lat.values)
    off_lon = np.abs((lon[:, None] - grid.lon.values + 180) % 360 - 180)
    reach = np.array([np.abs(np.diff(axis)[0]) / 2 for axis in (grid.lat, grid.lon)])
    inside = (off_lat.min(1) < reach[0]) & (off_lon.min(1) < reach[1])
    assert inside.sum() >= 2
    nearest = np.stack(
        [grid.lon.values[off_lon.argmin(1)], grid.lat.values[off_lat.argmin(1)]], axis=1
    )
    expected = embed(nearest, encoder, wrap_longitude=True)
    with rasterio.open(path) as file:
        found = np.array(list(file.sample(np.stack([lon, lat], axis=1))))
        left, bottom, right, top = file.bounds
        assert np.isnan(file.nodata)
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-5)
    assert np.isnan(found[~inside]).all()
    assert -180 <= left < right <= 180 and -90 <= bottom < top <= 90
    if bounds:
        np.testing.assert_allclose((left, bottom, right, top), bounds, rtol=0, atol=1e-9)


def test_gaps_of_whole_numbers_are_nodata(encoder, tmp_path, monkeypatch):
    """int8 has -128 for no data; windows of a few columns give what one window gives."""
    grid = embed_grid(encoder, **GRIDS["Fiji, gridline"][0], dtype="int8")
    monkeypatch.setattr(grid_rasters, "WINDOW_BYTES", 1)
    with rasterio.open(save_grid(grid, tmp_path / "fiji.tif")) as file:
        near, across, gap = file.sample([(179.8, -16.5), (-179.8, -16.5), (0, -16.5)])
        assert file.nodata == -128 and (gap == -128).all()
    np.testing.assert_array_equal(near, grid.sel(lon=180, lat=-16.5))
    np.testing.assert_array_equal(across, near)


def test_what_cannot_be_written_is_refused_before_any_work(encoder, tmp_path):
    """Half floats, uneven steps and cells off the map are no GeoTIFF; nothing is left behind."""
    for message, options in {
        "float32 or int8, got float16": {"resolution_deg": 5, "dtype": "float16"},
        "equal steps: write Zarr": _axes([0.0, 1.0, 3.0], [0.0, 1.0]),
        "two or more lat and lon": _axes([0.0], [0.0, 1.0]),
        "beyond a pole": _axes(np.arange(89.9, 50, -1), [0.0, 1.0]),
        "do not meet the edge of the map": _axes([0.0, 1.0], np.arange(170.2, 190, 1)),
    }.items():
        with pytest.raises(ValueError, match=message):
            save_grid(embed_grid(encoder, **options), tmp_path / "a.tif")
    grid = embed_grid(encoder, resolution_deg=30)
    with pytest.raises(ValueError, match="one dimension more at most"):
        save_grid(grid.expand_dims("time"), tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"use grid.to_zarr\(path\) or save_raster"):
        save_grid(grid.compute(), tmp_path / "a.zarr")
    with pytest.raises(ValueError, match="no cells"):
        save_grid(grid[:0], tmp_path / "a.zarr")
    assert not list(tmp_path.iterdir())


def _write_thesis(path, encoder):
    path.mkdir()
    (path / "thesis.tex").write_text("ten years")


def _add_a_thesis(path, encoder):
    save_grid(embed_grid(encoder, resolution_deg=45), path)
    (path / "embedding" / "thesis.tex").write_text("ten years")


def _write_another_store(path, encoder):
    embed_grid(encoder, resolution_deg=45).to_zarr(path, consolidated=False)


def _write_another_raster(path, encoder):
    options = {"height": 2, "width": 2, "count": 1, "dtype": "uint8", "crs": "EPSG:4326"}
    where = rasterio.Affine(2, 0, 0, 0, -2, 0)
    with rasterio.open(path, "w", driver="GTiff", transform=where, **options):
        pass


def _write_vrt(path, encoder):
    ours = save_grid(embed_grid(encoder, resolution_deg=45), path.with_name("ours.tif"))
    rasterio.shutil.copy(ours, path, driver="VRT")


FOREIGN = {
    "a folder.zarr": _write_thesis,
    "with a stranger.zarr": _add_a_thesis,
    "another store.zarr": _write_another_store,
    "a file.zarr": lambda path, encoder: path.write_text("ten years"),
    "a folder.tif": _write_thesis,
    "another raster.tif": _write_another_raster,
    "a text.tif": lambda path, encoder: path.write_text("ten years"),
    "a vrt.tif": _write_vrt,
}


@pytest.mark.parametrize("name", FOREIGN)
def test_only_grids_are_replaced(encoder, tmp_path, name):
    """What save_grid did not write stays to the last byte, and is named in the error."""
    target = tmp_path / name
    FOREIGN[name](target, encoder)
    before = hash_files(tmp_path)
    with pytest.raises(FileExistsError, match=f"{name} holds something that save_grid did not"):
        save_grid(embed_grid(encoder, resolution_deg=45), target)
    assert hash_files(tmp_path) == before


@pytest.mark.parametrize("suffix", [".zarr", ".tif"])
def test_links_are_followed(encoder, tmp_path, suffix):
    """A linked output is written where the link leads, again and again; the link stays."""
    (tmp_path / "big disk").mkdir()
    link, real = tmp_path / f"globe{suffix}", tmp_path / "big disk" / f"globe{suffix}"
    link.symlink_to(real)
    for resolution in (45, 30):
        assert save_grid(embed_grid(encoder, resolution_deg=resolution), link) == link
        assert link.is_symlink() and real.exists()
    assert {path.name for path in tmp_path.rglob("globe*")} == {link.name}
    assert sorted(path.name for path in real.parent.iterdir()) == [real.name]


def _save(path):
    """Save a grid in a process of its own."""
    embedding_grid.BLOCK_BYTES = 16 * 72 * 4 * 5
    encoder = make_encoder(num_degrees=6, embed_dim=5)
    save_grid(embed_grid(encoder, resolution_deg=5), path)


# Changes of the disk: in the header, amid blocks, the old grid away, the new one there, tidying up.
STEPS = {".zarr": (10, 27, 31, 32, 37), ".tif": (10, 27, 31, 32, 40)}


@pytest.mark.parametrize("suffix", STEPS)
def test_runs_killed_at_any_step_go_on(encoder, tmp_path, suffix):
    """Rerun, the file is that of an uninterrupted run, and nothing else is left behind."""
    target, whole = tmp_path / f"globe{suffix}", tmp_path / "whole" / f"globe{suffix}"
    grid = embed_grid(encoder, resolution_deg=5)
    save_grid(grid, whole)
    save_grid(embed_grid(encoder, resolution_deg=15), target)  # which is replaced
    for step in STEPS[suffix]:
        exit_code = processes.find_exit_code(processes.die_at_step, step, _save, target)
        assert exit_code == -signal.SIGKILL
        save_grid(grid, target)
        assert sorted(path.name for path in tmp_path.iterdir()) == [target.name, "whole"]
        assert _agree(target, whole)


def _agree(path, other):
    """Whether a reader finds the same in both; numbers of two processes may round differently."""
    (about, values), (about_other, values_of_other) = _read(path), _read(other)
    return (about, values.shape) == (about_other, values_of_other.shape) and np.allclose(
        values, values_of_other, rtol=0, atol=1e-6, equal_nan=True
    )


def _read(path):
    """What describes a store or a raster, and its values."""
    if path.suffix == ".zarr":
        grid = xr.open_zarr(path, consolidated=False).embedding.load()
        names = sorted(p.relative_to(path) for p in path.rglob("*") if p.is_file())
        return (names, grid.attrs, grid.dims, grid.lon.values.tolist()), grid.values
    with rasterio.open(path) as file:
        return (file.tags(), file.transform), file.read()


def test_a_writer_that_runs_is_named(encoder, tmp_path):
    """The error says that another run is at work, and where; save_raster asks as well."""
    grid = embed_grid(encoder, resolution_deg=45)
    for name, save in {"a.zarr": save_grid, "a.tif": save_raster}.items():
        target = (tmp_path / name).resolve()
        with (
            grid_files._reserve(target),
            pytest.raises(
                BlockingIOError, match=f"another run is at work in .*.{name}.saving: wait"
            ),
        ):
            save(grid, target)
    assert not list(tmp_path.iterdir())
