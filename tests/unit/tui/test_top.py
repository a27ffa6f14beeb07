"""`top`: what its table says, and what its keys do to real processes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from textual.pilot import Pilot
from textual.widgets import Static
from tui_made import MS, Run, path_of, small

from unspool.cli.activity import activity_of
from unspool.cli.main import cli
from unspool.events import ContextSnapshotData, CtxMessage, RecordEvent, RecordEventType
from unspool.recording.reader import RecordReader
from unspool.store import Store
from unspool.tui.agents import Agents
from unspool.tui.debugger import DebuggerScreen
from unspool.tui.dialogs import Confirm
from unspool.tui.pane import Pane
from unspool.tui.top import Top
from unspool.tui.topframe import SORTS, frame, in_order, matching

# Says when it is recording, then waits to be signalled.
AGENT = """
import sys
from unspool.recording.recorder import Recorder
from unspool.store import boot_id, os_process_start
import os
fields = {"os_pid": os.getpid(), "os_start": os_process_start(os.getpid()), "boot_id": boot_id()}
with Recorder(sys.argv[1], 7, "a process", fields=fields):
    print("ready", flush=True)
    sys.stdin.read()
"""


class Driver:
    """Presses keys on the table."""

    def __init__(self, pilot: Pilot[None]) -> None:
        self.pilot = pilot
        self.app = pilot.app

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.settle()

    async def settle(self) -> None:
        await self.pilot.pause()
        table = self.app.screen_stack[1]
        await table._look()  # type: ignore[attr-defined]
        await self.app.workers.wait_for_complete()
        await self.pilot.pause()

    @property
    def rows(self) -> list[str]:
        return [line.text for line in self.app.screen_stack[1].query_one(Pane).lines]

    @property
    def note(self) -> str:
        return str(self.app.screen_stack[1].query_one("#note", Static).content)


def drive(store: Store, steps: Callable[[Driver], Awaitable[None]], size: tuple[int, int] = (120, 30)) -> None:
    async def go() -> None:
        app = Top(store)
        async with app.run_test(size=size) as pilot:
            driver = Driver(pilot)
            await driver.settle()
            await steps(driver)

    asyncio.run(go())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return path_of(tmp_path)


@pytest.fixture
def process(store: Store) -> Iterator[subprocess.Popen[str]]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("UNSPOOL_")}
    words = [sys.executable, "-c", AGENT, str(store.ensure().records)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "ready\n"
        yield started
        started.kill()


def look(store: Store) -> list[str]:
    agents = Agents(store)
    try:
        return frame(agents.look(), None).split("\n")
    finally:
        agents.close()


def test_the_table_says_what_each_agent_does_and_how_full_its_context_is(store: Store) -> None:
    run = Run(store, 3, "settle the ticket")
    for turn in range(6):
        run.ask(f"turn {turn}")
        run.answer("fine", tokens=10_000 * (turn + 1))
    run.ask("the last")
    header, row = look(store)
    run.close()
    assert header.split() == (
        "AGENT STATE TIME MODEL STEP DOING CONTEXT STEPS LEFT TOK/MIN $/MIN TOKENS COST ERR INTENT".split()
    )
    assert "gpt-4o" in row
    assert "llm gpt-4o" in row  # in flight
    assert "███░░░ 47%" in row  # 60,010 of 128,000
    assert "~" in row.partition("47%")[2]
    assert row.endswith("settle the ticket")


def test_small_calls_aside_do_not_hide_the_conversation_that_fills_up(store: Store) -> None:
    run = Run(store)
    for number, (lane, tokens) in enumerate(((1, 64_000), (2, 10)), 1):
        data = ContextSnapshotData(messages=[CtxMessage("user", str(number))], model="gpt-4o", provider="openai")
        kind = RecordEventType.CONTEXT_SNAPSHOT
        run.recorder.write_event(RecordEvent(kind, 0, number * MS, 1, context=data, call=number, lane=lane))
        run.calls = number
        run.answer("x", tokens=tokens)
    run.close()
    assert "50%" in look(store)[1]


def test_sub_agents_hang_below_their_parents_and_sorting_takes_the_branches_away(store: Store) -> None:
    parent = Run(store, 1, "the parent")
    from unspool.recording.recorder import Recorder

    fields = {"parent": parent.record_id, "parent_pid": 1, "root": parent.record_id}
    with Recorder(store.records, 2, "the child", fields=fields):
        agents = Agents(store)
        rows = agents.look()
        agents.close()
    parent.close()
    lines = frame(rows, None).split("\n")
    assert [line.split()[0] for line in lines[1:]] == ["1", "└─2"]
    for sort in SORTS:
        assert len(in_order(rows, sort)) == 2
    assert "└" not in frame(in_order(rows, "tokens"), None)
    assert [row.agent.metadata.pid for row in matching(rows, "CHILD")] == [2]


def test_reading_on_gives_what_reading_all_gives(store: Store) -> None:
    run = Run(store)
    agents = Agents(store)
    for turn in range(3):
        run.ask(f"turn {turn}")
        agents.look()
        run.answer("fine")
        run.tool("search", {}, "x", err="boom" if turn == 1 else "")
        seen = agents.look()[0].agent.activity
        with RecordReader(store.records / run.record_id, live=True) as reader:
            whole = activity_of(store, reader.metadata, 1.0)
        assert seen.totals == whole.totals
        assert seen.state == whole.state
        assert [one.what for one in seen.doing] == [one.what for one in whole.doing]
    assert seen.totals.errors == 1
    assert seen.totals.calls == 3
    agents.close()
    run.close()


@pytest.mark.parametrize("width", [40, 80, 160])
def test_the_table_fits_its_width(store: Store, width: int) -> None:
    small(store)
    agents = Agents(store)
    rows = agents.look()
    agents.close()
    assert max(map(len, frame(rows, width).split("\n"))) <= max(width, 60)


def test_keys_choose_sort_filter_open_and_come_back(store: Store) -> None:
    first, second = Run(store, 1, "apples"), Run(store, 2, "pears")
    first.close()
    second.close()

    async def steps(d: Driver) -> None:
        assert len(d.rows) == 2
        await d.press("s")
        assert "sort: time" in d.note
        await d.press("S")
        assert "sort: tree" in d.note
        await d.press("slash", *"apples", "enter")
        assert len(d.rows) == 1
        assert "apples" in d.rows[0]
        await d.press("enter")
        assert isinstance(d.app.screen, DebuggerScreen)
        assert "apples" in str(d.app.screen.query_one("#title", Static).content)
        await d.press("q", "escape")
        assert len(d.rows) == 2
        await d.press("a")
        assert "No agents" in d.rows[0]

    drive(store, steps)


def test_a_process_is_paused_goes_on_and_is_stopped_once_that_is_confirmed(
    store: Store, process: subprocess.Popen[str]
) -> None:
    async def steps(d: Driver) -> None:
        await d.press("p")
        assert isinstance(d.app.screen, Confirm)
        await d.press("n")
        assert "nothing was sent" in d.note
        await d.press("p", "y")
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        await d.settle()
        assert "paused" in d.rows[0]
        await d.press("p", "y")
        os.waitid(os.P_PID, process.pid, os.WCONTINUED | os.WNOWAIT)
        await d.settle()
        assert "paused" not in d.rows[0]
        await d.press("x", "y")
        assert process.wait(timeout=60) == -15
        await d.settle()
        await d.press("x")
        assert "not running" in d.note

    drive(store, steps)


def test_a_number_that_another_process_has_now_is_never_signalled(store: Store) -> None:
    from unspool.recording.recorder import Recorder
    from unspool.store import boot_id

    # This very process, but as it would have been begun at another time.
    fields = {"os_pid": os.getpid(), "os_start": 1, "boot_id": boot_id()}
    with Recorder(store.ensure().records, 1, "gone", fields=fields):

        async def steps(d: Driver) -> None:
            for key in ("p", "x"):
                await d.press(key)
                assert not isinstance(d.app.screen, Confirm)
                assert "has ended" in d.note

        drive(store, steps)


def test_once_prints_a_frame_for_scripts(store: Store) -> None:
    empty = CliRunner().invoke(cli, ["top", "--once", "--store", str(store.path)])
    assert (empty.exit_code, empty.output) == (0, f"No agents in {store.path}.\n")
    small(store)
    result = CliRunner().invoke(cli, ["top", "--once", "--store", str(store.path)], env={"COLUMNS": "100"})
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0].startswith("0 running, 1 ended")
    assert lines[1].startswith("AGENT")
    assert "\x1b" not in result.output


def test_without_a_terminal_or_without_textual_the_error_says_what_to_do(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = CliRunner().invoke(cli, ["top", "--store", str(store.path)])
    assert (result.exit_code, "unspool top --once" in result.output) == (2, True)
    monkeypatch.setitem(sys.modules, "textual", None)
    result = CliRunner().invoke(cli, ["top", "--once", "--store", str(store.path)])
    assert result.exit_code == 2
    assert "pip install 'unspool[tui]'" in result.output
    assert "unspool ps" in result.output
