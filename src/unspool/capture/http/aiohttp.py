"""`aiohttp`: every single attempt of a client session.

The seam is a client middleware (aiohttp 3.12 and later), put innermost, so that redirects, retries and the agent's own
middlewares are outside of it. The response's content is replaced by a reader that watches what passes.
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from unspool.capture.exchange import CLOSED, Exchange, begin
from unspool.capture.flow import QUIET, current_flow
from unspool.capture.guard import guard

__all__ = ["install"]

Patch = Callable[[Any, str, Any], None]


def install(module: Any, patch: Patch) -> None:
    """Patch `aiohttp.ClientSession`."""
    if not hasattr(module, "ClientMiddlewareType"):
        guard.warn("aiohttp before 3.12 is not recorded; requests made through it are missing. Upgrade: pip install -U aiohttp")
        return
    original = module.ClientSession._request

    async def request_with_seam(self: Any, method: Any, url: Any, **options: Any) -> Any:
        if current_flow() is not None and not QUIET.get():
            own = options.get("middlewares")
            options["middlewares"] = (*(self._middlewares if own is None else own), _middleware)
        return await original(self, method, url, **options)

    patch(module.ClientSession, "_request", request_with_seam)


async def _middleware(request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
    exchange = None
    with guard:
        exchange = begin("aiohttp", request.method, str(request.url), list(request.headers.items()), _bytes_of(request.body))
    if exchange is None:
        return await handler(request)
    token = QUIET.set(True)
    try:
        response = await handler(request)
    except BaseException as error:
        exchange.fail(error)
        raise
    finally:
        QUIET.reset(token)
    with guard:
        exchange.headers(response.status, response.reason, list(response.headers.items()))
        _watch(response, exchange)
    return response


def _bytes_of(body: Any) -> bytes | None:
    if isinstance(body, (bytes, bytearray)):
        return bytes(body)
    value = getattr(body, "_value", None)  # BytesPayload, StringPayload and JsonPayload hold their bytes
    return bytes(value) if isinstance(value, (bytes, bytearray)) else None


def _watch(response: Any, exchange: Exchange) -> None:
    content = response.content
    if content is None or not hasattr(content, "readany"):
        exchange.finish()
        return
    # aiohttp decompresses while parsing unless told not to; what passes here is what the program sees.
    decoded = getattr(getattr(response._connection, "protocol", None), "_auto_decompress", True) is not False
    if content.is_eof() and not content._buffer:
        exchange.finish(decoded=decoded)
        return
    response.content = WatchedContent(content, exchange, decoded)
    release, close = response.release, response.close

    def watched_release() -> Any:
        _end(exchange, content, decoded)
        return release()

    def watched_close() -> Any:
        _end(exchange, content, decoded)
        return close()

    response.release, response.close = watched_release, watched_close
    weakref.finalize(response, exchange.finish, CLOSED).atexit = False


def _end(exchange: Exchange, content: Any, decoded: bool) -> None:
    with guard:
        exchange.finish(None if content.at_eof() else CLOSED, decoded=decoded)


class WatchedContent:
    """A `StreamReader` that reports what is read from it. Everything else is the reader's own."""

    def __init__(self, content: Any, exchange: Exchange, decoded: bool) -> None:
        self._content = content
        self._exchange = exchange
        self._decoded = decoded

    def __getattr__(self, name: str) -> Any:
        if name in ("_content", "_exchange", "_decoded"):
            raise AttributeError(name)
        return getattr(self._content, name)

    async def _pass(self, reading: Awaitable[bytes]) -> bytes:
        try:
            data = await reading
        except BaseException as error:
            self._exchange.fail(error)
            raise
        self._note(data)
        return data

    def _note(self, data: bytes) -> None:
        self._exchange.chunk(data)
        if self._content.at_eof():
            self._exchange.finish(decoded=self._decoded)

    async def read(self, n: int = -1) -> bytes:
        return await self._pass(self._content.read(n))

    async def readany(self) -> bytes:
        return await self._pass(self._content.readany())

    async def readexactly(self, n: int) -> bytes:
        return await self._pass(self._content.readexactly(n))

    async def readline(self, **options: Any) -> bytes:
        return await self._pass(self._content.readline(**options))

    async def readuntil(self, *args: Any, **options: Any) -> bytes:
        return await self._pass(self._content.readuntil(*args, **options))

    async def readchunk(self) -> tuple[bytes, bool]:
        try:
            data, end = await self._content.readchunk()
        except BaseException as error:
            self._exchange.fail(error)
            raise
        self._note(data)
        return data, end

    def read_nowait(self, n: int = -1) -> bytes:
        data: bytes = self._content.read_nowait(n)
        self._note(data)
        return data

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._until_empty(self.readline)

    def iter_any(self) -> AsyncIterator[bytes]:
        return self._until_empty(self.readany)

    def iter_chunked(self, n: int) -> AsyncIterator[bytes]:
        return self._until_empty(lambda: self.read(n))

    async def iter_chunks(self) -> AsyncIterator[tuple[bytes, bool]]:
        while True:
            data, end = await self.readchunk()
            if not data and not end:
                return
            yield data, end

    @staticmethod
    async def _until_empty(read: Callable[[], Awaitable[bytes]]) -> AsyncIterator[bytes]:
        while data := await read():
            yield data
