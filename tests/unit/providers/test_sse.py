"""Streams: server-sent events, NDJSON and JSON arrays."""

from __future__ import annotations

import pytest

from unspool.providers.sse import Stream, json_documents, parse_sse, read_stream


def test_line_ends_comments_fields_and_several_data_lines() -> None:
    first = b"\xef\xbb\xbf: hello\r\nevent: a\r\nid: 7\r\ndata: 1\r\ndata:2\r\n\r\n"
    body = first + b"retry: 5\n\ndata:  3\n\nnonsense\r\rdata\n\n"
    assert parse_sse(body) == [("a", "1\n2"), (None, " 3"), (None, "")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_unicode_line_separators_belong_to_the_data(end: str) -> None:
    text = f'data: {{"a": "\u2028\u0085x"}}{end}{end}'
    assert read_stream(text.encode(), None) == Stream([{"a": "\u2028\u0085x"}])


def test_a_last_event_without_its_blank_line_counts_when_it_is_whole() -> None:
    assert read_stream(b'data: {"a": 1}\n\ndata: {"a": 2}', None) == Stream([{"a": 1}, {"a": 2}])
    assert read_stream(b'data: {"a": 1}\n\ndata: {"a": ', None) == Stream([{"a": 1}], damaged=1)
    assert read_stream(b'data: {"a": 1}\n\ndata: [DONE]', None) == Stream([{"a": 1}], done=True)


def test_the_bytes_decide_before_the_label() -> None:
    assert read_stream(b'{"error": {}}', "text/event-stream") is None
    assert read_stream(b'  [{"a": 1}]', "text/event-stream; charset=utf-8") is None
    assert read_stream(b"event: x\ndata: {}\n\n", "application/json") == Stream([{}])
    assert read_stream(b": waiting\n\n", None) == Stream([])
    assert read_stream(b"", "text/event-stream") == Stream([])
    assert read_stream(b"", "application/json") is None
    assert read_stream(b"oops", "application/json") is None


def test_an_error_event_without_json_is_still_an_error() -> None:
    assert read_stream(b"event: error\ndata: overloaded\n\n", None) == Stream(
        [{"type": "error", "error": "overloaded"}]
    )


def test_documents_one_after_another() -> None:
    assert json_documents(b'{"a": 1}\n{"a": 2}\r\n') == Stream([{"a": 1}, {"a": 2}])
    assert json_documents(b'[{"a": 1}\n,\r\n{"a": 2}\n]\n') == Stream([{"a": 1}, {"a": 2}])
    assert json_documents(b'[{"a": 1},\n{"a": ') == Stream([{"a": 1}], damaged=1)
    assert json_documents(b'\x1e{"a": 1}\n\x1e{"a": 2}\n') == Stream([{"a": 1}, {"a": 2}])
    assert json_documents(b"[") == json_documents(b"") == Stream([])
    assert json_documents(b"1 2") == Stream([], damaged=2)
    assert json_documents(b"[" * 100_000).items == []
