"""A small web server with the odd corners of HTTP, for tests of capture."""

from __future__ import annotations

import gzip
import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PIECES = [f"piece {number}\n".encode() for number in range(5)]
TEXT = b"The quick brown fox jumps over the lazy dog.\n" * 40


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    acks: threading.Semaphore

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def _send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        if status not in (204, 304):
            self.send_header("content-length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _chunks(self, pieces: Iterator[bytes]) -> None:
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def _as_acknowledged(self) -> Iterator[bytes]:
        """The pieces, each followed by nothing until the client has said that it has it."""
        for piece in PIECES:
            yield piece
            if not self.acks.acquire(timeout=10):
                yield b"the client did not get that piece\n"
                return

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        match path:
            case "/ack":
                self.acks.release()
                self._send(204)
            case "/redirect":
                self._send(302, b"elsewhere", location="/page?token=tok-0123456789")
            case "/gzip":
                self._send(200, gzip.compress(TEXT, mtime=0), content_encoding="gzip")
            case "/chunked":
                self._chunks(iter(PIECES))
            case "/stepwise":
                self._chunks(self._as_acknowledged())
            case "/none":
                self._send(204)
            case "/until-close":
                self.send_response(200)
                self.send_header("connection", "close")
                self.end_headers()
                self.wfile.write(TEXT)
                self.close_connection = True
            case "/cut":
                self.send_response(200)
                self.send_header("content-length", str(len(TEXT)))
                self.end_headers()
                self.wfile.write(TEXT[:100])
                self.close_connection = True
            case "/digest" if "authorization" not in self.headers:
                challenge = 'Digest realm="r", nonce="n", qop="auth", algorithm=MD5'
                self._send(401, b"who are you?", www_authenticate=challenge)
            case "/cookie":
                self._send(200, b"ok", set_cookie="session=cookie-0123456789; Path=/")
            case "/missing":
                self._send(404, b"nothing here")
            case _:
                self._send(200, TEXT)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        if "chunked" in self.headers.get("transfer-encoding", ""):
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path.startswith("/stepwise"):
            self._chunks(self._as_acknowledged())
        else:
            self._send(200, hashlib.sha256(body).hexdigest().encode())


@contextmanager
def web_server() -> Iterator[int]:
    """A running server; gives its port."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that hangs up is part of the tests."""

    server = Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"acks": threading.Semaphore(0)}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
