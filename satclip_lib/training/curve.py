"""The training curve: one row per epoch, on disk and inside the state of a run."""

import time
from pathlib import Path

import pandas as pd
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from satclip_lib.files import write_atomically
from satclip_lib.progress import progress_bar

CURVE_NAME = "training_curve.csv"


class TrainingCurve(Callback):
    """One row per epoch, saved as CSV and inside the checkpoint, so that it survives a restart.

    Also shows a progress bar over the epochs.
    """

    def __init__(self, path: Path):
        self.path = path
        self.rows: list[dict[str, float]] = []

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Show the progress bar; it starts where an interrupted run stopped."""
        self._bar = progress_bar(
            total=trainer.max_epochs, initial=trainer.current_epoch, desc="epochs"
        )

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Close the progress bar."""
        self._bar.close()

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Add a row with the epoch's metrics and its duration in seconds."""
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
