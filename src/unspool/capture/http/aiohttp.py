"""`aiohttp`: every single attempt of a client session.

The seam is a client middleware (aiohttp 3.12 and later), put innermost, so that redirects, retries and the agent's own
middlewares are outside of it. The body is seen where it leaves the reader's buffer, whichever method took it: the
reader's class is exchanged for a subclass of the same layout, so that it stays the object aiohttp made.

In a rerun the connector gives a connection of ours, which has a recorded answer in the place of a socket.
"""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable
from typing import Any

from unspool.capture import rerun, serve
from unspool.capture.answers import CLOSED
from unspool.capture.exchange import TRACEPARENT, Exchange, begin
from unspool.capture.flow import QUIET, current_flow, leave
from unspool.capture.guard import guard

__all__ = ["install"]

Patch = Callable[[Any, str, Any], None]

_WATCH = "_unspool_watch"
_UPLOAD = "_unspool_upload"


def install(module: Any, patch: Patch) -> None:
    """Patch `aiohttp.ClientSession` and what it gives back."""
    if not hasattr(module, "ClientMiddlewareType"):
        guard.warn(
            "aiohttp before 3.12 is not recorded; requests made through it are missing. Upgrade: pip install -U aiohttp"
        )
        return
    original = module.ClientSession._request
    reader = _watched_reader_class(module.StreamReader)
    # aiohttp decompresses while it parses, unless told not to: what passes is what the program sees.
    decoding, raw = _middleware_with(reader, decoded=True), _middleware_with(reader, decoded=False)

    async def request_with_seam(self: Any, method: Any, url: Any, **options: Any) -> Any:
        if (current_flow() is not None and not QUIET.get()) or rerun.stage() is not None:
            own = options.get("middlewares")
            decodes = options.get("auto_decompress")
            seam = decoding if (self._auto_decompress if decodes is None else decodes) else raw
            options["middlewares"] = (*(self._middlewares if own is None else own), seam)
        return await original(self, method, url, **options)

    patch(module.ClientSession, "_request", request_with_seam)
    if rerun.stage() is not None:
        from unspool.capture.http import aiohttp_serving

        aiohttp_serving.install(module, patch)
        aiohttp_serving.give_pieces(reader)
    _watch_uploads(module.ClientRequest, patch)
    _watch_endings(module.ClientResponse, patch)


def _middleware_with(
    reader: type, *, decoded: bool
) -> Callable[[Any, Callable[[Any], Awaitable[Any]]], Awaitable[Any]]:
    async def middleware(request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        exchange = None
        if rerun.stage() is not None and _bytes_of(request.body) is None:
            from unspool.capture.http import aiohttp_serving

            await aiohttp_serving.read_body(request)
        with guard:
            body = _bytes_of(request.body)
            exchange = begin("aiohttp", request.method, str(request.url), list(request.headers.items()), body)
            if exchange is not None:
                exchange.decoded = decoded
                if body is None:
                    setattr(request, _UPLOAD, exchange)
        if exchange is None:
            serve.permit(request.method, str(request.url))
            return await handler(request)
        await exchange.wait_async()
        if (text := exchange.traceparent()) is not None:
            request.headers[TRACEPARENT] = text
        token = QUIET.set(True)
        served = None
        try:
            if exchange.meeting is None:
                response = await handler(request)
            else:
                from unspool.capture.http import aiohttp_serving

                served, response = await aiohttp_serving.met(request, handler, exchange.meeting)
        except BaseException as error:
            exchange.fail(error)
            raise
        finally:
            leave(QUIET, token)
        with guard:
            exchange.headers(response.status, response.reason, list(response.headers.items()))
            _watch(response, exchange, reader)
        if served is not None:
            served.begin(response)
        return response

    return middleware


# --- the request -----------------------------------------------------------------------------------------------------


def _bytes_of(body: Any) -> bytes | None:
    if isinstance(body, (bytes, bytearray)):
        return bytes(body)
    value = getattr(body, "_value", None)  # BytesPayload, StringPayload and JsonPayload hold their bytes
    return bytes(value) if isinstance(value, (bytes, bytearray)) else None


def _watch_uploads(request: Any, patch: Patch) -> None:
    """Keep a copy of what a payload writes that is not known beforehand: forms, files, iterators."""
    original = request.write_bytes

    async def write_bytes(self: Any, writer: Any, *args: Any, **kwargs: Any) -> Any:
        exchange: Exchange | None = self.__dict__.pop(_UPLOAD, None)
        if exchange is None:
            return await original(self, writer, *args, **kwargs)
        write = writer.write

        async def watched_write(chunk: Any, *more: Any, **options: Any) -> Any:
            exchange.late_request_body(chunk)
            return await write(chunk, *more, **options)

        writer.write = watched_write
        try:
            return await original(self, writer, *args, **kwargs)
        finally:
            del writer.write

    patch(request, "write_bytes", write_bytes)


# --- the response ----------------------------------------------------------------------------------------------------


# By identity of the reader, which has no room for more attributes; an entry goes when its response ends.
_reading: dict[int, Exchange] = {}


def _watch(response: Any, exchange: Exchange, reader: type) -> None:
    content = response.content
    if content is None or content.at_eof():
        exchange.finish()
        return
    if type(content) is not reader.__base__:
        # A reader of the program's own making: what is in it stays unseen, and the record says so.
        exchange.finish("not seen: the response has a reader of its own kind")
        return
    content.__class__ = reader
    _reading[id(content)] = exchange
    setattr(response, _WATCH, exchange)
    weakref.finalize(response, _collected, exchange, id(content)).atexit = False


def _collected(exchange: Exchange, key: int) -> None:
    if _reading.get(key) is exchange:
        del _reading[key]
    exchange.finish(CLOSED)


def _watched_reader_class(base: Any) -> type:
    class StreamReader(base):  # type: ignore[misc]  # aiohttp's, known at run time only
        """A reader of aiohttp that reports what leaves it."""

        __slots__ = ()

        def _read_nowait_chunk(self, n: int) -> bytes:
            data: bytes = super()._read_nowait_chunk(n)
            exchange = _reading.get(id(self))
            if exchange is not None:
                exchange.chunk(data)
                if self.at_eof():
                    exchange.finish()
            return data

        def feed_eof(self) -> None:
            super().feed_eof()
            exchange = _reading.get(id(self))
            if exchange is not None and self.at_eof():
                exchange.finish()

        def set_exception(self, exc: Any, *args: Any, **kwargs: Any) -> None:
            exchange = _reading.get(id(self))
            if exchange is not None and not exchange.done:
                with guard:
                    # From here on every read raises; what had come is recorded, as it came.
                    for piece in self._left():
                        exchange.chunk(piece)
                    exchange.fail(exc if isinstance(exc, BaseException) else exc())
            super().set_exception(exc, *args, **kwargs)

        def _left(self) -> list[bytes]:
            pieces = list(self._buffer)
            if pieces and self._buffer_offset:
                pieces[0] = pieces[0][self._buffer_offset :]
            return pieces

    StreamReader.__qualname__ = base.__qualname__
    StreamReader.__module__ = base.__module__
    return StreamReader


def _watch_endings(response: Any, patch: Patch) -> None:
    release, close = response.release, response.close

    def watched_release(self: Any) -> Any:
        if (exchange := self.__dict__.get(_WATCH)) is not None:
            exchange.finish(CLOSED)
        return release(self)

    def watched_close(self: Any) -> Any:
        if (exchange := self.__dict__.get(_WATCH)) is not None:
            exchange.finish(CLOSED)
        return close(self)

    patch(response, "release", watched_release)
    patch(response, "close", watched_close)
