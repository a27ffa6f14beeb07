"""One recording, one number: every command counts the same calls, and marks the same sums as lower bounds."""

from __future__ import annotations

import pytest
from cli_events import model_call

from unspool.interop.otlp import ERROR, OtlpSpan, from_otlp


def served(call: int):
    """A call that was answered from a recording: all its events say so."""
    events = model_call(call)
    for event in events:
        event.origin = "served"
    return events


def test_tokens_and_cost_are_those_of_the_calls_that_were_sent(as_json, invoke, make):
    recorder = make(*served(1), *served(2), *model_call(3))
    [listed] = as_json("ls")
    blamed = as_json("blame", recorder.record_id)
    assert blamed["summary"]["total_tokens"] == listed["tokens"] > 0
    assert blamed["summary"]["total_cost_usd"] == pytest.approx(listed["cost_usd"])
    assert blamed["carried"]["input_tokens"] == listed["input_tokens"]
    [row] = as_json("trace", "ls")
    assert (row["tokens"], row["cost_usd"]) == (listed["tokens"], pytest.approx(listed["cost_usd"]))
    assert "1.1k tokens, $0.0006" in invoke("trace", "show", recorder.record_id).stdout.splitlines()[0]


def test_a_call_that_did_not_say_makes_lower_bounds_everywhere(as_json, invoke, make):
    unknown = model_call(2)
    unknown[2].llm.request_tokens = unknown[2].llm.response_tokens = None
    recorder = make(*model_call(1), *unknown)
    [listed] = as_json("ls")
    tokens, cost = "1.1k+", f"${listed['cost_usd']:.4f}+"
    for command in (("ls",), ("trace", "ls"), ("blame", recorder.record_id), ("trace", "show", recorder.record_id)):
        text = invoke(*command).stdout
        assert tokens in text, command
        assert cost in text, command


def test_a_call_that_was_refused_lacks_in_no_sum():
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "error.type": "429"}
    span = OtlpSpan("ab" * 16, "cd" * 8, name="chat m", start_ns=1, end_ns=2, attributes=attributes, status_code=ERROR)
    assert from_otlp(span, "1").tokens_used == 0
    answered = OtlpSpan("ab" * 16, "cd" * 8, name="chat m", start_ns=1, end_ns=2, attributes=dict(attributes))
    assert from_otlp(answered, "1").tokens_used is None
