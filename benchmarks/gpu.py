"""Everything that a GPU is to show, in one run of minutes: ``python benchmarks/gpu.py``.

Measures the paper's whole recipe on cached features (100,000 pairs, batch 8,192, 500 epochs,
locations jittered) in float32, TF32 and bfloat16 with the held-out loss of each; the tiled loss
beside the textbook's; images per second of the three backbones; harmonics and embeddings per
second; and the memory that each takes. Needs PyTorch, NumPy and jaxtyping. Writes one entry of
``benchmarks/results/gpu.json``, keyed by the device.

Pairs are made here: features are smooth functions of the place with noise, so that there is
something to learn and a held-out loss means something.
"""

import argparse
import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pretrain import NUM_FEATURES, Run, cpu_name, has_bfloat16, measure, measure_matmul
from torch import Tensor

from satclip_lib.fast.tiled_loss import tiled_contrastive_loss
from satclip_lib.files import write_atomically
from satclip_lib.image_encoder import BACKBONES, make_image_encoder
from satclip_lib.location_encoder import LocationEncoder, LocationEncoderConfig
from satclip_lib.loss import contrastive_loss
from satclip_lib.training.batches import Batches

RESULT = Path(__file__).parent / "results" / "gpu.json"
JITTER_M = 1112.0  # 0.01 degree, the paper's
HELD_OUT_SHARE = 0.1


@dataclass(frozen=True)
class Sizes:
    """How much is measured; the defaults are for a GPU, and the recipe's are the paper's."""

    num_pairs: int = 100_000
    batch_size: int = 8192
    num_epochs: int = 500
    num_images: int = 256
    num_points: int = 1_000_000
    matmul_side: int = 8192
    repeats: int = 5


def measure_all(sizes: Sizes, *, device: str) -> dict[str, Any]:
    """One entry of the result: every measurement, and the seconds that it took."""
    start = time.perf_counter()
    modes = list_modes(device)
    pairs = make_pairs(sizes, device=device)
    entry = {
        "torch": torch.__version__,
        "sizes": asdict(sizes),
        "matmul_tflop_per_s": {
            mode: in_mode(mode, partial(measure_product, sizes.matmul_side, device)) / 1e12
            for mode in modes
        },
        "full_recipe": [
            measure_recipe(pairs, num_degrees, mode, sizes, device=device)
            for num_degrees in (10, 40)
            for mode in modes
        ],
        "loss": [
            measure_loss(name, mode, sizes, device=device)
            for name in ("textbook", "tiled")
            for mode in modes
        ],
        "backbones": [
            measure_backbone(name, mode, sizes, device=device)
            for name in BACKBONES
            for mode in modes
        ],
        "locations": [measure_locations(n, sizes, device=device) for n in (10, 40)],
    }
    return entry | {"seconds": round(time.perf_counter() - start, 1)}


def list_modes(device: str) -> list[str]:
    """Ways to multiply that the device has."""
    tf32 = ["tf32"] if device == "cuda" else []
    return ["float32", *tf32, *(["bf16"] if has_bfloat16(device) else [])]


def in_mode(mode: str, function: Callable[[torch.dtype | None], Any]) -> Any:
    """Call with the dtype of autocast, None for none, and with the mode's float32 products."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest" if mode == "float32" else "high")
    try:
        return function(torch.bfloat16 if mode == "bf16" else None)
    finally:
        torch.set_float32_matmul_precision(before)


def measure_product(side: int, device: str, dtype: torch.dtype | None) -> float:
    """FLOP/s of a square matrix product in a dtype, None for float32."""
    return measure_matmul(device, dtype or torch.float32, side=side)


def make_pairs(sizes: Sizes, *, device: str) -> tuple[np.ndarray, Tensor]:
    """Places, uniform on the sphere, and features ``(num_pairs, 512)`` that depend on them."""
    rng = np.random.default_rng(0)
    lon = rng.uniform(-180, 180, sizes.num_pairs)
    lat = np.degrees(np.arcsin(rng.uniform(-1, 1, sizes.num_pairs)))
    lonlat = np.stack([lon, lat], axis=1)
    hidden = LocationEncoder(LocationEncoderConfig(num_degrees=16))
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(16**2, NUM_FEATURES, generator=generator) / 4
    features = [
        torch.tanh(hidden.compute_harmonics(part).float() @ mixing)
        for part in torch.from_numpy(lonlat).split(8192)
    ]
    noise = torch.randn(sizes.num_pairs, NUM_FEATURES, generator=generator)
    return lonlat, (torch.cat(features) + noise / 2).to(device)


def measure_recipe(
    pairs: tuple[np.ndarray, Tensor], num_degrees: int, mode: str, sizes: Sizes, *, device: str
) -> dict[str, Any]:
    """The whole recipe, as training runs it: seconds, held-out loss, memory."""
    lonlat, features = pairs
    num_train = round(len(lonlat) * (1 - HELD_OUT_SHARE))
    batches = Batches(
        lambda rows, views: features[torch.from_numpy(rows).to(device)],
        lonlat,
        rows=np.arange(num_train),
        batch_size=sizes.batch_size,
        shuffle=True,
        jitter_m=JITTER_M,
    )

    def train(dtype: torch.dtype | None) -> dict[str, Any]:
        run = Run(num_degrees, device=device, dtype=dtype)
        encoder = run.model.location_encoder

        def step(images: Tensor, places: Tensor) -> None:
            run.step(images, encoder.compute_harmonics(places.to(device)))

        step(*next(iter(batches)))  # to warm up; one step more than the recipe has
        start_clock(device)
        start = time.perf_counter()
        for epoch in range(sizes.num_epochs):
            batches.set_epoch(epoch)
            for batch in batches:
                step(*batch)
        synchronize(device)
        seconds = time.perf_counter() - start
        held_out = slice(num_train, num_train + sizes.batch_size)
        run.model.eval()
        with torch.no_grad():
            places = torch.from_numpy(lonlat[held_out]).to(device)
            loss = contrastive_loss(
                run.model.image_projection(features[held_out]),
                encoder.embed_harmonics(encoder.compute_harmonics(places)),
                logit_scale=run.model.logit_scale,
            ).item()
        num_steps = sizes.num_epochs * len(batches)
        return {
            "seconds": round(seconds, 2),
            "ms_per_step": round(1000 * seconds / num_steps, 3),
            "samples_per_s": round(num_steps * batches.batch_size / seconds),
            "held_out_loss": round(loss, 4),
            "uniform_loss": round(float(np.log(len(places))), 4),
            "peak_gb": peak_gb(device),
        }

    return {"num_degrees": num_degrees, "mode": mode} | in_mode(mode, train)


def measure_loss(name: str, mode: str, sizes: Sizes, *, device: str) -> dict[str, Any]:
    """Forward and backward of one of the two losses, and how far its gradients are off."""
    loss_of = {"textbook": contrastive_loss, "tiled": tiled_contrastive_loss}[name]
    generator = torch.Generator().manual_seed(0)
    images, locations = (
        torch.randn(2, sizes.batch_size, 256, generator=generator).to(device).requires_grad_()
    )
    scale = torch.tensor(2.66, device=device)

    def compute(loss_of: Callable, dtype: torch.dtype | None = None) -> Tensor:
        autocast = torch.autocast(device, dtype) if dtype else nullcontext()
        with autocast:
            loss = loss_of(images, locations, logit_scale=scale)
        return torch.cat(torch.autograd.grad(loss, (images, locations)))

    def run(dtype: torch.dtype | None) -> dict[str, Any]:
        start_clock(device)
        seconds = min(
            measure(lambda: compute(loss_of, dtype), device=device, repeats=sizes.repeats)
        )
        gradients = compute(loss_of, dtype)
        return {"ms": round(1000 * seconds, 3), "peak_gb": peak_gb(device), "gradients": gradients}

    row = in_mode(mode, run)
    exact = in_mode("float32", lambda _: compute(contrastive_loss))
    error = (row.pop("gradients") - exact).norm() / exact.norm()
    return {"loss": name, "mode": mode} | row | {"gradient_error": float(f"{error:.2g}")}


def measure_backbone(name: str, mode: str, sizes: Sizes, *, device: str) -> dict[str, Any]:
    """Images per second of a frozen backbone on patches of 256 pixels, 224 for the transformer."""
    encoder = make_image_encoder(name, num_bands=13).to(device)
    side = encoder.size_px or 256
    images = torch.randn(sizes.num_images, 13, side, side, device=device)

    def run(dtype: torch.dtype | None) -> dict[str, Any]:
        def compute() -> Tensor:
            with torch.autocast(device, dtype) if dtype else nullcontext():
                return encoder(images)

        start_clock(device)
        with torch.inference_mode():
            seconds = min(measure(compute, device=device, repeats=sizes.repeats))
        return {"images_per_s": round(len(images) / seconds, 1), "peak_gb": peak_gb(device)}

    return {"backbone": name, "size_px": side, "mode": mode} | in_mode(mode, run)


def measure_locations(num_degrees: int, sizes: Sizes, *, device: str) -> dict[str, Any]:
    """Places per second, to harmonics and to embeddings, in batches."""
    encoder = LocationEncoder(LocationEncoderConfig(num_degrees=num_degrees)).to(device).eval()
    lonlat = torch.rand(sizes.num_points, 2, dtype=torch.float64, device=device) * 180 - 90
    rates = {}
    for name, function in (("harmonics", encoder.compute_harmonics), ("embeddings", encoder)):

        def run(function: Callable = function) -> None:
            for part in lonlat.split(sizes.batch_size):
                function(part)

        start_clock(device)
        with torch.inference_mode():
            seconds = min(measure(run, device=device, repeats=sizes.repeats))
        rates |= {f"{name}_per_s": round(len(lonlat) / seconds), f"{name}_peak_gb": peak_gb(device)}
    return {"num_degrees": num_degrees} | rates


def synchronize(device: str) -> None:
    """Wait for what the device was given to do."""
    if device == "cuda":
        torch.cuda.synchronize()


def start_clock(device: str) -> None:
    """Wait for what goes before, and forget its memory."""
    synchronize(device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def peak_gb(device: str) -> float | None:
    """Most memory of the device since the last :func:`start_clock`, GB; None on a CPU."""
    return round(torch.cuda.max_memory_allocated() / 1e9, 3) if device == "cuda" else None


def main() -> None:
    """Measure this machine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=RESULT)
    for name, value in asdict(Sizes()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    arguments = vars(parser.parse_args())
    device, out = arguments.pop("device"), arguments.pop("out")
    entry = measure_all(Sizes(**arguments), device=device)
    name = torch.cuda.get_device_name() if device == "cuda" else cpu_name()
    results = json.loads(out.read_text()) if out.is_file() else {}
    results[f"{device}: {name}"] = entry
    with write_atomically(out) as scratch:
        scratch.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
