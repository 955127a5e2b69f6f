"""The training step, for Lightning."""

import math
from typing import Literal, get_args

import lightning
import torch
import torch.nn.functional as F
from torch import Tensor

from satclip_lib.loss import contrastive_loss
from satclip_lib.model import SatCLIP

TOP_K = (1, 10)
WARMUP_STEPS = 50

Schedule = Literal["constant", "cosine"]


class SatCLIPModule(lightning.LightningModule):
    """Trains a :class:`SatCLIP` on batches of (cached features or images, lonlat).

    Both kinds of batch give the same loss and gradients: features skip the frozen encoder.

    Args:
        model: its image encoder must be frozen.
        learning_rate: of AdamW.
        weight_decay: on matrices only, not on biases nor on the temperature.
        schedule: of the learning rate over the run: "constant" (the paper's), or "cosine":
            up in a straight line over the first ``WARMUP_STEPS``, then down to zero along half
            a cosine.
        seed: of dropout, renewed each epoch so that a resumed run continues the same curve.
    """

    def __init__(
        self,
        model: SatCLIP,
        *,
        learning_rate: float,
        weight_decay: float,
        schedule: Schedule,
        seed: int,
    ):
        super().__init__()
        if schedule not in get_args(Schedule):
            raise ValueError(f"unknown schedule {schedule!r}; choose from {get_args(Schedule)}")
        self.model = model
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.seed = seed

    def on_train_epoch_start(self) -> None:
        """Make order and dropout of this epoch depend on (seed, epoch) alone."""
        torch.manual_seed(hash((self.seed, self.current_epoch)))
        self.trainer.train_dataloader.set_epoch(self.current_epoch)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """Loss of one batch, scalar."""
        loss = contrastive_loss(*self._embed(batch), logit_scale=self.model.logit_scale)
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True)
        self.log("logit_scale", self.model.logit_scale, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        """Log the loss and how often the right location is among the k most similar."""
        images, locations = self._embed(batch)
        loss = contrastive_loss(images, locations, logit_scale=self.model.logit_scale)
        self.log("val_loss", loss, prog_bar=True, batch_size=len(images))
        ranks = rank_of_match(images, locations)
        for k in TOP_K:
            share = (ranks < k).float().mean()
            self.log(f"val_top{k}_accuracy", share, batch_size=len(images))

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
            lambda step: self._rate_factor(step),  # a method would go into the checkpoint
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

    def _embed(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        seen, lonlat = batch  # (batch, num_features) or (batch, bands, height, width); (batch, 2)
        is_features = seen.ndim == 2
        images = (
            self.model.image_projection(seen) if is_features else self.model.encode_images(seen)
        )
        return images, self.model.encode_locations(lonlat)


def rank_of_match(images: Tensor, locations: Tensor) -> Tensor:
    """How many other locations are at least as similar to image i as location i is, ``(batch,)``.

    Ties count against the match, so that embeddings that tell nothing retrieve nothing.
    """
    images = F.normalize(images, dim=-1)
    similarity = images @ F.normalize(locations, dim=-1).T  # (batch, batch)
    return (similarity >= similarity.diagonal()[:, None]).sum(dim=1) - 1
