"""Built-in scripts and the suffixes of a model's name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from unspool.demo.behaviours import UnknownSuffix, add_suffixes, builtin_script
from unspool.demo.script import (
    Message,
    ModelRequest,
    Refusal,
    Reply,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
    digest_messages,
)

REQUEST = ModelRequest(
    wire="openai-chat",
    model="echo",
    system="",
    messages=(Message("user", "hello"),),
    tools=(),
    framing="body",
    raw_messages=[{"role": "user", "content": "hello"}],
    body={},
)


def with_suffixes(model: str) -> Reply:
    request = replace(REQUEST, model=model)
    return add_suffixes(request, builtin_script(request))


def test_echo_proves_which_request_it_answers() -> None:
    assert builtin_script(REQUEST).text == f"echo: hello [{digest_messages(REQUEST.raw_messages)}]"
    assert builtin_script(replace(REQUEST, model="any-other-name")) == builtin_script(REQUEST)
    assert digest_messages([1]) != digest_messages([2])
    assert digest_messages({"a": "\ud800", "b": 1}) == digest_messages({"b": 1, "a": "\ud800"})


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("no JSON here", [{}]),
        ('{"a": 1}', [{"a": 1}]),
        ('call it with {"a": {"b": []}} please', [{"a": {"b": []}}]),
        ('[{"a": 1}, {"a": 2}]', [{"a": 1}, {"a": 2}]),
        ("broken {a: 1}", [{}]),
        ("[1, 2]", [{}]),
    ],
)
def test_tools_calls_the_first_tool_with_what_the_user_wrote(text: str, arguments: list[dict[str, object]]) -> None:
    asked = replace(REQUEST, model="tools", messages=(Message("user", text),), tools=(Tool("first"), Tool("second")))
    assert builtin_script(asked).tool_calls == tuple(ToolCall("first", each) for each in arguments)


def test_tools_answers_with_the_results() -> None:
    results = (ToolResult("first", "one"), ToolResult("first", "two"))
    asked = replace(REQUEST, model="tools", messages=(*REQUEST.messages, Message("tool", tool_results=results)))
    assert builtin_script(asked) == Reply("one\ntwo")


@pytest.mark.parametrize("chars", [0, 1, 45, 1000])
def test_count_gives_as_many_characters_as_asked_for(chars: int) -> None:
    asked = replace(REQUEST, model="count", messages=(Message("user", f"chars={chars}"),))
    assert len(builtin_script(asked).text) == chars


def test_suffixes_combine_in_any_order() -> None:
    one = with_suffixes("echo+slow+gzip+chunks40+latency50+cached+reasoning")
    assert one == with_suffixes("echo+cached+reasoning+latency50+chunks40+gzip+slow")
    assert (one.encoding, one.chunks, one.chunk_delay_s, one.latency_s) == ("gzip", 40, 0.02, 0.05)
    assert isinstance(one.usage, Usage)
    assert one.usage.cached > 0
    assert one.usage.reasoning > 0


def test_status_suffixes() -> None:
    assert with_suffixes("echo+429x2").fault == Refusal(429, times=2)
    assert with_suffixes("echo+529").fault == Refusal(529)


@pytest.mark.parametrize("suffix", ["nonsense", "", "300", "429x", "chunks0", "latency"])
def test_an_unknown_suffix_names_the_known_ones(suffix: str) -> None:
    with pytest.raises(UnknownSuffix, match=r"error-in-stream.*latencyN"):
        with_suffixes(f"echo+{suffix}")
