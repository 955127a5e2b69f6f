"""The look of all figures: one style sheet, one fixed colour per class, colours of series."""

from collections.abc import Sequence
from importlib.resources import files

import matplotlib.pyplot as plt

PAGE_WIDTH_IN = 6.9  # 17.5 cm

# Short name for legends, and a colour that suits the biome. Any two colours differ by at least
# 14 units of CIELAB for normal sight, protanopia and deuteranopia alike; all differ from white and
# from the maps' grey.
BIOMES = {
    "Tropical & Subtropical Moist Broadleaf Forests": ("Trop. moist broadleaf forests", "#106b2c"),
    "Tropical & Subtropical Dry Broadleaf Forests": ("Trop. dry broadleaf forests", "#a4b23c"),
    "Tropical & Subtropical Coniferous Forests": ("Trop. coniferous forests", "#443308"),
    "Temperate Broadleaf & Mixed Forests": ("Temp. broadleaf & mixed forests", "#57b36a"),
    "Temperate Conifer Forests": ("Temp. conifer forests", "#288f83"),
    "Boreal Forests/Taiga": ("Boreal forests (taiga)", "#1b4d8b"),
    "Tropical & Subtropical Grasslands, Savannas & Shrublands": (
        "Trop. grasslands & savannas",
        "#b86a08",
    ),
    "Temperate Grasslands, Savannas & Shrublands": ("Temp. grasslands & savannas", "#f2dd6e"),
    "Flooded Grasslands & Savannas": ("Flooded grasslands", "#73d6f5"),
    "Montane Grasslands & Shrublands": ("Montane grasslands", "#945e96"),
    "Tundra": ("Tundra", "#a4aec3"),
    "Mediterranean Forests, Woodlands & Scrub": ("Mediterranean", "#c33d3e"),
    "Deserts & Xeric Shrublands": ("Deserts & xeric shrublands", "#e8cfa0"),
    "Mangroves": ("Mangroves", "#d257c6"),
}
BIOME_COLORS = {name: color for name, (_, color) in BIOMES.items()}

# The five main groups of the Koeppen-Geiger system, by the first letter of a zone.
CLIMATE_COLORS = {
    "A tropical": "#106b2c",
    "B arid": "#e8a13c",
    "C temperate": "#57b36a",
    "D continental": "#1b4d8b",
    "E polar": "#73d6f5",
}

CONTINENT_COLORS = {
    "Africa": "#e8a13c",
    "Asia": "#c33d3e",
    "Europe": "#1b4d8b",
    "North America": "#009e73",
    "Oceania": "#b06fd0",
    "South America": "#444444",
    "Antarctica": "#73d6f5",
}

# Colours of the series in one figure: encoders or tasks.
COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"


def styled():
    """The style sheet, as a decorator of plotting functions or in a ``with`` statement."""
    return plt.style.context(str(files("satclip_lib.plotting").joinpath("style.mplstyle")))


def make_styles(encoders: Sequence[str], *, skip: int = 0) -> dict[str, dict[str, str]]:
    """A colour and a marker of its own for each encoder, as keyword arguments of matplotlib.

    Args:
        encoders: Names of the encoders.
        skip: Number of colours at the start that are left for other series.

    Raises:
        ValueError: If there are more encoders than colours.
    """
    styles = list(zip(COLORS, MARKERS, strict=True))[skip:]
    if len(encoders) > len(styles):
        raise ValueError(
            f"{len(encoders)} encoders, but colours for {len(styles)}: pass fewer encoders"
        )
    pairs = zip(encoders, styles, strict=False)
    return {name: {"color": color, "marker": marker} for name, (color, marker) in pairs}


def shorten_biome(name: str) -> str:
    """A biome's name short enough for a legend; any other name as it is."""
    return BIOMES[name][0] if name in BIOMES else name
