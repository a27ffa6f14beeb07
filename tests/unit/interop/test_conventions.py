"""What spans mean, in the words of each convention."""

from __future__ import annotations

import pytest

from unspool.interop.conventions import meaning_of
from unspool.interop.otlp import OtlpSpan, from_otlp, settle
from unspool.trace import names

CURRENT = {
    "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-x",
    "gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 20,
    "gen_ai.usage.cache_read.input_tokens": 60, "gen_ai.usage.reasoning.output_tokens": 5,
}  # fmt: skip
OLDER = {
    "gen_ai.system": "openai", "gen_ai.request.model": "gpt-x", "gen_ai.usage.prompt_tokens": 100,
    "gen_ai.usage.completion_tokens": 20, "gen_ai.usage.cache_read_input_tokens": 60,
    "gen_ai.usage.reasoning_tokens": 5,
}  # fmt: skip
OPENLLMETRY = {
    "gen_ai.system": "openai", "llm.request.type": "chat", "gen_ai.request.model": "gpt-x",
    "gen_ai.usage.prompt_tokens": 100, "gen_ai.usage.completion_tokens": 20,
    "gen_ai.usage.cache_read_input_tokens": 60, "llm.usage.reasoning_tokens": 5,
}  # fmt: skip
OPENINFERENCE = {
    "openinference.span.kind": "LLM", "llm.provider": "openai", "llm.model_name": "gpt-x",
    "llm.token_count.prompt": 100, "llm.token_count.completion": 20,
    "llm.token_count.prompt_details.cache_read": 60, "llm.token_count.completion_details.reasoning": 5,
}  # fmt: skip


@pytest.mark.parametrize("given", [CURRENT, OLDER, OPENLLMETRY, OPENINFERENCE])
def test_model_calls(given):
    meaning = meaning_of(given)
    whole = {**given, **meaning.added}
    assert (meaning.kind, meaning.tokens) == ("llm", 120)
    assert [whole[name] for name in (names.INPUT, names.OUTPUT, names.CACHED, names.REASONING)] == [100, 20, 60, 5]
    assert (whole[names.PROVIDER], whole[names.REQUEST_MODEL]) == ("openai", "gpt-x")
    assert meaning.was == {}


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"gen_ai.operation.name": "execute_tool"}, "tool"),
        ({"gen_ai.operation.name": "embeddings"}, "llm"),
        ({"gen_ai.operation.name": "invoke_agent", "gen_ai.usage.input_tokens": 900}, "agent"),
        ({"gen_ai.operation.name": "something new"}, "other"),
        ({"openinference.span.kind": "RETRIEVER"}, "other"),
        ({"openinference.span.kind": "AGENT"}, "agent"),
        ({"traceloop.span.kind": "tool", "traceloop.entity.name": "search"}, "tool"),
        ({"traceloop.span.kind": "workflow"}, "other"),
        ({"mcp.method.name": "tools/call"}, "tool"),
        ({"mcp.method.name": "tools/list"}, "other"),
        ({"http.method": "GET"}, "other"),
        ({}, "other"),
    ],
)
def test_kinds(given, kind):
    meaning = meaning_of(given)
    assert meaning.kind == kind
    assert meaning.tokens == (None if kind == "llm" else 0)  # an agent's own counts sum up those of its calls


def test_input_without_what_came_from_the_cache_is_completed_and_can_be_undone():
    given = {
        "gen_ai.operation.name": "chat",
        names.INPUT: 4,
        names.OUTPUT: 1,
        names.CACHED: 1000,
        names.CACHE_WRITE: 50,
    }
    meaning = meaning_of(given)
    assert meaning.added[names.INPUT] == 1054
    assert meaning.was == {names.INPUT: 4}
    assert meaning.tokens == 1055


def test_unknown_is_not_zero():
    assert meaning_of({"gen_ai.operation.name": "chat"}).tokens is None
    assert meaning_of({"gen_ai.operation.name": "chat", names.INPUT: "many"}).tokens is None
    assert meaning_of({"gen_ai.operation.name": "chat", names.INPUT: 0, names.OUTPUT: 0}).tokens == 0


def spans_of(*given):
    found = [
        from_otlp(
            OtlpSpan("a" * 32, span_id * 16, parent and parent * 16, start_ns=1, end_ns=2, attributes=attributes), "k"
        )
        for span_id, parent, attributes in given
    ]
    settle(found)
    return found


def test_a_call_seen_by_two_instrumentations_is_paid_once():
    outer, inner = spans_of(("b", "", dict(OPENINFERENCE)), ("c", "b", dict(CURRENT)))
    assert (outer.tokens_used, inner.tokens_used) == (0, 120)


def test_an_mcp_request_inside_its_tool_is_one_call():
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"}
    request = {"gen_ai.operation.name": "execute_tool", "mcp.method.name": "tools/call"}
    assert [span.kind for span in spans_of(("b", "", tool), ("c", "b", request))] == ["tool", "other"]
    assert [span.kind for span in spans_of(("c", "", request))] == ["tool"]
