"""Figures of localised images show every image, where it was and where it was thought to be."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex

from satclip_lib.embedding.localization import RADII_KM
from satclip_lib.plotting.localization import (
    plot_localization_errors,
    plot_localizations,
    plot_retrieved,
)


@pytest.fixture(autouse=True)
def close_figures():
    """No figure outlives its test."""
    yield
    plt.close("all")


def test_each_image_stands_beside_its_map():
    """Three images are three pictures and three maps, with a star and a circle on each."""
    rng = np.random.default_rng(0)
    lonlat = np.stack([rng.uniform(-180, 180, 50), rng.uniform(-80, 80, 50)], axis=1)
    similarity = rng.uniform(-0.5, 0.5, (3, 50))
    fig = plot_localizations(
        rng.random((3, 8, 8, 3)),
        lonlat,
        similarity,
        true_lonlat=lonlat[:3],
        best_lonlat=lonlat[3:6],
        titles=["a", "b", "c"],
    )
    pictures = [ax for ax in fig.axes if ax.images]
    maps = [ax for ax in fig.axes if hasattr(ax, "projection")]
    assert len(pictures) == len(maps) == 3
    for index, ax in enumerate(maps):
        assert ax.get_title() + ax.get_title(loc="left") == "abc"[index]
        assert [line.get_marker() for line in ax.lines] == ["*", "o"]
        assert tuple(ax.lines[0].get_xydata()[0]) == tuple(lonlat[index])
        assert tuple(ax.lines[1].get_xydata()[0]) == tuple(lonlat[3 + index])
    half = np.abs(similarity).max()
    drawn = [points for ax in maps for points in ax.collections if points.get_array() is not None]
    assert {(points.norm.vmin, points.norm.vmax) for points in drawn} == {(-half, half)}


def test_errors_are_a_share_within_each_distance():
    """A curve per way, in its own colour and dashes, that ends at all images."""
    errors_km = {"good": np.array([10.0, 100.0]), "bad": np.array([5000.0, 300.0])}
    fig = plot_localization_errors(errors_km, radii_km=RADII_KM)
    (ax,) = fig.axes
    curves = ax.get_lines()[:2]
    assert [line.get_label() for line in curves] == ["good", "bad"]
    assert len({(to_hex(line.get_color()), line.get_linestyle()) for line in curves}) == 2
    np.testing.assert_array_equal(curves[1].get_xdata(), [300, 5000])
    np.testing.assert_array_equal(curves[1].get_ydata(), [0.5, 1.0])
    assert ax.get_xlabel().endswith("km")


def test_retrieved_images_are_rows_by_place():
    """Two places with three images each are two named rows of three captioned pictures."""
    captions = [["1 km", "2 km", "3 km"], ["4 km", "5 km", "6 km"]]
    pictures = np.random.default_rng(0).random((2, 3, 8, 8, 3))
    fig = plot_retrieved(pictures, places=["Alps", "Sahara"], captions=captions)
    assert [ax.get_ylabel() for ax in fig.axes] == ["Alps", "", "", "Sahara", "", ""]
    titles = [ax.get_title() + ax.get_title(loc="left") for ax in fig.axes]
    assert titles == [*captions[0], *captions[1]]
    np.testing.assert_array_equal(fig.axes[4].images[0].get_array(), pictures[1, 1])
