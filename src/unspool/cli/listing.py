"""What recordings add up to, as commands ask for it: a recording's events counted, and priced by the user's prices."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from unspool.catalog.sums import LLM_PREFIX, TOOL_PREFIXES, Counter, Sums, Totals, total
from unspool.cli.prices import Prices, prices_for
from unspool.errors import CorruptRecording
from unspool.events import LLMResponseData, RecordEvent, RecordMetadata
from unspool.recording.reader import RecordReader
from unspool.store import Store

__all__ = ["LLM_PREFIX", "TOOL_PREFIXES", "Tally", "Totals", "answer_cost", "tally"]


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
            sums.add_lost(metadata.lost_events)
    return sums.result()


class Tally:
    """Adds up recordings, event by event."""

    def __init__(self, prices: Prices | None = None) -> None:
        self._prices = prices or Prices()
        self._ended: list[Sums] = []

    @property
    def totals(self) -> Totals:
        """The sums over the recordings that are through."""
        return self.result()

    def add_recording(self, reader: RecordReader) -> None:
        """Add all events of a recording."""
        one = self.begin(reader.metadata)
        for event in reader.bare_events():
            one.add(event)
        self.end(one)

    def begin(self, metadata: RecordMetadata) -> Counter:
        """Start with a recording; its events follow."""
        return Counter(self._prices, metadata.start_time, Sums(lost=metadata.lost_events))

    def add(self, event: RecordEvent, one: Counter) -> None:
        """Add one event."""
        one.add(event)

    def end(self, one: Counter) -> None:
        """A recording is through."""
        self._ended.append(one.sums)

    def add_lost(self, events: int) -> None:
        """A recording of which only that is known."""
        self._ended.append(Sums(lost=events))

    def so_far(self, one: Counter) -> Totals:
        """The sums with this recording, which is being added, as if it ended here; more of it may follow."""
        return total([*self._ended, one.sums], self._prices)

    def result(self) -> Totals:
        """The sums; None where calls were answered and nothing is known about them."""
        return total(self._ended, self._prices)
