"""Which recordings belong together: workers with their agent, and everything one command started."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from unspool.events import RecordMetadata, RecordStatus
from unspool.recording.address import is_root, newest_first
from unspool.recording.tree import descendants
from unspool.store import Store

__all__ = ["Row", "Run", "bisect_of", "descendants", "fold_bisects", "fold_workers", "runs"]


@dataclass
class Row:
    """An agent process, and the workers it started (and they).

    `others` are the later forks of the bisection whose first one this is, each with its workers.
    """

    agent: RecordMetadata
    workers: list[RecordMetadata] = field(default_factory=list)
    others: list[Row] = field(default_factory=list)

    @property
    def records(self) -> list[RecordMetadata]:
        return [self.agent, *self.workers, *(one for row in self.others for one in row.records)]


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


def bisect_of(metadata: RecordMetadata) -> tuple[str, int] | None:
    """The bisection that made a fork, and the number of the fork in it from 1; None for any other recording."""
    match metadata.extra.get("bisect"):
        case [str(name), int(number)] if metadata.forked_at is not None:
            return name, number
    return None


def fold_bisects(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows in the order given, with one for all forks of a bisection: where its first fork is.

    Args:
        rows: newest first. Read only as far as rows are taken.
    """
    waiting: dict[str, list[Row]] = {}
    for row in rows:
        found = bisect_of(row.agent)
        if found is None:
            yield row
        elif found[1] > 1:
            waiting.setdefault(found[0], []).append(row)
        else:
            row.others = waiting.pop(found[0], [])
            yield row
    for left in waiting.values():  # their first fork was removed
        *others, first = left
        first.others = others
        yield first


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
