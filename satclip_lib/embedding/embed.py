"""Embeddings for people who work with arrays, tables, maps and grids."""

from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import nn

from satclip_lib.checkpoints.download import BUNDLED_MODEL
from satclip_lib.checkpoints.store import load_location_encoder, load_training_lonlat
from satclip_lib.embedding.containers import read_locations
from satclip_lib.embedding.retrieval import Retrieval, load_retrieval
from satclip_lib.embedding.uncertainty import compute_uncertainty
from satclip_lib.fast.folded_encoder import FoldedEncoder
from satclip_lib.fast.siren import ROWS_AT_ONCE
from satclip_lib.location_encoder import LocationEncoder
from satclip_lib.model import SatCLIP
from satclip_lib.progress import progress_bar
from satclip_lib.sphere import Missing, check_locations

NAME = "embedding"
GENERIC_BATCH_SIZE = 8192  # of a model that is no LocationEncoder


def embed(
    data: Any,
    model: nn.Module | Path | str = BUNDLED_MODEL,
    *,
    num_dims: int | None = None,
    retrieval: Retrieval | bool = False,
    columns: tuple[Any, Any] | None = None,
    missing: Missing = "raise",
    wrap_longitude: bool = False,
    with_uncertainty: bool = False,
    training_lonlat: Float[np.ndarray, "num_training 2"] | None = None,
    batch_size: int | None = None,
) -> Any:
    """Embed locations, wherever they are kept, batch by batch and without gradients.

    ==========================  ==============================================================
    locations in                embeddings, not normalised, in
    ==========================  ==============================================================
    array ``(num_points, 2)``   array ``(num_points, embed_dim)``
    tensor                      tensor, on the device of the locations
    ``DataFrame``               ``DataFrame`` with the same index, columns ``embedding_<i>``
    ``GeoDataFrame``            ``GeoDataFrame`` with the same geometry, CRS and index
    xarray with lon and lat     ``DataArray`` with the same coordinates and one more dimension,
                                ``feature``; a grid is much faster than as many points
    xarray with x, y and CRS    the same
    ==========================  ==============================================================

    The names, units and CRS that are understood are listed in ``docs/locations.md``; what is not
    clear is refused.

    Args:
        data: Locations, see above; longitude first, degrees. Coordinates in another CRS are
            transformed, and so are other angles with CF units.
        model: A :class:`LocationEncoder`, a :class:`SatCLIP`, any module
            ``(batch, 2) -> (batch, embed_dim)`` in eval mode, which gets float64 degrees, or what
            :func:`load_location_encoder` takes. It stays on its device. The default is the small
            model that travels with the package.
        num_dims: Number of dimensions to keep, the first ones, such as 16, 32 or 64. They hold
            most of what images show if the model was trained to be ordered; other models are
            refused. None keeps all.
        retrieval: Whether three more groups come before the embedding, which then has length one:
            ``zonal``, four functions of the latitude, ``retrieved``, what images of the place and
            around it look like, and ``local``, its position at a finer scale. A table gets columns
            such as ``zonal_<i>``; everything else has all groups side by side. Use them for
            regions without labels. True reads them from the checkpoint; a :class:`Retrieval` is
            used as it is.
        columns: Names of longitude and latitude in a ``DataFrame`` that calls them something else.
        missing: How to treat NaN: "raise" an error, or "propagate" it to the embedding.
        wrap_longitude: Whether longitudes beyond 180 degrees, such as 0 to 360, are accepted.
        with_uncertainty: Whether to add two measures of how far to trust each embedding, see
            :func:`~satclip_lib.embedding.uncertainty.compute_uncertainty`. Arrays and tensors come
            back as a dictionary ``{"embedding": ..., "distance_km": ..., "dropout_spread": ...}``,
            tables have two more columns, and xarray becomes a ``Dataset``.
        training_lonlat: Locations that the model was trained on, for ``distance_km``; None reads
            them from the checkpoint.
        batch_size: Number of locations per forward pass; None takes as many as suit the device.
            The blocks of an xarray grid do not depend on it. Embeddings of different batch sizes
            agree to rounding, not to the last bit.

    Raises:
        TypeError: If ``data`` is none of the above, or the uncertainty of a module is asked for
            that is no :class:`LocationEncoder`.
        ValueError: If the model is in training mode (dropout would make embeddings random), or has
            no ordered embedding, map of images or training locations that are asked for; if there
            is no CRS, or a coordinate is not a longitude and latitude. The message names the first
            row.

    Example:
        >>> embed(pd.DataFrame({"lon": [2.35], "lat": [48.86]}, index=["Paris"]), encoder)
               embedding_0  embedding_1  ...
        Paris    -0.213412     0.128112  ...
    """
    encoder = resolve_encoder(model)
    check_num_dims(num_dims, encoder)
    if retrieval is True:
        retrieval = load_retrieval(model)
    locations = read_locations(data, columns=columns)
    lonlat, is_known = check_locations(
        locations.lonlat, missing=missing, wrap_longitude=wrap_longitude
    )
    if locations.axes is not None and is_known.all() and isinstance(encoder, LocationEncoder):
        embeddings = _embed_grid(*locations.axes, FoldedEncoder(encoder, num_dims=num_dims))
    else:
        embeddings = _embed_points(lonlat, encoder, batch_size)
    embeddings = embeddings[:, :num_dims]
    found = {NAME: embeddings}
    if retrieval:
        found = {NAME: retrieval.put_before(lonlat, embeddings)}
        if locations.is_table:
            found = retrieval.split(found[NAME])
    if with_uncertainty:
        if not isinstance(encoder, LocationEncoder):
            raise TypeError(
                "with_uncertainty=True needs a LocationEncoder or SatCLIP, which have dropout; "
                f"got {type(encoder).__name__}"
            )
        if training_lonlat is None:
            training_lonlat = load_training_lonlat(model)
        found |= compute_uncertainty(lonlat, encoder, training_lonlat=training_lonlat)
    restored = locations.restore({n: _fill_gaps(x, is_known) for n, x in found.items()})
    return restored if with_uncertainty or locations.is_table else restored[NAME]


def resolve_encoder(model: nn.Module | Path | str) -> nn.Module:
    """The module that embeds locations, ready for use.

    Raises:
        ValueError: If it is in training mode.
    """
    if isinstance(model, str | Path):
        model = load_location_encoder(model)
    encoder = model.location_encoder if isinstance(model, SatCLIP) else model
    if encoder.training:
        raise ValueError("the model is in training mode: call model.eval() before embed()")
    return encoder


def check_num_dims(num_dims: int | None, encoder: nn.Module) -> None:
    """Check that an embedding can be cut to its first ``num_dims`` dimensions.

    Raises:
        ValueError: If the model has fewer dimensions, or was not trained to be ordered.
    """
    if num_dims is None:
        return
    config = encoder.config if isinstance(encoder, LocationEncoder) else None
    if config is None or not config.ordered:
        raise ValueError(
            "num_dims needs a model with an ordered embedding, which this one has not: "
            "leave num_dims out, or train with LocationEncoderConfig(ordered=True)"
        )
    if not 1 <= num_dims <= config.embed_dim:
        raise ValueError(f"num_dims must be from 1 to {config.embed_dim}, got {num_dims}")


def _embed_points(
    lonlat: Float64[np.ndarray, "num_points 2"], encoder: nn.Module, batch_size: int | None
) -> Float[np.ndarray, "num_points embed_dim"]:
    embed_batch: Callable[[torch.Tensor], torch.Tensor]
    if isinstance(encoder, LocationEncoder) and len(lonlat) >= ROWS_AT_ONCE:
        folded = FoldedEncoder(encoder)  # costs as much as a few hundred places
        embed_batch, batch_size = folded.embed, batch_size or folded.batch_size
    else:
        device = _find_device(encoder)
        embed_batch, batch_size = lambda x: encoder(x.to(device)), batch_size or GENERIC_BATCH_SIZE
    batches = torch.from_numpy(np.ascontiguousarray(lonlat)).split(batch_size)
    embeddings = np.empty(0)
    with torch.inference_mode():
        for index, batch in enumerate(_show_progress(batches)):
            found = to_numpy(embed_batch(batch))
            if index == 0:
                embeddings = np.empty((len(lonlat), found.shape[1]), found.dtype)
            embeddings[index * batch_size : index * batch_size + len(batch)] = found
    return embeddings


def _embed_grid(
    longitude_deg: Float64[np.ndarray, " columns"],
    latitude_deg: Float64[np.ndarray, " rows"],
    folded: FoldedEncoder,
) -> Float[np.ndarray, "num_points embed_dim"]:
    longitude, latitude = torch.from_numpy(longitude_deg), torch.from_numpy(latitude_deg)
    rows = latitude.split(max(1, folded.batch_size // max(1, len(longitude))))
    blocks = [
        to_numpy(folded.embed_grid(longitude, block).flatten(0, 1))
        for block in _show_progress(rows)
    ]
    return np.concatenate(blocks)


def _find_device(module: nn.Module) -> torch.device:
    """The device of a module's first tensor; the CPU if it has none."""
    return next(chain(module.parameters(), module.buffers()), torch.empty(0)).device


def to_numpy(embeddings: torch.Tensor) -> np.ndarray:
    """An array of the same type, but float32 for bfloat16, which NumPy does not have."""
    if embeddings.dtype == torch.bfloat16:
        embeddings = embeddings.float()
    return embeddings.cpu().numpy()


def _show_progress(batches: tuple[torch.Tensor, ...]) -> Any:
    return batches if len(batches) == 1 else progress_bar(batches, desc="embedding", delay=1)


def _fill_gaps(values: np.ndarray, is_known: np.ndarray) -> np.ndarray:
    """One entry per location that came, NaN for those that were left out."""
    if is_known.all():
        return values
    whole = np.full((len(is_known), *values.shape[1:]), np.nan, values.dtype)
    whole[is_known] = values
    return whole
