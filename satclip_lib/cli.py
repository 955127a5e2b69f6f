"""The command line: ``satclip embed``, ``grid``, ``similar``, ``localize`` and ``info``.

Heavy packages are imported by the commands that need them, so that ``satclip --help`` is quick.
"""

import argparse
import json
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from satclip_lib.checkpoints.download import BUNDLED_MODEL, find_checkpoint
from satclip_lib.checkpoints.store import load_config, load_location_encoder, load_satclip
from satclip_lib.files import write_atomically

if TYPE_CHECKING:
    from torch import Tensor

    from satclip_lib.image_encoder import ImageEncoder

PICTURE_DRIVERS = {  # none of which follows a list of other files
    ".tif": "GTiff", ".tiff": "GTiff", ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG",
    ".jp2": "JP2OpenJPEG",
}  # fmt: skip
FIGURE_SUFFIXES = (".png", ".pdf", ".svg")
ERRORS = (ImportError, OSError, RuntimeError, TypeError, ValueError)
IN_RESEARCH = {"cartopy", "faiss", "matplotlib", "mpl_toolkits", "PIL"}  # all else is in tables
# What errors of the library advise, in the words of the command line.
ADVICE = {
    "pass columns=(longitude, latitude)": "pass --columns LON LAT",
    "pass lonlat[:, [1, 0]]": "swap them",
    "pass missing='propagate'": "pass --missing propagate",
    "; or wrap_longitude=True": "; or pass --wrap-longitude",
    "load it with load_location_encoder, or fetch or train a whole model": "pass --model with a "
    "model of both towers, such as data/demo/checkpoints/rcf-l40 after `make pretrain`",
}
FLAGS = {"num_dims": "--dims", "resolution_deg": "--resolution", "num_results": "-k"}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; an error that the user can correct is one line, without a traceback.

    Returns:
        The exit status: 0, or 1 after an error.
    """
    options = _make_parser().parse_args(arguments)
    try:
        options.command(options)
    except ERRORS as error:
        sys.stderr.write(f"satclip: {_explain(error, options)}\n")
        return 1
    return 0


def embed_table(options: argparse.Namespace) -> None:
    """Embed the locations in a file and add the numbers as new columns."""
    from satclip_lib.embedding.embed import NAME, embed, resolve_encoder
    from satclip_lib.embedding.retrieval import load_retrieval
    from satclip_lib.embedding.tables import read_chunks, write_chunks

    encoder = resolve_encoder(options.model)
    retrieval = load_retrieval(options.model) if options.retrieval else False
    training_lonlat = None
    if options.uncertainty:
        from satclip_lib.checkpoints.store import load_training_lonlat

        training_lonlat = load_training_lonlat(options.model)

    def embed_chunks() -> Iterator[tuple[Any, dict[str, Any]]]:
        num_done = 0
        for chunk in read_chunks(
            options.points, columns=options.columns and tuple(options.columns)
        ):
            try:
                found = embed(
                    chunk.lonlat,
                    encoder,
                    num_dims=options.dims,
                    retrieval=retrieval,
                    missing=options.missing,
                    wrap_longitude=options.wrap_longitude,
                    with_uncertainty=options.uncertainty,
                    training_lonlat=training_lonlat,
                )
            except ValueError as error:
                where = f"in the rows from {num_done} on, " if num_done else ""
                raise ValueError(f"{where}{error}") from error
            num_done += len(chunk.lonlat)
            groups = found if options.uncertainty else {NAME: found}
            if retrieval:
                groups = retrieval.split(groups.pop(NAME)) | groups
            yield chunk, groups

    with write_atomically(options.output) as scratch:
        write_chunks(embed_chunks(), scratch)


def export_grid(options: argparse.Namespace) -> None:
    """Embed a grid of the globe into Zarr or GeoTIFF; a second run continues the first."""
    from satclip_lib.embedding.grid import embed_grid
    from satclip_lib.embedding.grid_files import save_grid

    grid = embed_grid(
        options.model,
        num_dims=options.dims,
        retrieval=options.retrieval,
        resolution_deg=options.resolution,
        registration=options.registration,
        dtype=options.dtype,
    )
    if options.scheduler is None:
        save_grid(grid, options.output)
        return
    from dask.distributed import Client

    with Client(options.scheduler):
        save_grid(grid, options.output)


def list_similar(options: argparse.Namespace) -> None:
    """Print the places most similar to one place, best first, as CSV; --map also draws them."""
    from satclip_lib.embedding.similar import compare_with, find_similar

    lon, lat = options.lon, options.lat
    if options.map is not None and options.map.suffix.lower() not in FIGURE_SUFFIXES:
        raise ValueError(f"--map takes {', '.join(FIGURE_SUFFIXES)}, got {options.map.name}")
    found = find_similar(lon, lat, options.model, num_results=options.k, apart_km=options.apart)
    found.round(4).to_csv(sys.stdout, index=False)
    if options.map is not None:
        import pandas as pd

        from satclip_lib.plotting.similarity import plot_similarity_map

        place = pd.DataFrame({"lon": lon, "lat": lat, "similarity": 1.0}, index=["the place"])
        places = pd.concat([place, found.set_axis(range(1, len(found) + 1))])
        figure = plot_similarity_map(*compare_with(lon, lat, options.model), places=places)
        with write_atomically(options.map) as scratch:
            figure.savefig(scratch, format=options.map.suffix[1:].lower())


def localize_images(options: argparse.Namespace) -> None:
    """Print where images may have been taken, best first, as CSV."""
    from satclip_lib.embedding.localization import localize, make_gallery

    path = find_checkpoint(options.model)
    model = load_satclip(path, image_encoder=True)
    about = load_config(path)["provenance"].get("images", {}) if path.is_dir() else {}
    gallery = make_gallery(
        model,
        num_points=options.places,
        within=_parse_region(options.within) if options.within else None,
        folder=options.cache,
    )
    for index, name in enumerate(options.images):
        images = _read_image(name, model.image_encoder, scale=options.scale, trained_on=about)
        found = localize(images, model, gallery, num_candidates=options.k)
        ranked = found.ranked.assign(image=name).round(4)
        ranked.to_csv(sys.stdout, index=False, header=index == 0)


def show_info(options: argparse.Namespace) -> None:
    """Print the settings and the origin of a checkpoint as JSON."""
    path = find_checkpoint(options.model)
    encoder = load_location_encoder(path)
    about: dict[str, Any] = {
        "path": str(path),
        "location_encoder": asdict(encoder.config),
        "num_parameters": sum(x.numel() for x in encoder.parameters()),
    }
    if path.is_dir():
        config = load_config(path)
        about |= {name: config.get(name) for name in ("image_encoder", "provenance")}
    sys.stdout.write(json.dumps(about, indent=2) + "\n")


def _explain(error: Exception, options: argparse.Namespace) -> str:
    """An error of the library in the words of the command line."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        extra = "research" if package in IN_RESEARCH else "tables"
        return f"this needs {package}: in a checkout, `pip install -e '.[{extra}]'`"
    text = str(error)
    if not hasattr(options, "wrap_longitude"):
        text = text.replace("; or wrap_longitude=True", "")
    for said, meant in ADVICE.items():
        text = text.replace(said, meant)
    names = "|".join(FLAGS)  # as words, and not as parts of the names of files
    return re.sub(rf"(?<![\w/.'-])({names})(?![\w/.'-])", lambda name: FLAGS[name[0]], text)


def _parse_region(words: list[str]) -> tuple[float, ...] | str:
    """Read ``--within``: a box as four numbers, or the name of a country."""
    text = " ".join(words)
    try:
        numbers = tuple(float(word) for word in text.replace(",", " ").split())
    except ValueError:
        return text
    if len(numbers) != 4:
        raise ValueError(f"--within takes west south east north, or a country, got {text!r}")
    return numbers


def _read_image(
    path: str, image_encoder: "ImageEncoder", *, scale: float | None, trained_on: dict[str, Any]
) -> "Tensor":
    """Read a raster as ``(1, bands, height, width)``; the centre is cropped to the encoder's size.

    Encoders with Sentinel-2 weights take digital numbers of Level-2A. For others, integers are
    multiplied by ``scale`` or, without it, by that of the images the model was trained on, if
    these were integers of the same type.
    """
    import rasterio
    import torch

    from satclip_lib.data.images import prepare_images
    from satclip_lib.data.sentinel2 import MODEL_BAND_NAMES, prepare_sentinel2
    from satclip_lib.image_encoder import BACKBONES

    names: Sequence[str] = MODEL_BAND_NAMES
    is_backbone = image_encoder.config["name"] in BACKBONES
    if is_backbone and image_encoder.num_bands == len(names):
        if scale is not None:
            raise ValueError("leave out --scale: Sentinel-2 digital numbers are divided by 10,000")
        image = prepare_sentinel2(path)
    else:
        if (suffix := Path(path).suffix.lower()) not in PICTURE_DRIVERS:
            raise ValueError(f"{path} must end in one of {', '.join(PICTURE_DRIVERS)}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)  # as pictures
            with rasterio.open(path, driver=PICTURE_DRIVERS[suffix]) as file:
                pixels = file.read()
        names = [f"band {number}" for number in range(1, len(pixels) + 1)]
        if scale is None and pixels.dtype.kind != "f":
            if trained_on.get("dtype") != pixels.dtype.name:
                raise ValueError(
                    f"{path} holds {pixels.dtype}, the model was trained on "
                    f"{trained_on.get('dtype', 'an unknown type')}: pass --scale, the factor from "
                    "these numbers to those of training, such as 0.00392157 from 0..255 to 0..1"
                )
            scale = trained_on["scale"]
        image = torch.from_numpy(pixels.astype("float32")) * (1.0 if scale is None else scale)
    try:
        return prepare_images(image[None], names, image_encoder)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="satclip", description="Location embeddings in batch.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, description=command.__doc__, help=command.__doc__)
        sub.set_defaults(command=command)
        return sub

    def add_model(sub: argparse.ArgumentParser, flag: str = "--model") -> None:
        default = {"default": BUNDLED_MODEL} if flag.startswith("-") else {}
        text = f"checkpoint folder, published name or .ckpt file; {BUNDLED_MODEL} needs no download"
        sub.add_argument(flag, help=text, **default)

    def add_groups(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--dims", type=int, help="keep this many of the embedding's first numbers")
        text = "add the zonal, retrieved and local numbers before the embedding"
        sub.add_argument("--retrieval", action="store_true", help=text)

    table = add("embed", embed_table)
    add_model(table)
    table.add_argument("points", type=Path, help="file of points: CSV, TSV, Parquet, GeoJSON, ...")
    table.add_argument("-o", "--output", type=Path, required=True, help=".parquet, .csv or .tsv")
    add_groups(table)
    table.add_argument("--columns", nargs=2, metavar=("LON", "LAT"), help="names of the columns")
    nan: dict[str, Any] = {"choices": ("raise", "propagate"), "default": "raise"}
    table.add_argument("--missing", **nan, help="whether a NaN is an error or gives NaN")
    table.add_argument("--wrap-longitude", action="store_true", help="wrap longitudes beyond 180")
    table.add_argument("--uncertainty", action="store_true", help="add two measures of uncertainty")

    grid = add("grid", export_grid)
    add_model(grid)
    add_groups(grid)
    grid.add_argument("--resolution", type=float, required=True, help="degrees")
    grid.add_argument("-o", "--output", type=Path, required=True, help=".zarr or .tif")
    grid.add_argument("--dtype", choices=("float32", "float16", "int8"), default="float32")
    grid.add_argument("--registration", choices=("gridline", "pixel"), default="gridline")
    grid.add_argument("--scheduler", help="address of a Dask cluster")

    similar = add("similar", list_similar)
    add_model(similar)
    similar.add_argument("lon", type=float, help="longitude, degrees")
    similar.add_argument("lat", type=float, help="latitude, degrees")
    similar.add_argument("-k", type=int, default=10, help="number of places")
    similar.add_argument("--apart", type=float, default=1000.0, help="minimum km between any two")
    similar.add_argument("--map", type=Path, help=f"file to write: {', '.join(FIGURE_SUFFIXES)}")

    images = add("localize", localize_images)
    images.add_argument("--model", required=True, help="checkpoint folder with an image encoder")
    images.add_argument("images", nargs="+", help="rasters with the model's bands, in order")
    images.add_argument("--scale", type=float, help="factor for pixels; default: as in training")
    images.add_argument("--places", type=int, default=100_000, help="number of places on the globe")
    images.add_argument(
        "--within", nargs="+", metavar="REGION", help="box: west south east north; or a country"
    )
    images.add_argument("--cache", type=Path, help="folder for the embeddings of places")
    images.add_argument("-k", type=int, default=10, help="candidates per image")

    add_model(add("info", show_info), "model")
    return parser


if __name__ == "__main__":
    sys.exit(main())
