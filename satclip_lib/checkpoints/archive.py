"""Read PyTorch's archives of tensors and plain values; no code is run, nothing is decompressed."""

import re
import threading
import zipfile
from collections import OrderedDict
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from satclip_lib.checkpoints.download import CheckpointError, check_is_file

MAX_PICKLE_BYTES = 2**18  # of all that is not a tensor; a whole ResNet-50 model needs 40 KB
PLAIN_TYPES = (str, bool, int, float, type(None))
PLAIN_DTYPES = {
    torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool,
}  # fmt: skip
WRAPPERS = ("module", "_orig_mod")  # DistributedDataParallel and torch.compile add these to names
_allow_list = threading.Lock()  # torch has one list of allowed globals for all threads

# Containers of hyper-parameters beside a plain dict. Each is read as an OrderedDict, so that
# neither Lightning nor any code of the file is needed.
CONTAINERS = (
    "argparse.Namespace",
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
)


def read_archive(path: Path) -> Any:
    """Content of a file that ``torch.save`` wrote; anything that would run code is an error.

    Args:
        path: Archive of PyTorch 1.6 or newer. Tensors are memory-mapped: those that are not used
            are not read.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If it is damaged, would run code, or would take more memory than its size.
    """
    check_is_file(path)
    with path.open("rb") as file:
        head = file.read(2)
    if head[:1] == b"\x80":
        raise CheckpointError(
            f"{path} is a bare pickle, which can run code when it is read: it was not read. "
            "Save it again with torch.save of PyTorch 1.6 or newer"
        )
    if head != b"PK":
        raise CheckpointError(f"{path} is not a PyTorch checkpoint: fetch it again")
    if not zipfile.is_zipfile(path):
        raise CheckpointError(
            f"{path} is truncated: it ends before its table of contents; delete it and fetch it "
            "again"
        )
    try:
        _check_records(path)
        with _allow_list, torch.serialization.safe_globals(_STAND_INS):
            return torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # whatever the readers of zip and pickle make of damage
        asked_for = re.search(r"GLOBAL (\S+)", str(error))
        if asked_for is None:
            reason = str(error).partition("\n")[0][:200]
            raise CheckpointError(
                f"{path} is damaged ({reason}): delete it and fetch it again"
            ) from error
        raise CheckpointError(
            f"{path} would run code: it asks for {asked_for[1]} when it is read, but a checkpoint "
            "may hold tensors and plain values only. Nothing was run. If you trust its source, "
            "remove that object where it was made and save it again; else delete it"
        ) from error


def is_plain(x: Any) -> bool:
    """Whether this is a dense tensor of a type that a layer can compute with."""
    return (
        isinstance(x, Tensor)
        and x.layout is torch.strided
        and x.dtype in PLAIN_DTYPES
        and not (x.is_nested or x.is_meta)
    )


def strip_wrappers(name: str) -> str:
    """A tensor's name without what DistributedDataParallel and torch.compile put into it."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def to_plain(value: Any) -> Any:
    """A hyper-parameter as JSON can hold it; of deeper nested values only the type is kept."""
    if isinstance(value, list | tuple | set):
        return tuple(x if isinstance(x, PLAIN_TYPES) else f"<{type(x).__name__}>" for x in value)
    if isinstance(value, torch.dtype | torch.device):
        return str(value)
    return value if isinstance(value, PLAIN_TYPES) else f"<{type(value).__name__}>"


def _check_records(path: Path) -> None:
    """Raise an error for compressed or overlapping records, and for a large pickle.

    torch would decompress records to any size, or take compressed bytes for numbers.
    """
    with zipfile.ZipFile(path) as archive:
        records = sorted(archive.infolist(), key=lambda record: record.header_offset)
        starts = [*(record.header_offset for record in records[1:]), archive.start_dir]
        for record, following in zip(records, starts, strict=True):
            name, end = record.filename, record.header_offset + 30 + record.file_size
            if record.compress_type != zipfile.ZIP_STORED or record.flag_bits & 1:
                fault = f"{name} is compressed and would take {record.file_size:,} bytes"
            elif end + len(name) > following:
                fault = f"{name} overlaps what follows it"
            elif name.endswith("data.pkl") and record.file_size > MAX_PICKLE_BYTES:
                fault = f"{name} holds {record.file_size:,} bytes beside the tensors"
            elif name.endswith("data.pkl") and b"bytearray\n" in archive.read(record):
                fault = f"{name} asks for a bytearray, which could be of any length"
            else:
                continue
            raise CheckpointError(
                f"{path} was not read, because {fault}: save it again with torch.save, or fetch it "
                "again"
            )


def _read_defaultdict(*_: Any) -> OrderedDict[str, Any]:
    return OrderedDict()


def _forget(*_: Any) -> None:
    """Stands for a type, such as the factory of a defaultdict."""


def _read_path(*parts: str) -> str:
    return str(PurePosixPath(*parts))[:4096]


class _NumpyType:
    """Stands for a NumPy dtype: a code such as "f8", to which its state adds the byte order."""

    def __init__(self, code: str, *_: Any):
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.code = state[1] + self.code


def _read_numpy_scalar(dtype: _NumpyType, data: bytes) -> bool | int | float | str:
    if not re.fullmatch(r"[<>|=]?(b1|[iu][1248]|f[248]|U\d{1,6})", dtype.code):
        raise ValueError(f"a NumPy number of type {dtype.code!r} among the hyper-parameters")
    value: bool | int | float | str = np.frombuffer(data, dtype.code)[0].item()
    return value


# Names that a pickle may refer to beside those that torch allows, each with a harmless stand-in.
_STAND_INS: list[Any] = [
    *((OrderedDict, name) for name in CONTAINERS),
    (_read_defaultdict, "collections.defaultdict"),
    *((_forget, f"builtins.{name}") for name in ("int", "float", "str", "list", "dict", "bool")),
    *(
        (_read_path, f"{module}.{name}")
        for module in ("pathlib", "pathlib._local")
        for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
    ),
    (_NumpyType, "numpy.dtype"),
    (_read_numpy_scalar, "numpy.core.multiarray.scalar"),
    (_read_numpy_scalar, "numpy._core.multiarray.scalar"),
]
