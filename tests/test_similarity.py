"""Maps of similarity show every number where it belongs, and mark and name the places."""

import numpy as np
import pandas as pd
import pytest

from satclip_lib.plotting.similarity import plot_localizations, plot_retrieved, plot_similarity_map
from satclip_lib.plotting.style import PAGE_WIDTH_IN

LONLAT = np.array([[-60.0, -3.0], [25.0, 0.5], [130.0, 62.0], [2.0, 49.0]])
SIMILARITY = np.array([0.9, 0.5, -0.25, 0.1])
PLACES = pd.DataFrame(
    {"lon": LONLAT[:3, 0], "lat": LONLAT[:3, 1], "similarity": [1.0, 0.5, -0.25]},
    index=["Manaus", "Kisangani", "Yakutsk"],
)


@pytest.fixture
def fig():
    """The map of the points and places above."""
    return plot_similarity_map(LONLAT, SIMILARITY, places=PLACES)


def test_points_have_their_numbers(fig):
    """Each point is drawn with its own similarity, on a scale that is even about zero."""
    (points,) = [c for c in fig.axes[0].collections if c.get_array() is not None]
    order = [int(np.abs(SIMILARITY - value).argmin()) for value in points.get_array()]
    assert sorted(order) == [0, 1, 2, 3]
    np.testing.assert_allclose(points.get_array(), SIMILARITY[order])
    np.testing.assert_allclose(points.get_offsets(), LONLAT[order])
    assert points.get_clim() == (-1.0, 1.0)


def test_a_name_makes_room_for_the_next_one():
    """A place with another one to the east at its latitude is named at its left; no minus zero."""
    places = pd.DataFrame(
        {"lon": [-60.0, 5.5, 46.7], "lat": [-3.0, 22.8, 24.7], "similarity": [1.0, -0.001, -0.2]},
        index=["Manaus", "Tamanrasset", "Riyadh"],
    )
    (ax,) = plot_similarity_map(LONLAT, SIMILARITY, places=places).axes
    assert [text.get_ha() for text in ax.texts] == ["left", "right", "left"]
    assert ax.texts[1].get_text() == "Tamanrasset 0.00"


def test_places_are_named(fig):
    """Places carry name and similarity; the one compared with carries a star and names the bar."""
    (ax,) = fig.axes
    (bar,) = ax.child_axes
    assert [text.get_text() for text in ax.texts] == [
        "Manaus", "Kisangani 0.50", "Yakutsk \N{MINUS SIGN}0.25",
    ]  # fmt: skip
    assert [line.get_marker() for line in ax.lines] == ["*", "o", "o"]
    assert bar.get_xlabel() == "cosine similarity with Manaus"
    assert fig.get_figwidth() == PAGE_WIDTH_IN


def test_labels_lie_on_the_page(fig):
    """No label runs over the edge of the figure, in the far east either."""
    fig.draw_without_rendering()
    page = fig.bbox
    for text in fig.axes[0].texts:
        box = text.get_window_extent()
        assert page.x0 <= box.x0 and box.x1 <= page.x1


def test_each_image_stands_beside_its_map():
    """Three images are three pictures and three maps, with a star and a circle on each."""
    rng = np.random.default_rng(0)
    lonlat = rng.uniform((-180, -80), (180, 80), (50, 2))
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


def test_retrieved_images_are_rows_by_place():
    """Two places with three images each are two named rows of three captioned pictures."""
    captions = [["1 km", "2 km", "3 km"], ["4 km", "5 km", "6 km"]]
    pictures = np.random.default_rng(0).random((2, 3, 8, 8, 3))
    fig = plot_retrieved(pictures, places=["Alps", "Sahara"], captions=captions)
    assert [ax.get_ylabel() for ax in fig.axes] == ["Alps", "", "", "Sahara", "", ""]
    titles = [ax.get_title() + ax.get_title(loc="left") for ax in fig.axes]
    assert titles == [*captions[0], *captions[1]]
    np.testing.assert_array_equal(fig.axes[4].images[0].get_array(), pictures[1, 1])
