"""A hostile recording in the full-screen views: every pane draws it as text, whatever the text says."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from capture_hostile import ACTING, OWNED, environment, record_hostile

from unspool.recording.address import newest_first
from unspool.recording.reader import RecordReader
from unspool.store import Store

pytest.importorskip("textual")
pytest.importorskip("urllib3")

from unspool.tui.debugger import Debugger
from unspool.tui.top import Top

WIDE, SMALL = (160, 48), (80, 24)
PANES = ("1", "2", "3", "4", "5", "6")


class Screen:
    """What is drawn, and that nothing of it acts: asked after every key."""

    def __init__(self, pilot: Any) -> None:
        self.pilot, self.app = pilot, pilot.app
        self.seen = ""

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.pilot.press(key)
            await self.settle()
        self.look(keys)

    async def settle(self) -> None:
        await self.pilot.pause()
        if isinstance(self.app, Top):  # it looks every second by itself
            await self.app.screen_stack[1]._look()  # type: ignore[attr-defined]
        timer = getattr(self.app.screen, "_settle", None)
        if timer is not None and timer._task is not None:
            await asyncio.wait([timer._task])
        await self.app.workers.wait_for_complete()
        await self.pilot.pause()

    def look(self, after: object) -> None:
        lines = []
        for strip in self.app.screen._compositor.render_strips():
            for segment in strip:
                assert segment.style is None or segment.style.link is None, (after, segment)
            lines.append("".join(segment.text for segment in strip))
        drawn = "\n".join(lines)
        found = ACTING.search(drawn)
        assert found is None, (after, drawn[max(0, found.start() - 60) : found.end() + 20])
        assert self.app.title != OWNED
        self.seen += drawn


def drive(app: Any, steps: Callable[[Screen], Awaitable[None]], size: tuple[int, int]) -> str:
    """Run an app headless through some keys; returns all that was drawn."""

    async def go() -> str:
        async with app.run_test(size=size) as pilot:
            screen = Screen(pilot)
            await screen.settle()
            await steps(screen)
            return screen.seen

    return asyncio.run(go())


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return record_hostile(tmp_path_factory.mktemp("hostile"))


@pytest.mark.parametrize("size", [WIDE, SMALL])
def test_every_pane_at_every_event_draws_text(size: tuple[int, int], hostile: Store) -> None:
    root, child = [one.record_id for one in newest_first(hostile)][::-1]

    async def through_all(screen: Screen) -> None:
        await screen.press("g")
        with RecordReader(hostile.records / root) as reader:
            count = len(reader.events())
        for number in range(count):
            await screen.press("j")
            await screen.press(PANES[number % 3])
        for key in ("S", *PANES, "5", "tab", "G"):
            await screen.press(key)

    async def through_some(screen: Screen) -> None:
        for key in ("g", "j", *PANES, "G", *PANES):
            await screen.press(key)

    walk = through_all if size == WIDE else through_some
    assert "document.title" in drive(Debugger(hostile, root), walk, size)  # it is there, as text
    drive(Debugger(hostile, child), through_some, size)


def test_searching_forking_and_help_draw_text(hostile: Store) -> None:
    root = list(newest_first(hostile))[-1].record_id

    async def steps(screen: Screen) -> None:
        await screen.press("slash", *"onmouse", "enter", "n", "N")
        await screen.press("colon", *"call:2", "enter", "f")  # the fork's screen, with its messages to edit
        await screen.press("escape", "y", "question_mark", "escape", "E", "e", "z", "2", "z")

    assert "document.title" in drive(Debugger(hostile, root), steps, (160, 48))


def test_the_table_of_agents_draws_text(hostile: Store) -> None:
    async def steps(screen: Screen) -> None:
        await screen.press("j", "k", "a", "a", "s", "S", "slash", *"script", "enter", "escape", "G", "g")

    assert "script" in drive(Top(hostile, everything=True), steps, (160, 48))
    assert "script" in drive(Top(hostile, everything=True), steps, (80, 24))


def test_a_frame_of_top_for_scripts_is_text(hostile: Store, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "unspool", "top", "--once", "--store", hostile.path],
        capture_output=True, env=environment(), cwd=tmp_path, timeout=60, check=True,
    )  # fmt: skip
    assert ACTING.search(done.stdout.decode("utf-8")) is None
