"""Content-encodings are undone as far as a body came; what cannot be undone is kept as it is."""

from __future__ import annotations

import gzip
import zlib

import pytest

from unspool.capture.http.encodings import decode_body

TEXT = b"The quick brown fox jumps over the lazy dog. " * 50
RAW = zlib.compressobj(wbits=-15)


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (gzip.compress(TEXT, mtime=0), "gzip"),
        (gzip.compress(TEXT[:100], mtime=0) + gzip.compress(TEXT[100:], mtime=0), "GZIP"),
        (zlib.compress(TEXT), "deflate"),
        (RAW.compress(TEXT) + RAW.flush(), "deflate"),
        (gzip.compress(zlib.compress(TEXT), mtime=0), "deflate, gzip"),
        (TEXT, "identity"),
    ],
    ids=["gzip", "several members", "deflate", "raw deflate", "two codings", "identity"],
)
def test_decoded(data: bytes, encoding: str) -> None:
    assert decode_body(data, encoding) == (TEXT, encoding)


def test_a_cut_body_is_decoded_up_to_the_cut() -> None:
    body, encoding = decode_body(gzip.compress(TEXT, mtime=0)[:60], "gzip")
    assert TEXT.startswith(body)
    assert encoding == "gzip"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "unheard-of", "gzip, unheard-of"])
def test_what_cannot_be_decoded_is_kept(encoding: str) -> None:
    assert decode_body(b"\x00not compressed", encoding) == (b"\x00not compressed", f"{encoding} (not decoded)")


@pytest.mark.parametrize("encoding", [None, ""])
def test_plain_bodies(encoding: str | None) -> None:
    assert decode_body(TEXT, encoding) == (TEXT, None)
