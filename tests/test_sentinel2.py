"""Sentinel-2 input: thirteen bands in one order, from twelve in any, or an error naming them."""

import re
import sys

import numpy as np
import pytest
import torch
import xarray as xr

from satclip_lib.data.sentinel2 import BAND_NAMES, MODEL_BAND_NAMES, prepare_sentinel2

# Every band has a value of its own, so that a band in the wrong place is seen.
PATCH = (1000 * (1 + np.arange(12, dtype=np.uint16))[:, None, None]).repeat(4, 1).repeat(5, 2)


def _as_data_array(names=BAND_NAMES, patch=PATCH, dims=("band", "y", "x")):
    return xr.DataArray(patch, dims=dims, coords={"band": list(names)})


def test_digital_numbers_become_reflectance_with_an_empty_b10():
    """Each band is divided by 10000 and stays in its place; B10 is zero; the patch stays."""
    assert " ".join(BAND_NAMES) == "B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B11 B12"
    assert MODEL_BAND_NAMES[9:12] == ("B09", "B10", "B11") and len(MODEL_BAND_NAMES) == 13
    patch = PATCH.copy()
    images = prepare_sentinel2(patch)
    assert images.shape == (13, 4, 5) and images.dtype == torch.float32
    expected = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 0.0, 1.1, 1.2]
    torch.testing.assert_close(images[:, 0, 0], torch.tensor(expected))
    assert (images == images[:, :1, :1]).all()
    assert (patch == PATCH).all() and patch.dtype == np.uint16
    assert prepare_sentinel2(np.full_like(PATCH, 65535)).max() == pytest.approx(6.5535)


def test_a_batch_stays_a_batch():
    """A batch gives what its patches give one by one, also when it is empty."""
    batch = np.stack([PATCH, PATCH + 7])
    images = prepare_sentinel2(batch)
    assert torch.equal(images, torch.stack([prepare_sentinel2(patch) for patch in batch]))
    assert prepare_sentinel2(batch[:0]).shape == (0, 13, 4, 5)


def test_named_bands_are_put_in_order():
    """A data array may have its bands in any order, and its dimensions too."""
    shuffled = np.random.default_rng(0).permutation(12)
    names = np.array(BAND_NAMES)[shuffled]
    expected = prepare_sentinel2(PATCH)
    assert torch.equal(prepare_sentinel2(_as_data_array(names, PATCH[shuffled])), expected)
    last = _as_data_array(names, PATCH[shuffled].transpose(1, 2, 0), ("y", "x", "band"))
    assert torch.equal(prepare_sentinel2(last), expected)
    batch = _as_data_array(names, PATCH[None, shuffled], ("patch", "band", "y", "x"))
    assert torch.equal(prepare_sentinel2(batch), expected[None])


REFUSED = {
    "more bands": (
        _as_data_array([*BAND_NAMES, "B10", "SCL"], np.concatenate([PATCH, PATCH[:2]])),
        r"\(unknown: B10, SCL\)",
    ),
    "a number for a name": (_as_data_array(["1", *BAND_NAMES[1:]]), "unknown: 1; missing: B01"),
    "one twice": (_as_data_array(["B02", *BAND_NAMES[1:]]), "missing: B01; doubled: B02"),
    "no names": (xr.DataArray(PATCH, dims=("band", "y", "x")), "'band'.*assign_coords"),
    "no bands": (xr.DataArray(PATCH, dims=("channel", "y", "x")), "'band'.*assign_coords"),
    "no rows": (_as_data_array().isel(y=0), "'band'.*assign_coords"),
    **{
        f"{shape}": (np.zeros(shape, np.uint16), rf"\(12, height, width\).*{re.escape(str(shape))}")
        for shape in ((4, 5, 12), (12, 4))
    },
    "scaled": (PATCH.astype(np.float32), "integer digital numbers.*got float32"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_other_patches_are_refused(what):
    """What is missing, unknown or of another shape or type is named, with what is wanted."""
    patch, message = REFUSED[what]
    with pytest.raises(ValueError, match=message):
        prepare_sentinel2(patch)


def _write_geotiff(path, patch, descriptions=()):
    rasterio = pytest.importorskip("rasterio", reason="reading GeoTIFF needs rasterio")
    _, height, width = patch.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=len(patch), height=height, width=width, dtype="uint16",
        crs="EPSG:32632", transform=rasterio.Affine(10, 0, 5e5, 0, -10, 5e6),
    ) as file:  # fmt: skip
        file.write(patch)
        for index, name in enumerate(descriptions, start=1):
            file.set_band_description(index, name)
    return path


def test_geotiffs_without_names_are_taken_in_order(tmp_path):
    """S2-100K's files carry one text for all bands: the order is that of the bands."""
    expected = prepare_sentinel2(PATCH)
    plain = _write_geotiff(tmp_path / "plain.tif", PATCH)
    assert torch.equal(prepare_sentinel2(plain), expected)
    other = _write_geotiff(tmp_path / "other.tif", PATCH, ["stackstac-c2eb4960"] * 12)
    assert torch.equal(prepare_sentinel2(str(other)), expected)


COMMON_NAMES = (
    "coastal", "Blue", "GREEN", "red", "rededge1", "Red Edge 2", "red_edge_3", "nir", "nir08",
    "nir09", "swir16", "swir22",
)  # fmt: skip
SPELLINGS = {
    "the product's": BAND_NAMES,
    "Earth Engine's": [name.replace("B0", "B") for name in BAND_NAMES],
    "lower case": [name.lower() for name in BAND_NAMES],
    "common names": COMMON_NAMES,
    "both": [f"{a} ({b})" for a, b in zip(COMMON_NAMES, BAND_NAMES, strict=True)],
    "numbered": [f"band_{i} ({name})" for i, name in enumerate(BAND_NAMES, start=1)],
    "GDAL's": [f"{name.replace('B0', 'B')}, central wavelength 490 nm" for name in BAND_NAMES],
    "with a resolution": [f"{name}_20m" for name in BAND_NAMES],
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_geotiffs_with_names_are_put_in_order(tmp_path, spelling):
    """Names decide, however they are spelled: sorted by name, reversed, or with B8A last."""
    names = np.array(SPELLINGS[spelling])
    for order in (np.argsort(names), np.arange(12)[::-1], np.r_[0:8, 9:12, 8]):
        path = _write_geotiff(tmp_path / "patch.tif", PATCH[order], names[order])
        assert torch.equal(prepare_sentinel2(path), prepare_sentinel2(PATCH))


UNCLEAR = {
    "numbers": [f"Band {i}" for i in range(1, 13)],
    "Landsat": [f"SR_{name}" for name in BAND_NAMES],
    "some without": [*BAND_NAMES[:11], ""],
    "two in one": [*BAND_NAMES[:11], "B11/B12"],
    "rededge three times": [*BAND_NAMES[:4], "rededge", "rededge", "rededge", *BAND_NAMES[7:]],
    "the same band twelve times": ["B04"] * 12,
}


@pytest.mark.parametrize("names", UNCLEAR)
def test_geotiffs_with_unclear_names_are_refused(tmp_path, names):
    """Descriptions that are there and not understood are never passed over."""
    path = _write_geotiff(tmp_path / "patch.tif", PATCH, UNCLEAR[names])
    with pytest.raises(ValueError, match=r"patch\.tif must have .*(unknown|doubled)"):
        prepare_sentinel2(path)


def test_other_files_named_tif_are_not_followed(tmp_path):
    """A VRT that names other files is no GeoTIFF."""
    shutil = pytest.importorskip("rasterio.shutil", reason="needs rasterio")
    shutil.copy(_write_geotiff(tmp_path / "a.tif", PATCH), tmp_path / "b.tif", driver="VRT")
    with pytest.raises(OSError, match=r"b\.tif.* not recognized"):
        prepare_sentinel2(tmp_path / "b.tif")


def test_without_rasterio_the_error_says_what_to_install(monkeypatch):
    """Where rasterio is not installed, arrays still work and paths say what is missing."""
    monkeypatch.setitem(sys.modules, "rasterio", None)
    prepare_sentinel2(PATCH)
    with pytest.raises(ImportError, match=r"patch\.tif needs rasterio: pip install rasterio"):
        prepare_sentinel2("patch.tif")
