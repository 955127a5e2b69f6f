"""Files on a web server, read by ranges, patiently.

Only the bytes that are needed are read, and each request is retried with exponential back-off and
jitter. GDAL reads through :class:`RemoteFile` rather than by its own HTTP reader, which remembers
failures, does not heed ``Retry-After`` and cannot renew a signature.
"""

import io
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import urllib3

HEAD_BYTES = 2**16  # of a file, fetched at once: a COG has its table of contents there


def sign_planetary_computer(href: str) -> str:
    """Sign the address of a file of the Planetary Computer; any other is returned as it is."""
    import planetary_computer  # here, because other catalogues do not need it

    return planetary_computer.sign_url(href)


@dataclass(frozen=True, kw_only=True)
class Access:
    """How to reach files and APIs, and how patiently.

    Attributes:
        sign: makes the address of a file one that may be read; called again when it has expired.
            The default signs files of the Planetary Computer and leaves all others as they are.
        timeout_s: of a connection, and of each read from it.
        num_retries: of each request.
        backoff_s: pause after the second failure, doubled each time, with as much jitter on top.
    """

    sign: Callable[[str], str] = sign_planetary_computer
    timeout_s: float = 60.0
    num_retries: int = 6
    backoff_s: float = 1.0

    def make_retries(self) -> urllib3.Retry:
        """The same for searches and for files; a server's ``Retry-After`` is heeded."""
        return urllib3.Retry(
            total=self.num_retries,
            backoff_factor=self.backoff_s,
            backoff_jitter=self.backoff_s,
            status_forcelist=(408, 429, 500, 502, 503, 504),
            allowed_methods=None,  # searches are POST, and change nothing
        )


class RemoteFile:
    """A file on a web server, read by ranges; its ``open`` is an ``opener`` for ``rasterio.open``.

    A failure is kept in ``error``, and reading goes on as if the file ended there: GDAL, which
    reads this file, cannot pass an exception on.

    Args:
        href: address, before signing.
        access: how to reach it.

    Raises:
        FileNotFoundError: if the file does not exist, or is empty.
        OSError: if the server keeps failing.
    """

    def __init__(self, href: str, access: Access) -> None:
        self.error: Exception | None = None
        self.name = f"{uuid.uuid4()}.tif"  # openers are told apart by what they open
        self._href, self._access = href, access
        self._url = access.sign(href)
        self._head, self.size = self._fetch(0, HEAD_BYTES)

    def open(self, name: str, mode: str = "rb") -> "_RemoteReader":
        """A reader with a position of its own; other files than this one do not exist."""
        if not name.endswith(self.name):
            raise FileNotFoundError(name)
        return _RemoteReader(self)

    def read_range(self, start: int, stop: int) -> bytes:
        """Bytes from ``start`` to ``stop``; none if the server fails."""
        if stop <= len(self._head):
            return self._head[start:stop]
        try:
            return self._fetch(start, stop)[0]
        except Exception as error:  # GDAL cannot pass any on
            self.error = error
            return b""

    def _fetch(self, start: int, stop: int) -> tuple[bytes, int]:
        """Bytes from ``start`` to ``stop``, and the size of the whole file."""
        response = self._request(start, stop)
        if response.status in (401, 403):  # the signature has expired
            self._url = self._access.sign(self._href)
            response = self._request(start, stop)
        if response.status in (404, 410, 416):  # 416: shorter than it must be, even empty
            raise FileNotFoundError(f"{self._href}: HTTP {response.status}")
        if response.status != 206:
            raise OSError(f"{self._href}: HTTP {response.status} to a range request, expected 206")
        return response.data, int(response.headers["Content-Range"].rpartition("/")[2])

    def _request(self, start: int, stop: int) -> urllib3.BaseHTTPResponse:
        try:
            return _connections().request(
                "GET",
                self._url,
                headers={"Range": f"bytes={start}-{stop - 1}"},
                retries=self._access.make_retries(),
                timeout=self._access.timeout_s,
            )
        except urllib3.exceptions.HTTPError as error:  # its text would show the signature
            raise OSError(f"{self._href}: {getattr(error, 'reason', error)}") from error


class _RemoteReader(io.RawIOBase):
    def __init__(self, remote: RemoteFile) -> None:
        self._remote, self._position = remote, 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        starts = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._remote.size}
        self._position = starts[whence] + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        start, end = self._position, self._remote.size
        stop = end if size < 0 else min(start + size, end)
        data = self._remote.read_range(start, stop) if start < stop else b""
        self._position += len(data)
        return data


@lru_cache(maxsize=1)
def _connections() -> urllib3.PoolManager:
    return urllib3.PoolManager(maxsize=64)
