"""embed() gives the numbers of the model in the kind of object that the locations came in."""

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from small import make_encoder, make_model

from satclip_lib.checkpoints.store import save_pretrained, save_training_lonlat
from satclip_lib.embedding.embed import embed

LONLAT = np.array([[2.35, 48.86], [139.69, 35.69], [-60.02, -3.1], [180, 90], [0, -90]])
ENCODER = make_encoder(embed_dim=3)
EXPECTED = ENCODER(torch.from_numpy(LONLAT)).detach().numpy()


def test_tables_keep_their_index():
    """A table comes back with its own index, whatever that is, and numbered columns."""
    index = pd.MultiIndex.from_product([["a"], range(5)], names=["group", "place"])
    table = pd.DataFrame({"lat": LONLAT[:, 1], "lon": LONLAT[:, 0]}, index=index)
    found = embed(table, ENCODER)
    assert found.index.equals(index) and list(table.columns) == ["lat", "lon"]
    assert list(found.columns) == ["embedding_0", "embedding_1", "embedding_2"]
    np.testing.assert_allclose(found, EXPECTED, atol=1e-6)


def test_tensors_stay_tensors():
    """A tensor in, a tensor out, without a graph."""
    found = embed(torch.from_numpy(LONLAT).requires_grad_(), ENCODER)
    assert isinstance(found, torch.Tensor) and not found.requires_grad
    np.testing.assert_allclose(found, EXPECTED, atol=1e-6)


def test_grids_keep_their_coordinates():
    """A grid is embedded by rows, and gives what its cells would give as points."""
    lat, lon = np.array([80.0, 10.0, -90.0]), np.array([0.0, 90.0, 200.0, 359.0])
    grid = xr.DataArray(
        np.zeros((4, 3)), dims=("lon", "lat"), coords={"lon": lon, "lat": lat, "time": 5}
    )
    with pytest.raises(ValueError, match="wrap_longitude"):
        embed(grid, ENCODER)
    found = embed(grid, ENCODER, wrap_longitude=True)
    assert found.dims == ("lat", "lon", "feature") and found.name == "embedding"
    xr.testing.assert_equal(found.lon, grid.lon)
    points = np.stack([np.tile(lon, 3), np.repeat(lat, 4)], axis=1)
    expected = embed(points, ENCODER, wrap_longitude=True).reshape(3, 4, 3)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@given(st.sets(st.integers(0, 4)), st.integers(1, 7))
def test_nan_propagates_to_its_own_rows(rows, batch_size):
    """With "propagate" the rows of NaN are NaN, and all others what they are without them."""
    lonlat = LONLAT.copy()
    lonlat[list(rows), 0] = np.nan
    found = embed(lonlat, ENCODER, missing="propagate", batch_size=batch_size)
    assert np.flatnonzero(np.isnan(found).all(axis=1)).tolist() == sorted(rows)
    others = np.setdiff1d(range(5), list(rows))
    np.testing.assert_allclose(found[others], EXPECTED[others], atol=1e-6)


def test_nan_is_an_error_by_default(shape_checks_off):
    """NaN is refused, in an axis of a grid too, where it can also propagate; so is a third way."""
    grid = xr.DataArray(np.zeros((2, 2)), coords={"lat": [0.0, np.nan], "lon": [1.0, 2.0]})
    for data in (np.full((2, 2), np.nan), grid):
        with pytest.raises(ValueError, match="missing='propagate'"):
            embed(data, ENCODER)
    found = embed(grid, ENCODER, missing="propagate")
    assert found[1].isnull().all() and found[0].notnull().all()
    with pytest.raises(ValueError, match=r"one of \('raise', 'propagate'\), got 'ignore'"):
        embed(LONLAT, ENCODER, missing="ignore")


def test_models_come_in_many_forms(tmp_path):
    """A folder, its name, a whole SatCLIP and a plain module are all models."""
    whole = make_model(embed_dim=3)
    folder = save_pretrained(whole, tmp_path / "model")
    for model in (folder, str(folder), whole):
        np.testing.assert_allclose(embed(LONLAT, model), EXPECTED, atol=1e-6)
    plain = torch.nn.Linear(2, 5).double().eval()
    for batch_size in (None, 2):
        found = embed(LONLAT, plain, batch_size=batch_size)
        np.testing.assert_allclose(found, plain(torch.from_numpy(LONLAT)).detach())


def test_a_plain_module_runs_where_it_is():
    """It gets float64 degrees on its own device, or on the CPU if it has no tensors."""
    seen = []

    class Plain(torch.nn.Module):
        def forward(self, lonlat):
            seen.append((lonlat.device.type, lonlat.dtype))
            return torch.zeros(len(lonlat), 3)

    module = Plain().eval()
    embed(LONLAT, module)
    module.register_buffer("constants", torch.empty(1, device="meta"))
    embed(LONLAT, module)
    assert seen == [("cpu", torch.float64), ("meta", torch.float64)]


@pytest.mark.parametrize(
    ("dtype", "kind"), [(torch.float64, "f8"), (torch.float16, "f2"), (torch.bfloat16, "f4")]
)
def test_precision_is_that_of_the_model(dtype, kind):
    """Embeddings have the dtype of the model, or float32 where NumPy has no such numbers."""
    found = embed(LONLAT, make_encoder(embed_dim=3).to(dtype))
    assert found.dtype == kind
    np.testing.assert_allclose(found, EXPECTED, rtol=0, atol=0.1)


def test_memory_may_lie_otherwise_and_be_read_only():
    """Columns of a table, and arrays that cannot be written to, are taken without a warning."""
    lonlat = np.asfortranarray(LONLAT)
    lonlat.setflags(write=False)
    torch.set_warn_always(True)  # torch says such things once per process
    try:
        np.testing.assert_array_equal(embed(lonlat, ENCODER), embed(LONLAT, ENCODER))
    finally:
        torch.set_warn_always(False)


def test_a_model_in_training_mode_is_refused():
    """Dropout would make embeddings random, so the error says to call eval()."""
    with pytest.raises(ValueError, match=r"call model.eval\(\)"):
        embed(LONLAT, make_encoder().train())


def test_no_locations_are_no_embeddings():
    """Empty tables and arrays keep their columns."""
    assert embed(np.empty((0, 2)), ENCODER).shape == (0, 3)
    assert embed(pd.DataFrame({"lon": [], "lat": []}), ENCODER).shape == (0, 3)
    empty = xr.Dataset(coords={"lon": np.empty(0), "lat": [1.0, 2.0]})
    assert embed(empty, ENCODER).shape == (2, 0, 3)


def test_uncertainty_comes_along(tmp_path):
    """Distances and spreads are two more columns, in all kinds of objects, NaN where unknown."""
    folder = save_pretrained(ENCODER, tmp_path / "model")
    save_training_lonlat(folder, LONLAT[:2])
    lonlat = np.concatenate([LONLAT, [[np.nan, 0]]])
    options = {"with_uncertainty": True, "missing": "propagate"}
    arrays = embed(lonlat, folder, **options)
    assert set(arrays) == {"embedding", "distance_km", "dropout_spread"}
    np.testing.assert_allclose(arrays["distance_km"][:2], 0, atol=0.01)
    assert (arrays["distance_km"][2:5] > 1000).all() and np.isnan(arrays["distance_km"][5])
    table = embed(pd.DataFrame(lonlat, columns=["lon", "lat"]), folder, **options)
    np.testing.assert_array_equal(table["dropout_spread"], arrays["dropout_spread"])
    assert isinstance(embed(torch.tensor(lonlat), folder, **options)["distance_km"], torch.Tensor)
    grid = xr.Dataset(coords={"lat": [0.0, 1.0], "lon": [5.0]})
    dataset = embed(grid, folder, **options)
    assert dataset.distance_km.dims == ("lat", "lon") and dataset.embedding.shape == (2, 1, 3)
    told = embed(lonlat, ENCODER, training_lonlat=LONLAT[:2], **options)
    np.testing.assert_allclose(told["distance_km"], arrays["distance_km"], atol=0.01)
    with pytest.raises(ValueError, match="not known where this model was trained"):
        embed(LONLAT, ENCODER, with_uncertainty=True)
    other = torch.nn.Linear(2, 8).double().eval()
    with pytest.raises(TypeError, match=r"needs a LocationEncoder or SatCLIP.*got Linear"):
        embed(LONLAT, other, with_uncertainty=True, training_lonlat=LONLAT)


def test_a_changed_encoder_gives_new_embeddings():
    """After a step of an optimiser, points and grids have the numbers of the module as it is."""
    encoder = make_encoder(hidden_dim=32)
    lonlat, grid = np.resize(LONLAT, (3000, 2)), xr.Dataset(coords={"lon": [0.0, 9], "lat": [1.0]})
    before = embed(lonlat, encoder), embed(grid, encoder).values
    encoder(torch.from_numpy(LONLAT)).square().sum().backward()
    torch.optim.SGD(encoder.parameters(), lr=0.01).step()
    after = embed(lonlat, encoder), embed(grid, encoder).values
    expected = encoder(torch.from_numpy(lonlat)).numpy(force=True)
    np.testing.assert_allclose(after[0], expected, rtol=0, atol=1e-5)
    assert all(np.abs(new - old).max() > 1e-3 for new, old in zip(after, before, strict=True))
