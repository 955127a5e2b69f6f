"""Pretraining, from cached features to a checkpoint."""

import hashlib
import json
import logging
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import lightning
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn

from satclip_lib.checkpoint import CheckpointError, load_config, load_satclip, save_pretrained
from satclip_lib.files import write_atomically
from satclip_lib.location_encoder import LocationEncoder, LocationEncoderConfig
from satclip_lib.model import SatCLIP
from satclip_lib.progress import progress_bar
from satclip_lib.training.batches import Batches
from satclip_lib.training.checkpoint_io import SafetensorsCheckpointIO
from satclip_lib.training.features import FeatureStore
from satclip_lib.training.module import SatCLIPModule, Schedule

logger = logging.getLogger(__name__)

CURVE_NAME = "training_curve.csv"


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
        seed: of initialisation, order, jitter and dropout.
    """

    location_encoder: LocationEncoderConfig = field(default_factory=LocationEncoderConfig)
    batch_size: int = 8192
    num_epochs: int = 500
    learning_rate: float = 1e-4
    schedule: Schedule = "constant"
    weight_decay: float = 0.01
    jitter_m: float = 1112.0
    seed: int = 0


def make_model(config: PretrainingConfig, image_encoder: nn.Module) -> SatCLIP:
    """The untrained model of a run: same seed, same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return SatCLIP(image_encoder, LocationEncoder(config.location_encoder))


def pretrain(
    config: PretrainingConfig, store: FeatureStore, *, image_encoder: nn.Module, folder: Path
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

    Returns:
        ``folder``, with ``model.safetensors``, ``config.json`` and ``training_curve.csv``.

    Raises:
        ValueError: if ``store`` was not made with ``image_encoder``, or a split is too small.
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
    run_hash = hashlib.sha256(json.dumps(provenance, sort_keys=True).encode()).hexdigest()
    run_folder = folder.with_name(f".{folder.name}-{run_hash[:12]}")
    module = SatCLIPModule(
        make_model(config, image_encoder),
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        schedule=config.schedule,
        seed=config.seed,
    )
    curve = TrainingCurve(run_folder / CURVE_NAME)
    best, last = run_folder / "best.safetensors", run_folder / "last.safetensors"
    checkpoint_io = SafetensorsCheckpointIO()
    with _without_lightning_chatter():
        trainer = lightning.Trainer(
            max_epochs=config.num_epochs,
            devices=1,
            logger=TensorBoardLogger(folder.parent / "tensorboard", name=folder.name, version=""),
            callbacks=[
                curve,
                _keep_checkpoint(best, monitor="val_loss"),
                _keep_checkpoint(last, monitor=None),  # after the best, of which it keeps note
            ],
            plugins=[checkpoint_io],
            enable_progress_bar=False,  # TrainingCurve shows one, a line long
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
        )
        trainer.fit(
            module,
            train_dataloaders=_make_batches(config, store, train=True),
            val_dataloaders=_make_batches(config, store, train=False),
            ckpt_path=last if last.is_file() else None,
        )
    module.load_state_dict(checkpoint_io.load_checkpoint(best)["state_dict"])
    with write_atomically(folder) as scratch:
        save_pretrained(module.model, scratch, provenance=provenance)
        curve.save(scratch / CURVE_NAME)
    shutil.rmtree(run_folder)
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


def _make_batches(config: PretrainingConfig, store: FeatureStore, *, train: bool) -> Batches:
    return Batches(
        lambda rows: torch.from_numpy(store.features[rows]),
        store.lonlat,
        rows=np.flatnonzero(store.is_val != train),
        batch_size=config.batch_size,
        shuffle=train,
        jitter_m=config.jitter_m,
        seed=config.seed,
    )


def _is_finished(folder: Path, provenance: dict) -> bool:
    """Whether a whole checkpoint of just this run is there."""
    try:
        load_satclip(folder)
        return load_config(folder)["provenance"] == json.loads(json.dumps(provenance))
    except (FileNotFoundError, CheckpointError):
        return False
