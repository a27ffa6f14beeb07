"""Lines appear as events come, and none that was sent in time is lost."""

from __future__ import annotations

import asyncio
import io
import json
import threading
import time

import pytest

from unspool.channel import EventChannel, emit_event
from unspool.errors import Cancelled
from unspool.events import SyscallEvent
from unspool.strace import Options, aattach, attach, format_event, format_event_json

PLAIN = Options()


def event(number: int) -> SyscallEvent:
    return SyscallEvent(number * 1_000_000, 1, f"Call{number}", {})


def filled(count: int, *, maxsize: int = 100, closed: bool = True) -> EventChannel:
    channel = EventChannel(maxsize)
    for number in range(count):
        emit_event(channel, event(number))
    if closed:
        channel.close()
    return channel


class Recorder:
    """Notes what is done to it."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.wrote = threading.Event()

    def write(self, text: str) -> None:
        self.done.append(text)

    def flush(self) -> None:
        self.done.append("flush")
        self.wrote.set()


def run_sync(channel, out, options=PLAIN, stop=None):
    attach(channel, out, options, stop)


def run_async(channel, out, options=PLAIN, stop=None):
    asyncio.run(aattach(channel, out, options, stop))


both = pytest.mark.parametrize("run", [run_sync, run_async])


@both
def test_all_events_are_written_and_it_returns_when_the_channel_closes(run):
    out = io.StringIO()
    run(filled(5), out)
    assert out.getvalue().splitlines() == [format_event(event(n), PLAIN) for n in range(5)]


@both
def test_a_line_is_one_write_flushed_at_once(run):
    out = Recorder()
    run(filled(2), out)
    lines = [format_event(event(n), PLAIN) + "\n" for n in range(2)]
    assert out.done == [lines[0], "flush", lines[1], "flush"]


@both
def test_json_wins_over_formatter_over_default(run):
    out = io.StringIO()
    run(filled(1), out, Options(json=True, formatter=lambda _: "mine"))
    assert out.getvalue() == format_event_json(event(0)) + "\n"
    out = io.StringIO()
    run(filled(1), out, Options(formatter=lambda e: f"mine {e.syscall}"))
    assert out.getvalue() == "mine Call0\n"


def test_options_are_those_of_the_output_by_default():
    out = io.StringIO()
    attach(filled(1), out)
    assert out.getvalue() == format_event(event(0), PLAIN) + "\n"


def test_two_attaches_see_everything():
    channel = EventChannel(10)
    outs = [Recorder(), Recorder()]
    threads = [threading.Thread(target=attach, args=(channel, out, PLAIN)) for out in outs]
    emit_event(channel, event(0))
    threads[0].start()
    assert outs[0].wrote.wait(10)
    threads[1].start()
    while len(channel._alive()) < 2:
        time.sleep(0.001)
    emit_event(channel, event(1))
    channel.close()
    for thread in threads:
        thread.join(10)
    assert len(outs[0].done) == 4
    assert len(outs[1].done) == 2


def test_a_line_appears_while_the_channel_is_open():
    channel, out = EventChannel(10), Recorder()
    thread = threading.Thread(target=attach, args=(channel, out, PLAIN))
    thread.start()
    emit_event(channel, event(0))
    assert out.wrote.wait(10)
    assert thread.is_alive()
    channel.close()
    thread.join(10)


@both
def test_a_set_stop_writes_what_is_buffered_and_then_raises(run):
    stop = threading.Event()
    stop.set()
    out = io.StringIO()
    with pytest.raises(Cancelled):
        run(filled(3, closed=False), out, PLAIN, stop)
    assert len(out.getvalue().splitlines()) == 3


@both
def test_stop_ends_a_silent_channel_promptly(run):
    stop = threading.Event()
    stopped_at: list[float] = []

    def set_later() -> None:
        stopped_at.append(time.monotonic())
        stop.set()

    timer = threading.Timer(0.1, set_later)
    timer.start()
    with pytest.raises(Cancelled):
        run(EventChannel(1), io.StringIO(), PLAIN, stop)
    ended_at = time.monotonic()
    timer.join()
    # Promised within 50 ms; the rest is for a machine that is busy with other tests.
    assert ended_at - stopped_at[0] < 1


@both
def test_stop_ends_even_if_events_never_cease(run):
    stop = threading.Event()
    channel = EventChannel(4)

    class Endless(io.StringIO):
        lines = 0

        def write(self, text: str) -> int:
            Endless.lines += 1
            emit_event(channel, event(1))
            if Endless.lines == 100:
                stop.set()
            return super().write(text)

    emit_event(channel, event(0))
    with pytest.raises(Cancelled):
        run(channel, Endless(), PLAIN, stop)


@both
def test_a_stop_that_is_never_set_changes_nothing(run):
    out = io.StringIO()
    run(filled(3), out, PLAIN, threading.Event())
    assert len(out.getvalue().splitlines()) == 3


@both
def test_an_error_of_the_output_passes_through_and_ends_the_subscription(run):
    class Full:
        def write(self, text: str) -> None:
            raise OSError("disk full")

    channel = filled(3, closed=False)
    with pytest.raises(OSError, match="disk full"):
        run(channel, Full())
    for number in range(500):
        emit_event(channel, event(number))
    assert channel.dropped == 0


@both
def test_lost_events_are_reported_once_the_reader_has_caught_up(run):
    out = io.StringIO()
    run(filled(5, maxsize=2), out)
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[2] == "[strace] 3 dropped: the reader was slower than the agent"
    out = io.StringIO()
    run(filled(5, maxsize=2), out, Options(json=True))
    assert json.loads(out.getvalue().splitlines()[2]) == {"dropped": 3}


def test_cancelling_the_task_writes_what_is_buffered():
    async def main() -> str:
        channel, out = EventChannel(10), io.StringIO()
        task = asyncio.create_task(aattach(channel, out, PLAIN))
        await asyncio.sleep(0)
        emit_event(channel, event(0))
        emit_event(channel, event(1))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return out.getvalue()

    assert len(asyncio.run(main()).splitlines()) == 2


def test_an_asyncio_event_stops_too():
    async def main() -> None:
        stop = asyncio.Event()
        task = asyncio.create_task(aattach(EventChannel(1), io.StringIO(), PLAIN, stop))
        await asyncio.sleep(0.01)
        stop.set()
        with pytest.raises(Cancelled):
            await asyncio.wait_for(task, 10)

    asyncio.run(main())
