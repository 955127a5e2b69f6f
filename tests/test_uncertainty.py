"""Uncertainty grows away from the training locations, and with disagreement under dropout."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import make_encoder

from satclip_lib.checkpoints.store import load_training_lonlat, save_training_lonlat
from satclip_lib.embedding.uncertainty import (
    compute_distance_to_nearest_km,
    compute_dropout_spread,
    compute_uncertainty,
)
from satclip_lib.sphere import compute_distance_km

LONLAT = np.array([[0.0, 0.0], [10.0, 50.0], [-170.0, -80.0]])


def test_distances_are_great_circles():
    """A degree is 111.195 km, the date line is no border, and antipodes are half a turn away."""
    found = compute_distance_to_nearest_km(
        np.array([[0.0, 1.0], [-179.5, 0.0], [0.0, 90.0], [180.0, 0.0]]),
        np.array([[0.0, 0.0], [179.5, 0.0]]),
    )
    np.testing.assert_allclose(found, [111.195, 111.195, 10007.557, 55.5975], rtol=1e-5)
    antipode = compute_distance_to_nearest_km(np.array([[180.0, 0.0]]), np.zeros((1, 2)))
    np.testing.assert_allclose(antipode, 20015.1, rtol=1e-5)


@given(
    st.lists(st.tuples(st.floats(-180, 180), st.floats(-90, 90)), min_size=1, max_size=6),
    st.tuples(st.floats(-180, 180), st.floats(-90, 90)),
)
def test_nearest_is_the_smallest_of_all_distances(training, place):
    """The tree finds what trying each training location finds."""
    place, training = np.array([place]), np.array(training)
    (found,) = compute_distance_to_nearest_km(place, training)
    expected = compute_distance_km(training, place).min()
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-3)


def test_spread_leaves_no_trace():
    """It is a share, that of seed 0 by default; the model and the random numbers of torch stay."""
    encoder = make_encoder()
    torch.manual_seed(5)
    expected_next = torch.rand(3)
    torch.manual_seed(5)
    first = compute_dropout_spread(LONLAT, encoder, seed=0)
    assert torch.equal(torch.rand(3), expected_next) and not encoder.training
    np.testing.assert_array_equal(first, compute_dropout_spread(LONLAT, encoder, num_passes=16))
    defaults = compute_uncertainty(LONLAT, encoder, training_lonlat=LONLAT)
    np.testing.assert_array_equal(first, defaults["dropout_spread"])
    assert ((first > 0) & (first < 1)).all()


def test_what_cannot_be_said_is_an_error(shape_checks_off):
    """No dropout, no training locations, one pass or another model are refused with advice."""
    with pytest.raises(ValueError, match="without dropout"):
        compute_dropout_spread(LONLAT, make_encoder(dropout=0.0))
    with pytest.raises(ValueError, match="num_passes must be at least 2, got 1"):
        compute_dropout_spread(LONLAT, make_encoder(), num_passes=1)
    with pytest.raises(TypeError, match="needs a LocationEncoder, got Identity"):
        compute_dropout_spread(LONLAT, torch.nn.Identity())
    with pytest.raises(ValueError, match="training_lonlat is empty"):
        compute_distance_to_nearest_km(LONLAT, np.empty((0, 2)))
    with pytest.raises(ValueError, match="pass training_lonlat"):
        load_training_lonlat(make_encoder())


def test_nothing_is_asked_about_nowhere():
    """No locations have no uncertainty."""
    found = compute_uncertainty(np.empty((0, 2)), make_encoder(), training_lonlat=LONLAT)
    assert found["distance_km"].shape == found["dropout_spread"].shape == (0,)


def test_training_locations_are_kept_to_a_metre(tmp_path):
    """What is saved beside a checkpoint is read back, at most a metre away."""
    save_training_lonlat(tmp_path, LONLAT + 1 / 3)
    config = tmp_path / "config.json"
    config.write_text("{}")
    found = load_training_lonlat(tmp_path)
    assert compute_distance_to_nearest_km(LONLAT + 1 / 3, found).max() < 0.0015


def test_spread_does_not_depend_on_the_other_rows():
    """A place has the same spread alone as among others, in any batch."""
    encoder = make_encoder()
    lonlat = np.random.default_rng(0).uniform((-180, -90), (180, 90), (1030, 2))
    whole = compute_dropout_spread(lonlat, encoder)
    rows = [0, 1023, 1024, 1029]
    alone = [compute_dropout_spread(lonlat[[row]], encoder)[0] for row in rows]
    np.testing.assert_allclose(whole[rows], alone, rtol=0, atol=1e-6)


def test_spread_is_that_of_whole_networks():
    """The same masks, one after another through the network as it is written, give the same."""
    encoder, num_passes, share = make_encoder(dropout=0.3), 2, 0.3
    generator = torch.Generator().manual_seed(3)
    total = torch.zeros(3, 6)
    for _ in range(num_passes):
        x = encoder.compute_harmonics(torch.from_numpy(LONLAT))
        for layer, omega in zip(encoder.network.layers, encoder.network.omegas, strict=True):
            kept = torch.rand(16, generator=generator) >= share
            x = torch.sin(omega * layer(x) * kept / (1 - share))
        x = encoder.network.last_layer(x)
        total += x / x.norm(dim=1, keepdim=True)
    expected = 1 - (total / num_passes).norm(dim=1)
    found = compute_dropout_spread(LONLAT, encoder, num_passes=num_passes, seed=3)
    np.testing.assert_allclose(found, expected.detach(), rtol=0, atol=1e-6)
    both = compute_uncertainty(
        LONLAT, encoder, training_lonlat=LONLAT, num_passes=num_passes, seed=3
    )
    np.testing.assert_array_equal(both["dropout_spread"], found)
