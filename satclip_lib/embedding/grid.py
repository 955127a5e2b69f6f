"""The embedding of every cell of a grid, block by block, when its values are asked for."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import dask
import dask.array as da
import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Float64, Shaped
from torch import nn

from satclip_lib.embedding.containers import read_axes
from satclip_lib.embedding.embed import NAME, resolve_encoder, to_numpy
from satclip_lib.fast.folded_encoder import FoldedEncoder
from satclip_lib.files import fingerprint
from satclip_lib.location_encoder import LocationEncoder
from satclip_lib.sphere import check_locations

Dtype = Literal["float32", "float16", "int8"]
Registration = Literal["gridline", "pixel"]
BLOCK_BYTES = 2**26  # what one task computes and one file holds, before compression
LAT_ATTRS = {"standard_name": "latitude", "long_name": "latitude", "units": "degrees_north"}
LON_ATTRS = {"standard_name": "longitude", "long_name": "longitude", "units": "degrees_east"}
CHUNK_CELLS = (16, 32)  # what one read fetches: half a megabyte of 256 float32
NUM_SAMPLED = 4096  # cells from which the range and the error of rounded numbers are measured


def embed_grid(
    model: nn.Module | Path | str,
    *,
    resolution_deg: float | int | None = None,
    template: xr.DataArray | xr.Dataset | None = None,
    registration: Registration = "gridline",
    dtype: Dtype = "float32",
) -> xr.DataArray:
    """Embed a whole grid, block by block, when and where its values are asked for.

    Nothing is computed before ``.compute()``, :func:`save_grid` or anything else that Dask runs,
    on the threads of this process or on the cluster of the current ``dask.distributed.Client``.

    Args:
        model: a :class:`LocationEncoder` or what :func:`satclip_lib.load_satclip` takes.
        resolution_deg: distance between neighbours on a grid of the globe, north first. Give
            either this or ``template``.
        template: an xarray object with one-dimensional coordinates lon and lat.
        registration: of a grid made by ``resolution_deg``: "gridline" puts points on the poles and
            on 180 W, as ERA5 does (721 x 1440 at 0.25 degrees), "pixel" in the middle of cells, as
            rasters do (720 x 1440).
        dtype: "float16" and "int8" save space; what rounding costs is measured on some of the
            cells and said in the attributes. The ``scale_factor`` of int8 is applied by xarray
            when the file is opened.

    Returns:
        ``(lat, lon, feature)`` with CF attributes, not normalised.

    Raises:
        ValueError: if the grid cannot be made, see the message.
        TypeError: if the model is no :class:`LocationEncoder`.

    Example:
        >>> save_grid(embed_grid("satclip-resnet18-l40", resolution_deg=0.25), "globe.zarr")
    """
    if dtype not in get_args(Dtype):
        raise ValueError(f"dtype must be one of {get_args(Dtype)}, got {dtype!r}")
    encoder = resolve_encoder(model)
    if not isinstance(encoder, LocationEncoder):
        raise TypeError(f"a grid needs a LocationEncoder, got a {type(encoder).__name__}")
    folded = FoldedEncoder(encoder)
    if (resolution_deg is None) == (template is None):
        raise ValueError("give either resolution_deg or template")
    if template is None:
        lat, lon = make_axes(resolution_deg, registration=registration)
    else:
        lat, lon = _find_axes(template)
    rounding = _Rounding.measure(folded, lon.values, lat.values, dtype=dtype)
    sha256 = fingerprint(encoder.config, encoder, lon.values, lat.values, dtype)
    return xr.DataArray(
        _make_lazy_array(folded, lon.values, lat.values, rounding, token=sha256),
        dims=(*lat.dims, *lon.dims, "feature"),
        coords={lat.name: lat, lon.name: lon},
        name=NAME,
        attrs={
            "long_name": "location embedding, SatCLIP",
            "units": "1",
            "sha256_of_inputs": sha256,
            **rounding.attrs,
        },
    )


def make_axes(
    resolution_deg: float | int, *, registration: Registration = "gridline"
) -> tuple[xr.DataArray, xr.DataArray]:
    """Latitudes from north to south and longitudes from west to east, with CF attributes.

    Raises:
        ValueError: if the resolution does not divide 180 degrees, or the registration is unknown.
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


def _make_lazy_array(
    folded: FoldedEncoder,
    longitude_deg: Float64[np.ndarray, " columns"],
    latitude_deg: Float64[np.ndarray, " rows"],
    rounding: "_Rounding",
    *,
    token: str,
) -> da.Array:
    """A Dask array of blocks, all of which take the encoder from one place in the graph."""
    rows, columns = _choose_block(len(latitude_deg), len(longitude_deg), 4 * folded.embed_dim)
    shared = dask.delayed(folded, name=f"encoder-{token}", traverse=False)
    make_block = dask.delayed(_embed_block, pure=True)

    def make_lazy_block(row: int, column: int) -> da.Array:
        lat, lon = latitude_deg[row : row + rows], longitude_deg[column : column + columns]
        name = f"block-{row}-{column}-{token}"
        return da.from_delayed(
            make_block(shared, lon, lat, rounding, dask_key_name=name),
            shape=(len(lat), len(lon), folded.embed_dim),
            dtype=rounding.dtype,
            name=f"lazy-{name}",
        )

    return da.concatenate(
        [
            da.concatenate(
                [make_lazy_block(row, column) for column in range(0, len(longitude_deg), columns)],
                axis=1,
            )
            for row in range(0, len(latitude_deg), rows)
        ]
    )


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
    folded: FoldedEncoder,
    longitude_deg: Float64[np.ndarray, " columns"],
    latitude_deg: Float64[np.ndarray, " rows"],
    rounding: "_Rounding",
) -> Shaped[np.ndarray, "rows columns embed_dim"]:
    block = np.empty((len(latitude_deg), len(longitude_deg), folded.embed_dim), rounding.dtype)
    longitude, latitude = torch.tensor(longitude_deg), torch.tensor(latitude_deg)
    num_rows = max(1, folded.batch_size // len(longitude_deg))
    for start in range(0, len(block), num_rows):
        part = slice(start, start + num_rows)
        block[part] = rounding.round(to_numpy(folded.embed_grid(longitude, latitude[part])))
    return block


@dataclass(frozen=True)
class _Rounding:
    """How embeddings become fewer bytes, and what that costs.

    Attributes:
        dtype: of what is kept.
        scale: what int8 is multiplied by to become an embedding.
        attrs: for the file, with the measured error.
    """

    dtype: str
    scale: float = 1.0
    attrs: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def measure(
        cls,
        folded: FoldedEncoder,
        longitude_deg: Float64[np.ndarray, " columns"],
        latitude_deg: Float64[np.ndarray, " rows"],
        *,
        dtype: Dtype,
    ) -> "_Rounding":
        """Take the range from one half of some cells of the grid, and the error from the other."""
        if dtype == "float32":
            return cls(dtype)
        rng = np.random.default_rng(0)
        axes = (
            rng.choice(longitude_deg, 2 * NUM_SAMPLED),
            rng.choice(latitude_deg, 2 * NUM_SAMPLED),
        )
        sample = to_numpy(folded.embed(torch.from_numpy(np.stack(axes, axis=1))))
        seen, unseen = np.split(sample, 2)
        scale = 1.0 if dtype == "float16" else float(np.abs(seen).max()) / 127
        exact = cls(dtype, scale)
        rounded = exact.round(unseen).astype(np.float32) * np.float32(scale)
        error = np.abs(rounded - unseen)
        lengths = np.linalg.norm(rounded, axis=1) * np.linalg.norm(unseen, axis=1)
        attrs = {
            "rounding_largest_error": float(error.max()),
            "rounding_mean_error": float(error.mean()),
            "rounding_smallest_cosine": float(((rounded * unseen).sum(axis=1) / lengths).min()),
        }
        return cls(dtype, scale, attrs | ({"scale_factor": scale} if dtype == "int8" else {}))

    def round(self, embeddings: Float[np.ndarray, "*shape"]) -> Shaped[np.ndarray, "*shape"]:
        """What is kept of embeddings."""
        if self.dtype != "int8":
            return embeddings.astype(self.dtype)
        return np.clip(np.rint(embeddings / self.scale), -127, 127).astype(np.int8)
