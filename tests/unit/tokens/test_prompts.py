"""What the pieces of a prompt take beyond their texts, by the rules of each provider."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import pytest

from unspool.events import CtxMessage, Part, ToolCall, ToolDef
from unspool.tokens import Family, estimate_message, estimate_parts, estimate_tokens, estimate_tool, own_tokens
from unspool.tokens.prompts import family_of

WEATHER = ToolDef(
    "get_weather",
    "Get the current weather",
    {"type": "object", "properties": {"city": {"type": "string", "description": "The city"}}, "required": ["city"]},
)


def one(part: Part, family: Family = "") -> int:
    """Tokens of a part alone."""
    with_part = estimate_parts(CtxMessage("user", "", parts=[part]), family=family)
    return sum(tokens for _, tokens in with_part) - sum(
        t for _, t in estimate_parts(CtxMessage("user", ""), family=family)
    )


@pytest.mark.parametrize(
    ("provider", "model", "family"),
    [
        ("openai_chat", "gpt-4o", "openai"),
        ("openai_chat", "anthropic/claude-sonnet-4-5", "anthropic"),
        ("openai_chat", "llama-3", ""),
        ("openai_chat", "o3-mini", "openai"),
        ("gemini", "", "gemini"),
        (None, None, ""),
    ],
)
def test_rules_go_by_the_model_and_then_by_the_api(provider: str | None, model: str | None, family: str) -> None:
    assert family_of(provider, model) == family


def test_a_prompt_of_openais_counts_as_its_cookbook_says() -> None:
    """Four tokens a message (three and its role), three for the beginning of the answer."""
    message = CtxMessage("user", "What is the capital of France?")
    tokens = own_tokens("openai", "gpt-4o", False) + estimate_message(message)
    assert tokens == 3 + 4 + estimate_tokens(message.content)


def test_tools_cost_what_each_provider_makes_of_them() -> None:
    openai = own_tokens("openai", "gpt-4o", True) + estimate_tool(WEATHER, family="openai")
    claude = own_tokens("anthropic", "claude-sonnet-4-5", True) + estimate_tool(WEATHER, family="anthropic")
    gemini = own_tokens("gemini", "gemini-2.0-flash", True) + estimate_tool(WEATHER, family="gemini")
    assert 30 <= openai <= 60
    assert 346 + 40 <= claude <= 346 + 100
    assert gemini < openai
    assert own_tokens("anthropic", "claude-opus-4-8", True) > own_tokens("anthropic", "claude-sonnet-4-5", True)


def test_a_deferred_tool_is_only_named_or_not_told_at_all() -> None:
    deferred = ToolDef(WEATHER.name, WEATHER.description, WEATHER.schema, True)
    assert estimate_tool(deferred, family="anthropic") == 0
    assert 0 < estimate_tool(deferred, family="openai") < estimate_tool(WEATHER, family="openai")


def test_sealed_thoughts_are_not_text() -> None:
    sealed = {"type": "reasoning", "id": "rs_1" * 20, "encrypted_content": "gAAAAABqchYi" * 100, "summary": []}
    assert one(Part("reasoning", data=sealed)) == 42
    assert one(Part("reasoning", "thought", {"thinking": "thought", "signature": "x" * 5_000})) == 1
    assert one(Part("other", "compaction", {"type": "compaction", "encrypted_content": "A" * 4_040})) == 500
    assert one(Part("other", "So far: ok", {"type": "compaction", "content": "So far: ok"})) == estimate_tokens(
        "So far: ok"
    )


def picture(width: int, height: int) -> Part:
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + struct.pack(">II5B", width, height, 8, 2, 0, 0, 0)
    url = "data:image/png;base64," + base64.b64encode(head + b"\0" * 40).decode()
    return Part("image", data={"type": "image_url", "image_url": {"url": url}})


@pytest.mark.parametrize(
    ("family", "size", "tokens"),
    [
        ("openai", (1_024, 1_024), 765),
        ("openai", (2_048, 4_096), 1_105),
        ("openai", (100, 100), 255),
        ("gemini", (300, 300), 258),
        ("gemini", (1_024, 1_024), 1_032),
        ("anthropic", (1_000, 1_000), 1_334),
        ("anthropic", (8_000, 8_000), 1_600),
        ("anthropic", (0, 0), 85),
    ],
)
def test_pictures_cost_by_their_size(family: Family, size: tuple[int, int], tokens: int) -> None:
    assert one(picture(*size), family) == tokens


def test_a_small_look_at_a_picture_costs_openais_least() -> None:
    part = picture(2_000, 2_000)
    part.data["image_url"]["detail"] = "low"
    assert one(part, "openai") == 85


def document(raw: bytes, kind: str) -> Part:
    source = {"type": "base64", "media_type": kind, "data": base64.b64encode(raw).decode()}
    return Part("file", data={"type": "document", "source": source})


def test_documents_cost_by_their_pages_or_their_text() -> None:
    pages = b"%PDF-1.7\n" + b"1 0 obj << /Type /Pages >> endobj\n" + b"2 0 obj << /Type /Page >> endobj\n" * 3
    assert one(document(pages, "application/pdf"), "anthropic") == 6_000
    assert one(document(pages, "application/pdf"), "gemini") == 774
    assert one(document(b"%PDF-1.7\n" + zlib.compress(bytes(range(256)) * 2), "application/pdf"), "anthropic") == 2_000
    text = "It is cold in Kiruna. " * 40
    assert one(document(text.encode(), "text/plain"), "openai") == estimate_tokens(text)


def test_a_hostile_part_ends() -> None:
    nested: Any = "end"
    for _ in range(5_000):
        nested = {"a": [nested]}
    assert one(Part("other", data=nested)) < 100
    assert one(Part("file", data=nested)) < 100
    assert estimate_tool(ToolDef("t", schema={"properties": nested, "anyOf": [nested], "enum": 3})) < 500


def test_a_tool_call_and_a_result_have_frames() -> None:
    call = estimate_message(CtxMessage("assistant", "", tool_calls=[ToolCall("f", "{}")]))
    assert call == 4 + 8 + estimate_tokens("f") + estimate_tokens("{}")
    result = CtxMessage("tool", "ok", tool_call_id="1")
    claude = sum(tokens for _, tokens in estimate_parts(result, family="anthropic"))
    assert claude == 16 + sum(tokens for _, tokens in estimate_parts(result, family="openai"))
