"""Chat Completions: requests, answers, streams."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from unspool.events import Context, CtxMessage, LLMResponse, Part, ToolCall, ToolDef, Usage
from unspool.providers import PROVIDERS

CHAT = PROVIDERS["openai_chat"]
URL = "https://api.openai.com/v1/chat/completions"


def request(**body: Any) -> Context:
    return CHAT.parse_request(URL, msgspec.json.encode(body))


def answer(body: Any, *, complete: bool = True) -> LLMResponse:
    return CHAT.parse_response(URL, msgspec.json.encode(body), "application/json", 200, complete)


def sse(*chunks: Any, done: bool = True) -> bytes:
    lines = [b"data: " + msgspec.json.encode(chunk) + b"\n\n" for chunk in chunks]
    return b"".join(lines) + (b"data: [DONE]\n\n" if done else b"")


def stream(*chunks: Any, done: bool = True, complete: bool = True) -> LLMResponse:
    return CHAT.parse_response(URL, sse(*chunks, done=done), "text/event-stream", 200, complete)


def delta(index: int = 0, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"id": "c1", "model": "m1", "choices": [{"index": index, "delta": fields, "finish_reason": finish}]}


def test_a_whole_conversation() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "search", "arguments": '{"q":  "ü"}'}}
    context = request(
        model="gpt-5",
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": [{"type": "text", "text": "Use tools."}]},
            {"role": "user", "content": "hi", "name": "ann"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "found"}]},
            {"role": "system", "content": "Now be long."},
            {"role": "assistant", "content": None, "refusal": "I will not."},
        ],
        tools=[
            {"type": "function", "function": {"name": "search", "description": "d", "parameters": {"type": "object"}}}
        ],
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
        tool_choice="auto",
    )
    assert context == Context(
        messages=[
            CtxMessage("user", "hi", parts=[Part("other", "ann", {"name": "ann"})]),
            CtxMessage("assistant", "", tool_calls=[ToolCall("search", '{"q":  "ü"}', "call_1")]),
            CtxMessage("tool", "found", tool_call_id="call_1", tool_name="search"),
            CtxMessage("system", "Now be long."),
            CtxMessage("assistant", "I will not."),
        ],
        system_prompt="Be brief.\nUse tools.",
        tools=[ToolDef("search", "d", {"type": "object"})],
        params={"temperature": 0, "stream_options": {"include_usage": True}, "tool_choice": "auto"},
        model="gpt-5",
        provider="openai_chat",
        stream=True,
    )


def test_what_is_not_text_becomes_a_part() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    audio = {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}
    file = {"type": "file", "file": {"filename": "a.pdf", "file_id": "file-1"}}
    content = [{"type": "text", "text": "one"}, image, {"type": "text", "text": "two"}, audio, file, {"type": "new"}, 7]
    (message,) = request(messages=[{"role": "user", "content": content}]).messages
    assert message.content == "one\ntwo"
    assert message.parts == [
        Part("image", data=image),
        Part("audio", data=audio),
        Part("file", "a.pdf", file),
        Part("other", data={"type": "new"}),
        Part("other", data=7),
    ]


def test_older_and_custom_tools() -> None:
    context = request(
        messages=[
            {"role": "assistant", "function_call": {"name": "old", "arguments": "{}"}},
            {"role": "function", "name": "old", "content": "1"},
            {
                "role": "assistant",
                "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "py", "input": "1+1"}}],
            },
            {"role": "tool", "tool_call_id": "c", "content": "2"},
        ],
        functions=[{"name": "old", "parameters": {}}],
        tools=[
            {"type": "custom", "custom": {"name": "py", "format": {"type": "text"}}},
            {"type": "openrouter:advisor", "parameters": {"model": "x"}},
        ],
    )
    assert [(m.role, m.tool_name, m.tool_calls) for m in context.messages] == [
        ("assistant", None, [ToolCall("old", "{}")]),
        ("tool", "old", None),
        ("assistant", None, [ToolCall("py", "1+1", "c")]),
        ("tool", "py", None),
    ]
    assert context.tools == [
        ToolDef("py", schema={"type": "text"}),
        ToolDef("openrouter:advisor", schema={"type": "openrouter:advisor", "parameters": {"model": "x"}}),
        ToolDef("old", schema={}),
    ]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_that_is_sent_back_is_a_part(name: str) -> None:
    (message,) = request(messages=[{"role": "assistant", "content": "4", name: "2+2"}]).messages
    assert message == CtxMessage("assistant", "4", parts=[Part("reasoning", "2+2")])


def test_messages_of_unknown_shape_do_not_vanish() -> None:
    context = request(
        messages=["hello", {}, 3, {"content": "no role"}, {"role": 5, "content": {"type": "text", "text": "x"}}]
    )
    assert [(m.role, m.content) for m in context.messages] == [
        ("unknown", "hello"),
        ("unknown", "{}"),
        ("unknown", "3"),
        ("unknown", "no role"),
        ("unknown", "x"),
    ]


def test_a_whole_answer() -> None:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "total_tokens": 120,
        "prompt_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 8},
        "completion_tokens_details": {"reasoning_tokens": 12},
    }
    message = {
        "role": "assistant",
        "content": "yes",
        "reasoning_content": "hm",
        "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": {"a": 1}}}],
    }
    body = {
        "id": "x",
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage,
    }
    assert answer(body) == LLMResponse(
        text="yes",
        tool_calls=[ToolCall("f", '{"a":1}', "c")],
        reasoning="hm",
        model="m",
        finish_reason="stop",
        usage=Usage(100, 20, 64, 8, 12, usage),
        response_id="x",
    )


def test_of_several_choices_the_first_is_read_and_the_others_are_mentioned() -> None:
    choices = [{"index": 1, "message": {"content": "b"}}, {"index": 0, "message": {"content": "a"}}]
    read = answer({"choices": choices})
    assert (read.text, read.partial) == ("a", "choice 0 of 2; the others are in the body")
    read = stream(delta(1, content="b", finish="stop"), delta(0, content="a", finish="stop"))
    assert (read.text, read.partial) == ("a", "choice 0 of 2; the others are in the body")


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({}, None),
        (None, None),
        ({"prompt_tokens": 0, "completion_tokens": 0}, (0, 0, None, None)),
        ({"prompt_tokens": "3"}, (None, None, None, None)),
        ({"prompt_tokens": 9, "prompt_cache_hit_tokens": 4}, (9, None, 4, None)),
        (
            {"prompt_tokens": 9, "prompt_cache_hit_tokens": 4, "prompt_tokens_details": {"cached_tokens": 0}},
            (9, None, 0, None),
        ),
        # OpenAI: reasoning is in completion_tokens. xAI: beside them.
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 7,
                "total_tokens": 12,
                "completion_tokens_details": {"reasoning_tokens": 6},
            },
            (5, 7, None, 6),
        ),
        (
            {
                "prompt_tokens": 32,
                "completion_tokens": 9,
                "total_tokens": 135,
                "completion_tokens_details": {"reasoning_tokens": 94},
            },
            (32, 103, None, 94),
        ),
    ],
)
def test_unknown_counts_are_none_and_never_zero(usage: Any, expected: tuple[int | None, ...] | None) -> None:
    read = answer({"usage": usage, "choices": []}).usage
    if expected is None:
        assert read is None
    else:
        assert read is not None
        assert (read.input_tokens, read.output_tokens, read.cached_tokens, read.reasoning_tokens) == expected
        assert read.raw == usage


def test_a_stream_is_put_together() -> None:
    read = stream(
        {"id": "", "model": "", "choices": [], "prompt_filter_results": []},
        delta(role="assistant", content=""),
        delta(reasoning="I "),
        delta(reasoning="think"),
        delta(content="A"),
        delta(content="B"),
        delta(tool_calls=[{"index": 1, "id": "c2", "function": {"name": "g", "arguments": ""}}]),
        delta(tool_calls=[{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a'}}]),
        delta(
            tool_calls=[{"index": 0, "function": {"arguments": '": 1}'}}, {"index": 1, "function": {"arguments": "{}"}}]
        ),
        delta(finish="tool_calls"),
        {"id": "c1", "model": "m1", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}},
    )
    assert read == LLMResponse(
        text="AB",
        tool_calls=[ToolCall("f", '{"a": 1}', "c1"), ToolCall("g", "{}", "c2")],
        reasoning="I think",
        model="m1",
        finish_reason="tool_calls",
        usage=Usage(3, 4, raw={"prompt_tokens": 3, "completion_tokens": 4}),
        response_id="c1",
    )


def test_tool_calls_of_servers_that_number_them_badly() -> None:
    def call(arguments: str, **more: Any) -> dict[str, Any]:
        name = more.pop("name", None)
        return delta(tool_calls=[{**more, "function": {"name": name, "arguments": arguments}}])

    all_zero = stream(call('{"a":1}', index=0, id="x", name="f"), call('{"a":2}', index=0, id="y", name="f"))
    assert [(c.id, c.arguments) for c in all_zero.tool_calls] == [("x", '{"a":1}'), ("y", '{"a":2}')]
    no_index = stream(call("{}", id="x", name="f"), call("{", id="y", name="g"), call("}"))
    assert no_index.tool_calls == [ToolCall("f", "{}", "x"), ToolCall("g", "{}", "y")]
    repeated = stream(call("{", index=0, id="x", name="f"), call("}", index=0, id="x", name="f"))
    assert repeated.tool_calls == [ToolCall("f", "{}", "x")]
    custom = stream(
        delta(tool_calls=[{"index": 0, "id": "x", "type": "custom", "custom": {"name": "py", "input": "1"}}]),
        delta(tool_calls=[{"index": 0, "custom": {"input": "+1"}}]),
    )
    assert custom.tool_calls == [ToolCall("py", "1+1", "x")]
    old = stream(delta(function_call={"name": "f", "arguments": ""}), delta(function_call={"arguments": "{}"}))
    assert old.tool_calls == [ToolCall("f", "{}")]


def test_typed_parts_of_mistral_and_details_of_openrouter() -> None:
    read = stream(
        delta(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "so "}]}]),
        delta(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "what"}]}]),
        delta(content=[{"type": "text", "text": "this"}]),
        delta(content=" that"),
    )
    assert (read.text, read.reasoning) == ("this that", "so what")
    steps = [{"type": "reasoning.text", "text": "a"}, {"type": "reasoning.summary", "summary": "b"}]
    assert stream(delta(reasoning_details=steps[:1]), delta(reasoning_details=steps[1:])).reasoning == "ab"
    both = {"reasoning": "once", "reasoning_details": [{"type": "reasoning.text", "text": "once"}]}
    assert answer({"choices": [{"message": both}]}).reasoning == "once"


def test_what_a_model_spoke_is_its_text() -> None:
    assert answer({"choices": [{"message": {"audio": {"id": "a", "transcript": "hello"}}}]}).text == "hello"
    assert stream(delta(audio={"transcript": "he"}), delta(audio={"transcript": "llo"})).text == "hello"


def test_the_end_of_a_stream() -> None:
    text = delta(content="x")
    last = delta(finish="stop")
    assert stream(text, last).partial is None
    assert stream(text, last, complete=False).partial is None, "clients close the connection at [DONE]"
    assert stream(text, last, done=False).partial is None
    assert stream(text).partial is None
    cut = "the stream ended before [DONE] or a finish_reason"
    assert stream(text, done=False).partial == cut
    assert stream(text, last, done=False, complete=False).partial == cut, "the usage was still to come"
    one_of_two = stream(text, delta(1, finish="stop"), done=False)
    assert one_of_two.partial == cut


def test_a_choice_can_carry_the_error() -> None:
    read = stream({"choices": [{"index": 0, "delta": {"content": ""}, "error": {"code": 502, "message": "up"}}]})
    assert read.error is not None
    assert (read.error.type, read.error.message) == ("http_502", "up")


def test_a_damaged_event_in_the_middle_is_reported() -> None:
    body = sse(delta(content="a"), done=False) + b"data: {oops\n\n" + sse(delta(content="b", finish="stop"))
    read = CHAT.parse_response(URL, body, None, 200, True)
    assert (read.text, read.partial) == ("ab", "1 of the stream's events could not be read")


def test_ndjson_reads_like_a_stream() -> None:
    body = b"\n".join(msgspec.json.encode(chunk) for chunk in (delta(content="a"), delta(content="b", finish="stop")))
    assert CHAT.parse_response(URL, body, "application/x-ndjson", 200, True).text == "ab"
