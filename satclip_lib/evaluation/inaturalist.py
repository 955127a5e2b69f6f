"""iNaturalist 2018: species from the place, and from features of the photo if there are any.

The competition's files are not ours to hand on. Put them into ``data/raw/inaturalist_2018``, or
into ``inaturalist_2018`` in the folder that ``SATCLIP_DATA_MIRROR`` names:

- ``train2018.json``, ``val2018.json``: annotations, https://github.com/visipedia/inat_comp
- ``train2018_locations.json``, ``val2018_locations.json``: id, lon and lat of each photo (also in
  a folder ``inat2018_locations``)
- ``features.npz``, optional: ``image_id`` ``(num_images,)`` and ``features``
  ``(num_images, num_features)`` of any image encoder
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from satclip_lib.data.registry import FileUnavailableError, list_local_folders, raw_folder
from satclip_lib.evaluation.loaders import LabelledPoints

FOLDER = "inaturalist_2018"
PARTS = ("train", "val")


def load_inaturalist(num_points: int, seed: int) -> LabelledPoints:
    """Species of photos with a place; a random subset where there are more than asked for.

    Photos without a place are left out; with ``features.npz``, also photos without features.

    Raises:
        FileUnavailableError: If a file of the competition is missing; says which and where.
    """
    folder = _find_folder()
    photos = pd.concat([_read_part(folder, part) for part in PARTS], ignore_index=True)
    source = "photos of iNaturalist 2018 with a place"
    features, row_of_image = None, None
    if (folder / "features.npz").is_file():
        with np.load(folder / "features.npz") as stored:
            features = stored["features"]
            row_of_image = pd.Series(np.arange(len(features)), index=stored["image_id"])
        photos = photos[photos.image_id.isin(row_of_image.index)]
        source += f", with {features.shape[1]} image features each"
    chosen = np.sort(np.random.default_rng(seed).permutation(len(photos))[:num_points])
    photos_chosen = photos.iloc[chosen]
    if features is not None:
        features = features[row_of_image[photos_chosen.image_id].to_numpy()]
    return LabelledPoints(
        photos_chosen[["lon", "lat"]].to_numpy(np.float64),
        photos_chosen.category_id.to_numpy(),
        f"{len(chosen)} of {len(photos)} {source}",
        features,
    )


def _read_part(folder: Path, part: str) -> pd.DataFrame:
    """Image id, category and place of the photos of one part."""
    annotations = json.loads((folder / f"{part}2018.json").read_text())["annotations"]
    annotations = pd.DataFrame(annotations)[["image_id", "category_id"]]
    name = f"{part}2018_locations.json"
    nested = folder / "inat2018_locations" / name
    places = pd.read_json(nested if nested.is_file() else folder / name)
    places = places.rename(columns={"longitude": "lon", "latitude": "lat"})
    merged = annotations.merge(places[["id", "lon", "lat"]], left_on="image_id", right_on="id")
    return merged.dropna(subset=["lon", "lat"])


def _find_folder() -> Path:
    """The first folder that has all files."""
    for folder in list_local_folders():
        if not _list_missing(folder / FOLDER):
            return folder / FOLDER
    raw = raw_folder() / FOLDER
    raise FileUnavailableError(
        f"{', '.join(_list_missing(raw))} of the iNaturalist 2018 competition are not in {raw}: "
        "get them from https://github.com/visipedia/inat_comp, and set SATCLIP_DATA_MIRROR to a "
        f"folder with {FOLDER}/ if they are elsewhere"
    )


def _list_missing(folder: Path) -> list[str]:
    names = [f"{part}2018.json" for part in PARTS if not (folder / f"{part}2018.json").is_file()]
    for part in PARTS:
        name = f"{part}2018_locations.json"
        if not any((place / name).is_file() for place in (folder, folder / "inat2018_locations")):
            names.append(name)
    return names
