"""Globes: components are what they are called, and colours lie where they belong."""

import cartopy.crs as ccrs
import matplotlib.pyplot as plt
import numpy as np
import pytest

from satclip_lib.plotting.globes import (
    FADE,
    compute_component_colors,
    draw_raster,
    make_lonlat_grid,
    plot_globes,
)
from satclip_lib.plotting.maps import add_map
from satclip_lib.sphere import lonlat_to_unit_vectors


@pytest.fixture(autouse=True)
def close_figures():
    """Leave no figure open."""
    yield
    plt.close("all")


def test_grid_is_that_of_cell_centres():
    """A 30-degree grid has 6 rows of 12, the first in the north-west."""
    grid = make_lonlat_grid(30.0)
    assert grid.shape == (72, 2)
    np.testing.assert_array_equal(
        grid[[0, 1, 12, -1]], [[-165, 75], [-135, 75], [-165, 45], [165, -75]]
    )


def test_colours_are_principal_components():
    """On data with three known axes, each colour is one of them, stretched to 98 % of the land."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (4000, 5)) * [9, 3, 1, 0.01, 0.01]
    colors = compute_component_colors(x, x)
    for k in range(3):
        inside = (colors[:, k] > 0) & (colors[:, k] < 1)
        assert abs(np.corrcoef(colors[inside, k], x[inside, k])[0, 1]) > 0.999
        assert inside.mean() == pytest.approx(0.98, abs=0.005)


def test_independent_components_are_found():
    """ICA undoes a turn of independent sources, which PCA does not."""
    rng = np.random.default_rng(0)
    sources = rng.uniform(-1, 1, (4000, 2))
    x = sources @ (np.array([[1.0, 1.0], [-1.0, 1.0]]) / np.sqrt(2))
    correlation = {}
    for decomposition in ("pca", "ica"):
        colors = compute_component_colors(x, x, decomposition=decomposition, seed=1)[:, :2]
        matrix = np.abs(np.corrcoef(colors.T, sources.T)[:2, 2:])
        correlation[decomposition] = matrix.max(axis=1).min()
    assert correlation["ica"] > 0.98 > correlation["pca"]


def test_two_numbers_leave_the_third_colour_even(shape_checks_off):
    """Longitude and latitude have no third component."""
    grid = make_lonlat_grid(30.0)
    colors = compute_component_colors(grid, grid)
    assert (colors[:, 2] == 0.5).all() and colors[:, :2].std() > 0.2
    with pytest.raises(ValueError, match="'pca' or 'ica', got 'tsne'"):
        compute_component_colors(grid, grid, decomposition="tsne")


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
    vectors = lonlat_to_unit_vectors(make_lonlat_grid(15.0))
    colors = compute_component_colors(vectors, vectors)
    fig = plot_globes({"one": colors, "two": colors})
    assert len(fig.axes) == 6 and all(ax.images for ax in fig.axes)
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["one", "", "", "two", "", ""]
