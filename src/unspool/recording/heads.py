"""Heads of HTTP messages (method, URL, headers; status line, headers): stored once, with what varies beside.

An agent sends the same twenty headers with every call and gets back twenty of which three differ (date, request id,
length). The head goes into the pool as one JSON object; the next message of the same shape refers to it and carries
only the values that differ. A length that is that of the body is not even that: `size` in the head is its position.
"""

from __future__ import annotations

from typing import Any

from unspool.events import HttpRequest, HttpResponse
from unspool.recording.lines import decode_json, encode_json
from unspool.recording.pool import PoolReader
from unspool.recording.poolwriter import PoolWriter

__all__ = ["HeadWriter", "restore_head"]

_SHAPES_MAX = 256
_VARY_MAX = 12  # more differences than this: a new head is cheaper than the list


class HeadWriter:
    """Moves heads into the pool."""

    def __init__(self, pool: PoolWriter) -> None:
        self._pool = pool
        self._shapes: dict[tuple[str | int, ...], tuple[str, list[str]]] = {}

    def store(self, message: HttpRequest | HttpResponse) -> None:
        """Replace the head fields of `message`, whose body is there already, by a reference."""
        if isinstance(message, HttpRequest):
            first = {"method": message.method or "", "url": message.url or "", "client": message.client or ""}
            message.method = message.url = message.client = None
        else:
            first = {"reason": message.reason or ""}
            message.reason = None
        headers = message.headers or []
        message.headers = None
        values = [*first.values(), *(value for _, value in headers)]
        sized = self._sized(message, headers)
        if sized is not None:
            values[len(first) + sized] = ""
            headers = [(name, "" if index == sized else value) for index, (name, value) in enumerate(headers)]
        shape: tuple[str | int, ...] = (*first, *(name for name, _ in headers), -1 if sized is None else sized)
        known = self._shapes.get(shape)
        if known is not None:
            vary = {
                str(index): value
                for index, (value, base) in enumerate(zip(values, known[1], strict=True))
                if value != base
            }
            if len(vary) <= _VARY_MAX:
                message.head, message.vary = known[0], vary or None
                return
        head: dict[str, Any] = {**first, "headers": headers}
        if sized is not None:
            head["size"] = sized
        key = self._pool.put_head(encode_json(head))
        if len(self._shapes) >= _SHAPES_MAX:
            self._shapes.clear()
        self._shapes[shape] = (key, values)
        message.head = key

    @staticmethod
    def _sized(message: HttpRequest | HttpResponse, headers: list[tuple[str, str]]) -> int | None:
        """Which header is the length of the body, None if none is."""
        size = str(message.body.size) if message.body is not None else None
        found = (i for i, (name, value) in enumerate(headers) if value == size and name.lower() == "content-length")
        return next(found, None)

    def forget(self) -> None:
        """The pool lost lines: refer to none of the heads stored so far."""
        self._shapes.clear()


def restore_head(message: HttpRequest | HttpResponse, pool: PoolReader) -> bool:
    """Fill the head fields in again; False if the pool does not have them."""
    if message.head is None:
        return message.headers is not None
    data = pool.get(message.head)
    if data is None:
        return False
    try:
        head: dict[str, Any] = decode_json(data)
        names = [name for name in head if name not in ("headers", "size")]
        if not set(names) <= set(message.__struct_fields__):
            return False
        values = [str(head[name]) for name in names]
        headers = [(str(name), str(value)) for name, value in head["headers"]]
        if "size" in head and message.body is not None:
            headers[head["size"]] = (headers[head["size"]][0], str(message.body.size))
        for index, value in (message.vary or {}).items():
            place = int(index)
            if place < len(values):
                values[place] = value
            else:
                headers[place - len(values)] = (headers[place - len(values)][0], value)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        return False
    for name, value in zip(names, values, strict=True):
        setattr(message, name, value or None)
    message.headers = headers
    return True
