"""Patches of Sentinel-2 scenes, cut out of the scenes of a STAC API over HTTP.

A patch is named by a plan and a number: the same two give the same patch on any machine, whatever
else was drawn before. So a draw depends on the contents of the catalogue, not on the network: a
scene that cannot be used (too many pixels missing, a damaged file) is replaced by the next draw,
but a server that keeps failing is an error of that patch, which can be tried again.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import pystac_client
import shapely
from pystac_client.stac_api_io import StacApiIO

from satclip_lib.data.land import is_land
from satclip_lib.data.remote_file import Access, Exchange
from satclip_lib.data.scenes import Item, ScenePatch, UnusableSceneError, cut_patch

PLANETARY_COMPUTER = "https://planetarycomputer.microsoft.com/api/stac/v1"
SCENES_PER_LOCATION = 3  # scenes that are tried before another location is drawn
SEARCH_MINUTES = 10  # length of the time in which one search among all scenes looks
MAX_SCENES_PER_SEARCH = 500  # no SEARCH_MINUTES have more
MAX_ITEMS = 5000  # no real search gives more; this ends a search whose paging never ends
MAX_PAGE_BYTES = 6 * 2**20  # a page of 100 scenes has about 2**21
MAX_SEARCHES = {"per_area": 20, "per_scene": 1000}  # searches in a row without a scene
MAX_POINTS = 10_000  # points that are drawn until one is on land
ADVICE = "widen date_range or raise max_cloud_cover"

Sampling = Literal["per_area", "per_scene"]


class NoPatchError(LookupError):
    """The catalogue has no scene, or no usable one, for a patch."""


@dataclass(frozen=True, kw_only=True)
class ScenePlan:
    """Which patches to draw.

    Attributes:
        sampling: "per_area" draws locations uniformly over land, then one of the scenes over each.
            "per_scene" is the rule of the paper: it draws scenes that touch land, each with the
            same chance, and a window anywhere in the scene.
        seed: Random seed of all draws, not negative.
        api_url: Address of the STAC API, which must know the ``query`` extension.
        collection: Name of a collection of Sentinel-2 Level-2A scenes, whose assets are called as
            in ``BAND_NAMES``.
        date_range: "first/last", two dates (both included) or times, UTC.
        bbox: (west, south, east, north) of the locations, degrees. With "per_scene", the scenes
            touch it. The default leaves out Antarctica.
        max_cloud_cover: Scenes with less cloud than this are used, %.
        max_attempts: Number of scenes to try for one patch.
        access: How to reach the API and its files. It does not change which patches are drawn.
    """

    sampling: Sampling = "per_area"
    seed: int = 0
    api_url: str = PLANETARY_COMPUTER
    collection: str = "sentinel-2-l2a"
    date_range: str = "2021-01-01/2023-05-17"
    bbox: tuple[float, float, float, float] = (-180.0, -60.0, 180.0, 90.0)
    max_cloud_cover: float = 20.0
    max_attempts: int = 20
    access: Access = field(default_factory=Access)

    def __post_init__(self) -> None:
        """Refuse values that would only fail later, or mean something else.

        Raises:
            ValueError: If an attribute is out of its range.
        """
        if self.sampling not in get_args(Sampling):
            raise ValueError(f"sampling must be per_area or per_scene, got {self.sampling!r}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts must be positive, got {self.max_attempts}")
        object.__setattr__(self, "bbox", tuple(self.bbox))  # a list cannot be hashed
        west, south, east, north = self.bbox
        if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
            raise ValueError(f"bbox must be (west, south, east, north) in degrees, got {self.bbox}")
        _parse_date_range(self.date_range)


def draw_patch(plan: ScenePlan, number: int) -> ScenePatch:
    """Draw the patch with this number: find a scene, read a window of each of its bands.

    Raises:
        NoPatchError: If the catalogue has no scene, or ``max_attempts`` scenes were of no use.
        OSError: If a server keeps failing.
    """
    rng = np.random.default_rng([plan.seed, number])
    draw = _draw_per_area if plan.sampling == "per_area" else _draw_per_scene
    for attempt, (item, lonlat) in enumerate(islice(draw(plan, rng), plan.max_attempts)):
        try:
            patch = cut_patch(item, lonlat, rng, plan.access)
        except UnusableSceneError as error:
            reason = f"{item['id']}: {error}"
            continue
        drawn = {"scenes_refused": attempt, "collection": plan.collection, "api_url": plan.api_url}
        return replace(patch, provenance=patch.provenance | drawn)
    raise NoPatchError(f"none of {plan.max_attempts} scenes could be used; the last, {reason}")


@lru_cache(maxsize=128)
def find_search(plan: ScenePlan) -> str:
    """Ask the STAC API of a plan for the address of its search.

    Raises:
        OSError: If the API cannot be reached, or has no search.
    """
    try:
        catalogue = pystac_client.Client.open(plan.api_url, stac_io=_PatientIO(plan.access))
        return catalogue.get_search_link().get_absolute_href()
    except Exception as error:  # whatever is in the answer
        raise OSError(f"cannot open the STAC API at {plan.api_url}: {error}") from error


def _draw_per_area(
    plan: ScenePlan, rng: np.random.Generator
) -> Iterator[tuple[Item, tuple[float, float] | None]]:
    num_empty = 0
    while num_empty < MAX_SEARCHES["per_area"]:
        lonlat = _draw_location(plan.bbox, rng)
        point = {"type": "Point", "coordinates": lonlat}
        items = _search(plan, datetime=plan.date_range, intersects=point)
        num_empty = 0 if items else num_empty + 1
        for index in rng.permutation(len(items))[:SCENES_PER_LOCATION]:
            yield items[index], lonlat
    raise NoPatchError(f"no scene at {num_empty} locations; {ADVICE}")


def _draw_per_scene(
    plan: ScenePlan, rng: np.random.Generator
) -> Iterator[tuple[Item, tuple[float, float] | None]]:
    """Search ten minutes at random, until one of the n scenes there is taken.

    That happens with probability n / MAX_SCENES_PER_SEARCH. So each scene is as likely as any
    other, without listing millions of them.
    """
    first, last = _parse_date_range(plan.date_range)
    step = pd.Timedelta(minutes=SEARCH_MINUTES)
    num_empty = 0
    while num_empty < MAX_SEARCHES["per_scene"]:
        start = first + step * int(rng.integers(np.ceil((last - first) / step)))
        stop = min(start + step, last) - pd.Timedelta(milliseconds=1)
        items = _search(
            plan, datetime=[start.to_pydatetime(), stop.to_pydatetime()], bbox=plan.bbox
        )
        items = [item for item in items if _touches_land(item)]
        slot = int(rng.integers(max(MAX_SCENES_PER_SEARCH, len(items))))
        num_empty = 0 if slot < len(items) else num_empty + 1
        if slot < len(items):
            yield items[slot], None
    raise NoPatchError(f"no scene in {num_empty} searches; {ADVICE}")


def _draw_location(
    bbox: tuple[float, float, float, float], rng: np.random.Generator
) -> tuple[float, float]:
    """Longitude and latitude of a point on land, uniform per area of the sphere."""
    west, south, east, north = bbox
    lowest, highest = np.sin(np.radians([south, north]))
    for _ in range(MAX_POINTS):
        lat = np.degrees(np.arcsin(rng.uniform(lowest, highest)))
        lonlat = np.array([[rng.uniform(west, east), lat]])
        if is_land(lonlat)[0]:
            return tuple(lonlat[0].tolist())
    raise NoPatchError(f"no land found in bbox {bbox}; choose one that holds some")


def _search(plan: ScenePlan, **where: Any) -> list[Item]:
    """Scenes with few clouds, in an order that does not depend on the API."""
    search = pystac_client.ItemSearch(
        find_search(plan),
        stac_io=_PatientIO(plan.access),
        collections=[plan.collection],
        query={"eo:cloud_cover": {"lt": plan.max_cloud_cover}},
        limit=100,
        **where,
    )
    try:
        items = list(islice(search.items_as_dicts(), MAX_ITEMS + 1))
        if len(items) > MAX_ITEMS:
            raise OverflowError(f"more than {MAX_ITEMS} scenes, its paging does not end")
        return sorted(items, key=lambda item: item["id"])
    except Exception as error:  # whatever is in the answer
        raise OSError(f"cannot search {plan.api_url}: {error}") from error


class _PatientIO(StacApiIO):
    """Sends the requests of one search, all of its pages, through one ``Exchange``."""

    def __init__(self, access: Access) -> None:
        super().__init__(max_retries=None)
        self._exchange = Exchange(access)

    def request(self, href, method=None, headers=None, parameters=None) -> str:
        return self._exchange.ask(
            href,
            method=method or "GET",
            headers={"Accept-Encoding": "gzip"} | (headers or {}),
            json=parameters or None,
            max_bytes=MAX_PAGE_BYTES,
        ).decode()


def _touches_land(item: Item) -> bool:
    for part in shapely.get_parts(shapely.geometry.shape(item["geometry"])):
        west, south, east, north = part.bounds
        lon, lat = np.meshgrid(np.linspace(west, east, 33), np.linspace(south, north, 33))
        inside = shapely.contains_xy(part, lon, lat)
        if is_land(np.stack([lon[inside], lat[inside]], axis=1)).any():
            return True
    return False


def _parse_date_range(date_range: str) -> tuple[pd.Timestamp, pd.Timestamp]:
    """First moment, and the moment after the last."""
    try:
        first, last = date_range.split("/")
        start, stop = pd.Timestamp(first), pd.Timestamp(last)
        stop += pd.Timedelta(days=1 if len(last) == len("2021-01-01") else 0)
        start, stop = (time.tz_localize("UTC") if not time.tz else time for time in (start, stop))
        if start >= stop:
            raise ValueError("it ends before it begins")
    except ValueError as error:
        raise ValueError(
            f"date_range must be like 2021-01-01/2023-05-17, got {date_range!r} ({error})"
        ) from error
    return start, stop
