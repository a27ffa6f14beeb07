"""`unspool.span` and `@unspool.traced`: what they record, and that they change nothing."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import unspool
from unspool.capture.flow import FLOW, Flow
from unspool.capture.process import AgentProcess, Lineage
from unspool.events import RecordEvent
from unspool.recording.reader import RecordReader
from unspool.strace import Options, format_event
from unspool.strace.lines import syscall_event_of
from unspool.trace.from_recording import recorded_trace
from unspool.trace.spans import Span
from unspool.tracecontext import parse_traceparent

TRACE = "0123456789abcdef" * 2


class Recorded:
    """An agent process that is being recorded, and what it wrote."""

    def __init__(self, store: Path) -> None:
        self.process = AgentProcess(Lineage(store=str(store), trace_id=TRACE), intent="test", role="agent")
        self.flow = Flow(self.process)

    def reader(self) -> RecordReader:
        recorder = self.process.ensure()
        assert recorder is not None
        return RecordReader(recorder.record_dir, live=True)

    def events(self) -> list[RecordEvent]:
        with self.reader() as reader:
            assert reader.damage == []
            return [event for event in reader.events() if event.syscall is not None]

    def starts(self) -> list[dict[str, Any]]:
        recorder = self.process.ensure()
        assert recorder is not None
        return [json.loads(line) for line in (recorder.record_dir / "open.jsonl").read_bytes().splitlines()]

    def spans(self) -> dict[str, Span]:
        with self.reader() as reader:
            return {span.name: span for span in recorded_trace([reader]).spans}

    def shape(self) -> list[tuple[str, str]]:
        """Name and parent's name of each ended span, in the order they ended."""
        names = {event.span_id: _name(event) for event in self.events()}
        return [(_name(event), names.get(event.parent_span_id, "agent")) for event in self.events()]


def _name(event: RecordEvent) -> str:
    assert event.syscall is not None
    return str(event.syscall.args["path"]).removeprefix("/dev/span/").removeprefix("/dev/tool/")


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Recorded]:
    one = Recorded(tmp_path / "store")
    token = FLOW.set(one.flow)
    yield one
    FLOW.reset(token)
    one.process.end()


# --- nothing is recorded ---------------------------------------------------------------------------------------------


def test_without_a_recording_nothing_happens() -> None:
    with unspool.span("quiet", a=1) as span:
        span.set(b=2)
        assert span.traceparent is None
        assert FLOW.get() is None

    @unspool.traced
    def double(n: int) -> int:
        """Twice."""
        return 2 * n

    assert (double(2), double.__name__, double.__doc__) == (4, "double", "Twice.")
    with pytest.raises(KeyError), unspool.span("failing"):
        raise KeyError("as ever")


# --- what is recorded ------------------------------------------------------------------------------------------------


def test_a_span_is_a_syscall_with_its_attributes(recorded: Recorded) -> None:
    found: list[int] = [1]
    with unspool.span("rank/all", documents=3, found=found, attempt=0) as span:
        found.append(2)
        span.set(best="the first", attempt=1)
    [event] = recorded.events()
    data = event.syscall
    assert data is not None
    assert (data.syscall, data.args["path"], data.result, data.err) == ("Span", "/dev/span/rank/all", None, "")
    # As they were when they were given, whatever the program did to them afterwards.
    assert data.args["attributes"] == {"documents": 3, "found": [1], "attempt": 1, "best": "the first"}
    assert data.duration > 0
    assert (event.at or "").partition(" ")[2] == "test_a_span_is_a_syscall_with_its_attributes"
    assert event.task == "0"
    line = format_event(syscall_event_of(event), Options(color=False))
    assert 'Span("rank/all", documents=3, found=[1], attempt=1, best="the first")    ' in line
    assert "→" not in line


def test_the_start_is_on_disk_before_the_work(recorded: Recorded) -> None:
    with unspool.span("outer", goal="x" * 1000, steps=0, deep={"not": "short"}), unspool.span("inner"):
        outer, inner = recorded.starts()
        assert (outer["name"], outer["path"], inner["path"]) == ("Span", "/dev/span/outer", "/dev/span/inner")
        assert inner["parent_span_id"] == outer["span_id"]
        assert (len(outer["attributes"].pop("goal")), outer["attributes"]) == (201, {"steps": 0})
        # Nothing has ended: all of it shows as open.
        spans = recorded.spans()
        assert {spans[name].status for name in ("outer", "inner")} == {"open"}
        assert spans["inner"].parent_span_id == spans["outer"].span_id
        assert spans["outer"].attributes["steps"] == 0
    spans = recorded.spans()
    assert (spans["outer"].status, spans["outer"].kind) == ("ok", "other")
    assert spans["outer"].attributes["goal"] == "x" * 1000


def test_long_texts_come_back_whole(recorded: Recorded) -> None:
    with unspool.span("long", text="y" * 5000):
        pass
    assert recorded.spans()["long"].attributes["text"] == "y" * 5000


def test_what_is_ours_to_say_cannot_be_said_by_an_attribute(recorded: Recorded) -> None:
    with unspool.span("odd", **{"unspool.seq_num": 99, "gen_ai.usage.input_tokens": 7, "http.route": "/x"}):
        pass
    attributes = recorded.spans()["odd"].attributes
    assert attributes["unspool.seq_num"] != 99
    assert "gen_ai.usage.input_tokens" not in attributes
    assert attributes["http.route"] == "/x"


@pytest.mark.parametrize("value", [float("nan"), 2**80, b"bytes", "\ud800", object(), {1: {2}}, {"$ref": "x"}])
def test_any_value_can_be_an_attribute(recorded: Recorded, value: Any) -> None:
    with unspool.span("any \ud800", value=value):
        assert len(recorded.starts()) == 1
    [event] = recorded.events()
    assert event.syscall is not None
    assert "value" in event.syscall.args["attributes"]
    assert "any ?" in recorded.spans()


def test_an_exception_marks_the_span_and_passes(recorded: Recorded) -> None:
    error = ValueError("no such goal")
    with pytest.raises(ValueError, match="no such goal") as caught, unspool.span("plan"):
        raise error
    assert caught.value is error
    [event] = recorded.events()
    assert event.syscall is not None
    assert event.syscall.err == "ValueError: no such goal"
    assert event.syscall.error is not None
    assert 'Span("plan") → err(ValueError: no such goal)' in format_event(syscall_event_of(event), Options(color=False))
    assert recorded.spans()["plan"].status == "error"
    assert FLOW.get() is recorded.flow


@pytest.mark.parametrize(("code", "err"), [(0, ""), (None, ""), (2, "SystemExit: 2"), ([1], "SystemExit: [1]")])
def test_a_program_that_is_done_has_not_failed(recorded: Recorded, code: Any, err: str) -> None:
    with pytest.raises(SystemExit), unspool.span("main"):
        raise SystemExit(code)
    [event] = recorded.events()
    assert event.syscall is not None
    assert event.syscall.err == err


def test_one_object_for_several_blocks(recorded: Recorded) -> None:
    span = unspool.span("again")
    with span, span:
        pass
    with span:
        pass
    assert recorded.shape() == [("again", "again"), ("again", "agent"), ("again", "agent")]


def test_what_follows_a_span_follows_the_call_made_in_it(recorded: Recorded) -> None:
    """A tool that runs the model's wish after the span belongs to the call that wished for it."""
    with unspool.span("turn"):
        inner = FLOW.get()
        assert inner is not None
        inner.call, inner.step = 4, 3  # as a model call does
    unspool.tool(len)([])
    tool = recorded.events()[-1]
    assert (tool.call, tool.step) == (4, 3)


def test_places_are_numbered_as_without_spans(recorded: Recorded) -> None:
    """A rerun runs spans: values read and tasks started in them have the places they had."""
    plain, spanned = Flow(recorded.process), recorded.flow
    plain_places = [plain.child().path, plain.within("a").place, plain.child().path]
    with unspool.span("one"):
        flow = FLOW.get()
        assert flow is not None
        places = [flow.child().path, flow.within("b").place]
        assert (flow.path, flow.place, flow.in_tool) == ("0", "0", False)
    assert [*places, spanned.child().path] == plain_places
    assert plain.within("c").inside("d").in_tool


# --- nesting ---------------------------------------------------------------------------------------------------------


def test_tasks_and_threads_inside_a_span_are_below_it(recorded: Recorded) -> None:
    async def work(n: int) -> None:
        async with unspool.span(f"task {n}"):
            await asyncio.sleep(0)
            with unspool.span(f"part {n}"):
                await asyncio.sleep(0)

    async def main() -> None:
        async with unspool.span("gathered"):
            await asyncio.gather(*(work(n) for n in range(5)))

    asyncio.run(main())
    shape = set(recorded.shape())
    wanted = {(f"task {n}", "gathered") for n in range(5)} | {(f"part {n}", f"task {n}") for n in range(5)}
    assert shape == wanted | {("gathered", "agent")}


def test_ended_in_another_context(recorded: Recorded) -> None:
    span = unspool.span("handed over")
    thread = threading.Thread(target=span.__enter__)
    with unspool.span("around"):
        FLOW.set(None)
        FLOW.set(recorded.flow)
    thread.start()
    thread.join()
    span.__exit__(None, None, None)
    assert FLOW.get() is recorded.flow


# --- @traced ---------------------------------------------------------------------------------------------------------


class Planner:
    @unspool.traced
    def plan(self, goal: str) -> str:
        return self.check(goal) + self.name()

    @unspool.traced
    @staticmethod
    def check(goal: str) -> str:
        return goal

    @classmethod
    @unspool.traced(name="who")
    def name(cls) -> str:
        return cls.__name__


def test_traced_methods(recorded: Recorded) -> None:
    assert Planner().plan("go ") == "go Planner"
    assert recorded.shape() == [
        ("Planner.check", "Planner.plan"),
        ("who", "Planner.plan"),
        ("Planner.plan", "agent"),
    ]


def test_traced_coroutines(recorded: Recorded) -> None:
    @unspool.traced
    async def fetch(n: int) -> int:
        await asyncio.sleep(0)
        if n == 2:
            raise LookupError("none")
        return n

    assert inspect.iscoroutinefunction(fetch)

    async def main() -> list[Any]:
        return await asyncio.gather(*(fetch(n) for n in range(3)), return_exceptions=True)

    results = asyncio.run(main())
    assert (results[:2], str(results[2])) == ([0, 1], "none")
    errors = sorted(event.syscall.err for event in recorded.events() if event.syscall is not None)
    assert errors == ["", "", "LookupError: none"]


def test_traced_generators(recorded: Recorded) -> None:
    @unspool.traced
    def numbers() -> Iterator[int]:
        got = 0
        while got is not None:
            with unspool.span("step"):
                pass
            got = yield got
        return "done"

    items = numbers()
    assert next(items) == 0
    with unspool.span("consumer"):  # not inside the generator
        assert items.send(5) == 5
    with pytest.raises(StopIteration) as end:
        items.send(None)
    assert end.value.value == "done"
    for _ in numbers():
        break
    assert recorded.shape() == [
        ("step", "numbers"),
        ("step", "numbers"),
        ("consumer", "agent"),
        ("numbers", "agent"),
        ("step", "numbers"),
        ("numbers", "agent"),
    ]
    assert {event.syscall.err for event in recorded.events() if event.syscall is not None} == {""}


def test_traced_asynchronous_generators(recorded: Recorded) -> None:
    @unspool.traced(name="stream")
    async def stream() -> Any:
        for n in range(3):
            with unspool.span(f"piece {n}"):
                pass
            yield n

    async def main() -> list[int]:
        return [n async for n in stream()]

    assert asyncio.run(main()) == [0, 1, 2]
    assert recorded.shape() == [*((f"piece {n}", "stream") for n in range(3)), ("stream", "agent")]


def test_traced_goes_on_functions_only() -> None:
    with pytest.raises(TypeError, match="not on the class Planner"):
        unspool.traced(Planner)
    with pytest.raises(TypeError, match="not on int"):
        unspool.traced(3)  # type: ignore[call-overload]


# --- W3C trace context -----------------------------------------------------------------------------------------------


def test_a_remote_parent_is_joined(recorded: Recorded) -> None:
    with unspool.span("client") as client:
        header = client.traceparent
    assert header is not None
    remote = parse_traceparent(header)
    assert remote is not None
    assert (remote.trace_id, remote.span_id) == (TRACE, recorded.spans()["client"].span_id[-16:])
    with unspool.span("server", traceparent=header), unspool.span("inside"):
        pass
    with unspool.span("open", traceparent=header):
        spans = recorded.spans()
    for name in ("server", "open"):
        assert spans[name].parent_span_id == spans["client"].span_id
    assert spans["inside"].parent_span_id == spans["server"].span_id


def test_a_remote_parent_that_is_elsewhere_is_kept_as_an_attribute(recorded: Recorded) -> None:
    elsewhere = f"00-{'ab' * 16}-{'cd' * 8}-00"
    with unspool.span("server", traceparent=elsewhere), unspool.span("malformed", traceparent="00-zz"):
        pass
    spans = recorded.spans()
    assert spans["server"].parent_span_id == spans["test"].span_id
    assert spans["server"].attributes["unspool.traceparent"] == elsewhere
    assert spans["malformed"].parent_span_id == spans["server"].span_id
    assert "unspool.traceparent" not in spans["malformed"].attributes
