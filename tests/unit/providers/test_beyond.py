"""What no request holds: told by what the recording says, and by nothing that a text quotes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from unspool.events import ToolDef
from unspool.providers import PROVIDERS
from unspool.providers.beyond import kept_parts, left_by_tools, may_run_tools, ran_tools


def of_request(provider: str, body: dict[str, Any]) -> tuple[bool, list[str]]:
    context = PROVIDERS[provider].parse_request("https://x/v1", json.dumps(body).encode())
    named = [reason for message in context.messages if (reason := kept_parts(message))]
    return may_run_tools(context.tools, context.params), named


FUNCTION = {"type": "object", "properties": {"city": {"type": "string"}}}


@pytest.mark.parametrize(
    ("provider", "tool", "is_hosted"),
    [
        ("openai_responses", {"type": "web_search", "search_context_size": "medium"}, True),
        ("openai_responses", {"type": "mcp", "server_label": "wiki", "server_url": "https://x"}, True),
        ("openai_responses", {"type": "tool_search"}, True),
        ("openai_responses", {"type": "function", "name": "f", "parameters": FUNCTION}, False),
        ("openai_responses", {"type": "function", "name": "f", "parameters": None}, False),
        ("openai_responses", {"type": "custom", "name": "f", "format": {"type": "grammar"}}, False),
        ("openai_responses", {"type": "tool_search", "execution": "client", "parameters": FUNCTION}, False),
        ("anthropic", {"type": "web_search_20250305", "name": "web_search"}, True),
        ("anthropic", {"name": "f", "input_schema": FUNCTION}, False),
        ("anthropic", {"name": "f", "input_schema": {"type": "object"}}, False),
        ("gemini", {"googleSearch": {}}, True),
        ("gemini", {"functionDeclarations": [{"name": "f", "parameters": FUNCTION}]}, False),
    ],
)
def test_tools_that_the_provider_defines_are_told_from_the_agents(
    provider: str, tool: dict[str, Any], is_hosted: bool
) -> None:
    assert of_request(provider, {"tools": [tool]})[0] is is_hosted


def test_a_request_may_ask_for_a_search_without_a_tool() -> None:
    assert of_request("openai_chat", {"messages": [], "web_search_options": {}})[0]
    assert may_run_tools([ToolDef("odd", schema=[1])], {}) is False


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"output": [{"type":"web_search_call","id":"ws_1"}]}', "web_search ran at the provider"),
        ('data: {"item": {"type": "code_interpreter_call"}}', "code_interpreter ran at the provider"),
        ('{"type":"tool_search_call", "execution": "server"}', "tool_search ran at the provider"),
        ('{"type":"server_tool_use","id":"s","name":"web_fetch","input":{}}', "web_fetch ran at the provider"),
        ('{"type":"server_tool_use"} {"type":"mcp_tool_use","name":"ask"}', "ask ran at the provider"),
        ('{"usageMetadata": {"toolUsePromptTokenCount": 411}}', "its tools ran at the provider"),
        ('{"groundingMetadata": {"webSearchQueries": []}}', "a search ran at the provider"),
        ('{"type":"function_call","name":"f"} {"toolUsePromptTokenCount": 0}', None),
        ('{"type":"tool_search_call", "execution": "client"}', None),
        ("", None),
    ],
)
def test_what_ran_at_the_provider_is_read_off_the_answer(body: str, said: str | None) -> None:
    assert ran_tools(body.encode()) == said


def test_an_answer_that_quotes_such_an_item_did_not_run_it() -> None:
    text = json.dumps({"output": [{"type": "web_search_call"}], "groundingMetadata": {}})
    body = json.dumps({"output": [{"type": "message", "content": [{"type": "output_text", "text": text}]}]})
    assert ran_tools(body.encode()) is None


@pytest.mark.parametrize(
    ("provider", "messages", "named"),
    [
        ("openai_responses", [{"type": "compaction", "id": "c", "encrypted_content": "gAAA"}], "compacted"),
        ("openai_responses", [{"type": "web_search_call", "id": "ws"}], "the result of web_search"),
        (
            "openai_responses",
            [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}],
            "file that the provider fetches",
        ),
        (
            "openai_chat",
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}],
            "image that the provider fetches",
        ),
        (
            "anthropic",
            [
                {
                    "role": "assistant",
                    "content": [{"type": "web_search_tool_result", "content": [{"encrypted_content": "Eo8"}]}],
                }
            ],
            "the result of web_search",
        ),
        (
            "openai_chat",
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}],
            None,
        ),
        ("openai_chat", [{"role": "user", "content": "see https://x/y.png"}], None),
        ("openai_responses", [{"type": "reasoning", "id": "r", "encrypted_content": "gAAA", "summary": []}], None),
    ],
)
def test_what_a_message_names_and_does_not_hold(
    provider: str, messages: list[dict[str, Any]], named: str | None
) -> None:
    key = "input" if provider == "openai_responses" else "messages"
    found = of_request(provider, {key: messages})[1]
    assert bool(found) is (named is not None)
    assert named is None or named in found[0]


def test_what_tools_of_the_provider_left_in_an_answer() -> None:
    search = {"type": "tool_search_call", "execution": "server", "arguments": {"paths": ["get_rate"]}}
    found = {"type": "tool_search_output", "execution": "server", "tools": [{"name": "get_rate"}]}
    call = {"type": "function_call", "name": "get_rate"}
    [left] = left_by_tools(json.dumps({"output": [search, found, call]}).encode())
    assert "paths" in left
    assert '"name":"get_rate"' in left
    assert "function_call" not in left
    own = json.dumps({"output": [search | {"execution": "client"}, call]}).encode()
    assert left_by_tools(own) == []
    blocks = [
        {"type": "server_tool_use", "name": "web_search"},
        {"type": "web_search_tool_result", "content": [{"url": "https://example.org"}]},
        {"type": "server_tool_use", "name": "web_search"},
        {"type": "text", "text": "Found it."},
    ]
    first, second = left_by_tools(json.dumps({"content": blocks}).encode())
    assert "example.org" in first
    assert "example.org" not in second


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"data: {}\n\n", b"[" * 5000, b'{"output": 3, "content": [null, [], "x"]}']
)
def test_an_answer_that_says_nothing_of_tools_left_nothing(body: bytes) -> None:
    assert left_by_tools(body) == []
