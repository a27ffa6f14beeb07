"""unspool.events against the contract, one sentence a test."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from unspool.events import (
    ContextSnapshotData,
    EventChannel,
    LLMResponseData,
    RecordEvent,
    RecordEventType,
    StateChangeData,
    SyscallEvent,
    SyscallEventData,
    TokenSnapshot,
    complete_event,
    emit_event,
    new_event,
    record_event_from_syscall,
)


def event(number: int) -> SyscallEvent:
    return SyscallEvent(number, 1, "Open", {})


def test_syscall_event_takes_its_fields_in_the_order_of_the_contract():
    made = SyscallEvent(5, 2, "Open", {"path": "/a"}, "ok", ValueError("no"), 7)
    assert (made.timestamp, made.pid, made.syscall, made.args) == (5, 2, "Open", {"path": "/a"})
    assert (made.result, str(made.err), made.duration) == ("ok", "no", 7)
    assert (made.trace_id, made.span_id) == (None, None)


def test_new_event_leaves_result_error_and_duration_unset():
    made = new_event(3, datetime.now(UTC) - timedelta(seconds=2), "Open", {"a": 1})
    assert (made.pid, made.syscall, made.args) == (3, "Open", {"a": 1})
    assert (made.result, made.err, made.duration) == (None, None, 0)
    assert 2_000_000_000 <= made.timestamp < 12_000_000_000


def test_args_are_copied_when_the_event_is_made():
    args = {"list": [1]}
    made = new_event(1, datetime.now(UTC), "Open", args)
    args["list"].append(2)
    args["more"] = 3
    assert made.args == {"list": [1]}


def test_new_event_accepts_no_arguments():
    assert not new_event(1, datetime.now(UTC), "Open", None).args


def test_complete_event_sets_exactly_three_fields_and_overwrites():
    made = new_event(1, datetime.now(UTC), "Open", {"a": 1})
    before = (made.timestamp, made.pid, made.syscall, made.args, made.trace_id, made.span_id)
    assert complete_event(made, "x", None, 10) is None
    complete_event(made, None, ValueError("bad"), 20)
    assert (made.result, str(made.err), made.duration) == (None, "bad", 20)
    assert (made.timestamp, made.pid, made.syscall, made.args, made.trace_id, made.span_id) == before


def test_a_negative_duration_is_a_value_error():
    with pytest.raises(ValueError, match="negative"):
        complete_event(event(1), None, None, -1)


def test_emit_event_without_a_channel_does_nothing():
    emit_event(None, event(1))


def test_a_full_channel_loses_the_new_event_and_counts_it():
    channel = EventChannel(2)
    subscription = channel.subscribe()
    for number in range(5):
        emit_event(channel, event(number))
    channel.close()
    assert [one.timestamp for one in subscription] == [0, 1]
    assert (subscription.dropped, channel.dropped) == (3, 3)


def test_events_sent_before_anyone_subscribed_wait_for_the_first_subscription():
    channel = EventChannel(maxsize=4)
    emit_event(channel, event(1))
    first, later = channel.subscribe(), channel.subscribe()
    emit_event(channel, event(2))
    channel.close()
    assert [one.timestamp for one in first] == [1, 2]
    assert [one.timestamp for one in later] == [2]


def test_each_subscriber_sees_every_event():
    channel = EventChannel(8)
    subscriptions = [channel.subscribe() for _ in range(3)]
    for number in range(4):
        emit_event(channel, event(number))
    channel.close()
    assert [[one.timestamp for one in each] for each in subscriptions] == [[0, 1, 2, 3]] * 3


def test_a_closed_channel_ignores_sends_and_a_second_close():
    channel = EventChannel(2)
    channel.close()
    channel.close()
    emit_event(channel, event(1))
    assert list(channel) == []
    assert channel.dropped == 0


def test_iterating_over_the_channel_is_one_subscription():
    channel = EventChannel(4)
    emit_event(channel, event(1))
    channel.close()
    assert [one.timestamp for one in channel] == [1]


def test_async_iteration_is_one_subscription():
    async def read() -> list[int]:
        channel = EventChannel(4)

        async def send() -> None:
            for number in range(3):
                emit_event(channel, event(number))
                await asyncio.sleep(0)
            channel.close()

        sender = asyncio.create_task(send())
        seen = [one.timestamp async for one in channel]
        await sender
        return seen

    assert asyncio.run(read()) == [0, 1, 2]


def test_closing_wakes_a_waiting_reader():
    channel = EventChannel(2)
    seen: list[SyscallEvent] = []
    subscription = channel.subscribe()
    reader = threading.Thread(target=lambda: seen.extend(subscription))
    reader.start()
    time.sleep(0.02)
    channel.close()
    reader.join(2)
    assert not reader.is_alive()


def test_many_producers_lose_nothing_that_is_not_counted():
    channel = EventChannel(500)
    subscription = channel.subscribe()
    threads = [threading.Thread(target=lambda: [emit_event(channel, event(n)) for n in range(100)]) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    channel.close()
    assert len(list(subscription)) + subscription.dropped == 1000


def test_a_negative_size_is_a_value_error():
    with pytest.raises(ValueError, match="maxsize"):
        EventChannel(-1)


def test_event_types_are_the_wire_words():
    assert [str(kind) for kind in RecordEventType] == ["syscall", "context_snapshot", "llm_response", "state_change"]
    assert [kind.name for kind in RecordEventType] == ["SYSCALL", "CONTEXT_SNAPSHOT", "LLM_RESPONSE", "STATE_CHANGE"]
    assert RecordEventType("syscall") is RecordEventType.SYSCALL


def wire(value) -> dict:
    return json.loads(msgspec.json.encode(value))


def test_an_event_has_at_most_one_payload_on_the_wire():
    made = RecordEvent("state_change", 1, 5, 2, state=StateChangeData("running", "zombie", ""))
    assert wire(made) == {
        "type": "state_change",
        "seq_num": 1,
        "timestamp": 5,
        "pid": 2,
        "state": {"from_state": "running", "to_state": "zombie", "reason": ""},
    }


def test_an_empty_syscall_payload_keeps_its_name_and_duration():
    assert wire(SyscallEventData(syscall="Open")) == {"syscall": "Open", "duration": 0}
    full = SyscallEventData("Open", {"a": 1}, [1], "bad", 9)
    assert wire(full) == {"syscall": "Open", "args": {"a": 1}, "result": [1], "err": "bad", "duration": 9}


def test_unknown_token_counts_are_null():
    made = LLMResponseData("m", None, None)
    assert wire(made) == {"model": "m", "request_tokens": None, "response_tokens": None}


def test_snapshot_takes_its_fields_in_the_order_of_the_contract():
    made = ContextSnapshotData(["[user] hi"], "be brief", None, {"t": 1}, 12)
    assert (made.messages, made.system_prompt, made.tools) == (["[user] hi"], "be brief", None)
    assert (made.params, made.tokens) == ({"t": 1}, 12)


@pytest.mark.parametrize(
    "tool",
    [
        "look",
        {"name": "look"},
        {"name": "look", "input_schema": {"type": "object"}},
        {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}},
    ],
)
def test_tools_of_a_snapshot_may_be_given_as_providers_take_them(tool):
    (kept,) = ContextSnapshotData([], tools=[tool]).tools
    assert kept.name == "look"
    assert kept.schema in (None, {"type": "object"})


def test_record_event_from_syscall_copies_everything_and_has_no_number():
    live = SyscallEvent(4, 2, "Open", {"a": 1}, "ok", None, 6, trace_id="t" * 32, span_id="s" * 32)
    made = record_event_from_syscall(live)
    assert (made.type, made.seq_num, made.timestamp, made.pid) == (RecordEventType.SYSCALL, 0, 4, 2)
    assert made.syscall == SyscallEventData("Open", {"a": 1}, "ok", "", 6)
    assert (made.trace_id, made.span_id) == ("t" * 32, "s" * 32)


def test_record_event_from_syscall_turns_an_error_into_text():
    live = SyscallEvent(4, 2, "Open", {}, err=ValueError("no such file"))
    assert record_event_from_syscall(live).syscall.err == "no such file"


def test_token_snapshot_takes_its_fields_in_order():
    made = TokenSnapshot(1, 200, 30)
    assert wire(made) == {"step": 1, "tokens": 200, "delta_ms": 30}
