"""Layers give each point the colour of its class or value, and labels go to their own places."""

import numpy as np
from matplotlib.colors import to_rgb

from satclip_lib.evaluation.tasks import TASKS, TaskData, load_task
from satclip_lib.plotting.layers import (
    NO_VALUE_COLOR,
    Layer,
    make_biome_layer,
    make_class_layer,
    make_climate_layer,
    make_task_layer,
)
from satclip_lib.plotting.style import CLIMATE_COLORS

SAHARA, AMAZON, GREENLAND = (10.0, 23.0), (-63.0, -5.0), (-40.0, 72.0)


def test_points_have_the_colour_of_their_class():
    """Colours and legend follow the order given; what is unknown is grey."""
    colors = {"b": "#ff0000", "a": "#00ff00", "never": "#0000ff"}
    layer = make_class_layer("x", ["a", "b", "", "a"], colors=colors)
    assert layer.names == ("b", "a")
    expected = [to_rgb(c) for c in ("#00ff00", "#ff0000", NO_VALUE_COLOR, "#00ff00")]
    np.testing.assert_allclose(layer.to_rgb(), expected)


def test_values_go_from_the_first_to_the_last_colour():
    """Low is the first colour, high the last; a hundredth at each end is beyond the scale."""
    layer = Layer(
        "x", np.append(np.arange(1001.0), np.nan), units="m", colors=("#000000", "#ffffff")
    )
    assert layer.limits == (10.0, 990.0)
    rgb = layer.to_rgb()
    np.testing.assert_allclose(rgb[[0, 1000, 1001]], [[0] * 3, [1] * 3, to_rgb(NO_VALUE_COLOR)])
    empty = Layer("empty", np.full(3, np.nan)).to_rgb()
    np.testing.assert_allclose(empty, [to_rgb(NO_VALUE_COLOR)] * 3)


def test_places_are_in_the_climate_and_biome_they_are_known_for():
    """Names and colours are those of the style; the sea is in none."""
    lonlat = np.array([SAHARA, AMAZON, GREENLAND, (-30.0, 0.0)])
    climate, biome = make_climate_layer(lonlat), make_biome_layer(lonlat)
    climates, biomes = (
        [layer.names[int(v)] if np.isfinite(v) else "" for v in layer.values]
        for layer in (climate, biome)
    )
    assert climates == ["B arid", "A tropical", "E polar", ""]
    assert biomes == ["Deserts & xeric shrublands", "Trop. moist broadleaf forests", "", ""]
    assert set(climate.colors) <= set(CLIMATE_COLORS.values())


def test_map_labels_are_taken_from_the_same_places():
    """A task of a map gives each place its own label, whatever the order, and nothing elsewhere."""
    data = load_task("population_density", num_points=200, seed=0)
    order = np.random.default_rng(0).permutation(150)
    lonlat = np.vstack([data.lonlat[order], [(-30.0, 0.0)]])
    layer = make_task_layer(data, lonlat)
    np.testing.assert_array_equal(layer.values[:-1], data.target[order])
    assert np.isnan(layer.values[-1]) and layer.scale_label == "log(1 + x), people per km²"


def test_station_labels_are_taken_from_near():
    """A station's value goes to places within 100 km, and no farther; class names are kept."""
    stations = np.array([[0.0, 0.0], [50.0, 0.0]])
    data = TaskData(TASKS["air_temperature"], stations, np.array([5.0, 9.0]), None, "test")
    lonlat = np.array([[0.5, 0.0], [2.0, 0.0], [50.0, 0.8]])
    np.testing.assert_array_equal(make_task_layer(data, lonlat).values, [5.0, np.nan, 9.0])
    named = TaskData(TASKS["country"], stations, np.array([1, 0]), ("a", "b"), "test")
    layer = make_task_layer(named, lonlat)
    assert [layer.names[int(v)] if np.isfinite(v) else "" for v in layer.values] == ["b", "", "a"]
