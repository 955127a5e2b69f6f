"""A web server on this machine that answers, honestly or not, whatever a test wants."""

import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


class _Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self):
        with suppress(OSError):  # the client has had enough
            while line := self.rfile.readline().decode():
                method, path, _ = line.split()
                headers = dict(_split_header(line) for line in iter(self.rfile.readline, b"\r\n"))
                asked = self.rfile.read(int(headers.get("content-length", 0)))
                status, headers, body = self.server.answer(method, path, headers, asked)
                if status:
                    if isinstance(body, bytes):
                        headers = {"Content-Length": len(body)} | headers
                    lines = [f"HTTP/1.1 {status} OK", *(f"{k}: {v}" for k, v in headers.items())]
                    self.wfile.write(("\r\n".join(lines) + "\r\n\r\n").encode())
                for block in [body] if isinstance(body, bytes) else body:
                    self.wfile.write(block)
                if not isinstance(body, bytes):
                    return


def _split_header(line: bytes) -> tuple[str, str]:
    name, _, value = line.decode().partition(":")
    return name.lower(), value.strip()


@contextmanager
def serve(answer: Callable, *, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Run a server; its address.

    Args:
        answer: Function of method, path, headers and body of a request. It returns a status (None
            to send nothing of the head), headers, and a body: bytes, or blocks after which the
            connection ends.
        tls: For https, with a certificate for localhost.
    """
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads, server.block_on_close, server.answer = True, False, answer
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        port = server.server_address[1]
        yield f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"
        server.shutdown()
