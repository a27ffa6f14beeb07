"""Where things stand in a browser: a run with many errors still begins with what a person came for."""

from __future__ import annotations

from typing import Any

import pytest
from capture_browser import NARROW, WIDE, Person, serving

from unspool.events import RecordEvent, RecordEventType, SyscallEventData
from unspool.recording.recorder import Recorder
from unspool.store import Store

pytest.importorskip("starlette")

SECOND = 1_000_000_000
OUTPUT = "============ test session starts ============\n" + "\n".join(f"{n} of the output" for n in range(60))
TOP = "return document.querySelector(arguments[0]).getBoundingClientRect().top + scrollY"


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, str]:
    """A run in which 21 tool calls failed, each with some sixty lines of output."""
    store = Store(tmp_path_factory.mktemp("says") / "store").ensure()
    with Recorder(store.records, store.next_pid(), "tests") as recorder:
        for number in range(21):
            args = {"path": "/dev/tool/bash", "input": {"n": number}}
            data = SyscallEventData("ToolCall", args, None, OUTPUT, SECOND)
            at = number * 2 * SECOND
            recorder.write_event(RecordEvent(RecordEventType.SYSCALL, 0, at, recorder.pid, syscall=data))
        return store, recorder.record_id


@pytest.mark.parametrize(("width", "timeline", "numbers"), [(WIDE, 500, 700), (NARROW, 800, 1100)])
def test_errors_do_not_push_the_page_out_of_sight(
    chromium: Any, failing: tuple[Store, str], width: int, timeline: int, numbers: int
) -> None:
    store, name = failing
    with serving(store.path) as server:
        person = Person(chromium, server.base).enter(server)
        person.look(width=width)
        person.open(f"/run/{name}")
        person.at(f"/run/{name}$")
        assert person.script(TOP, "svg.timeline") < timeline
        person.open(f"/run/{name}/blame")
        person.at("/blame$")
        assert person.script(TOP, ".findings") < 300
        assert person.script(TOP, "table.shares") < numbers
        assert person.sideways() == []


def test_the_whole_message_is_there_for_the_asking(chromium: Any, failing: tuple[Store, str]) -> None:
    store, name = failing
    with serving(store.path) as server:
        person = Person(chromium, server.base).enter(server)
        person.open(f"/run/{name}")
        person.at(f"/run/{name}$")
        shown = "return document.querySelector('.chains pre').checkVisibility()"
        assert person.script(shown) is False
        person.click_text("=== test session starts ===")
        person.until(lambda: person.script(shown))
        assert "59 of the output" in person.text(".chains pre")
