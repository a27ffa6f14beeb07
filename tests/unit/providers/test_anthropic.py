"""Messages: requests, answers, streams."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from unspool.events import Context, CtxMessage, LLMResponse, Part, ToolCall, ToolDef, Usage
from unspool.providers import PROVIDERS

ANTHROPIC = PROVIDERS["anthropic"]
URL = "https://api.anthropic.com/v1/messages"


def request(**body: Any) -> Context:
    return ANTHROPIC.parse_request(URL, msgspec.json.encode(body))


def answer(body: Any) -> LLMResponse:
    return ANTHROPIC.parse_response(URL, msgspec.json.encode(body), "application/json", 200, True)


def stream(*events: dict[str, Any], complete: bool = True) -> LLMResponse:
    lines = [
        f"event: {event['type']}\r\ndata: ".encode() + msgspec.json.encode(event) + b"\r\n\r\n" for event in events
    ]
    return ANTHROPIC.parse_response(URL, b"".join(lines), "text/event-stream", 200, complete)


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


def result(identity: str, content: Any = None, **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": identity, "content": content, **more}


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def test_a_whole_conversation() -> None:
    thinking = {"type": "thinking", "thinking": "hm", "signature": "s"}
    redacted = {"type": "redacted_thinking", "data": "x"}
    context = request(
        model="claude",
        system=[{**text("One."), "cache_control": {"type": "ephemeral"}}, text("Two.")],
        messages=[
            {"role": "user", "content": "hi"},
            {
                "role": "assistant",
                "content": [
                    thinking,
                    redacted,
                    text("I "),
                    text("look."),
                    {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": "ü"}},
                ],
            },
            {"role": "system", "content": "Later."},
        ],
        tools=[
            {"name": "f", "description": "d", "input_schema": {"type": "object"}},
            {"type": "bash_20250124", "name": "bash"},
        ],
        max_tokens=10,
        thinking={"type": "adaptive"},
        stream=True,
    )
    assert context == Context(
        messages=[
            CtxMessage("user", "hi"),
            CtxMessage(
                "assistant",
                "I look.",
                tool_calls=[ToolCall("f", '{"a":"ü"}', "t1")],
                parts=[Part("reasoning", "hm", thinking), Part("reasoning", data=redacted)],
            ),
            CtxMessage("system", "Later."),
        ],
        system_prompt="One.\nTwo.",
        tools=[
            ToolDef("f", "d", {"type": "object"}),
            ToolDef("bash", schema={"type": "bash_20250124", "name": "bash"}),
        ],
        params={"max_tokens": 10, "thinking": {"type": "adaptive"}},
        model="claude",
        provider="anthropic",
        stream=True,
    )
    assert request(system="One.").system_prompt == "One."
    assert request(messages=[]).system_prompt is None


def test_tool_results_are_messages_of_their_own_in_order() -> None:
    calls = [{"type": "tool_use", "id": name, "name": name.upper(), "input": {}} for name in "ab"]
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
    context = request(
        messages=[
            {"role": "assistant", "content": calls},
            user(
                result("a", "one"),
                text("between"),
                result("b", [text("two"), text("lines"), image], is_error=True),
                text("after"),
            ),
            user(result("c")),
        ]
    )
    assert context.messages[1:] == [
        CtxMessage("tool", "one", tool_call_id="a", tool_name="A"),
        CtxMessage("user", "between"),
        CtxMessage(
            "tool",
            "two\nlines",
            tool_call_id="b",
            tool_name="B",
            parts=[Part("image", data=image), Part("other", "is_error", {"is_error": True})],
        ),
        CtxMessage("user", "after"),
        CtxMessage("tool", "", tool_call_id="c"),
    ]


def test_what_is_not_text_becomes_a_part() -> None:
    pdf = {"type": "document", "title": "A", "source": {"type": "base64", "media_type": "application/pdf", "data": ""}}
    plain = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}}
    found = {"type": "search_result", "title": "T", "content": [text("x"), text("y")]}
    server = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    (message,) = request(messages=[user(text("a"), pdf, text("b"), plain, found, server, {"type": "new"}, 3)]).messages
    assert message.content == "a\nb"
    assert message.parts == [
        Part("file", "A", pdf),
        Part("file", "words", plain),
        Part("file", "x\ny", found),
        Part("other", "web_search", server),
        Part("other", "new", {"type": "new"}),
        Part("other", data=3),
    ]


def test_messages_of_unknown_shape_do_not_vanish() -> None:
    messages = request(messages=["hi", {}, {"role": "user", "content": []}, {"content": text("one block")}]).messages
    assert [(m.role, m.content) for m in messages] == [
        ("unknown", "hi"),
        ("unknown", "{}"),
        ("user", ""),
        ("unknown", "one block"),
    ]


def test_a_continued_thread_is_partial() -> None:
    context = request(thread={"type": "continue", "previous_message_id": "msg_0"})
    assert context.partial == "leans on state the provider keeps: the thread after msg_0"
    assert request(thread={"type": "create"}).partial is None


def test_a_whole_answer() -> None:
    usage = {
        "input_tokens": 3,
        "cache_read_input_tokens": 1000,
        "cache_creation_input_tokens": 200,
        "output_tokens": 50,
        "output_tokens_details": {"thinking_tokens": 20},
    }
    content = [
        {"type": "thinking", "thinking": "one"},
        {"type": "thinking", "thinking": "two"},
        text("I search."),
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
        text("It "),
        text("is."),
        {"type": "tool_use", "id": "t", "name": "f", "input": {}},
    ]
    body = {
        "id": "msg_1",
        "type": "message",
        "model": "claude",
        "stop_reason": "tool_use",
        "content": content,
        "usage": usage,
    }
    assert answer(body) == LLMResponse(
        text="I search.\nIt is.",
        tool_calls=[ToolCall("f", "{}", "t")],
        reasoning="one\n\ntwo",
        model="claude",
        finish_reason="tool_use",
        usage=Usage(1203, 50, 1000, 200, 20, usage),
        response_id="msg_1",
    )


def test_unknown_counts_are_none() -> None:
    assert answer({"usage": {}}).usage is None
    usage = answer({"usage": {"output_tokens": 5, "cache_read_input_tokens": 7}}).usage
    assert usage == Usage(None, 5, 7, raw={"output_tokens": 5, "cache_read_input_tokens": 7})


def test_the_model_that_answered_after_a_fallback() -> None:
    content = [{"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}}, text("x")]
    read = answer({"model": "a", "content": content})
    assert (read.model, read.text) == ("b", "x")


def start(index: int, block: dict[str, Any]) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, kind: str, **more: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **more}}


MESSAGE = {
    "id": "msg_1",
    "model": "claude",
    "content": [],
    "usage": {"input_tokens": 9, "cache_read_input_tokens": 4, "output_tokens": 1},
}
BEGIN: list[dict[str, Any]] = [
    {"type": "message_start", "message": MESSAGE},
    {"type": "ping"},
    start(0, {"type": "thinking", "thinking": "", "signature": ""}),
    delta(0, "thinking_delta", thinking="h"),
    delta(0, "thinking_delta", thinking="m"),
    delta(0, "signature_delta", signature="abc"),
    start(1, text("")),
    delta(1, "text_delta", text="Let "),
    delta(1, "text_delta", text="me."),
    start(2, {"type": "tool_use", "id": "t1", "name": "f", "input": {}}),
    delta(2, "input_json_delta", partial_json=""),
    delta(2, "input_json_delta", partial_json='{"a": '),
    delta(2, "input_json_delta", partial_json="1}"),
    start(3, {"type": "tool_use", "id": "t2", "name": "g", "input": {}}),
]
END = {
    "type": "message_delta",
    "delta": {"stop_reason": "tool_use", "stop_sequence": None},
    "usage": {"output_tokens": 30, "input_tokens": 10, "cache_read_input_tokens": None},
}
STOP = {"type": "message_stop"}


def test_a_stream_is_put_together() -> None:
    read = stream(*BEGIN, END, STOP)
    assert read == LLMResponse(
        text="Let me.",
        tool_calls=[ToolCall("f", '{"a": 1}', "t1"), ToolCall("g", "{}", "t2")],
        reasoning="hm",
        model="claude",
        finish_reason="tool_use",
        usage=Usage(14, 30, 4, raw={"input_tokens": 10, "cache_read_input_tokens": 4, "output_tokens": 30}),
        response_id="msg_1",
    )
    assert stream(*BEGIN, END, STOP, complete=False) == read


def test_a_stream_that_broke_keeps_what_came_and_does_not_know_the_output() -> None:
    read = stream(*BEGIN[:12], complete=False)
    assert (read.text, read.reasoning) == ("Let me.", "hm")
    assert read.tool_calls == [ToolCall("f", '{"a": ', "t1")]
    assert read.partial == "the stream ended before message_stop"
    assert read.usage is not None
    assert (read.usage.input_tokens, read.usage.output_tokens) == (13, None)
    assert stream(*BEGIN, END).partial == "the stream ended before message_stop"


def test_a_stream_without_its_start_is_read() -> None:
    read = stream(*(event for event in BEGIN if event["type"] == "content_block_delta"), END, STOP)
    assert (read.text, read.reasoning, read.tool_calls) == ("Let me.", "hm", [ToolCall("", '{"a": 1}')])


@pytest.mark.parametrize("inner", [{"type": "overloaded_error", "message": "Overloaded"}])
def test_an_error_in_mid_stream(inner: dict[str, Any]) -> None:
    read = stream(*BEGIN[:8], {"type": "error", "error": inner})
    assert (read.text, read.error and read.error.type) == ("Let ", "overloaded_error")
    assert read.partial == "the stream ended before message_stop"
