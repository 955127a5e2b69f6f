"""Check a set of Sentinel-2 patches: what is in it, and which patches are refused for what reason.

A report is a table with one row for each patch that is there, or is named in the index. Patches
with a reason are in quarantine: their files are not touched, and they are not put into the store.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Shaped

from satclip_lib.data.labels import lookup_ecoregions
from satclip_lib.data.land import MASK_CELLS_PER_DEG, is_land
from satclip_lib.data.natural_earth import lookup_regions
from satclip_lib.data.patch_store import hash_patch
from satclip_lib.data.sentinel2 import BAND_NAMES
from satclip_lib.files import write_text

PATCH_SHAPE = (len(BAND_NAMES), 256, 256)
MAX_ZERO_SHARE = 0.1  # of the paper
MAX_DISTANCE_KM = 1.0
REASONS = {
    "missing": "named in index.csv, but there is no such file",
    "unreadable": "the file is short or damaged",
    "wrong shape": f"not {PATCH_SHAPE}",
    "wrong dtype": "not uint16",
    "wrong bands": f"the file names its bands, and they are not {' '.join(BAND_NAMES)}",
    "too many zeros": f"more than {MAX_ZERO_SHARE:.0%} of the values are missing or zero",
    "constant band": "all pixels of a band are the same",
    "no coordinates": "neither in index.csv nor in the file",
    "bad coordinates": "not a longitude and latitude in degrees",
    "coordinates disagree": f"index.csv and file are more than {MAX_DISTANCE_KM:g} km apart",
    "sea": "neither on land nor on a lake",
    "duplicate content": "the same pixels as an earlier patch",
    "duplicate coordinates": "the same place as an earlier patch",
}


@dataclass
class PatchChecker:
    """Decides, patch by patch, which go into quarantine; remembers those that do not.

    Args:
        keep_sea: Whether patches at sea pass. The data set has some, since a scene that touches
            land has windows that do not.
    """

    keep_sea: bool = False
    _fn_of_content: dict[str, str] = field(default_factory=dict)
    _fn_of_lonlat: dict[tuple[float, float], str] = field(default_factory=dict)

    def find_fault(self, row: dict[str, Any]) -> tuple[str, str] | None:
        """Return a reason, one of ``REASONS``, and details; None for a good patch.

        Args:
            row: Values of :func:`measure_patch`, "fn", "lon", "lat" and "distance_km" (None where
                not known) and "fault" (found while reading, or None).
        """
        fault = (
            row["fault"]
            or _find_fault_of_pixels(row)
            or _find_fault_of_place(row, keep_sea=self.keep_sea)
        )
        if fault:
            return fault
        if twin := self._fn_of_content.get(row["sha256"]):
            return "duplicate content", f"of {twin}"
        if twin := self._fn_of_lonlat.get((row["lon"], row["lat"])):
            return "duplicate coordinates", f"of {twin}"
        self.remember(row)
        return None

    def remember(self, row: dict[str, Any]) -> None:
        """Remember a good patch, so that later patches with its pixels or place are refused."""
        self._fn_of_content[row["sha256"]] = row["fn"]
        self._fn_of_lonlat[row["lon"], row["lat"]] = row["fn"]


def measure_patch(patch: Shaped[np.ndarray, "bands height width"]) -> dict[str, Any]:
    """Content hash, share of zeros and the statistics of each band, as JSON can hold them.

    Returns:
        "sha256", "zero_share" (of all values, 0 to 1), and lists in the order of the bands:
        "band_min", "band_max", "band_mean", "band_std" (digital numbers).
    """
    bands = patch.reshape(len(patch), -1)
    return {
        "sha256": hash_patch(patch),
        "zero_share": float(np.mean(patch == 0)),
        "band_min": bands.min(axis=1).tolist(),
        "band_max": bands.max(axis=1).tolist(),
        "band_mean": bands.mean(axis=1).tolist(),
        "band_std": bands.std(axis=1).tolist(),
    }


def is_sea(lonlat: Float64[np.ndarray, "num_points 2"]) -> Bool[np.ndarray, " num_points"]:
    """True where there is no lake, and no land within a cell of the land mask (4.6 km).

    A lake is where the mask has no land, but Natural Earth has a country.
    """
    steps = np.array([-1, 0, 1]) / MASK_CELLS_PER_DEG
    around = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)  # (9, 2)
    near = (lonlat[:, None] + around).reshape(-1, 2)
    sea = ~is_land(near).reshape(-1, len(around)).any(axis=1)
    if sea.any():
        sea[sea] = lookup_regions(lonlat[sea], max_distance_km=0.0)["country"].isna()
    return sea


def report_path(store: Path | str) -> Path:
    """Path of the report of a patch store, beside it: ``patches.report.json``."""
    return Path(store).with_suffix(".report.json")


def save_report(rows: list[dict[str, Any]], store: Path | str) -> Path:
    """Write the report of a patch store, whole or not at all."""
    write_text(report_path(store), json.dumps(rows))
    return report_path(store)


def load_report(store: Path | str) -> pd.DataFrame:
    """Read the report of a patch store, see :func:`make_report`.

    Raises:
        FileNotFoundError: If the store has none.
    """
    if not report_path(store).is_file():
        raise FileNotFoundError(
            f"no report at {report_path(store)}: make_s2_100k_store writes it with the store"
        )
    return make_report(json.loads(report_path(store).read_text()))


def make_report(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Make a table with one row per patch, in the order of the data set.

    Returns:
        Columns ``fn``; ``lon`` and ``lat``, degrees; ``reason`` (a key of ``REASONS``, "" for a
        good patch) and ``detail``; ``coordinates`` ("index", "file" or ""); ``distance_km``
        between the two; ``zero_share``; ``sha256``; ``band_min``, ``band_max``, ``band_mean``,
        ``band_std`` (lists in the order of ``BAND_NAMES``, None where there were no pixels).
    """
    columns = [
        "fn", "lon", "lat", "reason", "detail", "coordinates", "distance_km",
        "zero_share", "sha256", "band_min", "band_max", "band_mean", "band_std",
    ]  # fmt: skip
    numbers = ["lon", "lat", "distance_km", "zero_share"]
    report = pd.DataFrame([{n: row.get(n) for n in columns} for row in rows], columns=columns)
    return report.astype(dict.fromkeys(numbers, np.float64))


def summarise_report(report: pd.DataFrame) -> pd.DataFrame:
    """Count the patches, and those in quarantine for each reason.

    Returns:
        Columns ``what``, ``patches`` (a count), ``meaning``; the rows are all, good, and each
        reason that occurs, in the order of ``REASONS``.
    """
    counts = report["reason"].value_counts()
    rows = [
        ("all", len(report), "in index.csv, or found beside what it names"),
        ("good", int(counts.get("", 0)), "in the patch store"),
        *((name, int(counts[name]), text) for name, text in REASONS.items() if name in counts),
    ]
    return pd.DataFrame(rows, columns=["what", "patches", "meaning"])


def compute_band_statistics(report: pd.DataFrame) -> pd.DataFrame:
    """Put together minimum, maximum, mean and standard deviation of each band of good patches.

    Returns:
        Index ``BAND_NAMES``; columns ``min``, ``max``, ``mean``, ``std``, digital numbers.

    Raises:
        ValueError: If no patch is good.
    """
    good = report[report["reason"] == ""]
    if good.empty:
        raise ValueError(f"none of the {len(report)} patches of the report is good")
    least, most, mean, std = (
        np.array(good[f"band_{name}"].tolist(), dtype=np.float64)
        for name in ("min", "max", "mean", "std")
    )  # each (num_patches, bands)
    total_mean = mean.mean(axis=0)
    total_std = np.sqrt((std**2 + (mean - total_mean) ** 2).mean(axis=0))
    return pd.DataFrame(
        {"min": least.min(axis=0), "max": most.max(axis=0), "mean": total_mean, "std": total_std},
        index=pd.Index(BAND_NAMES, name="band"),
    )


def count_regions(report: pd.DataFrame, *, by: str = "continent") -> pd.Series:
    """Count the good patches in each continent, country, biome or ecoregion, largest first.

    Biomes and ecoregions need their label files, see :mod:`satclip_lib.data.labels`.

    Returns:
        Index the names, "none" for patches in none; they add up to the number of good patches.

    Raises:
        ValueError: If ``by`` is none of these four.
    """
    lookups = dict.fromkeys(("continent", "country"), lookup_regions)
    lookups |= dict.fromkeys(("biome", "ecoregion"), lookup_ecoregions)
    if by not in lookups:
        raise ValueError(f"by must be one of {', '.join(lookups)}, got {by!r}")
    good = report[report["reason"] == ""]
    names = lookups[by](good[["lon", "lat"]].to_numpy(np.float64))[by].astype(object)
    return names.where(names.notna(), "none").value_counts().rename("patches")


def _find_fault_of_pixels(row: dict[str, Any]) -> tuple[str, str] | None:
    """The first of the faults that show in the values alone."""
    if row["zero_share"] > MAX_ZERO_SHARE:
        return "too many zeros", f"{row['zero_share']:.1%}"
    extremes = zip(BAND_NAMES, row["band_min"], row["band_max"], strict=True)
    if constant := [name for name, least, most in extremes if least == most]:
        return "constant band", ", ".join(constant)
    return None


def _find_fault_of_place(row: dict[str, Any], *, keep_sea: bool) -> tuple[str, str] | None:
    """The first of the faults that show in the coordinates."""
    lon, lat, distance_km = row["lon"], row["lat"], row["distance_km"]
    if lon is None or lat is None:
        return "no coordinates", ""
    if not (-180 <= lon <= 180 and -90 <= lat <= 90):
        return "bad coordinates", f"lon {lon}, lat {lat}"
    if distance_km is not None and not distance_km <= MAX_DISTANCE_KM:
        return "coordinates disagree", f"{distance_km:.1f} km"
    if not keep_sea and is_sea(np.array([[lon, lat]], dtype=np.float64)).item():
        return "sea", f"lon {lon:.4f}, lat {lat:.4f}"
    return None
