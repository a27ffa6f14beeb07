"""The contexts of a recording as its pages share them: read once, in the background; each call is cheap then."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from unspool.cli.ctx_view import Costs, main_call
from unspool.cli.limit_options import budget_of
from unspool.context.breaks import CacheBreak, find_breaks
from unspool.context.calls import Call, Run
from unspool.context.lives import Lives, live
from unspool.context.memory import Memory
from unspool.context.reading import read_run
from unspool.events import LLMResponse, RecordStatus
from unspool.recording.reader import RecordReader
from unspool.trace.quiet import gc_paused
from unspool.web.shelf import Shelf
from unspool.web.workshop import Finding

__all__ = ["AFTER_PAGE_S", "Contexts", "contexts_of", "order_contexts"]

_LARGE: Final = 4_000  # events: below this a page simply waits
_PATIENCE_S: Final = 30.0
_PAGES_KEPT: Final = 64
AFTER_PAGE_S: Final = 0.3
"""How long what is made in advance waits for the page that somebody looks at now."""


@dataclass
class Contexts:
    """What was read of a recording's contexts.

    Attributes:
        budget: tokens that `unspool run --budget` gave.
        pages: finished pages by what they show, the one used last at the end.
    """

    record_id: str
    pid: int
    run: Run
    breaks: list[CacheBreak]
    costs: Costs
    is_running: bool
    budget: int | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    memory: Memory = field(default_factory=Memory)
    pages: OrderedDict[tuple[str, int], Any] = field(default_factory=OrderedDict)

    @property
    def last_seq(self) -> int:
        """The number of the last context that was read; 0 if there is none."""
        return self.run.calls[-1].seq_num if self.run.calls else 0

    def lives(self, reader: RecordReader, call: Call) -> Lives:
        """The lives of the blocks of a call."""

        def answer_of(one: Call) -> LLMResponse | None:
            return reader.response_of(one.answer) if one.answer is not None else None

        with gc_paused(), self.lock:
            return live(self.run, call, answer_of, self.costs, memory=self.memory)

    def page(self, name: str, number: int, make: Callable[[], Any]) -> Any:
        """A page that was made before, or is made now."""
        with self.lock:
            if (name, number) in self.pages:
                self.pages.move_to_end((name, number))
                return self.pages[name, number]
        made = make()
        with self.lock:
            self.pages[name, number] = made
            while len(self.pages) > _PAGES_KEPT:
                self.pages.popitem(last=False)
        return made


def contexts_of(shelf: Shelf, record_id: str, *, is_patient: bool = False) -> Finding[Contexts]:
    """What is known of the contexts of a recording; nothing yet if reading a large one takes longer than a moment.

    Args:
        is_patient: wait for it all the same.
    """
    is_large = _events_of(shelf, record_id) > _LARGE
    wait_s = None if is_large and not is_patient else _PATIENCE_S
    found = shelf.workshop.ask(*_order(shelf, record_id), wait_s=wait_s)
    if found.value is not None and is_large:
        order_lives(shelf, found.value)
    return found


def order_contexts(shelf: Shelf, record_id: str) -> None:
    """Have the contexts of a recording read, since somebody looks at its run."""
    shelf.workshop.order(*_order(shelf, record_id), after_s=AFTER_PAGE_S)


def order_lives(shelf: Shelf, contexts: Contexts) -> None:
    """Have the texts of the largest conversation read for what they refer to, which every call of it needs."""
    if contexts.is_running or not contexts.run.calls:
        return

    def work() -> None:
        with shelf.readers.lend(contexts.record_id) as reader:
            largest = main_call(contexts.run, contexts.record_id)
            contexts.lives(reader, contexts.run.conversation_of(largest)[-1])

    shelf.workshop.order(("lives", contexts.record_id), id(contexts), work)


def _order(shelf: Shelf, record_id: str) -> tuple[tuple[str, str], object, Callable[[], Contexts]]:
    def work() -> Contexts:
        with gc_paused(), shelf.readers.lend(record_id) as reader:
            run, costs = read_run(reader), Costs(reader, shelf.prices)
            is_running = reader.metadata.status is RecordStatus.RECORDING
            budget = budget_of(reader.metadata)
            found = Contexts(record_id, reader.metadata.pid, run, find_breaks(run, costs), costs, is_running, budget)
        if len(run.calls) and _events_of(shelf, record_id) > _LARGE:
            order_lives(shelf, found)
        return found

    return ("contexts", record_id), shelf.signature([record_id]), work


def _events_of(shelf: Shelf, record_id: str) -> int:
    with shelf.readers.lend(record_id) as reader:
        return reader.event_count
