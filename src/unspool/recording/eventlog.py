"""Random access to `events.jsonl` without holding it in memory: an array of line offsets, decoded on demand.

A file whose lines number their events 1, 2, 3 … needs nothing else; that is checked on the last line when opening and
on every line when it is decoded. As soon as anything does not fit (a damaged line, a gap, a repeated number, a file
the reference wrote out of order) every line is decoded once and a table of the good ones is kept instead.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left
from itertools import accumulate

import msgspec

from unspool.events import RecordEvent
from unspool.recording.lines import decode_event

__all__ = ["Damage", "EventLog"]

_CHUNK = 1 << 20
_VERIFY_MAX = 16 << 20  # files up to this size are verified whole when opened


class Damage(msgspec.Struct, frozen=True):
    """Something in a recording that could not be read: where, and why. `line` counts from 1, 0 for a whole file."""

    file: str
    line: int
    offset: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}" if self.line else f"{self.file}: {self.reason}"


class EventLog:
    """The lines of an event file, which may be growing.

    Args:
        path: the file.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.name = os.path.basename(self.path)
        self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self._starts = array("Q")  # offset of each whole line
        self._end = 0  # offset after the last whole line
        self._torn = False
        self._table: list[tuple[int, int]] | None = None  # (seq_num, line index), sorted; None while lines are 1, 2, 3 …
        self._verified = 0  # lines decoded at least once
        self.damage: list[Damage] = []
        self.refresh()
        if self._end <= _VERIFY_MAX or not self._last_line_fits():
            self.verify()

    def close(self) -> None:
        """Close the file. The log cannot be read afterwards."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            os.close(self._fd)
            self._fd = -1

    # --- size --------------------------------------------------------------------------------------------------------

    def refresh(self) -> int:
        """Find lines that came since; gives how many. A last line without its newline is left for later."""
        before = len(self._starts)
        rest = 0
        offset = self._end
        starts = self._starts
        while chunk := os.pread(self._fd, _CHUNK, offset + rest):
            sizes = [len(line) + 1 for line in chunk.split(b"\n")]
            tail = sizes.pop() - 1
            if not sizes:
                rest += len(chunk)
                continue
            sizes[0] += rest
            starts.append(offset)
            ends = list(accumulate(sizes, initial=offset))
            starts.extend(ends[1:-1])
            offset = ends[-1]
            rest = tail
        self._end = offset
        self._torn = rest > 0
        new = len(starts) - before
        if new and self._table is not None:
            self._decode_lines(before)
        return new

    @property
    def torn_tail(self) -> bool:
        """Whether the file ends in the middle of a line."""
        return self._torn

    def __len__(self) -> int:
        return len(self._starts) if self._table is None else len(self._table)

    def last_seq(self) -> int:
        """The highest number, 0 without events."""
        if self._table is None:
            return len(self._starts)
        return self._table[-1][0] if self._table else 0

    # --- access ------------------------------------------------------------------------------------------------------

    def line(self, index: int) -> bytes:
        """The bytes of the index-th line of the file, from 0, without its newline."""
        start = self._starts[index]
        end = self._starts[index + 1] if index + 1 < len(self._starts) else self._end
        return os.pread(self._fd, end - start - 1, start)

    def at(self, position: int) -> RecordEvent:
        """The event at a position, from 0. Values are as on disk.

        Raises:
            IndexError: there is none.
        """
        if position < 0 or position >= len(self):
            raise IndexError(position)
        if self._table is None:
            try:
                event = decode_event(self.line(position))
            except ValueError:
                event = None
            if event is not None and event.seq_num == position + 1:
                return event
            self.verify()
            return self.at(position)
        return decode_event(self.line(self._table[position][1]))

    def index_of(self, seq_num: int) -> int | None:
        """The position of the event with this number, None if there is none."""
        if self._table is None:
            if not 1 <= seq_num <= len(self._starts):
                return None
            self.at(seq_num - 1)  # finds out about damage before a wrong position is given
            if self._table is None:
                return seq_num - 1
        found = bisect_left(self._table, (seq_num, -1))
        if found < len(self._table) and self._table[found][0] == seq_num:
            return found
        return None

    def range(self, first: int, last: int) -> range:
        """Positions of the events numbered `first` to `last`, both included."""
        if self._table is None:
            return range(max(first, 1) - 1, min(last, len(self._starts)))
        return range(bisect_left(self._table, (first, -1)), bisect_left(self._table, (last + 1, -1)))

    # --- doubt -------------------------------------------------------------------------------------------------------

    def _last_line_fits(self) -> bool:
        if not self._starts:
            return True
        try:
            return decode_event(self.line(len(self._starts) - 1)).seq_num == len(self._starts)
        except ValueError:
            return False

    def verify(self) -> list[Damage]:
        """Decode every line once; gives the damage. Lines found good are not decoded again by a later call."""
        if self._table is None:
            start = self._verified
            for index in range(start, len(self._starts)):
                try:
                    fits = decode_event(self.line(index)).seq_num == index + 1
                except ValueError:
                    fits = False
                if not fits:
                    self._table = [(number, number - 1) for number in range(1, index + 1)]
                    self._decode_lines(index)
                    break
            self._verified = len(self._starts)
        return self.damage

    def _decode_lines(self, first: int) -> None:
        table = self._table
        assert table is not None
        seen = {seq for seq, _ in table}
        highest = table[-1][0] if table else 0
        in_order = True
        for index in range(first, len(self._starts)):
            line = self.line(index)
            if not line.strip():
                continue
            try:
                seq = decode_event(line).seq_num
            except ValueError as exc:
                self._note(index, f"not an event: {exc}")
                continue
            if seq < 1:
                self._note(index, f"event number {seq} is below 1")
                continue
            if seq in seen:
                self._note(index, f"event number {seq} appears again")
                continue
            seen.add(seq)
            in_order = in_order and seq > highest
            highest = max(highest, seq)
            table.append((seq, index))
        if not in_order:
            table.sort()
        self._verified = len(self._starts)

    def _note(self, index: int, reason: str) -> None:
        self.damage.append(Damage(file=self.name, line=index + 1, offset=self._starts[index], reason=reason))
