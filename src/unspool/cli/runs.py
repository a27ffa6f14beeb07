"""Which recordings belong together: workers with their agent, and everything one command started."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from unspool.events import RecordMetadata, RecordStatus
from unspool.recording.address import is_root, newest_first
from unspool.recording.tree import descendants
from unspool.store import Store

__all__ = ["Row", "Run", "descendants", "fold_workers", "runs"]


@dataclass
class Row:
    """An agent process, and the workers it started (and they)."""

    agent: RecordMetadata
    workers: list[RecordMetadata] = field(default_factory=list)

    @property
    def records(self) -> list[RecordMetadata]:
        return [self.agent, *self.workers]


@dataclass
class Run:
    """A root recording and all that its processes started, in no order."""

    root: RecordMetadata
    members: list[RecordMetadata] = field(default_factory=list)

    @property
    def records(self) -> list[RecordMetadata]:
        return [self.root, *self.members]

    @property
    def is_running(self) -> bool:
        return any(one.status is RecordStatus.RECORDING for one in self.records)


def fold_workers(store: Store, records: Iterable[RecordMetadata]) -> Iterator[Row]:
    """Rows of agents, in the order given, each with its workers.

    Args:
        records: newest first: a worker comes before the process that started it. Read only as far as rows are taken.
    """
    waiting: dict[str, list[RecordMetadata]] = {}
    for metadata in records:
        workers = waiting.pop(metadata.record_id, [])
        parent = metadata.parent
        if metadata.role != "worker" or parent is None or not (store.records / parent).is_dir():
            yield Row(metadata, workers)
        else:
            waiting.setdefault(parent, []).extend([metadata, *workers])
    # The clock was set back between a process and its worker: nothing disappears for that.
    for workers in waiting.values():
        for worker in workers:
            yield Row(worker)


def runs(store: Store, metadata: Iterable[RecordMetadata] | None = None) -> list[Run]:
    """Every run in the store, the newest first. Processes whose parent is gone are runs of their own.

    Args:
        metadata: of all recordings, the newest first, if the caller has it; read from the recordings otherwise.
    """
    records = list(newest_first(store) if metadata is None else metadata)
    by_id = {one.record_id: one for one in records}
    found: dict[str, Run] = {}
    for one in records:
        root = _root_of(one, by_id)
        if root is one:
            found.setdefault(root.record_id, Run(root))
        else:
            found.setdefault(root.record_id, Run(root)).members.append(one)
    return [found[one.record_id] for one in records if one.record_id in found]


def _root_of(metadata: RecordMetadata, by_id: dict[str, RecordMetadata]) -> RecordMetadata:
    while not is_root(metadata):
        parent = by_id.get(metadata.parent or "")
        # A parent has the lower number; a damaged file may say otherwise and must not close a circle.
        if parent is None or parent.pid >= metadata.pid:
            return metadata
        metadata = parent
    return metadata
