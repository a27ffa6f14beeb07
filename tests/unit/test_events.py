"""Making events: what is copied, what is filled in, what never fails."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from unspool.events import (
    RecordEvent,
    RecordEventType,
    SyscallEventData,
    complete_event,
    new_event,
    record_event_from_syscall,
)


def test_args_are_copied_when_the_event_is_made():
    args = {"path": "/a", "deep": {"list": [1]}}
    event = new_event(1, time.monotonic_ns(), "Open", args)
    args["path"] = "/b"
    args["deep"]["list"].append(2)
    assert event.args == {"path": "/a", "deep": {"list": [1]}}


def test_args_that_cannot_be_copied_do_not_stop_the_program():
    lock = threading.Lock()
    assert new_event(1, time.monotonic_ns(), "Open", {"lock": lock}).args == {"lock": lock}
    assert new_event(1, time.monotonic_ns(), "Open", None).args == {}


def test_the_timestamp_is_the_time_since_the_process_was_created():
    event = new_event(1, datetime.now(UTC) - timedelta(seconds=2), "Open", {})
    assert 2_000_000_000 <= event.timestamp < 4_000_000_000
    assert 5 <= new_event(1, time.monotonic_ns() - 5, "Open", {}).timestamp < 2_000_000_000
    assert new_event(1, time.monotonic_ns() + 10**12, "Open", {}).timestamp == 0
    with pytest.raises(ValueError, match="aware"):
        new_event(1, datetime(2026, 1, 1), "Open", {})


def test_completing_sets_exactly_three_fields_and_a_second_time_overwrites():
    event = new_event(1, time.monotonic_ns(), "Open", {"a": 1})
    assert (event.result, event.err, event.duration, event.seq_num) == (None, None, 0, 0)
    before = msgspec.structs.replace(event)
    complete_event(event, "ok", None, 5)
    complete_event(event, None, ValueError("x"), 7)
    assert (event.result, str(event.err), event.duration) == (None, "x", 7)
    assert (event.timestamp, event.pid, event.syscall, event.args) == (
        before.timestamp,
        before.pid,
        before.syscall,
        before.args,
    )
    with pytest.raises(ValueError, match="negative"):
        complete_event(event, None, None, -1)


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("err", "text"),
    [(None, ""), ("", ""), ("gone", "gone"), (KeyError("k"), "'k'"), (ValueError(), "ValueError"), (Mute(), "Mute")],
)
def test_the_recordable_form_of_an_event(err, text):
    event = new_event(7, time.monotonic_ns(), "Open", {"a": 1})
    complete_event(event, [1], err, 5)
    event.trace_id, event.span_id = "ab" * 16, "cd" * 16
    assert record_event_from_syscall(event) == RecordEvent(
        type=RecordEventType.SYSCALL,
        seq_num=0,
        timestamp=event.timestamp,
        pid=7,
        syscall=SyscallEventData(syscall="Open", args={"a": 1}, result=[1], err=text, duration=5),
        trace_id="ab" * 16,
        span_id="cd" * 16,
    )
