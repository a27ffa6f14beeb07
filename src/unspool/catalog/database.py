"""`catalog.sqlite`: opened, made anew when it is damaged or of another version, and done without when it cannot be had.

Where the file cannot be written (a store on a read-only disk, a full disk) the catalog lives in a temporary database of
this process instead, which begins with what the file has. Everything else is the same, only slower the first time.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["NAME", "SCHEMA_VERSION", "Database"]

NAME: Final = "catalog.sqlite"
SCHEMA_VERSION: Final = 1
_BUSY_S: Final = 10.0  # another process writes a batch; longer than any batch takes
_BESIDE: Final = ("-wal", "-shm", "-journal")

_ELSEWHERE: Final = (
    *(sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY),
    *(sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_PROTOCOL),
)

logger = logging.getLogger("unspool")

_TABLES: Final = (
    # `signature` is that of the files the row was made from, `prices` the version of the public prices. The columns
    # that begin with `text` are of the texts: the files they are from, whether all were read, whether the recording had
    # ended then, of how many events they are, and the timestamp of the last.
    """CREATE TABLE recordings (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, signature BLOB NOT NULL,
    prices TEXT NOT NULL, ended INTEGER NOT NULL, metadata BLOB NOT NULL, sums BLOB NOT NULL,
    text_files BLOB NOT NULL DEFAULT x'', text_done INTEGER NOT NULL DEFAULT 0,
    text_ended INTEGER NOT NULL DEFAULT 0, text_events INTEGER NOT NULL DEFAULT 0,
    text_last INTEGER NOT NULL DEFAULT 0)""",
    # Each text once, however many recordings have it; a BLOB is packed.
    "CREATE TABLE texts (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, body NOT NULL)",
    """CREATE TABLE uses (text INTEGER NOT NULL, recording INTEGER NOT NULL, seq_num INTEGER NOT NULL,
    PRIMARY KEY (text, recording)) WITHOUT ROWID""",
    "CREATE INDEX uses_by_recording ON uses (recording)",
)
# Every three letters in a row, without their places and without the text: what has them all is looked at itself. Texts
# are folded before they come here, so that the tokenizer has no say in what is alike.
_INDEX: Final = """CREATE VIRTUAL TABLE words USING fts5(text, content='', columnsize=0, detail=none,
    tokenize='trigram case_sensitive 1')"""


class Database:
    """A connection to the catalog of one store, shared by the threads of a process.

    Attributes:
        path: the file; None where there can be none, and for a temporary database.
        has_index: whether SQLite has the full-text index that searches need to be fast.
        opened: counts how often it was opened; what was read from it before holds for another file.
        why_private: why it is temporary; "" if it is the file.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.has_index = False
        self.opened = 0
        self.why_private = ""
        self.lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._inode = 0

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, for this thread alone; for reading."""
        with self.lock:
            yield self._open()

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The same with a transaction around it, which is undone if anything is raised."""
        with self.lock:
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self.lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def __del__(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def start_over(self, fault: sqlite3.Error) -> None:
        """After an error: a damaged file is removed, one that cannot be written is left alone from now on."""
        if _is_busy(fault):
            return  # another process has it for longer than anybody should; it will not last
        with self.lock:
            self.close()
            if self.path is None:
                return
            if _is_damage(fault):
                logger.debug("%s is damaged and made anew: %s", self.path, fault)
                _remove(self.path)
            else:
                self.why_private = str(fault)

    def is_current(self) -> bool:
        """Whether the file that is open is still the one under its name."""
        if self._connection is None or self.why_private or self.path is None:
            return True
        if not self._inode:  # there was no store yet
            return not self.path.parent.is_dir()
        try:
            return os.stat(self.path).st_ino == self._inode
        except OSError:
            return False

    # --- opening -----------------------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        if not self.is_current():
            self.close()  # somebody removed it, which is always allowed
        if self._connection is None:
            self._connection = self._open_file() or self._open_private()
            self.opened += 1
        return self._connection

    def _open_file(self) -> sqlite3.Connection | None:
        self._inode = 0
        if self.path is None or self.why_private or not self.path.parent.is_dir():
            return None
        for _ in range(2):
            try:
                return self._open_or_make(self.path)
            except sqlite3.Error as exc:
                if not _is_damage(exc):
                    self.why_private = str(exc)
                    return None
                logger.debug("%s is not usable and made anew: %s", self.path, exc)
                _remove(self.path)
            except OSError as exc:
                self.why_private = exc.strerror or str(exc)
                return None
        self.why_private = "it cannot be made anew"
        return None

    def _open_or_make(self, path: Path) -> sqlite3.Connection:
        """The file, with the tables in it.

        Raises:
            sqlite3.Error: it is damaged, of another version, or cannot be written.
            OSError: it cannot be made.
        """
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        connection = _connect(str(path))
        try:
            connection.execute("PRAGMA journal_mode=WAL")  # readers and one writer do not wait for each other
            connection.execute("PRAGMA synchronous=NORMAL")
            self._set_up(connection)
            self._inode = os.stat(path).st_ino
        except BaseException:
            connection.close()
            raise
        return connection

    def _open_private(self) -> sqlite3.Connection:
        connection = _connect("")  # in memory, and on the disk for temporary files when it gets large
        if self.path is not None:
            _copy_from(self.path, connection)
        try:
            self._set_up(connection)
        except sqlite3.Error:  # what was copied is of no use
            connection.close()
            connection = _connect("")
            self._set_up(connection)
        return connection

    def _set_up(self, connection: sqlite3.Connection) -> None:
        """Make the tables where there are none; refuse other ones.

        Raises:
            sqlite3.DatabaseError: it is damaged or of another version.
        """
        self.has_index = _has_trigrams()
        wanted = SCHEMA_VERSION * 2 + self.has_index
        if _version(connection) != wanted:
            connection.execute("BEGIN IMMEDIATE")
            try:
                version = _version(connection)  # another process may have been here
                if not version and not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    for table in (*_TABLES, _INDEX) if self.has_index else _TABLES:
                        connection.execute(table)
                    connection.execute(f"PRAGMA user_version={wanted}")
                elif version != wanted:
                    raise sqlite3.DatabaseError(f"version {version} where {wanted} is needed")
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise
        _check_tables(connection, self.has_index)


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _connect(name: str, *, uri: bool = False) -> sqlite3.Connection:
    # Statements begin and end transactions by themselves; the lock of the object keeps threads apart.
    connection = sqlite3.connect(name, timeout=_BUSY_S, isolation_level=None, check_same_thread=False, uri=uri)
    connection.execute("PRAGMA trusted_schema=OFF")  # the file may have come with a store from somebody else
    connection.execute("PRAGMA secure_delete=ON")  # what a removed recording said is not left in the file
    connection.execute("PRAGMA cache_size=-32000")
    return connection


def _check_tables(connection: sqlite3.Connection, has_index: bool) -> None:
    """Raise if the file holds anything else than our tables: a store from elsewhere may bring a file made to harm."""
    wanted = {*_TABLES, *((_INDEX,) if has_index else ())}
    found = {
        sql
        for name, sql in connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        if not name.startswith("words_")  # the index's own tables
    }
    if found != wanted:
        raise sqlite3.DatabaseError("it has other tables than ours")


def _has_trigrams() -> bool:
    """Whether this SQLite has FTS5 with the trigram tokenizer (3.34 or later, and compiled in)."""
    probe = sqlite3.connect(":memory:")
    try:
        probe.execute(_INDEX)
    except sqlite3.Error:
        return False
    finally:
        probe.close()
    return True


def _copy_from(path: Path, connection: sqlite3.Connection) -> None:
    """What a file that cannot be written holds, as far as it can be read."""
    # On a read-only disk SQLite reads a file only if it is told that nobody else changes it; what stands in a log
    # beside it would be missed, and it is not read then.
    name = f"file:{_quoted(path)}?mode=ro"
    for uri in (name, f"{name}&immutable=1"):
        if "immutable" in uri and Path(f"{path}-wal").exists():
            return
        try:
            source = _connect(uri, uri=True)
        except sqlite3.Error:
            continue
        try:
            source.backup(connection)
        except sqlite3.Error:
            continue
        else:
            return
        finally:
            source.close()


def _quoted(path: Path) -> str:
    from urllib.parse import quote

    return quote(os.fspath(path))


def _is_damage(fault: sqlite3.Error) -> bool:
    """Whether it says that the file is no good, and not that it cannot be read or written now."""
    return _code(fault) not in _ELSEWHERE


def _is_busy(fault: sqlite3.Error) -> bool:
    return _code(fault) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _code(fault: sqlite3.Error) -> int:
    return getattr(fault, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF  # the rest of it says more than is asked


def _remove(path: Path) -> None:
    for name in (path, *(Path(f"{path}{end}") for end in _BESIDE)):
        with contextlib.suppress(OSError):  # not there, or a disk that cannot be written: the next step finds out
            name.unlink()
