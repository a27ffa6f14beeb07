"""Asking before a model call leaves, and the gate that answers."""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path

import pytest

from unspool.capture import gate as asking
from unspool.capture.gate import Asked
from unspool.cli.gate import Gate


def answered(gate: Gate, word: str) -> threading.Thread:
    """A supervisor for one question."""

    def answer() -> None:
        one = next(iter(gate.waiting(10)))
        if word == "go":
            one.go()
        else:
            gate.hold(one)

    thread = threading.Thread(target=answer)
    thread.start()
    return thread


def test_a_call_that_may_leave_leaves() -> None:
    with Gate() as gate:
        thread = answered(gate, "go")
        assert asking.ask(gate.address, Asked("1-x", 7, retry=True)) is None
        thread.join()


def test_what_is_asked_arrives() -> None:
    with Gate() as gate, socket.socket(socket.AF_UNIX) as client:
        client.connect(gate.address)
        client.sendall(b'{"record_id":"1-x","call":7}\n')
        [one] = gate.waiting(10)
        assert one.asked == Asked("1-x", 7)
        one.go()
        assert client.recv(16) == b"go\n"


def test_a_held_call_waits_until_the_gate_is_gone() -> None:
    gate = Gate()
    thread = answered(gate, "hold")
    held = asking.ask(gate.address, Asked("1-x", 7))
    assert held is not None
    asking.noted(held)
    thread.join()
    held.setblocking(False)
    with pytest.raises(BlockingIOError):
        held.recv(1)
    waiting = threading.Thread(target=asking.wait, args=(held,))
    waiting.start()
    gate.close()
    waiting.join(10)
    assert not waiting.is_alive()


def test_an_event_loop_goes_on_while_a_call_is_held() -> None:
    async def program() -> str:
        gate = Gate()
        thread = answered(gate, "hold")
        held = await asyncio.to_thread(asking.ask, gate.address, Asked("1-x", 7))
        assert held is not None
        asking.noted(held)
        thread.join()
        task = asyncio.create_task(asking.wait_async(held))
        await asyncio.sleep(0)
        assert not task.done()
        gate.close()
        await asyncio.wait_for(task, 10)
        return "went on"

    assert asyncio.run(program()) == "went on"


def test_where_nobody_listens_calls_leave(tmp_path: Path) -> None:
    assert asking.ask(str(tmp_path / "gone"), Asked("1-x", 1)) is None
    gate = Gate()
    gate.close()
    assert asking.ask(gate.address, Asked("1-x", 1)) is None
    assert asking.ask(str(tmp_path / ("long" * 60)), Asked("1-x", 1)) is None


@pytest.mark.parametrize("message", [b"", b"{}\n", b"no json\n", b"\xff\xfe\n", b"x" * 10_000, b'{"record_id":1}\n'])
def test_what_is_no_question_is_refused(message: bytes) -> None:
    with Gate() as gate, socket.socket(socket.AF_UNIX) as client:
        client.connect(gate.address)
        client.sendall(message)
        client.shutdown(socket.SHUT_WR)
        assert list(gate.waiting(10)) == []


def test_a_process_that_dies_while_it_waits_does_no_harm() -> None:
    with Gate() as gate:
        for word in ("go", "hold"):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(gate.address)
                client.sendall(b'{"record_id":"1-x","call":7}\n')
            [one] = gate.waiting(10)
            one.go() if word == "go" else gate.hold(one)
