"""Undoing content-encodings, as far as a body came.

brotli and zstd are decoded with the agent's own libraries: a client only asks for an encoding it can decode.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

__all__ = ["decode_body"]


def decode_body(data: bytes, encoding: str | None) -> tuple[bytes, str | None]:
    """The decoded body, and the encoding it came in; undecodable data is given back as it is, with no encoding.

    A body that was cut off is decoded up to the cut.
    """
    if not encoding or not data:
        return data, None
    out = data
    for name in reversed([part.strip().lower() for part in encoding.split(",")]):
        if name in ("", "identity"):
            continue
        decoder = _DECODERS.get(name)
        if decoder is None:
            return data, f"{encoding} (not decoded)"
        try:
            out = decoder(out)
        except Exception:  # noqa: BLE001 - each library has its own exceptions; the body is kept as it came
            return data, f"{encoding} (not decoded)"
    return out, encoding


def _gzip(data: bytes) -> bytes:
    out = b""
    while data:  # a gzip body may have several members
        member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        out += member.decompress(data)
        if not member.eof:
            break
        data = member.unused_data
    return out


def _deflate(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data)
    except zlib.error:  # some servers send raw deflate, which RFC 9110 section 8.4.1.2 warns of
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data)


def _brotli(data: bytes) -> bytes:
    try:
        import brotli
    except ImportError:
        import brotlicffi as brotli
    decoder = brotli.Decompressor()
    return bytes((getattr(decoder, "decompress", None) or decoder.process)(data))


def _zstd(data: bytes) -> bytes:
    try:
        from compression import zstd  # type: ignore[import-not-found]  # Python 3.14

        return bytes(zstd.ZstdDecompressor().decompress(data))
    except ImportError:
        import zstandard

        return bytes(zstandard.ZstdDecompressor().decompressobj().decompress(data))


_DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}
