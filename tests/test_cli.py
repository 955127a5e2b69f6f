"""The command line does what the functions do, for files of any length."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import rasterio.shutil
import torch
import xarray as xr
from PIL import Image
from small import make_model

from satclip_lib import cli
from satclip_lib.checkpoints.store import save_pretrained, save_training_lonlat
from satclip_lib.embedding.embed import embed
from satclip_lib.embedding.localization import localize, make_gallery
from satclip_lib.image_encoder import RandomConvolutionalFeatures, make_image_encoder


@pytest.fixture(scope="module")
def model():
    """A small model with both towers."""
    return make_model(embed_dim=3)


@pytest.fixture
def checkpoint(model, tmp_path):
    """It, on disk, with the place where it was trained."""
    folder = save_pretrained(model, tmp_path / "model", provenance={"seed": 7})
    save_training_lonlat(folder, np.array([[10.0, 20.0]]))
    return str(folder)


def test_embeds_with_the_options_of_embed(checkpoint, tmp_path):
    """Names of columns, wrapping, NaN and uncertainty are passed on."""
    points, output = tmp_path / "points.csv", tmp_path / "out.csv"
    pd.DataFrame({"x": [370.0, np.nan], "y": [20.0, 1.0]}).to_csv(points, index=False)
    call = ["embed", str(points), "-o", str(output), "--model", checkpoint, "--columns", "x", "y"]
    assert cli.main([*call, "--missing", "propagate"]) == 1
    options = ["--missing", "propagate", "--wrap-longitude", "--uncertainty"]
    assert cli.main([*call, *options]) == 0
    found = pd.read_csv(output)
    assert found.distance_km[0] == pytest.approx(0, abs=0.01)
    assert found.drop(columns=["x", "y"]).iloc[1].isna().all()


def test_errors_are_one_line_and_leave_no_file(checkpoint, tmp_path, capsys):
    """Swapped columns, unknown formats and a missing file are said without a traceback."""
    points = tmp_path / "points.csv"
    pd.DataFrame({"lon": [35.0], "lat": [139.0]}).to_csv(points, index=False)
    output = tmp_path / "out.parquet"
    for source, target, message in [
        (points, output, "columns look swapped"),
        (points, tmp_path / "out.xlsx", "go to a .parquet, .csv or .tsv file, got .*out.xlsx"),
        (tmp_path / "absent.csv", output, "No such file"),
    ]:
        call = ["embed", str(source), "-o", str(target), "--model", checkpoint]
        assert cli.main(call) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("satclip: ") and re.search(message, line)
        assert not target.exists()
    assert cli.main(["info", str(tmp_path / "nothing")]) == 1
    capsys.readouterr()
    call = ["localize", "absent.tif", "--model", checkpoint, "--places", "10"]
    assert cli.main(call) == 1
    assert re.fullmatch(r"satclip: absent\.tif: No such file.*\n", capsys.readouterr().err)


def test_empty_tables_stay_empty(checkpoint, tmp_path):
    """A file with a header and no rows becomes another."""
    for name in ("points.csv", "points.parquet"):
        points, output = tmp_path / name, tmp_path / "out.parquet"
        empty = pd.DataFrame({"lon": [], "lat": []}, dtype=float)
        empty.to_csv(points, index=False) if name.endswith("csv") else empty.to_parquet(points)
        assert cli.main(["embed", str(points), "-o", str(output), "--model", checkpoint]) == 0
        assert len(pd.read_parquet(output)) == 0


def test_writes_grids(checkpoint, tmp_path):
    """A grid is that of the model, in Zarr or GeoTIFF."""
    zarr, tif = tmp_path / "globe.zarr", tmp_path / "globe.tif"
    call = ["grid", "--model", checkpoint, "--resolution", "30"]
    assert cli.main([*call, "-o", str(zarr)]) == 0
    grid = xr.open_zarr(zarr, consolidated=False).embedding
    np.testing.assert_allclose(grid, embed(grid.isel(feature=0), checkpoint), atol=1e-5)
    options = ["--dtype", "int8", "--registration", "pixel"]
    assert cli.main([*call, *options, "-o", str(tif)]) == 0
    with rasterio.open(tif) as file:
        assert (file.height, file.width, file.count, file.dtypes[0]) == (6, 12, 3, "int8")


@pytest.fixture
def picture(tmp_path):
    """A picture of eight bits, as a file, and its pixels."""
    pixels = np.random.default_rng(0).integers(0, 255, (3, 8, 8), dtype=np.uint8)
    Image.fromarray(pixels.transpose(1, 2, 0)).save(tmp_path / "a.png")
    return str(tmp_path / "a.png"), pixels


@pytest.mark.parametrize("scale_from", ["option", "checkpoint"])
def test_localizes_images(model, picture, tmp_path, capsys, scale_from):
    """Candidates of every image, as CSV, with pixels scaled as told or as in training."""
    path, pixels = picture
    images = {"scale": 1 / 255, "dtype": "uint8"}
    about = {"images": images} if scale_from == "checkpoint" else None
    folder = save_pretrained(model, tmp_path / "model", provenance=about)
    call = ["localize", path, path, "--model", str(folder), "--places", "300", "-k", "4"]
    options = ["--scale", str(1 / 255)] if scale_from == "option" else []
    assert cli.main([*call, *options, "--cache", str(tmp_path)]) == 0
    found = pd.read_csv(io.StringIO(capsys.readouterr().out))
    gallery = make_gallery(model, num_points=300)
    images = torch.from_numpy(pixels / np.float32(255))[None]
    expected = localize(images, model, gallery, num_candidates=4).ranked
    assert found.image.tolist() == [path] * 8
    for half in (found[:4], found[4:]):
        np.testing.assert_allclose(half[["lon", "lat"]], expected[["lon", "lat"]], atol=1e-3)


def _write_raster(path, pixels, driver="GTiff"):
    count, height, width = pixels.shape
    about = {"count": count, "height": height, "width": width, "dtype": pixels.dtype}
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        with rasterio.open(path, "w", driver=driver, **about) as file:
            file.write(pixels)
    return str(path)


def test_pictures_without_a_scale_are_refused(model, picture, tmp_path, capsys):
    """Integers that the model was not trained on, other bands and lists of files are refused."""
    path, pixels = picture
    about = {"images": {"scale": 1 / 255, "dtype": "uint8"}}
    known = str(save_pretrained(model, tmp_path / "known", provenance=about))
    unknown = str(save_pretrained(model, tmp_path / "unknown"))
    rasterio.shutil.copy(path, tmp_path / "list.tif", driver="VRT")
    for folder, name, message in [
        (unknown, path, r"a\.png holds uint8, .*: pass --scale"),
        (known, _write_raster(tmp_path / "a.tif", pixels.astype(np.uint16)), "holds uint16"),
        (
            known,
            _write_raster(tmp_path / "b.tif", pixels[:2]),
            r"b\.tif: .* wants 3 bands, the images have 2",
        ),
        (known, str(tmp_path / "list.tif"), r"list\.tif.* not recognized"),
    ]:
        assert cli.main(["localize", name, "--model", folder, "--places", "99"]) == 1
        assert re.search(f"satclip: .*{message}", capsys.readouterr().err)
    name = _write_raster(tmp_path / "c.tif", (pixels / 255).astype(np.float32))
    assert cli.main(["localize", name, "--model", unknown, "--places", "99"]) == 0


def test_thirteen_bands_are_sentinel2_for_its_backbones_alone(model, tmp_path):
    """Random features of 13 bands see the pixels as they were trained; a scale is never ignored."""
    pixels = np.random.default_rng(0).integers(0, 255, (13, 8, 8), dtype=np.uint8)
    path = _write_raster(tmp_path / "a.tif", pixels)
    about = {"scale": 1 / 255, "dtype": "uint8"}
    features = RandomConvolutionalFeatures.fit(torch.rand(4, 13, 8, 8), num_random_features=4)
    image = cli._read_image(path, features, scale=None, trained_on=about)
    np.testing.assert_allclose(image[0], pixels / 255, rtol=1e-6)
    with pytest.raises(ValueError, match="leave out --scale"):
        cli._read_image(path, make_image_encoder("resnet18"), scale=0.1, trained_on={})


def test_a_picture_is_cut_as_in_training(model, picture, monkeypatch):
    """An encoder of one size sees the middle, in the order of the bands."""
    path, pixels = picture
    monkeypatch.setattr(model.image_encoder, "size_px", 4)
    found = cli._read_image(path, model.image_encoder, scale=1.0, trained_on={})
    np.testing.assert_array_equal(found, pixels[None, :, 2:6, 2:6])


@pytest.mark.parametrize(
    ("region", "box"),
    [
        ("-10 35 30 60", (-10, 35, 30, 60)),
        ("170,-50,-170,0", (170, -50, -170, 0)),
        ("South Africa", (16, -35, 33, -22)),
    ],
)
def test_localizes_within_a_region(model, picture, tmp_path, capsys, region, box):
    """Candidates lie in the box or the country that was asked for."""
    folder = str(save_pretrained(model, tmp_path / "model"))
    call = ["localize", picture[0], "--model", folder, "--scale", "0.004", "--places", "20000"]
    assert cli.main([*call, "-k", "3", "--within", *region.split()]) == 0
    found = pd.read_csv(io.StringIO(capsys.readouterr().out))
    west, south, east, north = box
    assert ((found.lon - west) % 360 <= (east - west) % 360).all()
    assert found.lat.between(south, north).all() and len(found) == 3
    assert cli.main([*call, "--within", "1", "2", "3"]) == 1
    assert "west south east north, or a country" in capsys.readouterr().err


def test_says_what_a_checkpoint_is(model, checkpoint, capsys):
    """Configuration, size and provenance, as JSON."""
    assert cli.main(["info", checkpoint]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["location_encoder"]["num_degrees"] == 4
    assert about["image_encoder"]["name"] == "rcf"
    assert about["provenance"] == {"seed": 7}
    expected = sum(x.numel() for x in model.location_encoder.parameters())
    assert about["num_parameters"] == expected


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("embed xy.csv -o out.csv", r"it has \['x', 'y'\]: pass --columns LON LAT"),
        ("embed xy.csv -o out.csv --columns x y", "columns look swapped: swap them, longitude"),
        ("embed gap.csv -o out.csv", "drop them, or pass --missing propagate to get NaN"),
        ("embed far.csv -o out.csv", r"% 360 - 180 .*; or pass --wrap-longitude$"),
        ("embed gap.csv -o out.csv --dims 999", "--dims must be from 1 to 256, got 999"),
        ("embed num_results.csv -o out.csv", r"num_results\.csv"),
        ("grid --resolution 7 -o out.zarr", "--resolution must divide 180 degrees, got 7"),
        ("grid --resolution 10 -o out.nc", r"a grid goes to \.zarr, \.tif or \.tiff, got out\.nc"),
        ("similar 200 10", "% 360 - 180 if that is on purpose$"),
        ("similar -60 -3 -k 0", "-k must be at least 1, got 0"),
        ("similar -60 -3 --map a.bmpx", r"--map takes \.png, \.pdf, \.svg, got a\.bmpx"),
        (
            "localize a.png --model blue-marble-l40",
            "only: pass --model with a model of both towers",
        ),
    ],
)
def test_errors_speak_of_options(call, message, tmp_path, monkeypatch, capsys):
    """What the library advises in Python is said in the words of the command line."""
    monkeypatch.chdir(tmp_path)
    Path("xy.csv").write_text("x,y\n10,120\n")
    Path("gap.csv").write_text("lon,lat\n10,\n")
    Path("far.csv").write_text("lon,lat\n200,10\n")
    assert cli.main(call.split()) == 1
    assert re.search(f"satclip: .*{message}", capsys.readouterr().err.rstrip())


@pytest.mark.parametrize(
    ("module", "extra"), [("pandas.core", "tables"), ("cartopy.crs", "research")]
)
def test_a_missing_package_is_named_with_its_extra(module, extra, monkeypatch, capsys):
    """After a plain installation, an error says what to install."""

    def show(options):
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(cli, "show_info", show)
    assert cli.main(["info", "model"]) == 1
    package = module.partition(".")[0]
    expected = f"satclip: this needs {package}: in a checkout, `pip install -e '.[{extra}]'`\n"
    assert capsys.readouterr().err == expected
