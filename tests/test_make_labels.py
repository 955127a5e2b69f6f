"""The labels of the package: what the recipe makes of the originals, the same bytes each time."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import rasterio
from folders import hash_files

from satclip_lib.data import labels, originals
from satclip_lib.data.land import sample_land_lonlat
from satclip_lib.data.registry import FileUnavailableError, load_registry
from tools.make_labels import FOLDER, make_labels

NAMES = sorted(path.name for path in FOLDER.iterdir())
README = (Path(__file__).parents[1] / "data/README.md").read_text()


@pytest.fixture(scope="module", autouse=True)
def read_once():
    """The polygons, which take long to read, are read once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(originals, "read_ecoregions", cache(originals.read_ecoregions))
        yield


@pytest.fixture(scope="module")
def made(label_files, tmp_path_factory) -> Path:
    """The files, made anew."""
    folder = tmp_path_factory.mktemp("labels")
    make_labels(folder)
    return folder


def _read_terms(path: Path) -> dict[str, str]:
    if path.suffix == ".parquet":
        return {k.decode(): v.decode() for k, v in pq.read_schema(path).metadata.items()}
    with rasterio.open(path) as file:
        return file.tags()


def test_two_runs_give_the_same_bytes(label_files, tmp_path, monkeypatch):
    """Each file is the same to the last byte, none is added or left out, and they are small."""
    monkeypatch.setattr("tools.make_labels.ECOREGION_CELLS_PER_DEG", 3)  # packed in no time
    make_labels(tmp_path / "first")
    make_labels(tmp_path / "second")
    assert hash_files(tmp_path / "first") == hash_files(tmp_path / "second")
    assert sorted(hash_files(tmp_path / "first")) == NAMES
    assert sum((FOLDER / name).stat().st_size for name in NAMES) < 4e6


@pytest.mark.parametrize("name", NAMES)
def test_the_files_of_the_repository_are_what_the_recipe_makes(made, name):
    """Content and terms are those of a new run, whatever the libraries that pack them."""
    here, there = FOLDER / name, made / name
    assert _read_terms(here) == _read_terms(there)
    if name.endswith(".parquet"):
        pd.testing.assert_frame_equal(pd.read_parquet(here), pd.read_parquet(there))
        return
    with rasterio.open(here) as old, rasterio.open(there) as new:
        assert str(old.profile) == str(new.profile)  # NaN, which marks gaps, equals nothing
        np.testing.assert_array_equal(old.read(1), new.read(1))


@pytest.mark.parametrize("name", NAMES)
def test_each_file_says_its_source_and_terms(name):
    """Its sources, which may be copied, and its recipe are in the file; the README names it."""
    terms = _read_terms(FOLDER / name)
    assert terms["licence"].startswith(("public domain", "CC BY 4.0", "Apache-2.0"))
    registry = load_registry()
    sources = json.loads(terms["source"])
    assert sources and all(registry[key].sha256 == value for key, value in sources.items())
    assert all(registry[key].licence in terms["licence"] for key in sources)
    assert all(registry[key].citation in terms["citation"] for key in sources)
    assert "make_labels" in terms["recipe"] and f"`{name}`" in README


def test_rasterised_ecoregions_agree_with_the_polygons(label_files):
    """At least 98.8 % of 20,000 places have the same ecoregion, 99.2 % the same biome."""
    lonlat = sample_land_lonlat(20_000, seed=4)
    ours, theirs = labels.lookup_ecoregions(lonlat), originals.lookup_polygons(lonlat)
    agree = (ours == theirs) | (ours.isna() & theirs.isna())
    assert agree["ecoregion"].mean() > 0.988 and agree["biome"].mean() > 0.992
    assert theirs["biome"].nunique() == ours["biome"].nunique() == 14
    # The label of a place is that of the centre of its cell: less than 2 arc-minutes away.
    centres = (np.floor(lonlat * 30) + 0.5) / 30
    at_centres = originals.lookup_polygons(centres)
    same = (ours == at_centres) | (ours.isna() & at_centres.isna())
    assert same["ecoregion"].mean() > 0.9999


def test_a_shapefile_in_two_folders_is_refused(label_files, workspace, monkeypatch):
    """Parts of the shapefile that lie apart are named, not half read."""
    for name in originals.ECOREGION_FILES:
        target = workspace / ("mirror" if name.endswith("shp") else "data/raw")
        target.mkdir(parents=True, exist_ok=True)
        (target / name).symlink_to(label_files / name)
    monkeypatch.setenv("SATCLIP_DATA_MIRROR", str(workspace / "mirror"))
    originals.read_ecoregions.cache_clear()
    with pytest.raises(FileUnavailableError, match="one folder"):
        originals.read_ecoregions()
