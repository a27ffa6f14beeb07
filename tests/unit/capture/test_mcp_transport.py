"""The transport of an MCP session in a rerun: nobody at the other end until a request really has to be sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

from unspool.capture.frameworks.mcp_transport import Connection, LazyTransport


class Server:
    """The other end: answers every request with its method, and remembers what it heard."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []
        self.opened = self.closed = 0

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[tuple[Any, Any]]:
        self.opened += 1
        to_client, client_reads = anyio.create_memory_object_stream[SessionMessage](10)
        client_writes, from_client = anyio.create_memory_object_stream[SessionMessage](10)

        async def serve() -> None:
            async with to_client:
                async for message in from_client:
                    asked = message.message
                    self.heard.append((asked.method, asked.params))
                    if isinstance(asked, JSONRPCRequest):
                        answer = JSONRPCResponse(jsonrpc="2.0", id=asked.id, result={"to": asked.method})
                        await to_client.send(SessionMessage(answer))

        async with anyio.create_task_group() as tasks, client_reads, client_writes, from_client:
            tasks.start_soon(serve)
            yield client_reads, client_writes
            tasks.cancel_scope.cancel()
        self.closed += 1


def request(number: int, method: str, **params: Any) -> SessionMessage:
    return SessionMessage(JSONRPCRequest(jsonrpc="2.0", id=number, method=method, params=params))


def notification(method: str) -> SessionMessage:
    return SessionMessage(JSONRPCNotification(jsonrpc="2.0", method=method))


def lazy(server: Server, handshake: Any = None) -> LazyTransport:
    connection = Connection(server.connect, "server", is_http=False, has_id=False)
    connection.handshake = handshake
    return LazyTransport(connection, server.connect, has_id=False)


def test_nothing_is_opened_for_notifications() -> None:
    server = Server()

    async def talk() -> None:
        async with lazy(server) as (_, writes):
            await writes.send(notification("notifications/initialized"))
            await writes.send(notification("notifications/cancelled"))

    asyncio.run(talk())
    assert (server.opened, server.heard) == (0, [])


def test_the_handshake_that_was_served_is_made_up_for() -> None:
    server = Server()

    async def talk() -> list[Any]:
        async with lazy(server, {"protocolVersion": "1"}) as (reads, writes):
            await writes.send(notification("notifications/initialized"))
            await writes.send(notification("notifications/roots/list_changed"))
            answers = []
            for number in (5, 6):
                await writes.send(request(number, "tools/call", name="t"))
                answers.append((await reads.receive()).message)
            return answers

    answers = asyncio.run(talk())
    assert [(answer.id, answer.result) for answer in answers] == [(5, {"to": "tools/call"}), (6, {"to": "tools/call"})]
    assert server.heard == [
        ("initialize", {"protocolVersion": "1"}),
        ("notifications/initialized", None),
        ("tools/call", {"name": "t"}),
        ("tools/call", {"name": "t"}),
    ]
    assert (server.opened, server.closed) == (1, 1)


def test_a_session_that_asks_for_its_handshake_gets_it_itself() -> None:
    server = Server()

    async def talk() -> Any:
        async with lazy(server, {"protocolVersion": "1"}) as (reads, writes):
            await writes.send(request(1, "initialize", protocolVersion="1"))
            return (await reads.receive()).message

    assert asyncio.run(talk()).result == {"to": "initialize"}
    assert [method for method, _ in server.heard] == ["initialize"]


def test_an_error_in_the_session_closes_what_is_open() -> None:
    server = Server()

    async def talk() -> None:
        async with lazy(server) as (reads, writes):
            await writes.send(request(1, "tools/list"))
            await reads.receive()
            raise KeyError("of the session")

    # In a group, as it comes out of the transports themselves.
    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(talk())
    assert repr(caught.value.exceptions) == "(KeyError('of the session'),)"
    assert server.opened == 1
