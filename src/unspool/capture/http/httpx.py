"""`httpx` and its fork `httpx2`: every single request of a client, redirects and auth legs one by one.

The seam is `Client._send_single_request`, below retries of SDKs and above the transport, so custom transports are
seen too. The response's stream is wrapped; chunks pass through as they come.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from unspool.capture.exchange import CLOSED, Exchange, begin
from unspool.capture.flow import QUIET, leave, quiet
from unspool.capture.guard import guard

__all__ = ["install"]

Patch = Callable[[Any, str, Any], None]


def install(module: Any, patch: Patch) -> None:
    """Patch the clients of `httpx` or `httpx2`."""
    name = module.__name__
    sync_stream, async_stream = _stream_classes(module)
    send, asend = module.Client._send_single_request, module.AsyncClient._send_single_request

    def send_single_request(self: Any, request: Any) -> Any:
        exchange = _begin(name, request)
        if exchange is None:
            return send(self, request)
        upload = _watch_upload(request, exchange, sync_stream)
        token = QUIET.set(True)
        try:
            response = send(self, request)
        except BaseException as error:
            exchange.fail(error)
            raise
        finally:
            leave(QUIET, token)
            if upload is not None:
                request.stream = upload
        with guard:
            _note_headers(exchange, response)
            if not _is_read(response, exchange):
                response.stream = sync_stream(response.stream, exchange)
        return response

    async def async_send_single_request(self: Any, request: Any) -> Any:
        exchange = _begin(name, request)
        if exchange is None:
            return await asend(self, request)
        upload = _watch_upload(request, exchange, async_stream)
        token = QUIET.set(True)
        try:
            response = await asend(self, request)
        except BaseException as error:
            exchange.fail(error)
            raise
        finally:
            leave(QUIET, token)
            if upload is not None:
                request.stream = upload
        with guard:
            _note_headers(exchange, response)
            if not _is_read(response, exchange):
                response.stream = async_stream(response.stream, exchange)
        return response

    patch(module.Client, "_send_single_request", send_single_request)
    patch(module.AsyncClient, "_send_single_request", async_send_single_request)


def _begin(client: str, request: Any) -> Exchange | None:
    with guard:
        return begin(
            client, request.method, str(request.url), _pairs(request.headers), request.__dict__.get("_content")
        )
    return None


def _watch_upload(request: Any, exchange: Exchange, stream: Any) -> Any:
    """Keep a copy of a streamed upload as the transport reads it; gives the request's own stream, to be put back."""
    if exchange.request_body is not None:
        return None
    with guard:
        own = request.stream
        request.stream = stream(own, _Upload(exchange))
        return own
    return None


def _pairs(headers: Any) -> list[tuple[str, str]]:
    encoding = headers.encoding
    return [(name.decode(encoding), value.decode(encoding)) for name, value in headers.raw]


def _note_headers(exchange: Exchange, response: Any) -> None:
    exchange.headers(response.status_code, response.reason_phrase, _pairs(response.headers))


def _is_read(response: Any, exchange: Exchange) -> bool:
    """Whether the response has its content already (transports made for tests): then nobody will iterate its stream."""
    if not hasattr(response, "_content"):
        return False
    exchange.decoded = True
    exchange.chunk(response.content)
    exchange.finish()
    return True


class _Upload:
    """Takes the place of an exchange in a wrapped request stream: hands on what was sent."""

    done = True  # nothing is left to be written when the stream is dropped

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def chunk(self, data: bytes) -> None:
        self._exchange.late_request_body(data)

    def finish(self, ended: str | None = None) -> None:
        """Nothing to do: how much was sent shows in the body."""

    def fail(self, error: BaseException) -> None:
        """Nothing to do: the request fails with it."""


def _stream_classes(module: Any) -> tuple[Any, Any]:
    """Stream wrappers of the classes this module checks for."""

    class RecordedStream(module.SyncByteStream):  # type: ignore[misc]
        def __init__(self, stream: Any, exchange: Exchange | _Upload) -> None:
            self._stream = stream
            self._exchange = exchange

        def __iter__(self) -> Iterator[bytes]:
            exchange = self._exchange
            try:
                for data in self._stream:
                    exchange.chunk(data)
                    yield data
            except GeneratorExit:
                exchange.finish(CLOSED)
                raise
            except BaseException as error:
                exchange.fail(error)
                raise
            exchange.finish()

        def close(self) -> None:
            try:
                with quiet():
                    self._stream.close()
            finally:
                self._exchange.finish(CLOSED)

        def __getattr__(self, name: str) -> Any:
            if name in ("_stream", "_exchange"):  # not set yet: a copy being made without __init__
                raise AttributeError(name)
            return getattr(self._stream, name)

        def __del__(self) -> None:
            if not self._exchange.done:
                self._exchange.finish(CLOSED)

    class RecordedAsyncStream(module.AsyncByteStream):  # type: ignore[misc]
        def __init__(self, stream: Any, exchange: Exchange | _Upload) -> None:
            self._stream = stream
            self._exchange = exchange

        async def __aiter__(self) -> AsyncIterator[bytes]:
            exchange = self._exchange
            try:
                async for data in self._stream:
                    exchange.chunk(data)
                    yield data
            except GeneratorExit:
                exchange.finish(CLOSED)
                raise
            except BaseException as error:
                exchange.fail(error)
                raise
            exchange.finish()

        async def aclose(self) -> None:
            try:
                with quiet():
                    await self._stream.aclose()
            finally:
                self._exchange.finish(CLOSED)

        def __getattr__(self, name: str) -> Any:
            if name in ("_stream", "_exchange"):  # not set yet: a copy being made without __init__
                raise AttributeError(name)
            return getattr(self._stream, name)

        def __del__(self) -> None:
            if not self._exchange.done:
                self._exchange.finish(CLOSED)

    return RecordedStream, RecordedAsyncStream
