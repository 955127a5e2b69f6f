"""Pretraining, from cached features to a checkpoint."""

import json
import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger

from satclip_lib.checkpoints.store import (
    CheckpointError,
    load_config,
    load_location_encoder,
    save_pretrained,
    save_training_lonlat,
)
from satclip_lib.data.features import FeatureStore
from satclip_lib.embedding.retrieval import FeaturesAt, Retrieval, save_retrieval
from satclip_lib.fast.seeded import Seeded
from satclip_lib.files import fingerprint, hold_folder, write_atomically
from satclip_lib.image_encoder import ImageEncoder
from satclip_lib.location_encoder import LocationEncoder, LocationEncoderConfig
from satclip_lib.model import SatCLIP
from satclip_lib.training.batches import make_batches
from satclip_lib.training.checkpoint_io import WholeCheckpointIO
from satclip_lib.training.curve import CURVE_NAME, TrainingCurve
from satclip_lib.training.image_components import ImageComponents, order_dimensions
from satclip_lib.training.module import SatCLIPModule, Schedule, SoftTargetConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PretrainingConfig:
    """One pretraining run; the defaults are the paper's recipe, with 8,192 true negatives.

    Attributes:
        location_encoder: Architecture of the location tower.
        batch_size: Number of pairs per step, all of which contrast with each other.
        num_epochs: Number of passes over the training split.
        learning_rate: Largest learning rate of AdamW.
        schedule: Course of the learning rate, "constant" or "cosine", see :class:`SatCLIPModule`.
        weight_decay: Weight decay of AdamW, on matrices only.
        jitter_m: Largest distance in metres by which training locations move, north-south and
            east-west (1,112 m is 0.01 degree).
        soft_targets: How images that look alike share their locations; None takes the pairs as
            the only targets, as the paper does.
        retrieval: Whether the checkpoint keeps a map of what the images show, see
            :class:`~satclip_lib.embedding.retrieval.Retrieval`.
        patience: Number of epochs without a lower loss on the held-out blocks after which the run
            stops; None never stops early.
        seed: Random seed for initialisation, order, jitter and dropout.

    Raises:
        ValueError: If a setting is impossible; the message names it.
    """

    location_encoder: LocationEncoderConfig = field(default_factory=LocationEncoderConfig)
    batch_size: int = 8192
    num_epochs: int = 500
    learning_rate: float = 1e-4
    schedule: Schedule = "constant"
    weight_decay: float = 0.01
    jitter_m: float = 1112.0
    soft_targets: SoftTargetConfig | None = None
    retrieval: bool = False
    patience: int | None = None
    seed: int = 0

    def __post_init__(self):
        if self.num_epochs < 1:
            raise ValueError(f"num_epochs must be at least 1, got {self.num_epochs}")
        if self.patience is not None and self.patience < 1:
            raise ValueError(
                f"patience must be at least 1, or None never to stop early, got {self.patience}"
            )


def make_model(config: PretrainingConfig, image_encoder: ImageEncoder) -> SatCLIP:
    """The untrained model of a run; the same seed gives the same weights."""
    with Seeded(config.seed):
        return SatCLIP(image_encoder, LocationEncoder(config.location_encoder))


def pretrain(
    config: PretrainingConfig,
    store: FeatureStore,
    *,
    image_encoder: ImageEncoder,
    folder: Path,
    features_at: FeaturesAt | None = None,
    **hardware: Any,
) -> Path:
    """Train the projection, the location encoder and the temperature.

    The checkpoint holds the epoch with the lowest loss on the held-out blocks. A finished run is
    not repeated. An interrupted run continues after its last whole epoch and gives the same curve.
    Both need the same configuration and features.

    Args:
        config: Settings of the run.
        store: Features of the patches, with their training and validation split.
        image_encoder: Frozen encoder that made the features; it goes into the checkpoint.
        folder: Folder that becomes the checkpoint; the state of the run is kept beside it.
        features_at: Function from places to the features of images there, for the map of
            ``config.retrieval``, see :func:`satclip_lib.data.features.make_features_at`. None
            makes the map from the images of ``store`` alone.
        **hardware: Settings of the machine. ``precision``: type of the matrix products, "32-true",
            or "bf16-mixed" on hardware with bfloat16. ``devices``: number of processes on this
            machine, one per GPU. ``num_nodes``: number of machines, each started by ``torchrun`` or
            another launcher that Lightning supports. Each batch is divided among the processes,
            and all its pairs contrast with each other, so the result does not depend on the number
            of processes, except through dropout.

    Returns:
        ``folder``, with ``model.safetensors``, ``config.json``, ``training_curve.csv`` and the
        locations of the training split, which the uncertainty of embeddings needs. With
        ``config.retrieval`` also the map, which includes the held-out images, but no labels.

    Raises:
        ValueError: If ``store`` was not made with ``image_encoder``, or a split is too small.
        BlockingIOError: If another process is doing the same run.
        FloatingPointError: If the run diverges; the state after its last good epoch is kept.
    """
    if store.features.shape[1] != image_encoder.num_features:
        raise ValueError(
            f"store holds {store.features.shape[1]} features per patch, image_encoder makes "
            f"{image_encoder.num_features}: pass the encoder the features were cached with"
        )
    folder = Path(folder)
    provenance = {
        "pretraining": asdict(config),
        "features": store.key,
        "images": store.about["images"],
    }
    if config.retrieval:
        provenance["map"] = "images of all land" if features_at else "training images"
    if _is_finished(folder, provenance):
        logger.info("%s is up to date", folder)
        return folder
    run_folder = folder.with_name(f".{folder.name}-{fingerprint(provenance)[:12]}")
    best, last = run_folder / "best.ckpt", run_folder / "last.ckpt"
    components = None
    if soft := config.soft_targets:
        components = ImageComponents.fit(
            torch.from_numpy(store.features[~store.is_val]), num_components=soft.num_components
        )
    module = SatCLIPModule(
        make_model(config, image_encoder),
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        schedule=config.schedule,
        seed=config.seed,
        components=components,
        soft_targets=soft,
    )
    curve = TrainingCurve(run_folder / CURVE_NAME)
    with ExitStack() as held:
        with _without_lightning_chatter():
            trainer = _make_trainer(
                config, folder, callbacks=[curve, *_keep_checkpoints(best, last)], **hardware
            )
            if trainer.is_global_zero:
                held.enter_context(hold_folder(run_folder))
            batches = make_batches(
                store.views,
                store.lonlat,
                is_val=store.is_val,
                encoder=module.model.location_encoder,
                batch_size=config.batch_size,
                jitter_m=config.jitter_m,
                seed=config.seed,
                device=trainer.strategy.root_device,
            )
            trainer.fit(module, *batches, ckpt_path=_find_state(best, last))
        if trainer.is_global_zero:
            state = WholeCheckpointIO().load_checkpoint(best)
            module.load_state_dict(state["state_dict"])
            model = module.model.cpu()
            if config.location_encoder.ordered:
                order_dimensions(model, torch.from_numpy(store.features[~store.is_val]))
            with write_atomically(folder) as scratch:
                save_pretrained(model, scratch, provenance=provenance)
                if config.retrieval:
                    fitted = Retrieval.fit(
                        store.lonlat, store.features, features_at=features_at, seed=config.seed
                    )
                    save_retrieval(scratch, fitted)
                save_training_lonlat(scratch, store.lonlat[~store.is_val])
                curve.save(scratch / CURVE_NAME)
            shutil.rmtree(run_folder)
    trainer.strategy.barrier()
    return folder


def _make_trainer(
    config: PretrainingConfig,
    folder: Path,
    *,
    callbacks: list[Callback],
    precision: Literal["32-true", "bf16-mixed"] = "32-true",
    devices: int | str = "auto",
    num_nodes: int = 1,
) -> lightning.Trainer:
    if config.patience is not None:
        callbacks = [*callbacks, EarlyStopping("val_loss", patience=config.patience)]
    return lightning.Trainer(
        max_epochs=config.num_epochs,
        devices=devices if torch.cuda.is_available() or devices != "auto" else 1,
        num_nodes=num_nodes,
        precision=precision,
        use_distributed_sampler=False,  # Batches shares itself out
        logger=TensorBoardLogger(folder.parent / "tensorboard", name=folder.name, version=""),
        callbacks=callbacks,
        plugins=[WholeCheckpointIO()],
        enable_progress_bar=False,  # TrainingCurve shows one, a line long
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )


def _keep_checkpoints(best: Path, last: Path) -> list[ModelCheckpoint]:
    """Keep the epoch with the lowest held-out loss in one file, and the latest epoch in another."""
    options = {"save_on_train_epoch_end": True, "enable_version_counter": False}
    return [
        ModelCheckpoint(dirpath=path.parent, filename=path.stem, monitor=monitor, **options)
        for path, monitor in ((best, "val_loss"), (last, None))  # the last keeps note of the best
    ]


@contextmanager
def _without_lightning_chatter() -> Iterator[None]:
    """Hide messages about hardware and other products, and four warnings.

    Three warnings are about what is so on purpose: the frozen encoder is in eval mode, the folder
    of an interrupted run is not empty, and a logged value is not averaged over processes, because
    all have the same. The fourth is from Lightning 2.6 with torch 2.13.
    """
    chatter = logging.getLogger("lightning.pytorch")
    level = chatter.level
    chatter.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Found .* in eval mode")
            warnings.filterwarnings("ignore", message=".*LeafSpec")
            warnings.filterwarnings("ignore", message="Checkpoint directory .* is not empty")
            warnings.filterwarnings("ignore", message="It is recommended to use `self.log")
            yield
    finally:
        chatter.setLevel(level)


def _find_state(best: Path, last: Path) -> Path | None:
    """State of an interrupted run; None if there is none or it is damaged."""
    try:
        for path in (best, last):
            WholeCheckpointIO().load_checkpoint(path)
        return last
    except FileNotFoundError:
        return None
    except CheckpointError as error:
        logger.warning("the run starts anew: %s", error)
        return None


def _is_finished(folder: Path, provenance: dict) -> bool:
    """Whether the folder holds a complete checkpoint of exactly this run."""
    try:
        load_location_encoder(folder)
        return load_config(folder)["provenance"] == json.loads(json.dumps(provenance))
    except (FileNotFoundError, CheckpointError):
        return False
