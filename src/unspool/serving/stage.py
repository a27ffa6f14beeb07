"""A rerun as one OS process of it sees it: what it may serve, what has been taken, and where to say so."""

from __future__ import annotations

import os
import re
import threading
from collections import deque
from pathlib import Path
from typing import Final

from unspool.errors import UnspoolError
from unspool.recording.reader import RecordReader
from unspool.serving.fingerprint import canonical_digest
from unspool.serving.journal import Entry, Journal
from unspool.serving.plan import CLAIMS_NAME, Offer, Plan, Source, read_offers, read_plan
from unspool.serving.served import Answer, Unservable, read_answer
from unspool.serving.turns import Turn, Turns

__all__ = ["Match", "Stage"]

_REACHED: Final = "reached"
# File descriptors that multiprocessing puts into a command line are other ones in every run.
_HANDLE: Final = re.compile(r"(?<=_fd=)\d+|(?<=handle=)\d+")


class Match:
    """An offer that fits a request, and how well: `bytes` or `canonical`."""

    __slots__ = ("how", "offer")

    def __init__(self, offer: Offer, how: str) -> None:
        self.offer = offer
        self.how = how


class Stage:
    """The plan, the offers and the claims of a rerun. Safe under any number of threads and processes.

    Raises:
        OSError, msgspec.DecodeError: the rerun folder cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plan: Plan = read_plan(folder)
        self.offers: list[Offer] = read_offers(folder)
        self.journal = Journal(folder)
        self.by_number: dict[int, Offer] = {offer.number: offer for offer in self.offers}
        self._claims = os.fspath(folder / CLAIMS_NAME) + os.sep
        self._lock = threading.Lock()
        self._taken: set[int] = set()
        self._readers: dict[str, RecordReader] = {}
        self._reached = False
        self._shelf = _Shelf(self.offers)
        self._pools = _pools(self.plan.sources)
        self._turns: dict[str, Turns] = {}

    def after_fork(self) -> None:
        """In a forked child: locks held by threads that do not exist here, and shared file positions, are let go."""
        self._lock = threading.Lock()
        self._readers = {}
        self._turns = {}

    # --- claims ------------------------------------------------------------------------------------------------------

    def take(self, offer: Offer) -> bool:
        """Claim an offer for this caller; False if any process of the rerun has it already."""
        return self._take(offer.number)

    def _take(self, number: int) -> bool:
        if number in self._taken:
            return False
        self._taken.add(number)
        return self.claim(str(number))

    def claim(self, name: str) -> bool:
        """Create `claims/<name>`; False if it is there.

        Raises:
            OSError: the folder is gone or full.
        """
        try:
            os.close(os.open(self._claims + name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            return False
        return True

    def is_taken(self, number: int) -> bool:
        """Whether any process of the rerun has claimed this offer."""
        if number in self._taken:
            return True
        if os.path.exists(f"{self._claims}{number}"):
            self._taken.add(number)
            return True
        return False

    @property
    def reached(self) -> bool:
        """Whether the target of the fork has been asked for, in any process; False in a plain rerun."""
        if not self._reached and self.plan.target is not None:
            self._reached = os.path.exists(self._claims + _REACHED)
        return self._reached

    def reach(self) -> None:
        """Tell every process that the target has been asked for."""
        self.claim(_REACHED)
        self._reached = True

    def live_call(self) -> int | None:
        """The number of one more live model call, from 1; None if `max_calls` allows no more."""
        number = 1
        while self.plan.max_calls is None or number <= self.plan.max_calls:
            if self.claim(f"live-{number}"):
                return number
            number += 1
        return None

    # --- who replays what --------------------------------------------------------------------------------------------

    def cast(
        self, parent: str | None, command: list[str], intent: str, role: str, *, same_process: bool
    ) -> Source | None:
        """The recording that an agent process of the rerun replays; None if it has none. Each is given once.

        Args:
            parent: record id of the recording its parent replays; None for the first process.
            command: as in its metadata.
            same_process: it is a sub-agent inside the OS process of its parent.
        """
        mine = _without_handles(command)
        if parent is None:
            # A shell script may start several programs; by now one of them may be another.
            roots = [source for source in self.plan.sources if source.parent is None]
            roots.sort(key=lambda source: _without_handles(source.command) != mine)
            return next((root for root in roots if self.claim(f"process-{root.record_id}")), None)
        candidates = [
            source
            for source in self.plan.sources
            if source.parent == parent and source.role == role and (not same_process or source.intent == intent)
        ]
        # First those that were started alike; a command may differ in nothing but a temporary path.
        exact = [source for source in candidates if _without_handles(source.command) == mine]
        likely = [source for source in candidates if source not in exact and source.intent == intent]
        for source in exact + likely:
            if self.claim(f"process-{source.record_id}"):
                return source
        root = self.plan.sources[0]
        # `unspool.record` in a program that was not started by unspool is itself the root of what it recorded.
        if same_process and parent == root.record_id and intent == root.intent and self.claim("process-again"):
            return root
        return None

    def reader(self, record_id: str) -> RecordReader:
        """A reader of one of the recordings, opened once; for one thread at a time.

        Raises:
            UnspoolError: it cannot be read, or there is no such source.
        """
        reader = self._readers.get(record_id)
        if reader is None:
            source = self.plan.source(record_id)
            if source is None:
                raise UnspoolError(f"the plan has no recording {record_id}")
            reader = self._readers[record_id] = RecordReader(source.path, live=True)
        return reader

    # --- exchanges ---------------------------------------------------------------------------------------------------

    def match(self, key: str, sha256: str | None, body: bytes, record_id: str | None, task: str) -> Match | None:
        """Claim the offer that is this request: one of the same place first, then in recorded order.

        Equal bytes are looked for first, then equal canonical forms.
        """
        with self._lock:
            place = (record_id or "", task)
            offer = self._take_first(self._shelf.exact, (key, sha256), place)
            if offer is not None:
                return Match(offer, "bytes")
            if sha256 is None:
                return None
            self._shelf.add_canonical(key, self)
            offer = self._take_first(self._shelf.canonical, (key, canonical_digest(body)), place)
            return Match(offer, "canonical") if offer is not None else None

    def _take_first(self, index: _Index, fingerprint: tuple[str, str | None], place: tuple[str, str]) -> Offer | None:
        for queue in (index.by_place.get((fingerprint, place)), index.by_order.get(fingerprint)):
            while queue:
                offer = queue.popleft()
                if self._take(offer.number):
                    return offer
        return None

    def skipped(self, offer: Offer, record_id: str | None, task: str) -> Offer | None:
        """The model call that should have come before this one in its place and did not; None if all is in order.

        Where calls ran beside each other, or a pool of processes shared the work, there is no such order.
        """
        if offer.kind != "llm" or offer.unordered or (offer.record_id, offer.task) != (record_id, task):
            return None
        if offer.record_id in self._pools:
            return None
        with self._lock:
            return self._shelf.first_open(offer, self)

    def expected(self, record_id: str | None, task: str) -> Offer | None:
        """The exchange that this place had next; else the first of the whole recording that is left."""
        with self._lock:
            exchanges = [one for one in self.offers if one.kind != "tool" and not self._is_covered(one)]
            open_ones = [one for one in exchanges if not self.is_taken(one.number)]
            here = [one for one in open_ones if (one.record_id, one.task) == (record_id, task)]
            return next(iter(here or open_ones), None)

    def _is_covered(self, offer: Offer) -> bool:
        """Whether a tool call around it was served, so that it will not be asked for."""
        inside = offer.inside
        while inside is not None:
            if self.is_taken(inside):
                return True
            around = self.by_number.get(inside)
            inside = around.inside if around is not None else None
        return False

    def turn(self, offer: Offer, record_id: str | None) -> Turn | None:
        """Its place in the order of answers, to be waited for; None: it can be given now."""
        if self.plan.realtime or self.reached or offer.record_id != record_id or offer.record_id in self._pools:
            return None
        turns = self._turns.get(record_id)
        if turns is None:
            with self._lock:
                turns = self._turns.setdefault(
                    record_id, Turns(self._exchanges_of(record_id), self._is_settled, self._note_timeout)
                )
        return turns.arrive(offer)

    def _exchanges_of(self, record_id: str) -> list[Offer]:
        return [one for one in self.offers if one.kind != "tool" and one.record_id == record_id]

    def _is_settled(self, offer: Offer) -> bool:
        return self.is_taken(offer.number) or self._is_covered(offer)

    def _note_timeout(self, offer: Offer) -> None:
        reason = (
            "answers no longer come in the recorded order: this request was under way with others, and did not come"
        )
        self.note(
            Entry("note", os.getpid(), offer.record_id, offer.number, path=offer.key, task=offer.task, reason=reason)
        )

    def let_go(self) -> None:
        """Hold no answer back any more: the program has left the recording."""
        for turns in list(self._turns.values()):
            turns.give_up()

    def answer(self, offer: Offer) -> Answer:
        """What was answered.

        Raises:
            Unservable: it cannot be served; says why.
        """
        if offer.unservable is not None:
            raise Unservable(offer.unservable)
        with self._lock:
            try:
                return read_answer(self.reader(offer.record_id), offer)
            except Unservable:
                raise
            except (UnspoolError, OSError) as exc:
                raise Unservable(f"its recording cannot be read: {exc}") from exc

    def request_body(self, offer: Offer) -> bytes | None:
        """The recorded request body of an exchange; None if there is none. For the holder of the lock."""
        reader = self.reader(offer.record_id)
        events = reader.events()
        for number in (offer.syscall, offer.snapshot):
            if number is None:
                continue
            event = events.bare(reader.index_of(number))
            request = None
            if event.syscall is not None:
                request = event.syscall.request
            elif event.context is not None:
                request = event.context.request
            if request is not None and request.body is not None:
                return reader.body(request.body)
        return None

    def note(self, entry: Entry) -> None:
        """Write a line of the journal."""
        self.journal.write(entry)


class _Index:
    """Offers by fingerprint, and by fingerprint and place. Taken ones are dropped when they come up."""

    __slots__ = ("by_order", "by_place")

    def __init__(self) -> None:
        self.by_order: dict[tuple[str, str | None], deque[Offer]] = {}
        self.by_place: dict[tuple[tuple[str, str | None], tuple[str, str]], deque[Offer]] = {}

    def add(self, fingerprint: tuple[str, str | None], offer: Offer) -> None:
        self.by_order.setdefault(fingerprint, deque()).append(offer)
        self.by_place.setdefault((fingerprint, (offer.record_id, offer.task)), deque()).append(offer)


class _Shelf:
    """The exchanges on offer, found by what they answer."""

    def __init__(self, offers: list[Offer]) -> None:
        self.exact = _Index()
        self.canonical = _Index()
        self._by_key: dict[str, list[Offer]] = {}
        self._places: dict[tuple[str, str], deque[Offer]] = {}
        for offer in offers:
            if offer.kind == "tool":
                continue
            self.exact.add((offer.key, offer.sha256), offer)
            self._by_key.setdefault(offer.key, []).append(offer)
            if offer.kind == "llm":
                self._places.setdefault((offer.record_id, offer.task), deque()).append(offer)

    def add_canonical(self, key: str, stage: Stage) -> None:
        """Read the bodies recorded under a key, once: only a request that equals none byte for byte needs them."""
        for offer in self._by_key.pop(key, ()):
            if offer.sha256 is None or stage.is_taken(offer.number):
                continue
            try:
                body = stage.request_body(offer)
            except (UnspoolError, OSError):
                continue  # what cannot be read can be asked for byte for byte only
            if body is not None:
                self.canonical.add((key, canonical_digest(body)), offer)

    def first_open(self, offer: Offer, stage: Stage) -> Offer | None:
        """The first model call in the place of `offer`, before it, that nobody has asked for."""
        queue = self._places.get((offer.record_id, offer.task))
        while queue and queue[0].number < offer.number:
            head = queue[0]
            if not stage.is_taken(head.number) and not stage._is_covered(head):
                return head
            queue.popleft()
        return None


def _without_handles(command: list[str]) -> list[str]:
    return [_HANDLE.sub("0", word) for word in command[1:]]


def _pools(sources: list[Source]) -> set[str]:
    """Recordings of workers that were started alike: which of them does which part of the work is chance."""
    groups: dict[tuple[str | None, tuple[str, ...]], list[str]] = {}
    for source in sources:
        if source.role == "worker":
            groups.setdefault((source.parent, tuple(_without_handles(source.command))), []).append(source.record_id)
    return {name for names in groups.values() if len(names) > 1 for name in names}
