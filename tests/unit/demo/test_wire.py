"""What each wire format reads and writes, without a server between."""

from __future__ import annotations

import json
import re
from typing import Any, get_args

import pytest

from unspool.demo.script import Message, ModelRequest, Reply, ToolCall, ToolResult, Usage, WireName
from unspool.demo.wire import FORMATS, Route, gemini, route
from unspool.demo.wire.framing import pieces

ARGUMENTS = {"query": "lamp", "limit": 3}
SCHEMA = {"type": "object"}

# The same conversation in each format: system prompt, question, call, result, thanks.
CONVERSATIONS: dict[WireName, dict[str, Any]] = {
    "openai-chat": {
        "messages": [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": [{"type": "text", "text": "find "}, {"type": "text", "text": "it"}]},
            {
                "role": "assistant",
                "content": "looking",
                "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "find", "arguments": json.dumps(ARGUMENTS)}}
                ],
            },
            {"role": "tool", "tool_call_id": "1", "content": "found"},
            {"role": "user", "content": "thanks"},
        ],
        "tools": [{"type": "function", "function": {"name": "find", "description": "finds", "parameters": SCHEMA}}],
    },
    "openai-responses": {
        "instructions": "be kind",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "find it"}]},
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "looking"}]},
            {"type": "function_call", "call_id": "1", "name": "find", "arguments": json.dumps(ARGUMENTS)},
            {"type": "function_call_output", "call_id": "1", "output": "found"},
            {"role": "user", "content": "thanks"},
        ],
        "tools": [{"type": "function", "name": "find", "description": "finds", "parameters": SCHEMA}],
    },
    "anthropic": {
        "system": [{"type": "text", "text": "be kind"}],
        "messages": [
            {"role": "user", "content": "find it"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "text", "text": "looking"},
                    {"type": "tool_use", "id": "1", "name": "find", "input": ARGUMENTS},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "1", "content": "found"},
                    {"type": "text", "text": "thanks"},
                ],
            },
        ],
        "tools": [{"name": "find", "description": "finds", "input_schema": SCHEMA}],
    },
    "gemini": {
        "systemInstruction": {"parts": [{"text": "be kind"}]},
        "contents": [
            {"role": "user", "parts": [{"text": "find it"}]},
            {
                "role": "model",
                "parts": [
                    {"text": "hm", "thought": True},
                    {"text": "looking"},
                    {"functionCall": {"id": "1", "name": "find", "args": ARGUMENTS}},
                ],
            },
            {
                "role": "user",
                "parts": [
                    {"functionResponse": {"id": "1", "name": "find", "response": {"result": "found"}}},
                    {"text": "thanks"},
                ],
            },
        ],
        "tools": [{"functionDeclarations": [{"name": "find", "description": "finds", "parameters": SCHEMA}]}],
    },
}


def request(wire: WireName, body: dict[str, Any] | None = None) -> ModelRequest:
    return FORMATS[wire].parse(body or CONVERSATIONS[wire], model="m", framing="body")


def test_every_wire_format_is_tested() -> None:
    assert set(CONVERSATIONS) == set(FORMATS) == set(get_args(WireName))


@pytest.mark.parametrize("wire", FORMATS)
def test_the_same_conversation_reads_the_same_in_every_format(wire: WireName) -> None:
    read = request(wire)
    assert read.system == "be kind"
    assert read.messages == (
        Message("user", "find it"),
        Message("assistant", "looking", (ToolCall("find", ARGUMENTS, "1"),)),
        Message("tool", tool_results=(ToolResult("find", "found", "1"),)),
        Message("user", "thanks"),
    )
    assert [(tool.name, tool.description, tool.parameters) for tool in read.tools] == [("find", "finds", SCHEMA)]
    assert read.last_user_text == "thanks"
    assert read.results == ((ToolCall("find", ARGUMENTS, "1"), ToolResult("find", "found", "1")),)


@pytest.mark.parametrize("wire", FORMATS)
@pytest.mark.parametrize("body", [{}, {"messages": [3], "input": [3], "contents": [3]}, {"messages": [{}]}])
def test_what_is_no_request_raises_what_the_server_expects(wire: WireName, body: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, AttributeError, ValueError)):
        FORMATS[wire].parse(body, model="m", framing="body")


@pytest.mark.parametrize("wire", FORMATS)
@pytest.mark.parametrize(
    "reply",
    [
        Reply("four words of text"),
        Reply(),
        Reply("x", reasoning="because of y"),
        Reply("calling", (ToolCall("find", ARGUMENTS), ToolCall("find", {}))),
        Reply("too long", finish="length", chunks=100),
    ],
    ids=["text", "empty", "reasoning", "tools", "length"],
)
def test_a_stream_adds_up_to_the_body(wire: WireName, reply: Reply) -> None:
    asked = request(wire)
    body = FORMATS[wire].render(asked, reply, Usage(10, 5, cached=2, reasoning=1))
    stream = FORMATS[wire].stream(asked, reply, Usage(10, 5, cached=2, reasoning=1))
    assert all(frame.endswith((b"\n\n", b"\r\n\r\n")) for frame in stream)
    texts = _texts_in([_data(frame) for frame in stream])
    assert reply.text in texts
    assert reply.reasoning in texts
    for call in reply.tool_calls:
        assert call.name in texts
    assert reply.text in _texts_in([body])


def _data(frame: bytes) -> Any:
    data = next(line for line in frame.splitlines() if line.startswith(b"data: "))[6:]
    return {} if data == b"[DONE]" else json.loads(data)


def _texts_in(values: list[Any]) -> str:
    """All strings of the values, in order, end to end: pieces of a text meet again."""
    keys = {"text", "content", "delta", "thinking", "reasoning_content", "arguments", "partial_json", "name"}

    def strings(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [
                text
                for key, inner in value.items()
                for text in ([inner] if isinstance(inner, str) and key in keys else strings(inner))
            ]
        return [text for inner in value for text in strings(inner)] if isinstance(value, list) else []

    return "".join(strings(values))


def test_usage_in_the_words_of_each_provider() -> None:
    """What is cached or thought is inside the total for some and beside it for others."""
    usage = Usage(100, 20, cached=60, reasoning=5)
    rendered = {wire: FORMATS[wire].render(request(wire), Reply("x"), usage) for wire in FORMATS}
    assert rendered["openai-chat"]["usage"]["prompt_tokens"] == 100
    assert rendered["openai-responses"]["usage"]["input_tokens"] == 100
    assert rendered["anthropic"]["usage"]["input_tokens"] == 40
    assert rendered["anthropic"]["usage"]["cache_read_input_tokens"] == 60
    assert rendered["gemini"]["usageMetadata"]["candidatesTokenCount"] == 15
    assert rendered["gemini"]["usageMetadata"]["totalTokenCount"] == 120


@pytest.mark.parametrize("wire", FORMATS)
def test_without_usage_there_is_none(wire: WireName) -> None:
    asked = request(wire)
    frames = [json.dumps(FORMATS[wire].render(asked, Reply("x"), None)).encode()]
    frames += FORMATS[wire].stream(asked, Reply("x"), None)
    assert not any(re.search(rb'"usage(Metadata)?": ?[{]', frame) for frame in frames)


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("/v1/chat/completions", {}, Route("openai-chat")),
        ("/openai/v1/chat/completions", {}, Route("openai-chat")),
        ("/v1/responses", {}, Route("openai-responses")),
        ("/v1/messages", {}, Route("anthropic")),
        ("/v1beta/models/a%2Bb:generateContent", {}, Route("gemini", "a+b", "body")),
        ("/v1beta/models/a:streamGenerateContent", {"alt": ["sse"]}, Route("gemini", "a", "sse")),
        ("/v1beta/models/a:streamGenerateContent", {}, Route("gemini", "a", "array")),
        ("/v1beta/models/a:countTokens", {}, None),
        ("/v1/embeddings", {}, None),
    ],
)
def test_routes(path: str, query: dict[str, list[str]], expected: Route | None) -> None:
    assert route(path, query) == expected


def test_an_array_stream_is_one_json_value() -> None:
    frames = gemini.stream(request("gemini"), Reply("some text"), None)
    assert len(json.loads(b"".join(gemini.as_array(frames)))) == len(frames)


@pytest.mark.parametrize(("text", "count"), [("", 5), ("a", 5), ("abcdefg", 3), ("abc", 3), ("é🎉x", 2)])
def test_pieces_add_up(text: str, count: int) -> None:
    parts = pieces(text, count)
    assert "".join(parts) == text
    assert len(parts) == min(len(text), count)
    assert all(parts)
