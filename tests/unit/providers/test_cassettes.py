"""Real exchanges: what was said, asked for and counted, checked by eye when they were added."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from unspool.events import ErrorData, ToolCall, Usage

Cassette = Callable[[str], Any]


def counts(usage: Usage | None) -> tuple[int | None, ...] | None:
    """Input, output, cached, written to the cache, reasoning."""
    if usage is None:
        return None
    return (
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
    )


# name: beginning of the text, tool calls (name, arguments), finish reason, counts
ANSWERS: dict[str, tuple[str, list[tuple[str, str]], str | None, tuple[int | None, ...] | None]] = {
    "chat_stream_parallel_tools": (
        "",
        [("get_current_weather", '{"location": "San Francisco"}'), ("get_current_weather", '{"location": "Boston"}')],
        "tool_calls",
        None,
    ),
    "chat_tools_history": ("", [("get_weather", '{"location":"London"}')], "tool_calls", (88, 15, 0, None, 0)),
    "chat_two_choices": ("Why don't scientists trust atoms?", [], "stop", (11, 29, 0, None, 0)),
    "chat_deepseek_reasoning": (
        "Let me get your name and roll the die!",
        [("get_player_name", "{}"), ("roll_dice", "{}")],
        "tool_calls",
        (875, 79, 0, None, 26),
    ),
    "chat_azure_stream": ("Why did the Opentelemetry developer bring a ladder", [], "stop", None),
    "chat_azure_prompt_filtered": ("", [], None, None),
    "chat_mistral_stream_tool": (
        "",
        [("get_weather", '{"city": "San Francisco"}')],
        "tool_calls",
        (96, 23, None, None, None),
    ),
    "chat_openrouter_stream_error": ("", [], "length", (43, 10, 0, None, 11)),
    "chat_openrouter_429": ("", [], None, None),
    "chat_groq_stream_error": ("maybe", [], None, None),
    "anthropic_stream_tools": (
        "I'll check both the current weather and time in New York simultaneously right away!",
        [("get_weather", '{"location": "New York, NY"}'), ("get_time", '{"timezone": "America/New_York"}')],
        "tool_use",
        (721, 113, 0, 0, None),
    ),
    "anthropic_stream_thinking": ("2 + 2 = 4\n\nThis is a basic addition", [], "end_turn", (50, 93, 0, 0, 53)),
    "anthropic_tools_history": (
        "",
        [("get_time", '{"timezone":"America/Los_Angeles"}')],
        "tool_use",
        (568, 58, 0, 0, None),
    ),
    "anthropic_cache": ("Python is a beginner-friendly", [], "end_turn", (3 + 1111 + 418, 33, 1111, 418, None)),
    "anthropic_stream_server_tool": (
        "I'll calculate that expression for you right away!\nFollowing the standard",
        [],
        "end_turn",
        (4714, 304, 0, 0, None),
    ),
    "gemini_stream_tools": ("", [("get_temperature", '{"city":"Paris"}')], "STOP", (64, 5, None, None, None)),
    "gemini_tools_thoughts": ("", [("generate_topic", "{}")], "STOP", (348, 10 + 40, None, None, 40)),
    "gemini_cached_content": ("Paris.", [], "STOP", (3520, 2 + 42, 3512, None, 42)),
    "gemini_stream_array": (
        "I told my wife she was drawing her eyebrows too high.",
        [],
        "STOP",
        (11, 16 + 232, None, None, 232),
    ),
    "gemini_prompt_blocked": ("", [], "MODEL_ARMOR", (None, None, None, None, None)),
    "responses_stream_tools": (
        "",
        [("compose_music", '{"style":"symphony","key":"D major"}')],
        "completed",
        (119, 38, 0, None, 0),
    ),
    "responses_stream_usage": ("", [("final_result", '{"result":6666}')], "completed", (53, 469, 0, None, 448)),
    "responses_reasoning": ("Plenty.\n\nA few quick lenses:", [], "completed", (142, 355, 0, None, 128)),
    "responses_error": ("", [], None, None),
    "responses_previous_response": (
        "The weather in San Francisco is as follows:",
        [],
        "completed",
        (197, 26, 0, None, 0),
    ),
    "responses_background": ("", [], "queued", None),
    "responses_web_search": ("Today (Tuesday, September 16, 2025)", [], "completed", (9299, 577, 8448, None, 512)),
}
ERRORS = {
    "chat_azure_prompt_filtered": "content_filter",
    "chat_openrouter_stream_error": "http_400",
    "chat_openrouter_429": "http_429",
    "chat_groq_stream_error": "tool_use_failed",
    "responses_error": "invalid_request_error",
}
PARTIAL = {
    "chat_two_choices": "choice 0 of 2; the others are in the body",
    "chat_groq_stream_error": "the stream ended before [DONE] or a finish_reason",
    "responses_background": "the answer was still queued",
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers(name: str, cassette: Cassette) -> None:
    text, calls, finish_reason, usage = ANSWERS[name]
    answer = cassette(name).answer()
    assert answer.text[: len(text)] == text
    assert bool(answer.text) == bool(text)
    assert [(call.name, call.arguments) for call in answer.tool_calls] == calls
    assert answer.finish_reason == finish_reason
    assert counts(answer.usage) == usage
    assert (answer.error.type if answer.error else None) == ERRORS.get(name)
    assert answer.partial == PARTIAL.get(name)


def test_every_checked_in_exchange_has_its_expected_answer(cassettes: dict[str, Any]) -> None:
    assert set(ANSWERS) == set(cassettes)


def test_every_provider_has_real_traffic(cassettes: dict[str, Any]) -> None:
    from unspool.providers import PROVIDERS

    assert {exchange.provider.name for exchange in cassettes.values()} == set(PROVIDERS)


def test_reasoning_is_read(cassette: Cassette) -> None:
    beginnings = {
        "chat_deepseek_reasoning": "Great, now I have access to the dice roll tool.",
        "chat_openrouter_stream_error": "We need to respond to a greeting. The user",
        "chat_groq_stream_error": 'The user says: "dont make a tool call',
        "anthropic_stream_thinking": "This is a simple arithmetic question.",
        "anthropic_stream_server_tool": "Let me calculate this mathematical expression.",
        "responses_reasoning": "**Expanding on life’s meaning**\n\nThe user previously got",
    }
    for name, beginning in beginnings.items():
        assert (cassette(name).answer().reasoning or "").startswith(beginning), name


def test_tool_results_are_linked_to_their_calls(cassette: Cassette) -> None:
    expected = {
        "chat_tools_history": [("tool_123", "get_weather", "Sunny as always!")],
        "anthropic_tools_history": [("call_1", "get_weather", "Sunny and 65 degrees Fahrenheit")],
        "gemini_stream_tools": [("pyd_ai_0e1a07b3c2b64d2ab3ad2efbe18e1b97", "get_capital", '{"return_value":"Paris"}')],
        "responses_stream_tools": [
            ("call_0huubaIPG7y97doHmNEbKQi3", "transfer_to_symphony_composer", '{"assistant": "Symphony Composer"}')
        ],
    }
    for name, results in expected.items():
        tools = [message for message in cassette(name).context().messages if message.role == "tool"]
        assert [(message.tool_call_id, message.tool_name, message.content) for message in tools] == results, name


def test_contexts(cassette: Cassette) -> None:
    context = cassette("chat_tools_history").context()
    assert context.system_prompt == "Be crisp and friendly."
    assert [message.role for message in context.messages] == ["user", "assistant", "tool", "user"]
    assert context.messages[1].tool_calls == [ToolCall("get_weather", '{"location": "San Francisco"}', "tool_123")]
    assert [tool.name for tool in context.tools] == ["get_weather"]
    assert (context.model, context.stream, context.params, context.partial) == (
        "gpt-4.1-nano",
        False,
        {"temperature": 0.0},
        None,
    )

    context = cassette("chat_azure_stream").context()
    assert (context.model, context.stream) == ("openllmetry-testing", True)

    context = cassette("gemini_tools_thoughts").context()
    assert (context.system_prompt or "").startswith("Tell three jokes.")
    assert [message.role for message in context.messages] == ["user", "assistant", "tool", "tool", "tool"]

    context = cassette("responses_previous_response").context()
    assert context.partial is not None
    assert "previous_response_id resp_0401f348" in context.partial

    context = cassette("gemini_cached_content").context()
    assert context.partial is not None
    assert "cachedContents/" in context.partial


def test_an_error_keeps_the_providers_words(cassette: Cassette) -> None:
    assert cassette("chat_openrouter_429").answer().error == ErrorData("http_429", "Provider returned error")
    message = cassette("responses_error").answer().error.message
    assert message.endswith("of type 'reasoning' was provided without its required following item.")


STREAMS = sorted(name for name in ANSWERS if "stream" in name)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_cut_anywhere_gives_a_beginning_of_its_answer(name: str, cassette: Cassette) -> None:
    """Text only grows with the bytes, and nothing raises at any cut."""
    exchange = cassette(name)
    whole = exchange.answer()
    step = max(1, len(exchange.response) // 150)
    for end in range(0, len(exchange.response), step):
        cut = exchange.answer(exchange.response[:end], complete=False)
        assert whole.text.startswith(cut.text)
        assert (whole.reasoning or "").startswith(cut.reasoning or "")
        assert len(cut.tool_calls) <= len(whole.tool_calls)
        for call, finished in zip(cut.tool_calls, whole.tool_calls, strict=False):
            assert finished.name == call.name
            assert finished.arguments.startswith(call.arguments) or call.arguments == "{}"


@pytest.mark.parametrize("name", STREAMS)
def test_line_ends_make_no_difference(name: str, cassette: Cassette) -> None:
    exchange = cassette(name)
    lf = exchange.response.replace(b"\r\n", b"\n")
    assert exchange.answer(lf) == exchange.answer(lf.replace(b"\n", b"\r\n")) == exchange.answer()
