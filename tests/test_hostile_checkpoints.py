"""Checkpoints made to harm: each is refused with one sentence, fast, and in little memory."""

import json
import os
import pickle
import re
import resource
import signal
import struct
import time
import zipfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import processes
import pytest
import torch
from safetensors.torch import load_file, save_file
from small import make_encoder

from satclip_lib.checkpoints.archive import MAX_PICKLE_BYTES
from satclip_lib.checkpoints.assemble import MAX_HEADER_BYTES
from satclip_lib.checkpoints.download import CheckpointError
from satclip_lib.checkpoints.published import save_published
from satclip_lib.checkpoints.store import (
    convert_published,
    load_config,
    load_location_encoder,
    load_satclip,
    load_training_lonlat,
    save_pretrained,
    save_training_lonlat,
)
from satclip_lib.image_encoder import make_image_encoder
from satclip_lib.model import SatCLIP
from satclip_lib.training.checkpoint_io import WholeCheckpointIO

MAX_SECONDS = 5.0  # 2 on a quiet machine; on shared cores all takes twice as long
MAX_BYTES = 10**9
LAYER = "model.nnet.layers.0.bias"
LAST = "location_encoder.network.last_layer.weight"


# --- our format: what is put into a sound folder ---------------------------------------------


def _settings(change):
    """Something in config.json is replaced."""

    def spoil(folder):
        path = folder / "config.json"
        config = json.loads(path.read_text())
        change(config)
        path.write_text(json.dumps(config))

    return spoil


def _config(**changes):
    return _settings(lambda config: config["location_encoder"].update(changes))


def _image(**image_encoder):
    return _settings(lambda config: config.update(image_encoder=image_encoder))


def _json(text):
    return lambda folder: (folder / "config.json").write_text(text)


def _tensors(change):
    def spoil(folder):
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return spoil


def _tensor(make):
    """One of the tensors is replaced."""
    return _tensors(lambda tensors: tensors.update({LAST: make(tensors[LAST])}))


def _truncate(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def _header(**changes):
    """The safetensors header says other things than the file holds; numbers are its own."""

    def spoil(folder):
        path = folder / "model.safetensors"
        content = path.read_bytes()
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])
        header[LAST] |= changes
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])

    return spoil


def _weights(content):
    return lambda folder: (folder / "model.safetensors").write_bytes(content)


def _in_place_of(name, make):
    """A pipe, folder or device where a file belongs."""

    def spoil(folder):
        (folder / name).unlink()
        make(folder / name)

    return spoil


def _many_names(folder):
    tensors = {f"location_encoder.network.layers.{i}.weight": torch.zeros(1) for i in range(20_000)}
    save_file(tensors, folder / "model.safetensors")
    _config(num_hidden_layers=20_000)(folder)


OURS = {
    "num_degrees 3000": (_config(num_degrees=3000), r"\(16, 16\), expected \(16, 9000000"),
    "a million degrees": (_config(num_degrees=10**6), "expected"),
    "1e18 degrees": (_config(num_degrees=10**18), "num_degrees must be a whole number"),
    "a damped million": (
        _config(num_degrees=10**6, damping={"degree": 6.0, "learned": True}),
        "log_factors is missing",
    ),
    "a million layers": (_config(num_hidden_layers=10**6), "1,000,000 layers, but 6 tensors"),
    "20,000 layers": (_many_names, "header claims"),
    "wide": (_config(hidden_dim=10**6), r"expected \(1000000"),
    "long embedding": (_config(embed_dim=10**6), "expected"),
    "negative": (_config(hidden_dim=-16), "hidden_dim must be a whole number.* got -16"),
    "fraction": (_config(num_degrees=4.0), "num_degrees must be a whole number"),
    "true for a number": (_config(num_hidden_layers=True), "num_hidden_layers must be"),
    "text for a number": (_config(embed_dim="6"), "embed_dim must be"),
    "a list for a number": (_config(embed_dim=[[6]] * 1000), "embed_dim must be"),
    "nothing for a number": (_config(embed_dim=None), "embed_dim must be"),
    "NaN omega": (_config(first_omega=float("nan")), "first_omega must be .* got nan"),
    "dropout NaN": (_config(dropout=float("nan")), "dropout must be"),
    "damping NaN": (_config(damping={"degree": float("nan")}), "degree must be"),
    "damping learned how": (_config(damping={"learned": "yes"}), "learned must be true or false"),
    "damping a list": (_config(damping=[1]), "describes no model"),
    "unknown convention": (_config(convention=["x"]), "unknown convention"),
    "unknown setting": (_config(**{"../../etc/passwd": 1}), "describes no model"),
    "encoder a number": (_json('{"format": "satclip-lib/1", "location_encoder": 7}'), "no model"),
    "no encoder": (_json('{"format": "satclip-lib/1"}'), "describes no model"),
    "a list": (_json("[]"), "format None"),
    "format of a kind": (_json('{"format": [[["satclip-lib/1"]]]}'), "has format"),
    "deep JSON": (_json("[" * 100_000), "is not JSON"),
    "deep objects": (_json('{"a":' * 50_000 + "1" + "}" * 50_000), "is not JSON"),
    "long number": (_json("1" * 100_000), "is not JSON"),
    "long JSON": (_json('"' + "x" * MAX_HEADER_BYTES + '"'), "more than"),
    "UTF-16": (lambda f: (f / "config.json").write_text("{}", encoding="utf-16"), "is not JSON"),
    "other format": (_json('{"format": "other/3"}'), "'other/3', expected 'satclip-lib/1'"),
    "missing tensor": (_tensors(lambda x: x.pop(LAST)), r"last_layer\.weight is missing"),
    "unexpected tensor": (
        _tensors(lambda x: x.update({"location_encoder.extra": torch.zeros(1)})),
        "extra is not expected",
    ),
    "truncated": (
        lambda f: _truncate(f / "model.safetensors", 0.9),
        r"cannot read .*model\.safetensors",
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), r"cannot read .*safetensors"),
    "NaN weight": (_tensor(lambda x: x.fill_(torch.nan)), "holds NaN or inf"),
    "finite before the cast": (
        _tensor(lambda x: x.double().fill_(1e300)),
        r"last_layer\.weight holds more than torch\.float32 can",
    ),
    "complex": (_tensor(lambda x: x.to(torch.complex64)), r"holds torch\.complex64"),
    "integers": (_tensor(lambda x: x.to(torch.int8)), r"holds torch\.int8"),
    "8-bit floats": (_tensor(lambda x: x.to(torch.float8_e4m3fn)), r"holds torch\.float8"),
    "another rank": (_tensor(lambda x: x.reshape(1, 6, 16).clone()), "has shape"),
    "huge shape": (_header(shape=[10**6, 10**6]), "cannot read"),
    "overflowing shape": (_header(shape=[2**62, 8]), "cannot read"),
    "negative shape": (_header(shape=[-6, 16]), "cannot read"),
    "offsets beyond": (_header(data_offsets=[0, 10**12]), "cannot read"),
    "negative offsets": (_header(data_offsets=[-8, 376]), "cannot read"),
    "unknown dtype": (_header(dtype="F1024"), "cannot read"),
    "header of 1e18 bytes": (_weights(struct.pack("<Q", 10**18)), "header claims"),
    "header of 99 MB": (_weights(struct.pack("<Q", 99_000_000) + b" " * 200), "header claims"),
    "empty weights": (_weights(b""), "cannot read"),
    "deep header": (_weights(struct.pack("<Q", 50_000) + b"[" * 50_000), "cannot read"),
    "web page": (_weights(b"<!DOCTYPE html><html>404</html>"), "cannot read"),
    "pickle": (_weights(pickle.dumps({"a": 1})), "cannot read"),
    "config a pipe": (_in_place_of("config.json", os.mkfifo), "config.json is a folder, pipe"),
    "config a folder": (_in_place_of("config.json", os.mkdir), "config.json is a folder, pipe"),
    "weights a pipe": (_in_place_of("model.safetensors", os.mkfifo), "is a folder, pipe"),
    "weights a folder": (_in_place_of("model.safetensors", os.mkdir), "is a folder, pipe"),
    "weights a device": (
        _in_place_of("model.safetensors", lambda path: path.symlink_to("/dev/zero")),
        "is a folder, pipe or device",
    ),
}  # fmt: skip
IMAGE = {
    "no image tower": (
        lambda f: save_pretrained(make_encoder(), f),
        "holds a location encoder only",
    ),
    "infinite image weights": (
        _tensors(lambda x: x["image_projection.weight"].fill_(torch.inf)),
        "image_projection.weight holds NaN or inf",
    ),
    "image encoder a list": (_image(name=["rcf"]), "describes no model"),
    "image encoder a path": (_image(name="../../rcf"), "describes no model"),
    "1e12 bands": (_image(name="resnet18", num_bands=10**12), "does not fit its config"),
    "1e30 bands": (_image(name="resnet18", num_bands=10**30), "describes no model"),
    "-1 bands": (_image(name="vit_small_patch16_224", num_bands=-1), "describes no model"),
    "NaN features": (_image(name="rcf", num_random_features=float("nan")), "describes no model"),
    "1e12 features": (_image(name="rcf", num_random_features=10**12), "does not fit its config"),
}


# --- Lightning's format ---------------------------------------------------------------------


class _Asks:
    """Pickles as a call of a function that torch.load might agree to."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def _change(change):
    """The content of a sound checkpoint is changed and written again."""

    def spoil(path):
        checkpoint = torch.load(path, weights_only=True)
        change(checkpoint)
        torch.save(checkpoint, path)

    return spoil


def _hyper(**changes):
    return _change(lambda checkpoint: checkpoint["hyper_parameters"].update(changes))


def _state(make):
    def change(checkpoint):
        for name in [n for n in checkpoint["state_dict"] if n.endswith("last_layer.weight")]:
            checkpoint["state_dict"][name] = make(checkpoint["state_dict"][name])

    return _change(change)


def _shared(checkpoint):
    """A small file: 40 layers that are one and the same megabyte."""
    checkpoint["hyper_parameters"] |= {"capacity": 512, "num_hidden_layers": 40}
    weight = torch.zeros(512, 512)
    for prefix in ("model.nnet", "model.location.nnet"):
        for i in range(1, 40):
            checkpoint["state_dict"][f"{prefix}.layers.{i}.weight"] = weight


def _rezip(**options):
    """The same records, stored in another way."""

    def spoil(path):
        with zipfile.ZipFile(path) as archive:
            records = [(name, archive.read(name)) for name in archive.namelist()]
        with zipfile.ZipFile(path, "w", options.get("compression", zipfile.ZIP_STORED)) as archive:
            for name, content in records:
                archive.writestr(name, options.get(Path(name).name, content))

    return spoil


def _bomb(path):
    """A pickle of 256 MB that is 256 KB in the file."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("archive/data.pkl", "w", force_zip64=True) as record:
            for _ in range(64):
                record.write(bytes(2**22))
        archive.writestr("archive/version", "3\n")


def _overlap(path):
    """All records of the table of contents point to the first one."""
    content = bytearray(path.read_bytes())
    for entry in [match.start() for match in re.finditer(b"PK\x01\x02", content)]:
        content[entry + 42 : entry + 46] = bytes(4)
    path.write_bytes(content)


def _pickled(stream):
    """The pickle is a stream of opcodes that no honest writer makes."""
    return _rezip(**{"data.pkl": stream})


OPCODES = {
    "stack underflow": b"\x80\x02R.",
    "unknown memo": b"\x80\x02h\x07.",
    "unknown opcode": b"\x80\x02\xff.",
    "no end": b"\x80\x02]",
    "empty": b"",
    "long text": b"\x80\x02X\xff\xff\xff\xffabc.",
    "mark without end": b"\x80\x02" + b"(" * 100_000 + b".",
    "deep tuples": b"\x80\x02)" + b"\x85" * 200_000 + b".",
    "dense lists": b"\x80\x02" + b"]" * (MAX_PICKLE_BYTES // 2) + b".",
}


def _replace(content):
    return lambda path: torch.save(content, path)


LIGHTNING = {
    "cut at the end": (lambda path: _truncate(path, 0.99), "is truncated"),
    "cut in the middle": (lambda path: _truncate(path, 0.5), "is truncated"),
    "empty": (lambda path: path.write_bytes(b""), "is not a PyTorch checkpoint"),
    "a bare pickle": (
        lambda path: path.write_bytes(pickle.dumps(_Asks(os.abort))),
        "bare pickle, which can run code",
    ),
    "a web page": (lambda path: path.write_text("<html>gone"), "is not a PyTorch checkpoint"),
    "no state_dict": (_replace({"epoch": 1}), "is no SatCLIP checkpoint"),
    "no tensors": (_replace({"state_dict": {"x": 1}, "hyper_parameters": {}}), "is no SatCLIP"),
    "no settings": (_replace({"state_dict": {}, "hyper_parameters": None}), "is no SatCLIP"),
    "a list": (_replace([1, 2]), "is no SatCLIP checkpoint"),
    "a tensor": (_replace(torch.zeros(3)), "is no SatCLIP checkpoint"),
    "wrong shape": (_state(lambda x: x[:, 1:].clone()), r"shape \(6, 15\), expected \(6, 16\)"),
    "two versions": (
        _change(lambda c: c["state_dict"].update({LAYER: c["state_dict"][LAYER] + 1})),
        "two different versions of model",
    ),
    "two layers in words": (_hyper(num_hidden_layers="two"), "num_hidden_layers must be"),
    "zip bomb": (_bomb, r"data\.pkl is compressed and would take 268,435,456 bytes"),
    "compressed": (_rezip(compression=zipfile.ZIP_DEFLATED), "is compressed"),
    "compressed harder": (_rezip(compression=zipfile.ZIP_LZMA), "is compressed"),
    "overlapping": (_overlap, "was not read|is damaged"),
    "long pickle": (_pickled(b"\x80\x02" + b"N0" * MAX_PICKLE_BYTES + b"."), "beside the tensors"),
    "10 GB of bytes": (_hyper(x=_Asks(bytearray, 10**10)), "asks for a bytearray"),
    "10 GB of numbers": (_state(lambda x: torch.zeros(1).expand(50_000, 50_000)), "claim"),
    "one number for all": (_state(lambda x: x[:1, :1].clone().expand(6000, 16)), "claim"),
    "one layer for all": (_change(_shared), "smaller than its tensors claim"),
    "sparse": (_state(lambda x: x.to_sparse()), "sparse"),
    "compressed rows": (_state(lambda x: x.to_sparse_csr()), "sparse|is damaged"),
    "quantised": (
        _state(lambda x: torch.quantize_per_tensor(x.float(), 0.1, 0, torch.qint8)),
        "qint8",
    ),
    "meta": (_state(lambda x: x.to("meta")), "meta"),
    "nested": (_state(lambda x: torch.nested.nested_tensor([x, x[:2]])), "expected real numbers"),
    "weights a list": (_state(lambda x: x.tolist()), "no SatCLIP checkpoint"),
    "weights a path": (_state(lambda x: Path("/etc/passwd")), "no SatCLIP checkpoint"),
    "NumPy NaN width": (_hyper(capacity=np.float64("nan")), "hidden_dim must be"),
    "embed_dim an array": (_hyper(embed_dim=np.arange(3)), r"would run code.*_reconstruct"),
    "NumPy object": (_hyper(x=np.datetime64("2020-01-01")), "is damaged"),
    "a factory that runs": (_hyper(x=defaultdict(os.getcwd)), "would run code.*getcwd"),
    "eval": (_hyper(x=_Asks(eval, "1")), "would run code: it asks for eval"),
    "getattr": (_hyper(x=_Asks(getattr, "", "join")), "would run code"),
    "torch.load": (_hyper(x=_Asks(torch.load, "/dev/zero")), "would run code"),
    "two names": (
        _change(lambda c: c["state_dict"].update({f"module.{LAYER}": torch.ones(16)})),
        "two different versions",
    ),
    "names with slashes": (
        _change(lambda c: c["state_dict"].update({"model.nnet./../../x": torch.ones(1)})),
        r"\./\.\./\.\./x is not expected",
    ),
    "names of 100 KB": (
        _change(lambda c: c["state_dict"].update({"model.nnet." + "x" * 10**5: torch.ones(1)})),
        "x{150}",
    ),
    "a pipe": (_in_place_of("", os.mkfifo), "is a folder, pipe or device"),
    "a device": (_in_place_of("", lambda path: path.symlink_to("/dev/zero")), "pipe or device"),
    **{name: (_pickled(stream), "is damaged|no SatCLIP") for name, stream in OPCODES.items()},
}  # fmt: skip


def _load_whole(path):
    return load_satclip(path, image_encoder=True)


CASES = {
    **{f"ours: {name}": (*case, load_location_encoder) for name, case in OURS.items()},
    **{f"ours: {name}": (*case, _load_whole) for name, case in IMAGE.items()},
    **{f"lightning: {name}": (*case, load_location_encoder) for name, case in LIGHTNING.items()},
}


def _refuse_all(folder):
    """Try to load every hostile checkpoint: what was said, in how many seconds, and the peak."""
    torch.set_num_threads(1)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MAX_BYTES, resource.RLIM_INFINITY))
    model = SatCLIP(make_image_encoder("rcf"), make_encoder())
    seen = {}
    for index, (name, (spoil, _, load)) in enumerate(CASES.items()):
        if name.startswith("ours"):
            path = save_pretrained(model, folder / f"{index}")
        else:
            path = save_published(model.location_encoder, folder / f"{index}.ckpt")
        spoil(path)
        signal.alarm(30)  # kills this process where one waits for ever
        start = time.process_time()
        try:
            said = f"{load(path)} was loaded"
        except CheckpointError as error:
            said = str(error)
        except Exception as error:
            said = f"{type(error).__name__} instead of a CheckpointError: {error}"
        seen[name] = said, time.process_time() - start
        signal.alarm(0)
    return seen, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What happened in a process of its own that may map 1 GB."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs Linux, which limits and measures memory")
    return processes.run(_refuse_all, tmp_path_factory.mktemp("hostile"))


@pytest.mark.parametrize("name", CASES)
def test_hostile_checkpoints_are_refused(seen, name):
    """One sentence names the file and the fault, within seconds of this process's time."""
    said, seconds = seen[0][name]
    _, message, _ = CASES[name]
    assert re.search(message, said), said
    assert seconds < MAX_SECONDS
    assert len(said) < 1500 and "\n" not in said
    assert re.search("again|anew|delete|load it with", said)


def test_hostile_checkpoints_take_little_memory(seen):
    """All of them together stay below 1 GB, PyTorch itself included."""
    assert len(CASES) >= 60
    assert seen[1] < MAX_BYTES


@pytest.mark.parametrize("claim", ["rows", "text", "objects", "out of range"])
def test_hostile_training_locations_are_refused(tmp_path, claim):
    """A list of locations with a false header, or of other things, is refused before it is read."""
    folder = save_pretrained(make_encoder(), tmp_path / "model")
    path = folder / "training_lonlat.npy"
    save_training_lonlat(folder, np.zeros((3, 2)))
    assert load_training_lonlat(folder).shape == (3, 2)
    if claim == "rows":
        path.write_bytes(path.read_bytes().replace(b"(3, 2), }", b"(1" + b"0" * 12 + b", 2), }"))
    elif claim == "text":
        np.save(path, np.array([["a", "b"]]))
    elif claim == "objects":
        np.save(path, np.array([[{}, {}]]))
    else:
        np.save(path, np.full((3, 2), 1e300))
    with pytest.raises(CheckpointError, match=r"training_lonlat\.npy is damaged"):
        load_training_lonlat(folder)


STATES = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-10]),
    "empty": lambda path: path.write_bytes(b""),
    "no archive": lambda path: save_file({"a": torch.ones(1)}, path),
    "code": lambda path: torch.save({"a": print}, path),
    "a pipe": _in_place_of("", os.mkfifo),
}


@pytest.mark.parametrize("damage", STATES)
def test_hostile_training_states_are_refused(tmp_path, damage):
    """The state of an interrupted run that is damaged says so, whatever the caller allows."""
    path = tmp_path / "last.ckpt"
    WholeCheckpointIO().save_checkpoint({"a": torch.ones(9)}, path)
    STATES[damage](path)
    with pytest.raises(CheckpointError, match=r"last\.ckpt is .*(anew|again)"):
        WholeCheckpointIO().load_checkpoint(path, weights_only=False)


def test_what_is_nested_without_end_cannot_be_converted_into_a_bomb(tmp_path):
    """Lists in lists, 2**60 in all when written out, leave a word in the provenance."""
    nested = []
    for _ in range(60):
        nested = [nested, nested]
    path = save_published(make_encoder(), tmp_path / "model.ckpt")
    _hyper(x=nested, vision_layers=nested)(path)
    folder = convert_published(path, tmp_path / "ours")
    assert load_config(folder)["provenance"]["hyper_parameters"]["x"] == ["<list>", "<list>"]
