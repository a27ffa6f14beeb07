"""The full-screen debugger of `unspool replay`: one screen for each recording that is open."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container, Vertical
from textual.events import Resize
from textual.timer import Timer
from textual.widgets import Static

from unspool.cli.prices import prices_for
from unspool.cli.subjects import subject_of
from unspool.errors import Cancelled, UnspoolError
from unspool.recording.address import resolve
from unspool.recording.reader import RecordReader
from unspool.store import Store
from unspool.text import show_text
from unspool.tui import details, fill
from unspool.tui.desk import Desk
from unspool.tui.details import Shown
from unspool.tui.dialogs import Help
from unspool.tui.eventlist import EventList
from unspool.tui.fork import ForkScreen
from unspool.tui.keys import DEBUGGER_KEYS, bindings
from unspool.tui.pane import Pane, PaneLine
from unspool.tui.spans import Place, SpanTable, span_lines, span_table
from unspool.tui.views import View
from unspool.tui.walking import WalkingScreen
from unspool.tui.windows import window_of

__all__ = ["Debugger", "DebuggerScreen", "run_debugger"]

_WIDE: Final = 110  # columns from which on list and pane stand side by side
_SETTLE_S: Final = 0.05  # the cursor rests so long before the pane is filled anew
_LOOK_S: Final = 0.2  # between looks at a recording that grows
_PANES: Final = ("context", "exchange", "diff", "tree", "fill")


class Debugger(View):
    """Opens a recording, and those that are reached from it.

    Args:
        seq_num: of the event to begin at; None: the first, or the last of a run that goes on.
    """

    TITLE = "unspool replay"

    def __init__(self, store: Store, record_id: str, seq_num: int | None = None) -> None:
        super().__init__(DebuggerScreen(store, record_id, seq_num))


class DebuggerScreen(WalkingScreen):
    """One recording.

    Args:
        seq_num: of the event to begin at.

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

    def __init__(self, store: Store, record_id: str, seq_num: int | None = None) -> None:
        super().__init__(store, record_id)
        self._looking = Desk(self._reader.record_dir)
        self._start = seq_num
        self._pane = "context"
        self._settle: Timer | None = None
        self._follows = self._is_live and seq_num is None
        self._tree: tuple[int, SpanTable] | None = None  # and how many events there were then
        self._drawn: tuple[Any, ...] = ()

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

    def on_unmount(self) -> None:
        """Close the files."""
        self._looking.close()
        self._seeking.close()
        self._reader.close()

    # --- what is said ------------------------------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        """Title, tabs and status line; `text` is what just happened."""
        metadata, count = self._reader.metadata, self._reader.event_count
        status = "● recording" if self._is_live else str(metadata.status)
        forked = f"  fork of {show_text(metadata.parent or '')}@{metadata.forked_at}" if metadata.forked_at else ""
        title = f" {show_text(metadata.record_id)}  {status}{forked}  {show_text(metadata.intent, 80)}"
        self.query_one("#title", Static).update(title)
        # The pane in sight is marked without colour too.
        names = [f"[{n} {name}]" if name == self._pane else f" {n} {name} " for n, name in enumerate(_PANES, 1)]
        self.query_one("#tabs", Static).update("".join(names))
        where = f" {self._events.cursor + 1 if count else 0}/{count}"
        if count:
            event = self._reader.events().bare(self._events.cursor)
            where += "".join(
                f" {name} {value}" for name in ("step", "call") if (value := getattr(event, name)) is not None
            )
        where += "  following" if self._follows and self._is_live else ""
        self.query_one("#status", Static).update(f"{where}   {show_text(text, 200) or '? keys'}")

    def _refill(self, *, keep: bool = False) -> None:
        """Fill the pane for the event under the cursor, once the cursor rests."""
        if self._settle is not None:
            self._settle.stop()
        self._settle = self.set_timer(_SETTLE_S, lambda: self._fill(keep))

    def _fill(self, keep: bool) -> None:
        # The cursor may have moved on: whatever is being made for an older place is called off.
        self.run_worker(self._load(keep), exclusive=True, group="pane")

    async def _load(self, keep: bool) -> None:
        seq, name, width = self._seq, self._pane, max(self._text.size.width - 1, 20)
        if not seq:
            self._text.show([PaneLine("No events yet.")])
            return
        drawn = (name, width, seq if name != "tree" else self._reader.event_count)
        if drawn == self._drawn:
            self._choose_span(seq)
            return
        try:
            shown = await self._looking.ask(lambda reader, _stop: self._lines(reader, name, seq, width))
        except Cancelled:
            return
        except (UnspoolError, OSError, IndexError) as exc:
            shown = Shown([PaneLine(f"\x1b[91m{show_text(str(exc))}\x1b[0m")])
        # A tree stays put while the cursor moves; so does anything of the same place.
        self._text.show(shown.lines, top=shown.top, keep=keep or (drawn[0] == "tree" and self._drawn[:1] == ("tree",)))
        self._drawn = drawn
        self._choose_span(seq)

    def _lines(self, reader: RecordReader, name: str, seq: int, width: int) -> Shown:
        """In the thread of the desk."""
        if name == "context":
            return details.context_lines(reader, seq)
        if name == "exchange":
            return details.exchange_lines(reader, seq)
        if name == "diff":
            return details.diff_lines(reader, seq)
        if name == "fill":
            return fill.fill_lines(details.profile_at(reader, seq, window_of(reader, seq)), width)
        if self._tree is None or self._tree[0] != reader.event_count:
            with subject_of(self._store, self._root, prices_for(self._store), messages=False) as subject:
                self._tree = reader.event_count, span_table(subject)
        return span_lines(self._tree[1], width)

    @property
    def _root(self) -> str:
        """The recording the tree begins at: all of the run, if its first process is there."""
        root = self._reader.metadata.root
        return root if root is not None and (self._store.records / root).is_dir() else self._record_id

    def _choose_span(self, seq: int) -> None:
        if self._pane == "tree" and not self._text.has_focus:
            self._text.choose(Place(self._record_id, seq))

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
        elif isinstance(target, fill.Block):
            self.action_use()

    def _open(self, place: Place) -> None:
        if place.record_id == self._record_id:
            if place.seq_num is not None:
                self._jump(self._reader.index_of(place.seq_num))
            return
        self._enter(place.record_id, place.seq_num)

    def _enter(self, record_id: str, seq_num: int | None = None) -> None:
        try:
            screen = DebuggerScreen(self._store, record_id, seq_num)
        except UnspoolError as exc:
            self._say(str(exc))
            return
        self.app.push_screen(screen)

    def on_resize(self, event: Resize) -> None:
        """Side by side where there is room."""
        self.set_class(event.size.width >= _WIDE, "-wide")
        self._refill(keep=True)

    # --- panes -------------------------------------------------------------------------------------------------------

    def action_show(self, name: str) -> None:
        """Another pane."""
        self._pane = name
        self._drawn = ()
        self._say("")
        self._fill(False)

    def action_other(self) -> None:
        """Between list and pane."""
        self.set_focus(self._events if self._text.has_focus and not self.has_class("-zoomed") else self._text)

    def action_zoom(self) -> None:
        """The pane alone, or both."""
        self.toggle_class("-zoomed")
        self.set_focus(self._text if self.has_class("-zoomed") else self._events)

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
        if record_id:
            self._enter(record_id)

    def action_help(self) -> None:
        """The key map."""
        self.app.push_screen(Help(DEBUGGER_KEYS))

    def action_theme(self) -> None:
        """Light or dark."""
        self.switch_theme()

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
    Debugger(store, record_id, seq_num).run()
