"""The values a recorded program read from the clock and from random sources, to be given out once more.

Each place of the program has a queue of its own for each kind of value and each task, so tasks that run at the same
time get their own values in their own order. Places are found again by the text of their line: in an edited program a
line that moved keeps its values, a line that was rewritten takes those of lines that are no more, in recorded order,
and a new line gets none. No value is ever given for one of another kind, size or task.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec

from unspool.capture.sourcelines import marks_of, where_now

__all__ = ["NoValueError", "Pins", "Reading", "read_lines"]


class Reading(msgspec.Struct, omit_defaults=True):
    """A line of `nondet.jsonl`.

    Attributes:
        k: what was read.
        t: the task that read it.
        v: the value.
        at: `file:line` of the code that read; None for the state of a generator no line read.
        s: mark of that line's text (`unspool.capture.sourcelines`), on the first line of a place only.
    """

    k: str
    t: str
    v: Any = None
    at: str | None = None
    s: int | None = None


class NoValueError(LookupError):
    """The recording has no value, or no more, for a read; the message says why."""


class _Want(NamedTuple):
    """What a value must be to be given: its kind, its size if it has one, and the task."""

    kind: str
    size: int | None
    task: str


class _File:
    """What was read by the lines of one source file."""

    def __init__(self) -> None:
        self.marks: dict[int, int | None] = {}
        self.queues: dict[tuple[_Want, int], deque[tuple[int, Any]]] = {}
        self.recorded_line: dict[int, int] = {}  # by present line
        self.left_over: dict[_Want, deque[tuple[int, Any]]] = {}  # of lines that are no more
        self.aligned = False

    def align(self, marks: list[int] | None) -> None:
        self.recorded_line = where_now(self.marks, marks)
        found = set(self.recorded_line.values())
        gone: dict[_Want, list[tuple[int, Any]]] = {}
        for (want, line), queue in self.queues.items():
            if line not in found:
                gone.setdefault(want, []).extend(queue)
        self.left_over = {want: deque(sorted(values, key=_order)) for want, values in gone.items()}
        self.aligned = True


def _order(entry: tuple[int, Any]) -> int:
    return entry[0]


class Pins:
    """The values of one recording. Safe to use from several threads.

    Args:
        readings: the lines of its `nondet.jsonl`, in order.
        marks: gives the marks of a present source file.
    """

    def __init__(self, readings: Iterable[Reading], marks: Callable[[str], list[int] | None] = marks_of) -> None:
        self._marks_of = marks
        self._lock = threading.Lock()
        self._files: dict[str, _File] = {}
        self._paths: dict[str, str] = {}  # where each file was when it was recorded
        self._states: dict[str, tuple[str, Any]] = {}
        self._tasks: set[str] = set()
        self._kinds: set[str] = set()
        for number, reading in enumerate(readings):
            self._add(number, reading)

    def _add(self, number: int, reading: Reading) -> None:
        self._tasks.add(reading.t)
        self._kinds.add(reading.k)
        name, _, line_text = (reading.at or "").rpartition(":")
        if not line_text.isdecimal():
            self._states.setdefault(reading.k, (reading.t, reading.v))
            return
        key, line = file_key(name), int(line_text)
        file = self._files.get(key)
        if file is None:
            file = self._files[key] = _File()
            self._paths[key] = name
        if reading.s is not None or line not in file.marks:
            file.marks[line] = reading.s
        want = _Want(reading.k, _size(reading.k, reading.v), reading.t)
        file.queues.setdefault((want, line), deque()).append((number, reading.v))

    def holds(self, *kinds: str) -> bool:
        """Whether any value of these kinds was recorded."""
        return not self._kinds.isdisjoint(kinds)

    def state(self, kind: str) -> tuple[str, Any] | None:
        """Task and value of a state that no line of the program read, None if there is none. It stays."""
        return self._states.get(kind)

    def take(self, kind: str, task: str, filename: str, line: int, size: int | None = None) -> Any:
        """The next value for a read at this place of the present program.

        Args:
            size: what the value must measure, for kinds that have a size: bytes of `urandom`, bits of `random.bits`.

        Raises:
            NoValueError: there is none; the read has to be real.
        """
        file = self._file(filename)
        want = _Want(kind, size, task)
        if file is None:
            raise NoValueError("the recording holds no read in this file")
        recorded = file.recorded_line.get(line)
        if recorded is None:
            value = _next(file.left_over.get(want))
            if value is None:
                raise NoValueError("the recording holds no read at this line: it is new, or was rewritten")
            return value[1]
        queue = file.queues.get((want, recorded))
        value = _next(queue)
        if value is not None:
            return value[1]
        if queue is not None:
            raise NoValueError("this line reads more often than it did in the recording")
        if task not in self._tasks:
            raise NoValueError(f"the recording holds no read of task {task}")
        raise NoValueError(f"in the recording, task {task} read no such value at this line")

    def _file(self, filename: str) -> _File | None:
        key = file_key(filename)
        file = self._files.get(key)
        if file is not None and file.aligned:
            return file
        with self._lock:
            if file is None:
                file = self._renamed(key)
                if file is None:
                    return None
                self._files[key] = file
            if not file.aligned:
                file.align(self._marks_of(filename))
        return file

    def _renamed(self, key: str) -> _File | None:
        """The file of the same name that was elsewhere and is not there any more; None unless it is the only one."""
        name = os.path.basename(key)
        found = [
            file
            for known, file in self._files.items()
            if not file.aligned and os.path.basename(known) == name and self._marks_of(self._paths[known]) is None
        ]
        return found[0] if len(found) == 1 and not name.startswith("<") else None


def _next(queue: deque[tuple[int, Any]] | None) -> tuple[int, Any] | None:
    if not queue:
        return None
    try:
        return queue.popleft()
    except IndexError:  # another thread of the same task took the last one
        return None


_LIBRARY_FOLDERS = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))
_keys: dict[str, str] = {}


def file_key(filename: str) -> str:
    """What a source file is known by: libraries by their path below `site-packages`, wherever that is."""
    key = _keys.get(filename)
    if key is None:
        key = filename
        for folder in _LIBRARY_FOLDERS:
            key = key.rpartition(folder)[2]
        _keys[filename] = key
    return key


def _size(kind: str, value: Any) -> int | None:
    if kind == "urandom" and isinstance(value, str):
        return len(value) // 2
    if kind == "random.bits" and isinstance(value, list) and value and isinstance(value[0], int):
        return value[0]
    return None


def read_lines(data: bytes) -> tuple[list[Reading], int]:
    """The lines of a `nondet.jsonl`, and how many could not be read; a torn last line does not count."""
    decode = msgspec.json.Decoder(Reading).decode
    readings, damaged = [], 0
    for line in data.split(b"\n")[:-1]:
        try:
            readings.append(decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError):
            damaged += 1
    return readings, damaged
