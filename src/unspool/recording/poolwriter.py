"""The writing half of the pool: bytes become entries, each once. The form of an entry is described in `pool`."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from unspool.recording.keys import own_key, piece_key

__all__ = ["STRING_MIN", "Item", "PoolWriter"]

Item: TypeAlias = "str | tuple[str | int, ...]"
"""A part of a rope: see `pool`."""

STRING_MIN = 128  # strings at least this long are pieces of their own: a tool result returns in the next request
_INLINE = 64  # literals up to this many bytes stand in the rope itself: a reference would cost as much
_MESSAGE_INLINE = 96  # and messages up to this many in their list: an entry would cost as much again
_CUT_MAX = 4 << 20  # larger pieces are stored whole: searching them would stall the agent
_KNOWN_MAX = 200_000  # keys remembered against writing twice; beyond it an entry may be repeated, which is harmless
_FRAMES_MAX = 256
_FRAME_MIN = 24  # literals shorter than this together are not worth a template

# A string that does not end matches as well: looking for another one inside it would take quadratic time.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+("?)', re.DOTALL)
_KEY_START = 6  # of the key in a line, after {"k":"

_encode = msgspec.json.Encoder().encode


class PoolWriter:
    """Turns bytes into pool lines, each once. Lines wait in `lines` until the recorder has written them."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self._known: set[str] = set()
        self._frames: dict[tuple[str, ...], str | None] = {}  # literals around long strings -> their template

    def written(self) -> None:
        """The waiting lines are on disk."""
        self.lines.clear()

    def forget(self) -> None:
        """The waiting lines were not written: drop them, and allow their entries to be made again."""
        for line in self.lines:
            self._known.discard(line[_KEY_START : line.index(b'"', _KEY_START)].decode("ascii"))
        self.lines.clear()
        self._frames.clear()

    def has(self, key: str) -> bool:
        """Whether an entry with this key was stored (lately: what was long ago may be forgotten)."""
        return key in self._known

    # --- pieces ------------------------------------------------------------------------------------------------------

    def put_json(self, data: bytes, *, cut: Literal["all", "known", "no"] = "known", key: str | None = None) -> str:
        """Store bytes that are probably one JSON value (others are kept as well, less readably); gives their key.

        Args:
            cut: which long strings inside become references to entries of their own: all, since they will come again
                (what a model says is in its next request), or those the pool has already, or none.
            key: of the bytes, if the caller knows it.
        """
        key = key or piece_key(data)
        if key in self._known:
            return key
        if cut != "no" and (rope := self._rope(data, cut == "all")):
            self.put_rope(key, rope)
        elif _is_json_line(data):
            self._add(key, b'"j":' + data)
        else:
            self._add(key, _text_form(data))
        return key

    def put_message(self, data: bytes) -> tuple[str, Item]:
        """Store a message for a list: gives its key, and the item that stands for it in lists."""
        key = piece_key(data)
        if key in self._known:
            return key, "#" + key
        if len(data) <= _MESSAGE_INLINE:
            return key, self._own_literal(data)
        rope = self._rope(data, every=False)
        if rope is not None and len(rope) == 1:
            return key, rope[0]
        if rope is not None:
            self.put_rope(key, rope)
            return key, "#" + key
        return key, "#" + self.put_json(data, cut="no", key=key)

    def put_bytes(self, data: bytes, *, key: str | None = None) -> str:
        """Store any bytes as one entry; gives their key, which the caller may know already."""
        key = key or piece_key(data)
        if key not in self._known:
            self._add(key, _text_form(data))
        return key

    def put_string(self, text: str) -> str | None:
        """Store a long string as the JSON literal a message would hold it in; None if it has lone surrogates."""
        try:
            return self.put_json(_encode(text), cut="no")
        except UnicodeEncodeError:
            return None

    def put_literal(self, data: bytes) -> str:
        """A rope item for bytes between pieces: inline when short, else a pool entry."""
        return self._own_literal(data) if len(data) <= _INLINE else "#" + self.put_bytes(data)

    # --- what is made of pieces --------------------------------------------------------------------------------------

    def put_rope(self, key: str, rope: Sequence[Item]) -> None:
        """Store the bytes that have this key as a rope."""
        if key not in self._known:
            self._add(key, b'"r":' + _encode(rope))

    def put_template(self, literals: Sequence[str]) -> str:
        """Store the literals between the gaps of a template; gives its key."""
        data = _encode(literals)
        return self._put_own(data, b'"t":' + data)

    def put_head(self, data: bytes) -> str:
        """Store the JSON of an HTTP head; gives its key."""
        return self._put_own(data, b'"j":' + data if _is_json_line(data) else _text_form(data))

    def put_list(
        self,
        parent: str | None,
        kept: int | None,
        added: Sequence[Item],
        separator: str,
        around: tuple[Sequence[str], Sequence[str]] | None = None,
    ) -> str:
        """Store the list that keeps elements of `parent` and appends `added`; gives its key.

        Args:
            kept: how many elements of the parent it keeps; None for all.
            separator: what stands between elements; must be that of the parent.
            around: rope items that stand before and after the elements; None for those of the parent.
        """
        node: dict[str, Any] = {}
        if parent is not None and kept != 0:
            node["p"] = parent
            if kept is not None:
                node["n"] = kept
        node["a"] = added
        if separator != "," and "p" not in node:
            node["s"] = separator
        if around is not None:
            node["h"], node["t"] = around
        data = _encode(node)
        return self._put_own(data, b'"l":' + data)

    def _put_own(self, data: bytes, value: bytes) -> str:
        key = own_key(data)
        if key not in self._known:
            self._add(key, value)
        return key

    def _rope(self, data: bytes, every: bool) -> list[Item] | None:
        """Parts of `data` with its long strings as entries of their own; None if it has none."""
        if not STRING_MIN + 32 < len(data) <= _CUT_MAX:
            return None
        rope: list[str] = []
        cursor = 0
        for match in _STRING.finditer(data):
            start, end = match.span()
            if end - start < STRING_MIN or end - start == len(data) or not match[1]:
                continue
            string = match.group()
            key = piece_key(string)
            if not every and key not in self._known:
                continue
            rope.append(self._own_literal(data[cursor:start]))
            rope.append("#" + self.put_json(string, cut="no", key=key))
            cursor = end
        if not rope:
            return None
        rope.append(self._own_literal(data[cursor:]))
        framed = self._framed(rope)
        return [framed] if framed is not None else [item for item in rope if item != "="]

    def _framed(self, rope: list[str]) -> tuple[str | int, ...] | None:
        """The rope as a template and the keys of its strings, from the second time on that its literals are seen."""
        literals = tuple(rope[::2])
        if sum(map(len, literals)) < _FRAME_MIN or not all(item.startswith("=") for item in literals):
            return None
        if literals not in self._frames:
            if len(self._frames) >= _FRAMES_MAX:
                self._frames.clear()
            self._frames[literals] = None
            return None
        template = self._frames[literals]
        if template is None:
            template = self._frames[literals] = self.put_template([item[1:] for item in literals])
        return template, *rope[1::2]

    def _own_literal(self, data: bytes) -> str:
        """A rope item for bytes that will hardly come again, being full of ids and counts: inline at any length."""
        try:
            return "=" + data.decode("utf-8")
        except UnicodeDecodeError:
            return "#" + self.put_bytes(data)

    def _add(self, key: str, value: bytes) -> None:
        if len(self._known) >= _KNOWN_MAX:
            self._known.clear()
            self._frames.clear()
        self._known.add(key)
        self.lines.append(b'{"k":"%b",%b}\n' % (key.encode("ascii"), value))


def _is_json_line(data: bytes) -> bool:
    """Whether the reader's decoder gives exactly these bytes back from inside a line."""
    if b"\n" in data or b"\r" in data:
        return False
    try:
        data.decode("utf-8")  # the decoder does not look
        return bytes(msgspec.json.decode(data, type=msgspec.Raw)) == data
    except (ValueError, RecursionError):
        return False


def _text_form(data: bytes) -> bytes:
    try:
        return b'"s":' + _encode(data.decode("utf-8"))
    except UnicodeDecodeError:
        return b'"b":"' + base64.b64encode(data) + b'"'
