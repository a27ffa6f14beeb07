"""Random access to `events.jsonl` without holding it in memory: an array of line offsets, decoded on demand.

A file whose lines number their events 1, 2, 3 … needs nothing else; that is checked on the last line when opening and
on every line when it is decoded. As soon as anything does not fit (a damaged line, a gap, a repeated number, lines out
of order) every line is decoded once and an index of the good ones is kept instead.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import accumulate

from unspool.events import RecordEvent, RecordEventType
from unspool.recording.damage import Damage
from unspool.recording.lines import decode_event

__all__ = ["EVENTS_NAME", "EventLog", "missing_events"]

EVENTS_NAME = "events.jsonl"
_CHUNK = 1 << 20
_VERIFY_MAX = 16 << 20  # files up to this size are verified whole when opened
_SEQ_MAX = (1 << 64) - 1


class EventLog:
    """The lines of an event file, which may be growing.

    Args:
        path: the file.

    Raises:
        OSError: it cannot be opened or read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self._starts = array("Q")  # offset of each whole line
        self._end = 0  # offset after the last whole line
        self._size = 0  # of the file when it was last looked at
        self._unended = False  # the last line is whole but for its newline
        self._verified = 0  # lines known to be good while there is no index
        self._index: _Index | None = None
        self.refresh()
        if self._end <= _VERIFY_MAX or not self._fits(len(self._starts) - 1):
            self.verify()

    def close(self) -> None:
        """Close the file. The log cannot be read afterwards."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()

    # --- size --------------------------------------------------------------------------------------------------------

    def refresh(self) -> int:
        """Find lines that came since; gives how many. A last line without its newline counts if it is an event."""
        before = len(self._starts)
        if self._unended and os.pread(self._fd, 1, self._end) == b"\n":
            self._end += 1
            self._unended = False
        offset = cursor = self._end
        while chunk := os.pread(self._fd, _CHUNK, cursor):
            sizes = [len(line) + 1 for line in chunk.split(b"\n")]
            del sizes[-1]  # of a line that goes on in the next chunk
            if sizes:
                sizes[0] += cursor - offset  # what the chunks before began
                self._starts.append(offset)
                ends = list(accumulate(sizes, initial=offset))
                self._starts.extend(ends[1:-1])
                offset = ends[-1]
            cursor += len(chunk)
        if cursor > offset and not self._unended and self._is_event(offset, cursor):
            self._starts.append(offset)
            offset, self._unended = cursor, True
        self._end, self._size = offset, cursor
        if self._index is not None and len(self._starts) > before:
            self._extend_index()
        return len(self._starts) - before

    def _is_event(self, start: int, end: int) -> bool:
        if os.pread(self._fd, 1, end - 1) != b"}":  # saves reading a long line that is still being written
            return False
        try:
            decode_event(os.pread(self._fd, end - start, start))
        except ValueError:
            return False
        return True

    @property
    def torn(self) -> Damage | None:
        """The last line, if the file ends in the middle of it."""
        if self._size <= self._end:
            return None
        return Damage(EVENTS_NAME, len(self._starts) + 1, self._end, "the last line is torn; it was dropped")

    def __len__(self) -> int:
        return len(self._starts) if self._index is None else len(self._index.lines)

    def last_seq(self) -> int:
        """The highest number, 0 without events."""
        if self._index is None:
            return len(self._starts)
        return self._index.numbers[-1] if self._index.numbers else 0

    # --- access ------------------------------------------------------------------------------------------------------

    def at(self, position: int) -> RecordEvent:
        """The event at a position, from 0. Values are as on disk.

        Finding the first damage of a large file moves the events after it forward; see `scan`.

        Raises:
            IndexError: there is none.
        """
        if position < 0 or position >= len(self):
            raise IndexError(position)
        if self._index is None:
            try:
                event = decode_event(self._line(position))
            except ValueError:
                event = None
            if event is not None and event.seq_num == position + 1:
                return event
            self.verify()
            return self.at(position)
        return decode_event(self._line(self._index.lines[position]))

    def line_number(self, position: int) -> int:
        """The line, from 1, of the event at a position, which exists."""
        return (position if self._index is None else self._index.lines[position]) + 1

    def offset(self, line_number: int) -> int:
        """Where a line begins."""
        return self._starts[line_number - 1]

    def index_of(self, seq_num: int) -> int | None:
        """The position of the event with this number, None if there is none."""
        if self._index is None:
            if not 1 <= seq_num <= len(self._starts):
                return None
            self.at(seq_num - 1)  # finds out about damage before a wrong position is given
            if self._index is None:
                return seq_num - 1
        found = bisect_left(self._index.numbers, seq_num)
        return found if found < len(self._index.numbers) and self._index.numbers[found] == seq_num else None

    def scan(self, start: int = 0) -> Iterator[tuple[int, RecordEvent]]:
        """Positions and events from a position on, in order; each once, also when damage is found or lines come."""
        position = start
        counting = self._index is None  # as long as it is, position p holds number p + 1
        while True:
            if counting and self._index is not None:
                position, counting = bisect_left(self._index.numbers, position + 1), False
            if position >= len(self):
                return
            event = self.at(position)
            if counting and self._index is not None:
                continue
            yield position, event
            position += 1

    def between(self, first: int, last: int) -> Iterator[RecordEvent]:
        """The events numbered `first` to `last`, both included."""
        first = max(first, 1)
        start = first - 1 if self._index is None else bisect_left(self._index.numbers, first)
        for _, event in self.scan(start):
            if event.seq_num > last:
                return
            yield event

    def positions_of(self, kind: RecordEventType) -> array[int] | None:
        """Positions of the events of one kind, found by how their lines begin, without decoding any.

        None where lines are damaged or out of order. Lines of other programs, which may begin otherwise, are not found.
        """
        if self._index is not None:
            return None
        head = b'\n{"type":"%b"' % kind.value.encode("ascii")
        found = array("Q", [0] if os.pread(self._fd, len(head) - 1, 0) == head[1:] else [])
        cursor = 0
        while cursor < self._end and (chunk := os.pread(self._fd, _CHUNK + len(head) - 1, cursor)):
            at = chunk.find(head)
            while at >= 0:
                position = bisect_left(self._starts, cursor + at + 1)
                if position < len(self._starts):
                    found.append(position)
                at = chunk.find(head, at + 1)
            cursor += _CHUNK
        return found

    def _line(self, index: int) -> bytes:
        start = self._starts[index]
        end = self._starts[index + 1] if index + 1 < len(self._starts) else self._end
        return os.pread(self._fd, end - start, start).removesuffix(b"\n")

    # --- doubt -------------------------------------------------------------------------------------------------------

    def _fits(self, index: int) -> bool:
        """Whether a line has the number that its place gives it."""
        if index < 0:
            return True
        try:
            return decode_event(self._line(index)).seq_num == index + 1
        except ValueError:
            return False

    @property
    def damage(self) -> list[Damage]:
        """The damage that was met so far, without the torn last line."""
        return self._index.damage if self._index is not None else []

    def verify(self) -> None:
        """Decode every line that was not decoded by an earlier call."""
        if self._index is None:
            while self._verified < len(self._starts):
                if not self._fits(self._verified):
                    self._index = _Index(self._verified)
                    self._extend_index()
                    break
                self._verified += 1

    def _extend_index(self) -> None:
        assert self._index is not None
        for line in range(self._index.known, len(self._starts)):
            data = self._line(line)
            if not data.strip():
                self._index.add(0, None)
                continue
            try:
                number = decode_event(data).seq_num
                reason = None if 1 <= number <= _SEQ_MAX else f"event number {number} is out of range"
            except ValueError as exc:
                number, reason = 0, f"not an event: {exc}"
            self._index.add(0 if reason else number, reason)
        self._index.settle(self._starts)


class _Index:
    """Which lines hold which numbers, for a file that does not simply count.

    `numbers` and `lines` (from 0) have one entry an event, in the order of numbers.
    """

    def __init__(self, good: int) -> None:
        self._by_line = array("Q", range(1, good + 1))  # number of each line, 0 for none
        self._reasons: dict[int, str] = {}
        self.numbers = array("Q")
        self.lines = array("Q")
        self.damage: list[Damage] = []

    @property
    def known(self) -> int:
        """How many lines were added."""
        return len(self._by_line)

    def add(self, number: int, reason: str | None) -> None:
        """Note the next line: its number, 0 if it has none, and what is wrong with it."""
        if reason is not None:
            self._reasons[len(self._by_line)] = reason
        self._by_line.append(number)

    def settle(self, starts: array[int]) -> None:
        """Put the lines in order and list the damage; each number is given to one line."""
        by_line = self._by_line
        lines = [line for line, number in enumerate(by_line) if number]
        lines.sort(key=by_line.__getitem__)  # stable
        chosen: list[int] = []
        reasons = dict(self._reasons)
        for line in lines:
            if chosen and by_line[chosen[-1]] == by_line[line]:
                # A damaged number may have become that of an undamaged line: the one with its neighbours is right.
                loser = line
                if self._has_neighbour(line) and not self._has_neighbour(chosen[-1]):
                    loser, chosen[-1] = chosen[-1], line
                reasons[loser] = f"event number {by_line[line]} appears again"
            else:
                chosen.append(line)
        self.lines = array("Q", chosen)
        self.numbers = array("Q", (by_line[line] for line in chosen))
        damage = {line: Damage(EVENTS_NAME, line + 1, starts[line], reason) for line, reason in reasons.items()}
        for line, reason in self._gaps(sorted(reasons)):
            damage.setdefault(line, Damage(EVENTS_NAME, line + 1, starts[line], reason))
        self.damage = [damage[line] for line in sorted(damage)]

    def _has_neighbour(self, line: int) -> bool:
        number = self._by_line[line]
        before = line > 0 and self._by_line[line - 1] == number - 1
        return before or (line + 1 < len(self._by_line) and self._by_line[line + 1] == number + 1)

    def _gaps(self, damaged: list[int]) -> Iterator[tuple[int, str]]:
        """Numbers that no line has, beyond what the damaged lines in that place explain."""
        last_number, last_line = 0, -1
        for number, line in zip(self.numbers, self.lines, strict=True):
            if number > last_number + 1:
                explained = bisect_left(damaged, line) - bisect_right(damaged, last_line) if line > last_line else 0
                if number - last_number - 1 > explained:
                    yield line, f"{missing_events(last_number + 1, number - 1)} before this line"
            last_number, last_line = number, line


def missing_events(first: int, last: int) -> str:
    """In words: the events numbered `first` to `last` are missing."""
    return f"event {first} is missing" if first == last else f"events {first} to {last} are missing"
