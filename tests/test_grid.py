"""Lazy grids hold the numbers of embed(), with CF attributes and a measured rounding error."""

import cloudpickle
import dask
import numpy as np
import pytest
import torch
import xarray as xr
from small import make_encoder

from satclip_lib.embedding import grid as embedding_grid
from satclip_lib.embedding.embed import embed
from satclip_lib.embedding.grid import embed_grid, make_axes


@pytest.fixture(scope="module")
def encoder():
    """A small location encoder."""
    return make_encoder(num_degrees=6, embed_dim=5)


def test_nothing_is_computed_early(encoder, monkeypatch):
    """Making a grid costs nothing, and asking for a corner of it computes one block."""
    monkeypatch.setattr(embedding_grid, "BLOCK_BYTES", 16 * 360 * 4 * 5)
    calls = []
    original = embedding_grid._embed_block
    monkeypatch.setattr(
        embedding_grid,
        "_embed_block",
        lambda *args, **kept: calls.append(1) or original(*args, **kept),
    )
    grid = embed_grid(encoder, resolution_deg=1)
    assert grid.shape == (181, 360, 5) and not calls
    assert grid.chunks[0][:2] == (16, 16)
    grid[0, 0].compute()
    assert len(calls) == 1


def test_blocks_of_wide_rows_are_parts_of_rows(encoder, monkeypatch):
    """Where 16 rows are too much for a block, columns are split too, and values stay the same."""
    whole = embed_grid(encoder, resolution_deg=2).compute()
    monkeypatch.setattr(embedding_grid, "BLOCK_BYTES", 16 * 64 * 4 * 5)
    grid = embed_grid(encoder, resolution_deg=2)
    assert grid.chunks == ((16,) * 5 + (11,), (64, 64, 52), (5,))
    xr.testing.assert_allclose(grid.compute(), whole, atol=1e-5)


def test_axes_are_those_of_reanalyses_and_of_rasters():
    """0.25 degrees is 721 x 1440 with the poles, or 720 x 1440 cells between them."""
    lat, lon = make_axes(0.25)
    assert (lat.size, lon.size) == (721, 1440)
    assert (lat[0], lat[-1], lon[0], lon[-1]) == (90, -90, -180, 179.75)
    lat, lon = make_axes(0.25, registration="pixel")
    assert (lat.size, lon.size) == (720, 1440)
    assert (lat[0], lat[-1], lon[0], lon[-1]) == (89.875, -89.875, -179.875, 179.875)


def test_attributes_follow_cf(encoder):
    """Axes have CF's standard names and units, and the values say what they are."""
    grid = embed_grid(encoder, resolution_deg=30)
    assert grid.dims == ("lat", "lon", "feature") and grid.name == "embedding"
    assert grid.lat.attrs["standard_name"] == "latitude"
    assert grid.lat.attrs["units"] == "degrees_north"
    assert grid.lon.attrs["standard_name"] == "longitude"
    assert grid.lon.attrs["units"] == "degrees_east"
    assert grid.attrs["units"] == "1" and len(grid.attrs["sha256_of_inputs"]) == 64


def test_templates_give_their_coordinates(encoder):
    """Names and order are kept, also from 0 to 360 and south first; values are those of points."""
    coords = {"latitude": [-10.0, 20.0], "longitude": [0.0, 120.0, 350.0]}
    template = xr.DataArray(np.zeros((3, 2, 4)), dims=("longitude", "latitude", "time"))
    template = template.assign_coords(coords)
    grid = embed_grid(encoder, template=template)
    assert grid.dims == ("latitude", "longitude", "feature")
    for name in coords:
        np.testing.assert_array_equal(grid[name], template[name])
    points = np.stack([np.tile(coords["longitude"], 2), np.repeat(coords["latitude"], 3)], axis=1)
    expected = embed(points, encoder, wrap_longitude=True).reshape(2, 3, 5)
    np.testing.assert_allclose(grid, expected, atol=1e-5)


def test_the_encoder_is_once_in_the_graph(monkeypatch):
    """However many blocks there are, one task of the graph holds the weights."""
    monkeypatch.setattr(embedding_grid, "BLOCK_BYTES", 16 * 64 * 4 * 5)
    grid = embed_grid(make_encoder(num_degrees=6, hidden_dim=256, embed_dim=5), resolution_deg=2)
    assert grid.data.npartitions == 18
    for graph in (grid.data.dask, dask.optimize(grid.data)[0].dask):
        sizes = [len(cloudpickle.dumps(task)) for task in dict(graph).values()]
        assert sum(size > 4 * 256 * 256 for size in sizes) == 1


@pytest.mark.parametrize(("dtype", "bar"), [("float16", 1e-3), ("int8", 1e-2)])
def test_rounding_errors_are_as_said(encoder, dtype, bar):
    """What is said of the rounding is what one finds, and it is small."""
    exact = embed_grid(encoder, resolution_deg=3).compute()
    grid = embed_grid(encoder, resolution_deg=3, dtype=dtype)
    assert grid.dtype == dtype
    rounded = grid.compute().astype(np.float32) * np.float32(grid.attrs.get("scale_factor", 1))
    error = np.abs(rounded.values - exact.values)
    assert error.mean() == pytest.approx(grid.attrs["rounding_mean_error"], rel=0.1)
    assert error.max() < bar * np.abs(exact.values).max()
    assert grid.attrs["rounding_largest_error"] < bar * np.abs(exact.values).max()
    assert 0.999 < grid.attrs["rounding_smallest_cosine"] <= 1.0001


def test_same_inputs_same_names(encoder):
    """Keys in Dask's graph are a hash of weights, axes and dtype, so work is known again."""
    first, again = (embed_grid(encoder, resolution_deg=30) for _ in range(2))
    assert first.data.name == again.data.name
    others = [
        embed_grid(encoder, resolution_deg=45),
        embed_grid(encoder, resolution_deg=30, dtype="int8"),
        embed_grid(make_encoder(seed=1, num_degrees=6, embed_dim=5), resolution_deg=30),
    ]
    assert len({first.data.name, *(grid.data.name for grid in others)}) == 4


def test_impossible_grids_are_refused(encoder, shape_checks_off):
    """Errors say which argument to change."""
    with pytest.raises(ValueError, match="either resolution_deg or template"):
        embed_grid(encoder)
    for resolution in (0.7, 0, -1, 400):
        with pytest.raises(ValueError, match=f"must divide 180 degrees, got {resolution}"):
            embed_grid(encoder, resolution_deg=resolution)
    with pytest.raises(ValueError, match="dtype must be one of"):
        embed_grid(encoder, resolution_deg=10, dtype="uint8")
    with pytest.raises(ValueError, match="registration must be one of"):
        embed_grid(encoder, resolution_deg=10, registration="center")
    with pytest.raises(ValueError, match=r"use embed\(\) for other shapes"):
        embed_grid(encoder, template=xr.Dataset(coords={"x": [1.0], "y": [2.0]}))
    rotated = xr.Dataset(coords={"lon": ("lon", [1.0], {"standard_name": "grid_longitude"})})
    with pytest.raises(ValueError, match="grid_longitude, which is no longitude"):
        embed_grid(encoder, template=rotated.assign_coords(lat=[2.0]))
    swapped = xr.Dataset(coords={"lat": [-150.0, 150.0], "lon": [-80.0, 80.0]})
    with pytest.raises(ValueError, match="swapped"):
        embed_grid(encoder, template=swapped)
    with pytest.raises(TypeError, match="a grid needs a LocationEncoder, got a Linear"):
        embed_grid(torch.nn.Linear(2, 3).eval(), resolution_deg=10)
