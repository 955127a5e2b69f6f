"""Globes: colours of a grid lie where they belong."""

import cartopy.crs as ccrs
import matplotlib.pyplot as plt
import numpy as np
import pytest

from satclip_lib.plotting.globes import FADE, draw_raster, make_lonlat_grid, plot_globes
from satclip_lib.plotting.maps import add_map


def test_grid_is_that_of_cell_centres():
    """A 30-degree grid has 6 rows of 12, the first in the north-west."""
    grid = make_lonlat_grid(30.0)
    assert grid.shape == (72, 2)
    np.testing.assert_array_equal(
        grid[[0, 1, 12, -1]], [[-165, 75], [-135, 75], [-165, 45], [165, -75]]
    )


@pytest.mark.parametrize("projection", ["equal_earth", "orthographic", "robinson"])
def test_raster_lies_where_it_belongs(projection):
    """Red is longitude: land at 20 E has its colour, at sea it is paler, beyond the globe clear."""
    grid = make_lonlat_grid(2.0)
    rgb = np.column_stack([(grid[:, 0] + 180) / 360, np.zeros(len(grid)), np.zeros(len(grid))])
    fig = plt.figure(figsize=(4, 4))
    ax = add_map(fig, projection=projection)
    draw_raster(ax, rgb)
    pixels = np.asarray(ax.images[0].get_array())
    west, east, south, north = ax.images[0].get_extent()

    def pixel_at(lon, lat):
        x, y = ax.projection.transform_point(lon, lat, ccrs.PlateCarree())
        return pixels[
            int((north - y) / (north - south) * len(pixels)),
            int((x - west) / (east - west) * pixels.shape[1]),
        ]

    np.testing.assert_allclose(pixel_at(20, 25), [200 / 360, 0, 0, 1], atol=0.02)  # Libya
    sea = 1 - (1 - FADE) * (1 - np.array([180 / 360, 0, 0]))
    np.testing.assert_allclose(pixel_at(0, 0)[:3], sea, atol=0.02)
    np.testing.assert_array_equal(pixels[[0, 0, -1, -1], [0, -1, 0, -1], 3], 0)


def test_globes_have_one_row_per_encoder():
    """Two encoders are six maps, each filled, titled by the encoder."""
    fig = plot_globes(dict.fromkeys(["one", "two"], np.ones((288, 3))))
    assert len(fig.axes) == 6 and all(ax.images for ax in fig.axes)
    names = [[text.get_text() for text in ax.texts] for ax in fig.axes]
    assert names == [["one"], [], [], ["two"], [], []]
    white, black = {"one": np.ones((288, 3))}, {"one": np.zeros((288, 3))}
    fig = plot_globes(white, others=black, titles=("PCA", "ICA"))
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["PCA", "", "", "ICA"]
    middles = [
        pixels[len(pixels) // 2, pixels.shape[1] // 2]
        for pixels in (ax.images[0].get_array() for ax in fig.axes)
    ]
    assert [tuple(pixel[:3]) == (1, 1, 1) for pixel in middles] == [True, True, True, False]
