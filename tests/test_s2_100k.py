"""S2-100K: every layout gives the same store, every bad patch a reason, every kill a rerun."""

import itertools
import os
import re
import shutil
import signal
import tarfile
import time
from contextlib import nullcontext

import huggingface_hub
import numpy as np
import pandas as pd
import processes
import pytest
import rasterio
import rasterio.shutil
from folders import hash_files
from rasterio.errors import NotGeoreferencedWarning
from rasterio.warp import transform

from satclip_lib.data import patch_store as patches
from satclip_lib.data import s2_100k
from satclip_lib.data.land import sample_land_lonlat
from satclip_lib.data.patch_store import hash_patch, open_patches
from satclip_lib.data.quality import REASONS, load_report
from satclip_lib.data.registry import FileUnavailableError
from satclip_lib.data.s2_100k import IncompleteMirrorError, fetch_s2_100k, make_s2_100k_store
from satclip_lib.data.s2_folder import list_patches, read_patch
from satclip_lib.data.sentinel2 import BAND_NAMES

NUM_PATCHES = 7
LONLAT = sample_land_lonlat(NUM_PATCHES, seed=5)


def _make_pixels(i, shape=(12, 256, 256)):
    return np.random.default_rng(i).integers(1, 30, shape, dtype=np.uint16)


def _write_tif(path, pixels, lonlat, *, band_names=None):
    """A tif of 10 m pixels whose centre is at ``lonlat``, in its UTM zone; None: nowhere."""
    about = {}
    if lonlat is not None:
        lon, lat = lonlat
        crs = f"EPSG:{(32600 if lat >= 0 else 32700) + int((lon + 180) // 6) + 1}"
        (x,), (y,) = transform("EPSG:4326", crs, [lon], [lat])
        about = {"crs": crs, "transform": rasterio.Affine(10, 0, x - 1280, 0, -10, y + 1280)}
    count, height, width = pixels.shape
    about |= {"count": count, "height": height, "width": width, "dtype": pixels.dtype}
    nowhere = pytest.warns(NotGeoreferencedWarning) if lonlat is None else nullcontext()
    with nowhere, rasterio.open(path, "w", driver="GTiff", compress="lzw", **about) as tif:
        tif.write(pixels)
        if band_names:
            tif.descriptions = band_names


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    """A folder in the public layout, with what a rebuilt one says of its scenes."""
    folder = tmp_path_factory.mktemp("data") / "s2"
    (folder / "images").mkdir(parents=True)
    rows = []
    for i, (lon, lat) in enumerate(LONLAT.tolist()):
        fn = f"patch_{10 * i}.tif"
        _write_tif(folder / "images" / fn, _make_pixels(i), (lon, lat), band_names=BAND_NAMES)
        about = {"datetime": "2022-05-01T10:20:30Z", "orbit": 30 + i, "cloud_cover": 0.5}
        rows.append({"lat": lat, "lon": lon, "fn": fn, "url": "https://example.org"} | about)
    pd.DataFrame(rows[::-1]).to_csv(folder / "index.csv", index=False)
    return folder


@pytest.fixture
def folder(original, workspace):
    """A copy that a test may spoil."""
    return shutil.copytree(original, workspace / "s2")


def _index(folder):
    return pd.read_csv(folder / "index.csv")


def _pack(folder, *counts):
    """Move the tifs into tars, so many into each; their names, in order."""
    names = sorted(path.name for path in (folder / "images").iterdir())
    rest = iter(names)
    for number, count in enumerate(counts):
        with tarfile.open(folder / f"shard-{number:05}.tar", "w") as tar:
            for name in itertools.islice(rest, count):
                tar.add(folder / "images" / name, arcname=f"images/{name}")
    shutil.rmtree(folder / "images")
    return names


def test_a_store_holds_the_tifs_to_the_last_bit(original, workspace):
    """Pixels, coordinates and provenance are those of the files, in the order of the index."""
    store = make_s2_100k_store(original, workspace / "patches.zarr", val_fraction=0.3)
    dataset, index = open_patches(store), _index(original)
    expected = np.stack([_make_pixels(i) for i in reversed(range(NUM_PATCHES))])
    np.testing.assert_array_equal(dataset.patches, expected)
    assert dataset.patches.dtype == np.uint16 and dataset.band.values.tolist() == list(BAND_NAMES)
    for name in ("lon", "lat", "fn", "orbit", "cloud_cover"):
        assert dataset[name].values.tolist() == index[name].tolist()
    assert (dataset.datetime.values == np.datetime64("2022-05-01T10:20:30")).all()
    assert dataset.attrs["scale"] == 1e-4 and {"train", "val"} == set(dataset.split.values)
    report = load_report(store)
    assert (report["reason"] == "").all() and report["fn"].tolist() == index["fn"].tolist()
    assert report["sha256"].tolist() == [hash_patch(pixels) for pixels in expected]


def test_shards_are_read_where_they_are(folder, original, workspace):
    """Tars with the same tifs give the same store; nothing is unpacked, nor are they changed."""
    expected = make_s2_100k_store(original, workspace / "a.zarr")
    _pack(folder, 3, 4)
    before = hash_files(folder)
    store = make_s2_100k_store(folder, workspace / "b.zarr")
    assert hash_files(store) == hash_files(expected) and hash_files(folder) == before


def test_real_patches_are_read(label_files, workspace):
    """Of 23 real patches 20 have coordinates in the index, 3 in the file alone; 1 is at sea."""
    sample = label_files / "s2-sample"
    if not sample.is_dir():
        pytest.skip("no real patches at hand")
    store = make_s2_100k_store(sample, workspace / "patches.zarr")
    report, dataset = load_report(store), open_patches(store)
    assert report["coordinates"].value_counts().to_dict() == {"index": 20, "file": 3}
    assert report["distance_km"].max() < 0.001
    bad = report[report["reason"] != ""]
    assert bad[["fn", "reason"]].values.tolist() == [["patch_752389.tif", "sea"]]
    files = {file.fn: file for file in list_patches(sample)}
    for i, fn in enumerate(dataset.fn.values.tolist()):
        np.testing.assert_array_equal(dataset.patches[i], read_patch(files[fn]))
    with_sea = make_s2_100k_store(sample, workspace / "all.zarr", keep_sea=True)
    assert open_patches(with_sea).sizes["patch"] == 23


def _spoil_pixels(change, **options):
    def spoil(path, row):
        pixels = _make_pixels(0)
        _write_tif(path, change(pixels), (row["lon"], row["lat"]), **options)

    return spoil


def _fill(bands, rows, value):
    """Some rows of some bands are all the same."""
    inside = np.zeros((12, 256, 1), bool)
    inside[bands, rows] = True
    return _spoil_pixels(lambda pixels: np.where(inside, np.uint16(value), pixels))


def _lose_place(path, row):
    _write_tif(path, _make_pixels(0), None)
    row["lon"] = ""


def _move(degrees):
    return lambda path, row: row.update(lat=row["lat"] + degrees)


def _take_to(lonlat):
    def take(path, row):
        row["lon"], row["lat"] = lonlat
        _write_tif(path, _make_pixels(0), lonlat)

    return take


FAULTS = {
    "missing": (lambda path, row: path.unlink(), ""),
    "unreadable, short": (lambda path, row: os.truncate(path, 100_000), ""),
    "wrong shape": (_spoil_pixels(lambda p: p[:, :200]), "(12, 200, 256)"),
    "wrong shape, 13 bands": (_spoil_pixels(lambda p: np.r_[p, p[:1]]), "(13, 256, 256)"),
    "wrong dtype": (_spoil_pixels(lambda p: p.astype(np.float32)), "float32"),
    "wrong bands": (_spoil_pixels(lambda p: p, band_names=BAND_NAMES[::-1]), "B12 B11"),
    "wrong bands, numbers": (
        _spoil_pixels(lambda p: p, band_names=[f"Band {i}" for i in range(12)]),
        "Band 0 Band 1",
    ),
    "unreadable, a list of other files": (
        lambda path, row: rasterio.shutil.copy(path.with_name("patch_10.tif"), path, driver="VRT"),
        "not recognized",
    ),
    "too many zeros": (_fill(slice(None), slice(28), 0), "10.9%"),
    "constant band": (_fill(9, slice(None), 7), "B09"),
    "no coordinates": (_lose_place, ""),
    "bad coordinates": (lambda path, row: row.update(lat=91.0), "lat 91.0"),
    "coordinates disagree": (_move(0.0101), "1.1 km"),
    "sea": (_take_to((-30.0, 0.0)), "lon -30.0000"),
    "duplicate content": (_spoil_pixels(lambda p: _make_pixels(1)), "of patch_10.tif"),
    "duplicate coordinates": (_take_to(LONLAT[1].tolist()), "of patch_10.tif"),
}
HARMLESS = {
    "few zeros": _fill(slice(None), slice(23), 0),
    "0.9 km off": _move(0.008),
    "bands without names": _spoil_pixels(lambda p: p),
    "bands by other names": _spoil_pixels(lambda p: p, band_names=[b.lower() for b in BAND_NAMES]),
    "no coordinates in the file": lambda path, row: _write_tif(path, _make_pixels(0), None),
    "no coordinates in the index": lambda path, row: row.update(lon="", lat=""),
}


def _spoil_first(folder, spoil):
    rows = _index(folder).to_dict("records")
    spoil(folder / "images/patch_0.tif", rows[-1])  # the first patch is the last row
    pd.DataFrame(rows).to_csv(folder / "index.csv", index=False)


def test_every_reason_is_tried():
    """There is a bad patch for each reason that the report knows."""
    assert {name.split(",")[0] for name in FAULTS} == set(REASONS)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_patch_is_in_quarantine_with_its_reason(folder, workspace, fault):
    """It is left out of the store; the report says why; all others are kept; it stays on disk."""
    spoil, detail = FAULTS[fault]
    _spoil_first(folder, spoil)
    before = hash_files(folder)
    store = make_s2_100k_store(folder, workspace / "a.zarr", max_missing_share=1.0)
    report = load_report(store).set_index("fn")
    reason = {"patch_0.tif": fault.split(",")[0]}
    assert report["reason"].to_dict() == dict.fromkeys(report.index, "") | reason
    assert detail in report.loc["patch_0.tif", "detail"]
    assert open_patches(store).fn.values.tolist() == report.index[:-1].tolist()
    assert hash_files(folder) == before


@pytest.mark.parametrize("change", HARMLESS)
def test_a_good_patch_is_kept(folder, workspace, change):
    """What is within the rules, or has coordinates in one place only, is no fault."""
    _spoil_first(folder, HARMLESS[change])
    report = load_report(make_s2_100k_store(folder, workspace / "a.zarr"))
    assert (report["reason"] == "").all() and len(report) == NUM_PATCHES
    np.testing.assert_allclose(report[["lon", "lat"]].iloc[-1], LONLAT[0], atol=0.0081)


def test_an_incomplete_mirror_must_be_wanted(folder, workspace):
    """The error counts what is missing; within max_missing_share the rest is used."""
    for i in (0, 30):
        (folder / f"images/patch_{i}.tif").unlink()
    with pytest.raises(IncompleteMirrorError, match=r"2 of the 7 .*raise max_missing_share .*0.28"):
        make_s2_100k_store(folder, workspace / "a.zarr", max_missing_share=0.28)
    assert not (workspace / "a.zarr").exists()
    store = make_s2_100k_store(folder, workspace / "a.zarr", max_missing_share=0.29)
    assert open_patches(store).sizes["patch"] == 5
    assert load_report(store)["reason"].value_counts()["missing"] == 2
    (folder / "index.csv").unlink()
    with pytest.raises(IncompleteMirrorError, match=r"no index\.csv"):
        make_s2_100k_store(folder, workspace / "b.zarr")


def test_a_shard_cut_short_gives_what_it_has(folder, workspace, caplog):
    """Patches before the damage are read, those behind it are missing, all are in the report."""
    names = _pack(folder, NUM_PATCHES)
    with tarfile.open(folder / "shard-00000.tar") as tar:
        cut = tar.getmember(f"images/{names[4]}").offset_data + 1000
    os.truncate(folder / "shard-00000.tar", cut)
    store = make_s2_100k_store(folder, workspace / "a.zarr", max_missing_share=1.0)
    report = load_report(store).set_index("fn")
    assert "is damaged behind its first" in caplog.text
    assert (report.loc[names[:4], "reason"] == "").all()
    assert set(report.loc[names[4:], "reason"]) <= {"unreadable", "missing"}
    with pytest.raises(IncompleteMirrorError):
        make_s2_100k_store(folder, workspace / "b.zarr")


def _make_in_shards(folder, store):
    """A store in shards of two patches."""
    patches.SHARD_BYTES = 2 * 12 * 256 * 256 * 2
    make_s2_100k_store(folder, store, seed=3)


def test_a_killed_run_ends_with_the_same_store(original, workspace, monkeypatch):
    """Killed twice for good (SIGKILL) and run again: the same files as without."""
    monkeypatch.setattr(patches, "SHARD_BYTES", 2 * 12 * 256 * 256 * 2)
    expected = make_s2_100k_store(original, workspace / "whole.zarr", seed=3)
    store = workspace / "killed.zarr"
    for num_shards in (1, 2):
        kill = (processes.die_at_step, 17, _make_in_shards, original, store)
        assert processes.find_exit_code(*kill) == -signal.SIGKILL  # with a shard without its rows
        assert len(list(workspace.glob(".building-*/rows-*.json"))) == num_shards
        assert not store.exists()
    read = []
    examine = s2_100k._examine
    monkeypatch.setattr(s2_100k, "_examine", lambda file: read.append(file) or examine(file))
    make_s2_100k_store(original, store, seed=3)
    assert hash_files(store) == hash_files(expected)
    assert load_report(store).equals(load_report(expected))
    assert len(read) == NUM_PATCHES - 4  # two shards of two were done
    left = {path.name for path in workspace.iterdir() if "killed" in path.name}
    assert left == {"killed.report.json", "killed.zarr"}


def test_a_finished_store_is_kept(folder, workspace, monkeypatch):
    """The same files and settings read nothing again; other settings do."""
    store = make_s2_100k_store(folder, workspace / "a.zarr", seed=0)
    before = store.stat().st_mtime_ns
    monkeypatch.setattr(s2_100k, "_examine", None)  # nothing can be read now
    moved = shutil.copytree(folder, workspace / "elsewhere")
    for same in (folder, moved):
        make_s2_100k_store(same, workspace / "a.zarr", seed=0)
    assert store.stat().st_mtime_ns == before
    with pytest.raises(TypeError, match="not callable"):
        make_s2_100k_store(folder, workspace / "a.zarr", seed=1)


HEAD = b"lon,lat,fn,cloud_cover,datetime\n"
HOSTILE_INDICES = {
    "text for a longitude": (HEAD + b"east,2,a.tif,,\n", "line 2: lon must be a number, .*'east'"),
    "text for a cloud cover": (HEAD + b"1,2,a.tif,clear,\n", "cloud_cover must be a number"),
    "text for a time": (HEAD + b"1,2,a.tif,3,yesterday\n", "no ISO 8601 datetime: 'yesterday'"),
    "a comma more": (HEAD + b"1,2,a.tif,3,2022-01-01,5\n", "line 2: 1 values more than"),
    "no names": (b"lat,lon,fn\n1,2,\n", "no file name: was the index cut short"),
    "a folder for a name": (b"lat,lon,fn\n1,2,..\n1,2,/\n", "line 3: no file name"),
    "one name twice": (b"lat,lon,fn\n1,2,a.tif\n3,4,a.tif\n", "1 patches more than once"),
    "another encoding": (HEAD.decode().encode("utf-16"), "index.csv, line .*utf-8"),
    "zero bytes": (HEAD + b"1,2,a\0.tif,,\n", "1 of the 1 patches are missing"),
    "an endless field": (HEAD + b"1,2," + b"a" * 2**20, "field larger than field limit"),
    "an open quote": (HEAD + b'1,2,"a.tif,,\n3,4,b.tif,,\n', "unexpected end of data"),
    "nothing": (b"", "no column fn, lat, lon"),
}


def _tar(*members):
    """A tar whose headers say what they like; a member is a name, its size and its type."""
    parts = []
    for name, size, kind in members:
        info = tarfile.TarInfo(name.decode("utf-8", "surrogateescape"))
        info.type = kind
        header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        header[124:136] = size
        header[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(header))[0]
        parts.append(bytes(header) + bytes(1024))
    return b"".join(parts) + bytes(1024)


def _number(size):
    return tarfile.itn(size, 12, tarfile.GNU_FORMAT)


HOSTILE_TARS = {
    "a negative size": [(b"patch_1.tif", _number(-1024), b"0")],
    "a size that leads back": [(b"a.txt", _number(1024), b"0"), (b"b", _number(-2048), b"0")],
    "a size of an exabyte": [(b"patch_1.tif", _number(2**60), b"0")],
    "text for a size": [(b"patch_1.tif", b"0x1000000000", b"0")],
    "a long name of an exabyte": [(b"././@LongLink", _number(2**60), b"L")],
    "a long name of negative length": [(b"././@LongLink", _number(-512), b"L")],
    "a pax header of an exabyte": [(b"pax", _number(2**60), b"x")],
    "a pax header of zeros": [(b"pax", _number(512), b"x")],
    "a name that is not UTF-8": [(b"patch_\xff.tif", _number(512), b"0")],
    "a sparse file": [(b"patch_1.tif", _number(512), b"S")],
}


FOUND = {  # what stands in place of a data set, and what is said of it
    "a page": (lambda folder: (folder / "shard-0.tar").write_bytes(b"<html>" * 200), "shard-0"),
    "a pipe": (lambda folder: os.mkfifo(folder / "shard-0.tar"), "shard-0.tar' is not a file"),
    "a name that is not UTF-8 for a patch": (
        lambda folder: (folder / "images/patch_\udcff.tif").write_bytes(b""),
        r"\\udcff.tif' is not UTF-8",
    ),
    "nothing at all": (lambda folder: None, r"no index\.csv"),
}


@pytest.mark.parametrize("name", [*HOSTILE_INDICES, *HOSTILE_TARS, *FOUND])
def test_hostile_data_sets_are_refused_by_name(workspace, caplog, name):
    """Whatever a tar or an index pretends, a sentence names it, at once; no patch comes of it."""
    (workspace / "images").mkdir()
    complaint = "shard-0.tar"
    if name in HOSTILE_INDICES:
        content, complaint = HOSTILE_INDICES[name]
        (workspace / "index.csv").write_bytes(content)
    elif name in HOSTILE_TARS:
        (workspace / "shard-0.tar").write_bytes(_tar(*HOSTILE_TARS[name]))
    else:
        put, complaint = FOUND[name]
        put(workspace)
    started = time.monotonic()
    with pytest.raises((ValueError, FileNotFoundError)) as refused:
        make_s2_100k_store(workspace, workspace / "a.zarr")
    assert time.monotonic() - started < 2
    assert re.search(complaint, f"{refused.value} {caplog.text}")
    assert len(str(refused.value)) < 500


def test_a_copy_is_used_without_asking_the_network(original, workspace, monkeypatch):
    """The mirror comes first, then data/raw; without a copy the error says where to put one."""
    monkeypatch.delenv("SATCLIP_DATA_MIRROR", raising=False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", None)
    with pytest.raises(FileUnavailableError, match=r"SATCLIP_OFFLINE forbids .*MIRROR"):
        fetch_s2_100k()
    raw, mirror = workspace / "data/raw/s2-100k", workspace / "mirror/s2-100k"
    mirror.parent.mkdir()
    monkeypatch.setenv("SATCLIP_DATA_MIRROR", str(mirror.parent))
    assert shutil.copytree(original, raw) == fetch_s2_100k()
    assert shutil.copytree(original, mirror) == fetch_s2_100k()


def test_an_interrupted_download_goes_on(original, workspace, monkeypatch):
    """It continues in the same folder, which has its name once it is whole, and is not repeated."""
    calls = []

    def download(repo_id, *, repo_type, local_dir, allow_patterns):
        assert (repo_id, repo_type) == ("torchgeo/s2-100k", "dataset")
        calls.append(local_dir)
        shutil.copytree(original, local_dir, dirs_exist_ok=True)
        if len(calls) == 1:
            raise ConnectionError("connection reset")

    monkeypatch.delenv("SATCLIP_DATA_MIRROR", raising=False)
    monkeypatch.setenv("SATCLIP_OFFLINE", "0")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(FileUnavailableError, match=r"connection reset.*run again to continue"):
        fetch_s2_100k()
    folder = workspace / "data/raw/s2-100k"
    assert not folder.exists() and calls[0].is_dir()
    assert fetch_s2_100k() == fetch_s2_100k() == folder
    assert calls == calls[:1] * 2 and not calls[0].exists()
    assert len(list_patches(folder)) == NUM_PATCHES
