"""The edits a recording was made with, kept beside it: its requests hold them, the program's own do not."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

import msgspec

__all__ = ["EDITS_NAME", "KeptEdits", "read_kept", "write_kept"]

EDITS_NAME: Final = "edits.json"


class KeptEdits(msgspec.Struct, omit_defaults=True):
    """The edits of one fork.

    Attributes:
        edits: as in `Plan.edits`; None for a fork that changed nothing.
        call: the model call of the first process they begin with; None if they begin in another process.
    """

    edits: dict[str, Any] | None = None
    call: int | None = None


def read_kept(record_dir: Path) -> list[KeptEdits]:
    """The edits of the forks that led to a recording, the first fork first; none for any other recording.

    Raises:
        OSError: they cannot be read.
        msgspec.DecodeError: the file holds something else.
    """
    try:
        data = (record_dir / EDITS_NAME).read_bytes()
    except FileNotFoundError:
        return []
    return msgspec.json.decode(data, type=list[KeptEdits])


def write_kept(record_dir: Path, kept: list[KeptEdits]) -> None:
    """Write them beside a recording, whole or not at all.

    Raises:
        OSError: they cannot be written.
    """
    text = json.dumps(msgspec.to_builtins(kept), ensure_ascii=True, indent=1)
    path = record_dir / f".{EDITS_NAME}"
    path.write_text(text + "\n", encoding="ascii")
    path.chmod(0o600)
    os.replace(path, record_dir / EDITS_NAME)
