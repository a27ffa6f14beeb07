"""Writing and reading recordings. The format is described in docs/format.md.

Loaded on first use: an agent's process writes and never reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unspool.lazy import names_of

__all__ = ["Damage", "RecordManager", "RecordMetadata", "RecordReader", "RecordStatus", "Recorder"]

if TYPE_CHECKING:
    from unspool.events import RecordMetadata, RecordStatus
    from unspool.recording.damage import Damage
    from unspool.recording.manager import RecordManager
    from unspool.recording.reader import RecordReader
    from unspool.recording.recorder import Recorder

_HOMES = {
    "Damage": "unspool.recording.damage",
    "RecordManager": "unspool.recording.manager",
    "RecordMetadata": "unspool.events",
    "RecordReader": "unspool.recording.reader",
    "RecordStatus": "unspool.events",
    "Recorder": "unspool.recording.recorder",
}

__getattr__ = names_of(__name__, _HOMES)
