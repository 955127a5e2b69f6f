"""The embedding of every cell of a grid, computed block by block with Dask."""

from pathlib import Path
from typing import Literal, get_args

import dask
import dask.array as da
import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Float64, Shaped
from torch import nn

from satclip_lib.checkpoints.download import BUNDLED_MODEL
from satclip_lib.embedding.cf import read_axes
from satclip_lib.embedding.embed import NAME, check_num_dims, resolve_encoder, to_numpy
from satclip_lib.embedding.retrieval import Retrieval, load_retrieval
from satclip_lib.fast.folded_encoder import FoldedEncoder
from satclip_lib.files import fingerprint
from satclip_lib.location_encoder import LocationEncoder
from satclip_lib.sphere import check_locations

Dtype = Literal["float32", "float16", "int8"]
Registration = Literal["gridline", "pixel"]
BLOCK_BYTES = 2**26  # what one task computes and one file holds, before compression
CHUNK_CELLS = (16, 32)  # what one read fetches: half a megabyte of 256 float32
NUM_SAMPLED = 4096  # cells for the range of rounded numbers, and as many others for their error
LAT_ATTRS = {"standard_name": "latitude", "long_name": "latitude", "units": "degrees_north"}
LON_ATTRS = {"standard_name": "longitude", "long_name": "longitude", "units": "degrees_east"}


def embed_grid(
    model: nn.Module | Path | str = BUNDLED_MODEL,
    *,
    num_dims: int | None = None,
    retrieval: bool = False,
    resolution_deg: float | int | None = None,
    template: xr.DataArray | xr.Dataset | None = None,
    registration: Registration = "gridline",
    dtype: Dtype = "float32",
) -> xr.DataArray:
    """Embed a whole grid, block by block, when its values are needed.

    Nothing is computed before ``.compute()``, :func:`save_grid` or anything else that makes Dask
    run, on the threads of this process or the cluster of the current ``dask.distributed.Client``.

    Args:
        model: A :class:`LocationEncoder` or what :func:`load_location_encoder` takes.
        num_dims: How many of the first numbers of an ordered embedding are kept; None keeps all.
        retrieval: Whether the groups ``zonal``, ``retrieved`` and ``local`` come before the
            embedding, which then has length one, see :func:`~satclip_lib.embedding.embed.embed`.
        resolution_deg: Distance between neighbours on a grid of the globe, degrees, north first.
            Give either this or ``template``.
        template: An xarray object with one-dimensional coordinates lon and lat. Their ``units``
            may be any of CF for longitude and latitude, or radians; the grid has degrees east and
            north. Without units they are degrees.
        registration: Kind of the grid that ``resolution_deg`` makes: "gridline" puts points on the
            poles and on 180 W, as ERA5 does (721 x 1440 at 0.25 degrees), "pixel" in the middle of
            cells, as rasters do (720 x 1440).
        dtype: Type of the numbers kept. "float16" and "int8" save space; the error of rounding is
            measured on 4096 cells and written into the attributes. Numbers of int8 are to be
            multiplied by the attribute ``scale_factor``; xarray does so when it opens the file.

    Returns:
        ``(lat, lon, feature)`` with CF attributes; embeddings are not normalised unless
        ``retrieval`` is on.

    Raises:
        ValueError: If the grid cannot be made; the message says which argument to change.
        TypeError: If the model is no :class:`LocationEncoder`.

    Example:
        >>> save_grid(embed_grid("satclip-resnet18-l40", resolution_deg=0.25), "globe.zarr")
    """
    if dtype not in get_args(Dtype):
        raise ValueError(f"dtype must be one of {get_args(Dtype)}, got {dtype!r}")
    encoder = resolve_encoder(model)
    if not isinstance(encoder, LocationEncoder):
        raise TypeError(f"a grid needs a LocationEncoder, got a {type(encoder).__name__}")
    check_num_dims(num_dims, encoder)
    if (resolution_deg is None) == (template is None):
        raise ValueError("give either resolution_deg or template")
    if template is None:
        lat, lon = make_axes(resolution_deg, registration=registration)
    else:
        lat, lon = _find_axes(template)
    folded = FoldedEncoder(encoder, num_dims=num_dims)
    images = load_retrieval(model) if retrieval else None
    num_features = folded.embed_dim + (images.num_features if images else 0)
    lat_deg, lon_deg = (axis.values.astype(np.float64) for axis in (lat, lon))
    rounding = _measure_rounding(folded, images, lon_deg, lat_deg, dtype)
    sha256 = fingerprint(encoder.config, encoder, num_dims, images, lon_deg, lat_deg, dtype)
    rows, columns = _choose_block(len(lat), len(lon), 4 * num_features)
    latitudes = da.from_array(lat_deg[:, None, None], (rows, 1, 1), name=f"lat-{sha256}")
    longitudes = da.from_array(lon_deg[None, :, None], (1, columns, 1), name=f"lon-{sha256}")
    values = da.map_blocks(
        _embed_block,
        # once in the graph
        dask.delayed((folded, images), name=f"encoder-{sha256}", traverse=False),
        longitudes,
        latitudes,
        kept_as=dtype,  # map_blocks has a dtype of its own
        scale=rounding.get("scale_factor", 1.0),
        chunks=(latitudes.chunks[0], longitudes.chunks[1], (num_features,)),
        meta=np.empty((0, 0, 0), dtype),
        name=f"embedding-{sha256}",
    )
    attrs = {"long_name": "location embedding, SatCLIP", "units": "1", "sha256_of_inputs": sha256}
    return xr.DataArray(
        values,
        dims=(*lat.dims, *lon.dims, "feature"),
        coords={lat.name: lat, lon.name: lon},
        name=NAME,
        attrs=attrs | rounding,
    )


def make_axes(
    resolution_deg: float | int, *, registration: Registration = "gridline"
) -> tuple[xr.DataArray, xr.DataArray]:
    """Make latitudes from north to south and longitudes from west to east, with CF attributes.

    Raises:
        ValueError: If the resolution does not divide 180 degrees, or the registration is unknown.
    """
    num_rows = round(180 / resolution_deg) if resolution_deg > 0 else 0
    if num_rows == 0 or not np.isclose(num_rows * resolution_deg, 180):
        raise ValueError(f"resolution_deg must divide 180 degrees, got {resolution_deg}")
    if registration not in get_args(Registration):
        raise ValueError(
            f"registration must be one of {get_args(Registration)}, got {registration!r}"
        )
    shift = 0.5 if registration == "pixel" else 0.0
    rows = np.arange(num_rows + (registration == "gridline"))
    lat = 90 - 180 * (rows + shift) / num_rows
    lon = -180 + 180 * (np.arange(2 * num_rows) + shift) / num_rows
    return (
        xr.DataArray(lat, dims="lat", coords={"lat": lat}, name="lat", attrs=LAT_ATTRS),
        xr.DataArray(lon, dims="lon", coords={"lon": lon}, name="lon", attrs=LON_ATTRS),
    )


def _find_axes(template: xr.DataArray | xr.Dataset) -> tuple[xr.DataArray, xr.DataArray]:
    lon, lat = read_axes(template)
    crossings = np.zeros((len(lon) + len(lat), 2))
    crossings[: len(lon), 0], crossings[len(lon) :, 1] = lon, lat
    check_locations(crossings, wrap_longitude=True)  # a template from 0 to 360 is on purpose
    return lat.assign_attrs(LAT_ATTRS), lon.assign_attrs(LON_ATTRS)


def _choose_block(num_rows: int, num_columns: int, cell_bytes: int) -> tuple[int, int]:
    """Rows and columns of a block: whole rows where they fit, and whole chunks of a file."""
    chunk_rows, chunk_columns = CHUNK_CELLS
    num_cells = BLOCK_BYTES // cell_bytes
    columns = num_columns
    if num_columns > num_cells // chunk_rows:
        columns = max(1, num_cells // chunk_rows // chunk_columns) * chunk_columns
    rows = max(1, num_cells // columns // chunk_rows) * chunk_rows
    return min(num_rows, rows), columns


def _embed_block(
    encoders: tuple[FoldedEncoder, Retrieval | None],
    longitude_deg: Float64[np.ndarray, "1 columns 1"],
    latitude_deg: Float64[np.ndarray, "rows 1 1"],
    *,
    kept_as: Dtype,
    scale: float,
) -> Shaped[np.ndarray, "rows columns embed_dim"]:
    longitude, latitude = torch.tensor(longitude_deg.ravel()), torch.tensor(latitude_deg.ravel())
    folded, images = encoders
    num_features = folded.embed_dim + (images.num_features if images else 0)
    block = np.empty((len(latitude), len(longitude), num_features), kept_as)
    num_rows = max(1, folded.batch_size // len(longitude))
    for start in range(0, len(block), num_rows):
        part = slice(start, start + num_rows)
        found = to_numpy(folded.embed_grid(longitude, latitude[part]))
        if images:
            places = torch.cartesian_prod(latitude[part], longitude).flip(1).numpy()
            found = images.put_before(places, found.reshape(len(places), -1))
            found = found.reshape(-1, len(longitude), num_features)
        block[part] = _round(found, kept_as, scale)
    return block


def _round(
    embeddings: Float[np.ndarray, "*shape"], dtype: Dtype, scale: float
) -> Shaped[np.ndarray, "*shape"]:
    """Embeddings as they are kept: int8 times ``scale``, from -127; -128 is for missing cells."""
    if dtype != "int8":
        return embeddings.astype(dtype)
    return np.clip(np.rint(embeddings / scale), -127, 127).astype(np.int8)


def _measure_rounding(
    folded: FoldedEncoder,
    images: Retrieval | None,
    longitude_deg: Float64[np.ndarray, " columns"],
    latitude_deg: Float64[np.ndarray, " rows"],
    dtype: Dtype,
) -> dict[str, float]:
    """Attributes with the error of rounding, in units of the embedding, and the scale of int8.

    Half of a random sample of cells gives the scale, the other half the error.
    """
    if dtype == "float32":
        return {}
    rng = np.random.default_rng(0)
    axes = [rng.choice(axis, 2 * NUM_SAMPLED) for axis in (longitude_deg, latitude_deg)]
    places = np.stack(axes, axis=1)
    sample = to_numpy(folded.embed(torch.from_numpy(places)))
    if images:
        sample = images.put_before(places, sample)
    seen, unseen = np.split(sample, 2)
    scale = 1.0 if dtype == "float16" else float(np.abs(seen).max()) / 127
    rounded = _round(unseen, dtype, scale).astype(np.float32) * np.float32(scale)
    error = np.abs(rounded - unseen)
    lengths = np.linalg.norm(rounded, axis=1) * np.linalg.norm(unseen, axis=1)
    return {
        "rounding_largest_error": float(error.max()),
        "rounding_mean_error": float(error.mean()),
        "rounding_smallest_cosine": float(((rounded * unseen).sum(axis=1) / lengths).min()),
    } | ({"scale_factor": scale} if dtype == "int8" else {})
