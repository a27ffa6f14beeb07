"""What the agent's code reads from the clock and from random sources: noted in `nondet.jsonl`, given again in a rerun.

Only reads by the agent and its libraries count, not those of the interpreter or of HTTP clients. In a recording nothing
the agent sees changes: values are taken as they pass. In a rerun a read gets the value that the same task got at the
same place, as long as the recording holds one; then it is real, and the rerun's report says so.

A line: `k` what was read, `t` the task, `at` file:line, `s` mark of that line's text, `v` the value.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from unspool.capture import rerun
from unspool.capture.flow import QUIET, Flow, current_flow, quiet
from unspool.capture.guard import guard
from unspool.capture.pins import NoValueError, Pins, read_lines
from unspool.capture.places import AGENT, LIBRARY, STDLIB, caller, kind_of
from unspool.capture.process import NONDET_NAME, AgentProcess
from unspool.capture.sourcelines import mark_of
from unspool.serving.journal import Entry

if TYPE_CHECKING:
    pass

__all__ = ["is_pinned", "is_reading", "not_given", "note_state", "pins_of", "read", "reading"]

_LINES_MAX = (
    200_000  # a loop that polls the clock must not fill the disk; draws beyond are real in a rerun, and reported
)
_TRANSPORT = re.compile(
    r"[\\/](?:httpx2?|httpcore2?|h11|h2|urllib3|aiohttp|requests|anyio|trio|certifi|websockets|botocore|grpc|opentelemetry)[\\/]"
    # The SDKs' own HTTP layer: idempotency keys and retry jitter, which no request body holds.
    r"|[\\/]_base_client\.py$"
)
# Pass through to the caller behind: these draw for whoever called them.
_DRAWS_FOR_OTHERS = ("secrets.py", "random.py", "uuid.py", os.path.join("logging", "__init__.py"))
_OURS = tuple(
    os.path.join(os.path.dirname(__file__), name) for name in ("nondet.py", "clocks.py", "chance.py", "draws.py")
)

_busy = threading.local()
_encode = msgspec.json.Encoder().encode
_transport_files: dict[str, bool] = {}
_V = TypeVar("_V")
_NOTHING: Any = object()
_Place = tuple[str, int]  # file and line of code


class _Side:
    """What this module knows of one agent process."""

    def __init__(self) -> None:
        self.lines = 0  # written
        self.marked: set[_Place] = set()
        self.told: set[tuple[str, object]] = set()
        self.lock = threading.Lock()
        self.pins: Pins | None = None
        self.source: str | None = None
        self.is_loaded = False


def _side_of(process: AgentProcess) -> _Side:
    side: _Side | None = process.nondet.get("side")
    if side is None:
        side = process.nondet.setdefault("side", _Side())  # two threads may read for the first time
    return side


# --- one read --------------------------------------------------------------------------------------------------------


class reading:
    """Inside this block of this thread nothing counts as a read: it is part of one, or our own."""

    __slots__ = ("_outer",)

    def __enter__(self) -> None:
        self._outer = getattr(_busy, "on", False)
        _busy.on = True

    def __exit__(self, *exc: object) -> None:
        _busy.on = self._outer


def is_reading() -> bool:
    """Whether this thread is inside such a block."""
    return getattr(_busy, "on", False)


def read(
    kind: str,
    real: Callable[[], _V],
    pack: Callable[[_V], Any] | None = None,
    unpack: Callable[[Any], _V] | None = None,
    size: int | None = None,
) -> _V:
    """A value for the code that called our replacement: the recorded one in a rerun, else that of `real`.

    Args:
        kind: what is read.
        pack: makes the noted form of a value; None notes it as it is. If it gives None, nothing is noted.
        unpack: makes a value of its noted form; any exception means that it does not fit.
        size: what a recorded value must measure to fit.
    """
    if getattr(_busy, "on", False) or QUIET.get():
        return real()
    flow = current_flow()
    if flow is None:
        return real()
    _busy.on = True  # `date.today` reads `time.time`, `uuid4` draws from `os.urandom`: the same read
    try:
        place = _reader()
        if place is None:
            return real()
        recorded: Any = _NOTHING
        if is_pinned():
            with guard:
                recorded = _recorded(kind, flow, place, unpack, size)
        value: _V = real() if recorded is _NOTHING else recorded
        with guard:
            _note(kind, flow, place, value if pack is None else pack(value))
        return value
    finally:
        _busy.on = False


def _reader() -> _Place | None:
    """The line of code that read, None if it is not the agent's or a library's."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        filename = frame.f_code.co_filename
        kind = kind_of(filename)
        if kind == AGENT:
            return filename, frame.f_lineno
        if kind == LIBRARY:
            known = _transport_files.get(filename)
            if known is None:
                known = _transport_files[filename] = bool(_TRANSPORT.search(filename))
            return None if known else (filename, frame.f_lineno)
        if filename in _OURS or (kind == STDLIB and filename.endswith(_DRAWS_FOR_OTHERS)):
            frame = frame.f_back
            continue
        return None
    return None


def _note(kind: str, flow: Flow, place: _Place, value: Any) -> None:
    side = _side_of(flow.process)
    if value is None or side.lines >= _LINES_MAX:
        return
    side.lines += 1
    line = {"k": kind, "t": flow.place, "at": f"{place[0]}:{place[1]}", "v": value}
    if place not in side.marked:
        side.marked.add(place)
        if (mark := mark_of(*place)) is not None:
            line["s"] = mark
    flow.process.append_side(NONDET_NAME, _encode(line) + b"\n")


def note_state(kind: str, process: AgentProcess, task: str, value: Any) -> None:
    """Write a state that no line of the agent's code read, but all of its later draws depend on."""
    process.append_side(NONDET_NAME, _encode({"k": kind, "t": task, "v": value}) + b"\n")


# --- in a rerun ------------------------------------------------------------------------------------------------------


def is_pinned() -> bool:
    """Whether reads are given recorded values now: in a rerun, up to where a fork leaves its recording."""
    stage = rerun.stage()
    return stage is not None and stage.plan.pin and not stage.reached


def pins_of(process: AgentProcess) -> Pins | None:
    """The recorded values for a process of a rerun, None if its recording is not known."""
    side = _side_of(process)
    if not side.is_loaded:
        with side.lock:
            if not side.is_loaded:
                side.pins = _load(process, side)
                side.is_loaded = True
    return side.pins


def _load(process: AgentProcess, side: _Side) -> Pins | None:
    with guard, quiet():
        source = rerun.source_of(process)
        if source is None:
            # Once for all reads: a helper process that never did anything worth a recording reads the clock, too.
            _tell(side, "process", None, "the recording holds no such process: its clock and random reads are real")
            return None
        side.source = source.record_id
        try:
            data = (Path(source.path) / NONDET_NAME).read_bytes()
        except FileNotFoundError:
            data = b""  # it read nothing
        readings, damaged = read_lines(data)
        if damaged:
            _tell(side, "nondet.jsonl", None, f"{damaged} damaged lines of the recording's {NONDET_NAME} were left out")
        return Pins(readings)
    return None


def _recorded(kind: str, flow: Flow, place: _Place, unpack: Callable[[Any], Any] | None, size: int | None) -> Any:
    pins, side = pins_of(flow.process), _side_of(flow.process)
    if pins is None:
        return _NOTHING
    try:
        value = pins.take(kind, flow.place, place[0], place[1], size)
    except NoValueError as reason:
        _tell(side, kind, flow, str(reason), place)
        return _NOTHING
    if unpack is None:
        return value
    try:
        return unpack(value)
    except Exception as error:  # noqa: BLE001 - a class of the agent, or a damaged value
        why = f"the recorded value cannot be made again ({type(error).__name__}: {error})"
        _tell(side, kind, flow, why, place)
        return _NOTHING


def not_given(kind: str, flow: Flow, reason: str) -> None:
    """Report a state that could not be restored."""
    _tell(_side_of(flow.process), kind, flow, reason)


def _tell(side: _Side, kind: str, flow: Flow | None, reason: str, place: _Place | None = None) -> None:
    """Report a read that could not be given its value, each place of a kind once."""
    stage = rerun.stage()
    if stage is None or (kind, place) in side.told:
        return
    side.told.add((kind, place))
    at = caller()
    if place is not None and (at is None or kind_of(place[0]) != AGENT):
        at = f"{place[0]}:{place[1]}"  # a library's own read
    stage.journal.write(
        Entry(
            kind="pin",
            os_pid=os.getpid(),
            record_id=side.source,
            path=kind,
            task=flow.path if flow is not None else None,
            at=at,
            reason=reason,
        )
    )
