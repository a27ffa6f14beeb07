"""Bodies of responses as templates and values: a provider's envelope is stored once, however many answers come in it.

Two texts with the same JSON punctuation and keys have the same shape. From the second text of a shape on, what differed
between them becomes the gaps of a template, and a text is that template and its values. A template is found again by
matching, so what comes in a known envelope is neither parsed nor cut. The events of a stream are texts of their own.

Whatever is taken for a shape or a gap, the parts joined are the bytes that came.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from unspool.recording.poolwriter import STRING_MIN, Item, PoolWriter

__all__ = ["Templates"]

_TEXT_MAX = 256 << 10  # longer texts are not looked at
_RECENT = 12  # templates tried
_SHAPES_MAX = 64  # shapes remembered
_MADE_MAX = 6  # templates made of one shape; after that it is stored as it comes
_VALUES_MAX = 400  # of a text that is looked at: one with more is data, no envelope
_GAPS_MAX = 64
_STREAM_STRING_MIN = 512  # strings in a stream at least this long are entries: a whole answer, not a piece of one
_LEARN_MAX = 400  # texts of one stream that may be taken apart; each costs what ten matches cost

_OPEN_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+'
_NO_STRING = rb"-?[0-9][0-9.eE+-]*+|true|false|null"
_GAP = re.compile(_OPEN_STRING + b'"|' + _NO_STRING, re.DOTALL)
# A key is a token too, and so is a string that does not end: looking for others inside it would take quadratic time.
_TOKEN = re.compile(b"(" + _OPEN_STRING + b'("?)|' + _NO_STRING + rb")([ \t]*+:)?", re.DOTALL)
_INSIDE = re.compile(_OPEN_STRING[1:], re.DOTALL)  # of a string whose beginning is part of the template
_ID = re.compile(rb'("[A-Za-z]{2,12}[-_])[A-Za-z0-9_-]{12,}"')
_BREAK = re.compile(rb"\r?\n\r?\n")  # between the events of a stream
_CANONICAL = re.compile(rb"(?:0|-?[1-9][0-9]{0,17})")


class _Template:
    __slots__ = ("first", "key", "rest")

    def __init__(self, key: str, literals: list[bytes], gaps: list[re.Pattern[bytes]]) -> None:
        self.key = key
        self.first = literals[0]
        self.rest = [(gap.match, literal, len(literal)) for gap, literal in zip(gaps, literals[1:], strict=True)]

    def match(self, data: bytes, at: int) -> tuple[list[bytes], int] | None:
        """The values and the end of a text in this envelope that begins at `at`; None if what begins there is none.

        One expression for all of it would match in half the time, but take longer to compile than it ever saves.
        """
        if not data.startswith(self.first, at):
            return None
        at += len(self.first)
        values: list[bytes] = []
        for gap, literal, size in self.rest:
            value = gap(data, at)
            if value is None or not data.startswith(literal, value.end()):
                return None
            at = value.end() + size
            values.append(value.group())
        return values, at


class _Shape:
    """Texts alike but for their values: the values of the first, which of them differed since, and which of those
    were ids that begin alike.
    """

    __slots__ = ("begins", "gaps", "made", "values")

    def __init__(self, values: list[bytes]) -> None:
        self.values = values
        self.gaps: set[int] = set()
        self.begins: dict[int, bytes] = {}
        self.made = 0


class Templates:
    """The envelopes that one recording has seen."""

    def __init__(self, pool: PoolWriter) -> None:
        self._pool = pool
        self._shapes: dict[tuple[bytes, ...], _Shape] = {}
        self._recent: list[_Template] = []

    def json_rope(self, data: bytes) -> Sequence[Item] | None:
        """A body that is one JSON text, as a rope; None if its envelope is new."""
        if len(data) > _TEXT_MAX:
            return None
        row = self._known(data, 0, len(data))
        if row is None:
            row = self._learn(data)
        values = self._values(row[1], STRING_MIN) if row is not None else None
        return [(row[0].key, *values)] if row is not None and values is not None else None

    def stream_rope(self, data: bytes) -> Sequence[Item] | None:
        """A body that is a stream of events, as a rope; None if nothing in it has a known envelope."""
        rope: list[str | list[str | int]] = []
        run: list[str | int] = []  # a template and its values so far
        last: list[bytes] = []  # the values of its last round
        plain = cursor = 0  # what lies between is in no template yet
        learned = 0
        while cursor < len(data):
            row = self._known(data, cursor, None)
            if row is None:
                found = _BREAK.search(data, cursor)
                end = found.end() if found is not None else len(data)
                learned += 1
                if end - cursor <= _TEXT_MAX and learned <= _LEARN_MAX:
                    row = self._learn(data[cursor:end])
            else:
                end = row[2]
            values = self._values(row[1], _STREAM_STRING_MIN) if row is not None else None
            if row is not None and values is not None:
                if plain < cursor:
                    rope.append(self._literal(data[plain:cursor]))
                    run = []
                if run and run[0] == row[0].key:
                    run += ["" if old == new else value for value, old, new in zip(values, last, row[1], strict=True)]
                else:
                    run = [row[0].key, *values]
                    rope.append(run)
                last = row[1]
                plain = end
            cursor = end
        if not rope:
            return None
        if plain < len(data):
            rope.append(self._literal(data[plain:]))
        return [item if isinstance(item, str) else tuple(item) for item in rope]

    def forget(self) -> None:
        """The pool lost lines: refer to none of the templates made so far."""
        self._shapes.clear()
        self._recent.clear()

    def _known(self, data: bytes, start: int, end: int | None) -> tuple[_Template, list[bytes], int] | None:
        """The template that fits here, its values and where it ends (at `end`, if that is given)."""
        for index, template in enumerate(self._recent):
            match = template.match(data, start)
            if match is not None and (end is None or match[1] == end):
                if index:
                    self._recent.insert(0, self._recent.pop(index))
                return template, *match
        return None

    def _learn(self, text: bytes) -> tuple[_Template, list[bytes], int] | None:
        """Note the shape of a text; from the second one of a shape on, the template made of it."""
        parts = _taken_apart(text)
        if parts is None:
            return None
        between, values = parts
        shape = self._shapes.get(between)
        if shape is None:
            if len(self._shapes) >= _SHAPES_MAX:
                self._shapes.clear()
            self._shapes[between] = _Shape(values)
            return None
        differing = {index for index, pair in enumerate(zip(values, shape.values, strict=True)) if pair[0] != pair[1]}
        gaps = shape.gaps | differing
        if not gaps or len(gaps) > _GAPS_MAX or shape.made >= _MADE_MAX:
            return None
        for index in gaps:
            shape.begins[index] = _common_id(shape.begins.get(index), shape.values[index], values[index])
        literals, patterns, filled = [between[0]], list[re.Pattern[bytes]](), list[bytes]()
        for index, value in enumerate(shape.values):
            if index not in gaps:
                literals[-1] += value + between[index + 1]
            elif begin := shape.begins[index]:
                literals[-1] += begin
                literals.append(b'"' + between[index + 1])
                patterns.append(_INSIDE)
                filled.append(values[index][len(begin) : -1])
            else:
                literals.append(between[index + 1])
                patterns.append(_GAP)
                filled.append(values[index])
        try:
            key = self._pool.put_template([literal.decode("utf-8") for literal in literals])
        except UnicodeDecodeError:
            return None
        shape.gaps, shape.made = gaps, shape.made + 1
        template = _Template(key, literals, patterns)
        self._recent.insert(0, template)
        del self._recent[_RECENT:]
        return template, filled, len(text)

    def _values(self, row: list[bytes], least: int) -> list[str | int] | None:
        """The values of gaps as they are written, strings of `least` bytes as entries; None if they are not UTF-8."""
        try:
            return [self._value(value, least) for value in row]
        except UnicodeDecodeError:
            return None

    def _value(self, value: bytes, least: int) -> str | int:
        if not value.startswith(b'"'):
            return int(value) if _CANONICAL.fullmatch(value) else "=" + value.decode("utf-8")
        if len(value) >= least:
            return "#" + self._pool.put_json(value, cut="no")
        return "'" + value[1:-1].decode("utf-8")

    def _literal(self, data: bytes) -> str:
        try:
            return "=" + data.decode("utf-8")
        except UnicodeDecodeError:
            return "#" + self._pool.put_bytes(data)


def _common_id(known: bytes | None, first: bytes, value: bytes) -> bytes:
    """How the ids in a gap begin (`"chatcmpl-`), if they all do; b"" otherwise."""
    here, there = _ID.fullmatch(value), _ID.fullmatch(first)
    begin = here[1] if here is not None and there is not None and here[1] == there[1] else b""
    return begin if known is None or known == begin else b""


def _taken_apart(text: bytes) -> tuple[tuple[bytes, ...], list[bytes]] | None:
    """What stands between the values of a JSON text (keys stand there too), and its values; None if it has many."""
    between: list[bytes] = []
    values: list[bytes] = []
    cursor = 0
    for match in _TOKEN.finditer(text):
        if match[2] != b"" and match[3] is None:
            between.append(text[cursor : match.start()])
            values.append(match[1])
            cursor = match.end()
            if len(values) > _VALUES_MAX:
                return None
    between.append(text[cursor:])
    return tuple(between), values
