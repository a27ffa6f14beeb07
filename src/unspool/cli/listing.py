"""What a recording adds up to: one pass over its events, as they are on disk."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from unspool.cli.prices import Prices, prices_for
from unspool.errors import CorruptRecording
from unspool.events import LLMResponseData, RecordEvent, RecordEventType, RecordMetadata
from unspool.recording.reader import RecordReader
from unspool.store import Store

__all__ = ["Tally", "Totals", "answer_cost", "tally"]

LLM_PREFIX = "/dev/llm/"
TOOL_PREFIXES = ("/dev/tool/", "/dev/mcp/")


@dataclass
class Totals:
    """Sums over one or more recordings.

    `tokens` and `cost` are None where nothing is known; `tokens_unknown` and `cost_unknown` count the answered calls
    that the sums leave out, which makes them lower bounds. Tokens and cost are of what was sent: the `served` calls,
    which a recording answered, are in `calls` and in no other sum.
    """

    events: int = 0
    steps: int = 0
    calls: int = 0
    tools: int = 0
    errors: int = 0
    lost: int = 0
    input_tokens: int | None = 0
    output_tokens: int | None = 0
    cached_tokens: int | None = None
    tokens: int | None = 0
    cost: float | None = 0.0
    tokens_unknown: int = 0
    cost_unknown: int = 0
    served: int = 0

    def to_dict(self) -> dict[str, Any]:
        """For `--json`; the cost names its unit."""
        document = asdict(self)
        document["cost_usd"] = document.pop("cost")
        return document


def answer_cost(prices: Prices, path: str, data: LLMResponseData, at: datetime | None) -> float | None:
    """US dollars for an answered call; None if the price or a token count is unknown.

    Args:
        path: device path of the call, `/dev/llm/<vendor>/<model asked for>`.
        at: when it was made.
    """
    vendor, _, asked = path.removeprefix(LLM_PREFIX).partition("/")
    if not vendor or data.request_tokens is None or data.response_tokens is None:
        return None
    # The answer names the exact version; a gateway may answer with a name of its own.
    for model in dict.fromkeys((data.model, asked)):
        if model:
            cost = prices.cost(
                vendor,
                model,
                input_tokens=data.request_tokens,
                output_tokens=data.response_tokens,
                cached_tokens=data.cached_tokens or 0,
                cache_write_tokens=data.cache_write_tokens or 0,
                at=at,
            )
            if cost is not None:
                return cost
    return None


def tally(store: Store, records: Iterable[RecordMetadata]) -> Totals:
    """Sums over these recordings. One that cannot be read adds nothing but the events it says it lost."""
    sums = Tally(prices_for(store))
    for metadata in records:
        try:
            with RecordReader(store.records / metadata.record_id, live=True) as reader:
                sums.add_recording(reader)
        except CorruptRecording:
            sums.totals.lost += metadata.lost_events
    return sums.result()


class Tally:
    """Adds up recordings, event by event."""

    def __init__(self, prices: Prices | None = None) -> None:
        self.totals = Totals()
        self._prices = prices or Prices()
        self._known_tokens = self._known_costs = False
        self._answered = 0

    def add_recording(self, reader: RecordReader) -> None:
        """Add all events of a recording."""
        one = _OneRecording(reader.metadata)
        for event in reader.bare_events():
            self.add(event, one)
        self.end(one)

    def begin(self, metadata: RecordMetadata) -> _OneRecording:
        """For `add`, where the caller goes through the events itself; `end` takes it back."""
        return _OneRecording(metadata)

    def add(self, event: RecordEvent, one: _OneRecording) -> None:
        """Add one event."""
        self.totals.events += 1
        if event.syscall is not None:
            data = event.syscall
            path = data.args.get("path")
            if data.err and data.syscall != "Span":  # what fails inside of one is counted where it fails
                self.totals.errors += 1
            if not isinstance(path, str):
                return
            if path.startswith(TOOL_PREFIXES):
                self.totals.tools += 1
            elif path.startswith(LLM_PREFIX):
                one.path = path
                if event.call is not None:
                    one.paths[event.call] = path
        elif event.llm is not None:
            one.answers += 1
            self._add_answer(event, event.llm, one)
        elif event.type is RecordEventType.CONTEXT_SNAPSHOT:
            if event.call is not None:
                one.calls += 1
            if event.context is None or not event.context.retry:
                one.snapshots += 1

    def end(self, one: _OneRecording) -> None:
        """A recording is through."""
        # A call in flight has a snapshot and no answer; recordings by others have answers and no numbered snapshots.
        self.totals.calls += max(one.calls, one.answers)
        self.totals.steps += one.snapshots
        self.totals.lost += one.metadata.lost_events

    def so_far(self, one: _OneRecording) -> Totals:
        """The sums as if this recording, which is being added, ended here; more of it may follow."""
        until_now = copy(self)
        until_now.totals = replace(self.totals)
        until_now.end(one)
        return until_now.result()

    def result(self) -> Totals:
        """The sums; None where calls were answered and nothing is known about them."""
        totals = self.totals
        if self._answered and not self._known_tokens:
            totals.tokens = totals.input_tokens = totals.output_tokens = None
        if self._answered and not self._known_costs:
            totals.cost = None
        return totals

    def _add_answer(self, event: RecordEvent, data: LLMResponseData, one: _OneRecording) -> None:
        totals = self.totals
        if event.origin == "served":
            totals.served += 1
            return
        if data.request_tokens is None and data.response_tokens is None:
            if data.error is None:
                self._answered += 1
                totals.tokens_unknown += 1
                totals.cost_unknown += 1
            return
        self._answered += 1
        self._known_tokens = True
        read, written = data.request_tokens or 0, data.response_tokens or 0
        totals.input_tokens = (totals.input_tokens or 0) + read
        totals.output_tokens = (totals.output_tokens or 0) + written
        totals.tokens = (totals.tokens or 0) + read + written
        if data.cached_tokens is not None:
            totals.cached_tokens = (totals.cached_tokens or 0) + data.cached_tokens
        if data.request_tokens is None or data.response_tokens is None:
            totals.tokens_unknown += 1
        price = self._price(event, data, one)
        if price is None:
            totals.cost_unknown += 1
        else:
            self._known_costs = True
            totals.cost = (totals.cost or 0.0) + price

    def _price(self, event: RecordEvent, data: LLMResponseData, one: _OneRecording) -> float | None:
        path = one.paths.pop(event.call, "") if event.call is not None else one.path
        start = one.metadata.start_time
        at = None if start is None else start + timedelta(microseconds=event.timestamp // 1000)
        return answer_cost(self._prices, path, data, at)


class _OneRecording:
    """What has been seen of the recording being added."""

    def __init__(self, metadata: RecordMetadata) -> None:
        self.metadata = metadata
        self.calls = self.answers = self.snapshots = 0
        self.path = ""
        self.paths: dict[int, str] = {}
