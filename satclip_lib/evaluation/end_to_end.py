"""The location encoder's architecture, trained on the task itself and on nothing else."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float64, Shaped
from sklearn.base import BaseEstimator

from satclip_lib.fast.seeded import Seeded
from satclip_lib.location_encoder import LocationEncoder, LocationEncoderConfig


@dataclass(kw_only=True, eq=False, repr=False)
class EndToEnd(BaseEstimator):
    """SIREN(SH(lon, lat)) with the target as its output: supervised learning from scratch.

    A pretrained encoder has to be better than this to be worth pretraining. The optimiser is AdamW
    with a learning rate that falls to zero along a cosine. The loss is the squared error of
    numbers, z-scored on the training points, or the cross-entropy of classes. Nothing is tuned.

    Attributes:
        kind: "regression" or "classification".
        num_degrees: Number of degrees of the harmonics.
        hidden_dim: Width of the two sine layers.
        num_steps: Number of steps of the optimiser.
        batch_size: Number of points per step, drawn with replacement.
        learning_rate: Learning rate at the start.
        seed: Random seed of weights and batches.
    """

    kind: Literal["regression", "classification"]
    num_degrees: int = 10
    hidden_dim: int = 128
    num_steps: int = 200
    batch_size: int = 256
    learning_rate: float = 1e-3
    seed: int = 0

    def fit(
        self,
        lonlat: Float64[np.ndarray, "num_train 2"],
        target: Shaped[np.ndarray, " num_train"],
    ) -> "EndToEnd":
        """Train from random weights."""
        if self.kind == "regression":
            self.mean_, self.std_ = target.mean(), target.std() or 1.0
            outputs = torch.tensor((target - self.mean_) / self.std_, dtype=torch.float32)
            num_outputs = 1
        else:
            self.classes_, index = np.unique(target, return_inverse=True)
            outputs, num_outputs = torch.from_numpy(index), len(self.classes_)
        config = LocationEncoderConfig(
            num_degrees=self.num_degrees,
            hidden_dim=self.hidden_dim,
            embed_dim=num_outputs,
            dropout=0.0,  # with half of so few units gone, numbers are not learned at all
        )
        generator = torch.Generator().manual_seed(self.seed)
        with Seeded(self.seed):
            model = LocationEncoder(config)
        harmonics = model.compute_harmonics(torch.from_numpy(lonlat))
        optimizer = torch.optim.AdamW(model.parameters(), lr=self.learning_rate, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.num_steps)
        for _ in range(self.num_steps):
            batch = torch.randint(len(lonlat), (self.batch_size,), generator=generator)
            predicted = model.embed_harmonics(harmonics[batch])
            if self.kind == "regression":
                loss = F.mse_loss(predicted[:, 0], outputs[batch])
            else:
                loss = F.cross_entropy(predicted, outputs[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        self.model_ = model.eval()
        return self

    def predict(
        self, lonlat: Float64[np.ndarray, "num_points 2"]
    ) -> Shaped[np.ndarray, " num_points"]:
        """Values or classes, in the form of the training targets."""
        with torch.inference_mode():
            outputs = self.model_(torch.from_numpy(lonlat)).numpy()
        if self.kind == "regression":
            return outputs[:, 0].astype(np.float64) * self.std_ + self.mean_
        return self.classes_[outputs.argmax(axis=1)]
