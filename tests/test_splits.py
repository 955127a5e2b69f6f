"""Splits: nobody is on both sides, neither a point nor its block nor its continent."""

import numpy as np
import pytest

from satclip_lib.data.land import sample_land_lonlat
from satclip_lib.data.natural_earth import lookup_regions
from satclip_lib.data.registry import FileUnavailableError
from satclip_lib.evaluation.splits import (
    CONTINENTS,
    MAX_SHOTS_PERCENT,
    NUM_FOLDS,
    SplitError,
    compute_label_distance_km,
    make_splits,
    parse_protocol,
)
from satclip_lib.sphere import compute_block_ids, compute_distance_km


@pytest.fixture(scope="module")
def lonlat():
    """A few thousand places on land."""
    return sample_land_lonlat(3000, seed=0)


@pytest.mark.parametrize("protocol", ["random", "blocks"])
def test_every_point_is_tested_once(lonlat, protocol):
    """The test points of five folds are all points, a fifth in each."""
    splits = make_splits(protocol, lonlat)
    assert len(splits) == NUM_FOLDS == 5
    tested = np.concatenate([split.test for split in splits])
    np.testing.assert_array_equal(np.sort(tested), np.arange(len(lonlat)))
    sizes = [len(split.test) / len(lonlat) for split in splits]
    assert max(sizes) - min(sizes) < (0.001 if protocol == "random" else 0.02)


@pytest.mark.parametrize("block_deg", [1.0, 10.0, 40.0])
def test_no_block_is_on_both_sides(lonlat, block_deg):
    """No block of the protocol's size is torn by test points, nor by folds of training points."""
    blocks = compute_block_ids(lonlat, block_deg=block_deg)
    for split in make_splits(f"blocks@{block_deg:g}", lonlat):
        assert not np.isin(blocks[split.test], blocks[split.train]).any()
        assert len(set(split.fold_ids)) == NUM_FOLDS - 1
        pairs = set(zip(blocks[split.train], split.fold_ids, strict=True))
        assert len(pairs) == len(set(blocks[split.train]))


def test_ten_degrees_are_the_default(lonlat):
    """The protocol "blocks" is "blocks@10", unless the caller has another side for "blocks"."""
    for name, options in (("blocks@10", {}), ("blocks@5", {"block_deg": 5.0})):
        found, same = make_splits("blocks", lonlat, **options)[0], make_splits(name, lonlat)[0]
        np.testing.assert_array_equal(found.test, same.test)


def test_labels_are_farther_away_the_larger_the_blocks(lonlat):
    """Distances are those of a loop, and grow from random points over blocks to continents."""
    protocols = ("random", "blocks@5", "blocks@10", "blocks@20", "blocks@40")
    medians = []
    for protocol in protocols:
        splits = make_splits(protocol, lonlat)
        distance_km = compute_label_distance_km(splits, lonlat)
        first = splits[0]
        for row in range(0, len(first.test), 97):
            nearest = compute_distance_km(lonlat[first.train], lonlat[first.test[[row]]]).min()
            assert distance_km[row] == pytest.approx(nearest, abs=1e-3)
        medians.append(np.median(distance_km))
    assert medians == sorted(medians) and medians[-1] > 4 * medians[0]


def test_continents_are_held_out_whole_in_turn(lonlat):
    """One split each, as if asked for alone; train, test and inner folds share no continent."""
    continent = lookup_regions(lonlat).continent.fillna("none").to_numpy()
    splits = make_splits("continents", lonlat)
    assert [split.name for split in splits] == list(CONTINENTS)
    for split in splits:
        (alone,) = make_splits(split.name, lonlat)
        for name in ("train", "test", "fold_ids"):
            np.testing.assert_array_equal(getattr(split, name), getattr(alone, name))
        np.testing.assert_array_equal(split.test, np.flatnonzero(continent == split.name))
        assert split.name not in continent[split.train]
        pairs = set(zip(split.fold_ids, continent[split.train], strict=True))
        assert len(pairs) == len(set(split.fold_ids)) == len(set(continent)) - 1


def test_points_far_from_land_are_never_tested_on_a_continent():
    """A point in no country stays in training, whichever continent is held out."""
    lonlat = np.array([(20.0, 0.0), (-30.0, 0.0), (100.0, 35.0)])  # Congo, mid-Atlantic, China
    (split,) = make_splits("Africa", lonlat)
    assert split.test.tolist() == [0] and split.train.tolist() == [1, 2]


def test_an_empty_side_is_an_error():
    """Points that leave nothing to test, or to train on, are an error that says how many."""
    for protocol, other, counts in (("Africa", 10.0, "2 for .* 0 for"), ("Asia", 101.0, "0 for")):
        lonlat = np.array([(100.0, 35.0), (other, 50.0)])
        with pytest.raises(SplitError, match=f"'{protocol}' on 2 points leaves {counts}"):
            make_splits(protocol, lonlat)


def test_places_with_several_points_stay_together():
    """Points with the same coordinates, 360 degrees apart or not, are never on both sides."""
    lonlat = np.repeat(sample_land_lonlat(200, seed=0), 4, axis=0)
    lonlat[::4, 0] += 360
    place = np.arange(800) // 4
    for protocol in ("random", "blocks", "continents+5%"):
        for split in make_splits(protocol, lonlat):
            assert not set(place[split.train]) & set(place[split.test])


@pytest.mark.parametrize("continent", ["Asia", "Oceania"])
def test_shots_are_nested_and_the_test_stays_the_same(lonlat, continent):
    """0, 1, 5 and 10 % of the continent: each in the next, tested on the same other 90 %."""
    (whole,) = make_splits(continent, lonlat)
    splits = [make_splits(f"{continent}+{p}%", lonlat, seed=3)[0] for p in (0, 1, 5, 10)]
    shots = [set(split.train) - set(whole.train) for split in splits]
    assert not shots[0] and shots[1] < shots[2] < shots[3]
    for percent, drawn, split in zip((0, 1, 5, 10), shots, splits, strict=True):
        assert len(drawn) == int(percent * len(whole.test) / 100)
        np.testing.assert_array_equal(split.test, splits[0].test)
        assert not drawn & set(split.test) and drawn <= set(whole.test)
        assert len(split.fold_ids) == len(split.train)
    assert len(splits[0].test) == pytest.approx(0.9 * len(whole.test), abs=1)
    other = make_splits(f"{continent}+5%", lonlat, seed=4)[0]
    assert set(other.train) != set(splits[2].train)


@pytest.mark.parametrize("base", ["random", "blocks", "Africa"])
def test_fewer_labels_are_among_more(lonlat, base):
    """300 labels are among 1,000 of the same seed, and the tested points are the same."""
    few, more, whole = (make_splits(f"{base}{n}", lonlat)[0] for n in (":300", ":1000", ""))
    assert len(few.train) == 300 and len(more.train) == 1000
    assert set(few.train) < set(more.train) < set(whole.train)
    np.testing.assert_array_equal(few.test, whole.test)
    fold_of = dict(zip(whole.train, whole.fold_ids, strict=True))
    assert [fold_of[row] for row in few.train] == few.fold_ids.tolist()


def test_local_classes_have_random_inner_folds(lonlat):
    """On request, the folds for hyper-parameters are random where continents are held out."""
    (split,) = make_splits("Asia+5%", lonlat, random_inner_folds=True)
    continent = lookup_regions(lonlat).continent.to_numpy(dtype=object)[split.train]
    _, sizes = np.unique(split.fold_ids, return_counts=True)
    assert len(sizes) == NUM_FOLDS and np.ptp(sizes) < 0.1 * len(split.train)
    assert all(len(set(split.fold_ids[continent == name])) == NUM_FOLDS for name in CONTINENTS)


@pytest.mark.parametrize("protocol", ["continents", "Asia", "random:1", "random:0"])
def test_training_points_in_one_fold_are_an_error(protocol):
    """Two continents leave one to train on, and one label is one fold: neither can choose."""
    lonlat = np.array([(100.0 + i, 35.0) for i in range(10)] + [(20.0, i) for i in range(10)])
    with pytest.raises(SplitError, match=rf"'{protocol}' on 20 points.*all in one fold"):
        make_splits(protocol, lonlat)
    assert len(make_splits("continents", lonlat, random_inner_folds=True)) == 2
    assert len(make_splits("Asia+10%", lonlat)) == 1


def test_continents_that_are_not_there_cannot_be_held_out(lonlat, monkeypatch):
    """Points of one alone, or no outlines, are an error; without outlines the rest still works."""
    (asia,) = make_splits("Asia", lonlat)
    with pytest.raises(SplitError, match="at least two continents, these are on Asia"):
        make_splits("continents", lonlat[asia.test])

    def fail(lonlat):
        raise FileUnavailableError("no shapefiles")

    monkeypatch.setattr("satclip_lib.evaluation.splits.lookup_regions", fail)
    with pytest.raises(SplitError, match="continents cannot be told apart: no shapefiles"):
        make_splits("Africa", lonlat)
    assert len(make_splits("blocks", lonlat)) == NUM_FOLDS


def test_protocols_are_read():
    """Base, shots and labels, in this order; anything else is an error that says what is."""
    assert parse_protocol("South America+2.5%:40") == ("South America", 2.5, 40, None)
    assert parse_protocol("blocks") == ("blocks", None, None, None)
    assert parse_protocol("blocks@2.5:300") == ("blocks", None, 300, 2.5)
    with pytest.raises(ValueError, match="only blocks have a side"):
        parse_protocol("random@10")
    with pytest.raises(ValueError, match="only held-out continents have shots"):
        parse_protocol("random+5%")
    with pytest.raises(ValueError, match=f"at most {MAX_SHOTS_PERCENT} %"):
        parse_protocol("Africa+50%")
    for wrong in ("Africa+5", "Africa 5%", "blocks:", "", "continents:3+1%"):
        with pytest.raises(ValueError, match="unknown protocol"):
            parse_protocol(wrong)
