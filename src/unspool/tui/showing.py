"""The pane beside the event list: what it shows of the event under the cursor, and how it keeps up with the cursor."""

from __future__ import annotations

from typing import Any, Final

from textual.timer import Timer

from unspool.cli.prices import prices_for
from unspool.cli.subjects import subject_of
from unspool.errors import Cancelled, UnspoolError
from unspool.recording.reader import RecordReader
from unspool.store import Store
from unspool.text import show_text
from unspool.tui import beside, details, fill
from unspool.tui.desk import Desk
from unspool.tui.details import Shown
from unspool.tui.pane import PaneLine
from unspool.tui.spans import Place, SpanTable, span_lines, span_table
from unspool.tui.walking import WalkingScreen
from unspool.tui.windows import window_of

__all__ = ["PANES", "ShowingScreen"]

PANES: Final = ("context", "exchange", "diff", "tree", "fill", "parent")
_OF_THE_RUN: Final = ("tree", "parent")
"""These say the same wherever the cursor is; only what is chosen in them follows it."""
_SETTLE_S: Final = 0.05  # the cursor rests so long before the pane is filled anew


class ShowingScreen(WalkingScreen):
    """A screen whose pane is one of `PANES`.

    Raises:
        CorruptRecording: the recording cannot be read.
    """

    def __init__(self, store: Store, record_id: str) -> None:
        super().__init__(store, record_id)
        self._looking = Desk(self._reader.record_dir)
        self._pane = "context"
        self._settle: Timer | None = None
        self._tree: tuple[int, SpanTable] | None = None  # and how many events there were then
        self._drawn: tuple[Any, ...] = ()

    def on_unmount(self) -> None:
        """Close the files."""
        self._looking.close()
        self._seeking.close()
        self._reader.close()

    # --- keys --------------------------------------------------------------------------------------------------------

    def action_show(self, name: str) -> None:
        """Another pane."""
        self._pane = name
        self._drawn = ()
        self._say("")
        self._fill(False)

    def action_other(self) -> None:
        """Between list and pane."""
        self.set_focus(self._events if self._reads and not self.has_class("-zoomed") else self._text)

    def action_zoom(self) -> None:
        """The pane alone, or both."""
        self.toggle_class("-zoomed")
        self.set_focus(self._text if self.has_class("-zoomed") else self._events)

    # --- filling it --------------------------------------------------------------------------------------------------

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
            still = " yet" if self._is_live else ": nothing was recorded, or nothing of it can be read"
            self._text.show([PaneLine(f"No events{still}.")])
            return
        drawn = (name, width, self._reader.event_count if name in _OF_THE_RUN else seq)
        if drawn == self._drawn:
            self._choose(seq)
            return
        try:
            shown = await self._looking.ask(lambda reader, _stop: self._lines(reader, name, seq, width))
        except Cancelled:
            return
        except (UnspoolError, OSError, IndexError) as exc:
            shown = Shown([PaneLine(f"\x1b[91m{show_text(str(exc))}\x1b[0m")])
        # What is of the whole run stays put while the cursor moves; so does anything of the same place.
        stays = drawn[0] in _OF_THE_RUN and self._drawn[:1] == drawn[:1]
        self._text.show(shown.lines, top=shown.top, keep=keep or stays)
        self._drawn = drawn
        self._choose(seq)

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
        if name == "parent":
            return beside.parent_lines(beside.parent_diff(self._store, reader.metadata), width)
        if self._tree is None or self._tree[0] != reader.event_count:
            with subject_of(self._store, self._root, prices_for(self._store), messages=False) as subject:
                self._tree = reader.event_count, span_table(subject)
        return span_lines(self._tree[1], width)

    @property
    def _root(self) -> str:
        """The recording the tree begins at: all of the run, if its first process is there."""
        root = self._reader.metadata.root
        return root if root is not None and (self._store.records / root).is_dir() else self._record_id

    def _choose(self, seq: int) -> None:
        """The line of a pane on the whole run that stands for the event under the cursor."""
        if self._reads:
            return
        here = Place(self._record_id, seq)
        if self._pane == "tree":
            self._text.choose(here)
        elif self._pane == "parent":
            self._text.choose(beside.counterpart_at(self._text.lines, here))
