"""Going through a recording: the keys that move the cursor, searches, bookmarks."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

from textual.events import Key, Paste

from unspool.errors import Cancelled, UnspoolError, UsageError
from unspool.events import RecordStatus
from unspool.recording.address import parse
from unspool.recording.reader import RecordReader
from unspool.store import Store
from unspool.tui import fill, seek
from unspool.tui.desk import Desk
from unspool.tui.eventlist import EventList
from unspool.tui.pane import Pane
from unspool.tui.prompt import Prompt
from unspool.tui.views import ViewScreen

__all__ = ["WalkingScreen"]


class WalkingScreen(ViewScreen):
    """A screen with an event list `#events` and a text pane `#pane`, over one recording.

    Raises:
        CorruptRecording: it cannot be read.
    """

    def __init__(self, store: Store, record_id: str) -> None:
        super().__init__()
        self._store = store
        self._record_id = record_id
        self._reader = RecordReader(store.records / record_id, live=True)
        self._seeking = Desk(self._reader.record_dir)
        self._prompt = Prompt()
        self._marks: dict[str, int] = {}
        self._before = 0  # where the last jump came from
        self._wanted = ""  # what was searched for
        self._names: Callable[[str], None] | None = None  # what waits for the letter of a bookmark
        self._remark = ""  # what is said when the cursor arrives

    def _say(self, text: str) -> None:
        """Show what just happened."""
        raise NotImplementedError

    # --- where things are --------------------------------------------------------------------------------------------

    @property
    def _events(self) -> EventList:
        return self.query_one("#events", EventList)

    @property
    def _text(self) -> Pane:
        return self.query_one("#pane", Pane)

    @property
    def _is_live(self) -> bool:
        return self._reader.metadata.status is RecordStatus.RECORDING

    @property
    def _seq(self) -> int:
        """The number of the event under the cursor; 0 where there are no events."""
        if not self._reader.event_count:
            return 0
        return self._reader.events().bare(self._events.cursor).seq_num

    @property
    def _moving(self) -> EventList | Pane:
        """What the moving keys move."""
        return self._text if self._reads or self.has_class("-zoomed") else self._events

    @property
    def _reads(self) -> bool:
        """Whether the pane has the focus. The widget itself learns of that only with a later message."""
        return self.focused is self._text

    # --- moving ------------------------------------------------------------------------------------------------------

    def action_move(self, count: int) -> None:
        """To a neighbour."""
        self._moving.move(count)

    def action_page(self, count: int) -> None:
        """A page."""
        self._moving.page(count)

    def action_first(self) -> None:
        """To the beginning."""
        self._moving.end(last=False)

    def action_last(self) -> None:
        """To the end."""
        self._moving.end(last=True)

    def action_step(self, direction: int) -> None:
        """To the next model call."""
        self._seek(lambda r, s, at: seek.find_step(r, s, at, direction), "no step on that side")

    def action_error(self, direction: int) -> None:
        """To the next failure."""
        self._seek(lambda r, s, at: seek.find_error(r, s, at, direction), "no error on that side")

    def action_continue(self, direction: int) -> None:
        """To the next bookmark."""
        at = self._events.cursor
        fits = sorted(place for place in self._marks.values() if (place > at if direction > 0 else place < at))
        if fits:
            self._jump(fits[0] if direction > 0 else fits[-1])
        else:
            self._say("no bookmark on that side; m and a letter makes one")

    def action_search(self) -> None:
        """Ask what for."""
        self._prompt.ask("/", self._search)

    def action_again(self, direction: int) -> None:
        """The next match."""
        if not self._wanted:
            self.action_search()
            return
        wanted = self._wanted
        self._seek(
            lambda r, s, at: seek.find_text(r, s, at, wanted, direction), f"no event mentions {wanted!r}", direction
        )

    def _search(self, text: str) -> None:
        self._wanted = text or self._wanted
        self.action_again(1)

    def action_goto(self) -> None:
        """Ask where to."""
        self._prompt.ask("go to N, step:N or call:N: ", self._goto)

    def _goto(self, text: str) -> None:
        try:
            _, point = parse(f"{self._record_id}@{text.strip()}")
            if point is None:
                raise UsageError("write N, step:N or call:N")
            self._jump(self._reader.index_of(point.seq_num(self._reader)))
        except UnspoolError as exc:
            self._say(str(exc))

    def action_use(self) -> None:
        """To the next answer that refers to a block."""
        target = self._text.target
        chosen = target if isinstance(target, fill.Block) else None

        def find(reader: RecordReader, stop: Event, at: int) -> int | None:
            index: int | None
            if chosen is not None:
                index = None if chosen < 0 else int(chosen)
            else:
                index = len(reader.context_at(reader.events().bare(at).seq_num).messages) - 1
            return seek.find_next_use(reader, stop, at, index)

        name = (
            "the newest message" if chosen is None else "the system prompt" if chosen < 0 else f"message {chosen + 1}"
        )
        self._seek(find, f"no later answer refers to {name}", said=f"refers to {name}")

    def action_mark(self) -> None:
        """A bookmark here."""
        self._names = self._mark
        self._say("bookmark: a letter or a digit")

    def takes(self, key: Key) -> bool:
        """What is typed at the prompt, and the letter of a bookmark that was begun."""
        if self._prompt.takes(key):
            return True
        then, self._names = self._names, None
        if then is None:
            return False
        char = key.character or ""
        then(char if char.isalnum() or char == "'" else "")
        return True

    def _mark(self, letter: str) -> None:
        if letter and letter != "'":
            self._marks[letter] = self._events.cursor
            self._events.marks = {place: name for name, place in self._marks.items()}
            self._events.refresh()
            self._say(f"bookmark {letter}")
        else:
            self._say("")

    def action_jump(self) -> None:
        """To a bookmark."""
        self._names = self._to_mark
        self._say(f"go to bookmark: {' '.join(sorted(self._marks)) or 'there is none'}")

    def _to_mark(self, letter: str) -> None:
        if letter == "'":
            self._jump(self._before)
        elif letter and letter in self._marks:
            self._jump(self._marks[letter])
        else:
            self._say(f"no bookmark {letter}" if letter else "")

    def _jump(self, position: int, said: str = "") -> None:
        self._before = self._events.cursor
        self._remark = said if position != self._before else ""
        self._events.go(position, centre=True)
        if position == self._before:
            self._say(said)

    def _seek(
        self,
        find: Callable[[RecordReader, Event, int], int | None],
        nothing: str,
        direction: int = 0,
        *,
        said: str = "",
    ) -> None:
        """Go to what `find` gives, which may take a while; `direction` says that it goes round the end."""

        async def work() -> None:
            start = self._events.cursor
            try:
                found = await self._seeking.ask(lambda reader, stop: find(reader, stop, start))
            except Cancelled:
                return
            except (UnspoolError, OSError, IndexError) as exc:
                self._say(str(exc))
                return
            if found is None:
                self._say(nothing)
                return
            went_round = direction and (found <= start if direction > 0 else found >= start)
            self._jump(found, "went round the end" if went_round else said)

        self._say("looking… Esc calls it off")
        self.run_worker(work(), exclusive=True, group="seek")

    # --- prompt ------------------------------------------------------------------------------------------------------

    def action_cancel(self) -> None:
        """Close the prompt, call off a search."""
        self._seeking.call_off()
        self._prompt.close()
        self._say("")

    def on_paste(self, event: Paste) -> None:
        """Into the prompt."""
        if self._prompt.is_open:
            self._prompt.type(event.text)
