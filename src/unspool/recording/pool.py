"""The pool of a recording, `messages.jsonl`: pieces of bodies, messages and long strings, each once.

A line is one entry. `k` is its key (see `keys`); beside it stands one of

    "j"  the bytes themselves, being JSON on one line (nothing is escaped twice, and jq reads it)
    "s"  a JSON string of the bytes, being UTF-8
    "b"  base64 of the bytes, where they are not
    "r"  a rope: the bytes are these items joined
    "t"  a template: the literals between its gaps
    "l"  a persistent list: the first `n` elements of list `p` (all without `n`, none without `p`), then the items `a`,
         joined by `s`, between the items `h` and `t`; what is absent is that of `p`

An item is `=text`, literal; `'text`, the same in quotes; `#key`, another entry; `@key`, a list; or an array: the key of
a template and the values of its gaps, as often as the template repeats. Such a value is an item too, a number, or ""
for what stood in this gap the time before.

A list's or template's key is a hash of its own line's content. The writing half is in `poolwriter`.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from unspool.recording.damage import Damage
from unspool.recording.keys import KEY_LENGTH, OWN_LENGTH, piece_key
from unspool.recording.poolwriter import Item
from unspool.recording.tail import whole_lines

__all__ = ["POOL_NAME", "PoolList", "PoolReader", "keys_in"]

POOL_NAME = "messages.jsonl"
_LISTS_MAX = 64  # restored lists a reader remembers
_TEMPLATES_MAX = 256
_JOINED_MAX = 1 << 30  # bytes a damaged rope may grow to: a template repeats for three bytes each time

_HEAD = re.compile(rb'\{"k":"([A-Za-z0-9_-]{%d}|[A-Za-z0-9_-]{%d})",' % (KEY_LENGTH, OWN_LENGTH))


class PoolList(NamedTuple):
    """A persistent list: its elements, what joins them, and the items before and after them."""

    items: list[Item]
    separator: str
    before: Sequence[str]
    after: Sequence[str]


_NO_RAW = msgspec.Raw(b"")


class _Entry(msgspec.Struct):
    k: str
    j: msgspec.Raw = _NO_RAW  # an optional Raw is decoded, not kept raw
    s: str | None = None
    b: str | None = None
    r: list[str | tuple[str | int, ...]] | None = None
    t: msgspec.Raw = _NO_RAW
    l: msgspec.Raw = _NO_RAW  # noqa: E741 - the wire name

    def own_bytes(self) -> bytes | None:
        """The bytes the key was made of, except for a rope; None if there are none."""
        if self.j is not _NO_RAW:
            return bytes(self.j)
        if self.s is not None:
            return self.s.encode("utf-8")
        if self.b is not None:
            try:
                return base64.b64decode(self.b, validate=True)
            except ValueError:
                return None
        made = self.t if self.t is not _NO_RAW else self.l
        return bytes(made) if made is not _NO_RAW else None


class _ListNode(msgspec.Struct):
    a: list[str | tuple[str | int, ...]]
    p: str | None = None
    n: int | None = None
    s: str | None = None
    h: list[str] | None = None
    t: list[str] | None = None


_entry_decoder = msgspec.json.Decoder(_Entry)
_list_decoder = msgspec.json.Decoder(_ListNode)
_template_decoder = msgspec.json.Decoder(list[str])


def _fits(data: bytes, key: str) -> bool:
    return len(key) >= OWN_LENGTH and piece_key(data).startswith(key)


def keys_in(items: Iterable[Item]) -> Iterator[str]:
    """Keys of all entries that these items refer to."""
    for item in items:
        if isinstance(item, tuple):
            yield from (str(value) for value in item[:1])
            yield from keys_in(value for value in item[1:] if isinstance(value, str))
        elif item[:1] in ("#", "@"):
            yield item[1:]


class PoolReader:
    """Random access to a pool by key. The file may still be growing: a key not seen yet is looked for again.

    Entries whose bytes do not fit their key are damage: `get` gives None for them and `verify` names their lines.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._fd: int | None = None
        self._index: dict[str, tuple[int, int]] = {}  # key -> offset and length of its line
        self._copies: dict[str, list[tuple[int, int]]] = {}  # further lines of the same key: the first may be damaged
        self._scanned = 0
        self._lists: dict[str, PoolList] = {}
        self._templates: dict[str, list[bytes]] = {}
        self._verified = 0
        self._verified_lines = 0
        self._damage: list[Damage] = []

    def close(self) -> None:
        """Close the file; a later `get` opens it again."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __del__(self) -> None:
        if getattr(self, "_fd", None) is not None:
            self.close()

    def __contains__(self, key: str) -> bool:
        """Whether the file has a line for `key`, damaged or not."""
        if key not in self._index:
            self._scan()
        return key in self._index

    def get(self, key: str) -> bytes | None:
        """The bytes stored under `key`, checked against it; None if they are missing or damaged."""
        return self._get(key, 0)

    def _get(self, key: str, depth: int) -> bytes | None:
        for entry in self._entries(key):
            data = entry.own_bytes()
            if entry.r is not None and depth == 0:  # the parts of a rope are no ropes
                data = self._join(entry.r, 1)
            if data is not None and _fits(data, key):
                return data
        return None

    def item(self, item: Item) -> bytes | None:
        """The bytes that an element of a list stands for; None if they are missing or damaged."""
        return self._part(item, 0)

    def get_string(self, key: str) -> str | None:
        """The string stored by `put_string`; None if missing or damaged."""
        data = self.get(key)
        try:
            value = json.loads(data) if data is not None else None
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, str) else None

    def join(self, rope: Sequence[Item]) -> bytes | None:
        """The bytes of a rope; None if any part is missing."""
        return self._join(rope, 0)

    def join_from(self, rope: Sequence[Item], start: int) -> bytes | None:
        """The bytes of a rope whose persistent lists begin at their element `start`; None if any part is missing."""
        return self._join(rope, 0, start)

    def _join(self, rope: Iterable[Item], depth: int, start: int = 0) -> bytes | None:
        parts: list[bytes] = []
        for item in rope:
            is_list = isinstance(item, str) and item.startswith("@") and depth == 0
            data = self._join_list(str(item)[1:], start) if is_list else self._part(item, depth)
            if data is None:
                return None
            parts.append(data)
        return b"".join(parts)

    def _join_list(self, key: str, start: int) -> bytes | None:
        found = self.elements(key)
        if found is None:
            return None
        pieces: list[bytes] = []
        for item in found.items[start:]:
            piece = self._part(item, 0)
            if piece is None:
                return None
            pieces.append(piece)
        before, after = self._join(found.before, 1), self._join(found.after, 1)
        if before is None or after is None:
            return None
        return before + found.separator.encode("utf-8", "surrogatepass").join(pieces) + after

    def _part(self, item: Item, depth: int) -> bytes | None:
        """The bytes of one item that is no list."""
        if isinstance(item, tuple):
            return self._fill(item, depth)
        kind, text = item[:1], item[1:]
        if kind == "=":
            return text.encode("utf-8", "surrogatepass")
        if kind == "'":
            return b'"%b"' % text.encode("utf-8", "surrogatepass")
        return self._get(text, depth) if kind == "#" else None

    def _fill(self, item: tuple[str | int, ...], depth: int) -> bytes | None:
        """A template with its gaps filled, once for each round of values."""
        literals = self._template(str(item[0])) if item else None
        gaps = len(literals) - 1 if literals is not None else 0
        if literals is None or gaps < 1 or len(item) < 2 or (len(item) - 1) % gaps:
            return None
        parts: list[bytes] = []
        size = 0
        last: list[bytes | None] = [None] * gaps
        for start in range(1, len(item), gaps):
            for gap, value in enumerate(item[start : start + gaps]):
                if isinstance(value, int):
                    last[gap] = b"%d" % value
                elif value:
                    last[gap] = self._part(value, depth)
                filled = last[gap]
                if filled is None:
                    return None
                parts += (literals[gap], filled)
                size += len(literals[gap]) + len(filled)
            parts.append(literals[gaps])
            size += len(literals[gaps])
            if size > _JOINED_MAX:
                return None
        return b"".join(parts)

    def _template(self, key: str) -> list[bytes] | None:
        """The literals of a template; None if it is missing or damaged."""
        known = self._templates.get(key)
        if known is not None:
            return known
        for entry in self._entries(key):
            if entry.t is not _NO_RAW and _fits(bytes(entry.t), key):
                try:
                    literals = [text.encode("utf-8", "surrogatepass") for text in _template_decoder.decode(entry.t)]
                except ValueError:
                    return None
                if len(self._templates) >= _TEMPLATES_MAX:
                    self._templates.clear()
                self._templates[key] = literals
                return literals
        return None

    def elements(self, key: str) -> PoolList | None:
        """The elements of a persistent list, and what stands around them; None if a part of the chain is missing.

        Walks from the list to the nearest one already known or complete: as many steps as appends since.
        """
        known = self._lists.get(key)
        if known is not None:
            return known
        chain: list[_ListNode] = []
        current: str | None = key
        items: list[Item] = []
        separator: str = ","
        before: Sequence[str] = ()
        after: Sequence[str] = ()
        while current is not None:
            if (known := self._lists.get(current)) is not None:
                items, (separator, before, after) = list(known.items), known[1:]
                break
            node = self._list_node(current)
            if node is None or len(chain) > len(self._index):  # keys are hashes, so only a made-up file has a circle
                return None
            chain.append(node)
            current = node.p
        for node in reversed(chain):
            kept = len(items) if node.n is None else node.n
            if not 0 <= kept <= len(items):
                return None
            del items[kept:]
            items.extend(node.a)
            separator = separator if node.s is None else node.s
            before = before if node.h is None else node.h
            after = after if node.t is None else node.t
        if len(self._lists) >= _LISTS_MAX:
            self._lists.clear()
        found = self._lists[key] = PoolList(items, separator, before, after)
        return found

    def _list_node(self, key: str) -> _ListNode | None:
        for entry in self._entries(key):
            if entry.l is not _NO_RAW and _fits(bytes(entry.l), key):
                try:
                    return _list_decoder.decode(entry.l)
                except ValueError:
                    return None
        return None

    # --- the file ----------------------------------------------------------------------------------------------------

    def verify(self, *, growing: bool = False) -> list[Damage]:
        """Check every line that was not checked yet; gives all damage found so far.

        Args:
            growing: a last line without its newline may still be completed.
        """
        fd = self._open()
        if fd is None:
            return []
        self._scan()
        for offset, line in whole_lines(fd, self._verified):
            self._verified_lines += 1
            self._verified = offset + len(line) + 1
            if (reason := self._damage_of(line)) is not None:
                self._damage.append(Damage(POOL_NAME, self._verified_lines, offset, reason))
        if not growing and os.fstat(fd).st_size > self._verified:
            torn = Damage(POOL_NAME, self._verified_lines + 1, self._verified, "the last line is torn")
            return [*self._damage, torn]
        return list(self._damage)

    def _damage_of(self, line: bytes) -> str | None:
        if not line.strip():
            return None
        try:
            entry = _entry_decoder.decode(line)
            node = _list_decoder.decode(entry.l) if entry.l is not _NO_RAW else None
            if entry.t is not _NO_RAW:
                _template_decoder.decode(entry.t)
        except (ValueError, RecursionError) as exc:
            return f"not a pool entry: {exc}"
        if _HEAD.match(line) is None:
            return "not a pool entry: it does not start with its key"
        needed = list(keys_in(entry.r or ()))
        if node is not None:
            needed = list(keys_in([*node.a, *(node.h or ()), *(node.t or ())]))
            needed += [node.p] if node.p is not None else []
        if missing := [key for key in needed if key not in self]:
            return f"refers to {missing[0]}, which is missing"
        data = self._join(entry.r, 1) if entry.r is not None else entry.own_bytes()
        if data is None and needed:
            return "a part of it is damaged"
        return None if data is not None and _fits(data, entry.k) else "bytes do not fit their key"

    def _entries(self, key: str) -> Iterator[_Entry]:
        fd = self._open()
        if fd is None or key not in self:
            return
        for offset, length in (self._index[key], *self._copies.get(key, ())):
            try:
                yield _entry_decoder.decode(os.pread(fd, length, offset))
            except (ValueError, RecursionError):
                continue

    def _scan(self) -> None:
        """Index the lines that came since the last scan. A last line without its newline is left for later."""
        fd = self._open()
        if fd is None:
            return
        for offset, line in whole_lines(fd, self._scanned):
            self._scanned = offset + len(line) + 1
            if (match := _HEAD.match(line)) is not None:
                where = offset, len(line)
                first = self._index.setdefault(match[1].decode("ascii"), where)
                if first is not where:
                    self._copies.setdefault(match[1].decode("ascii"), []).append(where)

    def _open(self) -> int | None:
        if self._fd is None:
            try:
                self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                return None
        return self._fd
