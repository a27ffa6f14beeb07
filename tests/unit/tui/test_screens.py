"""What the views look like, kept as text for three sizes of terminal.

After a change that is meant: UNSPOOL_UPDATE_SCREENS=1 python -m pytest tests/unit/tui/test_screens.py, then read the
difference. The screens are those of the textual in constraints.txt.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from textual.app import App
from textual.pilot import Pilot
from tui_made import Run, path_of, pictured

from unspool.store import Store
from unspool.tui.debugger import Debugger
from unspool.tui.top import Top, TopScreen

SCREENS = Path(__file__).with_name("screens")
SIZES = ((80, 24), (120, 40), (200, 60))
HOUR_NS = 3_600_000_000_000

# name: keys from the opened debugger on. The recording is the fork, the event its second model call.
DEBUGGER = {
    "context": "1",
    "exchange": "2",
    "diff": "3",
    "tree": "4",
    "fill": "5",
    "parent": "6",
    "zoomed": "5 z",
    "marked": "m a g e",
    "search": "slash r a t e",
    "help": "question_mark",
    "fork": "f",
}
TOP = {"table": "", "sorted": "s s", "filter": "slash i n v", "confirm": "x", "help": "question_mark"}


def drawn(app: App[None]) -> str:
    """All that stands on the screen, without colours and blanks at the ends."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(part.text for part in strip).rstrip() for strip in strips) + "\n"


async def settle(pilot: Pilot[None]) -> None:
    """Until nothing is being read or drawn any more."""
    await pilot.pause()
    for screen in pilot.app.screen_stack:
        timer = getattr(screen, "_settle", None)
        if timer is not None and timer._task is not None:
            await asyncio.wait([timer._task])
        if isinstance(screen, TopScreen):
            await screen._look()
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()


def shown(app: App[None], keys: str, size: tuple[int, int]) -> str:
    async def go() -> str:
        async with app.run_test(size=size) as pilot:
            await settle(pilot)
            for key in keys.split():
                await pilot.press(key)
                await settle(pilot)
            return drawn(app)

    return asyncio.run(go())


def compare(name: str, size: tuple[int, int], found: str) -> None:
    path = SCREENS / f"{name}-{size[0]}x{size[1]}.txt"
    lines = found.split("\n")
    assert len(lines) == size[1] + 1
    if os.environ.get("UNSPOOL_UPDATE_SCREENS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8"), f"{path.name} looks otherwise now:\n{found}"


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of this machine on the screens; prices and context windows are those of the installed table."""
    for name in ("NO_COLOR", "COLORFGBG", "UNSPOOL_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return path_of(tmp_path)


@pytest.fixture
def running(store: Store) -> Iterator[Run]:
    """An agent in the middle of a call, begun so long ago that its age in hours does not change meanwhile."""
    begun = datetime.now(UTC) - timedelta(hours=5, minutes=30)
    run = Run(store, 3, "answer the mail", fields={"start_time": begun})
    run.state("created", "running")
    for turn in range(8):
        run.at_ns = turn * HOUR_NS // 4
        run.ask(f"turn {turn}")
        run.answer("fine", tokens=9_000 * (turn + 1))
    # Later than now, so that the last minute always holds them.
    run.at_ns = 9 * HOUR_NS
    run.ask("the last but one")
    run.answer("fine", tokens=90_000)
    run.at_ns = 2 * HOUR_NS
    run.ask("the last")
    yield run
    run.close()


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", DEBUGGER)
def test_the_debugger_looks_as_it_did(store: Store, name: str, size: tuple[int, int]) -> None:
    _, fork = pictured(store)
    compare(f"debugger-{name}", size, shown(Debugger(store, fork, 6), DEBUGGER[name], size))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", TOP)
def test_top_looks_as_it_did(store: Store, running: Run, name: str, size: tuple[int, int]) -> None:
    pictured(store)
    found = shown(Top(store), TOP[name], size).replace(running.record_id, "3-20260102T000000-cccc")
    process = f"OS process {os.getpid()}."
    compare(f"top-{name}", size, found.replace(process, "OS process N.".ljust(len(process))))


def test_every_screen_that_is_kept_is_compared() -> None:
    wanted = {f"{view}-{name}" for view, names in (("debugger", DEBUGGER), ("top", TOP)) for name in names}
    kept = {path.name for path in SCREENS.iterdir()}
    assert kept == {f"{name}-{width}x{height}.txt" for name in wanted for width, height in SIZES}
