"""`urllib3` 2, and so `requests` and `botocore`: every single attempt of a connection pool.

The seam is `HTTPConnectionPool._make_request`, below urllib3's own retries and redirects. The raw reads of the response
are watched before decoding: `_raw_read` for plain bodies, `_handle_chunk` for chunked ones. These are methods of the
class that look for an exchange on the response: nothing put on the response itself refers back to it, so that an
abandoned one is collected, and its connection released, at the moment it would have been without us.

In a rerun a request is made over a connection of ours, which has a recorded answer in the place of a socket: urllib3
reads that as it would read any other.
"""

from __future__ import annotations

import io
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from unspool.capture import rerun, serve
from unspool.capture.answers import CLOSED
from unspool.capture.exchange import TRACEPARENT, Exchange, begin
from unspool.capture.flow import QUIET, leave, quiet
from unspool.capture.guard import guard

__all__ = ["install"]

Patch = Callable[[Any, str, Any], None]

_WATCH = "_unspool_watch"
_NO_TUNNEL = "_unspool_no_tunnel"  # on a connection whose tunnel was not opened
_LENGTHS = ("content-length", "transfer-encoding")
# The exchange whose response is being made: urllib3 may read the whole body while it makes the object.
_making: ContextVar[Exchange | None] = ContextVar("unspool_urllib3", default=None)


def install(module: Any, patch: Patch) -> None:
    """Patch `urllib3.connectionpool`."""
    import urllib3
    from urllib3.response import HTTPResponse

    pool = module.HTTPConnectionPool
    if str(urllib3.__version__).split(".", 1)[0] != "2":
        guard.warn(
            "urllib3 1.x is not recorded; requests made through it are missing. Upgrade: pip install 'urllib3>=2'"
        )
        return
    _watch_responses(HTTPResponse, patch)
    original = pool._make_request
    prepare_proxy = module.HTTPSConnectionPool._prepare_proxy

    def make_request(  # noqa: PLR0917 - urllib3's own signature
        self: Any, conn: Any, method: str, url: str, body: Any = None, headers: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        exchange = None
        if rerun.stage() is not None:
            body = _read_body(body)
        with guard:
            exchange = begin("urllib3", method, _absolute(self, url), _pairs(self, headers), _bytes_of(body))
            if exchange is not None and exchange.request_body is None:
                body = _watched_body(body, exchange)
        if exchange is None:
            serve.permit(method, _absolute(self, url))
            return original(self, conn, method, url, body, headers, *args, **kwargs)
        exchange.wait()
        if (meeting := exchange.meeting) is not None:
            if meeting.answer is not None:
                conn = _served_connection(self, conn, meeting, exchange)
            else:
                url, body, headers = _changed(self, meeting, url, body, headers)
                if conn.__dict__.pop(_NO_TUNNEL, False) and conn.is_closed:
                    with quiet():
                        prepare_proxy(self, conn)
        headers = _carrying(self, headers, exchange)
        quiet_token, making_token = QUIET.set(True), _making.set(exchange)
        try:
            response = original(self, conn, method, url, body, headers, *args, **kwargs)
        except BaseException as error:
            exchange.fail(error)
            raise
        finally:
            leave(_making, making_token)
            leave(QUIET, quiet_token)
        with guard:
            watch = _attach(response, exchange)
            if response._fp is None or response.length_remaining == 0:  # HEAD, 204, or read while it was made
                watch.finish()
        return response

    def prepare_proxy_when_sending(self: Any, conn: Any) -> None:
        # A tunnel is opened before it is known whether the request will be sent.
        if rerun.stage() is None:
            prepare_proxy(self, conn)
        else:
            setattr(conn, _NO_TUNNEL, True)

    patch(pool, "_make_request", make_request)
    patch(module.HTTPSConnectionPool, "_prepare_proxy", prepare_proxy_when_sending)


# --- the request -----------------------------------------------------------------------------------------------------


def _absolute(pool: Any, url: str) -> str:
    if not url.startswith("/"):  # whole, through a plain HTTP proxy
        return url
    default = 443 if pool.scheme == "https" else 80
    port = "" if pool.port in (None, default) else f":{pool.port}"
    host = f"[{pool.host}]" if ":" in pool.host and not pool.host.startswith("[") else pool.host
    return f"{pool.scheme}://{host}{port}{url}"


def _pairs(pool: Any, headers: Any) -> list[tuple[str, str]]:
    found = headers if headers is not None else pool.headers
    return [(_text(name), _text(value)) for name, value in (found or {}).items()]


def _carrying(pool: Any, headers: Any, exchange: Exchange) -> Any:
    """The headers with the trace context that the request is to carry, if it is to carry one."""
    text = exchange.traceparent()
    if text is None:
        return headers
    found = headers if headers is not None else pool.headers
    out = found.copy() if hasattr(found, "copy") else dict(found or {})
    out[TRACEPARENT] = text
    return out


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _bytes_of(body: Any) -> bytes | None:
    if body is None:
        return b""
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    if isinstance(body, str):
        return body.encode("utf-8", "surrogatepass")
    return None  # a file or an iterator: reading it would take it away from the request


def _watched_body(body: Any, exchange: Exchange) -> Any:
    """A streamed upload of which a copy is kept as it is read."""
    if isinstance(body, io.TextIOBase):
        return body  # urllib3 encodes these, and asks for the type
    return _WatchedFile(body, exchange) if hasattr(body, "read") else _watched_pieces(body, exchange)


class _WatchedFile:
    """A file being uploaded."""

    def __init__(self, file: Any, exchange: Exchange) -> None:
        self._file = file
        self._exchange = exchange

    def read(self, *args: Any) -> Any:
        data = self._file.read(*args)
        self._exchange.late_request_body(data)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _watched_pieces(pieces: Iterable[Any], exchange: Exchange) -> Iterator[Any]:
    for piece in pieces:
        exchange.late_request_body(piece)
        yield piece


# --- a rerun ---------------------------------------------------------------------------------------------------------


def _read_body(body: Any) -> Any:
    """The bytes of a body that is sent as a stream: what it is answered with is found by them."""
    if body is None or isinstance(body, (bytes, bytearray, memoryview, str)):
        return body
    pieces = [body.read()] if hasattr(body, "read") else list(body)
    return b"".join(piece.encode("utf-8") if isinstance(piece, str) else bytes(piece) for piece in pieces)


def _served_connection(pool: Any, conn: Any, meeting: serve.Meeting, exchange: Exchange) -> Any:
    """A connection that takes a request and gives the recorded answer; raises the recorded error of a request."""

    from unspool.capture.http.answering import Delivery
    from unspool.capture.http.wire import ServedSocket

    delivery = Delivery(meeting)

    def make(kind: type[BaseException], message: str, args: list[Any]) -> BaseException | None:
        return _error(pool, conn, exchange, kind, message)

    if (error := delivery.failed(make)) is not None:
        exchange.fail(error)
        raise error
    from urllib3.connection import HTTPConnection

    served = HTTPConnection(pool.host, pool.port or 80)
    served.sock = ServedSocket(delivery, make)
    served.is_verified = True
    return served


def _error(pool: Any, conn: Any, exchange: Exchange, kind: type[BaseException], message: str) -> BaseException | None:
    """An exception of urllib3, whose constructors put their text together from the pool or the connection."""
    from urllib3 import exceptions

    is_of_connection = issubclass(kind, exceptions.NewConnectionError)
    if not is_of_connection and not issubclass(kind, exceptions.PoolError):
        return None
    made: BaseException = kind.__new__(kind)
    made.args = (message,)
    known = {"conn": conn} if is_of_connection else {"pool": pool, "url": exchange.url, "reason": None}
    for name, value in {**known, "_message": message.partition(": ")[2]}.items():
        setattr(made, name, value)
    return made


def _changed(pool: Any, meeting: serve.Meeting, url: str, body: Any, headers: Any) -> tuple[str, Any, Any]:
    """A request with what an edit made of it."""
    if meeting.url is not None:
        parts = urlsplit(meeting.url)
        url = meeting.url if not url.startswith("/") else urlunsplit(("", "", parts.path, parts.query, ""))
    if meeting.body is not None:
        found = headers if headers is not None else pool.headers
        kept = {name: value for name, value in (found or {}).items() if _text(name).lower() not in _LENGTHS}
        headers = {**kept, "Content-Length": str(len(meeting.body))}
        body = meeting.body
    return url, body, headers


# --- the response ----------------------------------------------------------------------------------------------------


class _Watch:
    """What is known of a response being read: its exchange, and whether a read is under way."""

    __slots__ = ("exchange", "reading", "whole")

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.reading = False
        self.whole = False

    def finish(self) -> None:
        self.whole = True
        self.exchange.finish()

    def failed(self, error: BaseException) -> None:
        # http.client had a part of what it was asked for, and gives that with its exception only.
        seen: BaseException | None = error
        while seen is not None:
            if isinstance(partial := getattr(seen, "partial", None), bytes):
                self.exchange.chunk(partial)
                break
            seen = seen.__cause__ or seen.__context__
        self.exchange.fail(error)

    def closed(self) -> None:
        # Inside a read, urllib3 releases the connection before it hands the last bytes on: those come first.
        if not self.reading:
            self.exchange.finish(None if self.whole else CLOSED)


def _attach(response: Any, exchange: Exchange) -> _Watch:
    watch: _Watch | None = response.__dict__.get(_WATCH)
    if watch is None:
        watch = _Watch(exchange)
        setattr(response, _WATCH, watch)
        exchange.headers(response.status, response.reason, list(response.headers.items()))
        weakref.finalize(response, watch.closed).atexit = False
    return watch


def _watch_of(response: Any) -> _Watch | None:
    watch: _Watch | None = response.__dict__.get(_WATCH)
    if watch is None and (exchange := _making.get()) is not None:
        with guard:
            return _attach(response, exchange)
    return watch


def _watch_responses(response: Any, patch: Patch) -> None:
    raw_read, handle_chunk, update_length = response._raw_read, response._handle_chunk, response._update_chunk_length
    release_conn, close = response.release_conn, response.close

    def watched_raw_read(self: Any, *args: Any, **kwargs: Any) -> Any:
        watch = _watch_of(self)
        if watch is None:
            return raw_read(self, *args, **kwargs)
        watch.reading = True
        try:
            data = raw_read(self, *args, **kwargs)
        except BaseException as error:
            watch.failed(error)
            raise
        finally:
            watch.reading = False
        watch.exchange.chunk(data or b"")
        # http.client closes its side when it has given the last byte, and only then.
        if self.length_remaining == 0 or _is_read_out(self):
            watch.finish()
        return data

    def watched_handle_chunk(self: Any, *args: Any, **kwargs: Any) -> Any:
        watch = _watch_of(self)
        try:
            data = handle_chunk(self, *args, **kwargs)
        except BaseException as error:
            if watch is not None:
                watch.failed(error)
            raise
        if watch is not None:
            watch.exchange.chunk(data or b"")
        return data

    def watched_update_length(self: Any) -> None:
        watch = _watch_of(self)
        try:
            update_length(self)
        except BaseException as error:
            if watch is not None:
                watch.failed(error)
            raise
        if watch is not None and self.chunk_left == 0:
            watch.finish()

    def watched_release(self: Any) -> None:
        if (watch := self.__dict__.get(_WATCH)) is not None:
            watch.closed()
        release_conn(self)

    def watched_close(self: Any) -> None:
        if (watch := self.__dict__.get(_WATCH)) is not None:
            watch.closed()
        close(self)

    patch(response, "_raw_read", watched_raw_read)
    patch(response, "_handle_chunk", watched_handle_chunk)
    patch(response, "_update_chunk_length", watched_update_length)
    patch(response, "release_conn", watched_release)
    patch(response, "close", watched_close)


def _is_read_out(response: Any) -> bool:
    fp = response._fp
    if fp is None:
        return True
    is_closed = getattr(fp, "isclosed", None)
    return bool(is_closed()) if is_closed is not None else bool(getattr(fp, "closed", False))
