"""Blue Marble: the right way up, cut where it should be, whole; lakes and seas are not land."""

import gzip

import numpy as np
import pytest
from PIL import Image

from satclip_lib.data import blue_marble, land
from satclip_lib.data.blue_marble import cut_patches, load_blue_marble
from satclip_lib.data.land import is_land, load_land_mask, open_package_file

SHAPE = (2700, 5400, 3)


@pytest.fixture
def numbered_picture(monkeypatch):
    """Replace the picture by one whose pixels hold their own row and column."""
    row, column = np.indices(SHAPE[:2], dtype=np.uint16, sparse=True)
    picture = np.empty(SHAPE, np.uint8)
    for band, values in enumerate((row % 256, column % 256, row // 256 * 22 + column // 256)):
        picture[..., band] = values
    monkeypatch.setattr(blue_marble, "load_blue_marble", lambda: picture)


def _row_and_column(patches):
    """Decode patches of the numbered picture, two arrays (num_patches, size_px, size_px)."""
    low_row, low_column, high = patches.astype(int).transpose(1, 0, 2, 3)
    return low_row + high // 22 * 256, low_column + high % 22 * 256


def test_places_look_as_they_do():
    """The Sahara is bright and sandy, the Amazon dark green, Greenland and Antarctica white."""
    places = np.array([(10.0, 24.0), (-62.0, -5.0), (-40.0, 72.0), (90.0, -80.0)])
    sahara, amazon, greenland, antarctica = cut_patches(places).mean(axis=(2, 3))
    assert sahara[0] > sahara[1] > sahara[2] > 80 and sahara[0] > 150
    assert amazon[1] > amazon[0] > amazon[2] and amazon.max() < 60
    assert greenland.min() > 230 and antarctica.min() > 230


def test_patches_are_bytes_with_bands_first(shape_checks_off):
    """Patches are uint8, (num_patches, bands, size_px, size_px), contiguous, also if none."""
    patches = cut_patches(np.zeros((5, 2)), size_px=16)
    assert patches.dtype == np.uint8 and patches.flags.c_contiguous
    assert patches.shape == (5, len(blue_marble.BAND_NAMES), 16, 16)
    assert cut_patches(np.empty((0, 2))).shape == (0, 3, 8, 8)
    with pytest.raises(ValueError, match=r"imagery must be one of .* got 'season'"):
        cut_patches(np.zeros((1, 2)), imagery="season")


@pytest.mark.parametrize("size_px", [7, 8])
def test_patches_are_centred_on_their_location(numbered_picture, size_px):
    """The centre of a patch is within half a pixel of the location; rows go south, columns east."""
    rng = np.random.default_rng(0)
    lonlat = np.stack([rng.uniform(-179, 179, 500), rng.uniform(-89, 89, 500)], axis=1)
    rows, columns = _row_and_column(cut_patches(lonlat, size_px=size_px))
    centre_lat = 90 - (rows.mean(axis=(1, 2)) + 0.5) / 15
    centre_lon = (columns.mean(axis=(1, 2)) + 0.5) / 15 - 180
    np.testing.assert_array_less(np.abs(centre_lat - lonlat[:, 1]) * 15, 0.5 + 1e-6)
    np.testing.assert_array_less(np.abs(centre_lon - lonlat[:, 0]) * 15, 0.5 + 1e-6)
    assert (np.diff(rows, axis=1) == 1).all() and (np.diff(columns, axis=2) == 1).all()


@pytest.mark.parametrize("lon", [180.0, -180.0, 179.9, -179.8])
def test_patches_wrap_around_the_date_line(lon):
    """A patch across the date line is the patch of the picture rolled by half a turn."""
    rolled = np.roll(load_blue_marble(), SHAPE[1] // 2, axis=1)
    first_row = 45 * 15 - 4  # of a patch at 45 N
    first_column = round((lon % 360) * 15) - 4  # the rolled picture starts at 0 E
    expected = rolled[first_row : first_row + 8, first_column : first_column + 8]
    found = cut_patches(np.array([[lon, 45.0]]))[0]
    np.testing.assert_array_equal(found, expected.transpose(2, 0, 1))


@pytest.mark.parametrize(("lat", "first"), [(90.0, -4), (-90.0, 2696)])
def test_beyond_a_pole_the_last_row_is_repeated(numbered_picture, lat, first):
    """At a pole half of the rows are real and the other half copies of the outermost row."""
    rows, _ = _row_and_column(cut_patches(np.array([[0.0, lat]])))
    np.testing.assert_array_equal(rows[0, :, 0], np.clip(first + np.arange(8), 0, 2699))


def test_known_land_and_water():
    """Cities, deserts and ice are land; oceans, seas and lakes are not; 180 E is 180 W."""
    land = [(2.35, 48.86), (139.5, 35.9), (134.0, -25.0), (-40.0, 75.0), (0.0, -90.0)]
    land += [(180.0, 68.0), (-180.0, 68.0)]  # Chukotka
    water = [(-30.0, 0.0), (33.0, -1.0), (-87.0, 44.0), (50.5, 42.0), (0.0, 90.0)]
    water += [(180.0, 30.0), (-180.0, 30.0)]  # the Pacific
    assert is_land(np.array(land)).all() and not is_land(np.array(water)).any()


def test_mask_covers_the_known_share_of_the_earth():
    """Land with ice but without lakes covers 28 to 30 per cent of the sphere."""
    mask = load_land_mask()
    assert mask.shape == (4320, 8640)
    lat = 90 - (np.arange(4320) + 0.5) / 24
    share = np.average(mask.mean(axis=1), weights=np.cos(np.radians(lat)))
    assert 0.28 < share < 0.30


def test_shared_arrays_cannot_be_written_to():
    """Picture and mask are cached, and so read-only; loading twice gives the same arrays."""
    assert load_blue_marble().shape == SHAPE and load_blue_marble().dtype == np.uint8
    for load in (load_blue_marble, load_land_mask):
        assert load() is load() and not load().flags.writeable


def _truncate(name):
    with open_package_file(name) as file:
        original = file.read()
    return lambda path: path.write_bytes(original[: len(original) // 2])


PICTURE = blue_marble, load_blue_marble, r"bmng\.jpg"
MASK = land, load_land_mask, r"lsmask_2\.5min_f\.bin"
DAMAGE = {
    "small picture": (
        lambda path: Image.new("RGB", (20, 10)).save(path, format="jpeg"),
        *PICTURE,
        r"\(20, 10\)",
    ),
    "small mask": (lambda path: path.write_bytes(gzip.compress(bytes(9))), *MASK, "9 cells"),
    "truncated picture": (_truncate("bmng.jpg"), *PICTURE, ""),
    "truncated mask": (_truncate("lsmask_2.5min_f.bin"), *MASK, ""),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_package_files_are_named(monkeypatch, workspace, damage):
    """A file that is not whole is a ValueError that names it and says how to reinstall it."""
    spoil, module, load, name, detail = DAMAGE[damage]
    damaged = workspace / "damaged"
    spoil(damaged)
    monkeypatch.setattr(module, "open_package_file", lambda name: damaged.open("rb"))
    with pytest.raises(ValueError, match=rf"{name}.*{detail}.*pip install --force-reinstall"):
        load.__wrapped__()  # past the cache
