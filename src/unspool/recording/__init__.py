"""Writing and reading recordings. The format is described in docs/format.md.

Loaded on first use: an agent's process writes and never reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'unspool.recording' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)
