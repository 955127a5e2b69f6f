"""Locations per second, beside peers and the machine's limit: ``python benchmarks/embed.py``.

Writes ``benchmarks/results/embed.json``. All contenders run in this process, in turns, and the
best of several rounds counts. Batches of results are dropped at once. The bound is the rate at
which the machine could do the encoder's matrix products, at the speed of its own square matrix
product. sphericart-torch is optional (``pip install sphericart-torch``); its float32 is not finite
from degree 30.
"""

import argparse
import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from common import Bar, draw_on_sphere, run_fresh, save_result, time_in_turns
from scipy.special import sph_harm_y_all

from satclip_lib import Damping, LocationEncoder, LocationEncoderConfig, SphericalHarmonics
from satclip_lib.checkpoints.download import BUNDLED_MODEL
from satclip_lib.checkpoints.store import save_pretrained
from satclip_lib.embedding.embed import embed
from satclip_lib.embedding.retrieval import load_retrieval
from satclip_lib.fast.folded_encoder import FoldedEncoder

NUM_POINTS, NUM_POINTS_SLOW, NUM_POINTS_MANY, NUM_ROUNDS = 32_768, 512, 200_000, 5
GLOBE = """
import resource, sys, time
from satclip_lib.cli import main
start = time.perf_counter()
assert main(["grid", "--model", sys.argv[1], "--resolution", "0.25", "-o", sys.argv[2]]) == 0
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


def measure_matrix_product(dtype: torch.dtype, size: int) -> Callable[[], object]:
    """Four products of two square matrices, as a function to be timed."""
    left, right = torch.rand(2, size, size).to(dtype)
    out = torch.empty(size, size, dtype=dtype)
    return lambda: [torch.mm(left, right, out=out) for _ in range(4)] and None


def compute_by_scipy(lonlat: torch.Tensor, num_degrees: int) -> np.ndarray:
    """SciPy's complex harmonics of all degrees and orders at once."""
    lon, lat = np.radians(lonlat.numpy()).T
    return sph_harm_y_all(num_degrees - 1, num_degrees - 1, lat + np.pi / 2, lon + np.pi)


def make_sphericart(num_degrees: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """The harmonics of sphericart-torch in float64, as a function of degrees like ours."""
    import sphericart.torch

    harmonics = sphericart.torch.SphericalHarmonics(num_degrees - 1)

    def compute(lonlat: torch.Tensor) -> torch.Tensor:
        lon, lat = torch.deg2rad(lonlat).T
        xyz = [lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()]
        return harmonics.compute(torch.stack(xyz, dim=1))

    return compute


def make_location_encoder(num_degrees: int) -> LocationEncoder:
    """Random weights in the architecture of the paper at L = 10, and damped at L = 40."""
    torch.manual_seed(0)
    damping = None if num_degrees == 10 else Damping(degree=6.0)
    return LocationEncoder(LocationEncoderConfig(num_degrees=num_degrees, damping=damping)).eval()


def measure(num_degrees: int) -> dict:
    """Rates of one architecture."""
    encoder = make_location_encoder(num_degrees)
    folded, harmonics = FoldedEncoder(encoder), SphericalHarmonics(num_degrees)
    lonlat, few = map(torch.tensor, map(draw_on_sphere, (NUM_POINTS, NUM_POINTS_SLOW)))
    batches = lonlat.split(folded.batch_size)
    retrieval = load_retrieval(BUNDLED_MODEL)
    longitude = torch.arange(1440, dtype=torch.float64) / 4 - 180
    latitude = torch.linspace(-90, 90, 24, dtype=torch.float64)
    rows = latitude.split(max(1, folded.batch_size // len(longitude)))

    def in_batches(compute: Callable[[torch.Tensor], object]) -> Callable[[], None]:
        return lambda: [compute(batch) is None for batch in batches] and None

    contenders = {
        "matrix product, 1024": measure_matrix_product(torch.float32, 1024),
        "matrix product, 2048": measure_matrix_product(torch.float32, 2048),
        "matrix product, bfloat16, 1024": measure_matrix_product(torch.bfloat16, 1024),
        "embed, float32, scattered": lambda: embed(lonlat.numpy(), encoder),
        "embed with retrieval, float32, scattered": lambda: embed(
            lonlat.numpy(), encoder, retrieval=retrieval
        ),
        "embed, float32, grid": lambda: [folded.embed_grid(longitude, x) is None for x in rows],
        "model(lonlat), float32": in_batches(encoder),
        "harmonics, float32": in_batches(lambda x: harmonics(x, dtype=torch.float32)),
        "harmonics, float64": in_batches(harmonics),
        "harmonics by SciPy, float64": lambda: compute_by_scipy(few, num_degrees),
    }
    if importlib.util.find_spec("sphericart"):
        contenders["harmonics by sphericart-torch, float64"] = in_batches(
            make_sphericart(num_degrees)
        )
    with torch.inference_mode():
        rounds = time_in_turns(contenders, num_rounds=NUM_ROUNDS)
        single = folded.embed_grid(longitude, latitude).flatten(0, 1)
        crossings = torch.cartesian_prod(latitude, longitude).flip(1)
        difference = (single - folded.embed(crossings)).abs().max().item()
    seconds = {name: min(values) for name, values in rounds.items()}
    return summarise(encoder, seconds, grid_cells=len(longitude) * len(latitude)) | {
        "largest difference of grid and scattered": float(f"{difference:.1e}"),
        **compare_with_the_module(encoder),
    }


def compare_with_the_module(encoder: LocationEncoder) -> dict[str, float]:
    """Time of ``embed`` over that of the module itself, for one place and for 200,000."""
    many = torch.tensor(draw_on_sphere(NUM_POINTS_MANY))
    pieces = many.split(1024)
    contenders = {
        "embed, 1 place": lambda: [embed(many[:1].numpy(), encoder) for _ in range(100)],
        "module, 1 place": lambda: [encoder(many[:1]) for _ in range(100)],
        "embed, 200,000 places": lambda: embed(many.numpy(), encoder),
        "module, 200,000 places": lambda: torch.cat([encoder(piece) for piece in pieces]),
    }
    with torch.inference_mode():
        rounds = time_in_turns(contenders, num_rounds=NUM_ROUNDS)
    return {
        f"embed / module, {places}": round(
            min(rounds[f"embed, {places}"]) / min(rounds[f"module, {places}"]), 2
        )
        for places in ("1 place", "200,000 places")
    }


def summarise(encoder: LocationEncoder, seconds: dict[str, float], *, grid_cells: int) -> dict:
    """Seconds as rates and ratios."""
    flop_per_s = {
        name: 4 * 2 * int(name.rsplit(" ", 1)[1]) ** 3 / spent
        for name, spent in seconds.items()
        if name.startswith("matrix product")
    }
    best = max(rate for name, rate in flop_per_s.items() if "bfloat16" not in name)
    network = encoder.network
    products = sum(layer.weight.numel() for layer in [*network.layers, network.last_layer])
    bound = best / (2 * products)
    counts = {
        "embed, float32, grid": grid_cells,
        "harmonics by SciPy, float64": NUM_POINTS_SLOW,
    }
    rates = {
        name: counts.get(name, NUM_POINTS) / spent
        for name, spent in seconds.items()
        if name not in flop_per_s
    }
    scattered, peer = rates["embed, float32, scattered"], "harmonics by sphericart-torch, float64"
    return {
        "matrix product, GFLOP/s": {
            name: round(rate / 1e9, 1) for name, rate in flop_per_s.items()
        },
        "bound by it, locations/s": round(bound),
        "locations/s": {name: round(rate) for name, rate in rates.items()},
        "share of the bound, scattered": round(scattered / bound, 3),
        "grid / scattered": round(rates["embed, float32, grid"] / scattered, 2),
        "harmonics, float32 / sphericart-torch, float64": peer in rates
        and round(rates["harmonics, float32"] / rates[peer], 2),
        "harmonics, float64 / sphericart-torch, float64": peer in rates
        and round(rates["harmonics, float64"] / rates[peer], 2),
    }


def measure_globe() -> dict:
    """A 0.25-degree globe, 721 x 1440, L = 40, to Zarr by the command line, in a fresh process."""
    with tempfile.TemporaryDirectory() as scratch:
        model, globe = Path(scratch) / "model", Path(scratch) / "globe.zarr"
        seconds, gib = run_fresh(GLOBE, save_pretrained(make_location_encoder(40), model), globe)
        stored = sum(x.stat().st_size for x in globe.rglob("*"))
    return {
        "cells": 721 * 1440,
        "seconds": round(seconds, 1),
        "peak memory, GiB": round(gib, 2),
        "on disk, GiB": round(stored / 2**30, 2),
    }


def list_bars(coarse: dict, fine: dict, globe: dict) -> list[Bar]:
    """Bars of the encoder at L = 10, the damped one at L = 40, and the globe."""
    one = max(x["embed / module, 1 place"] for x in (coarse, fine))
    many = coarse["embed / module, 200,000 places"]
    share, grid = fine["share of the bound, scattered"], fine["grid / scattered"]
    float32, float64 = (
        fine[f"harmonics, {dtype} / sphericart-torch, float64"] for dtype in ("float32", "float64")
    )
    difference = fine["largest difference of grid and scattered"]
    seconds, gib = globe["seconds"], globe["peak memory, GiB"]
    retrieving = fine["locations/s"]["embed with retrieval, float32, scattered"]
    what = "harmonics, L = 40, rate over sphericart-torch's in float64"
    beside = f"{float32} in float32, {float64} in float64"
    return [
        Bar("scattered, L = 40, float32, share of the bound", "0.6", f"{share}", share >= 0.6),
        Bar(what, "1", beside, float32 >= 1)
        if float32
        else Bar(what, "1", "sphericart-torch is not installed", None),
        Bar("embed over the module, one place, time", "3x", f"{one}x", one <= 3),
        Bar("embed over the module, 200,000 places, L = 10", "1x", f"{many}x", many <= 1),
        Bar("embed with retrieval, L = 40", "20,000/s", f"{retrieving:,}/s", retrieving >= 20_000),
        Bar("grid over scattered, locations per second", "2x", f"{grid}x", grid >= 2),
        Bar("grid against scattered", "1e-05", f"{difference:.0e}", difference <= 1e-5),
        Bar("0.25-degree globe to Zarr", "40 s", f"{seconds} s", seconds <= 40),
        Bar("its memory", "2 GiB", f"{gib} GiB", gib < 2),
    ]


def main() -> None:
    """Measure, and write the result."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    coarse, fine, globe = measure(10), measure(40), measure_globe()
    result = {
        "num_threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "L=10": coarse,
        "L=40": fine,
        "globe, 0.25 degrees, L=40": globe,
    }
    packages = ["torch", "numpy", "scipy", "zarr"]
    packages += ["sphericart-torch"] if importlib.util.find_spec("sphericart") else []
    save_result("embed", result, bars=list_bars(coarse, fine, globe), packages=packages)


if __name__ == "__main__":
    main()
