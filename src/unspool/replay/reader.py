"""What replay needs of a recording."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from unspool.events import Body, Context, RecordEvent, RecordMetadata

__all__ = ["Reader"]


class Reader(Protocol):
    """What replay asks of a recording; `unspool.recording.RecordReader` is one."""

    @property
    def metadata(self) -> RecordMetadata:
        """Who and what was recorded."""

    @property
    def event_count(self) -> int:
        """How many events there are."""

    def event(self, seq_num: int) -> RecordEvent:
        """The event with this number; raises SeqNotFound."""

    def events(self) -> Sequence[RecordEvent]:
        """All events in order, loaded when asked for."""

    def index_of(self, seq_num: int) -> int:
        """The position of an event, from 0; raises SeqNotFound."""

    def context_at(self, seq_num: int) -> Context:
        """What the model saw at or before an event; raises NoSnapshot."""

    def body(self, body: Body) -> bytes | None:
        """The bytes of a request or response; None if they are missing."""
