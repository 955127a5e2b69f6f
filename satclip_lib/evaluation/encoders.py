"""Encoders to compare: one registry, and what each entry needs.

An entry whose weights or files are not on this machine is absent with the reason. Nothing is
downloaded. An encoder of your own needs no entry: ``Encoder("mine", function)``.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from huggingface_hub import try_to_load_from_cache

from satclip_lib.checkpoints.download import PINNED_REVISIONS, PUBLISHED_MODELS
from satclip_lib.checkpoints.store import CONFIG_NAME, load_location_encoder
from satclip_lib.evaluation import positional
from satclip_lib.evaluation.baselines import (
    Encoder,
    encode_harmonics,
    encode_image_at,
    make_encoder,
    make_untrained,
)
from satclip_lib.location_encoder import LocationEncoder


class EncoderUnavailableError(RuntimeError):
    """The weights or files of an encoder are not on this machine."""


@dataclass(frozen=True, kw_only=True)
class EncoderEntry:
    """A row of ``ENCODERS``.

    Attributes:
        name: key, and name in tables.
        family: "coordinates", "untrained", "task only", "image" or "pretrained".
        needs: what has to be on this machine.
        source: whom to cite.
        make: ``(checkpoints, seed) -> Encoder``; raises :class:`EncoderUnavailableError`.
    """

    name: str
    family: str
    needs: str = "nothing"
    source: str
    make: Callable[[Path, int], Encoder]


def make_encoders(
    checkpoints: Path, *, names: Sequence[str] | None = None, seed: int = 0
) -> list[Encoder]:
    """The encoders of the registry that are present, in its order.

    Args:
        checkpoints: folder with checkpoints of ours, such as ``rcf-l10``; of several with one L
            that which was trained last is taken.
        names: keys of ``ENCODERS``; None for all.
        seed: of the weights of untrained networks.

    Raises:
        ValueError: if a name is unknown.
    """
    if unknown := sorted(set(names or ()) - set(ENCODERS)):
        raise ValueError(f"unknown encoder {', '.join(unknown)}; there is {', '.join(ENCODERS)}")
    found = []
    for name, entry in ENCODERS.items():
        if names is None or name in names:
            try:
                found.append(entry.make(Path(checkpoints), seed))
            except EncoderUnavailableError:
                continue
    return found


def list_encoders(checkpoints: Path) -> pd.DataFrame:
    """Every entry of the registry: name, family, what it needs, and why it is absent, if it is."""
    rows = []
    for entry in ENCODERS.values():
        try:
            entry.make(Path(checkpoints), 0)
            absent = ""
        except EncoderUnavailableError as error:
            absent = str(error)
        rows.append((entry.name, entry.family, entry.needs, absent, entry.source))
    return pd.DataFrame(rows, columns=["encoder", "family", "needs", "absent because", "source"])


def choose_num_degrees(wanted: int, names: Sequence[str]) -> int:
    """L of the encoder of ours that others are compared with: as wanted, else one that is there.

    Args:
        wanted: 10 or 40.
        names: of the encoders that are there, "SatCLIP L=10" among them.

    Raises:
        FileNotFoundError: if none of ours is there, with the command that makes them.
    """
    for num_degrees in (wanted, 10, 40):
        if f"SatCLIP L={num_degrees}" in names:
            return num_degrees
    raise FileNotFoundError("no SatCLIP is trained yet: run notebook 02, or `make pretrain`")


def list_checkpoints(checkpoints: Path, names: Sequence[str]) -> list[Path]:
    """Folders of our checkpoints that encoders such as "SatCLIP L=40" are loaded from.

    Args:
        checkpoints: The folder of checkpoints that :func:`make_encoders` is given.
        names: Names of encoders; those that are not ours count for nothing.
    """
    return [_find_own(checkpoints, n) for n in (10, 40) if f"SatCLIP L={n}" in names]


def _load_own(checkpoints: Path, num_degrees: int) -> LocationEncoder:
    return load_location_encoder(_find_own(checkpoints, num_degrees))


def _find_own(checkpoints: Path, num_degrees: int) -> Path:
    found = checkpoints.glob(f"*-l{num_degrees}/{CONFIG_NAME}")  # whatever the image encoder
    last = max(found, key=lambda path: path.stat().st_mtime, default=None)
    if last is None:
        raise EncoderUnavailableError(
            f"no checkpoint *-l{num_degrees} in {checkpoints}: run notebook 02"
        )
    return last.parent


def _load_published(name: str) -> LocationEncoder:
    repo_id, revision = PUBLISHED_MODELS[name], PINNED_REVISIONS.get(name)
    if not isinstance(try_to_load_from_cache(repo_id, f"{name}.ckpt", revision=revision), str):
        raise EncoderUnavailableError(
            f"not in the cache: load_location_encoder({name!r}) downloads it"
        )
    return load_location_encoder(name)


def _make_geoclip(checkpoints: Path, seed: int) -> Encoder:
    if find_spec("geoclip") is None:
        raise EncoderUnavailableError("pip install geoclip, which brings its weights")
    model = import_module("geoclip").LocationEncoder().eval()

    def encode(lonlat: np.ndarray) -> np.ndarray:
        with torch.inference_mode():  # latitude first, unlike everything else here
            return model(torch.tensor(lonlat[:, ::-1].copy(), dtype=torch.float32)).numpy()

    return Encoder("GeoCLIP", encode)


def _make_foreign(checkpoints: Path, seed: int, *, name: str, address: str) -> Encoder:
    raise EncoderUnavailableError(
        f"its code and weights ({address}) are no package: wrap them as Encoder({name!r}, function)"
    )


def _features(
    name: str, encode: Callable, source: str, family: str = "coordinates"
) -> EncoderEntry:
    def make(checkpoints: Path, seed: int) -> Encoder:
        return Encoder(name, encode)

    return EncoderEntry(name=name, family=family, source=source, make=make)


def _own_probe(name: str, probe: str, family: str, source: str) -> EncoderEntry:
    def make(checkpoints: Path, seed: int) -> Encoder:
        return Encoder(name, positional.encode_raw, own_probe=probe)

    return EncoderEntry(name=name, family=family, source=source, make=make)


def _untrained(num_degrees: int) -> EncoderEntry:
    name = f"untrained L={num_degrees}"

    def make(checkpoints: Path, seed: int) -> Encoder:
        return make_untrained(_load_own(checkpoints, num_degrees).config, seed=seed)

    return EncoderEntry(
        name=name,
        family="untrained",
        needs=f"a checkpoint with L={num_degrees}, for its architecture",
        source="Rußwurm et al. (2024), arXiv 2310.06743",
        make=make,
    )


def _trained(num_degrees: int) -> EncoderEntry:
    name = f"SatCLIP L={num_degrees}"
    return EncoderEntry(
        name=name,
        family="pretrained",
        needs=f"a checkpoint with L={num_degrees}, of notebook 02",
        source="this repository, after Klemmer et al., arXiv 2311.17179",
        make=lambda checkpoints, seed: make_encoder(name, _load_own(checkpoints, num_degrees)),
    )


def _published(name: str) -> EncoderEntry:
    return EncoderEntry(
        name=name,
        family="pretrained",
        needs="its weights in the cache of huggingface_hub",
        source="Klemmer et al., arXiv 2311.17179",
        make=lambda checkpoints, seed: make_encoder(name, _load_published(name)),
    )


def _foreign(name: str, address: str, source: str) -> EncoderEntry:
    make = functools.partial(_make_foreign, name=name, address=address)
    return EncoderEntry(
        name=name, family="pretrained", needs="its code and weights", source=source, make=make
    )


SPACE2VEC, SPHERE2VEC = "Mai et al. (2020), arXiv 2003.00824", "Mai et al. (2023), arXiv 2306.17624"

ENCODERS: dict[str, EncoderEntry] = {
    entry.name: entry
    for entry in (
        _features("raw lon/lat", positional.encode_raw, "none"),
        _features("wrap", positional.encode_wrap, "Mac Aodha et al. (2019), arXiv 1906.05272"),
        _features("unit vector", positional.encode_unit_vector, "none"),
        _own_probe("great-circle k-NN", "great circle", "coordinates", "none"),
        _features("Space2Vec grid", positional.encode_space2vec_grid, SPACE2VEC),
        _features("Space2Vec theory", positional.encode_space2vec_theory, SPACE2VEC),
        _features("sphereC", positional.encode_sphere_c, SPHERE2VEC),
        _features("sphereM", positional.encode_sphere_m, SPHERE2VEC),
        _features("sphereC+", positional.encode_sphere_c_plus, SPHERE2VEC),
        _features("sphereM+", positional.encode_sphere_m_plus, SPHERE2VEC),
        _features(
            "harmonics L=10",
            encode_harmonics,
            "Rußwurm et al. (2024), arXiv 2310.06743",
        ),
        _own_probe(
            "SIREN(SH) end to end",
            "end to end",
            "task only",
            "Rußwurm et al. (2024), arXiv 2310.06743",
        ),
        _untrained(10),
        _untrained(40),
        _features(
            "image features",
            encode_image_at,
            "Rolf et al. (2021), doi:10.1038/s41467-021-24638-z",
            family="image",
        ),
        _trained(10),
        _trained(40),
        *map(_published, PUBLISHED_MODELS),
        EncoderEntry(
            name="GeoCLIP",
            family="pretrained",
            needs="the package geoclip",
            source="Vivanco Cepeda et al. (2023), arXiv 2309.16020",
            make=_make_geoclip,
        ),
        _foreign(
            "CSP", "https://github.com/gengchenmai/csp", "Mai et al. (2023), arXiv 2305.01118"
        ),
        _foreign(
            "SINR", "https://github.com/elijahcole/sinr", "Cole et al. (2023), arXiv 2306.02564"
        ),
    )
}
