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
import binascii
import hashlib
import json
import os
import re
from collections.abc import Iterator
from typing import Any

import msgspec

__all__ = ["KEY_LENGTH", "PoolReader", "PoolWriter", "piece_key"]

KEY_LENGTH = 32
_INLINE = 64  # literals up to this many bytes stand in the rope itself: a reference would cost as much
_STRING_MIN = 256  # strings at least this long are pieces of their own: a tool result returns in the next request
_CUT_MAX = 4 << 20  # larger pieces are stored whole: searching them would stall the agent
_KNOWN_MAX = 200_000  # keys remembered against writing twice; beyond it an entry may be repeated, which is harmless

_STRING = re.compile(rb'"(?=[^"]{%d}|[^"]*\\")[^"\\]*(?:\\.[^"\\]*)*"' % _STRING_MIN, re.DOTALL)
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)

_encode = msgspec.json.Encoder().encode


def piece_key(data: bytes) -> str:
    """The key of an entry with these bytes."""
    return hashlib.sha256(data).hexdigest()[:KEY_LENGTH]


class PoolWriter:
    """Turns bytes into pool lines, each once. Lines collect in `lines` until the recorder takes them."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self._known: set[str] = set()

    def take(self) -> bytes:
        """The lines collected since the last call, to be written before the event that refers to them."""
        out = b"".join(self.lines)
        self.lines.clear()
        return out

    def forget(self, taken: bytes) -> None:
        """The lines of `taken` were not written after all: allow them to be written again."""
        for line in taken.splitlines():
            self._known.discard(line[6 : 6 + KEY_LENGTH].decode("ascii", "replace"))

    def put_json(self, data: bytes, *, cut: bool = True) -> str:
        """Store a slice that is one JSON value; long strings inside become pieces of their own."""
        key = piece_key(data)
        if key in self._known:
            return key
        if b"\n" in data or b"\r" in data:
            self._add(key, _text_form(data))
        elif cut and _STRING_MIN + 128 < len(data) <= _CUT_MAX and (rope := self._rope(data)):
            self._add(key, b'"r":' + _encode(rope))
        elif _is_utf8(data):
            self._add(key, b'"j":' + data)
        else:
            self._add(key, _text_form(data))
        return key

    def put_bytes(self, data: bytes) -> str:
        """Store any bytes as one entry."""
        key = piece_key(data)
        if key not in self._known:
            self._add(key, _text_form(data))
        return key

    def put_string(self, text: str) -> str | None:
        """Store a long string as the JSON literal a message would hold it in; None if it has lone surrogates."""
        try:
            return self.put_json(_encode(text), cut=False)
        except (UnicodeEncodeError, ValueError):
            return None

    def put_literal(self, data: bytes) -> str:
        """A rope item for bytes between pieces: inline when short, else a pool entry."""
        if len(data) <= _INLINE:
            try:
                return "=" + data.decode("utf-8")
            except UnicodeDecodeError:
                return "#" + self.put_bytes(data)
        return "#" + self.put_bytes(data)

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

    def _rope(self, data: bytes) -> list[str] | None:
        """Parts of `data` with its long strings as entries of their own; None if it has none."""
        rope: list[str] = []
        cursor = 0
        for match in _STRING.finditer(data):
            if match.end() - match.start() < _STRING_MIN:
                continue
            rope.append(self.put_literal(data[cursor : match.start()]))
            rope.append("#" + self.put_json(match.group(), cut=False))
            cursor = match.end()
        if not rope:
            return None
        rope.append(self.put_literal(data[cursor:]))
        return rope

    def _add(self, key: str, value: bytes) -> None:
        if len(self._known) >= _KNOWN_MAX:
            self._known.clear()
        self._known.add(key)
        self.lines.append(b'{"k":"%b",%b}\n' % (key.encode("ascii"), value))


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


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
    l: dict[str, Any] | None = None  # noqa: E741 - the wire name


_entry_decoder = msgspec.json.Decoder(_Entry)


class PoolReader:
    """Random access to a pool by key. The file may still be growing: a key not seen yet is looked for again.

    Entries whose bytes do not fit their key are damage: `get` gives None for them and `damaged` names the lines.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.damaged: dict[int, str] = {}  # line number -> reason
        self._index: dict[str, tuple[int, int]] = {}
        self._scanned = 0
        self._lines = 0
        self._fd: int | None = None
        self._lists: dict[str, tuple[list[str], str]] = {}

    def close(self) -> None:
        """Close the file; a later `get` opens it again."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def scan(self) -> None:
        """Index the lines that came since the last scan. A last line without its newline is left for later."""
        fd = self._open()
        if fd is None:
            return
        rest = b""
        offset = self._scanned
        while chunk := os.pread(fd, 1 << 20, offset + len(rest)):
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            for line in lines:
                self._lines += 1
                self._note(line, offset)
                offset += len(line) + 1
        self._scanned = offset

    def _note(self, line: bytes, offset: int) -> None:
        if line.startswith(b'{"k":"') and line[38:40] == b'",' and line.endswith(b"}"):
            try:
                key = line[6:38].decode("ascii")
            except UnicodeDecodeError:
                self.damaged[self._lines] = "not a pool entry"
                return
            self._index.setdefault(key, (offset, len(line)))
        elif line.strip():
            self.damaged[self._lines] = "not a pool entry"

    def _open(self) -> int | None:
        if self._fd is None:
            try:
                self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                return None
        return self._fd

    def _entry(self, key: str) -> _Entry | None:
        where = self._index.get(key)
        if where is None:
            self.scan()
            where = self._index.get(key)
            if where is None:
                return None
        fd = self._open()
        if fd is None:
            return None
        line = os.pread(fd, where[1], where[0])
        try:
            return _entry_decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def get(self, key: str, _depth: int = 0) -> bytes | None:
        """The bytes stored under `key`, checked against it; None if they are missing or damaged."""
        entry = self._entry(key)
        if entry is None:
            return None
        data: bytes | None = None
        if entry.j is not _NO_RAW:
            data = bytes(entry.j)
        elif entry.s is not None:
            data = entry.s.encode("utf-8", "surrogatepass")
        elif entry.b is not None:
            try:
                data = base64.b64decode(entry.b, validate=True)
            except (binascii.Error, ValueError):
                return None
        elif entry.r is not None and _depth < 4:
            data = self.join(entry.r, _depth + 1)
        if data is None or piece_key(data) != key:
            return None
        return data

    def get_string(self, key: str) -> str | None:
        """The string stored by `put_string`; None if missing or damaged."""
        data = self.get(key)
        if data is None:
            return None
        try:
            value = json.loads(data)
        except ValueError:
            return None
        return value if isinstance(value, str) else None

    def join(self, rope: list[str], _depth: int = 0) -> bytes | None:
        """The bytes of a rope; None if any part is missing."""
        parts: list[bytes] = []
        for item in rope:
            if item.startswith("="):
                parts.append(item[1:].encode("utf-8"))
                continue
            if item.startswith("@"):
                elements = self.elements(item[1:])
                if elements is None:
                    return None
                keys, separator = elements
                pieces = [self.get(key, _depth) for key in keys]
                if any(piece is None for piece in pieces):
                    return None
                parts.append(separator.encode("utf-8").join(piece for piece in pieces if piece is not None))
                continue
            piece = self.get(item[1:], _depth)
            if piece is None:
                return None
            parts.append(piece)
        return b"".join(parts)

    def elements(self, key: str) -> tuple[list[str], str] | None:
        """Keys of the elements of a persistent list, and its separator; None if a part of the chain is missing.

        Walks from the list to the nearest one already known or complete: as many steps as appends since.
        """
        chain: list[dict[str, Any]] = []
        current: str | None = key
        seen: set[str] = set()
        base: list[str] = []
        while current is not None:
            if (known := self._lists.get(current)) is not None:
                base = known[0]
                break
            entry = self._entry(current)
            if entry is None or entry.l is None or current in seen or not _is_list_node(entry.l):
                return None
            seen.add(current)
            chain.append(entry.l)
            current = entry.l.get("p")
        separator = str(chain[0].get("s", ",")) if chain else self._lists[key][1]
        keys = list(base)
        for node in reversed(chain):
            del keys[node.get("n", 0) :]
            keys.extend(node["a"])
        if len(self._lists) > 64:
            self._lists.clear()
        self._lists[key] = (keys, separator)
        return keys, separator

    def verify(self) -> Iterator[tuple[int, int, str]]:
        """Check every line: gives (line number, offset, reason) of each that is damaged."""
        fd = self._open()
        if fd is None:
            return
        with open(self.path, "rb") as file:
            offset = 0
            for number, line in enumerate(file, 1):
                reason = _line_damage(line)
                if reason is not None:
                    yield number, offset, reason
                offset += len(line)


def _is_list_node(node: dict[str, Any]) -> bool:
    added, kept, parent = node.get("a"), node.get("n", 0), node.get("p")
    return (
        isinstance(added, list)
        and all(isinstance(key, str) for key in added)
        and isinstance(kept, int)
        and (parent is None or isinstance(parent, str))
    )


def _line_damage(line: bytes) -> str | None:
    if not line.endswith(b"\n"):
        return "torn last line"
    if not line.strip():
        return None
    try:
        entry = _entry_decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        return f"not a pool entry: {exc}"
    if entry.j is not _NO_RAW and piece_key(bytes(entry.j)) != entry.k:
        return "bytes do not fit their key"
    if entry.s is not None and piece_key(entry.s.encode("utf-8", "surrogatepass")) != entry.k:
        return "bytes do not fit their key"
    if entry.l is not None and (not _is_list_node(entry.l) or piece_key(_encode(entry.l)) != entry.k):
        return "bytes do not fit their key"
    return None
