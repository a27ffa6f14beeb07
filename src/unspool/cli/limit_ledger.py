"""What a running command has used so far: steps, money, and how full its contexts are, read along in its recordings."""

from __future__ import annotations

import logging
from typing import Final

from msgspec import Struct, field

from unspool.cli.launch import Launch
from unspool.cli.limit_options import Limits
from unspool.cli.listing import LLM_PREFIX, answer_cost
from unspool.cli.prices import Prices, context_window
from unspool.cli.terminal import note
from unspool.durations import later
from unspool.errors import CorruptRecording, StoreError
from unspool.events import LLMResponseData, RecordEvent, RecordMetadata, TokenSnapshot
from unspool.providers import PROVIDERS, vendor
from unspool.recording.reader import RecordReader
from unspool.recording.sent import SentCall, SentReader
from unspool.text import show_text

__all__ = ["Fill", "Lane", "Ledger", "fault_text"]

logger = logging.getLogger("unspool")
_LEAST_RATIO: Final = 0.5  # of counted to estimated tokens: beyond these one of the two is not what it seems
_MOST_RATIO: Final = 3.0


class Lane(Struct):
    """One conversation.

    Attributes:
        points: its contexts as counted, by step from 1.
        said: how urgent it was said to be: 0 not at all, 1 warned, 2 critical.
        budget: tokens that fit; None is unknown.
        seq: the last snapshot; `weights` the estimated tokens of its messages, `head` those of what is beside them.
        counted: tokens the provider counted for a context whose estimate was `estimated`; `answered` those of its
            answer.
    """

    points: list[TokenSnapshot] = field(default_factory=list)
    said: int = 0
    budget: int | None = None
    seq: int = 0
    weights: list[int] = field(default_factory=list)
    head: int = 0
    counted: int = 0
    estimated: int = 0
    answered: int = 0

    @property
    def estimate(self) -> int:
        """Estimated tokens of the last context, by text alone."""
        return self.head + sum(self.weights)

    @property
    def pending(self) -> int:
        """Tokens of the last context if it is not counted yet: what was counted, and what came and went since."""
        if not self.counted or not self.estimated:
            return self.estimate
        ratio = min(max(self.counted / self.estimated, _LEAST_RATIO), _MOST_RATIO)
        return max(self.counted + round(ratio * (self.estimate - self.estimated)), 0)


class Fill(Struct):
    """A context was counted: `used` tokens with the answer, which the next one holds too."""

    metadata: RecordMetadata
    call: int | None
    lane: Lane
    used: int
    at_ms: int


class _Watched(Struct):
    """One recording that is read along."""

    reader: RecordReader
    sent: SentReader
    position: int = 0
    paths: dict[int | None, str] = field(default_factory=dict)
    lanes: dict[int | None, Lane] = field(default_factory=dict)
    lane_of: dict[int | None, int | None] = field(default_factory=dict)
    estimates: dict[int | None, int] = field(default_factory=dict)  # of calls that are not answered yet


class Ledger:
    """Reads what the processes of a command write. For one thread.

    Attributes:
        records: the recordings of the command, as they were at the last look.
        steps, cost: so far; the cost in US dollars.
        answered: model calls that have ended, as (record id, number), until somebody takes them out.
        fills: contexts that were counted, likewise.
    """

    def __init__(self, launch: Launch, limits: Limits, prices: Prices) -> None:
        self._launch, self._limits, self._prices = launch, limits, prices
        self.steps = 0
        self.cost = 0.0
        self.answered: list[tuple[str, int]] = []
        self.fills: list[Fill] = []
        self.records: list[RecordMetadata] = []
        self._watched: dict[str, _Watched] = {}
        self._faulty: set[str] = set()
        self._unpriced: set[str] = set()
        self._unknown: set[str] = set()

    def look(self) -> list[RecordMetadata]:
        """Read what is new; the recordings so far. That something in one cannot be counted is said once."""
        try:
            self.records = self._launch.records() if self._launch.is_recorded else []
        except Exception as exc:  # noqa: BLE001 - anything may stand in there; what was there before is still watched
            self.left_out("", exc)
        for metadata in self.records:
            try:
                self._read(metadata)
            except (CorruptRecording, StoreError, OSError):  # not written yet, or removed under us
                continue
            except Exception as exc:  # noqa: BLE001 - one recording is no reason to watch none
                self.left_out(metadata.record_id, exc)
        return self.records

    def left_out(self, record_id: str, exc: Exception) -> None:
        """Say, once for each recording, that not all of it counts for the limits.

        Args:
            record_id: "" where it is not known which.
        """
        logger.debug("limits: %s", record_id, exc_info=exc)
        if record_id not in self._faulty:
            self._faulty.add(record_id)
            where = show_text(record_id) or self._launch.store.records
            note(f"unspool: not all of {where} counts for the limits of this run: {fault_text(exc)}")

    def lane_of_call(self, record_id: str, call: int) -> Lane | None:
        """The conversation of a call that has begun and is not answered."""
        one = self._watched.get(record_id)
        if one is None or call not in one.lane_of:
            return None
        return one.lanes.get(one.lane_of[call])

    def metadata_of(self, record_id: str) -> RecordMetadata | None:
        """Of a recording that is read along."""
        one = self._watched.get(record_id)
        return one.reader.metadata if one is not None else None

    def close(self) -> None:
        """Close the recordings."""
        for one in self._watched.values():
            one.reader.close()

    # --- reading along -----------------------------------------------------------------------------------------------

    def _read(self, metadata: RecordMetadata) -> None:
        one = self._watched.get(metadata.record_id)
        if one is None:
            reader = RecordReader(self._launch.store.records / metadata.record_id, live=True)
            one = self._watched[metadata.record_id] = _Watched(reader, reader.sent())
        one.reader.refresh()
        for event in one.reader.bare_events(one.position):
            one.position += 1
            try:
                self._take(one, event)
            except Exception as exc:  # noqa: BLE001 - the events after it count
                self.left_out(metadata.record_id, exc)

    def _take(self, one: _Watched, event: RecordEvent) -> None:
        if event.context is not None:
            self.steps += not event.context.retry
            if self._limits.on_critical is not None:
                self._begin(one, event)
        elif event.syscall is not None:
            path = event.syscall.args.get("path")
            if isinstance(path, str) and path.startswith(LLM_PREFIX):
                one.paths[event.call] = path
        elif event.llm is not None:
            path = one.paths.pop(event.call, "")
            if event.call is not None:
                self.answered.append((one.reader.record_id, event.call))
            self._pay(one, path, event, event.llm)
            if self._limits.on_critical is not None:
                self._fill(one, path, event, event.llm)

    def _begin(self, one: _Watched, event: RecordEvent) -> None:
        """A context is about to be sent: what it holds, by estimate."""
        one.lane_of[event.call] = event.lane
        lane = one.lanes.setdefault(event.lane, Lane())
        found = one.sent.call(event)
        if found is not None and found.prev is not None and found.prev != lane.seq:
            found = one.sent.call(event, whole=True)
        if found is None:
            found = self._whole(one, event)
        if found is None:
            return  # nothing of it can be read: what was counted last is all that is known
        kept = lane.weights[: found.kept] if found.prev is not None else []
        lane.weights = [*kept, *(sum(message.weights) for message in found.added)]
        lane.seq, lane.head = event.seq_num, found.system + found.tools
        one.estimates[event.call] = lane.estimate
        if lane.budget is None:
            lane.budget = self._limits.budget or self._window_of(one, event)

    def _whole(self, one: _Watched, event: RecordEvent) -> SentCall | None:
        """What was sent, where its body is not there in pieces: one whose input is a text has no array of messages."""
        assert event.context is not None, "only snapshots come here"
        context = one.reader.context_of(event.context)
        return one.sent.given(event, context) if context.messages or context.system_prompt else None

    def _pay(self, one: _Watched, path: str, event: RecordEvent, data: LLMResponseData) -> None:
        if self._limits.max_cost is None or data.error is not None or event.origin == "served":
            return
        start = one.reader.metadata.start_time
        cost = answer_cost(self._prices, path, data, later(start, event.timestamp))
        if cost is not None:
            self.cost += cost
        elif path not in self._unpriced:
            self._unpriced.add(path)
            name = show_text(path.removeprefix(LLM_PREFIX)) or "a model"
            note(f"unspool: --max-cost cannot count {name}: no price is known. Give one in prices.toml")

    def _fill(self, one: _Watched, path: str, event: RecordEvent, data: LLMResponseData) -> None:
        lane = one.lanes.setdefault(one.lane_of.pop(event.call, None), Lane())
        estimated = one.estimates.pop(event.call, 0)
        if data.request_tokens is None:
            return
        lane.budget = lane.budget or self._limits.budget or self._window(path, data.model)
        lane.counted, lane.estimated, lane.answered = data.request_tokens, estimated, data.response_tokens or 0
        at_ms = event.timestamp // 1_000_000
        lane.points.append(TokenSnapshot(len(lane.points) + 1, data.request_tokens, at_ms))
        # The answer is part of the next context, whatever comes with it.
        self.fills.append(Fill(one.reader.metadata, event.call, lane, lane.counted + lane.answered, at_ms))

    def _window_of(self, one: _Watched, event: RecordEvent) -> int | None:
        """The window of the model that is asked, before anything was answered; unknown is said when it was."""
        data = event.context
        if data is None or data.model is None or data.provider not in PROVIDERS or data.request is None:
            return None
        url = one.reader.with_head(data.request).url or ""
        return context_window(vendor(PROVIDERS[data.provider], url), data.model)

    def _window(self, path: str, model: str | None) -> int | None:
        whose, _, asked = path.removeprefix(LLM_PREFIX).partition("/")
        for name in dict.fromkeys((model, asked)):
            if name and (window := context_window(whose, name)) is not None:
                return window
        if path not in self._unknown:
            self._unknown.add(path)
            name = show_text(path.removeprefix(LLM_PREFIX)) or "a model"
            note(f"unspool: the context window of {name} is not known: no forecast. Give it with --budget TOKENS")
        return None


def fault_text(exc: Exception) -> str:
    """A fault in a line of plain text."""
    return show_text(f"{type(exc).__name__}: {exc}")
