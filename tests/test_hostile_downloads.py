"""Servers that lie, stall or break off: nothing false is kept, and everything ends in time."""

import hashlib
import shutil
import ssl
import subprocess
import time

import huggingface_hub
import pytest
from huggingface_hub import constants
from server import serve
from small import make_encoder

from satclip_lib import files
from satclip_lib.checkpoints import download
from satclip_lib.checkpoints.download import CheckpointError, fetch_from_hub, find_checkpoint
from satclip_lib.checkpoints.published import save_published
from satclip_lib.data import registry
from satclip_lib.data.registry import FileUnavailableError, HashMismatchError, RegisteredFile


class _Hub:
    """Serves one file, honestly or as ``lie`` says."""

    def __init__(self, content):
        self.content, self.lie, self.http, self.https = content, "honest", "", ""

    def __call__(self, method, path, headers, asked):
        content, lie = self.content, self.lie
        digest = hashlib.sha256(content).hexdigest()
        about = {"ETag": f'"{digest}"', "X-Repo-Commit": "c0" * 20, "Content-Length": len(content)}
        if lie in ("HTTP", "moved") and path != "/elsewhere":
            to = self.https if lie == "moved" else self.http.replace("http", "HTTP")
            moved = {"Location": f"{to}/elsewhere", "X-Linked-Size": len(content)}
            return 302, about | moved | {"Content-Length": 0}, b""
        if lie == "gone":
            return 404, {}, b""
        if lie == "web page":
            content, about["ETag"] = b"<html>log in</html>".ljust(len(content)), '"1"'
        if lie == "flipped":
            content = content[:200] + bytes([content[200] ^ 1]) + content[201:]
        if method == "HEAD":
            return 200, about, b""
        if lie == "silent":
            time.sleep(2.5)
        if lie == "cut":
            return 200, about, [content[:-500]]
        bodies = {
            "no length": [content[: len(content) // 2]],
            "endless": _send_slowly(b"PK" * 30_000),
            "drip": _send_slowly(b"PK"),
        }
        return (200, {}, bodies[lie]) if lie in bodies else (200, about, content)


def _send_slowly(block):
    while True:
        yield block
        time.sleep(0.02)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for localhost, made for this run."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("certificate")
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        "-keyout key.pem -out cert.pem -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def hub(certificate, monkeypatch, tmp_path):
    """A server on https (and one on http) that the clients trust; caches are empty."""
    hub = _Hub(save_published(make_encoder(), tmp_path / "model.ckpt").read_bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    monkeypatch.delenv("SATCLIP_OFFLINE")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("SATCLIP_PROGRESS", "0")
    with serve(hub) as hub.http, serve(hub, tls=context) as hub.https:
        template = hub.https + "/{repo_id}/resolve/{revision}/{filename}"
        for name, value in {
            "HF_HUB_CACHE": str(tmp_path / "hub"),
            "ENDPOINT": hub.https,
            "HUGGINGFACE_CO_URL_TEMPLATE": template,
            "HF_HUB_DOWNLOAD_TIMEOUT": 1,
            "HF_HUB_ETAG_TIMEOUT": 1,
        }.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(download, "MAX_REQUESTS", 4)
        monkeypatch.setattr(files, "TIMEOUT_S", 1.0)
        monkeypatch.setattr(download, "MAX_DOWNLOAD_BYTES", 10**6)
        file = RegisteredFile(
            name="model.ckpt", url=f"{hub.https}/model.ckpt", num_bytes=10**6, units=None,
            sha256=hashlib.sha256(hub.content).hexdigest(), licence="none", citation="nobody",
            content="a model",
        )  # fmt: skip
        monkeypatch.setattr(registry, "load_registry", lambda: {file.name: file})
        monkeypatch.delenv("SATCLIP_DATA_MIRROR", raising=False)
        huggingface_hub.close_session()
        yield hub
        huggingface_hub.close_session()


def _fetch(hub, source):
    if source == "registry":
        return registry.fetch_file("model.ckpt")
    if source == "hub":
        return fetch_from_hub("somebody/places", "model.ckpt")
    return find_checkpoint(f"{hub.https}/model.ckpt")


SOURCES = ("address", "hub", "registry")
SAID = {
    "HTTP": "(?i)sends us on to http://127.*not https",
    "gone": "404|cannot be downloaded: An error happened",
    "web page": "no .ckpt file but begins with b'<html>log|is not the registered",
    "flipped": "arrived damaged .its hash is not|is not the registered",
    "silent": "timed? ?out|cannot be downloaded",
    "cut": "bytes came: try again|breaks off again and again",
    "no length": "no .ckpt file|cannot be downloaded|is not the registered",
    "endless": "more than 1,000,000 bytes came",
    "drip": "bytes came in . s",
}
LIES = [(lie, source) for lie in SAID for source in SOURCES]
for lie in ("endless", "drip"):
    LIES.remove((lie, "hub"))  # it limits neither


@pytest.mark.parametrize(("lie", "source"), LIES)
def test_a_server_that_lies_leaves_nothing(hub, workspace, lie, source):
    """The fault is named, nothing is kept, and the next try gets the whole file."""
    hub.lie = lie
    start = time.monotonic()
    refusals = (FileNotFoundError, CheckpointError, FileUnavailableError, HashMismatchError)
    with pytest.raises(refusals, match=SAID[lie]) as caught:
        _fetch(hub, source)
    assert time.monotonic() - start < 60 and "Traceback" not in str(caught.value)
    assert not [path for path in workspace.glob("data/raw/*") if path.is_file()]
    hub.lie = "honest"
    assert _fetch(hub, source).read_bytes() == hub.content


@pytest.mark.parametrize("source", SOURCES)
def test_redirects_to_https_are_followed(hub, source):
    """The Hub sends us on to its storage: as long as that is https, the file comes."""
    hub.lie = "moved"
    assert _fetch(hub, source).read_bytes() == hub.content


def test_requests_of_others_are_not_watched(hub):
    """Whoever else uses huggingface_hub in this process may speak http."""
    _fetch(hub, "hub")
    answer = huggingface_hub.get_session().get(f"{hub.http}/elsewhere")
    assert answer.content == hub.content


def test_an_endpoint_without_scheme_is_explained(hub, monkeypatch):
    """HF_ENDPOINT=hf-mirror.com is answered with what it should be."""
    monkeypatch.setattr(constants, "ENDPOINT", "hf-mirror.com")
    with pytest.raises(ValueError, match=r"HF_ENDPOINT must .*set it to https://hf-mirror\.com"):
        fetch_from_hub("somebody/places", "model.ckpt")
