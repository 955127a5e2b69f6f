"""A STAC API with files behind it, on this machine: what tests of the rebuild talk to.

The API is stac-fastapi's, over a list of items in memory; the files are static, read by ranges.
Faults are put between the two and the client: see :class:`Faults`.
"""

import asyncio
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import attr
import numpy as np
import rasterio
import rasterio.shutil
import shapely
import uvicorn
from affine import Affine
from rasterio.io import MemoryFile
from rasterio.warp import transform_geom
from stac_fastapi.api.app import StacApi
from stac_fastapi.api.models import create_post_request_model
from stac_fastapi.extensions.query import QueryExtension
from stac_fastapi.types.config import ApiSettings
from stac_fastapi.types.core import BaseCoreClient
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from satclip_lib.data.sentinel2 import BAND_NAMES

COLLECTION = "sentinel-2-l2a"
RESOLUTIONS_M = dict(zip(BAND_NAMES, (60, 10, 10, 10, 20, 20, 20, 10, 20, 60, 20, 20), strict=True))
NAMES = ("title", "description", "landing_id", "version")


@attr.s
class ListClient(BaseCoreClient):
    """Searches a list of items."""

    items: list[dict] = attr.ib(factory=list)

    def post_search(self, search_request, **kwargs):
        """Items of the collections, place, time and properties asked for."""
        found = [item for item in self.items if _matches(item, search_request)]
        return {"type": "FeatureCollection", "features": found, "links": []}

    def all_collections(self, **kwargs):
        """None: nobody asks for their descriptions."""
        return {"collections": [], "links": []}

    def get_search(self, **kwargs):
        """Not needed."""
        raise NotImplementedError

    get_item = get_collection = item_collection = get_search


def _matches(item: dict, request) -> bool:
    place = shapely.geometry.shape(item["geometry"])
    moment = datetime.fromisoformat(item["properties"]["datetime"])
    asked = request.intersects and shapely.geometry.shape(request.intersects.model_dump())
    ((name, limits),) = request.query.items()
    return (
        item["collection"] in request.collections
        and place.intersects(asked or shapely.box(*request.bbox))
        and request.start_date <= moment <= request.end_date
        and item["properties"][name] < limits["lt"]
    )


class Faults:
    """ASGI middleware that answers some requests itself, or late.

    Attributes:
        planned: (pattern of "METHOD path", answer) pairs; each is used once, in this order. An
            answer is a Response, or seconds to wait before the right one is given.
        token: what the query of a file must say, where it is not None; 403 otherwise.
        requests: "METHOD path" of all requests so far.
        num_bytes: Bytes of answers so far.
        pause_s: before each answer.
    """

    def __init__(self) -> None:
        """No faults."""
        self.app, self.token, self.pause_s = None, None, 0.0
        self.planned: list[tuple[str, Response | float]] = []
        self.requests: list[str] = []
        self.num_bytes = 0

    async def __call__(self, scope, receive, send) -> None:
        """Answer, or let the server answer."""
        request = f"{scope['method']} {scope['path']}"
        self.requests.append(request)

        async def count_and_send(message):
            self.num_bytes += len(message.get("body", b""))
            await send(message)

        await asyncio.sleep(self.pause_s)
        is_file = scope["path"].startswith("/files/")
        if is_file and self.token and scope["query_string"].decode() != f"token={self.token}":
            return await Response("expired", status_code=403)(scope, receive, send)
        for fault in self.planned:
            if re.search(fault[0], request):
                self.planned.remove(fault)
                if isinstance(fault[1], Response):
                    return await fault[1](scope, receive, send)
                await asyncio.sleep(fault[1])
                break
        return await self.app(scope, receive, count_and_send)


class StacServer:
    """The running server.

    Attributes:
        url: of the API.
        items: that it lists; may be changed at any time.
        faults: that it has.
        files: folder that it serves.
    """

    def __init__(self, files: Path, url: str) -> None:
        """Put the application together."""
        self.files, self.url, self.faults = files, url, Faults()
        extensions = [QueryExtension()]
        client = ListClient(extensions=extensions)
        self.items = client.items
        api = StacApi(
            settings=ApiSettings(**{f"stac_fastapi_{name}": "test" for name in NAMES}),
            client=client,
            extensions=extensions,
            search_post_request_model=create_post_request_model(extensions),
        )
        api.app.mount("/files", StaticFiles(directory=files))
        self.faults.app = api.app

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
    config = uvicorn.Config(None, host="127.0.0.1", port=0, log_level="critical", lifespan="off")
    socket = config.bind_socket()
    server = StacServer(files, f"http://127.0.0.1:{socket.getsockname()[1]}")
    config.app = server.faults
    runner = uvicorn.Server(config)
    thread = threading.Thread(target=runner.run, kwargs={"sockets": [socket]}, daemon=True)
    thread.start()
    while not runner.started:
        time.sleep(0.01)
    try:
        yield server
    finally:
        runner.should_exit = runner.force_exit = True
        thread.join(timeout=10)
        socket.close()


def _write_cog(path: Path, band: np.ndarray, epsg: int, transform: Affine) -> None:
    shape = {"height": band.shape[0], "width": band.shape[1], "count": 1, "dtype": band.dtype}
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", crs=epsg, transform=transform, **shape) as file:
            file.write(band, 1)
        with memory.open() as file:
            quick = {"compress": "none", "overviews": "none"}
            rasterio.shutil.copy(file, path, driver="COG", blocksize=256, **quick)
