"""Stand-ins for what the paper profile downloads: a data set in S2-100K's layout, and weights.

``python -m tools.make_rehearsal data/rehearsal/raw --num-patches 2000`` writes

- ``s2-100k/``: ``index.csv`` and ``data/shard-*.tar`` with patches of 12 bands and 256 x 256
  pixels, drawn uniformly over land. Two shards are cut short and some patches are bad, on purpose.
- ``moco/<backbone>.pth``: weights that were never trained, in the layout of the published ones.
- ``planted.json``: the reason for which each bad patch has to be refused, by its file name.
- ``registry.json``: hashes of the weights, for ``SATCLIP_REGISTRY``.

Pixels follow the colour of a seasonal composite at the place and ``BANDS``, the statistics of the
23 genuine patches of the registry, which join the data set where they are at hand. A run that was
killed continues, and ends with the same files as one that was not.
"""

import argparse
import io
import json
import logging
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import rasterio
import torch
from jaxtyping import Float64, UInt16
from rasterio.warp import transform

from satclip_lib.data.blue_marble import cut_patches, list_bands
from satclip_lib.data.land import sample_land_lonlat
from satclip_lib.data.registry import FileUnavailableError, fetch_file, load_registry
from satclip_lib.data.s2_folder import encode_patch
from satclip_lib.data.seasons import COLORS, SEASONS
from satclip_lib.data.sentinel2 import DIGITAL_NUMBERS_PER_REFLECTANCE, prepare_sentinel2
from satclip_lib.files import sha256_of_file, write_atomically, write_text
from satclip_lib.image_encoder import BACKBONES
from satclip_lib.progress import progress_bar

logger = logging.getLogger(__name__)

SIZE_PX, PIXEL_M = 256, 10
# Logarithm of the reflectance of each band in the 23 genuine patches: the mean over patches; what
# one standard deviation of a patch's brightness, and of green minus red, adds; the standard
# deviation of the rest; and the median of the standard deviations within patches.
BANDS = {
    "B01": (-2.30, 0.91, 0.30, 0.20, 0.09),
    "B02": (-2.15, 0.87, 0.15, 0.13, 0.16),
    "B03": (-1.87, 0.74, 0.04, 0.07, 0.16),
    "B04": (-1.74, 0.74, -0.19, 0.07, 0.17),
    "B05": (-1.51, 0.60, -0.11, 0.22, 0.14),
    "B06": (-1.30, 0.45, 0.00, 0.38, 0.13),
    "B07": (-1.25, 0.42, 0.01, 0.40, 0.13),
    "B08": (-1.21, 0.40, -0.01, 0.41, 0.14),
    "B8A": (-1.20, 0.39, -0.01, 0.42, 0.12),
    "B09": (-1.18, 0.38, 0.02, 0.40, 0.10),
    "B11": (-1.46, 0.00, -0.35, 0.79, 0.12),
    "B12": (-1.68, 0.14, -0.41, 0.74, 0.15),
}
SPOIL = {  # what makes pixels bad, by the reason of satclip_lib.data.quality
    "wrong shape": lambda pixels: pixels[:, : SIZE_PX // 2],
    "wrong dtype": lambda pixels: pixels.astype(np.float32),
    "too many zeros": lambda pixels: pixels * (np.arange(SIZE_PX) >= SIZE_PX // 4)[:, None],
    "constant band": lambda pixels: np.concatenate([pixels[:-1], np.full_like(pixels[:1], 777)]),
}
# Reasons that are planted, one patch each; a shard that is cut short adds to the first two.
FAULTS = (
    "unreadable", "missing", "coordinates disagree", "bad coordinates", "duplicate content",
    "duplicate coordinates", *SPOIL,
)  # fmt: skip
NUM_CUT_SHORT = 2  # shards, the last ones
GENUINE = "s2-sample/"  # in the registry
FIRST_NUMBER = 2_000_000  # of the patches that are made; the genuine ones have smaller numbers


def make_rehearsal(
    folder: Path, *, num_patches: int = 2000, num_shards: int = 20, seed: int = 0
) -> Path:
    """Write everything that the head of this module lists; what is there already is kept.

    Args:
        folder: Folder that ``SATCLIP_DATA_MIRROR`` will name.
        num_patches: Number of patches that are made; up to 23 genuine ones join them.
        num_shards: Number of tar files.
        seed: Random seed for places, pixels, faults and weights.

    Returns:
        Path of ``registry.json``, which is written last.

    Raises:
        ValueError: If there are fewer than 3 shards, 4 patches per shard or 2 patches per fault, or
            the folder was begun with other settings.
    """
    if num_patches < max(4 * num_shards, 2 * len(FAULTS)) or num_shards < 3:
        raise ValueError(
            f"num_patches must be at least {2 * len(FAULTS)} and 4 per shard, and num_shards at "
            f"least 3, got {num_patches} patches in {num_shards} shards"
        )
    genuine = _fetch_genuine()
    settings = {"num_patches": num_patches, "num_shards": num_shards, "seed": seed}
    _keep_settings(folder / "settings.json", settings | {"genuine": len(genuine)})
    patches = _plan_patches(num_patches, num_shards, seed)
    genuine = genuine.reindex(columns=patches.columns, fill_value=0)
    genuine["shard"] = np.arange(len(genuine)) % num_shards
    rows = pd.concat([genuine, patches], ignore_index=True)

    def write_shard(number: int) -> dict[str, str]:
        path = folder / f"s2-100k/data/shard-{number:05}.tar"
        inside = rows[(rows.shard == number) & (rows.fault != "missing")]
        return _write_shard(path, inside, cut_short=number >= num_shards - NUM_CUT_SHORT)

    planted = patches[patches.fault != ""].set_index("fn").fault.to_dict()
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for lost in progress_bar(pool.map(write_shard, range(num_shards)), total=num_shards):
            planted |= lost
    _write_json(folder / "planted.json", planted)
    index = folder / "s2-100k/index.csv"
    with write_atomically(index) as scratch:
        rows[["lat", "lon", "url", "fn"]].to_csv(scratch, index=False)
    images = prepare_sentinel2(np.stack([_make_pixels(row) for row in patches[:8].itertuples()]))
    weights = {name: _make_weights(name, images, seed, folder) for name in BACKBONES}
    published, registry = load_registry(), folder / "registry.json"
    own = [
        vars(published[f"moco/{name}.pth"])
        | {"sha256": sha256_of_file(path), "num_bytes": path.stat().st_size, "citation": "none"}
        | {"url": path.absolute().as_uri(), "content": f"not trained: random weights, seed {seed}"}
        for name, path in weights.items()
    ]
    _write_json(registry, own)
    return registry


def _plan_patches(num_patches: int, num_shards: int, seed: int) -> pd.DataFrame:
    """A row for each patch that is made: its row of the index, and what its pixels depend on."""
    rng = np.random.default_rng(seed)
    lonlat = sample_land_lonlat(num_patches, seed=seed)
    seasons = rng.integers(len(SEASONS), size=num_patches)
    brightness, greenness = _look_up_colors(lonlat, seasons)
    rows = pd.DataFrame(
        {
            "lat": lonlat[:, 1],
            "lon": lonlat[:, 0],
            "url": "",
            "fn": [f"patch_{FIRST_NUMBER + number}.tif" for number in range(num_patches)],
            "true_lon": lonlat[:, 0],  # where the tif lies, whatever the index says
            "true_lat": lonlat[:, 1],
            "brightness": brightness,
            "greenness": greenness,
            "pixel_seed": rng.integers(2**32, size=num_patches),
            "shard": np.arange(num_patches) % num_shards,
            "fault": "",
        }
    )
    whole = np.flatnonzero(rows.shard < num_shards - NUM_CUT_SHORT)
    bad = rng.choice(whole[1:], size=len(FAULTS), replace=False)
    rows.loc[bad, "fault"] = FAULTS
    of = dict(zip(FAULTS, bad, strict=True))
    rows.loc[of["coordinates disagree"], "lat"] -= 1.0
    rows.loc[of["bad coordinates"], "lat"] = 95.0
    seen = ["brightness", "greenness", "pixel_seed"]
    rows.loc[of["duplicate content"], seen] = rows.loc[0, seen]
    place = ["lat", "lon", "true_lat", "true_lon"]
    rows.loc[of["duplicate coordinates"], place] = rows.loc[0, place]
    return rows


def _look_up_colors(
    lonlat: Float64[np.ndarray, "num_patches 2"], seasons: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Brightness, and green minus red, at each place in its season; both of mean 0, deviation 1."""
    pixels = cut_patches(lonlat, size_px=2, imagery="seasons").mean(axis=(2, 3))  # (n, 13)
    bands = list_bands("seasons")
    first = np.array([bands.index(f"{COLORS[0]}_{season}") for season in SEASONS])[seasons]
    red, green, blue = (pixels[np.arange(len(pixels)), first + color] for color in range(3))
    looks = red + green + blue, green - red
    return tuple((look - look.mean()) / look.std() for look in looks)


def _make_pixels(row) -> UInt16[np.ndarray, "bands height width"]:
    """Two smooth fields and a little noise around a mean spectrum, digital numbers."""
    rng = np.random.default_rng(row.pixel_seed)
    mean, per_brightness, per_green, rest, texture = np.array(list(BANDS.values())).T
    spectrum = mean + per_brightness * row.brightness + per_green * row.greenness
    spectrum += rest * rng.normal() / 2  # all bands together; half, so that places can be told
    y, x, y2, x2 = rng.integers(SIZE_PX, size=4)
    fields = _make_fields()
    first, second = (
        field[y : y + SIZE_PX, x : x + SIZE_PX]
        for field, y, x in ((fields[0], y, x), (fields[1], y2, x2))
    )
    angle = np.linspace(0, np.pi / 2, len(BANDS))[:, None, None]  # visible to infrared
    relief = np.float32(np.cos(angle)) * first + np.float32(np.sin(angle)) * second
    logs = np.float32(spectrum)[:, None, None] + np.float32(texture)[:, None, None] * relief
    numbers = np.exp(logs) * DIGITAL_NUMBERS_PER_REFLECTANCE
    numbers += rng.integers(32, size=numbers.shape, dtype=np.uint8)  # of the sensor
    return numbers.clip(1, 20_000).astype(np.uint16)


@cache
def _make_fields() -> np.ndarray:
    """Two fields of twice a patch's side, of deviation 1, whose power falls as 1 / frequency^3."""
    side = 2 * SIZE_PX
    noise = np.fft.rfft2(np.random.default_rng(0).normal(size=(2, side, side)))
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    frequency[0, 0] = np.inf
    fields = np.fft.irfft2(noise / frequency**1.5, s=(side, side))
    return (fields / fields.std(axis=(1, 2), keepdims=True)).astype(np.float32)


def _write_shard(path: Path, rows: pd.DataFrame, *, cut_short: bool) -> dict[str, str]:
    """Write a tar of patches; name those that a reader cannot find whole, with the reason."""
    kept = rows[: -max(1, len(rows) // 10)] if cut_short else rows
    lost = dict.fromkeys(rows.fn.iloc[len(kept) :], "missing")
    if cut_short:  # in the middle of the last one
        lost[kept.fn.iloc[-1]] = "unreadable"
    if path.is_file():
        return lost
    with write_atomically(path) as scratch:
        with tarfile.open(scratch, "w") as tar:
            for row in kept.itertuples():
                content = _make_tif(row)
                member = tarfile.TarInfo(f"images/{row.fn}")
                member.size = len(content)
                start = tar.offset
                tar.addfile(member, io.BytesIO(content))
        if cut_short:
            os.truncate(scratch, start + tarfile.BLOCKSIZE + member.size // 2)
    return lost


def _make_tif(row) -> bytes:
    """The file of one patch, with its fault."""
    if row.url:  # a genuine one
        return fetch_file(f"{GENUINE}images/{row.fn}").read_bytes()
    pixels = _make_pixels(row)
    if row.fault in SPOIL:
        pixels = SPOIL[row.fault](pixels)
    lon, lat = row.true_lon, row.true_lat
    zone = min(int((lon + 180) // 6), 59) + 1
    crs = f"EPSG:{(32600 if lat >= 0 else 32700) + zone}"
    (x,), (y,) = transform("EPSG:4326", crs, [lon], [lat])
    half = SIZE_PX // 2 * PIXEL_M
    place = rasterio.Affine(PIXEL_M, 0, x - half, 0, -PIXEL_M, y + half)
    content = encode_patch(pixels, crs, place)
    return content[: len(content) // 2] if row.fault == "unreadable" else content


def _make_weights(name: str, images: torch.Tensor, seed: int, folder: Path) -> Path:
    """Save random weights of a backbone, the statistics of its batch norms taken from images."""
    path = folder / f"moco/{name}.pth"
    if path.is_file():
        return path
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        backbone = BACKBONES[name](num_bands=images.shape[1])
    if size_px := backbone.size_px:
        images = images[..., :size_px, :size_px]
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the same sums, to the last bit, whatever the process
    with torch.no_grad():
        backbone.train()(images)
    torch.set_num_threads(num_threads)
    with write_atomically(path) as scratch:
        torch.save(backbone.state_dict(), scratch)
    return path


def _fetch_genuine() -> pd.DataFrame:
    """The rows of the genuine patches' index; none where they are not at hand."""
    names = [name for name in load_registry() if name.startswith(f"{GENUINE}images/")]
    try:
        index = pd.read_csv(fetch_file(f"{GENUINE}index.csv"))
        for name in names:
            fetch_file(name)
    except FileUnavailableError as error:
        logger.warning("without the genuine patches: %s", error)
        return pd.DataFrame()
    return index.assign(fault="")


def _keep_settings(path: Path, settings: dict[str, int]) -> None:
    if path.is_file() and (found := json.loads(path.read_text())) != settings:
        raise ValueError(
            f"{path.parent} was made with {found}, now asked for are {settings}: delete it"
        )
    _write_json(path, settings)


def _write_json(path: Path, content) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--num-patches", type=int, default=2000)
    parser.add_argument("--num-shards", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logger.info("%s", make_rehearsal(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
