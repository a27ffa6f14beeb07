"""The recorded half of an exchange, made ready to be given back."""

from __future__ import annotations

import pytest

from unspool.events import ErrorData
from unspool.serving.served import Answer, cut


@pytest.mark.parametrize(
    ("chunks", "pieces", "delays"),
    [
        (None, [b"abcdef"], [0.0]),
        ([2, 1000, 4, 500_000], [b"ab", b"cdef"], [0.001, 0.5]),
        ([1, 0, 2, 3_000_000], [b"ab", b"cdef"], [0.0, 3.0]),  # it travelled compressed: cut in proportion
        ([3, 10, 0, 20, 3, 30], [b"abc", b"def"], [0.00001, 0.00005]),
        ([-1, 5, 7, 5], [b"abcdef"], [0.0]),  # a damaged line
        ([2, 5, 4], [b"ab", b"cdef"], [0.000005, 0.0]),
    ],
)
def test_a_body_is_cut_as_it_came(chunks: list[int] | None, pieces: list[bytes], delays: list[float]) -> None:
    assert cut(b"abcdef", chunks) == (pieces, pytest.approx(delays))


def test_nothing_has_no_pieces() -> None:
    assert cut(b"", [1, 2, 3, 4]) == ([], [])


def headers_of(
    *, pieces: list[bytes], error: ErrorData | None = None, is_encoded: bool = False, **named: str
) -> set[str]:
    headers = [(name.replace("_", "-"), value) for name, value in named.items()]
    answer = Answer(200, "OK", headers, pieces, error=error, is_encoded=is_encoded)
    return {name for name, _ in answer.headers}


def test_headers_about_the_framing_stay_only_if_they_are_true() -> None:
    body = [b"abc", b"def"]
    assert headers_of(pieces=body, content_length="6", x="1") == {"content-length", "x"}
    assert headers_of(pieces=body, content_length="99") == set()
    assert headers_of(pieces=body, content_length="99", error=ErrorData("x.Y")) == set()
    assert headers_of(pieces=body, content_length="6", content_encoding="gzip") == set()
    assert headers_of(pieces=body, content_length="6", content_encoding="x", is_encoded=True) == {
        "content-length",
        "content-encoding",
    }
    assert headers_of(pieces=body, transfer_encoding="chunked") == set()
    assert headers_of(pieces=[], content_length="1800") == {"content-length"}  # HEAD
