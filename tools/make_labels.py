"""Make the labels of the package: compact copies of registered files, the same bytes each time.

``python -m tools.make_labels [FOLDER]`` fetches the originals by hash (``SATCLIP_DATA_MIRROR``,
``data/raw`` or the network) and writes a Parquet file per table and a GeoTIFF per grid. Each says
in its own metadata what it was made from and on which terms.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import rasterio
from affine import Affine
from rasterio.features import rasterize

from satclip_lib.data import originals
from satclip_lib.data.labels import FOLDER
from satclip_lib.data.registry import load_registry
from satclip_lib.files import write_atomically

ECOREGION_CELLS_PER_DEG = 30  # 2 arc-minutes, 3.7 km


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    make_labels(parser.parse_args().folder)


def make_labels(folder: Path) -> None:
    """Write all files of ``satclip_lib/data/label_files``.

    Args:
        folder: Folder to write into; files of the same names are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_table(
        originals.read_weather_stations(),
        folder / "weather_stations.parquet",
        describe(originals.STATION_FILES, "columns Lon, Lat, meanT, meanP; longitude wrapped"),
    )
    save_table(
        originals.read_county_income(),
        folder / "county_income.parquet",
        describe(
            originals.INCOME_FILES,
            "MedianIncome2018 of each county at its population-weighted centre of 2010",
        ),
    )
    save_table(
        originals.read_california_housing(),
        folder / "california_housing.parquet",
        describe(originals.HOUSING_FILES, "columns longitude, latitude, median_house_value"),
    )
    save_grid(
        originals.read_elevation(),
        folder / "elevation.tif",
        describe(
            originals.ELEVATION_FILES,
            "row 0 at 90 N, column 0 at 180 W, the repeated column dropped, below 0 m set to 0 m",
        ),
        nodata=None,
    )
    save_grid(
        originals.read_population_density(),
        folder / "population_density.tif",
        describe(originals.POPULATION_FILES, "as float32, NaN where not counted"),
        nodata=np.nan,
    )
    polygons = originals.read_ecoregions()
    recipe = (
        f"number of the polygon that holds the centre of each cell of 1/{ECOREGION_CELLS_PER_DEG} "
        "degree, 0 for none; names by number, from 1, in ecoregions.parquet"
    )
    terms = describe(originals.ECOREGION_FILES, recipe)
    save_grid(rasterize_polygons(polygons), folder / "ecoregions.tif", terms, nodata=0)
    save_table(pd.DataFrame(polygons[["ecoregion", "biome"]]), folder / "ecoregions.parquet", terms)


def describe(names: tuple[str, ...], recipe: str) -> dict[str, str]:
    """Metadata of a file that is made here.

    Args:
        names: Names of the registered files that it is made from.
        recipe: How it is made from them.
    """
    files = [load_registry()[name] for name in names]
    return {
        "source": json.dumps({file.name: file.sha256 for file in files}),  # names and SHA-256
        "citation": "; ".join(dict.fromkeys(file.citation for file in files)),
        "licence": "; ".join(dict.fromkeys(file.licence for file in files)),
        "units": "; ".join(dict.fromkeys(file.units for file in files if file.units)),
        "recipe": f"python -m tools.make_labels: {recipe}",
    }


def rasterize_polygons(polygons: geopandas.GeoDataFrame) -> np.ndarray:
    """Row number plus one of the polygon that holds the centre of each cell, 0 for none."""
    shape = (180 * ECOREGION_CELLS_PER_DEG, 360 * ECOREGION_CELLS_PER_DEG)
    shapes = ((polygon, number + 1) for number, polygon in enumerate(polygons.geometry))
    return rasterize(shapes, out_shape=shape, transform=make_transform(shape), dtype=np.uint16)


def save_table(table: pd.DataFrame, path: Path, terms: Mapping[str, str]) -> None:
    """Write a Parquet file with the terms in the metadata of its schema."""
    packed = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(terms)
    with write_atomically(path) as scratch:
        pq.write_table(packed, scratch, compression="zstd", compression_level=19)


def save_grid(grid: np.ndarray, path: Path, terms: Mapping[str, str], *, nodata) -> None:
    """Write a GeoTIFF in longitude and latitude with the terms as its tags."""
    height, width = grid.shape
    profile = {
        "driver": "GTiff",
        "width": width,
        "height": height,
        "count": 1,
        "dtype": grid.dtype,
        "crs": "EPSG:4326",
        "transform": make_transform(grid.shape),
        "nodata": nodata,
        "compress": "deflate",
        "zlevel": 9,
        "blockysize": 512,  # rows that are packed together
        # Differences of neighbours pack heights; they would only blur numbers that mean names.
        "predictor": 3 if np.issubdtype(grid.dtype, np.floating) else 1,
    }
    with write_atomically(path) as scratch, rasterio.open(scratch, "w", **profile) as file:
        file.write(grid, 1)
        file.update_tags(**terms)


def make_transform(shape: tuple[int, int]) -> Affine:
    """Longitude and latitude of a worldwide grid with row 0 at 90 N and column 0 at 180 W."""
    height, width = shape
    return Affine(360 / width, 0, -180, 0, -180 / height, 90)


if __name__ == "__main__":
    main()
