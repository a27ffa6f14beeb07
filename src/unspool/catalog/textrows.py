"""The rows of texts: each text once, packed, with what the index has to be told of it."""

from __future__ import annotations

import sqlite3
import zlib
from hashlib import sha256
from typing import Final

from unspool.catalog.texts import fold

__all__ = ["drop_texts", "put_text", "unpacked"]

_PACK_FROM: Final = 1000  # characters from which a text is packed: unpacking a short one takes longer than finding it
_LEVEL: Final = 1


def put_text(connection: sqlite3.Connection, text: str, *, has_index: bool) -> int:
    """The id of a text, which is put in if it is new."""
    data = text.encode("utf-8", "surrogatepass")
    digest = sha256(data).digest()[:16]
    row = connection.execute("SELECT id FROM texts WHERE digest = ?", (digest,)).fetchone()
    if row is not None:
        return int(row[0])
    cursor = connection.execute("INSERT INTO texts (digest, body) VALUES (?, ?)", (digest, _packed(text, data)))
    number = int(cursor.lastrowid or 0)
    if has_index:
        connection.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (number, fold(text)))
    return number


def drop_texts(connection: sqlite3.Connection, recording: int, *, has_index: bool) -> None:
    """Take the texts of a recording out; those that no other recording has are deleted."""
    texts = connection.execute("SELECT text FROM uses WHERE recording = ?", (recording,)).fetchall()
    connection.execute("DELETE FROM uses WHERE recording = ?", (recording,))
    for (text,) in texts:
        if connection.execute("SELECT 1 FROM uses WHERE text = ? LIMIT 1", (text,)).fetchone() is not None:
            continue
        row = connection.execute("SELECT body FROM texts WHERE id = ?", (text,)).fetchone()
        if row is not None and has_index:
            # The index keeps no texts, so that it has to be told what it was given.
            words = fold(unpacked(row[0]))
            connection.execute("INSERT INTO words (words, rowid, text) VALUES ('delete', ?, ?)", (text, words))
        connection.execute("DELETE FROM texts WHERE id = ?", (text,))
    connection.execute(
        "UPDATE recordings SET text_files = x'', text_done = 0, text_events = 0, text_last = 0 WHERE id = ?",
        (recording,),
    )


def _packed(text: str, data: bytes) -> str | bytes:
    if len(text) < _PACK_FROM and "\0" not in text:
        try:
            text.encode("utf-8")
            return text
        except UnicodeEncodeError:  # half a letter
            return zlib.compress(data, _LEVEL)
    return zlib.compress(data, _LEVEL)


def unpacked(body: str | bytes) -> str:
    """A text as it was put in."""
    return body if isinstance(body, str) else zlib.decompress(body).decode("utf-8", "surrogatepass")
