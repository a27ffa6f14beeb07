"""Cutting request bodies into pieces that go into the pool, at the elements of their message array.

Any cut gives the same bytes back, since pieces are slices; a body that is no JSON object with that array is not cut.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING

import msgspec

from unspool.recording.poolwriter import Item, PoolWriter

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["Cut", "Rests", "cut_body", "extend_cut"]

TAIL_MAX = 256 << 10  # a longer tail is parsed by the full path, which does not build Python objects
_PIECE_MIN = 256  # top-level values outside the message array at least this long are pieces of their own
_RESTS_MAX = 64

_KEY = re.compile(rb'[ \t\r\n,{]*"((?:[^"\\]|\\.)*)"[ \t\r\n]*:[ \t\r\n]*')
_TEXT_KEY = re.compile(r'"(?:[^"\\]|\\.)*"[ \t\r\n]*:[ \t\r\n]*')
_SPACE = re.compile(rb"[ \t\r\n]*")
_json = json.JSONDecoder(strict=False)


class Cut(msgspec.Struct):
    """A body in pieces: rope items before and after the messages, and keys, items and end offsets of the messages.

    `prefix` is the body up to the end of its last message, `hash_at_end` the state of SHA-256 there; `skeleton` is the
    body with the message array emptied.
    """

    head: list[str]
    tail: list[str]
    first_start: int
    keys: list[str]
    items: list[Item]
    ends: list[int]
    separator: bytes
    prefix: bytes
    digest: str
    hash_at_end: _Hash
    skeleton: bytes


class Rests:
    """Rope items for the bytes around the messages, remembered: they rarely change within a conversation."""

    def __init__(self, pool: PoolWriter) -> None:
        self._pool = pool
        self._known: dict[bytes, list[str]] = {}

    def items(self, data: bytes) -> list[str]:
        """Rope items of `data`, with large values (tool definitions, a system prompt) as pieces of their own."""
        if len(data) < _PIECE_MIN:
            return [self._pool.put_literal(data)] if data else []
        known = self._known.get(data)
        if known is None:
            if len(self._known) >= _RESTS_MAX:
                self._known.clear()
            known = self._known[data] = self._cut(data)
        return known

    def _cut(self, data: bytes) -> list[str]:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            return [self._pool.put_literal(data)]
        items: list[str] = []
        literal_from = cursor = 0
        while (match := _TEXT_KEY.search(text, cursor)) is not None:
            start = match.end()
            try:
                _, cursor = _json.raw_decode(text, start)
            except (ValueError, RecursionError):
                break  # the rest, from the last large value on, stays in one piece
            if cursor - start >= _PIECE_MIN:
                items.append(self._pool.put_literal(text[literal_from:start].encode()))
                items.append("#" + self._pool.put_json(text[start:cursor].encode(), cut="no"))
                literal_from = cursor
        if literal_from < len(text):
            items.append(self._pool.put_literal(text[literal_from:].encode()))
        return items

    def forget(self) -> None:
        """The pool lost lines: cut again, so that they are stored again."""
        self._known.clear()


def cut_body(data: bytes, array_key: str, pool: PoolWriter, rests: Rests) -> Cut | None:
    """Cut a whole body by parsing it; None if it is no JSON object with that array."""
    layout = _find_array(data, array_key)
    if layout is None:
        return None
    starts, ends, separator = layout
    if not ends:
        whole = hashlib.sha256(data)
        return Cut(
            head=rests.items(data), tail=[], first_start=0, keys=[], items=[], ends=[], separator=b",", prefix=b"",
            digest=whole.hexdigest(), hash_at_end=hashlib.sha256(), skeleton=data,
        )  # fmt: skip
    stored = [pool.put_message(data[start:end]) for start, end in zip(starts, ends, strict=True)]
    first, last = starts[0], ends[-1]
    at_end = hashlib.sha256(data[:last])
    whole = at_end.copy()
    whole.update(data[last:])
    return Cut(
        head=rests.items(data[:first]),
        tail=rests.items(data[last:]),
        first_start=first,
        keys=[key for key, _ in stored],
        items=[item for _, item in stored],
        ends=ends,
        separator=separator,
        prefix=data[:last],
        digest=whole.hexdigest(),
        hash_at_end=at_end,
        skeleton=data[:first] + data[last:],
    )


def extend_cut(
    data: bytes,
    pool: PoolWriter,
    rests: Rests,
    *,
    first_start: int,
    ends: list[int],
    keys: list[str],
    items: list[Item],
    separator: bytes,
    hash_at_end: _Hash | None,
) -> Cut | None:
    """Cut a body whose first messages are known; None if the full path has to do it.

    Args:
        ends, keys, items: of the known messages; at least one.
        hash_at_end: state of SHA-256 after the last of them, if known. Not changed.
    """
    begin = ends[-1]
    if len(data) - begin > TAIL_MAX:
        return None
    try:
        text = data[begin:].decode("utf-8")
    except UnicodeDecodeError:
        return None
    gap = separator.decode("ascii")
    ends, keys, items = ends.copy(), keys.copy(), items.copy()
    cursor = 0  # in characters; `last` is the same place in bytes
    last = begin
    while text.startswith(gap, cursor):
        start = cursor + len(gap)
        try:
            _, cursor = _json.raw_decode(text, start)
        except (ValueError, RecursionError):
            return None
        piece = text[start:cursor].encode()
        last += len(separator) + len(piece)
        key, item = pool.put_message(piece)
        keys.append(key)
        items.append(item)
        ends.append(last)
    rest = data[last:]
    if not text[cursor:].lstrip().startswith("]"):
        return None  # other spacing between the elements
    at_end = hash_at_end.copy() if hash_at_end is not None else hashlib.sha256(data[:begin])
    at_end.update(data[begin:last])
    whole = at_end.copy()
    whole.update(rest)
    return Cut(
        head=rests.items(data[:first_start]),
        tail=rests.items(rest),
        first_start=first_start,
        keys=keys,
        items=items,
        ends=ends,
        separator=separator,
        prefix=data[:last],
        digest=whole.hexdigest(),
        hash_at_end=at_end,
        skeleton=data[:first_start] + rest,
    )


def _find_array(data: bytes, array_key: str) -> tuple[list[int], list[int], bytes] | None:
    """Starts and ends of the elements of a top-level array, and what separates them."""
    try:
        top = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        found = top.get(array_key)
        if found is None:
            return None
        elements = msgspec.json.decode(found, type=list[msgspec.Raw])
    except (ValueError, RecursionError):
        # msgspec refuses escaped lone surrogates, which agents that cut texts in the middle of an emoji do send.
        return _find_array_in_text(data, array_key) if b"\\ud" in data or b"\\uD" in data else None
    cursor = 0
    for key, raw in top.items():
        match = _KEY.match(data, cursor)
        if match is None:
            return None  # a repeated key: msgspec kept one, the walk cannot tell which
        cursor = match.end()
        size = len(memoryview(raw))
        if data[cursor : cursor + size] != bytes(raw):
            return None
        if key == array_key:
            return _walk_elements(data, cursor, [len(memoryview(element)) for element in elements])
        cursor += size
    return None


def _find_array_in_text(data: bytes, array_key: str) -> tuple[list[int], list[int], bytes] | None:
    """The same with the standard library's parser."""
    try:
        text = data.decode("utf-8")
        cursor = 0
        while (match := _TEXT_KEY.search(text, cursor)) is not None:
            start = match.end()
            name, _ = _json.raw_decode(match.group())
            if name == array_key and text.startswith("[", start):
                return _walk_elements(data, len(text[:start].encode()), _element_sizes(text, start + 1))
            _, cursor = _json.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    return None


def _element_sizes(text: str, cursor: int) -> list[int]:
    sizes = []
    while text[cursor : cursor + 1] != "]":
        while text[cursor : cursor + 1] in (" ", "\t", "\r", "\n", ","):
            cursor += 1
        start = cursor
        _, cursor = _json.raw_decode(text, start)
        sizes.append(len(text[start:cursor].encode()))
        while text[cursor : cursor + 1] in (" ", "\t", "\r", "\n"):
            cursor += 1
    return sizes


def _walk_elements(data: bytes, at: int, sizes: list[int]) -> tuple[list[int], list[int], bytes] | None:
    """Where elements of these sizes are in the array that begins at `at`; None if their separators differ."""
    starts: list[int] = []
    ends: list[int] = []
    separator = b","
    cursor = _after_space(data, at + 1)
    for index, size in enumerate(sizes):
        if index:
            comma = _after_space(data, cursor)
            if data[comma : comma + 1] != b",":
                return None
            start = _after_space(data, comma + 1)
            if index == 1:
                separator = data[cursor:start]
            elif data[cursor:start] != separator:
                return None  # hand-formatted JSON: store the body whole rather than remember every gap
            cursor = start
        starts.append(cursor)
        cursor += size
        ends.append(cursor)
    return starts, ends, separator


def _after_space(data: bytes, at: int) -> int:
    match = _SPACE.match(data, at)
    return match.end() if match is not None else at
