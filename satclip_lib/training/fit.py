"""Pretraining, from cached features to a checkpoint."""

import json
import logging
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import lightning
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn

from satclip_lib.checkpoints.store import (
    CheckpointError,
    load_config,
    load_location_encoder,
    save_pretrained,
    save_training_lonlat,
)
from satclip_lib.data.features import FeatureStore
from satclip_lib.files import fingerprint, write_atomically
from satclip_lib.location_encoder import LocationEncoder, LocationEncoderConfig
from satclip_lib.model import SatCLIP
from satclip_lib.progress import progress_bar
from satclip_lib.training.batches import Batches
from satclip_lib.training.checkpoint_io import SafetensorsCheckpointIO
from satclip_lib.training.image_components import ImageComponents
from satclip_lib.training.module import SatCLIPModule, Schedule, SoftTargetConfig

logger = logging.getLogger(__name__)

CURVE_NAME = "training_curve.csv"
MAX_HARMONICS_BYTES = 2**30  # of all locations, kept where they do not move


@dataclass(frozen=True)
class PretrainingConfig:
    """One pretraining run; the defaults are the paper's recipe, with 8,192 true negatives.

    Attributes:
        location_encoder: architecture of the location tower.
        batch_size: pairs per step, all of which contrast with each other.
        num_epochs: passes over the training split.
        learning_rate: of AdamW.
        schedule: of the learning rate, "constant" or "cosine", see :class:`SatCLIPModule`.
        weight_decay: of AdamW, on matrices only.
        jitter_m: training locations move by up to this many metres (1,112 m is 0.01 degree).
        soft_targets: How images that look alike share their locations; None aims at pairs alone,
            as the paper does.
        patience: epochs without a lower loss on the held-out blocks after which to stop; None
            never does.
        seed: of initialisation, order, jitter and dropout.

    Raises:
        ValueError: if a setting is impossible; names it.
    """

    location_encoder: LocationEncoderConfig = field(default_factory=LocationEncoderConfig)
    batch_size: int = 8192
    num_epochs: int = 500
    learning_rate: float = 1e-4
    schedule: Schedule = "constant"
    weight_decay: float = 0.01
    jitter_m: float = 1112.0
    soft_targets: SoftTargetConfig | None = None
    patience: int | None = None
    seed: int = 0

    def __post_init__(self):
        if self.num_epochs < 1:
            raise ValueError(f"num_epochs must be at least 1, got {self.num_epochs}")
        if self.patience is not None and self.patience < 1:
            raise ValueError(
                f"patience must be at least 1, or None never to stop early, got {self.patience}"
            )


def make_model(config: PretrainingConfig, image_encoder: nn.Module) -> SatCLIP:
    """The untrained model of a run: same seed, same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return SatCLIP(image_encoder, LocationEncoder(config.location_encoder))


def pretrain(
    config: PretrainingConfig,
    store: FeatureStore,
    *,
    image_encoder: nn.Module,
    folder: Path,
    precision: Literal["32-true", "bf16-mixed"] = "32-true",
    devices: int | str = "auto",
    num_nodes: int = 1,
) -> Path:
    """Train the projection, the location encoder and the temperature.

    The checkpoint holds the epoch with the lowest loss on the held-out blocks. A finished run is
    not repeated, and an interrupted one continues after its last whole epoch and gives the same
    curve, as long as configuration and features are the same.

    Args:
        config: of the run.
        store: features of the patches, with their training and validation split.
        image_encoder: the frozen encoder that made the features; it goes into the checkpoint.
        folder: becomes the checkpoint; the state of the run is kept beside it meanwhile.
        precision: of the matrix products; "bf16-mixed" is for hardware that has bfloat16.
        devices: processes, one per GPU; all of them contrast with each other, so a batch is
            shared out and the result does not depend on their number, but for dropout.
        num_nodes: machines, each started by ``torchrun`` or another launcher Lightning knows.

    Returns:
        ``folder``, with ``model.safetensors``, ``config.json``, ``training_curve.csv`` and the
        locations of the training split, by which embeddings know their limits.

    Raises:
        ValueError: if ``store`` was not made with ``image_encoder``, or a split is too small.
        FloatingPointError: if the run diverged; the state after its last good epoch is kept.
    """
    if store.features.shape[1] != image_encoder.num_features:
        raise ValueError(
            f"store holds {store.features.shape[1]} features per patch, image_encoder makes "
            f"{image_encoder.num_features}: pass the encoder the features were cached with"
        )
    folder = Path(folder)
    provenance = {"pretraining": asdict(config), "features": store.key}
    if _is_finished(folder, provenance):
        logger.info("%s is up to date", folder)
        return folder
    run_folder = folder.with_name(f".{folder.name}-{fingerprint(provenance)[:12]}")
    model = make_model(config, image_encoder)
    module = SatCLIPModule(
        model,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        schedule=config.schedule,
        seed=config.seed,
        components=_fit_components(config, store),
        soft_targets=config.soft_targets,
    )
    curve = TrainingCurve(run_folder / CURVE_NAME)
    best, last = run_folder / "best.safetensors", run_folder / "last.safetensors"
    checkpoint_io = SafetensorsCheckpointIO()
    stoppers = []
    if config.patience is not None:
        stoppers.append(EarlyStopping("val_loss", patience=config.patience))
    with _without_lightning_chatter():
        trainer = lightning.Trainer(
            max_epochs=config.num_epochs,
            devices=devices if torch.cuda.is_available() or devices != "auto" else 1,
            num_nodes=num_nodes,
            precision=precision,
            use_distributed_sampler=False,  # Batches shares itself out
            logger=TensorBoardLogger(folder.parent / "tensorboard", name=folder.name, version=""),
            callbacks=[
                curve,
                _keep_checkpoint(best, monitor="val_loss"),
                _keep_checkpoint(last, monitor=None),  # after the best, of which it keeps note
                *stoppers,
            ],
            plugins=[checkpoint_io],
            enable_progress_bar=False,  # TrainingCurve shows one, a line long
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
        )
        device = trainer.strategy.root_device
        load = _make_loader(store, device)
        harmonics = _compute_harmonics(model.location_encoder, store, device)
        trainer.fit(
            module,
            _make_batches(config, store, load, train=True, harmonics=harmonics),
            _make_batches(config, store, load, train=False, harmonics=harmonics),
            ckpt_path=last if last.is_file() else None,
        )
    if trainer.is_global_zero:
        module.load_state_dict(checkpoint_io.load_checkpoint(best)["state_dict"])
        with write_atomically(folder) as scratch:
            save_pretrained(module.model, scratch, provenance=provenance)
            save_training_lonlat(scratch, store.lonlat[~store.is_val])
            curve.save(scratch / CURVE_NAME)
        shutil.rmtree(run_folder)
    trainer.strategy.barrier()
    return folder


class TrainingCurve(Callback):
    """One row per epoch, saved as CSV and inside the checkpoint, so that it survives a restart.

    Also shows a progress bar over the epochs.
    """

    def __init__(self, path: Path):
        self.path = path
        self.rows: list[dict[str, float]] = []

    def on_train_start(self, trainer: lightning.Trainer, module: SatCLIPModule) -> None:
        """Show the bar, from where an interrupted run stopped."""
        self._bar = progress_bar(
            total=trainer.max_epochs, initial=trainer.current_epoch, desc="epochs"
        )

    def on_train_end(self, trainer: lightning.Trainer, module: SatCLIPModule) -> None:
        """Take the bar away."""
        self._bar.close()

    def on_train_epoch_start(self, trainer: lightning.Trainer, module: SatCLIPModule) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: SatCLIPModule) -> None:
        """Write down the epoch's metrics and how long it took."""
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        seconds = time.perf_counter() - self._start
        self.rows.append({"epoch": trainer.current_epoch, **metrics, "seconds": seconds})
        if trainer.is_global_zero:
            self.save(self.path)
        self._bar.set_postfix(loss=metrics["train_loss"], held_out=metrics["val_loss"])
        self._bar.update()

    def save(self, path: Path) -> None:
        """Write the curve so far."""
        with write_atomically(path) as scratch:
            pd.DataFrame(self.rows).to_csv(scratch, index=False)

    def state_dict(self) -> dict:
        """The rows, for the checkpoint."""
        return {"rows": self.rows}

    def load_state_dict(self, state: dict) -> None:
        """Continue the curve of an interrupted run."""
        self.rows = state["rows"]


def _keep_checkpoint(path: Path, *, monitor: str | None) -> ModelCheckpoint:
    """Keep in one file the epoch with the lowest value of a metric, or (None) the latest epoch."""
    keep = ModelCheckpoint(
        dirpath=path.parent,
        filename=path.stem,
        monitor=monitor,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    keep.FILE_EXTENSION = path.suffix
    return keep


@contextmanager
def _without_lightning_chatter() -> Iterator[None]:
    """Keep messages about hardware and other products out of notebooks, and three warnings.

    The frozen encoder is in eval mode, and an interrupted run's folder is not empty, on purpose;
    the third is Lightning 2.6 about torch 2.13.
    """
    chatter = logging.getLogger("lightning.pytorch")
    level = chatter.level
    chatter.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Found .* in eval mode")
            warnings.filterwarnings("ignore", message=".*LeafSpec")
            warnings.filterwarnings("ignore", message="Checkpoint directory .* is not empty")
            yield
    finally:
        chatter.setLevel(level)


def _make_loader(
    store: FeatureStore, device: torch.device
) -> Callable[[np.ndarray, np.ndarray], Tensor]:
    """What looks up features by row and view, for both splits."""
    views = store.views
    if device.type == "cuda":  # all of them, once: a batch is then a look-up in its memory
        on_device = torch.from_numpy(np.array(views)).to(device)

    def load(rows: np.ndarray, drawn: np.ndarray) -> Tensor:
        if device.type == "cuda":
            return on_device[torch.from_numpy(drawn).to(device), torch.from_numpy(rows).to(device)]
        return torch.from_numpy(views[drawn, rows])

    return load


def _make_batches(
    config: PretrainingConfig,
    store: FeatureStore,
    load: Callable[[np.ndarray, np.ndarray], Tensor],
    *,
    train: bool,
    harmonics: Tensor | None,
) -> Batches:
    return Batches(
        load,
        store.lonlat,
        rows=np.flatnonzero(store.is_val != train),
        batch_size=config.batch_size,
        shuffle=train,
        jitter_m=config.jitter_m,
        num_views=len(store.views),
        harmonics=harmonics,
        seed=config.seed,
    )


def _compute_harmonics(
    encoder: LocationEncoder, store: FeatureStore, device: torch.device
) -> Tensor | None:
    """Of all locations, unless they take too much memory."""
    if 4 * len(store.lonlat) * encoder.harmonics.num_features > MAX_HARMONICS_BYTES:
        return None
    batches = torch.from_numpy(store.lonlat).split(8192)
    return torch.cat([encoder.compute_harmonics(batch.to(device)) for batch in batches])


def _fit_components(config: PretrainingConfig, store: FeatureStore) -> ImageComponents | None:
    if config.soft_targets is None:
        return None
    features = torch.from_numpy(store.features[~store.is_val])
    return ImageComponents.fit(features, num_components=config.soft_targets.num_components)


def _is_finished(folder: Path, provenance: dict) -> bool:
    """Whether a whole checkpoint of just this run is there."""
    try:
        load_location_encoder(folder)
        return load_config(folder)["provenance"] == json.loads(json.dumps(provenance))
    except (FileNotFoundError, CheckpointError):
        return False
