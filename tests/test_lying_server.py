"""Servers that lie: no crash, no wrong pixel, bounded memory and time, one sentence of error."""

import gzip
import itertools
import json
import re
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import processes
import pytest
import rasterio
from affine import Affine
from server import serve

from satclip_lib.data.remote_file import Access
from satclip_lib.data.scenes import UnusableSceneError, cut_patch
from satclip_lib.data.sentinel2 import BAND_NAMES
from satclip_lib.data.stac import ScenePlan, draw_patch


def _sign(href):
    return f"{href}?signature=secret"


ACCESS = Access(sign=_sign, timeout_s=1.0, total_s=2.0, num_retries=2, backoff_s=0.01)
IN_A_HURRY = replace(ACCESS, timeout_s=0.3, total_s=0.6)  # for what is late in any case
OTHER_HOST = "http://127.0.0.2:9/file.tif"


def _say(data, start, stop, *, size=None, body=None, status=206, **headers):
    """Status, headers and body of an answer: the truth, but for what is given."""
    content_range = f"bytes {start}-{stop - 1}/{size or len(data)}"
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    body = data[start:stop] if body is None else body
    return status, {"Content-Range": content_range} | headers, body


def _drip(content):
    for number in content:
        time.sleep(0.05)
        yield bytes([number])


def _be_silent():
    time.sleep(2)
    yield b""


def _always(status, headers=(), body=b""):
    """The same answer to whatever is asked; a body that is used up is made anew each time."""
    return lambda *asked: (status, dict(headers), body() if callable(body) else body)


forever = itertools.repeat
HEAD = b"HTTP/1.1 206 OK\r\n"
BOMB = gzip.compress(bytes(2**20)) * 1024  # a gigabyte, where somebody unpacks it
LATE = r"no whole answer within|took longer than total_s=0\.6 s"
DAY = {"Retry-After": "86400"}

# What the server answers to a request for data[start:stop], and what the error says.
LIES = {
    "more bytes": (
        lambda d, a, b: _say(d, a, b, body=d[a:b] + b"?" * 200_000),
        r"more than the \d+ bytes that were asked for",
    ),
    "a longer range": (
        lambda d, a, b: _say(d, a, min(b + 9999, len(d))),
        "more than the|got .* bytes, Content-Range=",
    ),
    "fewer bytes": (lambda d, a, b: _say(d, a, b, body=d[a : b - 9]), r"got \d+ bytes"),
    "no bytes": (partial(_say, body=b""), "got 0 bytes"),
    "half of the range": (lambda d, a, b: _say(d, a, (a + b) // 2), r"got \d+ bytes"),
    "another start": (lambda d, a, b: _say(d, a + 1000, b + 1000), r"Content-Range='bytes \d+"),
    "bytes of another start": (
        lambda d, a, b: _say(d, a, b, body=d[a // 2 : a // 2 + b - a][::-1]),
        "B0[12] is damaged",
    ),
    "another size": (
        lambda d, a, b: _say(d, a, b, size=len(d) * (1 + (a > 0))),
        r"of a file of \(size, ETag\)",
    ),
    "a huge size": (partial(_say, size=10**40), r"\d+-\d+/1000"),
    "another version": (
        lambda d, a, b: _say(d, a, b, ETag=f'"{time.monotonic()}"'),
        r"of a file of \(size, ETag\)",
    ),
    **{
        f"Content-Range: {text}": (
            lambda d, a, b, text=text: _say(
                d, a, b, Content_Range=text.format(a=a, b=b - 1, size=len(d))
            ),
            re.escape(text.partition("{")[0]),
        )
        for text in ("bytes */*", "bytes */{size}", "bytes {a}-{b}/*", "bytes -9--1/-1", "")
    },
    "several parts": (
        _always(206, {"Content-Type": "multipart/byteranges; boundary=X"}, b"--X\r\n"),
        "Content-Range=''",
    ),
    "the whole file": (lambda d, a, b: (200, {}, d), "HTTP 200, expected 206"),
    "a login page": (_always(200, body=b"<html>"), "HTTP 200, expected 206"),
    "a page as the range": (
        lambda d, a, b: _say(d, a, b, body=(b"<html>" * len(d))[: b - a]),
        "B0[12] is damaged",
    ),
    "endless body": (partial(_say, body=forever(bytes(2**16))), "more than the"),
    "endless chunks": (
        partial(
            _say, body=forever(b"10000\r\n" + bytes(2**16) + b"\r\n"), Transfer_Encoding="chunked"
        ),
        "more than the",
    ),
    "endless headers": (
        _always(None, body=lambda: itertools.chain([HEAD], forever(b"A: b\r\n"))),
        "[Tt]oo many|Too large|more than",
    ),
    "an endless header": (
        _always(None, body=lambda: itertools.chain([HEAD + b"A: "], forever(b"b" * 999))),
        "more than",
    ),
    "gzip": (
        lambda d, a, b: _say(d, a, b, body=gzip.compress(d[a:b]), Content_Encoding="gzip"),
        "Content-Encoding='gzip'",
    ),
    "gzip bomb": (partial(_say, body=BOMB, Content_Encoding="gzip"), "more than the"),
    "not gzip": (partial(_say, Content_Encoding="gzip"), "Can not decode content-encoding: gzip"),
    "dripping body": (lambda d, a, b: _say(d, a, b, body=_drip(d[a:b])), LATE),
    "dripping headers": (_always(None, body=lambda: _drip(HEAD + b"A: b\r\n" * 99)), LATE),
    "silence": (_always(None, body=_be_silent), LATE),
    "a closed door": (_always(None, body=[]), "Server disconnected"),
    "a wait of a day": (
        _always(429, DAY),
        "HTTP 429, expected 206, and a pause of 86400 s goes beyond total_s",
    ),
    "a wait until when": (_always(503, {"Retry-After": "inf"}), "HTTP 503"),
    "another host": (
        _always(302, {"Location": OTHER_HOST}),
        r"sends on to another host, '127\.0\.0\.2:9'",
    ),
    "round and round": (
        _always(302, {"Location": "/file.tif?again"}),
        "sends on more than 5 times",
    ),
    "a redirect to nowhere": (_always(302), "sends on more than 5 times"),
    "a redirect to no address": (_always(302, {"Location": "http://[::b"}), "IPv6"),
    "a redirect to a file": (_always(302, {"Location": "file:///etc/passwd"}), "another host, ''"),
    "noise": (_always(None, body=[b"\0\xff" * 999]), "400|[Bb]ad|Invalid|Expected"),
    "a cut body": (
        lambda d, a, b: _say(d, a, b, body=iter([d[a : b - 9]]), Content_Length=b - a),
        "payload is not completed",
    ),
    "a lasting error": (_always(500), "HTTP 500, expected 206, asked 3 times"),
    "a lasting refusal": (_always(403), "HTTP 403"),
    "nothing there": (_always(404), "B0[12] is missing or empty"),
}


@pytest.fixture(scope="module")
def band(tmp_path_factory):
    """Pixels of a band, and its bytes without and with checksums of its four tiles."""
    pixels = np.random.default_rng(0).integers(1, 9999, (400, 400)).astype("uint16")
    profile = {"width": 400, "height": 400, "count": 1, "dtype": "uint16", "crs": "EPSG:32632"}
    profile |= {"transform": Affine(10, 0, 600000, 0, -10, 4000020), "tiled": True}
    paths = [tmp_path_factory.mktemp("band") / f"{name}.tif" for name in ("none", "deflate")]
    for path in paths:
        with rasterio.open(path, "w", "GTiff", compress=path.stem, **profile) as file:
            file.write(pixels, 1)
    return pixels, *(path.read_bytes() for path in paths)


def _run(function, *args):
    """Result of a function or text of its error, the seconds it took, peak memory in MB."""
    start = time.monotonic()
    try:
        result = function(*args)
    except (OSError, LookupError, UnusableSceneError) as error:
        result = str(error)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return result, time.monotonic() - start, peak_mb


@pytest.fixture(scope="module")
def run_apart(band):
    """Run a function in another process, and see that it stays within 60 s and 256 MB."""
    with ProcessPoolExecutor(1, mp_context=processes.context) as pool:
        with serve(_Scene(band[1], _say)) as url:  # load what reading needs
            *_, before_mb = pool.submit(_run, _cut, url).result()

        def run(function, *args):
            result, took_s, peak_mb = pool.submit(_run, function, *args).result()
            assert took_s < 60 and peak_mb - before_mb < 256
            return result

        yield run


class _Scene:
    """Answers for a file whose requests ``first`` to ``last`` are answered with a lie."""

    def __init__(self, data, lie, first=0, last=10**9):
        self.data, self.lie, self.lying, self.num_requests = data, lie, range(first, last + 1), 0

    def __call__(self, method, path, headers, asked):
        start, stop = map(int, re.findall(r"\d+", headers["range"]))
        number, self.num_requests = self.num_requests, self.num_requests + 1
        answer = self.lie if number in self.lying else _say
        return answer(self.data, start, min(stop + 1, len(self.data)))


def _cut(url, access=ACCESS):
    """Numbers and corner of a patch of a scene whose bands are all the same file."""
    item = {
        "id": "SCENE",
        "properties": {"datetime": "2021-06-01T10:00:00Z", "s2:processing_baseline": "03.00"},
        "assets": {name: {"href": f"{url}/file.tif"} for name in BAND_NAMES},
    }
    patch = cut_patch(item, None, np.random.default_rng(0), access)
    return patch.numbers, patch.transform.c, patch.transform.f


def _assert_right(result, pixels):
    numbers, left, top = result
    row, column = round((4000020 - top) / 10), round((left - 600000) / 10)
    expected = pixels[row : row + 256, column : column + 256]
    assert numbers.shape == (12, 256, 256) and (numbers == expected).all()


def _assert_one_sentence(error, expected):
    assert re.search(expected, error), error
    assert "\n" not in error and "secret" not in error and len(error) < 400


@pytest.mark.parametrize("name", LIES)
def test_a_lie_about_a_file_is_an_error_and_never_a_wrong_pixel(name, band, run_apart):
    """A server that lies from the first request on, from the third on, or once."""
    (pixels, plain, packed), (lie, expected) = band, LIES[name]
    data = packed if "damaged" in expected else plain  # only a checksum can tell
    for first, last in ((0, 10**9), (2, 10**9), (2, 2)):
        with serve(_Scene(data, lie, first, last)) as url:
            result = run_apart(_cut, url, IN_A_HURRY if expected == LATE else ACCESS)
        if isinstance(result, str):
            _assert_one_sentence(result, expected)
        else:
            assert first == last, "an error was expected"
            _assert_right(result, pixels)


def test_an_honest_server_gives_the_pixels(band, run_apart):
    """Also where it moves the file to another place on the same host."""
    with serve(_Scene(band[1], _say)) as url:
        _assert_right(run_apart(_cut, url), band[0])
    moved = iter([(307, {"Location": "/moved.tif"}, b"")])
    with serve(_Scene(band[1], lambda *asked: next(moved, None) or _say(*asked))) as url:
        _assert_right(run_apart(_cut, url), band[0])


def _sign_slowly(href):
    time.sleep(2)
    return href


def test_a_signature_that_does_not_come_is_an_error(band, run_apart):
    """Signing is a request too, and has the same limits."""
    with serve(_Scene(band[1], _say)) as url:
        error = run_apart(_cut, url, replace(IN_A_HURRY, sign=_sign_slowly))
    _assert_one_sentence(error, LATE)


def _make_page(url="", **page):
    """A page of 100 scenes; with the address of a next page."""
    links = [{"rel": "next", "href": url, "method": "POST", "body": {}}] if url else []
    features = [{"id": "X", "filler": "x" * 2000}] * 100
    return 200, {}, json.dumps({"features": features, "links": links} | page).encode()


# What the server answers to a search, and what the error says.
LIES_OF_SEARCHES = {
    "endless paging": (lambda url: _make_page(url), "more than 5000 scenes, its paging does not"),
    "pages elsewhere": (lambda url: _make_page(OTHER_HOST), "sends on to another host"),
    "pages on this machine": (lambda url: _make_page("/dev/zero"), "sends on to another host, ''"),
    "a redirect": (_always(307, {"Location": OTHER_HOST}), "another host"),
    "endless": (_always(200, body=forever(bytes(2**16))), "more than the 6291456 bytes"),
    "bomb": (_always(200, {"Content-Encoding": "gzip"}, BOMB), "more than the 6291456 bytes"),
    "many": (_always(200, body=b"[" + b"{}," * 2_000_000 + b"{}]"), "cannot search"),
    "dripping": (_always(200, body=lambda: _drip(b" " * 999)), LATE),
    "silence": (_always(None, body=_be_silent), LATE),
    "a wait of a day": (_always(429, DAY), "a pause of 86400 s goes beyond total_s"),
    "a page for people": (_always(200, body=b"<html>"), "Expecting value"),
    "deep": (_always(200, body=b"[" * 100_000), "recursion"),
    "not text": (_always(200, body=b"\xff" * 99), "decode"),
    "a list": (_always(200, body=b"[]"), "cannot search"),
    "no names": (lambda url: _make_page(features=[{}]), "cannot search"),
    "no objects": (lambda url: _make_page(features=[1]), "cannot search"),
    "a refusal": (_always(400), "HTTP 400, expected 200"),
}


def _draw(url, access):
    plan = ScenePlan(api_url=url, bbox=(10.0, 50.0, 11.0, 51.0), access=access)
    return draw_patch(plan, 0).provenance


@pytest.mark.parametrize("name", LIES_OF_SEARCHES)
@pytest.mark.parametrize("path", ["/search", "/"])
def test_a_lie_of_an_api_is_an_error(name, path, run_apart):
    """An API that lies when it is searched, or when it is opened."""
    lie, expected = LIES_OF_SEARCHES[name]

    def answer(method, asked_path, headers, asked):
        url = f"http://{headers['host']}"
        if asked_path == path:
            return lie(f"{url}/search")
        links = [{"rel": "search", "href": f"{url}/search", "type": "application/geo+json"}]
        about = {"type": "Catalog", "id": "X", "description": "X", "stac_version": "1.0.0"}
        return 200, {}, json.dumps(about | {"links": links, "conformsTo": []}).encode()

    with serve(answer) as url:
        error = run_apart(_draw, url, IN_A_HURRY if expected == LATE else ACCESS)
    _assert_one_sentence(error, expected if path == "/search" else "cannot open the STAC API")
