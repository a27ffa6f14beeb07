"""Lines of source code known by their text, so that a place is found again after the program was edited.

A line's mark is the check sum of its text without the blanks around it: nothing of the source goes into a recording.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

from unspool.capture.flow import quiet

__all__ = ["mark_of", "marks_of", "where_now"]

_SIZE_MAX = 8 << 20  # a larger source is generated; its places are known by their numbers only

_files: dict[str, list[int] | None] = {}


def marks_of(filename: str) -> list[int] | None:
    """The marks of a file's lines, the first line's first; None if it cannot be read."""
    if filename not in _files:
        _files[filename] = _read(filename)
    return _files[filename]


def mark_of(filename: str, line: int) -> int | None:
    """The mark of one line, counted from 1; None if there is no such line."""
    marks = marks_of(filename)
    return marks[line - 1] if marks is not None and 0 < line <= len(marks) else None


def _read(filename: str) -> list[int] | None:
    if filename.startswith("<"):
        return None
    try:
        with quiet(), open(filename, "rb") as file:
            data = file.read(_SIZE_MAX + 1)
    except (OSError, ValueError):  # gone, inside an archive, or no name of a file
        return None
    if len(data) > _SIZE_MAX:
        return None
    return [zlib.crc32(line.strip()) for line in data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")]


def where_now(recorded: Mapping[int, int | None], marks: Sequence[int] | None) -> dict[int, int]:
    """Which line of the present file is which recorded one: present line to recorded line.

    A recorded line that is in nobody's place was edited or removed. Lines of the same text keep their order; one that
    is the only one of its text is found wherever it went.

    Args:
        recorded: marks of recorded lines by their number; None where the source was not known.
        marks: of the present file's lines; None if it cannot be read, when only lines without a mark keep their place.
    """
    now = {line: line for line, mark in recorded.items() if mark is None}
    known = sorted((line, mark) for line, mark in recorded.items() if mark is not None)
    if marks is None or not known:
        return now
    if all(line <= len(marks) and marks[line - 1] == mark for line, mark in known):
        return {line: line for line in recorded}
    lines_of: dict[int, list[int]] = {}
    for line, mark in known:
        lines_of.setdefault(mark, []).append(line)
    places_of: dict[int, list[int]] = {mark: [] for mark in lines_of}
    for number, mark in enumerate(marks, 1):
        if mark in places_of:
            places_of[mark].append(number)
    many = {mark for mark in lines_of if len(lines_of[mark]) > 1 or len(places_of[mark]) > 1}
    for mark in lines_of.keys() - many:
        for number in places_of[mark]:
            now[number] = lines_of[mark][0]
    if many:
        now |= _in_order(
            [one for one in known if one[1] in many], [one for one in enumerate(marks, 1) if one[1] in many]
        )
    return now


def _in_order(known: list[tuple[int, int]], present: list[tuple[int, int]]) -> dict[int, int]:
    """Align lines whose text does not tell them apart."""
    from difflib import SequenceMatcher

    matcher = SequenceMatcher(None, [mark for _, mark in known], [mark for _, mark in present], autojunk=False)
    return {
        present[new + step][0]: known[old + step][0]
        for old, new, size in matcher.get_matching_blocks()
        for step in range(size)
    }
