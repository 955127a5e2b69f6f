"""How near pretraining comes to the limit of the machine: ``python benchmarks/pretrain.py``.

Measures, in one run: the machine's own matrix product; one optimiser step at batch 8,192 with
cached features, counted in floating-point operations and compared with that product and with
the textbook loss; whole epochs of the full recipe; and a step that runs the frozen backbone.
Needs PyTorch, NumPy and jaxtyping, so that it runs on any machine with a GPU too. Writes one
entry of ``benchmarks/results/pretrain.json``, keyed by the device.
"""

import argparse
import json
import math
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from satclip_lib.fast.siren import run_siren
from satclip_lib.fast.tiled_loss import tiled_contrastive_loss
from satclip_lib.files import write_atomically
from satclip_lib.image_encoder import make_image_encoder
from satclip_lib.location_encoder import LocationEncoder, LocationEncoderConfig
from satclip_lib.loss import contrastive_loss
from satclip_lib.model import SatCLIP
from satclip_lib.training.batches import Batches

RESULT = Path(__file__).parent / "results" / "pretrain.json"
NUM_PAIRS, NUM_EPOCHS, BATCH_SIZE, NUM_FEATURES = 100_000, 500, 8192, 512


class CachedFeatures(nn.Module):
    """Stands where the frozen backbone stands; its features are at hand."""

    num_features, config = NUM_FEATURES, {}


class Run:
    """A model, its optimiser, and one step of it."""

    def __init__(self, num_degrees: int, *, device: str, dtype: torch.dtype | None = None):
        torch.manual_seed(0)
        encoder = LocationEncoder(LocationEncoderConfig(num_degrees=num_degrees))
        self.model = SatCLIP(CachedFeatures(), encoder).to(device).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        self.device, self.dtype = device, dtype

    def step(self, features: Tensor, harmonics: Tensor, loss_of: Callable = tiled_contrastive_loss):
        """Forward, backward, update."""
        with torch.autocast(self.device, self.dtype, enabled=self.dtype is not None):
            images = self.model.image_projection(features)
            encoder = self.model.location_encoder
            locations = run_siren(encoder.network, encoder.damping(harmonics))  # as in training
            loss = loss_of(images, locations, logit_scale=self.model.logit_scale)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()


def measure(function: Callable, *, device: str, repeats: int) -> list[float]:
    """Seconds of each call, after one that does not count."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        function()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def measure_matmul(device: str, dtype: torch.dtype, *, side: int | None = None) -> float:
    """FLOP/s of a square matrix product, the best of several."""
    side = side or (8192 if device == "cuda" else 4096)
    a, b = torch.randn(2, side, side, device=device).to(dtype)
    return 2 * side**3 / min(measure(lambda: a @ b, device=device, repeats=5))


def make_batch(num_degrees: int, *, device: str) -> tuple[Tensor, Tensor]:
    """Features and harmonics of one batch."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(BATCH_SIZE, NUM_FEATURES, generator=generator)
    lonlat = torch.rand(BATCH_SIZE, 2, generator=generator) * 180 - 90
    harmonics = LocationEncoder(LocationEncoderConfig(num_degrees=num_degrees)).compute_harmonics(
        lonlat
    )
    return features.to(device), harmonics.to(device)


def measure_step(num_degrees: int, *, device: str, dtype: torch.dtype | None, repeats: int) -> dict:
    """One optimiser step, in turns with the matrix product and with the textbook loss."""
    run, batch = (
        Run(num_degrees, device=device, dtype=dtype),
        make_batch(num_degrees, device=device),
    )
    with FlopCounterMode(display=False) as counter:
        run.step(*batch, loss_of=contrastive_loss)
    flops = counter.get_total_flops()
    rows = []
    for _ in range(repeats):  # in turns, because other programs come and go
        limit = flops / measure_matmul(device, dtype or torch.float32)
        (ours,) = measure(lambda: run.step(*batch), device=device, repeats=1)
        (textbook,) = measure(
            lambda: run.step(*batch, loss_of=contrastive_loss), device=device, repeats=1
        )
        rows.append((limit, ours, textbook))
    limit, ours, textbook = (median(column) for column in zip(*rows, strict=True))
    return {
        "num_degrees": num_degrees,
        "dtype": str(dtype or torch.float32).removeprefix("torch."),
        "gflop": round(flops / 1e9, 1),
        "matmul_gflop_per_s": round(flops / limit / 1e9, 1),
        "matmul_s": round(limit, 4),
        "step_s": round(ours, 4),
        "textbook_step_s": round(textbook, 4),
        "share_of_matmul_rate": round(median(row[0] / row[1] for row in rows), 3),
        "speedup_over_textbook": round(median(row[2] / row[1] for row in rows), 2),
    }


def measure_epochs(
    num_degrees: int, *, device: str, dtype: torch.dtype | None, epochs: int
) -> dict:
    """Whole epochs of the full recipe; features and harmonics kept, batches as in training."""
    rng = np.random.default_rng(0)
    lonlat = np.stack([rng.uniform(-180, 180, NUM_PAIRS), rng.uniform(-90, 90, NUM_PAIRS)], axis=1)
    features = torch.randn(NUM_PAIRS, NUM_FEATURES, device=device)
    run = Run(num_degrees, device=device, dtype=dtype)
    encoder = run.model.location_encoder
    places = torch.from_numpy(lonlat).to(device).split(BATCH_SIZE)
    harmonics = torch.cat([encoder.compute_harmonics(place) for place in places])
    batches = Batches(
        lambda rows, views: features[torch.from_numpy(rows).to(device)],
        lonlat, rows=np.arange(NUM_PAIRS), batch_size=BATCH_SIZE, shuffle=True,
    )  # fmt: skip
    batches.keep_harmonics(harmonics)

    def epoch() -> None:
        batches.set_epoch(batches.epoch + 1)
        for batch in batches:
            run.step(*batch)

    limit = measure_matmul(device, dtype or torch.float32)
    seconds = measure(epoch, device=device, repeats=epochs)
    with FlopCounterMode(display=False) as counter:
        run.step(*next(iter(batches)), loss_of=contrastive_loss)
    flops = counter.get_total_flops() * len(batches)
    return {
        "num_degrees": num_degrees,
        "dtype": str(dtype or torch.float32).removeprefix("torch."),
        "measured_epochs": epochs,
        "steps_per_epoch": len(batches),
        "seconds_per_epoch": round(median(seconds), 3),
        "projected_minutes_of_full_recipe": round(median(seconds) * NUM_EPOCHS / 60, 1),
        "minutes_at_matmul_rate": round(flops / limit * NUM_EPOCHS / 60, 1),
        "samples_per_s": round(len(batches) * BATCH_SIZE / median(seconds)),
    }


def measure_backbone(*, device: str) -> dict:
    """Samples per second of a step that runs ResNet18 on patches, as the original does."""
    num_patches = 512 if device == "cuda" else 16
    encoder = make_image_encoder("resnet18", num_bands=13).to(device)
    images = torch.randn(num_patches, 13, 256, 256, device=device)
    with torch.no_grad():
        seconds = median(measure(lambda: encoder(images), device=device, repeats=3))
    return {
        "backbone": "resnet18",
        "size_px": 256,
        "samples_per_s": round(num_patches / seconds, 1),
    }


def has_bfloat16(device: str) -> bool:
    """Whether the processor multiplies bfloat16 itself, so that it is worth using."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported()
    flags = Path("/proc/cpuinfo")
    return flags.is_file() and any(
        name in flags.read_text() for name in ("avx512_bf16", "amx_bf16", " bf16 ")
    )


def main() -> None:
    """Measure this machine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    device = arguments.device
    if device == "cuda":
        torch.set_float32_matmul_precision("high")
    dtypes = [None, torch.bfloat16] if has_bfloat16(device) else [None]
    steps = [
        measure_step(num_degrees, device=device, dtype=dtype, repeats=5)
        for num_degrees in (10, 40)
        for dtype in dtypes
    ]
    full = [
        measure_epochs(10, device=device, dtype=dtype, epochs=arguments.epochs) for dtype in dtypes
    ]
    backbone = measure_backbone(device=device)
    fastest = max(row["samples_per_s"] for row in full)
    name = torch.cuda.get_device_name() if device == "cuda" else cpu_name()
    entry = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "has_bfloat16": len(dtypes) == 2,
        "batch_size": BATCH_SIZE,
        "uniform_loss": round(math.log(BATCH_SIZE), 3),
        "one_step": steps,
        "full_recipe": full,
        "per_step_backbone": backbone,
        "cached_over_per_step_backbone": round(fastest / backbone["samples_per_s"]),
    }
    results = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    results[f"{device}: {name}"] = entry
    with write_atomically(RESULT) as scratch:
        scratch.write_text(json.dumps(results, indent=2) + "\n")


def cpu_name() -> str:
    """Model and number of cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores"


if __name__ == "__main__":
    main()
