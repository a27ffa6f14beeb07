"""How replay shows events."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from replay_fakes import MemoryReader, answer, snapshot, state, syscall

from unspool.events import ContextSnapshotData, LLMResponseData, RecordEvent, RecordEventType
from unspool.replay import ReplayListItem, format_replay_event, format_replay_list, format_replay_summary


@pytest.mark.parametrize(
    ("event", "shown"),
    [
        (syscall(1), "[#001 +0.1s] syscall: Open()"),
        (syscall(12, args={"path": "/a", "intent": "x"}), '[#012 +1.2s] syscall: Open("/a")'),
        (syscall(3, "Spawn", {"intent": "look"}), '[#003 +0.3s] syscall: Spawn(intent="look")'),
        (syscall(1234, result=3), "[#1234 +123.4s] syscall: Open() → 3"),
        (syscall(3, result="r", duration=1_200_000), "[#003 +0.3s] syscall: Open() → r (1ms)"),
        (syscall(3, result="r", err="boom", duration=5 * 10**9), "[#003 +0.3s] syscall: Open() → err=boom (5.00s)"),
        (syscall(3, result="a\x1b\nb"), r"[#003 +0.3s] syscall: Open() → a\x1b\nb"),
        (syscall(3, result="r" * 60), f"[#003 +0.3s] syscall: Open() → {'r' * 47}..."),
        (answer(4), "[#004 +0.4s] llm: model=gpt-5 req=1204tok resp=85tok"),
        (snapshot(5, "a", "b"), "[#005 +0.5s] context: msgs=2"),
        (state(6), "[#006 +0.6s] state: created → running"),
        (state(6, reason="why"), "[#006 +0.6s] state: created → running (why)"),
    ],
)
def test_each_kind_has_its_line(event, shown):
    assert format_replay_event(event) == shown


def test_unknown_tokens_are_not_zero():
    event = RecordEvent(RecordEventType.LLM_RESPONSE, 1, 0, 7, llm=LLMResponseData(None, None, None))
    assert format_replay_event(event) == "[#001 +0.0s] llm: model=? req=?tok resp=?tok"


def test_a_snapshot_without_messages_has_none():
    event = RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 1, 0, 7, context=ContextSnapshotData())
    assert format_replay_event(event) == "[#001 +0.0s] context: msgs=0"


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        (RecordEventType.SYSCALL, "syscall: (no data)"),
        (RecordEventType.LLM_RESPONSE, "llm: (no data)"),
        (RecordEventType.CONTEXT_SNAPSHOT, "context: (no data)"),
        (RecordEventType.STATE_CHANGE, "state: (no data)"),
        ("dream", "dream: (unknown event type)"),
    ],
)
@pytest.mark.parametrize("verbose", [False, True])
def test_events_without_payload_or_of_unknown_kind_say_so(kind, shown, verbose):
    assert format_replay_event(RecordEvent(kind, 1, 0, 7), verbose) == f"[#001 +0.0s] {shown}"


def test_verbose_shows_a_call_whole_and_sorted():
    event = syscall(3, args={"z": "long" * 50, "a": [1], "path": "/a"}, result={"k": None}, err="boom", duration=5_000)
    assert format_replay_event(event, verbose=True).split("\n") == [
        "[#003 +0.3s] syscall: Open",
        "  a=[1]",
        "  path=/a",
        f"  z={'long' * 50}",
        '  result={"k": null}',
        "  err=boom",
        "  duration=5µs",
    ]
    assert format_replay_event(syscall(3), True) == "[#003 +0.3s] syscall: Open\n  duration=0µs"


@pytest.mark.parametrize("event", [answer(4), snapshot(5, "a"), state(6)])
def test_verbose_changes_nothing_for_other_kinds(event):
    assert format_replay_event(event, True) == format_replay_event(event)


def test_the_list_marks_the_cursor():
    items = [ReplayListItem(e) for e in (state(1), snapshot(2, "a"), syscall(3), answer(4))]
    items[2].is_cursor = True
    assert format_replay_list(items).split("\n") == [
        "  [#001] +0.1s  state_change  created → running",
        "  [#002] +0.2s  context_snapshot  msgs=1",
        "► [#003] +0.3s  syscall   Open",
        "  [#004] +0.4s  llm_response  gpt-5",
    ]
    assert format_replay_list([]) == ""


def test_the_summary_counts_the_events_it_is_given():
    metadata = MemoryReader([], intent="find\nit").metadata
    assert format_replay_summary(metadata, 5).split("\n") == [
        "Record ID:   7-20260102T030405-abcd",
        "PID:         7",
        r"Intent:      find\nit",
        "Events:      5",
        "Duration:    83s",
        "Status:      completed",
    ]


@pytest.mark.parametrize("unset", [None, datetime(1, 1, 1, tzinfo=UTC)])
@pytest.mark.parametrize("field", ["start_time", "end_time"])
def test_a_recording_without_both_times_has_no_duration(field, unset):
    metadata = msgspec.structs.replace(MemoryReader([]).metadata, **{field: unset})
    assert "Duration:    N/A" in format_replay_summary(metadata, 0)


def test_colour_is_off_unless_asked_for_and_marks_failures():
    failed = syscall(1, err="boom")
    assert "\x1b" not in format_replay_event(failed)
    assert format_replay_event(failed, color=True).startswith("\x1b[91m[#001")
    assert "\x1b" not in format_replay_event(syscall(1), color=True)
    items = [ReplayListItem(failed), ReplayListItem(syscall(2), is_cursor=True)]
    assert "\x1b" not in format_replay_list(items)
    plain = format_replay_list(items)
    assert strip(format_replay_list(items, color=True)) == plain
    metadata = MemoryReader([]).metadata
    assert strip(format_replay_summary(metadata, 1, color=True)) == format_replay_summary(metadata, 1)


def strip(text: str) -> str:
    for code in ("\x1b[91m", "\x1b[1m", "\x1b[0m"):
        text = text.replace(code, "")
    return text
