"""A STAC API with files behind it, on this machine: what tests of the rebuild talk to."""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import rasterio
import rasterio.shutil
import shapely
from affine import Affine
from rasterio.io import MemoryFile
from rasterio.warp import transform_geom
from server import serve

from satclip_lib.data.sentinel2 import BAND_NAMES

COLLECTION = "sentinel-2-l2a"
RESOLUTIONS_M = dict(zip(BAND_NAMES, (60, 10, 10, 10, 20, 20, 20, 10, 20, 60, 20, 20), strict=True))


class StacServer:
    """Answers searches from a list of items, and requests for ranges of files.

    Attributes:
        url: of the API.
        files: Folder that it serves.
        items: that it lists; may be changed at any time.
        faults: (pattern of "METHOD path", answer) pairs; each is used once, in this order. An
            answer is a status, headers and body, or seconds to wait before the right one is given.
        token: what the query of a file must say, where it is not None; 403 otherwise.
        requests: "METHOD path" of all requests so far.
        num_bytes: Bytes of answers so far.
        pause_s: before each answer.
    """

    def __init__(self, files: Path) -> None:
        """Without items and faults."""
        self.files, self.url, self.token, self.pause_s = files, "", None, 0.0
        self.items, self.faults, self.requests, self.num_bytes = [], [], [], 0
        self._lock = threading.Lock()

    def __call__(self, method: str, path: str, headers: dict, asked: bytes):
        """Answer one request, with the next fault that is meant for it."""
        path, _, query = unquote(path).partition("?")
        request = f"{method} {path}"
        self.requests.append(request)
        time.sleep(self.pause_s)
        if path.startswith("/files/") and self.token and query != f"token={self.token}":
            return 403, {}, b"expired"
        with self._lock:
            fault = next((fault for fault in self.faults if re.search(fault[0], request)), None)
            if fault:
                self.faults.remove(fault)
        if fault and isinstance(fault[1], tuple):
            return fault[1]
        if fault:
            time.sleep(fault[1])
        status, about, body = self._tell_truth(path, headers, asked)
        self.num_bytes += len(body)
        return status, about, body

    def _tell_truth(self, path: str, headers: dict, asked: bytes):
        if path == "/":
            return 200, {}, make_landing_page(self.url)
        if path == "/search":
            found = [item for item in self.items if _matches(item, json.loads(asked))]
            return 200, {}, json.dumps({"features": found, "links": []}).encode()
        file = self.files / path.removeprefix("/files/")
        if not file.is_file():
            return 404, {}, b""
        data = file.read_bytes()
        start, stop = map(int, re.findall(r"\d+", headers["range"]))
        stop = min(stop + 1, len(data))
        if start >= stop:
            return 416, {}, b""
        return 206, {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}, data[start:stop]

    def add_scene(
        self, scene_id: str, numbers: np.ndarray, *, epsg: int, left: int, top: int, **properties
    ) -> dict:
        """Write the bands of a scene, ``(12, height, width)`` at 10 m, as COGs, and list it.

        Bands of 20 and 60 m keep the first pixel of each 2 x 2 or 6 x 6.
        """
        folder = self.files / scene_id
        folder.mkdir()
        for band, name in zip(numbers, BAND_NAMES, strict=True):
            step = RESOLUTIONS_M[name] // 10
            transform = Affine(10 * step, 0, left, 0, -10 * step, top)
            _write_cog(folder / f"{name}.tif", band[::step, ::step], epsg, transform)
        height, width = numbers.shape[1:]
        outline = shapely.box(left, top - 10 * height, left + 10 * width, top)
        geometry = transform_geom(f"EPSG:{epsg}", "EPSG:4326", shapely.geometry.mapping(outline))
        item = {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": scene_id,
            "collection": COLLECTION,
            "geometry": geometry,
            "bbox": list(shapely.geometry.shape(geometry).bounds),
            "properties": {
                "datetime": "2021-06-01T10:00:00Z",
                "platform": "Sentinel-2A",
                "eo:cloud_cover": 5.0,
                "sat:relative_orbit": 22,
                "s2:processing_baseline": "03.00",
            }
            | properties,
            "assets": {
                name: {"href": f"{self.url}/files/{scene_id}/{name}.tif"} for name in BAND_NAMES
            },
            "links": [],
        }
        self.items.append(item)
        return item


@contextmanager
def run_stac_server(files: Path) -> Iterator[StacServer]:
    """A server on a free port, stopped at the end."""
    server = StacServer(files)
    with serve(server) as server.url:
        yield server


def make_landing_page(url: str) -> bytes:
    """What an API says of itself: where it is searched."""
    links = [{"rel": "search", "href": f"{url}/search", "type": "application/geo+json"}]
    about = {"type": "Catalog", "id": "X", "description": "X", "stac_version": "1.0.0"}
    return json.dumps(about | {"links": links, "conformsTo": []}).encode()


def _matches(item: dict, asked: dict) -> bool:
    """Whether an item is in the collection, place, time and clouds of a search."""
    place = shapely.geometry.shape(item["geometry"])
    first, last = map(datetime.fromisoformat, asked["datetime"].split("/"))
    where = asked.get("intersects")
    where = shapely.geometry.shape(where) if where else shapely.box(*asked["bbox"])
    ((name, comparison),) = asked["query"].items()
    return (
        item["collection"] in asked["collections"]
        and place.intersects(where)
        and first <= datetime.fromisoformat(item["properties"]["datetime"]) <= last
        and item["properties"][name] < comparison["lt"]
    )


def _write_cog(path: Path, band: np.ndarray, epsg: int, transform: Affine) -> None:
    shape = {"height": band.shape[0], "width": band.shape[1], "count": 1, "dtype": band.dtype}
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", crs=epsg, transform=transform, **shape) as file:
            file.write(band, 1)
        with memory.open() as file:
            rasterio.shutil.copy(file, path, driver="COG", blocksize=256, compress="deflate")
