"""What `unspool ctx` and `unspool growth` look at: the calls of a recording, with their prices and windows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from msgspec import Struct

from unspool.cli.limit_options import budget_of
from unspool.cli.listing import LLM_PREFIX
from unspool.cli.prices import Prices, context_window
from unspool.cli.runs import descendants
from unspool.context.advice import Advice, advise
from unspool.context.breaks import CacheBreak, find_breaks
from unspool.context.calls import Call, Run
from unspool.context.composition import Composition, compose
from unspool.context.lives import Lives, live
from unspool.context.reading import read_run
from unspool.durations import later
from unspool.errors import CorruptRecording, NoSnapshot
from unspool.events import LLMResponse, RecordMetadata
from unspool.recording.reader import RecordReader
from unspool.store import Store
from unspool.trace.rates import Rates

__all__ = ["ContextView", "Costs", "call_at", "calls_elsewhere", "main_call", "view_of", "window_of"]

_NAMED = 3  # processes
_NOT_SENT = ("served", "edited")  # answers from a recording or from a person: they cost nothing


class Costs:
    """Rates and costs of the calls of one recording."""

    def __init__(self, reader: RecordReader, prices: Prices) -> None:
        self._start = reader.metadata.start_time
        self._prices = prices

    def __call__(self, call: Call) -> Rates | None:
        """The rates of a call; None where no price is known."""
        if call.answer is not None and call.answer.origin in _NOT_SENT:
            return Rates(0.0, 0.0, 0.0, 0.0)
        at = later(self._start, call.timestamp)
        at_ns = 0 if at is None else int(at.timestamp()) * 1_000_000_000
        for vendor, model in _names(call):
            rates = self._prices(vendor, model, at_ns, call.tokens)
            if rates is not None:
                return rates
        return None

    def of_call(self, call: Call) -> float | None:
        """US dollars for a call; None if its price or a count is unknown, 0 for one that was refused."""
        if not call.is_paid or call.llm is None:
            return 0.0
        rates = self(call)
        if rates is None or call.llm.response_tokens is None:
            return None
        cached, written = call.llm.cached_tokens or 0, call.llm.cache_write_tokens or 0
        return rates.cost(call.tokens, call.llm.response_tokens, cached, written)


def _names(call: Call) -> list[tuple[str, str]]:
    """Vendor and model to look up: as it was answered, then as it was asked for."""
    vendor, _, asked = call.path.removeprefix(LLM_PREFIX).partition("/")
    vendor = vendor or {"openai_chat": "openai", "openai_responses": "openai", "gemini": "google"}.get(
        call.provider or "", call.provider or ""
    )
    return [(vendor, model) for model in dict.fromkeys((call.model, asked)) if model]


def window_of(call: Call) -> int | None:
    """The context window of the model of a call, in tokens; None if the lists do not know it."""
    return next((size for vendor, model in _names(call) if (size := context_window(vendor, model))), None)


class ContextView(Struct):
    """One call of a recording and all that is known of its context.

    `budget` is what `unspool run --budget` gave; `window` that of the model.
    """

    record_id: str
    run: Run
    call: Call
    composition: Composition
    found: Lives
    breaks: list[CacheBreak]
    advice: list[Advice]
    window: int | None
    budget: int | None
    costs: Costs
    total_usd: float | None = None

    @property
    def calls(self) -> list[Call]:
        """The calls of its conversation that were paid for."""
        return [call for call in self.run.conversation_of(self.call) if call.is_paid]


def call_at(run: Run, seq_num: int) -> Call:
    """The call of the nearest snapshot at or before an event.

    Raises:
        NoSnapshot: there is none.
    """
    found = next((call for call in reversed(run.calls) if call.seq_num <= seq_num), None)
    if found is None:
        raise NoSnapshot(f"there is no model call at or before event {seq_num}", seq_num=seq_num)
    return found


def main_call(run: Run, record_id: str) -> Call:
    """The last call of the conversation that sent the most tokens.

    Raises:
        NoSnapshot: there are no calls.
    """
    if not run.calls:
        raise NoSnapshot(f"{record_id} has no model call, so there is no context to look at")
    most = max(run.conversations, key=lambda one: (sum(run.calls[at].tokens for at in one), -one[0]))
    answered = [at for at in most if run.calls[at].is_paid]
    return run.calls[(answered or most)[-1]]


@contextlib.contextmanager
def calls_elsewhere(store: Store, record_id: str, command: str) -> Iterator[None]:
    """Where a recording turns out to have no calls: say which of the processes that it started have some."""
    try:
        yield
    except NoSnapshot as exc:
        started = descendants(store, record_id) if exc.seq_num is None else []
        pids = sorted(one.pid for one in started if _has_calls(store, one))
        if not pids:
            raise
        more = f" (and {len(pids) - _NAMED} more: unspool ls --flat)" if len(pids) > _NAMED else ""
        named = ", ".join(f"unspool {command} {pid}" for pid in pids[:_NAMED])
        raise NoSnapshot(f"{exc}. Processes that it started have: {named}{more}") from None


def _has_calls(store: Store, metadata: RecordMetadata) -> bool:
    try:
        with RecordReader(store.records / metadata.record_id, live=True) as reader:
            return any(event.context is not None for event in reader.bare_events())
    except CorruptRecording:
        return False


def view_of(reader: RecordReader, prices: Prices, seq_num: int | None, *, run: Run | None = None) -> ContextView:
    """Everything about the context of a call, by default the last one of the largest conversation.

    Raises:
        NoSnapshot: there is no call there.
    """
    run = run or read_run(reader)
    call = main_call(run, reader.record_id) if seq_num is None else call_at(run, seq_num)
    costs = Costs(reader, prices)

    def answer_of(one: Call) -> LLMResponse | None:
        return reader.response_of(one.answer) if one.answer is not None else None

    found = live(run, call, answer_of, costs)
    breaks = [one for one in find_breaks(run, costs) if one.call.conversation == call.conversation]
    view = ContextView(
        reader.record_id,
        run,
        call,
        compose(call),
        found,
        breaks,
        advise(found, breaks, run, costs),
        window_of(call),
        budget_of(reader.metadata),
        costs,
    )
    amounts = [amount for one in view.calls if (amount := costs.of_call(one)) is not None]
    view.total_usd = sum(amounts) if amounts else None
    return view
