"""The pool of a recording, `messages.jsonl`: pieces of bodies, messages and long strings, each once.

A line is one entry. `k` is its key, the first 32 hex characters of the SHA-256 of its bytes; beside it stands one of

    "j"  the bytes themselves, being JSON on one line (nothing is escaped twice, and jq reads it)
    "s"  a JSON string of the bytes, being UTF-8
    "b"  base64 of the bytes, where they are not
    "r"  a rope: the bytes are these parts joined, `=text` literal, `#key` another entry
    "l"  a persistent list: the first `n` elements of list `p` (if any), then the elements `a`, joined by `s`

A list's key is a hash of its own line's content, since two lists with equal elements may share different parents.
Writer and reader of the format are in this one file.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from unspool.recording.damage import Damage
from unspool.recording.tail import whole_lines

__all__ = ["KEY_LENGTH", "POOL_NAME", "PoolReader", "PoolWriter", "piece_key"]

POOL_NAME = "messages.jsonl"
KEY_LENGTH = 32
_INLINE = 64  # literals up to this many bytes stand in the rope itself: a reference would cost as much
_STRING_MIN = 256  # strings at least this long are pieces of their own: a tool result returns in the next request
_CUT_MAX = 4 << 20  # larger pieces are stored whole: searching them would stall the agent
_KNOWN_MAX = 200_000  # keys remembered against writing twice; beyond it an entry may be repeated, which is harmless
_LISTS_MAX = 64  # restored lists a reader remembers

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_KEY_START = 6  # of the key in a line, after {"k":"
_HEAD = re.compile(rb'\{"k":"([0-9a-f]{%d})",' % KEY_LENGTH)

_encode = msgspec.json.Encoder().encode


def piece_key(data: bytes) -> str:
    """The key of an entry with these bytes."""
    return hashlib.sha256(data).hexdigest()[:KEY_LENGTH]


class PoolWriter:
    """Turns bytes into pool lines, each once. Lines wait in `lines` until the recorder has written them."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self._known: set[str] = set()

    def written(self) -> None:
        """The waiting lines are on disk."""
        self.lines.clear()

    def forget(self) -> None:
        """The waiting lines were not written: drop them, and allow their entries to be made again."""
        for line in self.lines:
            self._known.discard(line[_KEY_START : _KEY_START + KEY_LENGTH].decode("ascii"))
        self.lines.clear()

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
        if cut != "no" and _STRING_MIN + 128 < len(data) <= _CUT_MAX and (rope := self._rope(data, cut == "all")):
            self._add(key, b'"r":' + _encode(rope))
        elif _is_json_line(data):
            self._add(key, b'"j":' + data)
        else:
            self._add(key, _text_form(data))
        return key

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

    def put_list(self, parent: str | None, kept: int, added: list[str], separator: str) -> str:
        """Store the list that keeps `kept` elements of `parent` and appends `added`; gives its key."""
        node: dict[str, Any] = {}
        if parent is not None and kept:
            node["p"], node["n"] = parent, kept
        node["a"] = added
        if separator != ",":
            node["s"] = separator
        data = _encode(node)
        key = piece_key(data)
        if key not in self._known:
            self._add(key, b'"l":' + data)
        return key

    def _rope(self, data: bytes, every: bool) -> list[str] | None:
        """Parts of `data` with its long strings as entries of their own; None if it has none."""
        rope: list[str] = []
        cursor = 0
        for match in _STRING.finditer(data):
            string = match.group()
            if len(string) < _STRING_MIN or len(string) == len(data):
                continue
            key = piece_key(string)
            if not every and key not in self._known:
                continue
            if match.start() > cursor:
                rope.append(self._own_literal(data[cursor : match.start()]))
            rope.append("#" + self.put_json(string, cut="no", key=key))
            cursor = match.end()
        if not rope:
            return None
        if cursor < len(data):
            rope.append(self._own_literal(data[cursor:]))
        return rope

    def _own_literal(self, data: bytes) -> str:
        """A rope item for bytes that will hardly come again, being full of ids and counts: inline at any length."""
        try:
            return "=" + data.decode("utf-8")
        except UnicodeDecodeError:
            return "#" + self.put_bytes(data)

    def _add(self, key: str, value: bytes) -> None:
        if len(self._known) >= _KNOWN_MAX:
            self._known.clear()
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


_NO_RAW = msgspec.Raw(b"")


class _Entry(msgspec.Struct):
    k: str
    j: msgspec.Raw = _NO_RAW  # an optional Raw is decoded, not kept raw
    s: str | None = None
    b: str | None = None
    r: list[str] | None = None
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
        return bytes(self.l) if self.l is not _NO_RAW else None


class _ListNode(msgspec.Struct):
    a: list[str]
    p: str | None = None
    n: int = 0
    s: str = ","


_entry_decoder = msgspec.json.Decoder(_Entry)
_list_decoder = msgspec.json.Decoder(_ListNode)


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
        self._lists: dict[str, tuple[list[str], str]] = {}
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
            if data is not None and piece_key(data) == key:
                return data
        return None

    def get_string(self, key: str) -> str | None:
        """The string stored by `put_string`; None if missing or damaged."""
        data = self.get(key)
        try:
            value = json.loads(data) if data is not None else None
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, str) else None

    def join(self, rope: list[str]) -> bytes | None:
        """The bytes of a rope; None if any part is missing."""
        return self._join(rope, 0)

    def _join(self, rope: list[str], depth: int) -> bytes | None:
        parts: list[bytes] = []
        for item in rope:
            kind, name = item[:1], item[1:]
            data: bytes | None = None
            if kind == "=":
                data = name.encode("utf-8", "surrogatepass")
            elif kind == "#":
                data = self._get(name, depth)
            elif kind == "@" and (found := self.elements(name)) is not None:
                pieces: list[bytes] = []
                for key in found[0]:
                    piece = self._get(key, depth)
                    if piece is None:
                        return None
                    pieces.append(piece)
                data = found[1].encode("utf-8", "surrogatepass").join(pieces)
            if data is None:
                return None
            parts.append(data)
        return b"".join(parts)

    def elements(self, key: str) -> tuple[list[str], str] | None:
        """Keys of the elements of a persistent list, and its separator; None if a part of the chain is missing.

        Walks from the list to the nearest one already known or complete: as many steps as appends since.
        """
        known = self._lists.get(key)
        if known is not None:
            return known
        chain: list[_ListNode] = []
        current: str | None = key
        keys: list[str] = []
        while current is not None:
            if (known := self._lists.get(current)) is not None:
                keys = list(known[0])
                break
            node = self._list_node(current)  # its key is the hash of its parent's key: there are no cycles
            if node is None:
                return None
            chain.append(node)
            current = node.p
        for node in reversed(chain):
            if not 0 <= node.n <= len(keys):
                return None
            del keys[node.n :]
            keys.extend(node.a)
        if len(self._lists) >= _LISTS_MAX:
            self._lists.clear()
        self._lists[key] = keys, chain[0].s
        return keys, chain[0].s

    def _list_node(self, key: str) -> _ListNode | None:
        for entry in self._entries(key):
            if entry.l is not _NO_RAW and piece_key(bytes(entry.l)) == key:
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
        except (ValueError, RecursionError) as exc:
            return f"not a pool entry: {exc}"
        if _HEAD.match(line) is None:
            return "not a pool entry: it does not start with its key"
        needed = [item[1:] for item in entry.r or () if not item.startswith("=")]
        if node is not None:
            needed = [*node.a, *([node.p] if node.p is not None else [])]
        if missing := [key for key in needed if key not in self]:
            return f"refers to {missing[0]}, which is missing"
        data = self._join(entry.r, 1) if entry.r is not None else entry.own_bytes()
        if data is None and needed:
            return "a part of it is damaged"
        return None if data is not None and piece_key(data) == entry.k else "bytes do not fit their key"

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
