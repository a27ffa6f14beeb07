"""A recorded answer as bytes of HTTP/1.1, and a socket they are read from.

Libraries that parse HTTP themselves read a served answer with their own parser, chunk by chunk as it came.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, Final

from unspool.capture.http.answering import Delivery, MakeError
from unspool.serving.served import Answer

__all__ = ["END", "ServedSocket", "body_frame", "head_bytes"]

END: Final = b"0\r\n\r\n"  # of a chunked body
_BODILESS: Final = (204, 304)


def head_bytes(answer: Answer) -> bytes:
    """Status line and headers. The body is framed in chunks if it was, or if its length is not told."""
    lines = [f"HTTP/1.1 {answer.status} {_one_line(answer.reason)}"]
    lines += [f"{_one_line(name)}: {_one_line(value)}" for name, value in answer.headers]
    if is_framed(answer):
        lines.append("transfer-encoding: chunked")
    elif not answer.pieces and not _has_length(answer) and answer.error is None and not answer.closed:
        lines.append("content-length: 0")
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")


def is_framed(answer: Answer) -> bool:
    """Whether the body goes in chunks: then the program meets them where it met them."""
    return answer.status not in _BODILESS and bool(answer.is_chunked and not _has_length(answer))


def body_frame(answer: Answer, piece: bytes) -> bytes:
    """A piece of the body as it stands on the wire."""
    return b"%x\r\n%b\r\n" % (len(piece), piece) if is_framed(answer) else piece


def _has_length(answer: Answer) -> bool:
    return any(name.lower() == "content-length" for name, _ in answer.headers)


def _one_line(text: str) -> str:
    return text.replace("\r", " ").replace("\n", " ")


class ServedSocket:
    """What `http.client` needs of a socket: what is written goes nowhere, what is read is the answer."""

    def __init__(self, delivery: Delivery, make: MakeError) -> None:
        self._delivery = delivery
        self._make = make

    def makefile(self, *_args: Any, **_options: Any) -> io.BufferedReader:
        """The answer as a file."""
        return io.BufferedReader(_AnswerFile(self._delivery, self._make))

    def sendall(self, data: Any) -> None:
        """Nothing is sent."""

    def settimeout(self, timeout: float | None) -> None:
        """What is recorded comes when it comes."""

    def setsockopt(self, *args: Any) -> None:
        """There is nothing to set."""

    def shutdown(self, how: int) -> None:
        """There is nothing to end."""

    def close(self) -> None:
        """There is nothing to close."""


class _AnswerFile(io.RawIOBase):
    def __init__(self, delivery: Delivery, make: MakeError) -> None:
        self._frames = _frames(delivery, make)
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            self._left = next(self._frames, b"")
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


def _frames(delivery: Delivery, make: MakeError) -> Iterator[bytes]:
    """The answer piece by piece, one read each."""
    answer = delivery.answer
    yield head_bytes(answer)
    for piece in delivery.pieces():
        yield body_frame(answer, piece)
    if (error := delivery.broken(make)) is not None:
        raise error
    if is_framed(answer):
        yield END
