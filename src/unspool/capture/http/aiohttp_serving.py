"""Recorded answers for `aiohttp`: a connection without a socket, whose answer the library parses with its own parser.

The body is given when the program waits for it, piece by piece, so that it meets the pieces it met.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from unspool.capture import serve
from unspool.capture.flow import leave
from unspool.capture.http.answering import Delivery, MakeError, pause, rebuilt_cause
from unspool.capture.http.wire import END, body_frame, head_bytes, is_framed

__all__ = ["Body", "give_pieces", "install", "met", "read_body"]

Patch = Callable[[Any, str, Any], None]

# The answer to the request under way; the connector gives a connection for it.
_answering: ContextVar[Delivery | None] = ContextVar("unspool_aiohttp", default=None)

# By identity of the reader, as long as its response lives.
_bodies: dict[int, Body] = {}


def install(module: Any, patch: Patch) -> None:
    """Have the connectors of `aiohttp` ask for a recorded answer before they connect."""
    from aiohttp import connector
    from aiohttp.client_proto import ResponseHandler

    connect = connector.BaseConnector.connect
    connection_class = _connection_class(connector.Connection)

    async def connect_or_serve(self: Any, req: Any, traces: Any, timeout: Any) -> Any:
        delivery = _answering.get()
        if delivery is None:
            return await connect(self, req, traces, timeout)
        loop = asyncio.get_running_loop()
        protocol = ResponseHandler(loop)
        protocol.connection_made(_Transport())
        loop.call_soon(protocol.data_received, head_bytes(delivery.answer))
        return connection_class(self, req.connection_key, protocol, loop)

    patch(connector.BaseConnector, "connect", connect_or_serve)


def give_pieces(reader: Any) -> None:
    """Have readers of this class ask for the next piece of a served body when they have none left."""
    wait_for_data = reader._wait

    async def wait_or_feed(self: Any, func_name: str) -> None:
        body = _bodies.get(id(self))
        if body is None:
            await wait_for_data(self, func_name)
        else:
            await body.feed(self)

    reader._wait = wait_or_feed


async def met(
    request: Any, handler: Callable[[Any], Awaitable[Any]], meeting: serve.Meeting
) -> tuple[Body | None, Any]:
    """The response to a request of a rerun, and its body if it is served, to be begun.

    Raises:
        Exception: the recorded error, or that of a request that was sent.
    """
    if meeting.answer is None:
        await _change(request, meeting)
        return None, await handler(request)
    delivery = Delivery(meeting)
    make = _maker(request, delivery)
    if (error := await delivery.async_failed(make)) is not None:
        raise error
    from aiohttp.connector import BaseConnector

    if type(request.session.connector).connect is not BaseConnector.connect:
        delivery.stop("the program's connector has a way of its own to connect, which cannot be served")
    token = _answering.set(delivery)
    try:
        response = await handler(request)
    finally:
        leave(_answering, token)
    return Body(delivery, make, response.connection), response


class Body:
    """The body of a served response, on its way."""

    def __init__(self, delivery: Delivery, make: MakeError, connection: Any) -> None:
        self._delivery = delivery
        self._make = make
        self._protocol = connection.protocol if connection is not None else None
        self._left = len(delivery.answer.pieces)
        self._pieces = delivery.async_pieces()

    def begin(self, response: Any) -> None:
        """Give the body to the response's reader when it is waited for; an empty one is over at once."""
        self._delivery.built(lambda: self._begin(response))

    def _begin(self, response: Any) -> None:
        answer, reader = self._delivery.answer, response.content
        if not self._left and answer.error is None and not answer.closed:
            self._end()
        elif not reader.at_eof():
            _bodies[id(reader)] = self
            weakref.finalize(response, _bodies.pop, id(reader), None).atexit = False

    async def feed(self, reader: Any) -> None:
        """The next piece for a reader that has none left; what it fails with behind the last one."""
        if self._left and self._protocol is not None:
            piece = await anext(self._pieces)
            self._left -= 1
            self._protocol.data_received(body_frame(self._delivery.answer, piece))
        else:
            error = await self._delivery.async_broken(self._make)
            if error is not None:
                reader.set_exception(error)
                raise error
        answer = self._delivery.answer
        if not self._left and answer.error is None and not answer.closed:
            self._end()
        await pause(0)

    def _end(self) -> None:
        answer, protocol = self._delivery.answer, self._protocol
        if protocol is None:
            return
        if is_framed(answer):
            protocol.data_received(END)
        elif not any(name.lower() == "content-length" for name, _ in answer.headers):
            protocol.connection_lost(None)  # the end of the connection is the end of the body


def _maker(request: Any, delivery: Delivery) -> MakeError:
    """How errors of `aiohttp` are made again: those of the connection know where it went."""

    def make(kind: type[BaseException], message: str, args: list[Any]) -> BaseException | None:
        from aiohttp import client_exceptions

        made: BaseException | None = None
        if issubclass(kind, client_exceptions.ClientConnectorError):
            # Its arguments are the key of the connection and the error of the system, which no JSON holds.
            error = delivery.answer.error
            cause = rebuilt_cause(error.cause) if error is not None and error.cause is not None else None
            made = kind(request.connection_key, cause if isinstance(cause, OSError) else OSError(0, message))
        elif issubclass(kind, client_exceptions.ClientResponseError):
            made = kind(request.request_info, ())
        return made

    return make


# --- the request -----------------------------------------------------------------------------------------------------


async def read_body(request: Any) -> None:
    """Have the bytes of a body that is written as a stream: what it is answered with is found by them."""
    collected = _Collected()
    await request.body.write(collected)
    await _replace(request, b"".join(collected.pieces))


async def _change(request: Any, meeting: serve.Meeting) -> None:
    """Put what an edit made of a request in its place."""
    if meeting.url is not None:
        request.url = type(request.url)(meeting.url)
    if meeting.body is not None:
        await _replace(request, meeting.body)


async def _replace(request: Any, body: bytes) -> None:
    kept = request.headers.get("Content-Type")
    await request.update_body(body)
    if kept is not None:
        request.headers["Content-Type"] = kept
    request.headers["Content-Length"] = str(len(body))


class _Collected:
    """Takes the place of the writer of a request."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    async def write(self, chunk: Any, *_more: Any, **_options: Any) -> None:
        self.pieces.append(bytes(chunk))

    async def drain(self) -> None:
        """Nothing is held back."""

    async def write_eof(self, chunk: bytes = b"") -> None:
        self.pieces.append(bytes(chunk))


# --- the connection --------------------------------------------------------------------------------------------------


def _connection_class(base: Any) -> type:
    class ServedConnection(base):  # type: ignore[misc]  # aiohttp's, known at run time only
        """A connection that belongs to no pool."""

        def __del__(self, *_args: Any) -> None:
            """There is nothing to give back."""

        def close(self) -> None:
            self._notify_release()
            self._protocol = None

        def release(self) -> None:
            self.close()

    return ServedConnection


class _Transport(asyncio.Transport):
    """What is written goes nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self._closed = False

    def write(self, data: Any) -> None:
        """Nothing is sent."""

    def writelines(self, list_of_data: Any) -> None:
        """Nothing is sent."""

    def is_closing(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True

    def abort(self) -> None:
        self._closed = True

    def pause_reading(self) -> None:
        """Pieces come when they are waited for."""

    def resume_reading(self) -> None:
        """Pieces come when they are waited for."""
