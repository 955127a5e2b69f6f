"""The rebuild of S2-100K: from scenes behind a real API to the folder, whatever goes wrong."""

import json
import os
import signal
import threading
import time
from collections import Counter
from dataclasses import replace
from functools import partial

import dask
import distributed
import numpy as np
import pandas as pd
import processes
import pytest
import rasterio
import shapely
from folders import hash_files
from stac_server import RESOLUTIONS_M, run_stac_server
from starlette.responses import Response

from satclip_lib.data import scenes, stac
from satclip_lib.data.land import sample_land_lonlat
from satclip_lib.data.patch_store import PROVENANCE
from satclip_lib.data.rebuild import rebuild_s2_100k
from satclip_lib.data.remote_file import Access
from satclip_lib.data.s2_folder import list_patches, read_patch
from satclip_lib.data.scenes import UnusableSceneError
from satclip_lib.data.sentinel2 import BAND_NAMES
from satclip_lib.data.stac import NoPatchError, ScenePlan, draw_patch

PLACE = {"epsg": 32632, "left": 600000, "top": 4000020}  # 10.15 E, 36.1 N, land
NUM_PATCHES = 6
KILLS_EVERY = 8  # changes of the disk, of which two patches make 25; 1 tries them all


@pytest.fixture(scope="module")
def truth():
    """What the scenes show, ``(12, 768, 768)``: every number but 0, which means missing."""
    rng = np.random.default_rng(0)
    shape = (12, 768, 768)
    return {name: rng.integers(1, 60_000, shape, dtype=np.uint16) for name in ("OLD", "NEW")}


@pytest.fixture(scope="module")
def module_server(truth, tmp_path_factory):
    """Two good scenes of one place, before and after baseline 04.00, and three bad ones."""
    with run_stac_server(tmp_path_factory.mktemp("scenes")) as server:
        since_04 = {"s2:processing_baseline": "04.00", "datetime": "2022-06-01T10:00:00Z"}
        server.add_scene("OLD", truth["OLD"], **PLACE)
        server.add_scene("NEW", truth["NEW"] + np.uint16(1000), **PLACE, **since_04)
        server.add_scene("CLOUDY", truth["OLD"], **PLACE, **{"eo:cloud_cover": 20.0})
        server.add_scene("EARLY", truth["OLD"], **PLACE, datetime="2020-12-31T23:59:59Z")
        server.add_scene("LATE", truth["OLD"], **PLACE, datetime="2023-05-18T00:00:00Z")
        yield server


@pytest.fixture
def server(module_server):
    """The server with its first five scenes and no faults, after each test."""
    items = list(module_server.items)
    module_server.faults.requests.clear()
    yield module_server
    module_server.items[:] = items
    module_server.faults.planned.clear()
    module_server.faults.token, module_server.faults.pause_s = None, 0.0


@pytest.fixture(scope="module")
def plan(module_server):
    """Patches of the place where all scenes are, and little patience."""
    bbox = tuple(module_server.items[0]["bbox"])
    access = Access(timeout_s=5.0, num_retries=3, backoff_s=0.01)
    return ScenePlan(api_url=module_server.url, bbox=bbox, access=access)


@pytest.fixture(scope="module")
def rebuilt(plan, tmp_path_factory):
    """A folder made without any trouble."""
    folder = tmp_path_factory.mktemp("rebuilt")
    report = rebuild_s2_100k(folder, plan, num_patches=NUM_PATCHES, num_workers=2)
    assert report.failures.empty
    return folder


def _keep_scenes(server, *scene_ids):
    server.items[:] = [item for item in server.items if item["id"] in scene_ids]


def _expected(truth, scene_id, transform):
    """The window of a scene, by repeating the pixels of its coarse bands."""
    column = round((transform.c - PLACE["left"]) / 10)
    row = round((PLACE["top"] - transform.f) / 10)
    bands = []
    for band, name in zip(truth[scene_id], BAND_NAMES, strict=True):
        step = RESOLUTIONS_M[name] // 10
        whole = band[::step, ::step].repeat(step, axis=0).repeat(step, axis=1)
        bands.append(whole[row : row + 256, column : column + 256])
    return np.stack(bands)


def test_patches_are_windows_of_the_scenes_to_the_last_bit(rebuilt, truth):
    """Each tif holds the numbers of its scene, the offset of baseline 04.00 taken off."""
    index = pd.read_csv(rebuilt / "index.csv")
    assert set(index.scene_id) == {"OLD", "NEW"}
    for row in index.itertuples():
        with rasterio.open(rebuilt / "images" / row.fn) as file:
            expected = _expected(truth, row.scene_id, file.transform)
            np.testing.assert_array_equal(file.read(), expected)


def test_the_folder_has_the_public_layout(rebuilt):
    """Tiled LZW tifs of twelve named uint16 bands in UTM; an index that says where and when."""
    index = pd.read_csv(rebuilt / "index.csv")
    assert index.columns[:3].tolist() == ["lat", "lon", "fn"]
    assert index.fn.tolist() == [f"patch_{number}.tif" for number in range(NUM_PATCHES)]
    assert (index.platform == "Sentinel-2A").all() and (index.orbit == 22).all()
    assert set(index.datetime) == {"2021-06-01T10:00:00Z", "2022-06-01T10:00:00Z"}
    assert dict(zip(index.scene_id, index.offset, strict=True)) == {"OLD": 0, "NEW": -1000}
    with rasterio.open(rebuilt / "images/patch_0.tif") as file:
        assert file.profile["dtype"] == "uint16" and file.profile["compress"] == "lzw"
        assert file.block_shapes == [(256, 256)] * 12  # one tile, where strips would be lower
        assert file.shape == (256, 256) and file.res == (10, 10)
        assert file.descriptions == BAND_NAMES and file.crs.to_epsg() == 32632
        centre = rasterio.warp.transform(
            file.crs, "EPSG:4326", *([v] for v in file.xy(127.5, 127.5))
        )
    np.testing.assert_allclose([index.lon[0], index.lat[0]], np.ravel(centre), atol=1e-7)
    files = list_patches(rebuilt)  # as the public folder is read
    assert [file.fn for file in files] == index.fn.tolist()
    assert all({"fn", *file.provenance} == set(PROVENANCE) for file in files)


def test_scenes_with_clouds_or_of_other_dates_are_not_used(plan, server):
    """Less cloud than max_cloud_cover; both days of the range included, no more."""
    _keep_scenes(server, "CLOUDY", "EARLY", "LATE")
    with pytest.raises(NoPatchError, match=r"no scene at 20 locations; widen date_range"):
        draw_patch(plan, 0)
    cloudy = draw_patch(replace(plan, max_cloud_cover=20.1), 0)
    assert cloudy.provenance["scene_id"] == "CLOUDY"
    late = draw_patch(replace(plan, date_range="2021-01-01/2023-05-18"), 0)
    assert late.provenance["scene_id"] == "LATE"


def test_only_the_window_is_read(server, plan, truth):
    """Of a large scene, a small part is asked for: the tiles that the window touches."""
    _keep_scenes(server)
    item = server.add_scene("LARGE", np.tile(truth["OLD"], (1, 2, 2)), **PLACE)
    size = sum(path.stat().st_size for path in (server.files / "LARGE").iterdir())
    before = server.faults.num_bytes
    draw_patch(replace(plan, bbox=tuple(item["bbox"])), 0)
    assert 0 < server.faults.num_bytes - before < size / 3


@pytest.mark.parametrize(
    ("properties", "raster", "offset"),
    [
        ({"s2:processing_baseline": "03.01"}, None, 0),
        ({"s2:processing_baseline": "04.00"}, None, -1000),
        ({"s2:processing_baseline": "05.09"}, None, -1000),
        ({"s2:processing_baseline": "04.00"}, [{"scale": 0.0001, "offset": 0}], 0),
        ({}, [{"scale": 0.0001, "offset": -0.1}], -1000),
        ({"earthsearch:boa_offset_applied": True}, [{"scale": 0.0001, "offset": -0.1}], 0),
    ],
)
def test_the_offset_is_what_the_item_says(properties, raster, offset):
    """raster:bands first, then the processing baseline; nothing where it is applied already."""
    asset = {"raster:bands": raster} if raster else {}
    assert scenes.get_offset({"properties": properties, "assets": {"B02": asset}}, "B02") == offset
    for nonsense in ([], [{"offset": "x"}], [{"offset": 1, "scale": 0}], 7):  # is not guessed
        item = {"properties": {}, "assets": {"B02": {"raster:bands": nonsense}}}
        with pytest.raises(UnusableSceneError, match="neither raster:bands nor s2:processing"):
            scenes.get_offset(item, "B02")


def test_dark_pixels_are_clipped_and_missing_ones_stay_missing(server, plan):
    """After baseline 04.00, 700 and 1000 become 0, 1001 becomes 1, and 0 stays 0, uncounted."""
    _keep_scenes(server)
    numbers = np.full((12, 768, 768), 1001, dtype=np.uint16)
    numbers[:, :, 0::4], numbers[:, :, 1::4] = 700, 1000
    numbers[:, ::96] = 0
    server.add_scene("DARK", numbers, **PLACE, **{"s2:processing_baseline": "04.00"})
    patch = draw_patch(plan, 0)
    expected = {"DARK": (numbers == 1001).astype(np.uint16)}
    np.testing.assert_array_equal(patch.numbers, _expected(expected, "DARK", patch.transform))
    assert 0.03 < patch.provenance["missing_share"] < 0.1  # one row of 16 at 60 m


def test_patches_with_too_much_missing_are_drawn_again(server, plan):
    """More than a tenth missing in any band: another scene; no other scene: a reason."""
    half_empty = np.full((12, 768, 768), 2000, dtype=np.uint16)
    half_empty[3, :, ::2] = 0
    server.add_scene("EMPTY", half_empty, **PLACE)
    patches = [draw_patch(plan, number) for number in range(4)]
    assert {patch.provenance["scene_id"] for patch in patches} <= {"OLD", "NEW"}
    assert max(patch.provenance["scenes_refused"] for patch in patches) > 0
    _keep_scenes(server, "EMPTY")
    told = r"none of 3 scenes .* EMPTY: 50% .* missing in the bands up to B04"
    with pytest.raises(NoPatchError, match=told):
        draw_patch(replace(plan, max_attempts=3), 0)


def test_a_patch_is_where_it_was_drawn(plan, truth):
    """The location is the centre to half a pixel; near an edge the patch moves into the scene."""
    (lon, *_), (lat, *_) = rasterio.warp.transform("EPSG:32632", "EPSG:4326", [603000], [3996500])
    centre = draw_patch(replace(plan, bbox=(lon, lat, lon + 1e-7, lat + 1e-7)), 0)
    x, y = centre.transform @ (128, 128)
    assert abs(x - 603000) <= 5.1 and abs(y - 3996500) <= 5.1
    (lon,), (lat,) = rasterio.warp.transform("EPSG:32632", "EPSG:4326", [600010], [4000010])
    corner = draw_patch(replace(plan, bbox=(lon, lat, lon + 1e-7, lat + 1e-7)), 0)
    assert corner.transform @ (0, 0) == (PLACE["left"], PLACE["top"])
    scene_id = corner.provenance["scene_id"]
    np.testing.assert_array_equal(corner.numbers, _expected(truth, scene_id, corner.transform))


def test_a_patch_depends_on_plan_and_number_only(plan, rebuilt):
    """The same seed and number give the same patch; another seed or number another."""
    patch = draw_patch(plan, 3)
    np.testing.assert_array_equal(read_patch(list_patches(rebuilt)[3]), patch.numbers)
    provenance = json.loads((rebuilt / "provenance/patch_3.json").read_text())
    assert provenance == {"fn": "patch_3.tif"} | patch.provenance
    assert draw_patch(plan, 4).transform != patch.transform
    assert draw_patch(replace(plan, seed=1), 3).transform != patch.transform


def test_a_finished_folder_is_left_alone(plan, server, rebuilt):
    """A second run asks for no scene and changes no file; one of another plan is refused."""
    before = hash_files(rebuilt)
    rebuild_s2_100k(rebuilt, plan, num_patches=NUM_PATCHES)
    with pytest.raises(ValueError, match=r"begun with seed=0 \(now 7\): choose another folder"):
        rebuild_s2_100k(rebuilt, replace(plan, seed=7), num_patches=NUM_PATCHES)
    assert hash_files(rebuilt) == before
    assert not [request for request in server.faults.requests if "GET /" not in request]


CUT = Response(b"cut", status_code=206, headers={"content-length": "99"})
BUSY = Response(status_code=429, headers={"Retry-After": "1"})


@pytest.mark.parametrize("asked", ["GET .*B04", "POST /search"])
def test_passing_faults_change_nothing(plan, server, asked):
    """The patch is the one of a quiet day; Retry-After is heeded, and silence is not waited out."""
    plan = replace(plan, access=replace(plan.access, timeout_s=1.0, num_retries=4))
    expected = draw_patch(plan, 0)
    server.faults.planned += [(asked, f) for f in (Response(status_code=500), CUT, BUSY, 30.0)]
    start = time.monotonic()
    patch = draw_patch(plan, 0)
    assert not server.faults.planned
    assert 2 <= time.monotonic() - start < 30
    np.testing.assert_array_equal(patch.numbers, expected.numbers)
    assert patch.provenance == expected.provenance


def test_a_server_that_keeps_failing_costs_its_patches_only_once(plan, server, rebuilt, tmp_path):
    """Such a patch is listed with the reason; the next run makes it, as if nothing had been."""
    in_the_way = [("GET .*OLD/B09", Response(status_code=500))] * 40
    server.faults.planned += in_the_way
    report = rebuild_s2_100k(tmp_path / "a", plan, num_patches=NUM_PATCHES, num_workers=2)
    server.faults.planned.clear()
    of_old = (pd.read_csv(rebuilt / "index.csv").scene_id == "OLD").to_numpy()
    assert report.failures.number.tolist() == np.flatnonzero(of_old).tolist()
    assert report.failures.reason.str.contains("OLD/B09.tif: HTTP 500, expected 206, asked 4").all()
    assert len(report.index) == NUM_PATCHES - of_old.sum()
    table = pd.read_csv(tmp_path / "a/failures.csv")
    pd.testing.assert_frame_equal(table, report.failures, check_dtype=False)
    rebuild_s2_100k(tmp_path / "a", plan, num_patches=NUM_PATCHES, num_workers=2)
    assert hash_files(tmp_path / "a") == hash_files(rebuilt)


def _write_floats(path, whole):
    with rasterio.open(whole) as file:
        profile, numbers = file.profile | {"driver": "GTiff", "dtype": "float32"}, file.read()
    with rasterio.open(path, "w", **profile) as file:
        file.write(numbers.astype("float32"))


DAMAGES = {
    "truncated": lambda path, whole: path.write_bytes(whole.read_bytes()[: 2**16 + 100]),
    "floats": _write_floats,
    "VRT": lambda path, whole: rasterio.shutil.copy(whole, path, driver="VRT"),  # can be followed
    "empty": lambda path, whole: path.touch(),
    "unlisted": None,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_scene_is_replaced_by_another(plan, server, damage):
    """A file that is broken for good makes its scene unusable, and nothing else."""
    good = server.items[0]
    bad = {"id": f"BAD-{damage}", "assets": dict(good["assets"])}
    href = bad["assets"].pop("B08")["href"]
    if damage != "unlisted":
        (server.files / damage).mkdir()
        DAMAGES[damage](server.files / damage / "B08.tif", server.files / "OLD/B08.tif")
        bad["assets"]["B08"] = {"href": href.replace("OLD", damage)}
    server.items[:] = [good | bad]
    with pytest.raises(NoPatchError, match=rf"none of 1 scenes .*BAD-{damage}: .*B08"):
        draw_patch(replace(plan, max_attempts=1), 0)
    server.items.append(good)
    assert draw_patch(plan, 0).provenance["scene_id"] == "OLD"


def test_an_expired_signature_is_renewed(plan, server):
    """On 403 an address is signed again; a signature that stays wrong is an error, untold."""
    expected = draw_patch(plan, 0)
    server.faults.token = "fresh"
    tokens = []

    def sign(href):
        tokens.append("stale" if len(tokens) % 2 == 0 else "fresh")
        return f"{href}?token={tokens[-1]}"

    patch = draw_patch(replace(plan, access=replace(plan.access, sign=sign)), 0)
    np.testing.assert_array_equal(patch.numbers, expected.numbers)
    with pytest.raises(OSError, match=r"B01\.tif: HTTP 403") as error:
        wrong = replace(plan.access, sign=lambda href: f"{href}?token=secret")
        draw_patch(replace(plan, access=wrong), 0)
    assert "secret" not in str(error.value)


def test_an_empty_search_is_a_failure_of_each_patch(plan, server, tmp_path):
    """The run ends with a reason for each patch; without an API it does not begin."""
    _keep_scenes(server)
    report = rebuild_s2_100k(tmp_path / "a", plan, num_patches=2)
    assert report.index.empty and not (tmp_path / "a/index.csv").exists()
    assert report.failures.number.tolist() == [0, 1]
    assert report.failures.reason.str.contains("widen date_range or raise max_cloud_cover").all()
    with pytest.raises(OSError, match=r"cannot open the STAC API at http://127\.0\.0\.1:9"):
        rebuild_s2_100k(tmp_path / "b", replace(plan, api_url="http://127.0.0.1:9"), num_patches=1)
    assert not (tmp_path / "b").exists()


def test_drawing_per_scene_gives_every_land_scene_the_same_chance(plan, server, monkeypatch):
    """Crowded minutes do not favour their scenes nor the lonely ones; those at sea are left out."""
    moments = {"X": "10:01", "Y": "10:02", "Z": "10:12", "SEA": "10:13"}
    scenes = {name: server.items[0] | {"id": name} for name in moments}
    scenes["SEA"]["geometry"] = shapely.geometry.mapping(shapely.box(-35, 35, -34, 36))

    def search(plan, *, datetime, bbox):
        first, last = (f"{moment:%H:%M}" for moment in datetime)
        return [scenes[name] for name, moment in moments.items() if first <= moment <= last]

    monkeypatch.setattr(stac, "_search", search)
    monkeypatch.setattr(stac, "MAX_SCENES_PER_SEARCH", 3)
    per_scene = replace(plan, date_range="2021-06-01T10:00:00/2021-06-01T10:20:00")
    rngs = [np.random.default_rng([0, number]) for number in range(300)]
    drawn = Counter(next(stac._draw_per_scene(per_scene, rng))[0]["id"] for rng in rngs)
    assert set(drawn) == {"X", "Y", "Z"}
    assert max(drawn.values()) < 125  # 100 each, give or take 8; by minutes, Z would have 150
    assert min(drawn.values()) > 75


def test_drawing_per_scene_takes_any_window(plan, truth, monkeypatch):
    """The windows are in the scene that was found, each at another place."""
    monkeypatch.setattr(stac, "MAX_SCENES_PER_SEARCH", 1)
    minute = "2021-06-01T10:00:00Z/2021-06-01T10:01:00Z"
    per_scene = replace(plan, sampling="per_scene", date_range=minute)
    patches = [draw_patch(per_scene, number) for number in range(3)]
    assert len({patch.transform for patch in patches}) == 3
    for patch in patches:
        assert patch.provenance["scene_id"] == "OLD"
        np.testing.assert_array_equal(patch.numbers, _expected(truth, "OLD", patch.transform))


def test_locations_are_uniform_over_land(shape_checks_off):
    """Drawn one by one, locations are spread as those of the Blue Marble patches are."""
    bbox = ScenePlan().bbox
    lonlat = np.array([stac._draw_location(bbox, np.random.default_rng(n)) for n in range(1000)])
    expected = sample_land_lonlat(1000, seed=1)
    for drawn, wanted in zip(lonlat.T, expected.T, strict=True):
        quantiles = np.quantile(drawn, [0.1, 0.3, 0.5, 0.7, 0.9])
        ranks = (wanted[:, None] < quantiles).mean(axis=0)
        np.testing.assert_allclose(ranks, [0.1, 0.3, 0.5, 0.7, 0.9], atol=0.07)
    with pytest.raises(NoPatchError, match="no land found in bbox"):
        stac._draw_location((-35.0, 35.0, -34.0, 36.0), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sampling": "per_tile"}, "sampling must be per_area or per_scene, got 'per_tile'"),
        ({"seed": -1}, "seed must not be negative, got -1"),
        ({"max_attempts": 0}, "max_attempts must be positive, got 0"),
        ({"bbox": (10.0, 0.0, 5.0, 1.0)}, "bbox must be"),
        ({"date_range": "2021"}, "date_range must be like 2021-01-01/2023-05-17, got '2021'"),
        ({"date_range": "2022-01-01/2021-01-01"}, "ends before it begins"),
    ],
)
def test_plans_that_make_no_sense_are_refused(shape_checks_off, change, message):
    """The attribute to change is named; a list, as YAML gives it, is as good as a tuple."""
    with pytest.raises(ValueError, match=message):
        ScenePlan(**change)
    assert len({ScenePlan(bbox=(1, 0, 5, 1)), ScenePlan(bbox=[1, 0, 5, 1])}) == 1


def test_unknown_schedulers_and_counts_are_refused(plan, tmp_path):
    """The choices are named."""
    with pytest.raises(ValueError, match="scheduler must be 'threads', 'tcp"):
        rebuild_s2_100k(tmp_path / "a", plan, num_patches=1, scheduler="dask")
    with pytest.raises(ValueError, match="num_patches must not be negative, got -1"):
        rebuild_s2_100k(tmp_path / "a", plan, num_patches=-1)


def test_a_run_killed_at_a_change_of_the_disk_is_finished(plan, tmp_path):
    """The next run leaves what an undisturbed one does, and no more."""
    make = partial(rebuild_s2_100k, num_patches=2, num_workers=2)
    make(tmp_path / "whole", plan)
    whole = hash_files(tmp_path / "whole")
    for step in range(2, 26, KILLS_EVERY):
        folder = tmp_path / f"{step}"
        exit_code = processes.find_exit_code(processes.die_at_step, step, make, folder, plan)
        assert exit_code == -signal.SIGKILL
        found = hash_files(folder)
        assert all(found[name] == whole[name] for name in found if name.startswith("images/p"))
        make(folder, plan)
        assert hash_files(folder) == whole


def test_a_dask_cluster_survives_the_death_of_a_worker(plan, server, rebuilt, tmp_path):
    """Two workers, one killed half-way: nothing is lost or doubled, and no bit differs."""
    folder = tmp_path / "a"
    with (
        dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}),
        distributed.Client(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
        ) as client,
    ):
        pids = client.run(os.getpid)
        victim = next(iter(pids.values()))

        def kill_half_way():
            while len(list(folder.glob("images/patch_*.tif"))) < 2:
                time.sleep(0.01)
            os.kill(victim, signal.SIGKILL)

        server.faults.pause_s = 0.01
        killer = threading.Thread(target=kill_half_way)
        killer.start()
        address = client.cluster.scheduler_address
        report = rebuild_s2_100k(folder, plan, num_patches=NUM_PATCHES, scheduler=address)
        killer.join()
        assert victim not in client.run(os.getpid).values()
    assert report.failures.empty and report.index.fn.is_unique
    assert hash_files(folder) == hash_files(rebuilt)
