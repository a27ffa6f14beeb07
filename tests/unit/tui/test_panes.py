"""Wrapping, rows of events, and the options that stand for edits."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from tui_made import Run, path_of, small

from unspool.context import BlockVerdict
from unspool.errors import Cancelled
from unspool.recording.reader import RecordReader
from unspool.tui import views
from unspool.tui.fill import bar, strip
from unspool.tui.fork import command_option
from unspool.tui.keys import DEBUGGER_KEYS, TOP_KEYS
from unspool.tui.pane import wrap_points
from unspool.tui.rows import row_of
from unspool.tui.seek import find_text


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=300), st.integers(10, 40))
def test_wrapped_pieces_fit_and_lose_nothing(text: str, width: int) -> None:
    points = [0, *wrap_points(text, width), len(text)]
    pieces = [text[start:end] for start, end in itertools.pairwise(points)]
    assert "".join(pieces) == text
    for piece in pieces:
        assert cell_len(piece) <= width or len(piece) == 1


def test_lines_break_at_blanks_and_the_rest_is_indented_alike() -> None:
    text = "    the quick brown fox"
    assert wrap_points(text, 14) == [14]
    assert text[:14] == "    the quick "
    assert wrap_points("short", 14) == []


def test_rows_say_what_happened(tmp_path: Path) -> None:
    store = path_of(tmp_path)
    run = small(store)
    with RecordReader(store.records / run.record_id) as reader:
        rows = [row_of(reader, position) for position in range(reader.event_count)]
    assert [row.kind for row in rows] == [
        *("state", "context", "llm", "answer", "tool", "tool", "context", "llm", "answer", "state")
    ]
    assert [row.failed for row in rows].index(True) == 4
    assert rows[4].text == 'rate(pair="EUR/USD") → TimeoutError: no answer  1ms'
    assert rows[3].text == 'I look it up → rate({"pair": "EUR/USD"})  100+10 tok'


def test_a_search_that_is_called_off_stops(tmp_path: Path) -> None:
    store = path_of(tmp_path)
    run = Run(store)
    run.state("a", "b")
    run.close()
    stop = threading.Event()
    stop.set()
    with RecordReader(store.records / run.record_id) as reader, pytest.raises(Cancelled):
        find_text(reader, stop, 0, "x", 1)


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=60), st.integers(10, 100))
def test_the_strip_is_as_wide_as_the_screen(tokens: list[int], width: int) -> None:
    blocks = [BlockVerdict(None, "user", count, "cold", "") for count in tokens]
    drawn = strip(blocks, width)
    assert drawn.count("▒") == (width if sum(tokens) else 0)


def test_a_bar_says_what_it_cannot_draw() -> None:
    assert bar(0, 100, 4) == "░░░░ 0%"
    assert bar(50, 100, 4) == "██░░ 50%"
    assert bar(300, 100, 4) == "████ 300%"
    assert bar(1, 0, 4) == "░░░░ 0%"


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("prompt Be brief", ["--set-system", "Be brief"]),
        ("prompt @home", ["--set-system", "@@home"]),
        ("append user Check it", ["--append", "user:Check it"]),
        ("remove 2", ["--remove-last", "2"]),
        ("tool c1 @x", ["--tool-result", "c1=@@x"]),
        ("set temperature 0", ["--set", "temperature=0"]),
        ("model gpt-5", ["--model", "gpt-5"]),
        ("response Yes", ["--set-response", "Yes"]),
    ],
)
def test_an_edit_has_an_option_of_fork(argument: str, options: list[str]) -> None:
    assert command_option(argument) == options


@pytest.mark.parametrize("sections", [DEBUGGER_KEYS, TOP_KEYS])
def test_no_key_means_two_things(sections: object) -> None:
    names = [name for _, keys in sections for key in keys for name in key.keys.split(",")]  # type: ignore[attr-defined]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("dark", [True, False])
def test_every_colour_of_a_text_can_be_read_on_its_ground(dark: bool) -> None:
    palette = views._ON_DARK if dark else views._ON_LIGHT
    ground = _luminance(palette.background_color)
    # Black and white of a palette are for grounds; no text of ours is in them.
    for number in (*range(1, 7), *range(8, 15)):
        ratio = _contrast(ground, _luminance(palette.ansi_colors[number]))
        assert ratio >= 4.5, (number, ratio)


def _luminance(color: tuple[int, ...]) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    parts = [part / 255 for part in color]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)
