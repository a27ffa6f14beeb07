"""The timeline: windows of it by address, what failed always in sight, lanes that fold, and no page too heavy."""

from __future__ import annotations

import re

import pytest

from unspool.cli.prices import Prices
from unspool.events import RecordEvent, RecordEventType, SyscallEventData
from unspool.recording.recorder import Recorder
from unspool.web.links import PageLinks
from unspool.web.shelf import Shelf
from unspool.web.timeline import WHOLE, Window, svg_text, timeline_of

SECOND = 1_000_000_000
CALLS = 4_000


@pytest.fixture
def tools(store):
    """Makes a recording of tool calls of a tenth of a second, one a second; those in `failed` fail."""

    def make(count: int, *, failed: tuple[int, ...] = (), name="search", intent="many", **fields) -> str:
        with Recorder(store.records, store.next_pid(), intent, fields=fields) as recorder:
            for number in range(count):
                data = SyscallEventData(
                    "ToolCall", {"path": f"/dev/tool/{name}", "input": {"n": number}}, "found",
                    "no index" if number in failed else "", SECOND // 10,
                )  # fmt: skip
                recorder.write_event(
                    RecordEvent(RecordEventType.SYSCALL, 0, number * SECOND, recorder.pid, syscall=data)
                )
            return recorder.record_id

    return make


def drawn(store, name, window=WHOLE, *, unfolded=False):
    return timeline_of(Shelf(store, Prices()).run(name), PageLinks(), window=window, unfolded=unfolded)


@pytest.mark.parametrize(
    ("address", "window"),
    [
        ({"from": "1.5", "to": "2"}, Window(SECOND * 3 // 2, SECOND * 2)),
        ({"to": "2"}, Window(0, SECOND * 2)),
        ({"from": "7"}, Window(SECOND * 7, 0)),
        ({"from": "3", "to": "2"}, WHOLE),
        ({"from": "2", "to": "2"}, WHOLE),
        ({"from": "-1", "to": "nan"}, WHOLE),
        ({"from": "1e9", "to": "9" * 40}, WHOLE),
        ({}, WHOLE),
    ],
)
def test_a_window_is_read_from_an_address_and_nonsense_is_none(address, window):
    assert Window.of(address) == window


@pytest.mark.parametrize(
    "window", [Window(1_500_000_000, 2_000_000_000), Window(0, 1_234_000), Window(7_000, 0), WHOLE]
)
def test_a_window_survives_its_address(window):
    assert Window.of(window.query()) == window


def test_a_window_beyond_the_run_still_has_a_length():
    start, end = Window(SECOND * 100, SECOND * 200).within(SECOND * 3)
    assert 0 <= start < end <= SECOND * 3 + 1_000


def test_thousands_of_calls_are_a_drawing_of_some_kilobytes_and_each_failure_is_in_it(store, tools):
    timeline = drawn(store, tools(CALLS, failed=(1_000, 2_500)))
    assert len(timeline.svg) < 100_000
    assert timeline.svg.count("bar tool failed") == 2
    assert "zoom in" in timeline.svg


def test_a_bar_for_several_calls_leads_to_a_window_in_which_they_are_apart(store, tools):
    name = tools(CALLS)
    found = re.search(r'href="/run/[^"?]+\?from=([\d.]+)&amp;to=([\d.]+)"><title>(\d+) calls', drawn(store, name).svg)
    assert found is not None
    inside = drawn(store, name, Window.of({"from": found[1], "to": found[2]}))
    assert inside.shown
    assert len(re.findall(r'href="/run/[^"]+/step/\d+"', inside.svg)) >= int(found[3])


def test_moves_stay_within_the_run(store, tools):
    name = tools(100)
    for window in (WHOLE, Window(0, SECOND * 10), Window(SECOND * 90, 0), Window(SECOND * 40, SECOND * 50)):
        timeline = drawn(store, name, window)
        assert ("whole" in timeline.moves) is not window.is_whole
        assert ("earlier" in timeline.moves) is (window.start_ns > 0)
        for move in timeline.moves.values():
            start, end = Window.of(move).within(SECOND * 100)
            assert 0 <= start < end <= SECOND * 100


def test_many_agents_share_a_lane_unless_they_failed_or_all_are_asked_for(store, tools):
    root = tools(3)
    for number in range(14):
        tools(2, failed=(1,) if number == 13 else (), parent=root, root=root, intent=f"agent {number}")
    folded = drawn(store, root)
    assert folded.folded == 6
    assert f"{folded.folded} more agents" in folded.svg
    assert "bar tool failed" in folded.svg
    everything = drawn(store, root, unfolded=True)
    assert everything.folded == 0
    assert everything.svg.count('class="rule"') == 15


def test_names_from_recordings_are_text_in_the_drawing(store, tools):
    svg = drawn(store, tools(3, name='<script>alert(1)</script>"\u202e')).svg
    assert "<script" not in svg
    assert "\u202e" not in svg
    assert svg_text("a\x00b<c>") == "a b&lt;c&gt;"
