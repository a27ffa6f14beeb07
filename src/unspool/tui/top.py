"""The full-screen `unspool top`."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any, ClassVar, Final

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.events import Key, Paste, Resize
from textual.widgets import Static

from unspool.cli import amounts
from unspool.cli.table import clip
from unspool.errors import UnspoolError
from unspool.events import RecordMetadata
from unspool.store import Store, boot_id, os_process_start
from unspool.text import show_text
from unspool.tui.agents import Agents, Row
from unspool.tui.debugger import DebuggerScreen
from unspool.tui.dialogs import Confirm, Help
from unspool.tui.keys import TOP_KEYS, bindings
from unspool.tui.pane import Pane, PaneLine
from unspool.tui.prompt import Prompt
from unspool.tui.topframe import SORTS, described, frame, in_order, matching, summary
from unspool.tui.views import View, ViewScreen, warnings_held_back

__all__ = ["Top", "one_frame", "run_top"]

_LOOK_S: Final = 1.0


class Top(View):
    """Shows the table until the person leaves.

    Args:
        everything: all recordings of the store, not only the newest.
    """

    TITLE = "unspool top"

    def __init__(self, store: Store, *, everything: bool = False) -> None:
        super().__init__(TopScreen(store, everything=everything))


class TopScreen(ViewScreen):
    """The table of one store."""

    CSS = """
    TopScreen { layout: vertical; }
    #summary, #header, #note { height: 1; width: 1fr; }
    #chosen { height: 2; width: 1fr; }
    #summary { text-style: bold; background: $panel; }
    #header { text-style: bold underline; }
    #note { background: $panel; }
    #agents { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = bindings(TOP_KEYS)

    def __init__(self, store: Store, *, everything: bool = False) -> None:
        super().__init__()
        self._store = store
        self._agents = Agents(store, everything=everything)
        self._rows: list[Row] = []
        self._sort = "tree"
        self._wanted = ""
        self._follows = False
        self._note = ""
        self._prompt = Prompt()
        self._looks = asyncio.Lock()

    def compose(self) -> ComposeResult:
        """Summary, header, table, what it does not hold of the chosen agent, prompt, note."""
        yield Static(id="summary", markup=False)
        yield Static(id="header", markup=False)
        yield Pane(id="agents", wraps=False)
        yield Static(id="chosen", markup=False)
        yield self._prompt
        yield Static(id="note", markup=False)

    def on_mount(self) -> None:
        """Look now, and then again and again."""
        self._table.focus()
        self.set_interval(_LOOK_S, self._look)
        self.call_later(self._look)

    def on_unmount(self) -> None:
        """Close the files."""
        self._agents.close()

    @property
    def _table(self) -> Pane:
        return self.query_one("#agents", Pane)

    # --- the table ---------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Read what is new, aside; then draw."""
        if self._looks.locked():  # the one before is not done yet
            return
        async with self._looks:
            try:
                self._rows = await asyncio.to_thread(self._agents.look)
            except UnspoolError as exc:
                self._say(str(exc))
                return
        if self.is_mounted:
            self._draw()

    def _draw(self) -> None:
        rows = in_order(matching(self._rows, self._wanted), self._sort)
        width = max(self._table.size.width - 2, 40)
        head, *lines = frame(rows, width).split("\n")
        shown = [
            PaneLine(_painted(line, row), row.agent.metadata.record_id) for line, row in zip(lines, rows, strict=True)
        ]
        if not rows:
            text = (
                "No agent mentions that." if self._wanted else "No agents. Record one: unspool run -- python agent.py"
            )
            shown = [PaneLine(text)]
        self._table.show(shown, keep=True)
        if self._follows and rows:
            newest = max(rows, key=lambda row: row.agent.metadata.record_id.partition("-")[2])
            self._table.choose(newest.agent.metadata.record_id)
        self._put("#header", head)
        self._put("#summary", f" unspool top  {summary(self._rows)}")
        parts = [f"sort: {self._sort}"]
        parts += [f"filter: {self._wanted}"] if self._wanted else []
        parts += ["running only"] if self._agents.running_only else []
        parts += ["following"] if self._follows else []
        self._put("#note", f" {show_text('  '.join(parts), 200)}   {self._note or '? keys'}")
        self._describe()

    def _describe(self) -> None:
        """What the table has no room for, of the chosen agent."""
        row, columns = self._chosen, max(self.size.width - 2, 10)
        lines = described(row.agent) if row is not None else ()
        self._put("#chosen", "\n".join(f" {clip(line, columns)}" for line in lines))

    def _put(self, name: str, text: str) -> None:
        """One of the lines around the table; what it says already is not drawn again."""
        line = self.query_one(name, Static)
        if line.content != text:
            line.update(text, layout=False)

    def _say(self, text: str) -> None:
        self._note = show_text(text, 200)
        self._draw()

    def on_resize(self, _event: Resize) -> None:
        """Other columns may fit."""
        self.call_after_refresh(self._draw)

    @property
    def _chosen(self) -> Row | None:
        target = self._table.target
        return next((row for row in self._rows if row.agent.metadata.record_id == target), None)

    def takes(self, key: Key) -> bool:
        """What is typed at the prompt."""
        return self._prompt.takes(key)

    # --- keys --------------------------------------------------------------------------------------------------------

    def action_move(self, count: int) -> None:
        """To a neighbour."""
        self._follows = False
        self._table.move(count)
        self._describe()

    def action_page(self, count: int) -> None:
        """A page."""
        self._follows = False
        self._table.page(count)
        self._describe()

    def action_first(self) -> None:
        """To the first."""
        self._table.end(last=False)
        self._describe()

    def action_last(self) -> None:
        """To the last."""
        self._table.end(last=True)
        self._describe()

    def action_open(self) -> None:
        """In the debugger."""
        row = self._chosen
        if row is None:
            return
        try:
            self.app.push_screen(DebuggerScreen(self._store, row.agent.metadata.record_id))
        except UnspoolError as exc:
            self._say(str(exc))

    def action_follow(self) -> None:
        """Stay on the newest."""
        self._follows = not self._follows
        self._draw()

    def action_sort(self, count: int) -> None:
        """By the next column."""
        names = list(SORTS)
        self._sort = names[(names.index(self._sort) + count) % len(names)]
        self._draw()

    def action_recent(self) -> None:
        """Running only, or recent ones too."""
        self._agents.running_only = not self._agents.running_only
        self.call_later(self._look)

    def action_filter(self) -> None:
        """Ask for a text, and filter while it is typed."""
        self._prompt.ask("only agents that mention: ", self._filter, text=self._wanted, changed=self._filter)

    def _filter(self, text: str) -> None:
        self._wanted = text.strip()
        self._draw()

    def action_cancel(self) -> None:
        """Drop the filter."""
        self._prompt.close()
        self._filter("")

    def on_paste(self, event: Paste) -> None:
        """Into the prompt."""
        if self._prompt.is_open:
            self._prompt.type(event.text)

    def action_help(self) -> None:
        """The key map."""
        self.app.push_screen(Help(TOP_KEYS))

    def action_theme(self) -> None:
        """Light or dark."""
        self._say(self.switch_theme())

    def action_leave(self) -> None:
        """Quit."""
        self.app.exit()

    # --- signals -----------------------------------------------------------------------------------------------------

    def action_pause(self) -> None:
        """Stop the process for a while, or let it go on."""
        row = self._chosen
        if row is not None and row.agent.paused:
            self._ask(row, signal.SIGCONT, "Let it go on", "goes on")
        elif row is not None:
            self._ask(row, signal.SIGSTOP, "Pause", "paused; p lets it go on")

    def action_stop(self) -> None:
        """End the process."""
        row = self._chosen
        if row is not None:
            self._ask(row, signal.SIGTERM, "Stop", "asked to end")

    def _ask(self, row: Row, number: signal.Signals, verb: str, done: str) -> None:
        metadata = row.agent.metadata
        reason = _why_not(metadata, running=row.agent.is_running)
        if reason:
            self._say(reason)
            return
        others = sum(one.agent.metadata.os_pid == metadata.os_pid and one.agent.is_running for one in self._rows) - 1
        shared = f" and {amounts.counted(others, 'other agent')} in the same process" if others else ""
        question = f"{verb}: agent {metadata.pid}{shared}?\n{show_text(metadata.intent, 60)}\n"
        question += f"{number.name} to OS process {metadata.os_pid}."

        def answered(yes: bool | None) -> None:
            self._say(_send(metadata, number, done) if yes else "nothing was sent")
            self.call_later(self._look)

        self.app.push_screen(Confirm(question), answered)


def _painted(line: str, row: Row) -> str:
    """Failures and what runs, in colour; the columns say the same without."""
    if row.agent.activity.totals.errors and row.agent.is_running:
        return f"\x1b[33m{line}\x1b[0m"
    if row.agent.paused:
        return f"\x1b[36m{line}\x1b[0m"
    return f"\x1b[32m{line}\x1b[0m" if row.agent.is_running else f"\x1b[90m{line}\x1b[0m"


def _why_not(metadata: RecordMetadata, *, running: bool) -> str:
    """Why no signal may be sent; "" if it may."""
    if not running or not metadata.os_pid or not metadata.os_start:
        return f"agent {metadata.pid} is not running, so there is no process to signal"
    if metadata.boot_id != boot_id():
        return f"agent {metadata.pid} runs on another machine, or before this one was started again"
    # A later process may have got the same number.
    if os_process_start(metadata.os_pid) != metadata.os_start:
        return f"the process of agent {metadata.pid} has ended"
    return ""


def _send(metadata: RecordMetadata, number: signal.Signals, done: str) -> str:
    """Send a signal, and say what came of it; the process is looked at again, for the question may have stood long."""
    reason = _why_not(metadata, running=True)
    if reason:
        return reason
    assert metadata.os_pid is not None, "looked at just now"
    try:
        os.kill(metadata.os_pid, number)
        if number is signal.SIGTERM:
            os.kill(metadata.os_pid, signal.SIGCONT)  # one that is paused hears of it only then
    except OSError as exc:
        return f"cannot signal OS process {metadata.os_pid}: {exc.strerror or exc}"
    return f"agent {metadata.pid}: {done}"


def one_frame(store: Store, *, everything: bool, width: int | None, color: bool) -> str:
    """The table as it is now, for scripts.

    Raises:
        StoreError: the store cannot be read.
    """
    agents = Agents(store, everything=everything)
    try:
        rows = agents.look()
    finally:
        agents.close()
    if not rows:
        return f"No agents in {store.path}."
    return f"{summary(rows)}\n{frame(rows, width, color=color)}"


def run_top(store: Store, *, everything: bool = False) -> Any:
    """Show the table in the terminal, until the person leaves."""
    with warnings_held_back():
        Top(store, everything=everything).run()
