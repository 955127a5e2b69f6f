"""Files and APIs on web servers: failed requests are repeated, and every answer is checked.

A request that fails is repeated after a pause. An answer must hold the bytes that were asked for,
of the same version of the file, not compressed, from the same host. All requests for one file
share a limit of time and of bytes, so that no server can hold a run up or fill its memory.

GDAL reads files through :class:`RemoteFile` rather than with its own HTTP reader, which was tried
and gave wrong pixels of a file that changed: see "The range reader" in ``benchmarks/RESULTS.md``.
"""

import asyncio
import functools
import itertools
import random
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
from fsspec.asyn import get_loop
from fsspec.spec import AbstractBufferedFile

HEAD_BYTES = 2**16  # the first request for a file; a COG has its table of contents there
MAX_BYTES = 2**26  # of one file or one search; a window of a scene needs about 2**20
MAX_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)


def sign_planetary_computer(href: str) -> str:
    """Sign the address of a file of the Planetary Computer; return any other as it is."""
    import planetary_computer  # here, because other catalogues do not need it

    return planetary_computer.sign_url(href)


@dataclass(frozen=True, kw_only=True)
class Access:
    """How to reach files and APIs, and how patiently.

    Attributes:
        sign: Function that turns the address of a file into one that may be read. It is called
            again when the server refuses the signature. The default signs files of the Planetary
            Computer and leaves all others as they are.
        timeout_s: Longest time for one request with its whole answer, seconds.
        total_s: Longest time from the first request to the last answer of one file or one search,
            seconds. If a server asks for a longer pause (``Retry-After``), that is an error.
        num_retries: Number of times that a failed request is repeated.
        backoff_s: Pause after the first failure, seconds. It doubles with each failure and has as
            much jitter on top.
    """

    sign: Callable[[str], str] = sign_planetary_computer
    timeout_s: float = 60.0
    total_s: float = 600.0
    num_retries: int = 6
    backoff_s: float = 1.0


class Exchange:
    """The requests for one file or one search, within one limit of time and of bytes.

    Args:
        access: How to reach the server.
        sign: Function that signs an address, as in ``Access``.
    """

    def __init__(self, access: Access, sign: Callable[[str], str] | None = None) -> None:
        self._access, self._sign, self._signed = access, sign or str, {}
        self._host, self._num_bytes = "", 0
        self._end_s = time.monotonic() + access.total_s

    def ask(
        self,
        href: str,
        check: Callable[[Any, bytes], None] = lambda headers, body: None,
        *,
        status: int = 200,
        max_bytes: int,
        **request: Any,
    ) -> bytes:
        """Ask until there is a good answer, or until retries, time or bytes run out.

        Args:
            href: Address before signing, on the same host in each call.
            check: Function of headers and body that raises ``OSError`` if they cannot be used.
            status: Status of a good answer.
            max_bytes: Largest number of bytes that the body may have, unpacked.
            request: ``method``, ``headers`` and ``json`` of the request.

        Returns:
            The body.

        Raises:
            FileNotFoundError: If there is no such file, or it is empty.
            OSError: If there is no good answer.
        """
        asked = self._ask_patiently(href, check, status, max_bytes, {"method": "GET"} | request)
        try:
            return asyncio.run_coroutine_threadsafe(asked, get_loop()).result()
        except TimeoutError:
            error = OSError(f"took longer than total_s={self._access.total_s:g} s")
        except OSError as reason:
            error = reason
        raise type(error)(f"{href}: {error}") from None  # a traceback would show the signature

    async def _ask_patiently(self, href, check, status, max_bytes, request) -> bytes:
        access, was_refused = self._access, False
        async with asyncio.timeout(self._end_s - time.monotonic()):
            for failure in itertools.count():
                pause_s = access.backoff_s * 2**failure * (1 + random.random())
                try:
                    async with asyncio.timeout(access.timeout_s):
                        url = self._signed.get(href) or await asyncio.to_thread(self._sign, href)
                        self._signed[href] = url
                        found, headers, body = await self._follow(url, status, max_bytes, request)
                    if found == status:
                        check(headers, body)
                        return body
                    reason = f"HTTP {found}, expected {status}"
                    if re.fullmatch(r"[0-9]{1,9}", wanted := headers.get("Retry-After", "")):
                        pause_s = max(pause_s, int(wanted))
                except FileNotFoundError:
                    raise
                except PermissionError as error:  # the signature may have expired
                    if was_refused:
                        raise
                    was_refused, pause_s, reason = True, 0.0, str(error)
                    self._signed.clear()
                except TimeoutError:
                    reason = f"no whole answer within timeout_s={access.timeout_s:g} s"
                except (aiohttp.ClientError, OSError, ValueError) as error:
                    reason = _describe(error)
                if failure >= access.num_retries + was_refused or self._num_bytes > MAX_BYTES:
                    raise OSError(f"{reason}, asked {failure + 1} times")
                if pause_s > self._end_s - time.monotonic():
                    raise OSError(f"{reason}, and a pause of {pause_s:.0f} s goes beyond total_s")
                await asyncio.sleep(pause_s)

    async def _follow(self, url, status, max_bytes, request) -> tuple[int, Any, bytes]:
        """Status, headers and body of the answer, after redirects on the same host."""
        session, body = _open_session(asyncio.get_running_loop()), bytearray()
        for _ in range(MAX_REDIRECTS + 1):
            self._host = self._host or urlsplit(url).netloc
            if urlsplit(url).netloc != self._host:
                raise PermissionError(f"sends on to another host, {urlsplit(url).netloc!r}")
            async with session.request(url=url, allow_redirects=False, **request) as answer:
                if answer.status in (404, 410, 416):  # 416: shorter than it must be, even empty
                    raise FileNotFoundError(f"HTTP {answer.status}")
                if 400 <= answer.status < 500 and answer.status not in (408, 429):
                    raise PermissionError(f"HTTP {answer.status}, expected {status}")
                if answer.status not in REDIRECTS:
                    while answer.status == status and (chunk := await answer.content.readany()):
                        body += chunk
                        self._num_bytes += len(chunk)
                        if len(body) > max_bytes or self._num_bytes > MAX_BYTES:
                            raise OSError(f"more than the {max_bytes} bytes that were asked for")
                    return answer.status, answer.headers, bytes(body)
                url = urljoin(url, answer.headers.get("Location", ""))
        raise PermissionError(f"sends on more than {MAX_REDIRECTS} times")


class RemoteFile:
    """A file on a web server, read by ranges; its ``open`` is an ``opener`` for ``rasterio.open``.

    A failure is kept in ``error``, and reading goes on as if the file ended there: GDAL, which
    reads this file, cannot pass an exception on.

    Args:
        href: Address of the file, before signing.
        access: How to reach it.

    Attributes:
        size: Number of bytes in the file.
        error: What went wrong last, or None.

    Raises:
        FileNotFoundError: If the file does not exist, or is empty.
        OSError: If the server keeps failing.
    """

    def __init__(self, href: str, access: Access) -> None:
        self.error: Exception | None = None
        self.name = f"{uuid.uuid4()}.tif"  # openers are told apart by what they open
        self._href, self._exchange = href, Exchange(access, access.sign)
        self.size, self._etag = 0, None  # set by the first answer
        self._head = self._fetch(0, HEAD_BYTES)

    def open(self, name: str, mode: str = "rb") -> "_RemoteReader":
        """Return a reader with a position of its own; files other than this one do not exist."""
        if not name.endswith(self.name):
            raise FileNotFoundError(name)
        return _RemoteReader(self, name, mode, size=self.size, cache_type="none")

    def info(self, name: str) -> dict[str, Any]:
        """Name and size of the file, for fsspec, which keeps the position of a reader."""
        return {"name": name, "size": self.size}

    def read_range(self, start: int, stop: int) -> bytes:
        """Return the bytes from ``start`` to ``stop``, or none if the server fails."""
        if stop <= len(self._head):
            return self._head[start:stop]
        try:
            return self._fetch(start, stop)
        except Exception as error:  # GDAL cannot pass any on
            self.error = error
            return b""

    def _fetch(self, start: int, stop: int) -> bytes:
        return self._exchange.ask(
            self._href,
            functools.partial(self._check, start, stop),
            status=206,
            max_bytes=stop - start,
            headers={"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"},
        )

    def _check(self, start: int, stop: int, headers: Any, body: bytes) -> None:
        """See that an answer holds these bytes of the file, and that the file is still the same."""
        content_range, etag = headers.get("Content-Range", ""), headers.get("ETag")
        encoding = headers.get("Content-Encoding", "identity")
        size = int((re.findall(r"/([0-9]{1,15})$", content_range) or [0])[0])
        end = min(stop, size)
        version = (self.size, self._etag) if self.size else (size, etag)
        expected = f"bytes {start}-{end - 1}/{size}", end - start, "identity", version
        if (content_range, len(body), encoding, (size, etag)) != expected:
            raise OSError(
                f"asked for bytes from {start} to {stop - 1} of a file of (size, ETag) {version}, "
                f"got {len(body)} bytes, Content-Range={content_range!r}, "
                f"Content-Encoding={encoding!r}, ETag={etag!r}"
            )
        self.size, self._etag = version


class _RemoteReader(AbstractBufferedFile):
    def _fetch_range(self, start: int, end: int) -> bytes:
        return self.fs.read_range(start, end)


def _describe(error: Exception) -> str:
    """One line that shows no address, for that would show the signature."""
    if isinstance(error, aiohttp.InvalidURL):
        return "the address is not one of the web"
    text = getattr(error, "message", "") or str(error) or type(error).__name__
    return " ".join(text.split())[:200]


@functools.cache
def _open_session(loop: asyncio.AbstractEventLoop) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),  # set for each request
        trust_env=True,  # proxies
    )
