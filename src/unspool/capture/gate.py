"""Asking `unspool run` whether a model call may leave, where it was given a limit that can say no.

The process of `unspool run` counts steps, money and tokens of all processes of its command, so it alone can tell. It
listens on a socket; before a request leaves, its process says which call it is and waits for a word: `go`, or `hold`.
While nobody answers (paused) the request waits; where nobody listens any more (the run is over, or the watch over its
limits has failed) it goes.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Final

import msgspec

from unspool.capture.flow import quiet
from unspool.capture.guard import guard

__all__ = ["GO", "HOLD", "MESSAGE_MAX", "Asked", "ask", "noted", "wait", "wait_async"]

GO: Final = b"go\n"
HOLD: Final = b"hold\n"
MESSAGE_MAX: Final = 4096
_PATIENCE_S: Final = 10.0  # an answer takes a millisecond; a supervisor that gives none is stuck, and must not stick us


class Asked(msgspec.Struct, omit_defaults=True):
    """A model call about to leave: the recording and the number of the call, and whether it repeats the one before."""

    record_id: str
    call: int
    retry: bool = False


def ask(address: str, asked: Asked) -> socket.socket | None:
    """Whether a call may leave: None if it may, else what to `wait` with. Faults are no reason to hold it."""
    connection = None
    with guard, quiet(), contextlib.suppress(ConnectionError, FileNotFoundError):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(_PATIENCE_S)
        connection.connect(address)
        connection.sendall(msgspec.json.encode(asked) + b"\n")
        if connection.recv(len(HOLD)) == HOLD:
            return connection
    if connection is not None:
        connection.close()
    return None


def noted(held: socket.socket) -> None:
    """Say that the word was heard, and written down: this process may be ended now."""
    with guard, quiet(), contextlib.suppress(ConnectionError):
        held.sendall(b"\n")


def wait(held: socket.socket) -> None:
    """Hold a request back until this process is ended. Signal handlers of the program run meanwhile."""
    with guard, quiet(), contextlib.suppress(ConnectionError):
        held.settimeout(None)
        held.recv(1)  # nothing comes: it ends when `unspool run` itself has ended
    held.close()


async def wait_async(held: socket.socket) -> None:
    """As `wait`, and the event loop goes on: the program's tasks can end as it wants."""
    import asyncio

    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # another kind of loop
        wait(held)
        return
    with guard, contextlib.suppress(ConnectionError), held:
        held.setblocking(False)
        await loop.sock_recv(held, 1)
