"""The recordings of one run: a root and what its processes started."""

from __future__ import annotations

from unspool.events import RecordMetadata
from unspool.recording.address import is_fork, newest_first
from unspool.recording.reader import RecordReader
from unspool.store import Store

__all__ = ["companions", "descendants"]


def companions(store: Store, record_id: str) -> list[RecordMetadata]:
    """The first processes of the command that this recording is of, the earliest first.

    A shell script may start several programs: each is the root of a tree of its own, and none runs without the others.
    Of a recording that no command of unspool made, and of one that another process of its run started, only itself.

    Raises:
        CorruptRecording, UnsupportedFormat: it cannot be read.
    """
    with RecordReader(store.records / record_id, live=True) as reader:
        mine = reader.metadata
    if mine.launched is None or mine.trace_id is None or not _is_first(mine):
        return [mine]
    found = [
        one
        for one in newest_first(store)
        if one.trace_id == mine.trace_id and one.launched == mine.launched and _is_first(one)
    ]
    return sorted(found, key=lambda one: one.pid) if any(one.record_id == record_id for one in found) else [mine]


def _is_first(metadata: RecordMetadata) -> bool:
    return metadata.parent is None or is_fork(metadata)


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
