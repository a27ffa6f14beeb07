"""Counting once and pricing later gives what pricing each call gives."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unspool.catalog.sums import Counter, Sums, total
from unspool.cli.listing import answer_cost
from unspool.cli.prices import OwnPrice, Prices
from unspool.events import ErrorData, LLMResponseData, RecordEvent, RecordEventType, SyscallEventData
from unspool.recording.metadata import new_metadata
from unspool.trace.rates import Rates

START = new_metadata(1, "", {}).start_time
VENDORS = ("openai", "anthropic", "ollama", "")
MODELS = ("gpt-4.1-mini", "gpt-4o", "claude-sonnet-4-5", "my-own-7b", "mine", "")
OWN = (
    OwnPrice("mine", Rates(1e-6, 2e-6, 5e-7, 3e-6)),
    OwnPrice("ollama/*", Rates(0.0, 0.0, 0.0, 0.0)),
    OwnPrice("openai/gpt-4o", Rates(9e-6, 9e-6, 9e-6, 9e-6)),
)
counts = st.none() | st.integers(0, 500_000)


@st.composite
def calls(draw):
    """The two events of a model call."""
    number, at = draw(st.integers(1, 5)), draw(st.integers(0, 10**15))
    path = f"/dev/llm/{draw(st.sampled_from(VENDORS))}/{draw(st.sampled_from(MODELS))}"
    data = LLMResponseData(
        draw(st.none() | st.sampled_from(MODELS)), draw(counts), draw(counts), draw(counts), draw(counts),
        error=draw(st.none() | st.just(ErrorData("rate_limit"))),
    )  # fmt: skip
    call = draw(st.sampled_from([number, None]))
    origin = draw(st.sampled_from([None, "served", "live"]))
    asked = SyscallEventData("LLMCall", {"path": path}, None, draw(st.sampled_from(["", "no"])), 1)
    return (
        RecordEvent(RecordEventType.SYSCALL, 0, at, 1, syscall=asked, call=call),
        RecordEvent(RecordEventType.LLM_RESPONSE, 0, at, 1, llm=data, call=call, origin=origin),
    )


def counted(events, book):
    counter = Counter(book, START)
    for event in events:
        counter.add(event)
    return counter.sums


@settings(deadline=None)
@given(st.lists(calls(), max_size=12), st.sampled_from([Prices(), Prices(OWN), Prices(OWN[::-1])]))
def test_the_sum_of_a_group_is_that_of_its_calls(pairs, own):
    found = total([counted([event for pair in pairs for event in pair], Prices())], own)
    costs = []
    for asked, answer in pairs:
        data = answer.llm
        if answer.origin == "served" or (data.request_tokens is None and data.response_tokens is None and data.error):
            continue
        at = START + timedelta(microseconds=answer.timestamp // 1000)
        costs.append(answer_cost(own, asked.syscall.args["path"], data, at))
    known = [cost for cost in costs if cost is not None]
    assert found.cost_unknown == len(costs) - len(known)
    if costs and not known:
        assert found.cost is None
    else:
        assert found.cost == pytest.approx(sum(known), rel=1e-9, abs=1e-12)


@settings(deadline=None)
@given(st.lists(calls(), max_size=8), st.data())
def test_counting_goes_on_from_anywhere(pairs, data):
    events = [event for pair in pairs for event in pair]
    cut = data.draw(st.integers(0, len(events)))
    before = counted(events[:cut], Prices())
    kept = msgspec.msgpack.decode(msgspec.msgpack.encode(before), type=Sums)
    counter = Counter(Prices(), START, kept)
    for event in events[cut:]:
        counter.add(event)
    whole = counted(events, Prices())
    assert msgspec.to_builtins(counter.sums) == msgspec.to_builtins(whole)


def test_what_was_counted_does_not_depend_on_own_prices():
    events = [
        RecordEvent(RecordEventType.SYSCALL, 0, 0, 1, syscall=SyscallEventData("LLMCall", {"path": "/dev/llm/x/mine"})),
        RecordEvent(RecordEventType.LLM_RESPONSE, 0, 0, 1, llm=LLMResponseData("mine", 1000, 10)),
    ]
    sums = counted(events, Prices())
    assert total([sums], Prices()).cost is None
    assert total([sums], Prices(OWN)).cost == pytest.approx(1000 * 1e-6 + 10 * 2e-6)
    assert msgspec.to_builtins(sums) == msgspec.to_builtins(counted(events, Prices(OWN)))
