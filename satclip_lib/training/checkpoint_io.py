"""Lightning's training checkpoints as safetensors instead of pickles."""

import json
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import CheckpointIO
from safetensors import safe_open
from safetensors.torch import save_file

from satclip_lib.checkpoints.download import CheckpointError, check_is_file
from satclip_lib.files import write_atomically


class SafetensorsCheckpointIO(CheckpointIO):
    """One file: tensors as tensors, everything around them as JSON in the file's header."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write the state of a run, whole or not at all.

        Raises:
            TypeError: If a value is neither a tensor nor made of plain Python types.
        """
        tensors: dict[str, torch.Tensor] = {}
        tree = json.dumps(_to_json(checkpoint, tensors))
        with write_atomically(path) as scratch:
            save_file(tensors, scratch, metadata={"tree": tree})

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, **_: Any
    ) -> dict[str, Any]:
        """Read it back; nothing in the file is executed.

        Raises:
            FileNotFoundError: If there is no such file.
            CheckpointError: If it is damaged.
        """
        check_is_file(Path(path))
        try:
            with safe_open(path, framework="pt") as file:
                return _from_json(json.loads(file.metadata()["tree"]), file)
        except Exception as error:  # whatever the readers of safetensors and JSON make of damage
            raise CheckpointError(
                f"{path} is no state of a training run ({error}): delete it, and the run starts "
                "anew"
            ) from error

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint that is no longer the best."""
        Path(path).unlink(missing_ok=True)


def _to_json(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Plain values as they are; the rest tagged ["kind", content], tensors put aside."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().clone().contiguous()
        return ["tensor", name]
    if isinstance(value, dict):
        return ["dict", [[_to_json(k, tensors), _to_json(v, tensors)] for k, v in value.items()]]
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return [kind, [_to_json(v, tensors) for v in value]]
    raise TypeError(f"a training checkpoint cannot hold a {type(value).__name__}: {value!r}")


def _from_json(tree: Any, file: Any) -> Any:
    if not isinstance(tree, list):
        return tree
    kind, content = tree
    if kind == "tensor":
        return file.get_tensor(content)
    if kind == "dict":
        return {_from_json(k, file): _from_json(v, file) for k, v in content}
    return {"list": list, "tuple": tuple}[kind](_from_json(v, file) for v in content)
