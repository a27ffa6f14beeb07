"""The OTLP/HTTP endpoint: `POST /v1/traces` in protobuf or JSON, gzip or plain, into the store.

An answer of 200 says that the spans are in the kernel. When more comes than can be taken, or the disk refuses, the
answer is 429 or 503 with `Retry-After`, which OpenTelemetry's exporters obey by sending the same again; what was
written before is then on disk twice and counted once. See opentelemetry.io/docs/specs/otlp, section OTLP/HTTP.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from unspool.errors import StoreError, UnspoolError
from unspool.interop.ingest import SpanSink, Taken
from unspool.interop.otlp_json import read_json
from unspool.interop.otlp_proto import partial_success, read_proto
from unspool.interop.sources import unpacked
from unspool.store import Store

__all__ = ["BODY_MAX", "Receiver"]

BODY_MAX: Final = 64 << 20  # bytes, of a request as it is sent and after unpacking
_AT_ONCE: Final = 16  # requests that are worked on; more are told to come again
_RETRY_S: Final = 1
_DISK_RETRY_S: Final = 5
_IDLE_S: Final = 60
_PROTO: Final = "application/x-protobuf"
_JSON: Final = "application/json"
_PROBLEMS_MAX: Final = 3
_LENGTH_DIGITS: Final = 15
_DISCARDED_MAX: Final = 256 << 20


class _Refused(Exception):
    """A request that is answered with a status and a reason."""

    def __init__(self, status: HTTPStatus, reason: str, retry_s: int | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.retry_s = status, reason, retry_s


class Receiver(ThreadingHTTPServer):
    """The server. `serve_forever` runs it; `shutdown` from another thread ends it after what is being written.

    Args:
        address: host and port; port 0 takes a free one (`port` says which).
        on_spans: called after each request with what was written; for progress and tests.

    Raises:
        OSError: the address cannot be used.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        store: Store,
        *,
        body_max: int = BODY_MAX,
        at_once: int = _AT_ONCE,
        on_spans: Callable[[Taken], None] | None = None,
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)
        self.sink = SpanSink(store)
        self.body_max = body_max
        self.on_spans = on_spans
        self.slots = threading.BoundedSemaphore(at_once)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = "unspool"
    sys_version = ""
    timeout = _IDLE_S
    server: Receiver
    _unread = 0  # bytes of the body that the client has still to send

    def do_POST(self) -> None:
        length = self.headers.get("content-length") or ""
        self._unread = int(length) if length.isdecimal() and len(length) <= _LENGTH_DIGITS else 0
        try:
            content_type, answer = self._take()
        except _Refused as refused:
            self._refuse(refused)
        else:
            self._answer(HTTPStatus.OK, content_type, answer)

    def do_GET(self) -> None:
        if self.path.partition("?")[0] in ("/", "/healthz"):
            text = b"unspool takes OpenTelemetry traces at POST /v1/traces\n"
            self._answer(HTTPStatus.OK, "text/plain; charset=utf-8", text)
        else:
            self._refuse(_Refused(HTTPStatus.NOT_FOUND, "there is only POST /v1/traces here"))

    def _take(self) -> tuple[str, bytes]:
        kind = (self.headers.get("content-type") or "").partition(";")[0].strip().lower()
        path = self.path.partition("?")[0].rstrip("/")
        if path != "/v1/traces":
            known = path in ("/v1/metrics", "/v1/logs")
            what = f"{path[4:]} are not kept here" if known else "there is only POST /v1/traces here"
            raise _Refused(HTTPStatus.NOT_FOUND, what)
        if kind not in (_PROTO, _JSON):
            reason = f"content-type is {kind or 'missing'}; send {_PROTO} or {_JSON}"
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, reason)
        if not self.server.slots.acquire(blocking=False):
            reason = "too many requests at once; send again later"
            raise _Refused(HTTPStatus.TOO_MANY_REQUESTS, reason, _RETRY_S)
        try:
            body = self._body()
            taken = self._ingest(kind, body)
        finally:
            self.server.slots.release()
        if self.server.on_spans is not None:
            self.server.on_spans(taken)
        return kind, _success(kind, taken)

    def _ingest(self, kind: str, body: bytes) -> Taken:
        try:
            received = read_proto(body) if kind == _PROTO else read_json(body)
        except (ValueError, RecursionError) as exc:
            raise _Refused(HTTPStatus.BAD_REQUEST, f"not an ExportTraceServiceRequest: {exc}") from exc
        except UnspoolError as exc:  # the extra is not installed
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, str(exc)) from exc
        try:
            return self.server.sink.take(received)
        except StoreError as exc:
            raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, str(exc), _DISK_RETRY_S) from exc

    def _body(self) -> bytes:
        most = self.server.body_max
        encoding = (self.headers.get("content-encoding") or "identity").strip().lower()
        if encoding not in ("gzip", "identity"):
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"content-encoding {encoding} is not known; send gzip")
        too_large = _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request may have {most} bytes; send fewer spans")
        if "chunked" in (self.headers.get("transfer-encoding") or "").lower():
            data = self._chunked(most, too_large)
        else:
            length = self.headers.get("content-length") or ""
            if not length.isdecimal() or len(length) > _LENGTH_DIGITS:
                raise _Refused(HTTPStatus.LENGTH_REQUIRED, "content-length is missing or no number")
            if int(length) > most:
                raise too_large
            data = self.rfile.read(int(length))
            self._unread = 0
            if len(data) < int(length):
                raise _Refused(HTTPStatus.BAD_REQUEST, "the body is shorter than content-length says")
        if encoding == "gzip":
            data, problem = unpacked(data, most)
            if problem:
                raise _Refused(HTTPStatus.BAD_REQUEST, f"content-encoding is gzip: {problem}")
            if len(data) > most:
                raise too_large
        return data

    def _chunked(self, most: int, too_large: _Refused) -> bytes:
        found = bytearray()
        while True:
            head = self.rfile.readline(1024).partition(b";")[0].strip()
            try:
                size = int(head, 16)
            except ValueError:
                raise _Refused(HTTPStatus.BAD_REQUEST, "the chunked body is damaged") from None
            if size < 0 or len(found) + size > most:
                raise too_large
            if size == 0:
                while self.rfile.readline(1024).strip():
                    pass  # trailers
                return bytes(found)
            found += self.rfile.read(size)
            self.rfile.readline(1024)

    def _discard_body(self) -> None:
        """Read what the client is still sending, within bounds: one that is cut off does not see why."""
        left = min(self._unread, _DISCARDED_MAX)
        while left > 0:
            piece = self.rfile.read(min(left, 1 << 16))
            if not piece:
                return
            left -= len(piece)

    # --- answering ---------------------------------------------------------------------------------------------------

    def _refuse(self, refused: _Refused) -> None:
        self._discard_body()
        # What is still unread of the body would be taken for the next request.
        self.close_connection = True
        # OTLP/HTTP wants a google.rpc.Status; in JSON everybody can read it.
        body = json.dumps({"code": int(refused.status), "message": refused.reason}).encode()
        retry = {"Retry-After": str(refused.retry_s)} if refused.retry_s is not None else {}
        self._answer(refused.status, _JSON, body, {**retry, "Connection": "close"})

    def _answer(self, status: HTTPStatus, content_type: str, body: bytes, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (more or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: exporters send every few seconds."""


def _success(kind: str, taken: Taken) -> bytes:
    message = "; ".join(taken.problems[:_PROBLEMS_MAX])
    if kind == _PROTO:
        return partial_success(taken.rejected, message)
    if not taken.rejected:
        return b"{}"
    return json.dumps({"partialSuccess": {"rejectedSpans": str(taken.rejected), "errorMessage": message}}).encode()
