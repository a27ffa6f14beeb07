"""Write the events of a channel as lines, as they come."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from unspool.channel import EventChannel, Subscription
from unspool.errors import Cancelled
from unspool.events import SyscallEvent
from unspool.strace.format import format_event, format_event_json
from unspool.strace.options import Options, default_options
from unspool.text import dump_json

__all__ = ["aattach", "attach"]

# How often a silent channel looks at `stop`. Nothing can wait for a condition and a foreign event at once, and 50
# wakeups a second cost nothing one could measure; only a caller that passes `stop` pays them.
_STOP_POLL_S = 0.02


class Out(Protocol):
    """What lines are written to; it is flushed after each if it has a `flush`."""

    def write(self, line: str, /) -> Any:
        """Take one whole line, newline included."""


class Stop(Protocol):
    """A `threading.Event`, an `asyncio.Event`, or anything that can be asked the same."""

    def is_set(self) -> bool:
        """Whether the caller wants to end."""


def attach(channel: EventChannel, out: Out, options: Options | None = None, stop: Stop | None = None) -> None:
    """Write a line for each event until the channel closes; what is buffered then is still written.

    Each line is one `write`, flushed at once. Events lost because this reader fell behind are reported on a line of
    their own as soon as it has caught up. An error of `out` passes through.

    Args:
        options: `default_options(out)` if None.
        stop: ends the call early, within 50 ms.

    Raises:
        Cancelled: `stop` was set. What was buffered at that moment has been written.
    """
    with channel.subscribe() as subscription:
        lines = _Lines(subscription, out, options)
        while True:
            if stop is not None and stop.is_set():
                lines.cancel()
            try:
                event = subscription.get(None if stop is None else _STOP_POLL_S)
            except TimeoutError:
                continue
            if event is None:
                return lines.finish()
            lines.write(event)


async def aattach(channel: EventChannel, out: Out, options: Options | None = None, stop: Stop | None = None) -> None:
    """`attach` for asyncio. Cancelling the task, too, first writes what is buffered. `out` is written to directly."""
    with channel.subscribe() as subscription:
        lines = _Lines(subscription, out, options)
        while True:
            if stop is not None and stop.is_set():
                lines.cancel()
            try:
                event = await subscription.aget(None if stop is None else _STOP_POLL_S)
            except TimeoutError:
                continue
            except asyncio.CancelledError:
                lines.drain()
                raise
            if event is None:
                return lines.finish()
            lines.write(event)


class _Lines:
    """The writing half of both loops."""

    def __init__(self, subscription: Subscription, out: Out, options: Options | None) -> None:
        self._subscription = subscription
        self._out = out
        self._options = options if options is not None else default_options(out)
        self._reported = 0

    def write(self, event: SyscallEvent) -> None:
        self._write_line(_line(event, self._options))
        if not self._subscription.pending:
            self._report_dropped()

    def drain(self) -> None:
        for event in self._subscription.drain():
            self._write_line(_line(event, self._options))
        self._report_dropped()

    def finish(self) -> None:
        self._report_dropped()

    def cancel(self) -> None:
        self.drain()
        raise Cancelled("stopped by the caller; events sent before were written")

    def _report_dropped(self) -> None:
        dropped = self._subscription.dropped - self._reported
        if dropped:
            self._reported += dropped
            notice = f"[strace] {dropped} dropped: the reader was slower than the agent"
            self._write_line(dump_json({"dropped": dropped}) if self._options.json else notice)

    def _write_line(self, line: str) -> None:
        self._out.write(line + "\n")
        flush = getattr(self._out, "flush", None)
        if flush is not None:
            flush()


def _line(event: SyscallEvent, options: Options) -> str:
    if options.json:
        return format_event_json(event)
    if options.formatter is not None:
        return options.formatter(event)
    return format_event(event, options)
