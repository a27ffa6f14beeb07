"""The full-screen debugger of `unspool replay`: one screen for each recording that is open."""

from __future__ import annotations

import asyncio
from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container, Vertical
from textual.events import Resize
from textual.widgets import Static

from unspool.cli import amounts
from unspool.errors import UnspoolError
from unspool.recording.address import resolve
from unspool.recording.reader import RecordReader
from unspool.store import Store
from unspool.text import show_text
from unspool.tui import fill
from unspool.tui.beside import Counterpart, origin_of
from unspool.tui.dialogs import Help
from unspool.tui.eventlist import EventList
from unspool.tui.fork import ForkScreen
from unspool.tui.keys import DEBUGGER_KEYS, bindings
from unspool.tui.pane import Pane
from unspool.tui.showing import PANES, ShowingScreen
from unspool.tui.spans import Place
from unspool.tui.views import View, warnings_held_back

__all__ = ["Debugger", "DebuggerScreen", "run_debugger"]

_WIDE: Final = 110  # columns from which on list and pane stand side by side
_OWN: Final = ("edited", "live")  # origins of what a fork did itself
_INSPECTED_MAX: Final = 20_000  # events of which each is looked at for damage: more would hold up keys for seconds
_LOOK_S: Final = 0.2  # between looks at a recording that grows


class Debugger(View):
    """Opens a recording, and those that are reached from it.

    Args:
        seq_num: of the event to begin at; None: the first, or the last of a run that goes on.
    """

    TITLE = "unspool replay"

    def __init__(self, store: Store, record_id: str, seq_num: int | None = None) -> None:
        super().__init__(DebuggerScreen(store, record_id, seq_num))


class DebuggerScreen(ShowingScreen):
    """One recording.

    Args:
        seq_num: of the event to begin at.
        pane: to begin with, one of `PANES`.

    Raises:
        CorruptRecording: it cannot be read.
    """

    CSS = """
    DebuggerScreen { layout: vertical; }
    #title, #tabs, #status { height: 1; width: 1fr; }
    #title { text-style: bold; background: $panel; }
    #status { background: $panel; }
    #body { layout: vertical; height: 1fr; }
    #events { height: 45%; }
    #side { height: 1fr; }
    #pane { height: 1fr; }
    DebuggerScreen.-wide #body { layout: horizontal; }
    DebuggerScreen.-wide #events { width: 46%; height: 1fr; border-right: solid $panel; }
    DebuggerScreen.-wide #side { width: 1fr; height: 1fr; }
    DebuggerScreen.-zoomed #events { display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = bindings(DEBUGGER_KEYS)

    def __init__(self, store: Store, record_id: str, seq_num: int | None = None, *, pane: str = "context") -> None:
        super().__init__(store, record_id)
        self._start = seq_num
        self._pane = pane
        self._damaged = 0  # places of its files that cannot be read
        self._follows = self._is_live and seq_num is None

    def compose(self) -> ComposeResult:
        """Title, list and pane, prompt, status."""
        yield Static(id="title", markup=False)
        with Container(id="body"):
            yield EventList(self._reader, id="events")
            with Vertical(id="side"):
                yield Static(id="tabs", markup=False)
                yield Pane(id="pane")
        yield self._prompt
        yield Static(id="status", markup=False)

    def on_mount(self) -> None:
        """Put the cursor where it was asked for."""
        self.set_class(self.app.size.width >= _WIDE, "-wide")
        self._events.focus()
        if self._start is not None:
            self._events.go(self._reader.index_of(self._start), centre=True)
        elif self._follows:
            self._events.end(last=True)
        self.set_interval(_LOOK_S, self._look)
        self._say("")
        self._refill()
        self.run_worker(self._inspect(), group="damage")

    async def _inspect(self) -> None:
        """Say what of the recording cannot be read, once that is known."""
        if self._reader.event_count > _INSPECTED_MAX:
            return  # `unspool show` looks through it
        folder = self._reader.record_dir

        def look() -> int:
            with RecordReader(folder, live=True) as reader:
                return len(reader.damage)

        try:
            self._damaged = await asyncio.to_thread(look)
        except (UnspoolError, OSError):
            return  # what cannot be read any more says so in the pane
        if self._damaged and self.is_mounted:
            places = amounts.counted(self._damaged, "place")
            self._say(f"{places} damaged, read around; list them with: unspool show {self._record_id}")

    # --- what is said ------------------------------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        """Title, tabs and status line; `text` is what just happened."""
        metadata, count = self._reader.metadata, self._reader.event_count
        status = "● recording" if self._is_live else str(metadata.status)
        forked = f"  fork of {show_text(metadata.parent or '')}@{metadata.forked_at}" if metadata.forked_at else ""
        damaged = "  ! damaged" if self._damaged else ""
        title = f" {show_text(metadata.record_id)}  {status}{damaged}{forked}  {show_text(metadata.intent, 80)}"
        self._put("#title", title)
        self._put_tabs()
        where = f" {self._events.cursor + 1 if count else 0}/{count}"
        if count:
            event = self._reader.events().bare(self._events.cursor)
            where += "".join(
                f" {name} {value}" for name in ("step", "call") if (value := getattr(event, name)) is not None
            )
        where += "  following" if self._follows and self._is_live else ""
        self._put("#status", f"{where}   {show_text(text, 200) or '? keys'}")

    def _put_tabs(self) -> None:
        """The names of the panes, or only their numbers where there is no room; the one in sight is marked."""
        metadata = self._reader.metadata
        panes = PANES if origin_of(metadata) is not None else PANES[:-1]
        names = [f"[{n} {name}]" if name == self._pane else f" {n} {name} " for n, name in enumerate(panes, 1)]
        if len("".join(names)) > (self._text.size.width or self.app.size.width):
            names = [name if name.startswith("[") else f" {name.split()[0]} " for name in names]
        self._put("#tabs", "".join(names))

    def _put(self, name: str, text: str) -> None:
        """One of the lines around; what it says already is not drawn again, which matters over a slow line."""
        line = self.query_one(name, Static)
        if line.content != text:
            line.update(text, layout=False)

    # --- following ---------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Look for new events of a run that goes on."""
        if not self._is_live:
            return
        found = self._reader.refresh()
        if found:
            self._events.grown()
            if self._follows:
                self._events.end(last=True)
        if found or not self._is_live:
            self._say("" if self._is_live else "the run has ended")

    def on_event_list_moved(self, message: EventList.Moved) -> None:
        """The pane follows the cursor."""
        if message.position < self._reader.event_count - 1:
            self._follows = False
        remark, self._remark = self._remark, ""
        self._say(remark)
        self._refill()

    def on_pane_chosen(self, message: Pane.Chosen) -> None:
        """Go to what a line of the pane means."""
        target = message.target
        if isinstance(target, Place):
            self._open(target)
        elif isinstance(target, Counterpart):
            self._open_counterpart(target)
        elif isinstance(target, fill.Block):
            self.action_use()

    def _open(self, place: Place) -> None:
        if place.record_id == self._record_id:
            if place.seq_num is not None:
                self._jump(self._reader.index_of(place.seq_num))
            return
        self._enter(place.record_id, place.seq_num)

    def _open_counterpart(self, found: Counterpart) -> None:
        """The step of the parent, or the one of the fork where the parent has none."""
        place = found.there or found.here
        if place is not None:
            self._open(place)

    def _enter(self, record_id: str, seq_num: int | None = None, *, pane: str = "context") -> None:
        try:
            screen = DebuggerScreen(self._store, record_id, seq_num, pane=pane)
        except UnspoolError as exc:
            self._say(str(exc))
            return
        self.app.push_screen(screen)

    def on_resize(self, event: Resize) -> None:
        """Side by side where there is room."""
        self.set_class(event.size.width >= _WIDE, "-wide")
        self.call_after_refresh(self._put_tabs)
        self._refill(keep=bool(self._drawn))

    # --- panes -------------------------------------------------------------------------------------------------------

    def action_enter(self) -> None:
        """What the chosen line of the pane means, or the sub-agent that the event started."""
        if self._moving is self._text:
            self._text.action_choose()
            return
        if not self._seq:
            return
        data = self._reader.events().bare(self._events.cursor).syscall
        pid = data.args.get("pid") if data is not None and data.syscall == "Spawn" else None
        if not isinstance(pid, int):
            self.action_show("exchange")
            return
        try:
            self._enter(resolve(self._store, str(pid)).record_id)
        except UnspoolError as exc:
            self._say(str(exc))

    # --- others ------------------------------------------------------------------------------------------------------

    def action_follow(self) -> None:
        """Stay at the end of a run that goes on."""
        if not self._is_live:
            self._say("this run has ended")
            return
        self._follows = not self._follows
        if self._follows:
            self._events.end(last=True)
        self._say("")

    def action_address(self) -> None:
        """Say how other commands name this event."""
        self._say(f"{self._record_id}@{self._seq}")

    def action_fork(self) -> None:
        """Fork at the cursor."""
        if self._seq:
            self.app.push_screen(ForkScreen(self._store, self._reader, self._seq), self._forked)

    def _forked(self, record_id: str | None) -> None:
        """Open what came of a fork, beside its parent and where it left it."""
        if record_id:
            self._enter(record_id, self._left_at(record_id), pane="parent")

    def _left_at(self, record_id: str) -> int | None:
        """The first event of a fork that was not served from its parent; None if there is none."""
        try:
            with RecordReader(self._store.records / record_id, live=True) as reader:
                return next((event.seq_num for event in reader.bare_events() if event.origin in _OWN), None)
        except (UnspoolError, OSError):
            return None  # what is wrong with it is said when it is opened

    def action_help(self) -> None:
        """The key map."""
        self.app.push_screen(Help(DEBUGGER_KEYS))

    def action_theme(self) -> None:
        """Light or dark."""
        self._say(self.switch_theme())

    def action_leave(self) -> None:
        """Back to where this recording was opened from."""
        # Below the first recording is the app's own empty screen; below one opened from `top` is the table.
        if len(self.app.screen_stack) > 2:
            self.app.pop_screen()
        else:
            self.app.exit()


def run_debugger(store: Store, record_id: str, seq_num: int | None = None) -> None:
    """Open a recording in the terminal, until the person leaves.

    Raises:
        CorruptRecording: it cannot be read.
    """
    with warnings_held_back():
        Debugger(store, record_id, seq_num).run()
