"""The spans of running processes."""

from __future__ import annotations

import logging
import threading

import pytest
from trace_fakes import ERROR, OK, OPEN, T0

from unspool.trace import Span, SpanReader, SpanRecorder, SpanWriter


class Clock:
    """A wall clock and a monotonic one that move on demand."""

    def __init__(self) -> None:
        self.wall = T0
        self.running = 500

    def pass_ns(self, ns: int) -> None:
        self.wall += ns
        self.running += ns


class Sink:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.starts: list[Span] = []
        self.spans: list[Span] = []

    def write_start(self, span: Span) -> None:
        self.starts.append(span)

    def write_span(self, span: Span) -> None:
        self.spans.append(span)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def recorder(clock):
    return SpanRecorder(clock=lambda: clock.wall, monotonic=lambda: clock.running)


@pytest.fixture
def sink(recorder):
    made = Sink()
    recorder.set_writer(made)
    return made


def test_a_span_from_start_to_end(recorder, clock, sink):
    recorder.start_span(7, "t1", "s1", "p1", "an intent")
    recorder.record_syscall(7)
    recorder.record_syscall(7)
    recorder.record_tokens(7, 30)
    recorder.record_tokens(7, 0)
    clock.pass_ns(1500)
    recorder.end_span(7, OK)
    one = recorder.get_span(7)
    assert one == Span("t1", "s1", "p1", 7, "an intent", T0, T0 + 1500, 1500, 2, 30, OK)
    assert sink.spans == [one]


def test_a_running_span_is_open_and_has_no_end(recorder):
    recorder.start_span(7, "t1", "s1", "", "x", kind="tool")
    one = recorder.get_span(7)
    assert one is not None
    assert (one.status, one.end_time, one.duration, one.kind) == (OPEN, None, 0, "tool")


def test_starts_are_written_before_the_work(recorder, sink):
    recorder.start_span(7, "t1", "s1", "", "x")
    assert [one.span_id for one in sink.starts] == ["s1"]
    assert sink.spans == []


def test_setting_the_wall_clock_changes_no_duration(recorder, clock):
    recorder.start_span(7, "t1", "s1", "", "x")
    clock.running += 40
    clock.wall -= 10**9
    recorder.end_span(7, OK)
    one = recorder.get_span(7)
    assert one is not None
    assert one.duration == one.end_time_ns - one.start_time_ns == 40


def test_a_span_ends_once_d47(recorder, clock, sink):
    recorder.start_span(7, "t1", "s1", "", "x")
    clock.pass_ns(10)
    recorder.end_span(7, ERROR)
    clock.pass_ns(10)
    recorder.end_span(7, OK)
    one = recorder.get_span(7)
    assert one is not None
    assert (one.status, one.duration) == (ERROR, 10)
    assert len(sink.spans) == 1


def test_nothing_counts_after_the_end_d53(recorder):
    recorder.start_span(7, "t1", "s1", "", "x")
    recorder.end_span(7, OK)
    recorder.record_syscall(7)
    recorder.record_tokens(7, 9)
    one = recorder.get_span(7)
    assert one is not None
    assert (one.syscall_count, one.tokens_used) == (0, 0)


def test_an_unknown_pid_is_ignored(recorder, sink):
    recorder.record_syscall(1)
    recorder.record_tokens(1, 5)
    recorder.end_span(1, OK)
    assert recorder.get_span(1) is None
    assert recorder.get_trace_spans("t1") == []
    assert sink.spans == []


def test_ended_spans_of_a_trace_are_kept_while_one_is_open_then_freed(recorder):
    recorder.start_span(1, "t1", "a", "", "a")
    recorder.start_span(2, "t1", "b", "a", "b")
    recorder.start_span(3, "t2", "c", "", "c")
    recorder.end_span(2, OK)
    assert [one.span_id for one in recorder.get_trace_spans("t1")] == ["a", "b"]
    recorder.end_span(1, OK)
    assert recorder.get_trace_spans("t1") == []
    assert [one.span_id for one in recorder.get_trace_spans("t2")] == ["c"]


def test_an_ended_span_is_given_until_another_starts_for_that_pid(recorder):
    recorder.start_span(1, "t1", "a", "", "a")
    recorder.end_span(1, OK)
    assert recorder.get_span(1).span_id == "a"
    recorder.start_span(1, "t1", "b", "", "b")
    assert recorder.get_span(1).span_id == "b"


def test_a_span_on_a_busy_pid_closes_the_open_one_and_loses_nothing_d51(recorder, clock, sink, caplog):
    recorder.start_span(1, "t1", "a", "", "a")
    clock.pass_ns(5)
    with caplog.at_level(logging.WARNING, "unspool"):
        recorder.start_span(1, "t1", "b", "a", "b")
    assert "a was open" in caplog.text
    assert [(one.span_id, one.status, one.duration) for one in sink.spans] == [("a", OPEN, 5)]
    assert [one.span_id for one in recorder.get_trace_spans("t1")] == ["a", "b"]
    recorder.end_span(1, OK)
    assert recorder.get_trace_spans("t1") == []


def test_copies_are_given_out(recorder):
    recorder.start_span(1, "t1", "a", "", "a")
    recorder.get_span(1).attributes["x"] = 1
    recorder.get_trace_spans("t1")[0].name = "changed"
    assert recorder.get_span(1).attributes == {}
    assert recorder.get_span(1).name == "a"


def test_wrong_arguments(recorder):
    recorder.start_span(1, "t1", "a", "", "a")
    with pytest.raises(ValueError, match="n must not be negative"):
        recorder.record_tokens(1, -1)
    with pytest.raises(ValueError, match="agent, llm, tool, other"):
        recorder.start_span(2, "t1", "b", "", "b", kind="robot")
    with pytest.raises(ValueError, match="pid"):
        recorder.start_span(-2, "t1", "b", "", "b")
    with pytest.raises(ValueError, match="not as open"):
        recorder.end_span(1, OPEN)
    assert recorder.get_span(1).status is OPEN


def test_a_write_error_is_logged_and_nothing_else(recorder, caplog, tmp_path):
    (tmp_path / "file").write_text("")
    recorder.set_writer(SpanWriter(tmp_path / "file" / "traces"))
    with caplog.at_level(logging.WARNING, "unspool"):
        recorder.start_span(1, "t1", "a", "", "a")
        recorder.end_span(1, OK)
    assert len(caplog.records) == 2
    assert recorder.get_span(1).status is OK


def test_without_a_writer_nothing_is_written(recorder, sink):
    recorder.set_writer(None)
    recorder.start_span(1, "t1", "a", "", "a")
    recorder.end_span(1, OK)
    assert sink.starts == sink.spans == []


def test_many_threads_lose_no_update():
    recorder = SpanRecorder()
    for pid in range(100):
        recorder.start_span(pid, "t1", f"s{pid}", "", "x")

    def work() -> None:
        for pid in range(100):
            for _ in range(10):
                recorder.record_syscall(pid)
                recorder.record_tokens(pid, 2)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spans = recorder.get_trace_spans("t1")
    assert len(spans) == 100
    assert {(one.syscall_count, one.tokens_used) for one in spans} == {(40, 80)}


def test_what_is_recorded_can_be_read(tmp_path):
    recorder = SpanRecorder()
    recorder.set_writer(SpanWriter(tmp_path))
    recorder.start_span(1, "t1", "a", "", "a")
    recorder.start_span(2, "t1", "b", "a", "b")
    recorder.end_span(2, OK)
    spans = SpanReader(tmp_path).read_trace("t1")
    assert [(one.span_id, one.status) for one in spans] == [("b", OK), ("a", OPEN)]
