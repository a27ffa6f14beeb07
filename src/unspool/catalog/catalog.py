"""The catalog of one store: an entry for each recording, each checked against its files before it is given."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar

import msgspec

from unspool.catalog.database import NAME, Database
from unspool.catalog.entries import Entry, is_fresh, read_entry, signature_of
from unspool.catalog.sums import PriceBook, Sums
from unspool.catalog.textrows import drop_texts
from unspool.events import RecordMetadata, RecordStatus
from unspool.recording.address import names_newest_first
from unspool.store import Store

__all__ = ["Catalog", "Look", "save_entries"]

logger = logging.getLogger("unspool")
T = TypeVar("T")
_BATCH: Final = 500  # entries written in one transaction
_ONE_BY_ONE: Final = 50  # entries asked for by name, before all are read from the file at once
_LIVE_STEP: Final = 1000  # events after which the entry of a recording that goes on is written again
_ROWS: Final = "SELECT name, signature, prices, ended, metadata, sums FROM recordings"


@dataclass
class Look:
    """The recordings of a store at one moment.

    Attributes:
        entries: those that are known, the newest first.
        unread: names of those that changed or came since they were last read, the newest first.
    """

    entries: list[Entry]
    unread: list[str]


class Catalog:
    """What is known of the recordings of a store. Safe to use from several threads.

    Nothing here fails because of the catalog: without a file that can be used everything is read from the recordings.

    Args:
        store: the store; a folder that does not exist has no recordings and no catalog.
        book: public prices, and the user's own.
    """

    def __init__(self, store: Store, book: PriceBook) -> None:
        self.store = store
        self.book = book
        self.database = Database(store.path / NAME)
        self.changes = 0  # counts up with every entry that came, changed or went
        self._lock = threading.RLock()
        self._entries: dict[str, Entry] = {}
        self._not_recordings: dict[str, bytes] = {}
        self._unsaved: dict[str, Entry] = {}
        self._opened = -1  # which opening of the database the entries were loaded from
        self._base = os.fspath(store.records)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what is not written yet, and close the file."""
        self.save()
        self.database.close()

    def names(self) -> list[str]:
        """The recordings there are, the newest first.

        Raises:
            StoreError: the folder cannot be read.
        """
        return [name for name in names_newest_first(self.store) if not name.startswith(".")]

    # --- entries -----------------------------------------------------------------------------------------------------

    def look(self) -> Look:
        """All recordings, with what is known of them; nothing is read from recordings here.

        Raises:
            StoreError: the folder cannot be read.
        """
        names = self.names()
        self._load()
        found: dict[str, Entry] = {}
        unread = self._check(names, found)
        if unread and self._load_some(unread):  # another process may have read them
            unread = self._check(unread, found)
        self._drop_gone(names)
        if len(found) < len(names):
            return Look([found[name] for name in names if name in found], unread)
        return Look(list(found.values()), unread)

    def entry(self, name: str) -> Entry | None:
        """The entry of one recording, read if it is not known; None if this is no recording."""
        folder = f"{self._base}/{name}"
        with self._lock:
            known = self._entries.get(name)
        if known is None and self._load_some([name]):
            with self._lock:
                known = self._entries.get(name)
        if known is not None and self._is_good(known) and is_fresh(known, folder):
            return known
        with self._lock:
            if name in self._not_recordings and self._not_recordings[name] == signature_of(folder):
                return None
        signature = signature_of(folder)
        usable = known if known is not None and self._is_good(known) else None
        found = read_entry(self.store.records / name, self.book, usable)
        with self._lock:
            self.changes += 1
            if found is None:
                self._entries.pop(name, None)
                self._not_recordings[name] = signature
                return None
            self._entries[name] = found
            if _is_worth_saving(found, known):
                self._unsaved[name] = found
            enough = len(self._unsaved) >= _BATCH
        if enough:
            self.save()
        return found

    def entries(self) -> Iterator[Entry]:
        """Entries of all recordings, the newest first, each read if it has to be when it is asked for.

        Raises:
            StoreError: the folder cannot be read.
        """
        for number, name in enumerate(self.names()):
            if number == _ONE_BY_ONE:
                self._load()
            if (found := self.entry(name)) is not None:
                yield found

    def known(self, name: str) -> Entry | None:
        """The entry of a recording as it was last read; its files are not looked at."""
        with self._lock:
            return self._entries.get(name)

    def snapshot(self) -> dict[str, Entry]:
        """All entries as they were last read, by name, in no order."""
        with self._lock:
            return self._entries.copy()

    def sums(self, names: Iterable[str]) -> list[Sums]:
        """The sums of these recordings; of one that is gone, none."""
        return [found.sums for name in names if (found := self.entry(name)) is not None]

    def forget(self, names: Iterable[str]) -> None:
        """Take recordings out that were removed; texts that no other recording has go too."""
        gone = list(names)
        with self._lock:
            for name in gone:
                self._entries.pop(name, None)
                self._unsaved.pop(name, None)
                self._not_recordings.pop(name, None)
            self.changes += 1

        def delete(connection: sqlite3.Connection) -> None:
            for name in gone:
                row = connection.execute("SELECT id FROM recordings WHERE name = ?", (name,)).fetchone()
                if row is not None:
                    drop_texts(connection, row[0], has_index=self.database.has_index)
                    connection.execute("DELETE FROM recordings WHERE id = ?", row)

        self.write(delete)

    def save(self) -> None:
        """Write the entries that are not written yet."""
        with self._lock:
            unsaved, self._unsaved = self._unsaved, {}
        if unsaved and self.store.path.is_dir():
            self.write(lambda connection: save_entries(connection, unsaved.values()))

    # --- the file ----------------------------------------------------------------------------------------------------

    def read(self, ask: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """What a question to the database gives; after a fault of the file, what a new one gives."""
        for _ in range(2):
            try:
                with self.database.reading() as connection:
                    return ask(connection)
            except sqlite3.Error as exc:
                self.database.start_over(exc)
        return otherwise

    def write(self, change: Callable[[sqlite3.Connection], Any]) -> bool:
        """Change the database in one transaction; whether that worked. A fault of the file is dealt with here."""
        for _ in range(2):
            try:
                with self.database.writing() as connection:
                    change(connection)
                return True
            except sqlite3.Error as exc:
                logger.debug("%s: %s", self.database.path, exc)
                self.database.start_over(exc)
        return False

    def _load(self) -> None:
        """Read all entries of the file, once for each time it is opened."""

        def ask(connection: sqlite3.Connection) -> list[tuple[Any, ...]] | None:
            if self._opened == self.database.opened:
                return None
            self._opened = self.database.opened
            return connection.execute(_ROWS).fetchall()

        if self.store.path.is_dir() and (rows := self.read(ask, None)) is not None:
            self._take(rows)

    def _load_some(self, names: list[str]) -> bool:
        """Read the entries of these recordings from the file; whether there were any."""
        if not self.store.path.is_dir():
            return False

        def ask(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
            if len(names) > _BATCH:
                return connection.execute(_ROWS).fetchall()
            marks = ",".join("?" * len(names))
            return connection.execute(f"{_ROWS} WHERE name IN ({marks})", names).fetchall()

        return self._take(self.read(ask, []))

    def _take(self, rows: list[tuple[Any, ...]]) -> bool:
        """Remember rows of the file; whether there was anything new in them."""
        version, new = self.book.public_version, False
        with self._lock:
            for name, signature, prices, ended, metadata, sums in rows:
                known = self._entries.get(name)
                if prices != version or (known is not None and known.signature == signature):
                    continue
                entry = _restored(signature, prices, bool(ended), metadata, sums)
                if entry is not None and entry.name == name:
                    self._entries[name] = entry
                    self.changes += 1
                    new = True
        return new

    def _check(self, names: list[str], found: dict[str, Entry]) -> list[str]:
        """Sort these names into entries that hold and names to be read."""
        unread = []
        with self._lock:
            known, none = self._entries.copy(), self._not_recordings.copy()
        base, version = self._base, self.book.public_version
        for name in names:
            entry = known.get(name)
            folder = f"{base}/{name}"
            if entry is not None and entry.prices == version and is_fresh(entry, folder):
                found[name] = entry
            elif name not in none or none[name] != signature_of(folder):
                unread.append(name)
        return unread

    def _is_good(self, entry: Entry) -> bool:
        return entry.prices == self.book.public_version

    def _drop_gone(self, names: list[str]) -> None:
        with self._lock:
            gone = self._entries.keys() - set(names)
        gone = {name for name in gone if not os.path.isdir(f"{self._base}/{name}")}
        if gone:
            self.forget(gone)


def _is_worth_saving(entry: Entry, before: Entry | None) -> bool:
    """A recording that goes on changes all the time: it is written now and then."""
    if entry.ended or before is None or entry.metadata.status is not RecordStatus.RECORDING:
        return True
    return entry.sums.events // _LIVE_STEP != before.sums.events // _LIVE_STEP


def save_entries(connection: sqlite3.Connection, entries: Iterable[Entry]) -> None:
    """Write entries over what is there of them; texts are left as they are."""
    rows = []
    for entry in entries:
        try:
            kept = entry.signature, msgspec.msgpack.encode(entry.metadata), _packed(entry)
        except (UnicodeEncodeError, OverflowError, TypeError, ValueError, RecursionError):
            kept = b"", b"", b""  # half a letter, a number of 70 bits: such a recording is read each time
        signature, metadata, sums = kept
        rows.append((_text(entry.name), signature, entry.prices, entry.ended, metadata, sums))
    connection.executemany(
        "INSERT INTO recordings (name, signature, prices, ended, metadata, sums) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET signature=excluded.signature, prices=excluded.prices, ended=excluded.ended,"
        " metadata=excluded.metadata, sums=excluded.sums",
        rows,
    )


def _text(name: str) -> str:
    return name.encode("utf-8", "replace").decode()  # a folder's name may be no UTF-8


def _packed(entry: Entry) -> bytes:
    return msgspec.msgpack.encode((entry.readable, entry.sums))


_metadata_decoder = msgspec.msgpack.Decoder(RecordMetadata)
_sums_decoder = msgspec.msgpack.Decoder(tuple[bool, Sums])


def _restored(signature: Any, prices: str, ended: bool, metadata: Any, sums: Any) -> Entry | None:
    try:
        readable, counted = _sums_decoder.decode(sums)
        return Entry(signature, prices, _metadata_decoder.decode(metadata), counted, ended, readable)
    except (msgspec.MsgspecError, TypeError, ValueError):
        return None  # written by something else, or for a recording that cannot be kept
