"""An agent process inside this OS process: its PID, its recording, and the events capture writes to it."""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from unspool import __version__
from unspool.capture import rerun
from unspool.capture.credentials import clean_environment, own_command
from unspool.capture.guard import guard
from unspool.capture.versions import library_versions
from unspool.errors import UnspoolError
from unspool.events import RecordEvent, RecordEventType, StateChangeData
from unspool.recording.appender import open_apart
from unspool.recording.lines import encode_json
from unspool.recording.recorder import Recorder
from unspool.store import Store
from unspool.tracecontext import SAMPLED, format_traceparent, parse_traceparent

if TYPE_CHECKING:
    from unspool.serving.plan import Source

__all__ = ["NONDET_NAME", "OPEN_NAME", "AgentProcess", "Lineage", "Unfinished"]

OPEN_NAME = "open.jsonl"
NONDET_NAME = "nondet.jsonl"
_EARLY_MAX = 10_000  # lines kept for a process that may never do anything worth a recording


class Lineage(msgspec.Struct, omit_defaults=True):
    """Where an agent process comes from; travels to child processes in the environment.

    Attributes:
        rerun: the folder of the rerun this belongs to; None in an ordinary run.
        replays: record id of the recording that the parent process replays.
        forked_at, rerun_of: of the first process of a fork or rerun only; `parent` is then the recording it left.
        launched: the command that `unspool run` was given, without credentials; of the first process only.
        launched_in: the working directory it was given in.
        propagate: requests that are no model calls, and MCP tool calls, carry a `traceparent`.
        run: tells the processes of one command from others of the same trace, where that was begun outside.
        trace_flags: of W3C trace context, as whoever began the trace set them.
        gate: the socket at which `unspool run` is asked before a model call leaves; None where it has no limit.
        budget: tokens of a context that `unspool run --budget` gave; None where it gave none.
        bisect: of the first process of a bisection's fork: the id of the bisection, and the number of the fork in it.
    """

    store: str
    trace_id: str
    intent: str | None = None
    parent: str | None = None
    parent_pid: int | None = None
    root: str | None = None
    parent_span_id: str | None = None
    audit: list[str] = msgspec.field(default_factory=lambda: ["process", "net"])
    rerun: str | None = None
    replays: str | None = None
    forked_at: int | None = None
    rerun_of: str | None = None
    launched: list[str] | None = None
    launched_in: str | None = None
    propagate: bool = False
    run: str | None = None
    trace_flags: str = SAMPLED
    gate: str | None = None
    budget: int | None = None
    bisect: tuple[str, int] | None = None


class Unfinished(Protocol):
    """Something begun whose event is written when it ends: an exchange, a subprocess."""

    def cut_off(self) -> None:
        """Its agent process ends first: write what there is."""


class AgentProcess:
    """One agent process. Its PID and recording are made at the first event, or by `ensure`.

    Every method is safe to call from any thread, from a finalizer, and after a fault.
    """

    def __init__(
        self,
        lineage: Lineage,
        *,
        intent: str,
        role: str,
        on_start: Callable[[AgentProcess], None] | None = None,
    ) -> None:
        self.lineage = lineage
        self.intent = intent
        self.role = role
        self.cast: tuple[Source | None] | None = None  # which recording it replays, once that was asked for
        self.nondet: dict[str, Any] = {}  # what `capture.nondet` keeps about it
        self.asked_by: set[str] = set()  # traces of which it answered requests
        self.over = False  # ended, or left to the parent after a fork: nothing is written any more
        self.os_pid = os.getpid()
        self._on_start = on_start
        self._recorder: Recorder | None = None
        self._failed = False
        self._lock = threading.RLock()
        self._spans = itertools.count(2)  # 1 is the agent span
        self._busy = threading.local()
        self._pending: deque[Callable[[Recorder], None]] = deque()
        self._unfinished: dict[Unfinished, None] = {}
        self._side_files: dict[str, int] = {}
        self._early: list[tuple[str, bytes]] = []

    # --- identity ----------------------------------------------------------------------------------------------------

    @property
    def recorder(self) -> Recorder | None:
        """The recording, once there is one."""
        return self._recorder

    @property
    def pid(self) -> int:
        """The PID, 0 before the first event."""
        return self._recorder.pid if self._recorder is not None else 0

    @property
    def own_span(self) -> str:
        """The short id of the span of the whole process."""
        return "00000001"

    def new_span(self) -> str:
        """A short span id, unique in this process; the recording's `span_base` in front makes it whole."""
        return f"{next(self._spans):08x}"

    def full_span(self, short: str) -> str | None:
        """The 32-character id of a span of this process."""
        base = self._recorder.metadata.span_base if self._recorder is not None else None
        return base + short if base else None

    def traceparent(self, short: str, asked: str | None = None) -> str | None:
        """The W3C `traceparent` of a span of this process; None before there is a recording.

        Args:
            asked: that of the request which is being answered: its trace goes on.
        """
        whole = self.full_span(short)
        if whole is None:
            return None
        remote = parse_traceparent(asked)
        if remote is not None:
            return format_traceparent(remote.trace_id, whole, remote.flags)
        return format_traceparent(self.lineage.trace_id, whole, self.lineage.trace_flags)

    def adopt(self, lineage: Lineage) -> None:
        """Take what the process that started this one says of it later than the environment did."""
        with self._lock:
            if self._recorder is None:
                self.lineage = lineage

    def ensure(self) -> Recorder | None:
        """The recording, made now if need be; None when it could not be made (said once) or is over."""
        if self._recorder is None and not self._failed:
            self.perform(_nothing)
        return None if self.over else self._recorder

    def _start(self) -> Recorder | None:
        with self._lock:
            if self._recorder is None and not self._failed:
                try:
                    recorder = self._make()
                except (UnspoolError, OSError) as exc:
                    self._failed = True
                    guard.note(exc)
                    return None
                self._recorder = recorder
                self.write_state("created", "running", "")
                early, self._early = self._early, []
                for name, line in early:
                    self.append_side(name, line)
                if self._on_start is not None:
                    with guard:
                        self._on_start(self)
        return self._recorder

    def _make(self) -> Recorder:
        store = Store(Path(self.lineage.store)).ensure()
        environment, names = clean_environment(os.environ)
        fields: dict[str, Any] = {
            "parent": self.lineage.parent,
            "parent_pid": self.lineage.parent_pid,
            "root": self.lineage.root,
            "role": self.role,
            "trace_id": self.lineage.trace_id,
            "parent_span_id": self.lineage.parent_span_id,
            "command": own_command(),
            "cwd": _cwd(),
            "python": sys.version.split()[0],
            "unspool": __version__,
            "env": environment,
            "env_names": names,
            "forked_at": self.lineage.forked_at,
            "rerun_of": self.lineage.rerun_of,
            "launched": self.lineage.launched,
            "launched_in": self.lineage.launched_in,
        }
        if self.lineage.forked_at is not None and (edits := _edits_of_fork()):
            fields["extra"] = {"edits": edits}
        if self.lineage.forked_at is not None and self.lineage.bisect is not None:
            fields["extra"] = {**fields.get("extra", {}), "bisect": list(self.lineage.bisect)}
        if self.lineage.run is not None:
            fields["extra"] = {**fields.get("extra", {}), "run": self.lineage.run}
        if self.lineage.budget is not None:
            fields["extra"] = {**fields.get("extra", {}), "budget": self.lineage.budget}
        return Recorder(store.records, store.next_pid(), self.intent, fields=fields)

    def child_lineage(self, parent_span: str | None = None) -> Lineage:
        """What a process started by this one is told about its origin."""
        recorder = self._recorder
        if recorder is None:
            return self.lineage
        return msgspec.structs.replace(
            self.lineage,
            intent=None,
            forked_at=None,
            rerun_of=None,
            replays=self._replays(),
            launched=None,
            launched_in=None,
            parent=recorder.record_id,
            parent_pid=recorder.pid,
            root=self.lineage.root or recorder.record_id,
            parent_span_id=self.full_span(parent_span or self.own_span),
        )

    def _replays(self) -> str | None:
        if self.lineage.rerun is None:
            return None
        source = rerun.source_of(self)
        return source.record_id if source is not None else None

    # --- writing -----------------------------------------------------------------------------------------------------

    def elapsed(self, at_ns: int | None = None) -> int:
        """Nanoseconds since this process' recording began."""
        return self._recorder.elapsed(at_ns) if self._recorder is not None else 0

    def perform(self, action: Callable[[Recorder], None]) -> None:
        """Run `action` on the recorder behind the guard.

        A finalizer may run in the middle of a write of the same thread, which holds the recorder's lock: such an
        action waits until that write is done.
        """
        if self.over or self._failed:
            return
        if getattr(self._busy, "on", False):
            self._pending.append(action)
            return
        self._busy.on = True
        try:
            recorder = self._recorder or self._start()
            if recorder is not None:
                self._drain(recorder)
                _attempt(recorder, action)
                self._drain(recorder)
        finally:
            self._busy.on = False

    def _drain(self, recorder: Recorder) -> None:
        while self._pending:
            try:
                action = self._pending.popleft()
            except IndexError:
                return  # another thread took it
            _attempt(recorder, action)

    def begun(self, item: Unfinished) -> None:
        """Remember what has begun, until `finished` or the end of this process."""
        self._unfinished[item] = None

    def finished(self, item: Unfinished) -> None:
        """It has ended by itself."""
        self._unfinished.pop(item, None)

    def write(self, event: RecordEvent) -> None:
        """Write an event behind the guard."""
        self.perform(lambda recorder: _write(recorder, event))

    def write_state(self, before: str, after: str, reason: str) -> None:
        """Write a transition of this process."""

        def action(recorder: Recorder) -> None:
            recorder.write_event(
                RecordEvent(
                    type=RecordEventType.STATE_CHANGE, seq_num=0, timestamp=recorder.elapsed(), pid=recorder.pid,
                    state=StateChangeData(from_state=before, to_state=after, reason=reason), span_id=self.own_span,
                )
            )  # fmt: skip

        self.perform(action)

    def note_start(self, line: dict[str, Any]) -> None:
        """Append a line to `open.jsonl`: something has begun that will end in an event."""
        self.append_side(OPEN_NAME, encode_json(line) + b"\n")

    def append_side(self, name: str, line: bytes) -> None:
        """Append a whole line to a file beside the events; kept in memory until there is a recording."""
        if self.over:
            return
        if self._recorder is None:
            if not self._failed and len(self._early) < _EARLY_MAX:
                self._early.append((name, line))
            return
        with guard:
            fd = self._side_files.get(name)
            if fd is None:
                with self._lock:
                    fd = self._side_files.get(name)
                    if fd is None:
                        path = self._recorder.record_dir / name
                        fd = open_apart(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                        self._side_files[name] = fd
            os.write(fd, line)

    # --- ending ------------------------------------------------------------------------------------------------------

    def end(self, reason: str = "exited", *, stopped: bool = False) -> None:
        """Close the recording; later events are dropped. Nothing happens the second time."""
        if self.over:
            return
        for item in list(self._unfinished):
            with guard:
                item.cut_off()
        self._unfinished.clear()
        recorder = self._recorder
        if recorder is None:
            self.over = True
            return
        self.write_state("running", "dead", reason)
        self.over = True
        self._drain(recorder)
        with guard:
            recorder.note_packages(library_versions())
        with guard:
            if stopped:
                recorder.stop()
            else:
                recorder.close()
        self._close_side_files()

    def abandon(self) -> None:
        """After fork, in the child: this process belongs to the parent."""
        self.over = True
        self._lock = threading.RLock()  # the old one may be held by a thread that does not exist here
        self._pending.clear()
        self._unfinished.clear()
        self._close_side_files()

    def _close_side_files(self) -> None:
        for fd in self._side_files.values():
            with guard:
                os.close(fd)
        self._side_files.clear()


def _edits_of_fork() -> dict[str, Any]:
    """What the fork under way changes, in short: `unspool log` shows it."""
    stage = rerun.stage()
    edits = stage.plan.edits if stage is not None else None
    if not edits:
        return {}
    found = {name: edits[name] for name in ("set_system", "model", "params", "changes") if edits.get(name)}
    if edits.get("response") is not None:
        found["response"] = True  # the whole answer is in the recording
    return found


def _cwd() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return None


def _nothing(recorder: Recorder) -> None:
    """The action of `ensure`: the recorder exists when it runs."""


def _attempt(recorder: Recorder, action: Callable[[Recorder], None]) -> None:
    try:
        action(recorder)
    except UnspoolError as exc:
        guard.note(exc)  # counted by the recorder
    except Exception as exc:  # noqa: BLE001 - the edge to the agent
        recorder.note_lost()
        guard.note(exc)


def _write(recorder: Recorder, event: RecordEvent) -> None:
    event.pid = recorder.pid
    recorder.write_event(event)
