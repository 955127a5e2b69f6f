"""The report on a data set: its measures agree with NumPy, its counts add up."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection

from satclip_lib.data.patch_store import hash_patch
from satclip_lib.data.quality import (
    REASONS,
    PatchChecker,
    compute_band_statistics,
    count_regions,
    is_sea,
    load_report,
    make_report,
    measure_patch,
    save_report,
    summarise_report,
)
from satclip_lib.plotting.patches import plot_report

LONLAT = [(2.35, 48.86), (36.8, -1.3), (-122.4, 37.8), (-30.0, 0.0), (10.0, 50.0)]
PIXELS = np.random.default_rng(0).integers(0, 5000, (5, 12, 8, 8), dtype=np.uint16)


def _make_rows():
    """Five patches, of which the fourth is at sea and the last has no file."""
    rows = []
    for i, (lon, lat) in enumerate(LONLAT):
        row = {"fn": f"patch_{i}.tif", "lon": lon, "lat": lat, "distance_km": 0.0, "fault": None}
        row |= {"reason": "", "detail": "", "coordinates": "index"} | measure_patch(PIXELS[i])
        rows.append(row)
    rows[3] |= {"reason": "sea", "detail": "lon -30"}
    rows[4] = {"fn": "patch_4.tif", "lon": 10.0, "lat": 50.0, "reason": "missing", "detail": ""}
    return rows


def test_a_patch_is_measured():
    """Hash, share of zeros and band statistics are those of the values."""
    pixels = PIXELS[0].copy()
    pixels[:, :2] = 0
    measured = measure_patch(pixels)
    assert measured["sha256"] == hash_patch(pixels)
    assert measured["zero_share"] == (pixels == 0).mean() >= 0.25
    for name in ("min", "max", "mean", "std"):
        expected = getattr(pixels.astype(float), name)(axis=(1, 2))
        np.testing.assert_allclose(measured[f"band_{name}"], expected)


def test_band_statistics_are_those_of_all_good_pixels():
    """Put together from the patches, they equal NumPy's over the pixels of all good patches."""
    statistics = compute_band_statistics(make_report(_make_rows()))
    good = PIXELS[:3].astype(float)
    for name in ("min", "max", "mean", "std"):
        np.testing.assert_allclose(statistics[name], getattr(good, name)(axis=(0, 2, 3)))
    assert statistics.index[0] == "B01" and len(statistics) == 12
    with pytest.raises(ValueError, match="none of the 0 patches"):
        compute_band_statistics(make_report([]))


def test_summary_adds_up():
    """Good patches and those of each reason make all; each row says what it means."""
    summary = summarise_report(make_report(_make_rows())).set_index("what")
    assert summary["patches"].to_dict() == {"all": 5, "good": 3, "missing": 1, "sea": 1}
    assert summary.loc["sea", "meaning"] == REASONS["sea"]


def test_regions_add_up():
    """Each good patch counts once, where it is."""
    report = make_report(_make_rows())
    assert count_regions(report).to_dict() == {"Europe": 1, "Africa": 1, "North America": 1}
    assert set(count_regions(report, by="country").index) >= {"France", "Kenya"}
    assert count_regions(report, by="biome").sum() == 3
    with pytest.raises(ValueError, match=r"by must be one of continent, .* got 'planet'"):
        count_regions(report, by="planet")


def test_the_sea_is_told_from_land_and_lakes():
    """Land, shores and lakes are not sea, alone and together; no points give none."""
    places = {
        "Atlantic": (-30.0, 0.0),
        "Gulf of Sidra": (19.03, 31.04),
        "date line, Pacific": (180.0, 0.0),
        "Paris": (2.35, 48.86),
        "Lake Superior": (-87.5, 47.7),
        "beach of Rio": (-43.18, -22.98),
        "Antarctica": (0.0, -80.0),
    }
    lonlat = np.array(list(places.values()))
    assert is_sea(lonlat).tolist() == [True] * 3 + [False] * 4
    assert [is_sea(place[None]).item() for place in lonlat] == is_sea(lonlat).tolist()
    assert is_sea(lonlat[:0]).shape == (0,)


def test_a_bad_patch_has_no_twins():
    """Only good patches are remembered: the copy of a bad one is judged by itself."""
    first, copy, *_ = _make_rows()
    copy |= {name: first[name] for name in ("sha256", "lon", "lat")}
    checker, unreadable = PatchChecker(), ("unreadable", "")
    assert checker.find_fault(first | {"fault": unreadable}) == unreadable
    assert checker.find_fault(copy) is None
    assert checker.find_fault(first) == ("duplicate content", "of patch_1.tif")


def test_a_report_survives_the_disk(workspace):
    """Saved and loaded, every number is the same to the last bit; without one, an error."""
    store = workspace / "patches.zarr"
    with pytest.raises(FileNotFoundError, match="no report at"):
        load_report(store)
    save_report(_make_rows(), store)
    pd.testing.assert_frame_equal(load_report(store), make_report(_make_rows()), check_exact=True)


def test_the_map_shows_every_patch_with_a_place():
    """The legend counts each reason; patches without a place are left out."""
    rows = _make_rows()
    rows.append({"fn": "a.tif", "lon": None, "lat": None, "reason": "no coordinates", "detail": ""})
    fig = plot_report(make_report(rows))
    ax = fig.axes[0]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["good (3)", "missing (1)", "sea (1)"]
    drawn = [len(c.get_offsets()) for c in ax.collections if isinstance(c, PathCollection)]
    assert sum(drawn) == 5
    fig.canvas.draw()
