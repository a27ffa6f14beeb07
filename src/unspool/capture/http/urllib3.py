"""`urllib3` 2, and so `requests` and `botocore`: every single attempt of a connection pool.

The seam is `HTTPConnectionPool._make_request`, below urllib3's own retries and redirects. The response's raw reads are
watched (`_raw_read` for plain bodies, `_handle_chunk` for chunked ones), before decoding.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from unspool.capture.exchange import CLOSED, Exchange, begin
from unspool.capture.flow import QUIET
from unspool.capture.guard import guard

__all__ = ["install"]

Patch = Callable[[Any, str, Any], None]


def install(module: Any, patch: Patch) -> None:
    """Patch `urllib3.connectionpool`."""
    pool = module.HTTPConnectionPool
    original = pool._make_request
    if not hasattr(module.HTTPConnectionPool, "_make_request") or not _is_version_2():
        guard.warn("urllib3 1.x is not recorded; requests made through it are missing. Upgrade: pip install 'urllib3>=2'")
        return

    def make_request(
        self: Any, conn: Any, method: str, url: str, body: Any = None, headers: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        exchange = None
        with guard:
            exchange = begin("urllib3", method, _absolute(self, url), _pairs(self, headers), _bytes_of(body))
        if exchange is None:
            return original(self, conn, method, url, body, headers, *args, **kwargs)
        token = QUIET.set(True)
        try:
            response = original(self, conn, method, url, body, headers, *args, **kwargs)
        except BaseException as error:
            exchange.fail(error)
            raise
        finally:
            QUIET.reset(token)
        with guard:
            exchange.headers(response.status, response.reason, list(response.headers.items()))
            _watch(response, exchange)
        return response

    patch(pool, "_make_request", make_request)


def _is_version_2() -> bool:
    import urllib3

    return str(urllib3.__version__).split(".", 1)[0] == "2"


def _absolute(pool: Any, url: str) -> str:
    if "://" in url:  # through a plain HTTP proxy
        return url
    default = 443 if pool.scheme == "https" else 80
    port = "" if pool.port in (None, default) else f":{pool.port}"
    host = f"[{pool.host}]" if ":" in pool.host and not pool.host.startswith("[") else pool.host
    return f"{pool.scheme}://{host}{port}{url}"


def _pairs(pool: Any, headers: Any) -> list[tuple[str, str]]:
    found = headers if headers is not None else pool.headers
    return [(_text(name), _text(value)) for name, value in (found or {}).items()]


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _bytes_of(body: Any) -> bytes | None:
    if body is None:
        return b""
    if isinstance(body, (bytes, bytearray)):
        return bytes(body)
    if isinstance(body, str):
        return body.encode("utf-8", "surrogatepass")
    return None  # a file or an iterator: reading it would take it away from the request


def _watch(response: Any, exchange: Exchange) -> None:
    """Follow the reads of a response until its body ends, it is closed, or it is collected."""
    if isinstance(response._body, bytes) or response._fp is None:
        exchange.chunk(response._body or b"")
        exchange.finish(decoded=bool(response._body))
        return
    raw_read, handle_chunk = response._raw_read, response._handle_chunk
    release_conn, close = response.release_conn, response.close

    def watched_raw_read(*args: Any, **kwargs: Any) -> Any:
        try:
            data = raw_read(*args, **kwargs)
        except BaseException as error:
            exchange.fail(error)
            raise
        exchange.chunk(data or b"")
        if response.length_remaining == 0 or _fp_is_closed(response):
            exchange.finish(_how_it_ended(response))
        return data

    def watched_handle_chunk(*args: Any, **kwargs: Any) -> Any:
        try:
            data = handle_chunk(*args, **kwargs)
        except BaseException as error:
            exchange.fail(error)
            raise
        exchange.chunk(data or b"")
        return data

    def watched_release() -> Any:
        # Called when the original response is closed, that is at its end, or by `close` before it.
        exchange.finish(_how_it_ended(response))
        return release_conn()

    def watched_close() -> Any:
        exchange.finish(_how_it_ended(response))
        return close()

    response._raw_read = watched_raw_read
    response._handle_chunk = watched_handle_chunk
    response.release_conn = watched_release
    response.close = watched_close
    # The closures hold the response, so it is collected with them as a cycle; the finalizer holds only the exchange.
    weakref.finalize(response, exchange.finish, CLOSED).atexit = False


def _fp_is_closed(response: Any) -> bool:
    fp = response._fp
    return fp is None or bool(getattr(fp, "isclosed", lambda: getattr(fp, "closed", False))())


def _how_it_ended(response: Any) -> str | None:
    """None when the whole body came: its length is used up, its last chunk seen, or it lasts until the end."""
    if response.length_remaining is not None and not response.chunked:
        return None if response.length_remaining == 0 else CLOSED
    if response.chunked:
        return None if response.chunk_left == 0 or _fp_is_closed(response) else CLOSED
    return None if _fp_is_closed(response) else CLOSED
