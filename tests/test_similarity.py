"""The similarity map shows every number where it belongs, and names the places."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from satclip_lib.plotting.similarity import plot_similarity_map
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
    fig = plot_similarity_map(LONLAT, SIMILARITY, places=PLACES)
    yield fig
    plt.close(fig)


def test_points_have_their_numbers(fig):
    """Each point is drawn with its own similarity, on a scale that is even about zero."""
    (points,) = [c for c in fig.axes[0].collections if c.get_array() is not None]
    order = [int(np.abs(SIMILARITY - value).argmin()) for value in points.get_array()]
    assert sorted(order) == [0, 1, 2, 3]
    np.testing.assert_allclose(points.get_array(), SIMILARITY[order])
    np.testing.assert_allclose(points.get_offsets(), LONLAT[order])
    assert points.get_clim() == (-1.0, 1.0)


def test_places_are_named(fig):
    """Places carry name and similarity; the one compared with carries a star and names the bar."""
    ax, bar = fig.axes
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
