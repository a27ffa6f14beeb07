"""Files to import: their bytes out of gzip, their JSON, and what in them could not be read."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from unspool.errors import UnspoolError
from unspool.providers.wire import decode_json

__all__ = ["ImportFault", "Source", "read_source"]

_GZIP: Final = b"\x1f\x8b"
_SIZE_MAX: Final = 4 << 30  # bytes after unpacking: a small gzip file may hold a petabyte


class ImportFault(UnspoolError):
    """A file cannot be imported, or not all of it."""


class Source(msgspec.Struct):
    """One file: `data` is unpacked; `problems` says what in it could not be read."""

    path: Path
    data: bytes
    sha256: str
    problems: list[str] = []

    @property
    def name(self) -> str:
        """The file's name without `.gz`."""
        return self.path.name.removesuffix(".gz")

    def document(self) -> Any:
        """The value of the file as one JSON document.

        Raises:
            ImportFault: it is none.
        """
        try:
            return decode_json(self.data)
        except ValueError as exc:
            raise ImportFault(f"{self.path}: not readable as JSON: {exc}") from exc

    def objects(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The JSON objects of a file with one a line, with their line numbers; other lines go to `problems`."""
        lines = self.data.split(b"\n")
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                value = decode_json(line)
            except ValueError as exc:
                torn = number == len(lines)
                self.problems.append(f"line {number}: {'the last line is torn' if torn else f'not JSON ({exc})'}")
                continue
            if isinstance(value, dict):
                yield number, value
            else:
                self.problems.append(f"line {number}: not a JSON object")


def read_source(path: Path) -> Source:
    """Read a file, unpacked if it is gzip; what a damaged gzip file still gives is used.

    Raises:
        ImportFault: it cannot be read, or is too large.
    """
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise ImportFault(f"cannot read {path}: {exc.strerror or exc}") from exc
    problems = []
    if data.startswith(_GZIP):
        data, problem = unpacked(data)
        if problem:
            problems.append(problem)
    if len(data) > _SIZE_MAX:
        raise ImportFault(f"{path}: more than {_SIZE_MAX >> 30} GiB; split it first")
    return Source(path, data, hashlib.sha256(data).hexdigest(), problems)


def unpacked(data: bytes, limit: int = _SIZE_MAX) -> tuple[bytes, str]:
    """The content of gzip data, no more than `limit` + 1 bytes, and what is wrong with it ("" if nothing is)."""
    pieces: list[bytes] = []
    size = 0
    while data:
        unpack = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            piece = unpack.decompress(data, limit + 1 - size)
        except zlib.error as exc:
            return b"".join(pieces) or _salvaged(data, limit), f"damaged gzip: {exc}"
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            break
        if not unpack.eof:
            return b"".join(pieces), "the gzip file is cut off"
        data = unpack.unused_data.lstrip(b"\0")
    return b"".join(pieces), ""


def _salvaged(data: bytes, limit: int) -> bytes:
    """What comes out of damaged gzip data before the damage."""
    unpack = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    found = bytearray()
    try:
        for start in range(0, len(data), 1024):
            found += unpack.decompress(data[start : start + 1024], limit + 1 - len(found))
            if len(found) > limit:
                break
    except zlib.error:
        return bytes(found)
    return bytes(found)
