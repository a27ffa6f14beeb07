"""Text of agents cannot act on a terminal, break a line or break JSON."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import pathlib
import uuid

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unspool import text
from unspool.events import CtxMessage, RecordEvent, RecordEventType, SyscallEventData
from unspool.text import (
    cut,
    display_value,
    dump_json,
    error_text,
    escape_controls,
    plain_value,
    quote,
    show_text,
    truncate_string,
)

CONTROLS = [chr(c) for c in (*range(0x20), *range(0x7F, 0xA0))]
SPECIAL = list("\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ud800\udc80\udfff")


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class HostileList(list):
    def __iter__(self):
        raise RuntimeError("no")


class HostileError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


# By name, because hypothesis prints its strategies and some of these cannot be printed.
ODDITIES = {
    "huge": 10**5000,
    "hostile": Hostile(),
    "hostile list": HostileList([1]),
    "hostile error": HostileError(),
    "object": object(),
    "ellipsis": ...,
    "complex": 1j,
}

ANYTHING = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(),
        st.text(st.sampled_from(CONTROLS + SPECIAL + ["a"])),
        st.binary(),
        st.sampled_from(sorted(ODDITIES)).map(lambda name: ODDITIES[name]),
        st.datetimes(),
        st.uuids(),
        st.decimals(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.text(), st.integers(), st.none(), st.tuples(st.text())), inner, max_size=4),
        st.tuples(inner, inner),
        st.sets(st.one_of(st.integers(), st.text()), max_size=4),
    ),
    max_leaves=12,
)


def is_safe(line: str) -> bool:
    line.encode()
    return not any(char in line for char in CONTROLS + SPECIAL)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\x9b31m\x00", r"\x9b31m\x00"),
        ("user\u202etxt", r"user\u202etxt"),
        ("\ud83d", r"\ud83d"),
        ("line\u2028sep", r"line\u2028sep"),
        ("C:\\temp", "C:\\temp"),
        ("日本語 👩‍🔬 é", "日本語 👩‍🔬 é"),
        ("", ""),
    ],
)
def test_controls_are_shown_and_other_text_is_left_alone(raw, shown):
    assert escape_controls(raw) == shown


@pytest.mark.parametrize("char", CONTROLS + SPECIAL)
def test_no_control_reaches_the_terminal_in_any_form(char):
    for shown in (escape_controls(char), quote(char), show_text(char), display_value([char]), dump_json({char: char})):
        assert char not in shown
        assert is_safe(shown)


def test_text_of_several_lines_may_keep_its_newlines():
    assert escape_controls("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"


@pytest.mark.parametrize(
    ("raw", "length", "cut_off"),
    [
        ("abc", 3, "abc"),
        ("abcd", 3, "abc..."),
        ("äöü!", 3, "äöü..."),
        ("a", 0, "..."),
        ("", 0, ""),
        ("👩👩", 1, "👩..."),
    ],
)
def test_truncate_counts_code_points(raw, length, cut_off):
    assert truncate_string(raw, length) == cut_off


def test_truncate_refuses_a_negative_length():
    with pytest.raises(ValueError, match="negative"):
        truncate_string("abc", -1)


def test_cut_keeps_fifty_and_shortens_to_fifty():
    assert cut("x" * 50) == "x" * 50
    assert cut("x" * 51) == "x" * 47 + "..."
    assert cut("x" * 51, None) == "x" * 51


def test_quoting_counts_the_quoted_form():
    assert quote("x" * 50, 50) == '"' + "x" * 50 + '"'
    assert quote("x" * 51, 50) == '"' + "x" * 48 + '..."'
    assert quote('"' * 25, 50) == json.dumps('"' * 25)
    assert quote('"' * 26, 50) == json.dumps('"' * 26)[:49] + '..."'


@given(st.text(), st.integers(3, 60))
def test_a_cut_of_a_long_text_is_that_of_the_whole(raw, limit):
    assert quote(raw, limit) == (whole if len(whole := quote(raw)) <= limit + 2 else whole[: limit - 1] + '..."')
    assert show_text(raw, limit) == cut(escape_controls(raw), limit)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "null"),
        (True, "true"),
        (3, "3"),
        (1.5, "1.5"),
        (float("nan"), "NaN"),
        (float("-inf"), "-Infinity"),
        ("a\n", '"a\\n"'),
        ({"a": [1, None]}, '{"a": [1, null]}'),
        ((1, "x"), '[1, "x"]'),
        ({3, 1, 2}, "[1, 2, 3]"),
        (b"a\x00", "b'a\\x00'"),
        (bytearray(b"a"), "b'a'"),
        (memoryview(b"a"), "b'a'"),
        ({1: 2, None: 3}, '{"1": 2, "null": 3}'),
        (datetime.date(2026, 1, 2), '"2026-01-02"'),
        (pathlib.PurePosixPath("/a"), '"/a"'),
        (uuid.UUID(int=0), '"00000000-0000-0000-0000-000000000000"'),
        (ValueError("bad"), '"bad"'),
        (RecordEventType.SYSCALL, '"syscall"'),
        (enum.Enum("Colour", "RED").RED, "<Colour.RED: 1>"),
        (Hostile(), "<unprintable Hostile>"),
        (HostileList([1]), "<unprintable HostileList>"),
        (int, "<class 'int'>"),
    ],
)
def test_values_are_shown_as_json_writes_them(value, shown):
    assert display_value(value) == shown


def test_objects_with_fields_show_them():
    point = dataclasses.make_dataclass("Point", ["x", "y"])(1, "b")
    assert display_value(point) == '{"x": 1, "y": "b"}'
    assert display_value(CtxMessage("user", "hi")) == '{"role": "user", "content": "hi"}'


def test_showing_a_large_value_costs_no_more_than_a_small_one():
    class Counting(list):
        read = 0

        def __iter__(self):
            for item in super().__iter__():
                Counting.read += 1
                yield item

    assert display_value(Counting(range(100_000)), 50) == str(list(range(100)))[:47] + "..."
    assert Counting.read < 60


def test_cycles_and_deep_nesting_end():
    cycle: list[object] = []
    cycle.append(cycle)
    assert "…" in display_value(cycle)
    json.loads(dump_json({"cycle": cycle}))


@given(ANYTHING)
def test_any_value_has_a_form_on_one_safe_line(value):
    assert is_safe(display_value(value))
    assert len(display_value(value, 50)) <= 50


@given(ANYTHING)
def test_any_value_has_a_json_form_that_strict_parsers_read(value):
    line = dump_json(value)
    assert is_safe(line)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads(line, parse_constant=refuse)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=10,
)


@given(JSON)
def test_what_json_can_express_survives(value):
    assert json.loads(dump_json(value)) == value


def test_only_the_value_json_lacks_is_replaced():
    assert plain_value({"ok": 1, "nan": float("nan"), "raw": b"\xff", "odd": Hostile(), "big": 10**5000}) == {
        "ok": 1,
        "nan": {"$float": "nan"},
        "raw": {"$bytes": "/w=="},
        "odd": {"$repr": "<unprintable Hostile>"},
        "big": {"$repr": hex(10**5000)},
    }
    assert plain_value([1, HostileList([1])]) == [1, {"$repr": "<unprintable HostileList>"}]


@pytest.mark.parametrize(
    "struct",
    [
        CtxMessage("user", "hi"),
        SyscallEventData("Open"),
        SyscallEventData("Open", args={"a": 1}, result=[1], err="x", duration=3),
        RecordEvent(RecordEventType.SYSCALL, 1, 2, 3, syscall=SyscallEventData("Open"), call=4),
    ],
)
def test_structs_have_their_wire_form(struct):
    assert plain_value(struct) == msgspec.to_builtins(struct)


def test_an_error_is_its_message_or_else_its_class():
    assert error_text(None) == ""
    assert error_text("boom") == "boom"
    assert error_text(ValueError("boom")) == "boom"
    assert error_text(TimeoutError()) == "TimeoutError"
    assert error_text(HostileError()) == "HostileError"


def test_exports_exist():
    assert all(hasattr(text, name) for name in text.__all__)
