"""The recorded half of an exchange that is given back: status, headers, the body in its pieces, or the error."""

from __future__ import annotations

from itertools import accumulate
from typing import Final

from unspool.errors import UnspoolError
from unspool.events import ErrorData, HttpResponse, LLMResponseData, SyscallEventData
from unspool.recording.reader import RecordReader
from unspool.serving.plan import Offer

__all__ = ["Answer", "Unservable", "cut", "read_answer"]

_CLOSED: Final = "closed by the program"  # how capture marks a body that the program did not read to its end
_NOT_DECODED: Final = "(not decoded)"
_FRAMING: Final = frozenset(("content-encoding", "content-length", "transfer-encoding"))


class Unservable(UnspoolError):
    """A recorded exchange that cannot be given back; the message says why."""


class Answer:
    """What a server answered once.

    Attributes:
        status: None if there was no answer but `error`.
        headers: without those about the framing of the body, which is another when it is served.
        pieces: the body as it arrived, content-decoded.
        delays: seconds before each piece, counted from the piece before (the first from the request).
        is_chunked: it came in chunks of no announced length.
        error: what the request, or the reading of the body behind its last piece, failed with.
        closed: the program closed the body after the last piece, before its end.
    """

    __slots__ = ("closed", "delays", "error", "headers", "is_chunked", "is_encoded", "pieces", "reason", "status")

    def __init__(
        self,
        status: int | None,
        reason: str | None = None,
        headers: list[tuple[str, str]] | None = None,
        pieces: list[bytes] | None = None,
        delays: list[float] | None = None,
        *,
        error: ErrorData | None = None,
        closed: bool = False,
        is_encoded: bool = False,
    ) -> None:
        self.status = status
        self.reason = reason or ""
        all_headers = headers or []
        self.pieces = pieces or []
        self.delays = delays or [0.0] * len(self.pieces)
        self.error = error
        self.closed = closed
        self.is_encoded = is_encoded
        self.is_chunked = any(name.lower() == "transfer-encoding" for name, _ in all_headers)
        self.headers = self._own_headers(all_headers)

    def _own_headers(self, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        named = {name.lower(): value for name, value in headers}
        drop = set(_FRAMING)
        if self.is_encoded:
            drop.discard("content-encoding")
        # A length is still true if the body is the one it was said of; a HEAD request has none and names its length.
        told = named.get("content-length", "")
        whole = self.error is None and not self.closed and "content-encoding" not in drop.intersection(named)
        if whole and told.isdigit() and (not self.pieces or int(told) == sum(map(len, self.pieces))):
            drop.discard("content-length")
        return [(name, value) for name, value in headers if name.lower() not in drop]


def read_answer(reader: RecordReader, offer: Offer) -> Answer:
    """The answer of an exchange.

    Raises:
        Unservable: it is not there, or not whole.
        OSError, UnspoolError: the recording cannot be read.
    """
    number = offer.response if offer.kind == "llm" else offer.syscall
    if number is None:
        raise Unservable("its response is not recorded")
    event = reader.events().bare(reader.index_of(number))
    data: LLMResponseData | SyscallEventData | None = event.llm if offer.kind == "llm" else event.syscall
    if data is None:
        raise Unservable("its response is not recorded")
    if data.response is None:
        if data.error is None:
            raise Unservable("its response is not recorded")
        return Answer(None, error=data.error)
    return _served(reader, data.response, data.error)


def _served(reader: RecordReader, response: HttpResponse, error: ErrorData | None) -> Answer:
    whole = reader.with_head(response)
    body = whole.body
    data = reader.body(body) if body is not None and body.missing is None else None
    if body is None or data is None:
        raise Unservable("the bytes of its response are missing or damaged")
    if whole.headers is None:
        raise Unservable("the headers of its response are missing or damaged")
    closed = not whole.complete and (whole.ended or "").startswith(_CLOSED)
    broken = error if not whole.complete and not closed else None
    if broken is None and not whole.complete and not closed:
        raise Unservable(f"its body ended in a way that cannot be served: {whole.ended}")
    pieces, delays = cut(data, whole.chunks)
    return Answer(
        whole.status,
        whole.reason,
        whole.headers,
        pieces,
        delays,
        error=broken,
        closed=closed,
        is_encoded=bool(body.encoding and body.encoding.endswith(_NOT_DECODED)),
    )


def cut(data: bytes, chunks: list[int] | None) -> tuple[list[bytes], list[float]]:
    """A body cut as it arrived. If it travelled compressed, the cuts are at the same parts of its length."""
    if not data:
        return [], []
    sizes = chunks[::2] if chunks else []
    total = sum(sizes)
    if len(sizes) < 2 or total <= 0 or min(sizes) < 0:
        return [data], [0.0]
    delays = [max(micros, 0) / 1_000_000 for micros in (chunks or [])[1::2]] + [0.0]  # a damaged list ends with a size
    ends = [end * len(data) // total for end in accumulate(sizes)]
    pieces: list[bytes] = []
    waits: list[float] = []
    start, waited = 0, 0.0
    for end, delay in zip(ends, delays, strict=False):
        waited += delay
        if end > start:
            pieces.append(data[start:end])
            waits.append(waited)
            start, waited = end, 0.0
    return pieces, waits
