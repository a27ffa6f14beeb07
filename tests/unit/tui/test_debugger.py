"""The full-screen debugger, driven by keys."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from textual.events import Key
from textual.pilot import Pilot
from textual.widgets import Static
from tui_made import Run, hostile, path_of, pictured, small

from unspool.events import ContextSnapshotData, CtxMessage, RecordEventType
from unspool.store import Store
from unspool.tui import eventlist
from unspool.tui.debugger import Debugger, DebuggerScreen
from unspool.tui.dialogs import Help
from unspool.tui.eventlist import EventList
from unspool.tui.fork import ForkScreen
from unspool.tui.pane import Pane
from unspool.tui.views import warnings_held_back

WIDE = (160, 48)
NARROW = (80, 24)


class Driver:
    """Presses keys, and waits until what they began is done."""

    def __init__(self, pilot: Pilot[None]) -> None:
        self.pilot = pilot
        self.app = pilot.app

    @property
    def screen(self) -> DebuggerScreen:
        return next(one for one in reversed(self.app.screen_stack) if isinstance(one, DebuggerScreen))

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.settle()

    async def settle(self) -> None:
        await self.pilot.pause()
        timer = self.screen._settle
        if timer is not None and timer._task is not None:
            await asyncio.wait([timer._task])
        await self.app.workers.wait_for_complete()
        await self.pilot.pause()

    async def type(self, text: str) -> None:
        await self.press(*text, "enter")

    @property
    def cursor(self) -> int:
        """The number of the event the cursor is on."""
        return self.screen.query_one(EventList).cursor + 1

    @property
    def pane(self) -> str:
        lines = self.screen.query_one("#pane", Pane).lines
        return "\n".join(re.sub("\x1b\\[[0-9;]*m", "", line.text) for line in lines)

    @property
    def status(self) -> str:
        return str(self.screen.query_one("#status", Static).content)

    def drawn(self) -> str:
        """All that stands on the screen."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in strip) for strip in strips)


@dataclass
class Named:
    """A recording by its id."""

    record_id: str


def drive(
    store: Store,
    run: Run | Named,
    steps: Callable[[Driver], Awaitable[None]],
    *,
    seq: int | None = None,
    size: tuple[int, int] = NARROW,
) -> None:
    async def go() -> None:
        app = Debugger(store, run.record_id, seq)
        async with app.run_test(size=size) as pilot:
            driver = Driver(pilot)
            await driver.settle()
            await steps(driver)

    asyncio.run(go())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return path_of(tmp_path)


def test_moves_as_rr_and_vi_do(store: Store) -> None:
    async def steps(d: Driver) -> None:
        assert d.cursor == 1
        await d.press("j", "down", "k")
        assert d.cursor == 2
        await d.press("G")
        assert d.cursor == 10
        await d.press("g")
        assert d.cursor == 1
        await d.press("s")
        assert d.cursor == 2  # the context of the first call
        await d.press("right_square_bracket")
        assert d.cursor == 7
        await d.press("s")
        assert (d.cursor, "no step" in d.status) == (7, True)
        await d.press("S")
        assert d.cursor == 2
        await d.press("e")
        assert d.cursor == 5  # the tool that failed
        await d.press("G", "E")
        assert d.cursor == 5
        await d.press("e")
        assert "no error" in d.status

    drive(store, small(store), steps)


def test_goes_to_events_steps_and_calls_and_says_what_there_is_not(store: Store) -> None:
    async def steps(d: Driver) -> None:
        await d.press("colon")
        await d.type("step:2")
        assert d.cursor == 7
        await d.press("colon")
        await d.type("4")
        assert d.cursor == 4
        await d.press("colon")
        await d.type("call:9")
        assert (d.cursor, "no model call 9" in d.status) == (4, True)
        await d.press("colon")
        await d.type("nonsense")
        assert "names no point" in d.status

    drive(store, small(store), steps)


def test_searches_round_the_end_in_both_directions(store: Store) -> None:
    async def steps(d: Driver) -> None:
        await d.press("slash")
        await d.type("zanzibar")
        assert d.cursor == 6
        await d.press("n")
        assert d.cursor == 7  # the context that got the result
        await d.press("n")
        assert d.cursor == 9
        await d.press("n")
        assert (d.cursor, "round the end" in d.status) == (6, True)
        await d.press("N")
        assert (d.cursor, "round the end" in d.status) == (9, True)
        await d.press("slash")
        await d.type("nowhere to be found")
        assert (d.cursor, "no event mentions" in d.status) == (9, True)

    drive(store, small(store), steps)


def test_bookmarks_are_shown_jumped_to_and_continued_to(store: Store) -> None:
    async def steps(d: Driver) -> None:
        await d.press("j", "j", "m", "a", "G", "m", "b", "g")
        assert "►" in d.drawn()
        assert re.search(r"^ a +3 ", d.drawn(), re.MULTILINE)
        await d.press("c")
        assert d.cursor == 3
        await d.press("c")
        assert d.cursor == 10
        await d.press("C")
        assert d.cursor == 3
        await d.press("apostrophe", "b")
        assert d.cursor == 10
        await d.press("apostrophe", "apostrophe")
        assert d.cursor == 3

    drive(store, small(store), steps)


def test_the_panes_show_context_exchange_diff_tree_and_what_fills_the_context(store: Store) -> None:
    async def steps(d: Driver) -> None:
        await d.press("1")
        assert "new in this call" in d.pane
        assert "what is the exchange rate" in d.pane
        await d.press("2")
        assert "says zanzibar-feed" in d.pane
        await d.press("3")
        assert "(+3)" in d.pane
        assert '+ [tool] {"rate": 1.0837' in d.pane
        await d.press("4")
        assert "✗ rate" in d.pane
        assert "2 errors" not in d.pane
        await d.press("5")
        assert "be brief" in d.pane
        assert "of 128,000" in d.pane

    drive(store, small(store), steps, seq=9, size=WIDE)


def test_before_the_first_model_call_the_panes_say_so(store: Store) -> None:
    async def steps(d: Driver) -> None:
        for key, said in (("1", "no context"), ("3", "nothing to compare"), ("5", "no context")):
            await d.press(key)
            assert said in d.pane

    drive(store, small(store), steps)


def test_a_span_of_the_tree_leads_to_its_event(store: Store) -> None:
    async def steps(d: Driver) -> None:
        await d.press("4", "tab", "G", "enter")
        assert d.cursor in (7, 8, 9)

    drive(store, small(store), steps)


def test_the_next_use_of_a_block_is_the_answer_that_repeats_it(store: Store) -> None:
    async def steps(d: Driver) -> None:
        await d.press("5", "tab", "G", "k")  # the tool's result
        await d.press("u")
        assert d.cursor == 9
        await d.press("u")
        assert "no later answer" in d.status

    drive(store, small(store), steps, seq=7)


def test_help_shows_every_key_that_is_bound(store: Store) -> None:
    async def steps(d: Driver) -> None:
        await d.press("question_mark")
        assert isinstance(d.app.screen, Help)
        shown = "\n".join(line.text for line in d.app.screen.query_one(Pane).lines)
        for binding in DebuggerScreen.BINDINGS:
            assert binding.description in shown  # type: ignore[union-attr]
        await d.press("q")
        assert isinstance(d.app.screen, DebuggerScreen)

    drive(store, small(store), steps)


def test_fork_shows_the_command_for_the_edits_that_were_typed(store: Store) -> None:
    async def steps(d: Driver) -> None:
        await d.press("f")
        assert isinstance(d.app.screen, ForkScreen)
        command = str(d.app.screen.query_one("#command", Static).content)
        assert f"@{d.cursor} --run" in command
        # This recording has no request bytes, so an edit is refused, and said.
        await d.pilot.press(*"model x", "enter")
        await d.pilot.pause()
        assert "not recorded" in d.app.screen.query_one(Pane).lines[0].text
        await d.press("escape")
        assert isinstance(d.app.screen, DebuggerScreen)

    drive(store, small(store), steps, seq=9)


def test_list_and_pane_stand_side_by_side_where_there_is_room(store: Store) -> None:
    run = small(store)

    async def narrow(d: Driver) -> None:
        events, pane = d.screen.query_one(EventList), d.screen.query_one("#pane", Pane)
        assert events.region.bottom <= pane.region.y
        await d.press("z")
        assert not events.display
        assert pane.region.height > 15

    async def wide(d: Driver) -> None:
        events, pane = d.screen.query_one(EventList), d.screen.query_one("#pane", Pane)
        assert events.region.right <= pane.region.x

    drive(store, run, narrow)
    drive(store, run, wide, size=WIDE)


def test_hostile_text_reaches_no_pane_as_control(store: Store) -> None:
    run = hostile(store)

    async def steps(d: Driver) -> None:
        seen = ""
        for seq in (1, 2, 5, 8):
            await d.press("colon")
            await d.type(str(seq))
            for key in ("1", "2", "3", "4", "5", "6", "f"):
                await d.press(key)
                drawn = d.drawn()
                assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", drawn), (seq, key)
                seen += drawn
            await d.press("escape")
        assert "[bold]" in seen  # it is there, as text
        assert "\\x1b]0;title" in seen

    drive(store, run, steps)


def test_a_long_recording_reads_only_what_it_shows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(store)
    run.ask("begin")
    for number in range(20_000):
        run.tool("search", {"q": f"word-{number}"}, f"found {number}")
    run.close()
    read: list[int] = []
    row_of = eventlist.row_of
    monkeypatch.setattr(eventlist, "row_of", lambda reader, at: read.append(at) or row_of(reader, at))  # type: ignore[func-returns-value]

    async def steps(d: Driver) -> None:
        await d.press("G")
        assert d.cursor == 20_001
        await d.press("pageup", "pageup", "k")
        assert "word-199" in d.drawn()
        assert len(read) < 200
        assert len(set(read)) == len(read)  # each once

    drive(store, run, steps)


def test_a_recording_that_grows_is_followed_until_the_cursor_goes_back(store: Store) -> None:
    run = Run(store)
    run.ask("begin")

    async def steps(d: Driver) -> None:
        assert "following" in d.status
        run.answer("first")
        d.screen._look()
        await d.settle()
        assert d.cursor == 3
        await d.press("k")
        run.tool("search", {}, "x")
        d.screen._look()
        await d.settle()
        assert d.cursor == 2
        assert "/4" in d.status
        run.close()
        d.screen._look()
        assert "has ended" in d.status

    drive(store, run, steps)


def test_a_sub_agent_opens_and_q_comes_back(store: Store) -> None:
    parent, child = Run(store, 1, "the parent"), Run(store, 2, "the child")
    child.ask("hello")
    child.close()
    from unspool.events import RecordEventType, SyscallEventData

    data = SyscallEventData("Spawn", {"path": "/dev/agent/child", "pid": 2}, result="PID 2", duration=5)
    parent._write(RecordEventType.SYSCALL, syscall=data)
    parent.close()

    async def steps(d: Driver) -> None:
        await d.press("enter")
        assert "the child" in str(d.app.screen.query_one("#title", Static).content)
        await d.press("q")
        assert "the parent" in str(d.app.screen.query_one("#title", Static).content)

    drive(store, parent, steps)


def test_an_empty_recording_opens(store: Store) -> None:
    run = Run(store)
    run.close()

    async def steps(d: Driver) -> None:
        for key in ("j", "s", "e", "1", "2", "3", "4", "5", "u", "f", "enter", "G"):
            await d.press(key)
        assert "No events: nothing was recorded" in d.pane

    drive(store, run, steps)


@pytest.mark.parametrize("ground", ["15;0", "0;15"])
def test_themes_follow_the_terminal_and_a_key(store: Store, monkeypatch: pytest.MonkeyPatch, ground: str) -> None:
    monkeypatch.setenv("COLORFGBG", ground)
    monkeypatch.delenv("NO_COLOR", raising=False)

    async def steps(d: Driver) -> None:
        first = d.app.theme
        assert ("light" in first) == ground.endswith("15")
        await d.press("T")
        assert d.app.theme != first

    drive(store, small(store), steps)


def test_without_colour_the_cursor_is_seen_and_there_is_no_theme_to_switch(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def steps(d: Driver) -> None:
        before = d.app.theme
        await d.press("T")
        assert (d.app.theme, "NO_COLOR is set" in d.status) == (before, True)
        assert "►" in d.drawn()

    drive(store, small(store), steps)


def test_what_is_new_in_a_call_is_counted_in_the_messages_that_are_shown(store: Store) -> None:
    # The request held the system prompt too, so that its count of shared messages is one more.
    run = Run(store)
    run.messages = []
    prev = None
    for turn in range(2):
        run.messages = [*run.messages, CtxMessage("user", f"turn {turn}")]
        data = ContextSnapshotData(
            messages=list(run.messages), system_prompt="be brief", model="gpt-4o", provider="openai", prev=prev
        )
        data.kept = 2 if turn else None
        run.calls = turn + 1
        run._write(RecordEventType.CONTEXT_SNAPSHOT, context=data, call=turn + 1, step=turn + 1)
        prev = 1
    run.close()

    async def steps(d: Driver) -> None:
        assert "1 message as in the call before, then 1 new" in d.pane
        new = d.pane.partition("new in this call")[2]
        assert "turn 1" in new
        assert "turn 0" not in new

    drive(store, run, steps, seq=2)


def test_a_fork_stands_beside_its_parent_and_leads_there(store: Store) -> None:
    parent, fork = pictured(store)

    async def steps(d: Driver) -> None:
        await d.press("6")
        before, _, after = d.pane.partition("here they part")
        assert before.count("\n= #") == 2
        assert after.count("\n~ #") == 2
        assert "\n- " in after  # what only the parent did
        await d.press("tab", "G", "enter")
        title = str(d.screen.query_one("#title", Static).content)
        assert (parent in title, "fork of" in title, d.cursor) == (True, False, 10)
        await d.press("q")
        assert fork in str(d.screen.query_one("#title", Static).content)

    async def no_fork(d: Driver) -> None:
        await d.press("6")
        assert "no fork" in d.pane
        assert "6 parent" not in d.drawn()

    drive(store, Named(fork), steps, seq=7)
    drive(store, Named(parent), no_fork)


def test_a_parent_that_was_removed_or_is_no_name_is_said(store: Store) -> None:
    _, fork = pictured(store)
    path = store.records / fork / "metadata.json"
    whole = path.read_text()
    for parent in ("1-20990102T030405-gone", "../records/1-20260102T030405-aaaa"):
        path.write_text(whole.replace("1-20260102T030405-aaaa", parent))

        async def steps(d: Driver) -> None:
            await d.press("6")
            assert "not found" in d.pane

        drive(store, Named(fork), steps)


def test_damage_is_said_and_nothing_is_written_over_the_screen(store: Store, capfd: pytest.CaptureFixture[str]) -> None:
    run = small(store)
    events = store.records / run.record_id / "events.jsonl"
    lines = events.read_bytes().splitlines(keepends=True)
    events.write_bytes(b"".join([*lines[:4], b"\xff no event\n", *lines[5:]]))

    async def steps(d: Driver) -> None:
        assert "! damaged" in str(d.screen.query_one("#title", Static).content)
        assert "damaged, read around" in d.status

    with warnings_held_back():
        drive(store, run, steps)
    assert "not an event" not in capfd.readouterr().err


def test_keys_that_come_in_a_bunch_go_where_the_one_before_sent_them(store: Store) -> None:
    async def steps(d: Driver) -> None:
        before = d.cursor
        for key, character in (("tab", "\t"), ("j", "j"), ("j", "j")):
            d.app.post_message(Key(key, character))
        await d.settle()
        assert d.cursor == before  # they scrolled the pane

    drive(store, small(store), steps, seq=4)


def test_the_same_context_is_not_scrolled_back_by_a_step_within_its_call(store: Store) -> None:
    run = Run(store)
    run.ask("\n".join(f"line {number}" for number in range(100)))
    run.answer("yes")
    run.close()

    async def steps(d: Driver) -> None:
        await d.press("tab", "pagedown", "tab")
        pane = d.screen.query_one("#pane", Pane)
        at = pane.scroll_y
        assert at > 0
        await d.press("j")
        assert pane.scroll_y == at

    drive(store, run, steps)
