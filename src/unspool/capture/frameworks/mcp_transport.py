"""Transports of MCP clients: who a session talks to; in a rerun, nobody until a request really has to be sent.

A server over stdio is a process of its own, recorded once, with what it starts inside the connection. What HTTP
transports send is not recorded: the session's requests are.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from contextvars import ContextVar, Token
from dataclasses import replace
from typing import Any

from unspool.capture import rerun
from unspool.capture.credentials import clean_argv, clean_url
from unspool.capture.flow import FLOW, QUIET, current_flow, leave
from unspool.capture.toolrun import ToolRun, begin
from unspool.serving.tools import MCP, SESSION, mcp_key

__all__ = ["Connection", "connection_of", "install_sse", "install_stdio", "install_streamable_http"]

Patch = Callable[[Any, str, Any], None]

_HANDSHAKE_ID = "unspool-handshake"

# One transport may be made of another.
_connecting: ContextVar[bool] = ContextVar("unspool_mcp_connecting", default=False)
_connections: dict[int, Connection] = {}  # by the identity of the stream a session writes to, as long as it is open


def connection_of(sender: Any) -> Connection | None:
    """The connection that a session or dispatcher writes to; None for a server in this program."""
    return _connections.get(id(getattr(sender, "_write_stream", None)))


def install_stdio(module: Any, patch: Patch) -> None:
    """Patch `mcp.client.stdio`."""
    _watch(module, "stdio_client", patch, _command_line, is_http=False)


def install_sse(module: Any, patch: Patch) -> None:
    """Patch `mcp.client.sse`."""
    _watch(module, "sse_client", patch, _url, is_http=True)


def install_streamable_http(module: Any, patch: Patch) -> None:
    """Patch `mcp.client.streamable_http`, whose client has had two names."""
    for name in ("streamable_http_client", "streamablehttp_client"):
        if hasattr(module, name):
            _watch(module, name, patch, _url, is_http=True)


def _command_line(*args: Any, **kwargs: Any) -> str:
    server = args[0] if args else kwargs["server"]
    return " ".join(clean_argv([server.command, *server.args]))


def _url(*args: Any, **kwargs: Any) -> str:
    return clean_url(str(args[0] if args else kwargs["url"]))


def _watch(module: Any, name: str, patch: Patch, address: Callable[..., str], *, is_http: bool) -> None:
    original = getattr(module, name)
    # Version 1 hands out a third value: a function that gives the session's id.
    has_id = hasattr(module, "GetSessionIdCallback")

    def connect(*args: Any, **kwargs: Any) -> Any:
        if _connecting.get() or current_flow() is None:
            return original(*args, **kwargs)
        return Connection(lambda: original(*args, **kwargs), address(*args, **kwargs), is_http=is_http, has_id=has_id)

    patch(module, name, connect)


class Connection:
    """One connection of a client with its server: a context manager like the transport's own.

    Attributes:
        server: the command line or URL, without credentials.
        handshake: parameters of the session's `initialize`, once it was asked for.
    """

    def __init__(self, connect: Callable[[], Any], server: str, *, is_http: bool, has_id: bool) -> None:
        self.server = server
        self.handshake: Any = None
        self._connect = connect
        self._is_http = is_http
        self._has_id = has_id
        self._inner: Any = None
        self._run: ToolRun | None = None
        self._key = 0
        self._is_written = False

    def named(self, name: str) -> None:
        """The server has said its name: now the connection can be written down."""
        if self._run is not None and not self._is_written:
            self._run.path = f"{SESSION}{name}"
            self._write()

    def _write(self) -> None:
        if self._run is not None and not self._is_written:
            self._is_written = True
            self._run.returned(None)

    async def __aenter__(self) -> Any:
        self._run = run = begin(
            "connect",
            dict,
            path=f"{SESSION}unknown",
            syscall=MCP,
            more={"method": "connect", "server": self.server},
            key=mcp_key("connect", self.server),
        )
        if run is not None and run.flow is not None:
            # How many tasks a transport starts is its own affair: they do not count among the agent's.
            run.flow.children = itertools.count(1)
        self._inner = self._connect()
        if run is not None and rerun.serves_tools():
            from unspool.capture.toolserve import claim

            answer = claim(run)
            if answer is not None and answer.error is not None:
                answer.give(run)
            self._inner = LazyTransport(self, self._connect, has_id=self._has_id)
        tokens = self._enter()
        try:
            streams = await self._inner.__aenter__()
        except BaseException as error:
            if run is not None:
                self._is_written = True
                run.failed(error)
            raise
        finally:
            _leave(tokens)
        if run is not None:
            run.stopped_ns = time.monotonic_ns()  # what takes time is connecting, not being connected
        self._key = id(streams[1])
        _connections[self._key] = self
        return streams

    async def __aexit__(self, *exc: Any) -> Any:
        _connections.pop(self._key, None)
        tokens = self._enter()
        try:
            return await self._inner.__aexit__(*exc)
        finally:
            _leave(tokens)
            self._write()

    def _enter(self) -> list[tuple[ContextVar[Any], Token[Any]]]:
        tokens: list[tuple[ContextVar[Any], Token[Any]]] = [(_connecting, _connecting.set(True))]
        if self._run is not None:
            tokens.append((FLOW, FLOW.set(self._run.flow)))
        if self._is_http:
            tokens.append((QUIET, QUIET.set(True)))
        return tokens


def _leave(tokens: list[tuple[ContextVar[Any], Token[Any]]]) -> None:
    for variable, token in reversed(tokens):
        leave(variable, token)


class LazyTransport:
    """Streams for a session whose requests are served; the real server is connected to at the first that is not.

    Then the handshake that was served is made up for first.
    """

    def __init__(self, connection: Connection, connect: Callable[[], Any], *, has_id: bool) -> None:
        self._connection = connection
        self._connect = connect
        self._has_id = has_id
        self._kept: list[Any] = []  # notifications of the session that a server would know

    async def __aenter__(self) -> Any:
        import anyio

        self._to_session, reads = anyio.create_memory_object_stream(math.inf)
        writes, self._from_session = anyio.create_memory_object_stream(math.inf)
        self._streams = (self._to_session, reads, writes, self._from_session)
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._pass_on)
        return (reads, writes, lambda: None) if self._has_id else (reads, writes)

    async def __aexit__(self, *exc: Any) -> Any:
        # The session says no more: what is connected closes by itself.
        await self._streams[2].aclose()
        if exc[0] is not None:
            self._tasks.cancel_scope.cancel()
        try:
            return await self._tasks.__aexit__(*exc)
        finally:
            for stream in self._streams:
                await stream.aclose()

    async def _pass_on(self) -> None:
        real: Any = None
        async with AsyncExitStack() as stack:
            async for message in self._from_session:
                if real is not None:
                    await real.send(message)
                elif _field(message, "method") is None or _field(message, "id") is None:
                    self._kept.append(message)
                else:
                    real = await self._open(stack, message)
                    await real.send(message)

    async def _open(self, stack: AsyncExitStack, message: Any) -> Any:
        """Connect for real, on behalf of this request."""
        reads, writes, *_ = await stack.enter_async_context(self._connect())
        handshake = self._connection.handshake
        if handshake is not None and _field(message, "method") != "initialize":
            await writes.send(_request(message, "initialize", handshake))
            while _field(answer := await reads.receive(), "id") != _HANDSHAKE_ID:
                await self._to_session.send(answer)
        for kept in self._kept:
            if _field(kept, "method") == "notifications/initialized":
                await writes.send(kept)
        self._tasks.start_soon(self._pass_back, reads)
        return writes

    async def _pass_back(self, reads: Any) -> None:
        import anyio

        try:
            async for message in reads:
                await self._to_session.send(message)
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            return  # one of both sides has closed


def _payload(message: Any) -> Any:
    """The JSON-RPC message in a session's message; version 1 has a model around it."""
    inner = getattr(message, "message", None)
    return getattr(inner, "root", inner)


def _field(message: Any, name: str) -> Any:
    return getattr(_payload(message), name, None)


def _request(message: Any, method: str, params: Any) -> Any:
    """Another request in the form of this one."""
    request = _payload(message).model_copy(update={"id": _HANDSHAKE_ID, "method": method, "params": params})
    wrapped = type(message.message)(request) if hasattr(message.message, "root") else request
    return replace(message, message=wrapped, metadata=None)
