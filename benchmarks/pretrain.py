"""How near pretraining comes to the limit of the machine: ``python benchmarks/pretrain.py``.

Measures, in one run: one optimiser step at batch 8,192 with cached features, as a share of the
machine's own matrix product and beside the textbook loss; the full recipe of 100,000 pairs and 500
epochs, on a CPU projected from 20 epochs; images per second of the three frozen backbones;
harmonics and embeddings per second. Modes are float32, and bfloat16 on hardware that has it; on a
GPU also TF32, jittered locations and the memory of each part. Needs PyTorch, NumPy and jaxtyping.
Writes one entry of ``benchmarks/results/pretrain.json``, keyed by the device.

The pairs are synthetic: features are smooth functions of the place with noise, so that the held-out
loss can fall.
"""

import argparse
import json
import math
import os
import platform
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from common import draw_on_sphere
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from satclip_lib.fast.siren import run_siren
from satclip_lib.fast.tiled_loss import tiled_contrastive_loss
from satclip_lib.files import write_text
from satclip_lib.image_encoder import BACKBONES, make_image_encoder
from satclip_lib.location_encoder import LocationEncoder, LocationEncoderConfig
from satclip_lib.loss import contrastive_loss
from satclip_lib.model import SatCLIP
from satclip_lib.training.batches import Batches

RESULT = Path(__file__).parent / "results" / "pretrain.json"
NUM_EPOCHS, NUM_FEATURES = 500, 512
JITTER_M = {"cpu": 0.0, "cuda": 1112.0}  # 0.01 degree; without it harmonics are kept
DTYPES = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Sizes:
    """How much is measured; the defaults are for a CPU, and the batch is the paper's."""

    num_pairs: int = 100_000
    batch_size: int = 8192
    num_epochs: int = 20
    num_images: int = 16
    num_points: int = 32_768
    matmul_side: int = 4096
    repeats: int = 5


ON_GPU = Sizes(num_epochs=500, num_images=256, num_points=1_000_000, matmul_side=8192)


class CachedFeatures(nn.Module):
    """Takes the place of the frozen backbone, whose features are given."""

    num_features, config = NUM_FEATURES, {}


class Run:
    """A model, its optimiser, and one step of it."""

    def __init__(self, num_degrees: int, *, device: str, mode: str):
        torch.manual_seed(0)
        self.encoder = LocationEncoder(LocationEncoderConfig(num_degrees=num_degrees))
        self.model = SatCLIP(CachedFeatures(), self.encoder).to(device).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        self.device, self.mode = device, mode

    def step(self, features: Tensor, places: Tensor, loss_of: Callable = tiled_contrastive_loss):
        """Forward, backward, update, from degrees or from harmonics."""
        if places.shape[1] == 2:
            places = self.encoder.compute_harmonics(places.to(self.device))
        with in_mode(self.mode, self.device):
            images = self.model.image_projection(features)
            locations = run_siren(self.encoder.network, self.encoder.damping(places))
            loss = loss_of(images, locations, logit_scale=self.model.logit_scale)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


@contextmanager
def in_mode(mode: str, device: str):
    """Products in float32, in TF32, or under autocast in bfloat16."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest" if mode == "float32" else "high")
    with torch.autocast(device, torch.bfloat16, enabled=mode == "bfloat16"):
        yield
    torch.set_float32_matmul_precision(before)


def list_modes(device: str) -> list[str]:
    """Types of matrix products that the device has hardware for."""
    if device == "cuda":
        return ["float32", "tf32", *(["bfloat16"] if torch.cuda.is_bf16_supported() else [])]
    flags = Path("/proc/cpuinfo")
    names = ("avx512_bf16", "amx_bf16", " bf16 ")
    has_bfloat16 = flags.is_file() and any(name in flags.read_text() for name in names)
    return ["float32", *(["bfloat16"] if has_bfloat16 else [])]


def measure(function: Callable, *, device: str, repeats: int) -> list[float]:
    """Seconds of each call, after one warm-up call; resets the peak of GPU memory."""
    seconds = []
    for repeat in range(repeats + 1):
        if device == "cuda":
            torch.cuda.synchronize()
        if device == "cuda" and repeat == 1:
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        function()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def peak_gb(device: str) -> dict[str, float]:
    """Peak GPU memory in GB during the last :func:`measure`; empty on a CPU."""
    on_gpu = device == "cuda"
    return {"peak_gb": round(torch.cuda.max_memory_allocated() / 1e9, 3)} if on_gpu else {}


def measure_product(mode: str, sizes: Sizes, *, device: str, repeats: int = 5) -> float:
    """FLOP/s of a square matrix product, the best of several."""
    side = sizes.matmul_side
    a, b = torch.randn(2, side, side, device=device).to(DTYPES[mode])
    with in_mode("float32" if mode == "float32" else "tf32", device):
        return 2 * side**3 / min(measure(lambda: a @ b, device=device, repeats=repeats))


def make_pairs(sizes: Sizes, *, device: str) -> tuple[np.ndarray, Tensor]:
    """Places, and features that depend on them: ``num_pairs`` pairs and a held-out batch."""
    lonlat = draw_on_sphere(sizes.num_pairs + sizes.batch_size)
    hidden = LocationEncoder(LocationEncoderConfig(num_degrees=16))
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(16**2, NUM_FEATURES, generator=generator) / 4
    features = [
        torch.tanh(hidden.compute_harmonics(part).float() @ mixing)
        for part in torch.from_numpy(lonlat).split(8192)
    ]
    noise = torch.randn(len(lonlat), NUM_FEATURES, generator=generator)
    return lonlat, (torch.cat(features) + noise / 2).to(device)


def count_flops(run: Run, batch: tuple[Tensor, Tensor]) -> int:
    """Floating-point operations of one step with the textbook loss."""
    with FlopCounterMode(display=False) as counter:
        run.step(*batch, loss_of=contrastive_loss)
    return counter.get_total_flops()


def measure_step(pairs: tuple, num_degrees: int, mode: str, sizes: Sizes, *, device: str) -> dict:
    """One optimiser step, in turns with the matrix product and with the textbook loss."""
    run = Run(num_degrees, device=device, mode=mode)
    places = torch.from_numpy(pairs[0][: sizes.batch_size]).to(device)
    batch = pairs[1][: sizes.batch_size], run.encoder.compute_harmonics(places)
    flops = count_flops(run, batch)
    rows = []
    for _ in range(sizes.repeats):  # in turns, because other programs come and go
        limit = flops / measure_product(mode, sizes, device=device)
        (textbook,) = measure(
            lambda: run.step(*batch, loss_of=contrastive_loss), device=device, repeats=1
        )
        (ours,) = measure(lambda: run.step(*batch), device=device, repeats=1)
        rows.append((limit, ours, textbook))
    limit, ours, textbook = (median(column) for column in zip(*rows, strict=True))
    return {
        "num_degrees": num_degrees,
        "dtype": mode,
        "gflop": round(flops / 1e9, 1),
        "matmul_gflop_per_s": round(flops / limit / 1e9, 1),
        "matmul_s": round(limit, 4),
        "step_s": round(ours, 4),
        "textbook_step_s": round(textbook, 4),
        "share_of_matmul_rate": round(median(row[0] / row[1] for row in rows), 3),
        "speedup_over_textbook": round(median(row[2] / row[1] for row in rows), 2),
    } | peak_gb(device)


def measure_recipe(pairs: tuple, num_degrees: int, mode: str, sizes: Sizes, *, device: str) -> dict:
    """Time whole epochs, after one that is not timed; compute the held-out loss after them."""
    lonlat, features = pairs
    num_train = sizes.num_pairs
    run = Run(num_degrees, device=device, mode=mode)
    batches = Batches(
        lambda rows, views: features[torch.from_numpy(rows).to(device)],
        lonlat, rows=np.arange(num_train), batch_size=sizes.batch_size, shuffle=True,
        jitter_m=JITTER_M[device],
    )  # fmt: skip
    harmonics = torch.cat(
        [
            run.encoder.compute_harmonics(place.to(device))
            for place in torch.from_numpy(lonlat).split(8192)
        ]
    )
    if not batches.jitter_m:
        batches.keep_harmonics(harmonics[:num_train])

    def epoch() -> None:
        batches.set_epoch(batches.epoch + 1)
        for batch in batches:
            run.step(*batch)

    limit = measure_product(mode, sizes, device=device)
    seconds = measure(epoch, device=device, repeats=sizes.num_epochs)
    memory = peak_gb(device)
    flops = count_flops(run, next(iter(batches))) * len(batches)
    run.model.eval()
    with torch.no_grad():
        loss = contrastive_loss(
            run.model.image_projection(features[num_train:]),
            run.encoder.embed_harmonics(harmonics[num_train:]),
            logit_scale=run.model.logit_scale,
        ).item()
    return {
        "num_degrees": num_degrees,
        "dtype": mode,
        "measured_epochs": sizes.num_epochs,
        "steps_per_epoch": len(batches),
        "seconds_per_epoch": round(median(seconds), 3),
        "projected_minutes_of_full_recipe": round(median(seconds) * NUM_EPOCHS / 60, 1),
        "minutes_at_matmul_rate": round(flops / limit * NUM_EPOCHS / 60, 1),
        "samples_per_s": round(len(batches) * batches.batch_size / median(seconds)),
        "held_out_loss": round(loss, 4),
        "uniform_loss": round(math.log(len(features[num_train:])), 4),
    } | memory


def measure_backbone(name: str, mode: str, sizes: Sizes, *, device: str) -> dict:
    """Images per second of a frozen backbone on patches of 256 pixels, 224 for the transformer."""
    encoder = make_image_encoder(name, num_bands=13).to(device)
    side = encoder.size_px or 256
    images = torch.randn(sizes.num_images, 13, side, side, device=device)
    with torch.inference_mode(), in_mode(mode, device):
        seconds = median(measure(lambda: encoder(images), device=device, repeats=3))
    rate = {"samples_per_s": round(len(images) / seconds, 1)} | peak_gb(device)
    return {"backbone": name, "size_px": side, "dtype": mode} | rate


def measure_locations(num_degrees: int, sizes: Sizes, *, device: str) -> dict:
    """Places per second, to harmonics and to embeddings, in batches."""
    encoder = LocationEncoder(LocationEncoderConfig(num_degrees=num_degrees)).to(device).eval()
    lonlat = torch.rand(sizes.num_points, 2, dtype=torch.float64, device=device) * 180 - 90
    parts, rates = lonlat.split(sizes.batch_size), {}
    for name, function in (("harmonics", encoder.compute_harmonics), ("embeddings", encoder)):
        with torch.inference_mode():
            seconds = measure(
                lambda function=function: [function(part) is None for part in parts],
                device=device,
                repeats=sizes.repeats,
            )
        rates[f"{name}_per_s"] = round(len(lonlat) / min(seconds))
    return {"num_degrees": num_degrees} | rates | peak_gb(device)


def measure_all(sizes: Sizes, *, device: str) -> dict[str, Any]:
    """One entry of the result."""
    modes, pairs = list_modes(device), make_pairs(sizes, device=device)
    degrees_and_modes = [(num_degrees, mode) for num_degrees in (10, 40) for mode in modes]
    steps, recipes = (
        [function(pairs, *each, sizes, device=device) for each in degrees_and_modes]
        for function in (measure_step, measure_recipe)
    )
    backbones = [measure_backbone(n, m, sizes, device=device) for n in BACKBONES for m in modes]
    cached = max(row["samples_per_s"] for row in recipes)
    resnet18 = max(row["samples_per_s"] for row in backbones if row["backbone"] == "resnet18")
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        **asdict(sizes),
        "one_step": steps,
        "full_recipe": recipes,
        "backbones": backbones,
        "locations": [measure_locations(n, sizes, device=device) for n in (10, 40)],
        "cached_over_per_step_backbone": round(cached / resnet18),  # each in its fastest dtype
    }


def cpu_name() -> str:
    """Model and number of cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores"


def main() -> None:
    """Measure this machine."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULT)
    for name, value in asdict(ON_GPU if device == "cuda" else Sizes()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    arguments = vars(parser.parse_args())
    out = arguments.pop("out")
    entry = measure_all(Sizes(**arguments), device=device)
    name = torch.cuda.get_device_name() if device == "cuda" else cpu_name()
    results = json.loads(out.read_text()) if out.is_file() else {}
    results[f"{device}: {name}"] = entry
    write_text(out, json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
