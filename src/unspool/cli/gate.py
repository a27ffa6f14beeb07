"""The gate: processes of a recorded command ask here before a model call of theirs leaves."""

from __future__ import annotations

import contextlib
import select
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from unspool.capture.gate import GO, HOLD, MESSAGE_MAX, Asked

__all__ = ["Gate", "Waiting"]

_MESSAGE_S: Final = 1.0  # for a line or a word: the other side has nothing else to do


class Waiting:
    """A model call that waits for a word."""

    def __init__(self, asked: Asked, connection: socket.socket) -> None:
        self.asked = asked
        self._connection = connection

    def go(self) -> None:
        """It may leave."""
        self._tell(GO)
        self.close()

    def hold(self) -> None:
        """It may not leave; comes back when its process has written that down."""
        self._tell(HOLD)
        with contextlib.suppress(OSError):
            self._connection.recv(1)

    def close(self) -> None:
        """Wait for it no more."""
        self._connection.close()

    def _tell(self, word: bytes) -> None:
        with contextlib.suppress(OSError):  # its process may have ended
            self._connection.sendall(word)


class Gate:
    """A socket in a folder of this user's own: a context manager.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self) -> None:
        self._held: list[Waiting] = []
        self._folder = tempfile.mkdtemp(prefix="unspool-")  # 0700; short, as paths of sockets must be
        self.address = str(Path(self._folder) / "gate")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._listener.bind(self.address)
            self._listener.listen(128)
            self._listener.setblocking(False)
        except OSError:
            self.close()
            raise

    def waiting(self, timeout_s: float) -> Iterator[Waiting]:
        """Calls that ask, as soon as there are any; none after `timeout_s`."""
        if not select.select([self._listener], [], [], timeout_s)[0]:
            return
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # no more, or the other side has gone
                return
            asked = _read(connection)
            if asked is None:
                connection.close()
                continue
            yield Waiting(asked, connection)

    def hold(self, one: Waiting) -> None:
        """It may not leave: it waits as long as the gate is open."""
        self._held.append(one)  # a connection that is closed lets its call go
        one.hold()

    def close(self) -> None:
        """Let go whatever still waits, and take the socket away."""
        for one in self._held:
            one.close()
        self._held.clear()
        self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _read(connection: socket.socket) -> Asked | None:
    """What is asked; None if it is nothing we know."""
    data = b""
    try:
        connection.settimeout(_MESSAGE_S)
        while not data.endswith(b"\n"):
            piece = connection.recv(MESSAGE_MAX)
            if not piece or len(data) > MESSAGE_MAX:
                return None
            data += piece
        return msgspec.json.decode(data, type=Asked)
    except (OSError, msgspec.DecodeError):
        return None
