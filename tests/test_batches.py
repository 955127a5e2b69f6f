"""Batches: every row once per epoch, an order that a restart repeats, jitter in metres."""

import itertools

import numpy as np
import pytest
import torch
from small import make_encoder

from satclip_lib.sphere import METRES_PER_DEG
from satclip_lib.training import batches as module
from satclip_lib.training.batches import Batches, jitter_lonlat, make_batches

LONLAT = np.stack([np.linspace(-170, 170, 100), np.linspace(-80, 80, 100)], axis=1)
ROWS = np.arange(0, 100, 2)  # this split's


def _make(**changes):
    arguments = {"rows": ROWS, "batch_size": 8, "shuffle": True, "seed": 0}
    return Batches(lambda rows, _: torch.from_numpy(rows), LONLAT, **(arguments | changes))


def _rows(batches, epoch=0):
    batches.set_epoch(epoch)
    return [rows.tolist() for rows, _ in batches]


def test_training_sees_every_row_once_but_for_the_rest():
    """An epoch has whole batches only, no row twice, and drops another rest each epoch."""
    batches = _make()
    assert len(batches) == 50 // 8
    dropped = set()
    for epoch in range(20):
        found = _rows(batches, epoch)
        assert [len(rows) for rows in found] == [8] * 6
        seen = set(itertools.chain(*found))
        assert len(seen) == 48 and seen < set(ROWS)
        dropped |= set(ROWS) - seen
    assert len(dropped) > 10


def test_validation_sees_every_row_in_order():
    """Without shuffling, rows come in order, the rest as a smaller batch, plain and unmoved."""
    batches = _make(shuffle=False, jitter_m=500.0, num_views=4)
    assert len(batches) == 7
    for epoch in (0, 5):
        assert list(itertools.chain(*_rows(batches, epoch))) == ROWS.tolist()
    for rows, lonlat in batches:
        np.testing.assert_array_equal(lonlat, LONLAT[rows])
    batches.load = lambda rows, views: torch.from_numpy(views)
    assert all((views == 0).all() for views, _ in batches)


def test_order_and_jitter_depend_on_seed_and_epoch_alone():
    """A fresh object repeats any epoch of any other; seeds and epochs differ from each other."""
    used, fresh = _make(jitter_m=1000.0), _make(jitter_m=1000.0)
    for epoch in (0, 2, 1):
        _rows(used, epoch)
    fresh.set_epoch(1)
    for (rows, lonlat), (rows_again, lonlat_again) in zip(used, fresh, strict=True):
        assert torch.equal(rows, rows_again) and torch.equal(lonlat, lonlat_again)
    orders = [_rows(_make(seed=seed), epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert all(orders[i] != orders[j] for i in range(4) for j in range(i))


def test_images_and_locations_stay_together():
    """Each row comes with its own location, jittered or not."""
    for rows, lonlat in _make(jitter_m=100.0):
        assert lonlat.dtype == torch.float64
        np.testing.assert_allclose(lonlat, LONLAT[rows], atol=0.01)
        assert not np.isin(lonlat, LONLAT[rows]).any()
    for rows, lonlat in _make(jitter_m=0.0):
        np.testing.assert_array_equal(lonlat, LONLAT[rows])


def test_processes_share_what_one_would_see():
    """The parts of two and of three processes make up the batches of one, jitter and views too."""

    def pairs(batches):
        return [
            {
                (int(row), int(view), *place)
                for (row, view), place in zip(x, lonlat.tolist(), strict=True)
            }
            for x, lonlat in batches
        ]

    def make():
        batches = _make(batch_size=7, jitter_m=500.0, num_views=3)
        batches.load = lambda rows, views: torch.from_numpy(np.stack([rows, views], axis=1))
        return batches

    alone = pairs(make())
    assert {view for batch in alone for _, view, *_ in batch} == {0, 1, 2}
    for count in (2, 3):
        parts = [make() for _ in range(count)]
        for rank, part in enumerate(parts):
            part.share(rank, count)
        shared = [pairs(part) for part in parts]
        assert [set.union(*batch) for batch in zip(*shared, strict=True)] == alone
        sizes = [len(batch[0]) for batch in shared]
        assert sum(sizes) == 7 and max(sizes) - min(sizes) == 1


def test_harmonics_take_the_place_of_degrees_that_stay():
    """Kept harmonics, one row for each of the split's, are given out with the right rows."""
    of_all = torch.arange(400.0).view(100, 4)
    batches = _make()
    batches.keep_harmonics(of_all[ROWS])
    for rows, given in batches:
        assert torch.equal(given, of_all[rows])


def test_a_batch_needs_negatives():
    """Batch sizes and splits below two are errors; a rest of one row is left out."""
    batches = _make(rows=np.arange(17), shuffle=False)
    assert [len(rows) for rows in _rows(batches)] == [8, 8] and len(batches) == 2
    with pytest.raises(ValueError, match=r"batch_size must be at least 2.*got 1"):
        _make(batch_size=1)
    with pytest.raises(ValueError, match="at least 2 patches, got 1: raise num_patches"):
        _make(rows=np.arange(1))


@pytest.mark.parametrize("lat", [0.0, 60.0, -85.0, 89.0])
def test_jitter_is_bounded_and_symmetric_in_metres(lat):
    """Moves fill [-d, d] metres along both axes, evenly, at any latitude."""
    lonlat = np.full((20_000, 2), [10.0, lat])
    moved = jitter_lonlat(lonlat, max_metres=1000.0, rng=np.random.default_rng(0))
    north = (moved[:, 1] - lat) * METRES_PER_DEG
    east = (moved[:, 0] - 10) * METRES_PER_DEG * np.cos(np.radians(moved[:, 1]))
    for metres in (north, east):
        assert 990 < metres.max() < 1000.001 and -1000.001 < metres.min() < -990
        assert abs(metres.mean()) < 20
        assert metres.std() == pytest.approx(1000 / 3**0.5, rel=0.02)
    assert abs(np.corrcoef(north, east)[0, 1]) < 0.03


def test_jitter_wraps_at_the_date_line():
    """Across the date line a location comes out on the other side, still within [-180, 180)."""
    lonlat = np.full((1000, 2), [180.0, 10.0])
    lon = jitter_lonlat(lonlat, max_metres=1000.0, rng=np.random.default_rng(0))[:, 0]
    assert ((lon >= -180) & (lon < 180)).all()
    assert 0.4 < np.mean(lon > 0) < 0.6
    assert np.abs(np.abs(lon) - 180).max() < 0.01


@pytest.mark.parametrize("lat", [90.0, -90.0, 89.9999])
def test_jitter_stays_on_the_sphere_at_a_pole(lat):
    """At a pole latitudes stay within 90 degrees and nothing becomes infinite."""
    lonlat = np.full((1000, 2), [0.0, lat])
    moved = jitter_lonlat(lonlat, max_metres=1000.0, rng=np.random.default_rng(0))
    assert np.isfinite(moved).all() and np.abs(moved[:, 1]).max() <= 90
    assert (np.abs(moved[:, 1] - lat) * METRES_PER_DEG).max() <= 1000.001
    assert np.abs(moved[:, 0]).max() < 180


@pytest.mark.parametrize(("spare", "is_kept"), [(0, True), (-1, False)])
def test_harmonics_are_kept_while_they_fit_into_memory(spare, is_kept, monkeypatch):
    """Those of 90 training rows, 16 float32 each; the 10 held-out ones always do here."""
    monkeypatch.setattr(module, "MAX_HARMONICS_BYTES", 90 * 16 * 4 + spare)
    settings = {"batch_size": 8, "jitter_m": 0.0, "seed": 0, "device": torch.device("cpu")}
    is_val, views = np.arange(100) >= 90, np.zeros((1, 100, 3), np.float32)
    training, held_out = make_batches(
        views, LONLAT, is_val=is_val, encoder=make_encoder(num_degrees=4), **settings
    )
    assert (training.harmonics is not None) == is_kept and len(held_out.harmonics) == 10
