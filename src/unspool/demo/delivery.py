"""From a rendered answer to what is sent: faults in streams, content codings, status phrases."""

from __future__ import annotations

import zlib
from http import HTTPStatus
from typing import Any

from unspool.demo.script import CutOff, ErrorInStream, Malformed, ModelRequest, Reply
from unspool.demo.wire import WireFormat, gemini

__all__ = ["coder_for", "encoded", "faulty_frames", "phrase"]


def faulty_frames(frames: list[bytes], reply: Reply, request: ModelRequest, wire: WireFormat) -> list[bytes]:
    """The stream's frames up to where its fault strikes, and what comes instead."""
    half = max(1, len(frames) // 2)
    match reply.fault:
        case ErrorInStream():
            frames = [*frames[:half], wire.error_event("The server had an error in mid-stream", request, half)]
        case Malformed():
            # The middle: the first events of some formats (`ping`) are skipped by SDKs before they are parsed.
            broken = frames[min(half, len(frames) - 1)].rstrip()
            frames = [*frames[:half], broken[: -(len(broken) // 3)] + b"\n\n"]
        case _:
            pass
    if request.framing == "array":
        frames = gemini.as_array(frames)
    if isinstance(reply.fault, CutOff):
        # In the middle of an event, where a careless reader takes the half for a whole.
        following = frames[half] if half < len(frames) else b""
        frames = [*frames[:half], following[: len(following) // 2]]
    return [frame for frame in frames if frame]


def coder_for(reply: Reply) -> Any:
    """A compressor with the container of the reply's content coding; `zlib` writes no time into it, unlike `gzip`."""
    if reply.encoding is None:
        return None
    return zlib.compressobj(wbits=31 if reply.encoding == "gzip" else 15)


def encoded(body: bytes, reply: Reply) -> bytes:
    coder = coder_for(reply)
    return coder.compress(body) + coder.flush() if coder else body


def phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Overloaded"
