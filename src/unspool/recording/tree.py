"""The recordings of one run: a root and what its processes started."""

from __future__ import annotations

from unspool.events import RecordMetadata
from unspool.recording.address import is_fork, newest_first
from unspool.store import Store

__all__ = ["descendants"]


def descendants(store: Store, record_id: str) -> list[RecordMetadata]:
    """Recordings of the processes this one started, and of theirs; forks are not among them."""
    children: dict[str, list[RecordMetadata]] = {}
    for metadata in newest_first(store):
        if metadata.record_id == record_id:
            break  # whatever is older was not started by it
        if metadata.parent is not None and not is_fork(metadata):
            children.setdefault(metadata.parent, []).append(metadata)
    found: list[RecordMetadata] = []
    waiting = [record_id]
    while waiting:
        mine = children.pop(waiting.pop(), [])
        found.extend(mine)
        waiting.extend(one.record_id for one in mine)
    return found
