"""Responses: requests, answers, streams."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from unspool.events import Context, CtxMessage, LLMResponse, Part, ToolCall, ToolDef, Usage
from unspool.providers import PROVIDERS

RESPONSES = PROVIDERS["openai_responses"]
URL = "https://api.openai.com/v1/responses"

REASONING = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "search", "arguments": '{"q": 1}'}
MESSAGE = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "Found."}],
}


def request(**body: Any) -> Context:
    return RESPONSES.parse_request(URL, msgspec.json.encode(body))


def answer(body: Any) -> LLMResponse:
    return RESPONSES.parse_response(URL, msgspec.json.encode(body), "application/json", 200, True)


def stream(*events: dict[str, Any], complete: bool = True) -> LLMResponse:
    lines = [f"event: {event['type']}\ndata: ".encode() + msgspec.json.encode(event) + b"\n\n" for event in events]
    return RESPONSES.parse_response(URL, b"".join(lines), "text/event-stream", 200, complete)


def test_a_plain_string_is_the_users_message() -> None:
    context = request(model="gpt-5", input="hi", instructions="Be brief.", store=False)
    assert context == Context(
        messages=[CtxMessage("user", "hi")],
        system_prompt="Be brief.",
        params={"store": False},
        model="gpt-5",
        provider="openai_responses",
    )


def test_what_the_model_says_in_one_go_is_one_message() -> None:
    context = request(
        instructions="One.",
        input=[
            {"role": "developer", "content": "Two."},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
            REASONING,
            MESSAGE,
            CALL,
            {"type": "custom_tool_call", "call_id": "call_2", "name": "py", "input": "1+1"},
            {"type": "function_call_output", "call_id": "call_1", "output": "found"},
            {"type": "custom_tool_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "2"}]},
            MESSAGE,
            MESSAGE,
            {"role": "system", "content": "Three."},
        ],
    )
    assert context.system_prompt == "One.\nTwo."
    assert context.messages == [
        CtxMessage("user", "hi"),
        CtxMessage(
            "assistant",
            "Found.",
            tool_calls=[ToolCall("search", '{"q": 1}', "call_1"), ToolCall("py", "1+1", "call_2")],
            parts=[Part("reasoning", "hm", REASONING)],
        ),
        CtxMessage("tool", "found", tool_call_id="call_1", tool_name="search"),
        CtxMessage("tool", "2", tool_call_id="call_2", tool_name="py"),
        CtxMessage("assistant", "Found."),
        CtxMessage("assistant", "Found."),
        CtxMessage("system", "Three."),
    ]


def test_built_in_tools() -> None:
    action = {"type": "exec", "command": ["ls"]}
    hosted = {"type": "shell_call", "call_id": "s2", "action": {}, "environment": {"type": "container_reference"}}
    search = {"type": "web_search_call", "id": "ws", "action": {}}
    screen = {"type": "computer_screenshot", "image_url": "data:,"}
    context = request(
        input=[
            {"type": "local_shell_call", "id": "i", "call_id": "l1", "action": action},
            {"type": "shell_call", "call_id": "s1", "action": {"commands": ["pwd"]}},
            hosted,
            search,
            {"type": "local_shell_call_output", "call_id": "l1", "output": "a b"},
            {"type": "shell_call_output", "call_id": "s1", "output": [{"stdout": "/"}]},
            {"type": "computer_call_output", "call_id": "c1", "output": screen},
        ]
    )
    said, shell, output, computer = context.messages
    assert said.tool_calls == [
        ToolCall("local_shell", '{"type":"exec","command":["ls"]}', "l1"),
        ToolCall("shell", '{"commands":["pwd"]}', "s1"),
    ]
    assert said.parts == [Part("other", "shell_call", hosted), Part("other", "web_search_call", search)]
    assert (shell.content, shell.tool_name) == ("a b", "local_shell")
    assert (output.content, output.tool_name) == ('[{"stdout":"/"}]', "shell")
    assert (computer.tool_name, computer.parts) == ("computer", [Part("image", data=screen)])


def test_tools() -> None:
    function = {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
    mcp = {"type": "mcp", "server_label": "wiki", "server_description": "w", "server_url": "https://x"}
    context = request(
        input=[{"type": "additional_tools", "role": "developer", "tools": [{**function, "name": "late"}]}],
        tools=[
            function,
            {"type": "custom", "name": "py"},
            {"type": "web_search"},
            mcp,
            {"type": "namespace", "tools": [function]},
        ],
    )
    assert context.tools == [
        ToolDef("f", "d", {"type": "object"}),
        ToolDef("py"),
        ToolDef("web_search", schema={"type": "web_search"}),
        ToolDef("wiki", "w", mcp),
        ToolDef("f", "d", {"type": "object"}),
        ToolDef("late", "d", {"type": "object"}),
    ]


@pytest.mark.parametrize(
    ("body", "partial"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id resp_1"),
        ({"conversation": {"id": "conv_1"}}, "conversation conv_1"),
        ({"prompt": {"id": "pmpt_1", "version": "2"}}, "prompt pmpt_1"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}, {"id": "rs_1"}]}, "2 stored items (item_reference)"),
    ],
)
def test_a_request_that_leans_on_stored_state_is_partial(body: dict[str, Any], partial: str) -> None:
    assert request(**body).partial == f"leans on state the provider keeps: {partial}"


def test_a_whole_answer() -> None:
    usage = {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
        "output_tokens": 20,
        "output_tokens_details": {"reasoning_tokens": 15},
        "total_tokens": 30,
    }
    body = {"id": "resp_1", "model": "m", "status": "completed", "error": None, "output": [REASONING, MESSAGE, CALL]}
    assert answer({**body, "usage": usage}) == LLMResponse(
        text="Found.",
        tool_calls=[ToolCall("search", '{"q": 1}', "call_1")],
        reasoning="hm",
        model="m",
        finish_reason="completed",
        usage=Usage(10, 20, 4, 2, 15, usage),
        response_id="resp_1",
    )


def test_several_messages_and_refusals() -> None:
    refusal = {"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}
    split = {"type": "message", "content": [{"type": "output_text", "text": "a"}, {"type": "output_text", "text": "b"}]}
    assert answer({"output": [split, refusal]}).text == "ab\nNo."


def test_statuses() -> None:
    incomplete = answer({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}})
    assert (incomplete.finish_reason, incomplete.partial) == ("max_output_tokens", None)
    failed = answer({"status": "failed", "error": {"code": "server_error", "message": "m"}})
    assert (failed.finish_reason, failed.error and failed.error.type) == ("failed", "server_error")
    assert answer({"status": "in_progress"}).partial == "the answer was still in_progress"


START: list[dict[str, Any]] = [
    {"type": "response.created", "response": {"id": "resp_1", "model": "m", "status": "in_progress", "output": []}},
    {"type": "response.output_item.added", "output_index": 0, "item": {"type": "reasoning", "summary": []}},
    {"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0, "delta": "h"},
    {"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0, "delta": "m"},
    {"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 1, "delta": "so"},
    {"type": "response.output_item.added", "output_index": 1, "item": {**CALL, "arguments": ""}},
    {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": '{"q"'},
    {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": ": 1}"},
    {"type": "response.output_item.added", "output_index": 2, "item": {**MESSAGE, "content": []}},
    {"type": "response.output_text.delta", "output_index": 2, "content_index": 0, "delta": "Fou"},
]


def test_a_stream_that_broke_keeps_what_came() -> None:
    read = stream(*START, complete=False)
    assert (read.text, read.reasoning, read.tool_calls) == (
        "Fou",
        "hm\n\nso",
        [ToolCall("search", '{"q": 1}', "call_1")],
    )
    assert (read.model, read.response_id, read.usage) == ("m", "resp_1", None)
    assert read.partial == "the stream ended before response.completed"


def test_a_done_item_replaces_its_deltas_and_the_final_event_all() -> None:
    done = {"type": "response.output_item.done", "output_index": 2, "item": MESSAGE}
    assert stream(*START, done).text == "Found."
    usage = {"input_tokens": 1, "output_tokens": 2}
    final = {"id": "resp_1", "model": "m2", "status": "completed", "output": [CALL], "usage": usage}
    read = stream(*START, done, {"type": "response.completed", "response": final}, complete=False)
    assert read == LLMResponse(
        tool_calls=[ToolCall("search", '{"q": 1}', "call_1")],
        model="m2",
        finish_reason="completed",
        usage=Usage(1, 2, raw=usage),
        response_id="resp_1",
    )


def test_a_final_event_without_output_leaves_the_items() -> None:
    final = {"type": "response.completed", "response": {"status": "completed", "output": []}}
    read = stream(*START, final)
    assert (read.text, read.finish_reason, read.partial) == ("Fou", "completed", None)


def test_deltas_without_their_item_are_read() -> None:
    events = [event for event in START if "item" not in event]
    read = stream(*events)
    assert (read.text, read.reasoning, read.tool_calls) == (
        "Fou",
        "hm\n\nso",
        [ToolCall("", '{"q": 1}')],
    )


def test_errors_in_a_stream() -> None:
    failed = {
        "type": "response.failed",
        "response": {"status": "failed", "error": {"code": "rate_limit_exceeded", "message": "m"}},
    }
    read = stream(*START, failed)
    assert (read.error and read.error.type, read.partial, read.finish_reason) == ("rate_limit_exceeded", None, "failed")
    read = stream(*START, {"type": "error", "code": "server_error", "message": "m", "param": None})
    assert (read.error and read.error.type, read.partial is None) == ("server_error", False)
    incomplete = {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}
    read = stream(*START, {"type": "response.incomplete", "response": incomplete})
    assert (read.text, read.finish_reason, read.partial) == ("Fou", "content_filter", None)
