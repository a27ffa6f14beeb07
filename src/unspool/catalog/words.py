"""The texts of a store in its catalog, each once, and the search over them.

The index holds which texts have which three letters in a row; what has all those of the text looked for is looked at
itself. So a search finds what reading every recording would find, and nothing else.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from unspool.catalog.catalog import Catalog, save_entries
from unspool.catalog.entries import Entry, can_go_on, have_grown, pool_signature
from unspool.catalog.textrows import drop_texts, put_text, unpacked
from unspool.catalog.texts import Text, TextReader, fold
from unspool.errors import CorruptRecording, StoreError
from unspool.recording.reader import RecordReader

__all__ = ["Found", "Words"]

_GRAM: Final = 3
_GRAMS_MAX: Final = 32  # of a long text; the rest is seen when it is looked at
_ASKED_AT_ONCE: Final = 500  # SQLite takes so many values in a statement anywhere
_CHUNK: Final = 4_000_000  # characters read before they are written


@dataclass
class Found:
    """Where a text stands: recordings by name, each with the id of one text that has it."""

    pattern: str
    texts: dict[str, int] = field(default_factory=dict)


@dataclass
class _Part:
    """Texts of one recording on their way into the database: those of events after `start`, up to `events`."""

    entry: Entry
    files: bytes
    start: int
    events: int
    last: int
    texts: list[Text]
    done: bool = True


class Words:
    """The texts of a store. Safe to use from several threads."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._opened = -1
        self._known: dict[str, bytes] = {}  # recordings whose texts are all there, with the files they are from

    def missing(self, entries: Iterable[Entry]) -> list[Entry]:
        """Those of these recordings whose texts are not, or not all, in the catalog as they are now."""
        self._load()
        base = self._catalog.store.records
        known = self._known
        missing = [
            one for one in entries if known.get(one.name) != one.signature + pool_signature(f"{base}/{one.name}")
        ]
        for one in missing:
            known.pop(one.name, None)  # what is there of it is not what it says now, and is not found any more
        return missing

    def index(self, entries: Iterable[Entry], pause: Callable[[], None] | None = None) -> set[str]:
        """Read the texts of these recordings into the catalog, going on where that stopped before.

        Args:
            pause: called after each event: may wait, to leave the processor to others.

        Returns:
            The names of those whose texts are all there now.
        """
        waiting: list[_Part] = []
        done: set[str] = set()
        size = 0
        for entry in entries:
            for part in self._read(entry, pause):
                waiting.append(part)
                size += sum(len(one.text) for one in part.texts)
                if size >= _CHUNK or not part.done:
                    done |= self._write(waiting)
                    waiting, size = [], 0
        return done | self._write(waiting)

    def search(self, text: str) -> Found:
        """The recordings in which a text stands, in any case; of those whose texts are `missing`, none."""
        pattern = fold(text)
        found = Found(pattern)
        if pattern:
            self._load()
            hits = self._catalog.read(lambda connection: self._search(connection, pattern), dict[str, int]())
            found.texts = {name: text_id for name, text_id in hits.items() if name in self._known}
        return found

    def place(self, found: Found, name: str, around: int) -> tuple[int, str]:
        """The event that has the text found in a recording, and what stands around it there; 0 and "" if it is gone."""

        def ask(connection: sqlite3.Connection) -> tuple[int, str]:
            row = connection.execute(
                "SELECT uses.seq_num, texts.body FROM texts JOIN uses ON uses.text = texts.id JOIN recordings"
                " ON recordings.id = uses.recording WHERE texts.id = ? AND recordings.name = ?",
                (found.texts.get(name), name),
            ).fetchone()
            return (0, "") if row is None else (row[0], _around(unpacked(row[1]), found.pattern, around))

        return self._catalog.read(ask, (0, ""))

    # --- reading recordings ------------------------------------------------------------------------------------------

    def _read(self, entry: Entry, pause: Callable[[], None] | None = None) -> Iterator[_Part]:
        folder = self._catalog.store.records / entry.name
        signature = entry.signature + pool_signature(str(folder))
        try:
            with RecordReader(folder, live=True) as reader:
                start = events = self._start(reader, entry.name, signature)
                source, texts, size, last = TextReader(reader), list[Text](), 0, 0
                for event in reader.bare_events(start):
                    last = event.timestamp
                    for text in source.texts(event):
                        texts.append(text)
                        size += len(text.text)
                    events += 1
                    if pause is not None:
                        pause()
                    if size >= _CHUNK:
                        yield _Part(entry, signature, start, events, last, texts, done=False)
                        start, texts, size = events, [], 0
        except (CorruptRecording, StoreError):
            yield _Part(entry, signature, 0, 0, 0, [])  # what cannot be read holds no texts
        else:
            yield _Part(entry, signature, start, events, last, texts)

    def _start(self, reader: RecordReader, name: str, signature: bytes) -> int:
        """How many events of a recording were read before and need not be read again."""

        def ask(connection: sqlite3.Connection) -> tuple[Any, ...] | None:
            row: tuple[Any, ...] | None = connection.execute(
                "SELECT text_files, text_events, text_last, text_ended FROM recordings WHERE name = ?", (name,)
            ).fetchone()
            return row

        row = self._catalog.read(ask, None)
        if row is None or not isinstance(row[0], bytes):
            return 0
        if row[0] != signature and (row[3] or not have_grown(row[0], signature)):
            return 0
        return int(row[1]) if can_go_on(reader, row[1], row[2]) else 0

    # --- writing -----------------------------------------------------------------------------------------------------

    def _write(self, parts: list[_Part]) -> set[str]:
        """Write these; the names of the recordings that are complete with it."""
        if not parts:
            return set()
        known: dict[str, bytes] = {}

        def change(connection: sqlite3.Connection) -> None:
            known.clear()
            for part in parts:
                if self._write_part(connection, part) and part.done:
                    known[part.entry.name] = part.files

        if not self._catalog.write(change):
            return set()
        self._load()
        self._known.update(known)
        return set(known)

    def _write_part(self, connection: sqlite3.Connection, part: _Part) -> bool:
        """Whether it fits what is there: another process may have been here meanwhile."""
        name = part.entry.name
        ask = "SELECT id, text_events FROM recordings WHERE name = ?"
        row = connection.execute(ask, (name,)).fetchone()
        if row is None:
            save_entries(connection, [part.entry])
            row = connection.execute(ask, (name,)).fetchone()
        recording, events = row
        if not part.start:
            drop_texts(connection, recording, has_index=self._catalog.database.has_index)
        elif part.start != events:
            return False
        for one in part.texts:
            text = put_text(connection, one.text, has_index=self._catalog.database.has_index)
            connection.execute("INSERT OR IGNORE INTO uses VALUES (?, ?, ?)", (text, recording, _int64(one.seq_num)))
        connection.execute(
            "UPDATE recordings SET text_files = ?, text_done = ?, text_ended = ?, text_events = ?, text_last = ?"
            " WHERE id = ?",
            (part.files, part.done, part.entry.ended, part.events, _int64(part.last), recording),
        )
        return True

    def _load(self) -> None:
        """Which recordings have all their texts in the file; asked once for each time it is opened."""

        def ask(connection: sqlite3.Connection) -> dict[str, bytes] | None:
            if self._opened == self._catalog.database.opened:
                return None
            self._opened = self._catalog.database.opened
            rows = connection.execute("SELECT name, text_files FROM recordings WHERE text_done")
            return dict(rows.fetchall())

        if (known := self._catalog.read(ask, None)) is not None:
            self._known = known

    # --- searching ---------------------------------------------------------------------------------------------------

    def _search(self, connection: sqlite3.Connection, pattern: str) -> dict[str, int]:
        if len(pattern) >= _GRAM and self._catalog.database.has_index:
            rows = connection.execute(
                "SELECT uses.recording, uses.text FROM words CROSS JOIN uses ON uses.text = words.rowid"
                " WHERE words MATCH ?",
                (_query(pattern),),
            )
        else:
            return _search_all(connection, pattern)  # too short for the index, or there is none
        candidates: dict[int, list[int]] = {}
        for recording, text in rows:
            texts = candidates.get(recording)
            if texts is None:
                candidates[recording] = [text]
            else:
                texts.append(text)
        for texts in candidates.values():
            texts.reverse()  # the oldest, which is taken first, is the last
        names: dict[int, str] = dict(connection.execute("SELECT id, name FROM recordings").fetchall())
        has_it: dict[int, bool] = {}
        found: dict[str, int] = {}
        # One text of each recording at a time, until one has it: where it is common the first does.
        while candidates:
            asked = {texts[-1] for texts in candidates.values()}
            for text, body in _bodies(connection, [text for text in asked if text not in has_it]):
                has_it[text] = pattern in fold(unpacked(body))
            left: dict[int, list[int]] = {}
            for recording, texts in candidates.items():
                text = texts.pop()
                if has_it.get(text, False):
                    if recording in names:
                        found[names[recording]] = text
                elif texts:
                    left[recording] = texts
            candidates = left
        return found


def _int64(value: int) -> int:
    """The nearest whole number that SQLite holds: a recording may say anything."""
    return max(-(1 << 63), min(value, (1 << 63) - 1))


def _search_all(connection: sqlite3.Connection, pattern: str) -> dict[str, int]:
    """The same by looking at every text."""
    texts = [
        text
        for text, body in connection.execute("SELECT id, body FROM texts ORDER BY id")
        if pattern in fold(unpacked(body))
    ]
    found: dict[str, int] = {}
    texts.reverse()  # of several texts of a recording the oldest is put down last
    for at in range(0, len(texts), _ASKED_AT_ONCE):
        some = texts[at : at + _ASKED_AT_ONCE]
        marks = ",".join("?" * len(some))
        found.update(
            connection.execute(
                "SELECT recordings.name, uses.text FROM uses JOIN recordings ON recordings.id = uses.recording"
                f" WHERE uses.text IN ({marks}) ORDER BY uses.text DESC",
                some,
            )
        )
    return found


def _bodies(connection: sqlite3.Connection, texts: list[int]) -> Iterator[tuple[int, str | bytes]]:
    texts.sort()
    for at in range(0, len(texts), _ASKED_AT_ONCE):
        some = texts[at : at + _ASKED_AT_ONCE]
        marks = ",".join("?" * len(some))
        yield from connection.execute(f"SELECT id, body FROM texts WHERE id IN ({marks})", some)


def _query(pattern: str) -> str:
    grams = list(dict.fromkeys(pattern[at : at + _GRAM] for at in range(len(pattern) - _GRAM + 1)))
    step = -(-len(grams) // _GRAMS_MAX)
    return " ".join('"{}"'.format(gram.replace('"', '""')) for gram in grams[::step])


def _around(text: str, pattern: str, size: int) -> str:
    """What stands around a pattern, which is folded, in a text, which is not."""
    at = fold(text).find(pattern)
    if at < 0:
        return ""
    length = len(pattern)
    if len(fold(text)) != len(text):  # some letters fold into two or three
        at, length = _unfolded(text, at, length)
    return text[max(at - size, 0) : at + length + size]


def _unfolded(text: str, at: int, length: int) -> tuple[int, int]:
    """Where in a text a place of its folded form is."""
    start = end = -1
    folded = 0
    for index, letter in enumerate(text):
        if start < 0 and folded >= at:
            start = index
        if end < 0 and folded >= at + length:
            end = index
            break
        folded += len(fold(letter))
    start = max(start, 0)
    return start, (end if end >= 0 else len(text)) - start
