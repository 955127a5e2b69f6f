"""Servers that lie, stall or break off: nothing false is kept, and everything ends in time."""

import hashlib
import shutil
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants

from satclip_lib.checkpoints import download
from satclip_lib.checkpoints.download import CheckpointError, fetch_from_hub, find_checkpoint
from satclip_lib.checkpoints.published import save_published
from satclip_lib.location_encoder import LocationEncoder, LocationEncoderConfig

CONTENT = b""  # of the file that is asked for; set by the fixture


class _Server(BaseHTTPRequestHandler):
    """Serves one file, honestly or as ``behaviour`` says."""

    behaviour = "honest"
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        behaviour, body = self.behaviour, CONTENT
        headers = {"ETag": f'"{hashlib.sha256(CONTENT).hexdigest()}"', "X-Repo-Commit": "c0" * 20}
        is_first = self.path != "/elsewhere" and self.server.server_port == self.https_port
        if behaviour in ("http", "moved") and is_first:
            to = {"http": f"http://localhost:{self.http_port}"}
            headers["Location"] = to.get(behaviour, f"https://localhost:{self.https_port}")
            headers["Location"] += "/elsewhere"
            headers["X-Linked-Size"] = str(len(CONTENT))
            return self._answer(302, headers, b"")
        if behaviour == "gone":
            return self._answer(404, {}, b"<html>not here")
        if behaviour == "web page":
            body, headers["ETag"] = b"<html>log in</html>".ljust(len(CONTENT)), '"1"'
        if behaviour == "flipped":
            body = body[:200] + bytes([body[200] ^ 1]) + body[201:]
        if behaviour == "silent" and self.command == "GET":
            time.sleep(2.5)
        if behaviour == "cut" and self.command == "GET":
            return self._answer(200, headers, body[:-500], length=len(body))
        if behaviour in ("no length", "endless", "drip") and self.command == "GET":
            return self._stream(body)
        return self._answer(200, headers, body)

    def _answer(self, status, headers, body, *, length=None):
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(length or len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
        self.close_connection = True

    def _stream(self, body):
        """Without a length: half a file, a file without end, or a byte now and then."""
        self.send_response(200)
        self.end_headers()
        if self.behaviour == "no length":
            self.wfile.write(body[: len(body) // 2])
        try:
            while self.behaviour != "no length":
                self.wfile.write(b"PK" * (1 if self.behaviour == "drip" else 30_000))
                time.sleep(0.02)
        except OSError:  # the client has gone
            pass
        self.close_connection = True

    def log_message(self, *arguments):
        pass


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
def address(certificate, monkeypatch, tmp_path):
    """A server on https (and one on http) that the clients trust; caches are empty."""
    torch.manual_seed(0)
    config = LocationEncoderConfig(
        num_degrees=4, embed_dim=6, hidden_dim=16, convention="satclip-analytic"
    )
    path = save_published(LocationEncoder(config), tmp_path / "model.ckpt")
    monkeypatch.setitem(globals(), "CONTENT", path.read_bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    servers = [ThreadingHTTPServer(("localhost", 0), _Server) for _ in range(2)]
    servers[0].socket = context.wrap_socket(servers[0].socket, server_side=True)
    _Server.https_port, _Server.http_port = (server.server_port for server in servers)
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    address = f"https://localhost:{servers[0].server_port}"
    monkeypatch.delenv("SATCLIP_OFFLINE")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("SATCLIP_PROGRESS", "0")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 1)
    monkeypatch.setattr(download, "TIMEOUT_S", 1.0)
    monkeypatch.setattr(download, "MAX_DOWNLOAD_BYTES", 10**6)
    monkeypatch.setattr(download, "MAX_REQUESTS", 4)
    huggingface_hub.close_session()
    yield address
    huggingface_hub.close_session()
    for server in servers:
        server.shutdown()
        server.server_close()


def _fetch(address, source):
    if source == "hub":
        return fetch_from_hub("somebody/places", "model.ckpt")
    return find_checkpoint(f"{address}/model.ckpt")


SAID = {
    "http": "sends us on to http://localhost.*not https",
    "gone": "404|cannot be downloaded: An error happened",
    "web page": "no .ckpt file but begins with b'<html>log",
    "flipped": "arrived damaged .its hash is not",
    "silent": "timed? ?out|cannot be downloaded",
    "cut": "bytes came: try again|breaks off again and again",
    "no length": "no .ckpt file|cannot be downloaded",
    "endless": "larger than 1,000,000 bytes",
    "drip": "bytes came in . s",
}


LIES = [
    (behaviour, source)
    for behaviour in SAID
    for source in ("address", "hub")
    if source == "address" or behaviour not in ("endless", "drip")  # it limits neither
]


@pytest.mark.parametrize(("behaviour", "source"), LIES)
def test_a_server_that_lies_leaves_nothing(address, monkeypatch, tmp_path, behaviour, source):
    """The fault is named, nothing is cached, and the next try gets the whole file."""
    monkeypatch.setattr(_Server, "behaviour", behaviour)
    start = time.monotonic()
    with pytest.raises((FileNotFoundError, CheckpointError), match=SAID[behaviour]) as caught:
        _fetch(address, source)
    assert time.monotonic() - start < 60 and "Traceback" not in str(caught.value)
    monkeypatch.setattr(_Server, "behaviour", "honest")
    assert _fetch(address, source).read_bytes() == CONTENT


@pytest.mark.parametrize("source", ["address", "hub"])
def test_redirects_to_https_are_followed(address, monkeypatch, source):
    """The Hub sends us on to its storage: as long as that is https, the file comes."""
    monkeypatch.setattr(_Server, "behaviour", "moved")
    assert _fetch(address, source).read_bytes() == CONTENT


def test_requests_of_others_are_not_watched(address):
    """Whoever else uses huggingface_hub in this process may speak http."""
    _fetch(address, "hub")
    answer = huggingface_hub.get_session().get(f"http://localhost:{_Server.http_port}/elsewhere")
    assert answer.content == CONTENT


def test_an_endpoint_without_scheme_is_explained(address, monkeypatch):
    """HF_ENDPOINT=hf-mirror.com is answered with what it should be."""
    monkeypatch.setattr(constants, "ENDPOINT", "hf-mirror.com")
    with pytest.raises(ValueError, match=r"HF_ENDPOINT must .*set it to https://hf-mirror\.com"):
        fetch_from_hub("somebody/places", "model.ckpt")
