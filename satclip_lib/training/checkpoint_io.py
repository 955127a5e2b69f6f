"""Write the state of a training run whole or not at all, and read it without running code."""

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from satclip_lib.checkpoints.download import CheckpointError, check_is_file
from satclip_lib.files import write_atomically


class WholeCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint files, which stay whole if the run is killed or the disk is full."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write the state of a run, whole or not at all."""
        with write_atomically(path) as scratch:
            torch.save(checkpoint, scratch)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read the state; no code in the file is run, whatever ``weights_only`` is.

        Raises:
            FileNotFoundError: If there is no such file.
            CheckpointError: If it is damaged, or holds anything but tensors and plain values.
        """
        check_is_file(Path(path))
        try:
            return torch.load(path, map_location=map_location, weights_only=True)
        except Exception as error:  # whatever torch makes of damage; it advises to trust the file
            raise CheckpointError(
                f"{path} is no state of a training run, or damaged: delete it, and the run starts "
                "anew"
            ) from error
