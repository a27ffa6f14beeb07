"""What happened in a rerun: one line each, appended by every process of it, read by the one that judges."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

from unspool.serving.plan import JOURNAL_NAME, decode_struct, encode_struct

__all__ = ["ENTRY_KINDS", "Entry", "Journal", "read_journal"]

ENTRY_KINDS: Final = ("served", "edited", "live", "tool", "divergence", "pin", "touched", "denied", "note")


class Entry(msgspec.Struct, omit_defaults=True):
    """One line of the journal.

    Attributes:
        kind: `served`: an exchange came from the recording (`match` says how equal the request was). `edited`: the
            target of a fork, whose answer is an edited one, or which was sent with the edits. `live`: an exchange went
            out for real. `tool`: a tool call (`match` is `served` or `live`; `reason` why it ran live). `divergence`:
            the program asked for what the recording does not hold. `pin`: a clock or random read that could not be
            given its recorded value. `touched`: a file, process or host the program touched for real. `denied`: one
            that was refused. `note`: anything else worth a line in the report.
        os_pid: the OS process.
        record_id: the recording this process replays, None if none.
        offer: the number of the offer that was served, or that a divergence expected; None if none.
        match: of `served`: `bytes` or `canonical`; of `tool`: `served` or `live`.
        path: device path of what was asked for (`/dev/llm/openai/gpt-5`, `/dev/fs/out.txt`, `time`, …).
        task: place in the tree of tasks.
        at: `file:line function` of the agent's code.
        stack: of a divergence: the agent's frames, innermost first, each `file:line function`.
        reason: in words.
        method, url: of a request.
        body: of a divergence: name of the file in the rerun folder with the request's bytes.
        detail: more, by kind.
    """

    kind: str
    os_pid: int = 0
    record_id: str | None = None
    offer: int | None = None
    match: str | None = None
    path: str | None = None
    task: str | None = None
    at: str | None = None
    stack: list[str] = msgspec.field(default_factory=list)
    reason: str | None = None
    method: str | None = None
    url: str | None = None
    body: str | None = None
    detail: dict[str, object] = msgspec.field(default_factory=dict)


class Journal:
    """The writing end. One `write(2)` a line, so that lines of several processes never mix.

    Raises:
        OSError: the file cannot be opened or written.
    """

    def __init__(self, folder: Path) -> None:
        self._fd = os.open(folder / JOURNAL_NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, entry: Entry) -> None:
        """Append an entry; it is in the kernel when this returns."""
        os.write(self._fd, encode_struct(entry) + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def read_journal(folder: Path) -> list[Entry]:
    """All entries; a torn last line is left out.

    Raises:
        OSError: it cannot be read.
    """
    lines = (folder / JOURNAL_NAME).read_bytes().split(b"\n")[:-1]
    return [decode_struct(line, Entry) for line in lines if line]
