"""Encoders to compare: one registry, and what each entry needs.

An entry whose weights or files are not on this machine is absent, with the command that brings
them. Nothing is downloaded. An encoder of your own needs no entry: ``Encoder("mine", function)``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from huggingface_hub import try_to_load_from_cache

from satclip_lib.checkpoints.download import (
    BUNDLED_MODEL,
    PINNED_REVISIONS,
    PUBLISHED_MODELS,
    find_checkpoint,
)
from satclip_lib.checkpoints.store import CONFIG_NAME, load_location_encoder
from satclip_lib.data.registry import FileUnavailableError
from satclip_lib.data.seasons import load_seasons
from satclip_lib.embedding.embed import embed
from satclip_lib.embedding.retrieval import Retrieval, load_retrieval
from satclip_lib.evaluation import peers, positional
from satclip_lib.evaluation.baselines import (
    Encoder,
    EncoderUnavailableError,
    encode_harmonics,
    encode_image_at,
    make_untrained,
)
from satclip_lib.location_encoder import LocationEncoder

NUM_IMAGE_FEATURES = 512  # of random filters, as in the demo profile
RETRIEVING = " + retrieval"  # in names of encoders
INSTALLED = find_checkpoint(BUNDLED_MODEL).parent  # has one with L = 40, and its retrieval


@dataclass(frozen=True)
class EncoderEntry:
    """A row of ``ENCODERS``.

    Attributes:
        name: Key of the entry, and its name in tables.
        family: "coordinates", "untrained", "task only", "image" or "pretrained".
        source: Whom to cite.
        load: Function ``(checkpoints, seed)`` that returns the function from longitude and
            latitude to features, or raises
            :class:`~satclip_lib.evaluation.baselines.EncoderUnavailableError`.
        needs: What has to be on this machine.
        licence: Terms of the weights, where they are somebody else's.
        own_probe: See :class:`~satclip_lib.evaluation.baselines.Encoder`.
    """

    name: str
    family: str
    source: str
    load: Callable[[Path, int], Callable[[np.ndarray], np.ndarray]]
    needs: str = "nothing"
    licence: str = ""
    own_probe: str | None = None


def make_encoders(
    checkpoints: Path = INSTALLED, *, names: Sequence[str] | None = None, seed: int = 0
) -> list[Encoder]:
    """The encoders of the registry that are present, in its order.

    Args:
        checkpoints: Folder with checkpoints of ours, such as ``rcf-l10``; of several with one L
            that which was trained last is taken. Without it, the model that is installed with
            the package.
        names: Keys of ``ENCODERS``; None for all that are present.
        seed: Random seed of the weights of untrained networks.

    Raises:
        ValueError: If a name is unknown.
        EncoderUnavailableError: If an encoder of ``names`` is absent; the message says what brings
            it.
    """
    if unknown := sorted(set(names or ()) - set(ENCODERS)):
        raise ValueError(f"unknown encoder {', '.join(unknown)}; there is {', '.join(ENCODERS)}")
    wanted = ENCODERS if names is None else [name for name in ENCODERS if name in names]
    found = {name: _try_to_make(ENCODERS[name], Path(checkpoints), seed) for name in wanted}
    present = [encoder for encoder in found.values() if isinstance(encoder, Encoder)]
    if names is not None and len(present) < len(found):
        absent = [f"{name} ({why})" for name, why in found.items() if isinstance(why, str)]
        raise EncoderUnavailableError(
            f"not on this machine: {', '.join(absent)}; list_encoders() tells which are"
        )
    return present


def list_encoders(checkpoints: Path = INSTALLED) -> pd.DataFrame:
    """Every entry of the registry, and why it is absent, if it is.

    Returns:
        Columns ``encoder``, ``family``, ``needs``, ``absent because``, ``source``, ``licence``.
    """
    rows = []
    for entry in ENCODERS.values():
        found = _try_to_make(entry, Path(checkpoints), 0)
        absent = "" if isinstance(found, Encoder) else found
        rows.append((entry.name, entry.family, entry.needs, absent, entry.source, entry.licence))
    columns = ["encoder", "family", "needs", "absent because", "source", "licence"]
    return pd.DataFrame(rows, columns=columns)


def choose_own(wanted: int, names: Sequence[str]) -> tuple[str, str, str]:
    """The encoder of ours that others are compared with, the same without retrieval, its twin.

    Args:
        wanted: L of the encoder, 10 or 40; another one where it is absent.
        names: Names of the encoders that are there, "SatCLIP L=10" among them.

    Returns:
        Name with retrieval, where there is one; plain name; name of the untrained network.

    Raises:
        FileNotFoundError: If none of ours is there, with the command that makes them.
    """
    for num_degrees in (wanted, 10, 40):
        plain = f"SatCLIP L={num_degrees}"
        if plain in names:
            retrieving = f"{plain}{RETRIEVING}"
            twin = f"untrained L={num_degrees}"
            return retrieving if retrieving in names else plain, plain, twin
    raise FileNotFoundError("no SatCLIP is trained yet: run notebook 02, or `make pretrain`")


def list_checkpoints(checkpoints: Path, names: Sequence[str]) -> list[Path]:
    """Folders of our checkpoints that encoders such as "SatCLIP L=40" are loaded from.

    Args:
        checkpoints: The folder of checkpoints that :func:`make_encoders` is given.
        names: Names of encoders; those that are not ours count for nothing.
    """
    own = [n for n in (10, 40) if any(name.startswith(f"SatCLIP L={n}") for name in names)]
    return [_find_own(checkpoints, n) for n in own]


def _try_to_make(entry: EncoderEntry, checkpoints: Path, seed: int) -> Encoder | str:
    """The encoder, or why it is absent."""
    try:
        return Encoder(entry.name, entry.load(checkpoints, seed), entry.own_probe)
    except EncoderUnavailableError as error:
        return str(error)


def _find_own(checkpoints: Path, num_degrees: int) -> Path:
    found = checkpoints.glob(f"[!.]*-l{num_degrees}/{CONFIG_NAME}")  # whatever the image encoder
    last = max(found, key=lambda path: path.stat().st_mtime, default=None)
    if last is None:
        raise EncoderUnavailableError(
            f"no checkpoint *-l{num_degrees} in {checkpoints}: run notebook 02, or `make pretrain`"
        )
    return last.parent


def _find_published(name: str) -> str:
    repo_id, revision = PUBLISHED_MODELS[name], PINNED_REVISIONS.get(name)
    if not isinstance(try_to_load_from_cache(repo_id, f"{name}.ckpt", revision=revision), str):
        raise EncoderUnavailableError(
            f"not in the cache: load_location_encoder({name!r}) downloads it"
        )
    return name


def _load_retrieval(folder: Path) -> Retrieval:
    try:
        return load_retrieval(folder)
    except ValueError as error:
        raise EncoderUnavailableError(str(error)) from error


def _load_image_features() -> Callable[[np.ndarray], np.ndarray]:
    """The bands, scales and number of features of the demo profile's image encoder."""
    try:
        load_seasons()
    except FileUnavailableError as error:
        raise EncoderUnavailableError(str(error)) from error
    return partial(
        encode_image_at, imagery="seasons", zooms=(1, 8), num_random_features=NUM_IMAGE_FEATURES
    )


def _embed_with(model: LocationEncoder | Path | str, retrieval: Retrieval | bool = False):
    if not isinstance(model, LocationEncoder):
        model = load_location_encoder(model)
    return partial(embed, model=model, retrieval=retrieval)


def _coordinates(
    name: str, encode: Callable, source: str = "none", family: str = "coordinates", **own
) -> EncoderEntry:
    return EncoderEntry(name, family, source, lambda checkpoints, seed: encode, **own)


def _make_own_entries(num_degrees: int) -> list[EncoderEntry]:
    """The untrained twin, ours, and ours with retrieval."""
    find = partial(_find_own, num_degrees=num_degrees)
    name, needs = f"SatCLIP L={num_degrees}", f"a checkpoint with L={num_degrees}"
    return [
        EncoderEntry(
            f"untrained L={num_degrees}",
            "untrained",
            RUSSWURM,
            lambda folder, seed: (
                make_untrained(load_location_encoder(find(folder)).config, seed=seed).encode
            ),
            needs=f"{needs}, for its architecture",
        ),
        EncoderEntry(
            name,
            "pretrained",
            "this repository, after Klemmer et al., arXiv 2311.17179",
            lambda folder, seed: _embed_with(find(folder)),
            needs=f"{needs}, of notebook 02",
        ),
        EncoderEntry(
            f"{name}{RETRIEVING}",
            "pretrained",
            "this repository; retrieval after Dhakal et al. (2025), arXiv 2502.19781",
            lambda folder, seed: _embed_with(find(folder), _load_retrieval(find(folder))),
            needs=f"{needs} and a map of images, of notebook 02",
        ),
    ]


def _published(name: str) -> EncoderEntry:
    return EncoderEntry(
        name,
        "pretrained",
        "Klemmer et al., arXiv 2311.17179",
        lambda checkpoints, seed: _embed_with(_find_published(name)),
        needs="its weights in the cache of huggingface_hub",
        licence="that of its authors",
    )


def _peer(name: str, load: Callable[[], peers.Encode], source: str, licence: str) -> EncoderEntry:
    needs = "what `make peers` brings"
    return EncoderEntry(name, "pretrained", source, lambda *_: load(), needs, licence)


RUSSWURM = "Rußwurm et al. (2024), arXiv 2310.06743"
SPACE2VEC, SPHERE2VEC = "Mai et al. (2020), arXiv 2003.00824", "Mai et al. (2023), arXiv 2306.17624"
WU = "Wu et al. (2024), arXiv 2406.15658"
RAW = positional.encode_raw
(UNTRAINED_10, OURS_10, _), (UNTRAINED_40, OURS_40, RETRIEVING_40) = map(
    _make_own_entries, (10, 40)
)

ENCODERS: dict[str, EncoderEntry] = {
    entry.name: entry
    for entry in (
        _coordinates("raw lon/lat", RAW),
        _coordinates("wrap", positional.encode_wrap, "Mac Aodha et al. (2019), arXiv 1906.05272"),
        _coordinates("unit vector", positional.encode_unit_vector),
        _coordinates("great-circle k-NN", RAW, own_probe="great circle"),
        _coordinates(
            "inverse distance",
            RAW,
            "Shepard (1968), doi:10.1145/800186.810616",
            own_probe="inverse distance",
        ),
        *(
            _coordinates(name, encode, SPACE2VEC if name.startswith("Space2Vec") else SPHERE2VEC)
            for name, encode in positional.WAVES.items()
        ),
        _coordinates("harmonics L=10", encode_harmonics, RUSSWURM),
        _coordinates(
            "SIREN(SH) end to end", RAW, RUSSWURM, family="task only", own_probe="end to end"
        ),
        UNTRAINED_10,
        UNTRAINED_40,
        EncoderEntry(
            "image features",
            "image",
            "Rolf et al. (2021), doi:10.1038/s41467-021-24638-z",
            lambda checkpoints, seed: _load_image_features(),
            needs="the four seasons and the lights, in a checkout",
        ),
        OURS_10,
        OURS_40,
        RETRIEVING_40,
        *map(_published, PUBLISHED_MODELS),
        _peer(
            "GeoCLIP", peers.load_geoclip, "Vivanco Cepeda et al. (2023), arXiv 2309.16020", "MIT"
        ),
        *(
            _peer(name, partial(peers.load_torchspatial, name), WU, "CC BY-NC 4.0")
            for name in peers.TORCHSPATIAL
        ),
    )
}
