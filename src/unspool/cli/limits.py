"""Limits of a run while it goes on: how full its contexts are, what it costs, how many steps and how long it takes.

The watch is a thread in the process of `unspool run`, one more reader of the files the run writes. Where a limit can
say no (`--max-steps`, `--max-cost`, `--on-critical pause|stop`) the processes of the run ask at a gate before a model
call leaves, so that what crosses a limit is not sent: the steps are counted there, one call after the other, the money
is that of all calls answered so far, and the context is that which is about to be sent, its new part estimated. A
process that does not ask (one with an older unspool of its own) is ended after the call that went over.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from typing import Final

from unspool.cli import amounts
from unspool.cli.gate import Gate, Waiting
from unspool.cli.launch import Launch
from unspool.cli.limit_ledger import Fill, Lane, Ledger, fault_text
from unspool.cli.limit_options import Limits
from unspool.cli.prices import Prices, prices_for
from unspool.cli.stopping import stop_processes
from unspool.cli.terminal import note
from unspool.context.growth import predict_growth
from unspool.events import RecordMetadata, RecordStatus

__all__ = ["LimitWatch"]

logger = logging.getLogger("unspool")
_POLL_S: Final = 0.1
_DRAIN_S: Final = 30.0  # for calls that are under way when the run is to be ended: they are paid for
_STOPPED_S: Final = 2.0


class LimitWatch:
    """Watches a run from a thread of its own: a context manager around `Launch.run`.

    Args:
        gate: where the processes of the run ask; None: none of the limits can say no.
    """

    def __init__(self, launch: Launch, limits: Limits, prices: Prices | None = None, gate: Gate | None = None) -> None:
        self._launch, self._limits, self._gate = launch, limits, gate
        self._ledger = Ledger(launch, limits, prices or prices_for(launch.store))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="unspool-limits", daemon=True)
        self._admitted = 0  # steps that were let through the gate
        self._under_way: set[tuple[str, int]] = set()  # calls that were, and are not answered
        self._does_not_ask = gate is None
        self._began = time.monotonic()
        self._is_over = False  # a limit was reached; nothing more is said of limits, and nothing more leaves
        self._end_by: float | None = None

    def __enter__(self) -> LimitWatch:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join(timeout=10)
        self._ledger.close()

    def _run(self) -> None:
        try:
            self._watch()
        except Exception as exc:  # noqa: BLE001 - whoever asks must not wait for somebody who is gone
            self._give_up(exc)

    def _watch(self) -> None:
        while not self._stop.is_set():
            if self._gate is None:
                self._stop.wait(_POLL_S)
            else:
                for one in self._gate.waiting(_POLL_S):
                    self._meet(self._gate, one)
            self._look()
        self._look()  # what the command wrote at its end

    def _look(self) -> list[RecordMetadata]:
        ledger, limits = self._ledger, self._limits
        records = ledger.look()
        for answered in ledger.answered:
            # Who did not ask for this call does not ask at all.
            self._does_not_ask = self._does_not_ask or answered not in self._under_way
            self._under_way.discard(answered)
        ledger.answered.clear()
        fills, ledger.fills = ledger.fills, []
        for fill in fills:
            try:
                self._fill(fill, records)
            except Exception as exc:  # noqa: BLE001 - as in the ledger: it is about one recording
                ledger.left_out(fill.metadata.record_id, exc)
        elapsed = time.monotonic() - self._began
        if limits.max_time is not None and elapsed > limits.max_time:
            self._end(f"it has run for {elapsed:.0f}s, --max-time is {limits.max_time:.0f}s", records)
        if self._does_not_ask:
            if limits.max_steps is not None and ledger.steps > limits.max_steps:
                self._end(f"it began step {ledger.steps}, --max-steps is {limits.max_steps}", records)
            if limits.max_cost is not None and ledger.cost > limits.max_cost:
                self._end(self._too_dear(limits.max_cost), records)
        if self._end_by is not None:
            self._end_if_drained(records)
        return records

    # --- the gate ----------------------------------------------------------------------------------------------------

    def _meet(self, gate: Gate, one: Waiting) -> None:
        """A call is about to leave."""
        asked = one.asked
        key = asked.record_id, asked.call
        try:
            records = self._look()  # the asking process has written everything it did so far
            why = None if self._is_over else self._why_not(one, records)
        except Exception:
            self._dismiss(gate, one)
            raise
        if self._is_over:
            gate.hold(one)
            return
        if why is None:
            self._admitted += not asked.retry
            self._under_way.add(key)
            one.go()
            return
        gate.hold(one)
        self._is_over = True
        self._end_by = time.monotonic() + _DRAIN_S
        pid = asked.record_id.partition("-")[0]
        waits = f"; {amounts.counted(len(self._under_way), 'call')} under way first" if self._under_way else ""
        note(f"unspool: ending the command, call {asked.call} of PID {pid} is not sent: {why}{waits}")
        self._end_if_drained(records)

    def _dismiss(self, gate: Gate, one: Waiting) -> None:
        """A word for a call that nothing can be said of any more: what had been decided before holds."""
        if self._is_over:
            gate.hold(one)
        else:
            one.close()

    def _give_up(self, exc: Exception) -> None:
        """The watch has failed. A command over its limit is ended; one that is not goes on, and without asking."""
        logger.debug("limits", exc_info=exc)
        after = "It was over its limit and is ended" if self._is_over else "Nothing limits this run from here on"
        note(f"unspool: the limits of this run cannot be watched any more: {fault_text(exc)}. {after}.")
        if not self._is_over:
            if self._gate is not None:
                self._gate.close()
            return
        self._stop_all(self._ledger.records)
        while self._gate is not None and not self._stop.is_set():
            for one in self._gate.waiting(_POLL_S):
                self._gate.hold(one)

    def _why_not(self, one: Waiting, records: list[RecordMetadata]) -> str | None:
        """Why a call may not leave; None if it may. Pauses the run first, if that is asked for."""
        limits, asked = self._limits, one.asked
        if limits.max_steps is not None and not asked.retry and self._admitted >= limits.max_steps:
            return f"it would be step {self._admitted + 1}, --max-steps is {limits.max_steps}"
        if limits.max_cost is not None and self._ledger.cost >= limits.max_cost:
            return self._too_dear(limits.max_cost)
        lane = self._ledger.lane_of_call(asked.record_id, asked.call)
        if limits.on_critical not in {"pause", "stop"} or lane is None or lane.budget is None:
            return None
        if not _is_critical(lane.pending, lane.budget):
            return None
        share = f"about {100 * lane.pending / lane.budget:.0f}% of {lane.budget:,} tokens"
        if limits.on_critical == "stop":
            return f"its context is nearly full: {share}"
        if lane.said < 3:
            lane.said = 3  # paused once; after a compaction it may be again
            self._pause(asked.record_id, f"call {asked.call} waits, its context would be at {share}", records)
        return None

    def _too_dear(self, limit: float) -> str:
        return f"it has cost {amounts.cost(self._ledger.cost)}, --max-cost is {amounts.cost(limit)}"

    # --- contexts ----------------------------------------------------------------------------------------------------

    def _fill(self, fill: Fill, records: list[RecordMetadata]) -> None:
        """Say how full a context is, when that has become worse."""
        lane, budget = fill.lane, fill.lane.budget
        if budget is None:
            return
        is_critical = _is_critical(fill.used, budget)
        level = 2 if is_critical else 1 if fill.used >= self._limits.warn * budget else 0
        if level <= lane.said:
            lane.said = level if level < 2 else lane.said  # after a compaction it may be said again
            return
        lane.said = level
        note(_said(fill, lane, budget, is_critical=is_critical))
        if not is_critical or not self._does_not_ask:
            return
        if self._limits.on_critical == "stop":
            self._end("its context is nearly full", records)
        elif self._limits.on_critical == "pause":
            self._pause(fill.metadata.record_id, "its context is nearly full", records)

    # --- what is done ------------------------------------------------------------------------------------------------

    def _end_if_drained(self, records: list[RecordMetadata]) -> None:
        """End the command once the calls under way are answered, or have no process any more."""
        assert self._end_by is not None
        running = {one.record_id for one in records if one.status is RecordStatus.RECORDING}
        left = [key for key in self._under_way if key[0] in running]
        if left and time.monotonic() < self._end_by:
            return
        self._end_by = None
        self._stop_all(records)

    def _end(self, why: str, records: list[RecordMetadata]) -> None:
        if self._is_over:
            return
        self._is_over = True
        process = self._launch.process
        if process is None or process.poll() is not None:
            note(f"unspool: over its limit: {why}; it had ended by then")
            return
        note(f"unspool: ending the command: {why}")
        self._stop_all(records)

    def _stop_all(self, records: list[RecordMetadata]) -> None:
        process = self._launch.process
        if process is not None and process.poll() is None:
            stop_processes(process.pid, records)

    def _pause(self, record_id: str, why: str, records: list[RecordMetadata]) -> None:
        process = self._launch.process
        if process is None or process.poll() is not None:
            return
        paused = {process.pid}
        paused |= {one.os_pid for one in records if one.os_pid is not None and one.status is RecordStatus.RECORDING}
        for os_pid in paused:
            try:
                os.kill(os_pid, signal.SIGSTOP)
            except OSError:  # it has just ended
                continue
        deadline = time.monotonic() + _STOPPED_S
        while not all(map(_is_stopped, paused)) and time.monotonic() < deadline:
            time.sleep(0.001)  # the signal is sent, and takes effect when the process is scheduled
        names = " ".join(str(os_pid) for os_pid in sorted(paused))
        note(
            f"unspool: paused: {why}\n"
            f"         look:           unspool ctx {record_id.partition('-')[0]}\n"
            f"         go on:          kill -CONT {names}\n"
            f"         end it:         kill {names}; kill -CONT {names}"
        )


def _is_critical(used: int, budget: int) -> bool:
    """Less than a tenth is left: in whole numbers, as `AlertLevel` has it."""
    return 10 * (budget - used) < budget


def _said(fill: Fill, lane: Lane, budget: int, *, is_critical: bool) -> str:
    forecast = predict_growth(fill.metadata.pid, fill.used, budget, len(lane.points) + 1, 0, lane.points)
    left = f", about {forecast.est_remaining} more steps" if forecast.est_high else ""
    call = f"call {fill.call}" if fill.call is not None else "the last call"
    said = (
        f"unspool: PID {fill.metadata.pid}, {call}: the context is at {100 * fill.used / budget:.0f}% "
        f"of {budget:,} tokens{left}"
    )
    return said + (" (critical)" if is_critical else "")


def _is_stopped(os_pid: int) -> bool:
    """Whether an OS process stands still, or is gone; also where that cannot be seen."""
    try:
        with open(f"/proc/{os_pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (b"T", b"t", b"Z", b"X")
    except (OSError, IndexError):
        return True
