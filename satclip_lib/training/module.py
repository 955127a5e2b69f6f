"""The training step, for Lightning."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import lightning
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from satclip_lib.fast.siren import run_siren
from satclip_lib.fast.tiled_loss import tiled_contrastive_loss
from satclip_lib.loss import SoftTargets
from satclip_lib.model import SatCLIP
from satclip_lib.training.image_components import ImageComponents

TOP_K = (1, 10)
WARMUP_STEPS = 50
LARGEST_SCALE = 100.0  # of the logits; CLIP, arXiv 2103.00020, section 2.5

Schedule = Literal["constant", "cosine"]


@dataclass(frozen=True)
class SoftTargetConfig:
    """How images that look alike share their locations, see :class:`SoftTargets`.

    Attributes:
        weight: Share of the target that similar images get, above 0 and at most 1.
        temperature: Temperature of the similarity; with a lower one only very similar images share.
        num_components: Number of image components that are compared, see :class:`ImageComponents`.

    Raises:
        ValueError: If ``weight`` or ``temperature`` is out of its range.
    """

    weight: float = 0.5
    temperature: float = 0.1
    num_components: int = 16

    def __post_init__(self) -> None:
        if not 0 < self.weight <= 1:
            raise ValueError(
                f"weight of soft targets must be above 0 and at most 1, got {self.weight}; for "
                "none pass soft_targets=None"
            )
        if self.temperature <= 0:
            raise ValueError(
                f"temperature of soft targets must be positive, got {self.temperature}"
            )


class SatCLIPModule(lightning.LightningModule):
    """Trains a :class:`SatCLIP` on batches of (cached features or images, lonlat or harmonics).

    Cached or not, the loss and the gradients are the same: features skip the frozen image
    encoder, and harmonics the first half of the location encoder.

    Args:
        model: Model that is trained; its image encoder must be frozen.
        learning_rate: Largest learning rate of AdamW.
        weight_decay: Weight decay on matrices, not on biases nor on the temperature.
        schedule: Course of the learning rate: "constant" (the paper's), or "cosine", half a cosine
            down to zero, times a linear warm-up over the first ``WARMUP_STEPS`` steps.
        seed: Random seed for dropout. Each epoch has a seed derived from it, so that a resumed run
            continues the curve.
        components: Image components by which soft targets compare images; None takes the pairs as
            the only targets.
        soft_targets: Weight and temperature of the soft targets, with ``components``.

    Raises:
        FloatingPointError: While training, if the loss or a parameter is not finite.
    """

    def __init__(
        self,
        model: SatCLIP,
        *,
        learning_rate: float,
        weight_decay: float,
        schedule: Schedule,
        seed: int,
        components: ImageComponents | None = None,
        soft_targets: SoftTargetConfig | None = None,
    ):
        super().__init__()
        if schedule not in get_args(Schedule):
            raise ValueError(f"unknown schedule {schedule!r}; choose from {get_args(Schedule)}")
        self.model = model
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.seed = seed
        self.components, self.soft_targets = components, soft_targets
        self.generator = torch.Generator()  # of dropout on a CPU

    def on_train_epoch_start(self) -> None:
        """Seed dropout by (seed, epoch, process), and set the epoch that orders the batches."""
        trainer, batches = self.trainer, self.trainer.train_dataloader
        state = np.random.SeedSequence((self.seed, self.current_epoch, trainer.global_rank))
        seed = int(state.generate_state(1, np.uint64)[0] >> 1)
        self.generator.manual_seed(seed)
        if self.device.type != "cpu":
            torch.manual_seed(seed)
        batches.set_epoch(self.current_epoch)
        if trainer.world_size > 1:
            batches.share(trainer.global_rank, trainer.world_size)

    def on_train_epoch_end(self) -> None:
        """Raise an error before checkpoints are written if a parameter is not finite."""
        for name, parameter in self.named_parameters():
            if not parameter.isfinite().all():
                raise self._diverged(name)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """Loss of one batch, scalar."""
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=math.log(LARGEST_SCALE))  # as in CLIP
        features, images, locations = self._embed(batch)
        soft_targets = None
        if self.components is not None and self.soft_targets is not None:
            soft = self.soft_targets
            soft_targets = SoftTargets(self.components(features), soft.weight, soft.temperature)
        loss = tiled_contrastive_loss(
            images, locations, logit_scale=self.model.logit_scale, soft_targets=soft_targets
        )
        if not loss.isfinite():
            raise self._diverged("the loss")
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        """Log loss, logit scale, and how often the right location is among the k most similar.

        Soft targets are not used, and every process sees the whole split.
        """
        _, images, locations = self._embed(batch)
        loss = tiled_contrastive_loss(
            images, locations, logit_scale=self.model.logit_scale, gather=False
        )
        self.log("val_loss", loss, prog_bar=True, batch_size=len(images))
        ranks = rank_of_match(images, locations)
        for k in TOP_K:
            share = (ranks < k).float().mean()
            self.log(f"val_top{k}_accuracy", share, batch_size=len(images))
        self.log("logit_scale", self.model.logit_scale, batch_size=len(images))

    def configure_optimizers(self) -> dict:
        """AdamW without decay on biases and temperature, and the schedule of its rate."""
        trained = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in trained if p.ndim >= 2], "weight_decay": self.weight_decay},
                {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
            ],
            lr=self.learning_rate,
            fused=True,
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: self._rate_factor(step),  # a method would be saved in the checkpoint
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def _rate_factor(self, step: int) -> float:
        if self.schedule == "constant":
            return 1.0
        warmup = min(1.0, (step + 1) / WARMUP_STEPS)
        return warmup * (1 + math.cos(math.pi * step / self.trainer.estimated_stepping_batches)) / 2

    def _embed(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Image features, image embeddings and location embeddings."""
        seen, locations = batch
        # (batch, num_features) or (batch, bands, height, width); (batch, 2) or (batch, L**2)
        features = seen if seen.ndim == 2 else self.model.compute_image_features(seen)
        encoder = self.model.location_encoder
        if locations.shape[1] == 2:
            locations = encoder.compute_harmonics(locations)
        embeddings = run_siren(
            encoder.network, encoder.damping(locations), generator=self.generator
        )
        return features, self.model.image_projection(features), embeddings

    def _diverged(self, what: str) -> FloatingPointError:
        return FloatingPointError(
            f"{what} became NaN or infinite in epoch {self.current_epoch}: lower learning_rate "
            f"(now {self.learning_rate:g}), or damp the harmonics (damping). The state "
            "after the last whole epoch is kept"
        )


def rank_of_match(images: Tensor, locations: Tensor) -> Tensor:
    """Number of other locations at least as similar to image i as location i, ``(batch,)``.

    Ties count against the match, so that constant embeddings retrieve nothing.
    """
    images = F.normalize(images, dim=-1)
    similarity = images @ F.normalize(locations, dim=-1).T  # (batch, batch)
    return (similarity >= similarity.diagonal()[:, None]).sum(dim=1) - 1
