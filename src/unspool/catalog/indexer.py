"""Brings the catalog up to date in a thread of its own, so that a page waits only as long as it wants to."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from unspool.catalog.catalog import Catalog
from unspool.catalog.entries import Entry
from unspool.catalog.words import Words
from unspool.errors import UnspoolError
from unspool.text import show_text

__all__ = ["Indexer", "State"]

logger = logging.getLogger("unspool")
_READ_AT_ONCE: Final = 50
_TEXTS_AT_ONCE: Final = 20
_SAY_S: Final = 1.0
_WORK_S: Final = 0.004
_PAUSE_S: Final = 0.008
_ASIDE_S: Final = 0.25  # at most, for each piece of work: many pages at once must not stop it


@dataclass
class State:
    """The recordings of a store as far as they are known.

    Attributes:
        entries: the newest first; one that is still to be read is as it was some time ago.
        recordings: how many there are, read or not.
        unread: how many recordings are still to be read.
        unsearched: how many still lack texts, those in `unread` included; 0 if nobody asked for texts.
    """

    entries: list[Entry]
    recordings: int
    unread: int = 0
    unsearched: int = 0


class Indexer:
    """Reads recordings into a catalog, the newest first. Safe to use from several threads.

    The thread ends when there is nothing left to read; it keeps no process alive.
    """

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.words = Words(catalog)
        self.done = 0  # counts what was read
        self._changed = threading.Condition()
        self._to_read: dict[str, None] = {}  # in order
        self._to_search: dict[str, None] = {}
        self._thread: threading.Thread | None = None
        self._failed: set[str] = set()
        self._owed = False  # somebody was given less than there is
        self._waiting = 0
        self._pages = 0  # that are being made
        self._worked_since = 0.0
        self._said, self._said_at = 0, 0.0
        self._saw_texts = False

    def state(self, *, texts: bool, patience_s: float) -> State:
        """The recordings as they are now; what is not read when patience ends is counted.

        Args:
            texts: have their texts ready for a search too.
            patience_s: how long to wait for what has to be read first.

        Raises:
            StoreError: the store cannot be read.
        """
        look = self.catalog.look()
        if not look.unread and not texts and self._saw_texts:
            return State(look.entries, len(look.entries))
        names = look.unread
        missing = [one.name for one in self.words.missing(look.entries)] if texts else []
        wanted = {*names, *missing}
        with self._changed:
            self._put(names, [*names, *missing] if texts else [])
            self._waiting += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._thread is None or not self._left(wanted, texts=texts), patience_s)
            self._waiting -= 1
            unread = self._left(set(names), texts=False)
            unsearched = self._left(wanted, texts=True) if texts else set()
            self._owed = self._owed or bool(unread or unsearched)
        if not names:
            return State(look.entries, len(look.entries), 0, len(unsearched))
        known = self.catalog.snapshot()
        entries = [known[name] for name in self.catalog.names() if name in known]
        return State(entries, len(entries) + len(unread - known.keys()), len(unread), len(unsearched))

    def _left(self, names: set[str], *, texts: bool) -> set[str]:
        """Which of these are not read, or not searchable."""
        waiting = self._to_read.keys() | self._to_search.keys() if texts else self._to_read.keys()
        return names & (waiting | self._failed)

    def progress(self) -> int:
        """A number that grows, once a second, while there is more to show than a request for `state` was given."""
        with self._changed:
            now = time.monotonic()
            if self._owed and (self._thread is None or now - self._said_at >= _SAY_S):
                self._owed = self._thread is not None
                self._said, self._said_at = self.done, now
            return self._said

    def _put(self, names: Iterable[str], texts: Iterable[str]) -> None:
        """Have these read before what waits already."""
        self._to_read = {**dict.fromkeys(names), **self._to_read}
        self._to_search = {**dict.fromkeys(texts), **self._to_search}
        if self._thread is None and (self._to_read or self._to_search or not self._saw_texts):
            self._thread = threading.Thread(target=self._work, name="unspool-catalog", daemon=True)
            self._thread.start()

    # --- in the thread -----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while self._work_on():
                pass
        except UnspoolError as exc:
            logger.debug("the catalog is not brought up to date: %s", exc)
        finally:
            # What was not read stays waiting, and is counted as such; the next request starts another thread.
            with self._changed:
                if self._thread is threading.current_thread():
                    self._thread = None
                self._changed.notify_all()

    def _work_on(self) -> bool:
        """Read a few recordings; whether there is more to do."""
        with self._changed:
            names = list(self._to_read)[:_READ_AT_ONCE]
            texts = [] if names else list(self._to_search)[:_TEXTS_AT_ONCE]
            if not names and not texts and self._saw_texts:
                self._thread = None
                return False
        if names:
            for name in names:
                self._read(name)
            self.catalog.save()
        elif texts:
            self._read_texts(texts)
        else:
            # The first search shall not have to wait: texts are read as soon as there is nothing else to do.
            self._saw_texts = True
            ended = [entry for entry in self.catalog.look().entries if entry.ended]
            missing = [entry.name for entry in self.words.missing(ended)]
            with self._changed:
                self._to_search = {**self._to_search, **dict.fromkeys(missing)}
        return True

    def _read(self, name: str) -> None:
        failed = True
        try:
            self.catalog.entry(name)
            failed = False
        except Exception as exc:  # noqa: BLE001 - one recording must not keep all others out of the list
            logger.warning("%s cannot be read: %s: %s", show_text(name), type(exc).__name__, show_text(str(exc)))
        with self._changed:
            self._to_read.pop(name, None)
            self._finish([name], [name] if failed else [])

    def _read_texts(self, names: list[str]) -> None:
        failed = set(names)
        try:
            entries = {name: entry for name in names if (entry := self.catalog.entry(name)) is not None}
            # What is no recording any more has no texts.
            failed = entries.keys() - self.words.index(entries.values(), self._pause)
        except Exception as exc:  # noqa: BLE001 - as above
            if len(names) > 1:  # which of them it was is not known
                for name in names:
                    self._read_texts([name])
                return
            logger.warning("texts cannot be read: %s: %s", type(exc).__name__, show_text(str(exc)))
        with self._changed:
            for name in names:
                self._to_search.pop(name, None)
            self._finish(names, failed)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Inside this block a page is made: what nobody waits for is read behind it."""
        with self._changed:
            self._pages += 1
        try:
            yield
        finally:
            with self._changed:
                self._pages -= 1
                self._changed.notify_all()

    def _pause(self) -> None:
        """Leave the time to those who make pages, and most of it at other times, as long as nobody waits for this."""
        if self._pages and not self._waiting:
            with self._changed:
                self._changed.wait_for(lambda: not self._pages or self._waiting, _ASIDE_S)
        if not self._waiting and not self._owed and time.perf_counter() - self._worked_since > _WORK_S:
            time.sleep(_PAUSE_S)
            self._worked_since = time.perf_counter()

    def _finish(self, names: list[str], failed: Iterable[str]) -> None:
        self._failed.difference_update(names)
        self._failed.update(failed)
        self.done += len(names)
        self._changed.notify_all()
