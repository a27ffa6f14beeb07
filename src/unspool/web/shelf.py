"""The store as pages read it, with what was worked out for runs whose files have not changed since.

Nothing here is the only copy of anything: it can be dropped at any time and is worked out again from the recordings.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Final

from unspool.catalog.catalog import Catalog
from unspool.catalog.entries import Entry
from unspool.catalog.indexer import Indexer
from unspool.catalog.sums import Totals, total
from unspool.catalog.words import Found
from unspool.cli.history import Node, history
from unspool.cli.prices import Prices
from unspool.cli.subjects import Subject, subject_of
from unspool.errors import RecordingNotFound
from unspool.events import RecordMetadata, RecordStatus
from unspool.recording.address import is_root, resolve
from unspool.recording.manager import RecordManager
from unspool.recording.reader import RecordReader
from unspool.store import Store, writer_is_alive
from unspool.text import cut
from unspool.trace.names import SEQ
from unspool.trace.quiet import gc_paused
from unspool.trace.report import TraceReport
from unspool.trace.spans import Span, SpanStatus, interval_of
from unspool.web.readers import ReaderPool
from unspool.web.workshop import Workshop

__all__ = ["Listing", "LoadedRun", "Shelf", "Summary"]

_RUNS_KEPT: Final = 6
_LIVE_S: Final = 1.0  # how long what was worked out for a run that goes on is taken for its present
_HOTSPOTS: Final = 10
LIST_PATIENCE_S = 0.8  # how long a list waits for recordings that were not read yet, before it shows what there is
SEARCH_PATIENCE_S = 1.5

Signature = tuple[tuple[str, int, int], ...]


@dataclass
class Summary:
    """What a run adds up to, with what it used."""

    totals: Totals
    models: list[str] = field(default_factory=list)
    tools: list[str] = field(default_factory=list)


@dataclass
class Listing:
    """All runs as far as they are known.

    Attributes:
        top: those that came from no other, each with what came from it.
        models, tools: all that any run used, in order.
        recordings: how many there are.
        unread: how many of them are still being read, and are missing or as they were some time ago.
        unsearched: how many of them could not be searched yet.
        found: where the text looked for stands; None if none was looked for.
    """

    top: list[Node]
    models: list[str]
    tools: list[str]
    recordings: int
    unread: int
    unsearched: int
    found: Found | None


@dataclass
class LoadedRun:
    """One run: its spans as a tree, what explains it, and where each step is.

    Attributes:
        records: metadata of its recordings, the root's first.
        spans: all but made-up ones, by start.
        critical: nanoseconds on the critical path, by span id.
        places: position in `spans`, by recording and event.
    """

    subject: Subject
    report: TraceReport
    records: list[RecordMetadata]
    spans: list[Span]
    critical: dict[str, int]
    places: dict[tuple[str, int], int]
    start_ns: int
    end_ns: int
    gaps: list[str] | None = None  # filled in by whoever looks for them first
    kept: dict[Hashable, Any] = field(default_factory=dict)  # what pages worked out of it

    @property
    def root(self) -> RecordMetadata:
        """The metadata of the first recording."""
        return self.records[0]

    @property
    def name(self) -> str:
        """What a person calls it: the intent of the first process, else the first span's name."""
        intent = self.records[0].intent if self.records else ""
        return cut(intent or self.subject.tree.root.span.name or self.subject.name, 200)

    @property
    def is_live(self) -> bool:
        """Whether a process of it is still running."""
        return any(one.status is RecordStatus.RECORDING for one in self.records)

    @property
    def has_times(self) -> bool:
        """Whether its times say anything; those of an imported run may not be known."""
        return self.is_live or self.report.has_times

    def is_timed(self, span: Span) -> bool:
        """Whether it is known how long a span took: an import writes 0 where its file does not say."""
        if not self.has_times or span.duration or span.status is SpanStatus.OPEN:
            return self.has_times
        if "imported" not in self.kept:
            self.kept["imported"] = {one.pid for one in self.records if "imported" in one.extra}
        return span.pid not in self.kept["imported"]

    def record_of(self, span: Span) -> str:
        """The recording a span is in; "" if it is in none."""
        return self.subject.record_ids.get(span.pid, "")

    def seq_of(self, span: Span) -> int:
        """The number of a span's event; 0 if it has none."""
        seq = span.attributes.get(SEQ)
        return seq if isinstance(seq, int) else 0


class Shelf:
    """Runs of one store. Safe to use from several threads."""

    def __init__(self, store: Store, prices: Prices) -> None:
        self.store = store
        self.prices = prices
        self.readers = ReaderPool(store)
        self.workshop = Workshop()
        self._lock = threading.Lock()
        self._runs: OrderedDict[tuple[str, bool], tuple[Signature, float, LoadedRun]] = OrderedDict()
        self.catalog = Catalog(store, prices)
        self.indexer = Indexer(self.catalog)
        self._summaries: dict[str, tuple[tuple[Entry | None, ...], Summary]] = {}
        self._listed: tuple[int, list[Node], list[str], list[str]] | None = None
        self._history: tuple[int, list[tuple[str, bool, int]], list[Node]] | None = None

    def reader(self, record_id: str) -> AbstractContextManager[RecordReader]:
        """A reader of one recording, lent while the context lasts.

        Raises:
            RecordingNotFound, AmbiguousRecordID, InvalidID, CorruptRecording: as they say.
        """
        return self.readers.lend(resolve(self.store, record_id).record_id)

    def root_of(self, record_id: str) -> str:
        """The recording whose process started, in the end, the process of this one."""
        found = resolve(self.store, record_id).record_id
        seen = {found}
        while True:
            with self.readers.lend(found) as reader:
                metadata = reader.metadata
            parent = metadata.parent
            if is_root(metadata) or parent is None or parent in seen or not (self.store.records / parent).is_dir():
                return found
            seen.add(parent)
            found = parent

    def signature(self, records: Sequence[str]) -> Signature:
        """Equal as long as nothing was written into these recordings."""
        found = []
        for name in records:
            folder = self.store.records / name
            size = changed = 0
            try:
                size = os.stat(folder / "events.jsonl").st_size
                changed = os.stat(folder / "metadata.json").st_mtime_ns
            except OSError:
                size = size or -1  # gone, or not there yet: a state like any other
            found.append((name, size, changed))
        return tuple(found)

    def members(self, root: str) -> list[str]:
        """The record ids of a run, the root's first."""
        for top in self.history():
            for node in top.tree():
                if node.root.record_id == root:
                    return [root, *(one.record_id for one in node.run.members)]
        return [root]

    def run(self, record_id: str, *, carried: bool = False) -> LoadedRun:
        """The run that starts with a recording, or a trace by its id.

        Args:
            carried: with what each part of the contexts cost, which takes as long again.
        """
        try:
            root = resolve(self.store, record_id).record_id
        except RecordingNotFound:
            return self._load(record_id, carried=carried)
        key = (root, carried)
        signature = self.signature(self.members(root))
        with self._lock:
            for wanted in ((root, True), key):
                known = self._runs.get(wanted)
                if known is None or known[0] != signature:
                    continue
                if known[2].is_live and (time.monotonic() - known[1] > _LIVE_S or not self._is_written(known[2])):
                    continue
                self._runs.move_to_end(wanted)
                return known[2]
        loaded = self._load(root, carried=carried)
        with self._lock:
            self._runs[key] = signature, time.monotonic(), loaded
            while len(self._runs) > _RUNS_KEPT:
                self._runs.popitem(last=False)
        return loaded

    def _is_written(self, run: LoadedRun) -> bool:
        """Whether the writers of all that went on when a run was read are alive."""
        going_on = [one.record_id for one in run.records if one.status is RecordStatus.RECORDING]
        return all(writer_is_alive(self.store.records / name) for name in going_on)

    def _load(self, name: str, *, carried: bool) -> LoadedRun:
        lend = self.readers.lend
        with gc_paused(), subject_of(self.store, name, self.prices, messages=carried, lend=lend) as subject:
            records = [one.reader.metadata for one in subject.recorded.processes]
            report = subject.report(_HOTSPOTS)
        records.sort(key=lambda one: one.record_id != subject.name)
        tree = subject.tree
        until = tree.metadata.end_time_ns
        spans = [node.span for node, _ in tree.walk() if not node.span.synthetic]
        spans.sort(key=lambda span: (span.start_time_ns, span.attributes.get(SEQ) or 0))
        times = zip(report.result.critical_path, report.result.critical_times(), strict=True)
        start_ns, end_ns = interval_of(tree.root.span, until)
        loaded = LoadedRun(
            subject=subject,
            report=report,
            records=records,
            spans=spans,
            critical={node.span.span_id: ns for node, ns in times},
            places={},
            start_ns=start_ns,
            end_ns=max(end_ns, until, start_ns),
        )
        for place, span in enumerate(spans):
            record, seq = loaded.record_of(span), loaded.seq_of(span)
            if record and seq:
                loaded.places[record, seq] = place
        return loaded

    def summary(self, records: Sequence[RecordMetadata]) -> Summary:
        """What these recordings of one run add up to, as they are now."""
        return self._summary(tuple(self.catalog.entry(one.record_id) for one in records), records[0].record_id)

    def summaries(self, nodes: Iterable[Node]) -> Iterator[Summary]:
        """The same for runs of a `listing`, as they were then."""
        known = self.catalog.snapshot()
        for node in nodes:
            entries = tuple([known.get(one.record_id) for one in node.run.records])
            yield self._summary(entries, node.root.record_id)

    def _summary(self, entries: tuple[Entry | None, ...], name: str) -> Summary:
        known = self._summaries.get(name)
        if known is not None and known[0] == entries:
            return known[1]
        sums = [one.sums for one in entries if one is not None]
        models = dict.fromkeys(model for one in sums for model in one.models)
        tools = dict.fromkeys(tool for one in sums for tool in one.tools)
        found = Summary(total(sums, self.prices), list(models), list(tools))
        self._summaries[name] = entries, found
        return found

    def listing(self, text: str = "") -> Listing:
        """All runs; what is not known of them is read in the background, and for a short time it is waited for.

        Args:
            text: what to look for in their texts.

        Raises:
            StoreError: the store cannot be read.
        """
        with gc_paused():  # tens of thousands of small objects are made, none of which is garbage
            return self._listing(text)

    def _listing(self, text: str) -> Listing:
        changes = self.catalog.changes  # before: what changes from here on is seen the next time
        state = self.indexer.state(texts=bool(text), patience_s=SEARCH_PATIENCE_S if text else LIST_PATIENCE_S)
        found = self.indexer.words.search(text) if text else None
        with self._lock:
            known = self._listed
        # What was read just now counts too: what was listed before it does not have it.
        if known is None or known[0] != self.catalog.changes or state.unread:
            top = history(self.store, [one.metadata for one in state.entries])
            models = {model for one in state.entries for model in one.sums.models}
            tools = {tool for one in state.entries for tool in one.sums.tools}
            known = changes, top, sorted(models), sorted(tools)
            with self._lock:
                self._listed = known
        return Listing(known[1], known[2], known[3], state.recordings, state.unread, state.unsearched, found)

    def history(self) -> list[Node]:
        """All runs, each with what came from it, as `unspool log` has them. Not to be changed by the caller.

        Read again when a recording came or went, and when one that was not over has changed.
        """
        try:
            changed = os.stat(self.store.records).st_mtime_ns
        except OSError:
            changed = 0
        with self._lock:
            known = self._history
        if known is not None and known[0] == changed and known[1] == self._unfinished(known[1]):
            return known[2]
        top = history(self.store, self._metadata())
        going_on = [
            (one.record_id, True, 0)
            for first in top
            for node in first.tree()
            for one in node.run.records
            if one.status is RecordStatus.RECORDING
        ]
        found = changed, self._unfinished(going_on), top
        with self._lock:
            self._history = found
        return top

    def _metadata(self) -> Iterator[RecordMetadata]:
        """Of all recordings, the newest first; from the files where the catalog does not have them yet."""
        look = self.catalog.look()
        known = {one.name: one.metadata for one in look.entries}
        manager = RecordManager(self.store.records)
        for name in self.catalog.names():
            found = known.get(name) or manager.describe(self.store.records / name)
            if found is not None:
                yield found

    def _unfinished(self, records: Iterable[tuple[str, bool, int]]) -> list[tuple[str, bool, int]]:
        """These recordings as they are now: whether their writers live, and when their metadata changed."""
        found = []
        for name, *_ in records:
            folder = self.store.records / name
            try:
                changed = os.stat(folder / "metadata.json").st_mtime_ns
            except OSError:
                changed = 0
            found.append((name, writer_is_alive(folder), changed))
        return found
