"""What an agent's process wrote to standard output: the first megabytes as they are, the rest as size and SHA-256.

`stdout` holds the bytes; `stdout.jsonl` says how they were taken: a line with `isatty` when the process starts (or with
`missing`, why they could not be taken), one with `tool`, `start` and `end` for each tool during which something was
written, one with `rest` and `sha256` at the end when there was more than is kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

__all__ = ["STDOUT_KEPT_MAX", "STDOUT_NAME", "STDOUT_NOTES_NAME", "Stdout", "StdoutNote", "read_stdout"]

STDOUT_NAME: Final = "stdout"
STDOUT_NOTES_NAME: Final = "stdout.jsonl"
STDOUT_KEPT_MAX: Final = 4 << 20


class StdoutNote(msgspec.Struct, omit_defaults=True):
    """A line of `stdout.jsonl`.

    Attributes:
        isatty: whether standard output was a terminal.
        encoding: of the text layer.
        missing: why nothing is kept.
        rest: bytes that were written beyond what is kept.
        sha256: of these.
        tool, start, end: the span of a tool call during which the bytes from `start` to `end` were written.
    """

    isatty: bool | None = None
    encoding: str | None = None
    missing: str | None = None
    rest: int | None = None
    sha256: str | None = None
    tool: str | None = None
    start: int | None = None
    end: int | None = None


class Stdout(msgspec.Struct, frozen=True):
    """The standard output of one process.

    Attributes:
        kept: its beginning; all of it if `rest` is 0.
        rest: bytes written after that; None if the process died before it could say.
        rest_sha256: of these bytes; None if there are none or nobody knows.
        isatty: whether it was a terminal, where known.
        missing: why it was not recorded; None if it was.
        tools: what was written while tools ran: span of the tool call, and from where to where.
    """

    kept: bytes = b""
    rest: int | None = 0
    rest_sha256: str | None = None
    isatty: bool | None = None
    missing: str | None = None
    tools: tuple[tuple[str, int, int], ...] = ()

    @property
    def size(self) -> int:
        """Bytes written in all, as far as is known."""
        return len(self.kept) + (self.rest or 0)


def read_stdout(record_dir: Path) -> Stdout:
    """What a recording holds of its process' standard output. Damage counts as missing, never as an error."""
    try:
        lines = (record_dir / STDOUT_NOTES_NAME).read_bytes().split(b"\n")[:-1]
        notes = [msgspec.json.decode(line, type=StdoutNote) for line in lines if line]
    except FileNotFoundError:
        return Stdout(missing="this recording was not made by a command of unspool that keeps standard output")
    except (OSError, msgspec.DecodeError) as exc:
        return Stdout(missing=f"{STDOUT_NOTES_NAME} cannot be read: {exc}")
    first = notes[0] if notes else StdoutNote()
    if first.missing is not None:
        return Stdout(missing=first.missing)
    try:
        kept = (record_dir / STDOUT_NAME).read_bytes()
    except FileNotFoundError:
        kept = b""  # nothing was written
    except OSError as exc:
        return Stdout(missing=f"{STDOUT_NAME} cannot be read: {exc.strerror or exc}")
    tools = tuple(
        (note.tool, note.start, note.end)
        for note in notes
        if note.tool is not None and note.start is not None and note.end is not None
    )
    end = next((note for note in notes if note.rest is not None), None)
    if end is not None:
        return Stdout(kept, end.rest, end.sha256, first.isatty, None, tools)
    return Stdout(kept, 0 if len(kept) < STDOUT_KEPT_MAX else None, None, first.isatty, None, tools)
