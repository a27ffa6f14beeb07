"""What every wire format does alike: errors, damage, labels, the end of a body."""

from __future__ import annotations

import msgspec
import pytest

from unspool.events import ErrorData, LLMResponse
from unspool.providers import PROVIDERS, Provider
from unspool.providers.faults import error_of
from unspool.providers.wire import as_count, compact_json, decode_json

every_provider = pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
URL = "https://h/v1beta/models/m:generateContent"


def parse(
    provider: Provider, body: object, status: int = 200, *, content_type: str | None = None, complete: bool = True
) -> LLMResponse:
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return provider.parse_response(URL, raw, content_type, status, complete)


ERRORS = [
    (
        {"error": {"message": "m", "type": "invalid_request_error", "code": "context_length_exceeded"}},
        "context_length_exceeded",
    ),
    ({"error": {"message": "m", "type": "server_error", "code": None, "param": None}}, "server_error"),
    ({"error": {"message": "m", "code": "429"}}, "http_429"),
    ({"error": {"message": "m", "code": 502, "metadata": {}}}, "http_502"),
    ({"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT"}}, "INVALID_ARGUMENT"),
    ([{"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT"}}], "INVALID_ARGUMENT"),
    ({"type": "error", "error": {"type": "overloaded_error", "message": "m"}, "request_id": "r"}, "overloaded_error"),
    ({"object": "error", "message": "m", "type": "BadRequestError", "code": 400}, "BadRequestError"),
    ({"type": "error", "code": "rate_limit_exceeded", "message": "m"}, "rate_limit_exceeded"),
    ({"error": "m"}, "error"),
    ({"detail": "m"}, "error"),
    ({"message": "m"}, "error"),
]


@every_provider
@pytest.mark.parametrize(("body", "kind"), ERRORS)
def test_error_bodies_of_all_providers_are_known_to_all(provider: Provider, body: object, kind: str) -> None:
    """Gateways answer in their own words, whatever format was asked."""
    answer = parse(provider, body, 400)
    assert answer.error == ErrorData(type=kind, message="m")
    assert answer.text == ""
    assert answer.partial is None


@every_provider
def test_an_error_with_status_200_is_an_error(provider: Provider) -> None:
    error = parse(provider, {"error": {"message": "no", "code": 502}}).error
    assert error == ErrorData(type="http_502", message="no")


@every_provider
def test_text_and_html_errors_keep_their_first_500_characters(provider: Provider) -> None:
    body = b"<html>" + "ü".encode() * 1000
    error = parse(provider, body, 503, content_type="text/html").error
    assert error == ErrorData(type="http_503", message="<html>" + "ü" * 494)
    assert parse(provider, b"", 500).error == ErrorData(type="http_500")
    assert parse(provider, {"unknown": 1}, 418).error == ErrorData(type="http_418", message='{"unknown":1}')
    assert parse(provider, b"data: {}\n\n", 500).error == ErrorData(type="http_500", message="data: {}")


@every_provider
def test_an_answer_that_is_no_json_is_malformed(provider: Provider) -> None:
    error = parse(provider, b"<html>hello</html>").error
    assert error is not None
    assert error.type == "malformed_json"
    assert "<html>hello</html>" in error.message
    assert parse(provider, b" ").error == ErrorData(type="malformed_json", message="the body is empty")
    error = parse(provider, b'"a string"').error
    assert error == ErrorData(type="unexpected_body", message='"a string"')
    error = parse(provider, b"[1, 2]").error
    assert error == ErrorData(type="unexpected_body", message="[1, 2]")


@every_provider
def test_a_body_that_was_cut_is_partial_and_no_error(provider: Provider) -> None:
    answer = parse(provider, b'{"id": "x", "cho', complete=False)
    assert (answer.error, answer.partial) == (None, "the body ended early, after 16 bytes")
    assert parse(provider, {}, complete=False).partial == "the connection ended before the body did"
    cut = parse(provider, b"", content_type="text/event-stream", complete=False)
    assert (cut.error, (cut.partial or "")[:23]) == (None, "the stream ended before")


@every_provider
def test_an_error_in_mid_stream_is_an_error(provider: Provider) -> None:
    body = b'data: {"x": 1}\n\nevent: error\ndata: {"error": {"message": "gone", "type": "server_error"}}\n\n'
    answer = parse(provider, body)
    assert answer.error == ErrorData(type="server_error", message="gone")
    assert answer.partial is not None


@every_provider
def test_requests_that_are_no_json_object_say_so(provider: Provider) -> None:
    context = provider.parse_request(URL, b"{oops")
    assert context.messages == []
    assert (context.partial or "").startswith("request body is not JSON: ")
    assert provider.parse_request(URL, b"[1]").partial == "request body is not a JSON object but a list"
    assert provider.parse_request(URL, b"").partial is not None


@every_provider
def test_a_request_needs_no_message_to_be_read(provider: Provider) -> None:
    context = provider.parse_request(URL, b'{"temperature": 0.5}')
    assert (context.messages, context.params, context.partial) == ([], {"temperature": 0.5}, None)


def test_json_that_msgspec_refuses_is_read() -> None:
    assert decode_json(rb'{"a": "\ud800", "b": Infinity, "a": "\udfff"}') == {"a": "\udfff", "b": float("inf")}
    assert decode_json("{}".encode("utf-16")) == {}
    assert decode_json(b"\xef\xbb\xbf{}") == {}
    assert decode_json(b'{"a": "\xff"}') == {"a": "\ufffd"}
    for garbage in (b"", b"[" * 100_000, b"1" * 5000, "{"):
        with pytest.raises(ValueError, match=r"."):
            decode_json(garbage)


def test_compact_json_keeps_what_msgspec_would_lose() -> None:
    assert compact_json({"a": [float("nan"), "\ud800ü"]}) == '{"a":[NaN,"\ud800ü"]}'
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert compact_json(deep) == ""


def test_counts_are_whole_numbers_from_zero() -> None:
    assert [as_count(value) for value in (0, 7, 12.0)] == [0, 7, 12]
    assert [as_count(value) for value in (True, -1, 1.5, "3", None, float("nan"), float("inf"), 2**60, [])] == [
        None
    ] * 9


def test_no_error_is_no_error() -> None:
    for body in ({}, {"error": None}, {"error": ""}, {"message": {}}, [], "error", {"type": "message"}):
        assert error_of(body) is None
