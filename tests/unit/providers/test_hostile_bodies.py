"""Nothing raises, whatever the bytes: real bodies cut, spliced, bent and mistyped."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unspool.events import Context, CtxMessage, LLMResponse, Part, ToolCall, ToolDef
from unspool.providers import PROVIDERS, Provider, match, request_head, vendor
from unspool.providers.sse import read_stream

URL = "https://h/v1beta/models/m:streamGenerateContent"
QUICK = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("\ud800")
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def check_context(context: Context, provider: Provider) -> None:
    assert context.provider == provider.name
    assert isinstance(context.partial, str | None)
    assert isinstance(context.system_prompt, str | None)
    assert isinstance(context.model, str | None)
    assert isinstance(context.stream, bool)
    assert isinstance(context.params, dict)
    for message in context.messages:
        assert isinstance(message, CtxMessage)
        assert isinstance(message.role, str)
        assert isinstance(message.content, str)
        assert isinstance(message.tool_call_id, str | None)
        assert isinstance(message.tool_name, str | None)
        check_calls(message.tool_calls or [])
        for part in message.parts or []:
            assert isinstance(part, Part)
            assert part.kind in ("image", "audio", "file", "reasoning", "other")
            assert isinstance(part.text, str | None)
    for tool in context.tools:
        assert isinstance(tool, ToolDef)
        assert isinstance(tool.name, str)
        assert isinstance(tool.description, str | None)


def check_answer(answer: LLMResponse) -> None:
    assert isinstance(answer.text, str)
    check_calls(answer.tool_calls)
    for text in (answer.reasoning, answer.model, answer.finish_reason, answer.response_id, answer.partial):
        assert isinstance(text, str | None)
    if answer.error is not None:
        assert isinstance(answer.error.type, str)
        assert answer.error.type
        assert isinstance(answer.error.message, str)
    if answer.usage is not None:
        assert isinstance(answer.usage.raw, dict)
        for count in (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.reasoning_tokens):
            assert count is None or (isinstance(count, int) and count >= 0)


def check_calls(calls: list[ToolCall]) -> None:
    for call in calls:
        assert isinstance(call.name, str)
        assert isinstance(call.arguments, str)
        assert isinstance(call.id, str | None)


def check_all(body: bytes, *, content_type: str | None = None, status: int = 200, complete: bool = True) -> None:
    for provider in PROVIDERS.values():
        check_context(provider.parse_request(URL, body), provider)
        check_answer(provider.parse_response(URL, body, content_type, status, complete))
        request_head(provider, URL, body)


@QUICK
@given(
    body=st.binary(max_size=200),
    content_type=st.sampled_from([None, "", "text/event-stream", "application/json", "text/html"]),
    status=st.sampled_from([0, 200, 204, 302, 400, 500]),
    complete=st.booleans(),
)
def test_random_bytes(body: bytes, content_type: str | None, status: int, complete: bool) -> None:
    check_all(body, content_type=content_type, status=status, complete=complete)


@QUICK
@given(value=values)
def test_random_json(value: Any) -> None:
    check_all(json.dumps(value).encode())
    check_all(b"data: " + json.dumps(value).encode() + b"\n\n")


@QUICK
@given(data=st.data())
def test_real_bodies_cut_and_spliced(data: st.DataObject, cassettes: dict[str, Any]) -> None:
    exchange = cassettes[data.draw(st.sampled_from(sorted(cassettes)))]
    body = data.draw(st.sampled_from([exchange.request, exchange.response]))[:20_000]
    start, end = sorted((data.draw(st.integers(0, len(body))), data.draw(st.integers(0, len(body)))))
    filling = data.draw(
        st.sampled_from([b"", b"\xff", b"\x00", b'"', b"}", b"\n\n", b"null", rb"\ud800", b"NaN", b"[[[["])
    )
    check_all(body[:start] + filling + body[end:], content_type=exchange.content_type, status=exchange.status)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value inside a JSON value."""
    entries: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [path] if path else []
    for key, inner in entries:
        found.extend(places(inner, (*path, key)))
    return found


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


@QUICK
@given(data=st.data())
def test_real_bodies_with_a_value_of_another_type(data: st.DataObject, cassettes: dict[str, Any]) -> None:
    exchange = cassettes[data.draw(st.sampled_from(sorted(cassettes)))]
    new = data.draw(values)
    provider = exchange.provider
    request = msgspec.json.decode(exchange.request)
    bent = replaced(request, data.draw(st.sampled_from(places(request))), new)
    check_context(provider.parse_request(exchange.url, json.dumps(bent).encode()), provider)

    stream = read_stream(exchange.response, None)
    document = msgspec.json.decode(exchange.response) if stream is None else stream.items
    bent = replaced(document, data.draw(st.sampled_from(places(document)[:3000])), new)
    body = json.dumps(bent).encode()
    if stream is not None and isinstance(bent, list):
        body = b"".join(b"data: " + json.dumps(item).encode() + b"\n\n" for item in bent)
    check_answer(provider.parse_response(exchange.url, body, exchange.content_type, exchange.status, True))


@pytest.mark.parametrize("depth", [100, 900, 990, 5000, 100_000])
def test_deep_nesting(depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    check_all(deep)
    for body in (
        b'{"messages": [{"role": "user", "content": %s}], "tools": %s}',
        b'{"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": {"a": %s}}}]}], "x": %s}',
        b'{"contents": [{"parts": [{"functionCall": {"args": {"a": %s}}}]}], "x": %s}',
        b'{"choices": [{"message": {"tool_calls": [{"function": {"arguments": {"a": %s}}}]}}], "usage": %s}',
        b'{"error": {"x": %s}, "y": %s}',
    ):
        check_all(body % (deep, deep))


def test_lone_surrogates_nan_and_duplicate_keys() -> None:
    check_all(
        rb'{"messages": [{"role": "user", "content": "\ud800"}], "top_p": NaN, "messages": [{"content": "\udc00"}]}'
    )
    provider = PROVIDERS["openai_chat"]
    context = provider.parse_request(URL, rb'{"messages": [{"role": "user", "content": "a\ud800"}], "top_p": NaN}')
    assert context.messages == [CtxMessage("user", "a\ud800")]


@QUICK
@given(url=st.text(max_size=60) | st.sampled_from(["https://[/v1/messages", "//", "http://a:b/responses", "?", "#"]))
def test_urls(url: str) -> None:
    match("POST", url)
    for provider in PROVIDERS.values():
        assert vendor(provider, url)
        assert isinstance(request_head(provider, url, b"{}").model, str | None)
