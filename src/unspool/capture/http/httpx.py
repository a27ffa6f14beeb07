"""`httpx` and its fork `httpx2`: every single request of a client, redirects and auth legs one by one.

The seam is `Client._send_single_request`, below retries of SDKs and above the transport, so custom transports are
seen too. The response's stream is wrapped; chunks pass through as they come. In a rerun a transport of ours takes the
place of the client's, so that all the rest happens as ever.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from unspool.capture import rerun, serve
from unspool.capture.answers import CLOSED
from unspool.capture.exchange import TRACEPARENT, Exchange, begin
from unspool.capture.flow import QUIET, leave, quiet
from unspool.capture.guard import guard

if TYPE_CHECKING:
    from unspool.capture.http.answering import Delivery, MakeError

__all__ = ["install"]

Patch = Callable[[Any, str, Any], None]

# The transport of the request under way, when it is answered from a recording.
_transport: ContextVar[Any] = ContextVar("unspool_httpx", default=None)


def install(module: Any, patch: Patch) -> None:
    """Patch the clients of `httpx` or `httpx2`."""
    name = module.__name__
    sync_stream, async_stream = _stream_classes(module)
    send, asend = module.Client._send_single_request, module.AsyncClient._send_single_request

    served = _served_transport(module)
    client_transport = module.Client._transport_for_url
    async_client_transport = module.AsyncClient._transport_for_url

    def send_single_request(self: Any, request: Any) -> Any:
        if rerun.stage() is not None:
            _read_upload(module, request)
        exchange = _begin(name, request)
        if exchange is None:
            serve.permit(request.method, str(request.url))
            return send(self, request)
        exchange.wait()
        transport, request = _met(module, exchange, request, served)
        upload = _watch_upload(request, exchange, sync_stream)
        carries = _carry(request, exchange)
        token, transport_token = QUIET.set(True), _transport.set(transport)
        try:
            response = send(self, request)
        except BaseException as error:
            exchange.fail(error)
            raise
        finally:
            leave(_transport, transport_token)
            leave(QUIET, token)
            if upload is not None:
                request.stream = upload
            if carries:
                request.headers.pop(TRACEPARENT, None)  # a redirect is made of these, and has a span of its own
        with guard:
            _note_headers(exchange, response)
            if not _is_read(response, exchange):
                response.stream = sync_stream(response.stream, exchange)
        return response

    async def async_send_single_request(self: Any, request: Any) -> Any:
        if rerun.stage() is not None:
            await _read_async_upload(module, request)
        exchange = _begin(name, request)
        if exchange is None:
            serve.permit(request.method, str(request.url))
            return await asend(self, request)
        await exchange.wait_async()
        transport, request = _met(module, exchange, request, served)
        upload = _watch_upload(request, exchange, async_stream)
        carries = _carry(request, exchange)
        token, transport_token = QUIET.set(True), _transport.set(transport)
        try:
            response = await asend(self, request)
        except BaseException as error:
            exchange.fail(error)
            raise
        finally:
            leave(_transport, transport_token)
            leave(QUIET, token)
            if upload is not None:
                request.stream = upload
            if carries:
                request.headers.pop(TRACEPARENT, None)  # a redirect is made of these, and has a span of its own
        with guard:
            _note_headers(exchange, response)
            if not _is_read(response, exchange):
                response.stream = async_stream(response.stream, exchange)
        return response

    def transport_for_url(self: Any, url: Any) -> Any:
        return _transport.get() or client_transport(self, url)

    def async_transport_for_url(self: Any, url: Any) -> Any:
        return _transport.get() or async_client_transport(self, url)

    patch(module.Client, "_transport_for_url", transport_for_url)
    patch(module.AsyncClient, "_transport_for_url", async_transport_for_url)
    patch(module.Client, "_send_single_request", send_single_request)
    patch(module.AsyncClient, "_send_single_request", async_send_single_request)


def _begin(client: str, request: Any) -> Exchange | None:
    with guard:
        return begin(
            client, request.method, str(request.url), _pairs(request.headers), request.__dict__.get("_content")
        )
    return None


def _carry(request: Any, exchange: Exchange) -> bool:
    """Give a request the trace context that it is to carry, if it is to carry one."""
    text = exchange.traceparent()
    if text is not None:
        request.headers[TRACEPARENT] = text
    return text is not None


def _watch_upload(request: Any, exchange: Exchange, stream: Any) -> Any:
    """Keep a copy of a streamed upload as the transport reads it; gives the request's own stream, to be put back."""
    if exchange.request_body is not None:
        return None
    with guard:
        own = request.stream
        request.stream = stream(own, _Upload(exchange))
        return own
    return None


# --- a rerun ---------------------------------------------------------------------------------------------------------


def _read_upload(module: Any, request: Any) -> None:
    """Have the bytes of a request that is sent as a stream: what it is answered with is found by them."""
    if "_content" not in request.__dict__ and isinstance(request.stream, module.SyncByteStream):
        request.read()


async def _read_async_upload(module: Any, request: Any) -> None:
    if "_content" in request.__dict__:
        return
    if isinstance(request.stream, module.AsyncByteStream):
        await request.aread()
    elif isinstance(request.stream, module.SyncByteStream):
        request.read()


def _met(module: Any, exchange: Exchange, request: Any, served: Any) -> tuple[Any, Any]:
    """The transport that answers from the recording, if it does, and the request to send."""
    meeting = exchange.meeting
    if meeting is None:
        return None, request
    if meeting.answer is not None:
        from unspool.capture.http.answering import Delivery

        return served(Delivery(meeting)), request
    if meeting.body is None and meeting.url is None:
        return None, request
    own = ("content-length", "transfer-encoding")
    headers = [(name, value) for name, value in request.headers.raw if name.lower().decode("latin-1") not in own]
    changed = module.Request(
        request.method,
        request.url if meeting.url is None else meeting.url,
        headers=headers,
        content=request.content if meeting.body is None else meeting.body,
        extensions=request.extensions,
    )
    return None, changed


def _served_transport(module: Any) -> Any:
    """The class of transports that answer from a recording."""

    class ServedStream(module.SyncByteStream, module.AsyncByteStream):  # type: ignore[misc]
        def __init__(self, delivery: Delivery, request: Any) -> None:
            self._delivery = delivery
            self._request = request

        def __iter__(self) -> Iterator[bytes]:
            yield from self._delivery.pieces()
            if (error := self._delivery.broken(_maker(module, self._request))) is not None:
                raise error

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for piece in self._delivery.async_pieces():
                yield piece
            if (error := await self._delivery.async_broken(_maker(module, self._request))) is not None:
                raise error

    class ServedTransport(module.BaseTransport, module.AsyncBaseTransport):  # type: ignore[misc]
        def __init__(self, delivery: Delivery) -> None:
            self._delivery = delivery

        def handle_request(self, request: Any) -> Any:
            if (error := self._delivery.failed(_maker(module, request))) is not None:
                raise error
            return self._response(request)

        async def handle_async_request(self, request: Any) -> Any:
            if (error := await self._delivery.async_failed(_maker(module, request))) is not None:
                raise error
            return self._response(request)

        def _response(self, request: Any) -> Any:
            answer = self._delivery.answer
            return self._delivery.built(
                lambda: module.Response(
                    answer.status,
                    headers=[(_bytes(name), _bytes(value)) for name, value in answer.headers],
                    stream=ServedStream(self._delivery, request),
                    extensions={"http_version": b"HTTP/1.1", "reason_phrase": _bytes(answer.reason)},
                )
            )

    return ServedTransport


def _bytes(value: str) -> bytes:
    try:
        return value.encode("ascii")
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogateescape")


def _maker(module: Any, request: Any) -> MakeError:
    """How errors of this library are made again; their request is part of them."""

    def make(kind: type[BaseException], message: str, args: list[Any]) -> BaseException | None:
        constructor: Any = kind
        made: BaseException | None = None
        if issubclass(kind, module.RequestError):
            made = constructor(message, request=request)
        return made

    return make


# --- the response ----------------------------------------------------------------------------------------------------


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
