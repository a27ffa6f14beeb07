"""Limits of a run while it goes on: how full its contexts are, what it costs, how many steps and how long it takes.

The watch is one more reader of the files that the run writes, in the process of `unspool run`: the agent knows nothing
of it. What it sees is what has been written down, so a limit is kept after the call that went over it, not before.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from datetime import timedelta
from typing import Final

from msgspec import Struct, field

from unspool.cli import amounts
from unspool.cli.launch import Launch
from unspool.cli.limit_options import Limits
from unspool.cli.listing import LLM_PREFIX, answer_cost
from unspool.cli.prices import Prices, context_window, prices_for
from unspool.cli.stopping import stop_processes
from unspool.cli.terminal import note
from unspool.context.growth import AlertLevel, predict_growth
from unspool.errors import CorruptRecording, StoreError
from unspool.events import LLMResponseData, RecordEvent, RecordMetadata, RecordStatus, TokenSnapshot
from unspool.recording.reader import RecordReader
from unspool.text import show_text

__all__ = ["LimitWatch"]

_POLL_S: Final = 0.1


class _Lane(Struct):
    """One conversation: its counted contexts, and what was said of it."""

    points: list[TokenSnapshot] = field(default_factory=list)
    level: int = 0  # 0 nothing, 1 warned, 2 critical


class _Watched(Struct):
    """One recording that is read along."""

    reader: RecordReader
    position: int = 0
    paths: dict[int | None, str] = field(default_factory=dict)
    lanes: dict[int | None, _Lane] = field(default_factory=dict)
    lane_of: dict[int | None, int | None] = field(default_factory=dict)


class LimitWatch:
    """Watches a run from a thread of its own: a context manager around `Launch.run`."""

    def __init__(self, launch: Launch, limits: Limits, prices: Prices | None = None) -> None:
        self._launch, self._limits = launch, limits
        self._prices = prices or prices_for(launch.store)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="unspool-limits", daemon=True)
        self._watched: dict[str, _Watched] = {}
        self._steps = 0
        self._cost = 0.0
        self._unpriced: set[str] = set()
        self._unknown: set[str] = set()
        self._began = time.monotonic()
        self._is_over = False  # a limit was kept; nothing more is said of limits

    def __enter__(self) -> LimitWatch:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join(timeout=10)
        for one in self._watched.values():
            one.reader.close()

    def _run(self) -> None:
        while not self._stop.wait(_POLL_S):
            self._look()
        self._look()  # what the command wrote at its end

    def _look(self) -> None:
        records = self._launch.records() if self._launch.is_recorded else []
        for metadata in records:
            try:
                self._read(metadata)
            except (CorruptRecording, StoreError, OSError):  # not written yet, or removed under us
                continue
        limits = self._limits
        elapsed = time.monotonic() - self._began
        if limits.max_time is not None and elapsed > limits.max_time:
            self._end(f"it has run for {elapsed:.0f}s, --max-time is {limits.max_time:.0f}s", records)
        if limits.max_steps is not None and self._steps > limits.max_steps:
            self._end(f"it began step {self._steps}, --max-steps is {limits.max_steps}", records)
        if limits.max_cost is not None and self._cost > limits.max_cost:
            self._end(f"it has cost {amounts.cost(self._cost)}, --max-cost is {amounts.cost(limits.max_cost)}", records)

    # --- reading along -----------------------------------------------------------------------------------------------

    def _read(self, metadata: RecordMetadata) -> None:
        one = self._watched.get(metadata.record_id)
        if one is None:
            reader = RecordReader(self._launch.store.records / metadata.record_id, live=True)
            one = self._watched[metadata.record_id] = _Watched(reader)
        one.reader.refresh()
        for event in one.reader.bare_events(one.position):
            one.position += 1
            self._take(one, event)

    def _take(self, one: _Watched, event: RecordEvent) -> None:
        if event.context is not None:
            one.lane_of[event.call] = event.lane
            self._steps += not event.context.retry
        elif event.syscall is not None:
            path = event.syscall.args.get("path")
            if isinstance(path, str) and path.startswith(LLM_PREFIX):
                one.paths[event.call] = path
        elif event.llm is not None:
            path = one.paths.pop(event.call, "")
            self._pay(one, path, event, event.llm)
            if self._limits.on_critical is not None and event.llm.request_tokens is not None:
                self._fill(one, path, event, event.llm)

    def _pay(self, one: _Watched, path: str, event: RecordEvent, data: LLMResponseData) -> None:
        if self._limits.max_cost is None or data.error is not None or event.origin == "served":
            return
        start = one.reader.metadata.start_time
        at = None if start is None else start + timedelta(microseconds=event.timestamp // 1000)
        cost = answer_cost(self._prices, path, data, at)
        if cost is not None:
            self._cost += cost
        elif path not in self._unpriced:
            self._unpriced.add(path)
            name = show_text(path.removeprefix(LLM_PREFIX)) or "a model"
            note(f"unspool: --max-cost cannot count {name}: no price is known. Give one in prices.toml")

    def _fill(self, one: _Watched, path: str, event: RecordEvent, data: LLMResponseData) -> None:
        budget = self._limits.budget or self._window(path, data.model)
        if budget is None or data.request_tokens is None:
            return
        lane = one.lanes.setdefault(one.lane_of.pop(event.call, None), _Lane())
        lane.points.append(TokenSnapshot(len(lane.points) + 1, data.request_tokens, event.timestamp // 1_000_000))
        # The answer is part of the next context, whatever comes with it.
        used = data.request_tokens + (data.response_tokens or 0)
        forecast = predict_growth(one.reader.metadata.pid, used, budget, len(lane.points) + 1, 0, lane.points)
        is_critical = forecast.alert_level is AlertLevel.CRITICAL
        level = 2 if is_critical else 1 if used >= self._limits.warn * budget else 0
        if level <= lane.level:
            lane.level = level  # after a compaction it may be said again
            return
        lane.level = level
        left = f", about {forecast.est_remaining} more steps" if forecast.est_high else ""
        call = f"call {event.call}" if event.call is not None else "the last call"
        said = (
            f"unspool: PID {one.reader.metadata.pid}, {call}: the context is at {100 * used / budget:.0f}% "
            f"of {budget:,} tokens{left}"
        )
        note(said + (" (critical)" if is_critical else ""))
        if is_critical and self._limits.on_critical == "stop":
            self._end("its context is nearly full", self._launch.records())
        elif is_critical and self._limits.on_critical == "pause":
            self._pause(one.reader.metadata)

    def _window(self, path: str, model: str | None) -> int | None:
        vendor, _, asked = path.removeprefix(LLM_PREFIX).partition("/")
        for name in dict.fromkeys((model, asked)):
            if name and (window := context_window(vendor, name)) is not None:
                return window
        if path not in self._unknown:
            self._unknown.add(path)
            name = show_text(path.removeprefix(LLM_PREFIX)) or "a model"
            note(f"unspool: the context window of {name} is not known: no forecast. Give it with --budget TOKENS")
        return None

    # --- what is done ------------------------------------------------------------------------------------------------

    def _end(self, why: str, records: list[RecordMetadata]) -> None:
        if self._is_over:
            return
        self._is_over = True
        process = self._launch.process
        if process is None or process.poll() is not None:
            note(f"unspool: over its limit: {why}; it had ended by then")
            return
        note(f"unspool: ending the command: {why}")
        stop_processes(process.pid, records)

    def _pause(self, metadata: RecordMetadata) -> None:
        process = self._launch.process
        if process is None or process.poll() is not None:
            return
        paused = {process.pid}
        paused |= {
            one.os_pid
            for one in self._launch.records()
            if one.os_pid is not None and one.status is RecordStatus.RECORDING
        }
        for os_pid in paused:
            try:
                os.kill(os_pid, signal.SIGSTOP)
            except OSError:  # it has just ended
                continue
        names = " ".join(str(os_pid) for os_pid in sorted(paused))
        note(
            f"unspool: paused. Look:   unspool ctx {metadata.pid}\n"
            f"         go on:          kill -CONT {names}\n"
            f"         end it:         kill {names}; kill -CONT {names}"
        )
