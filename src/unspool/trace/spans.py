"""A span: one piece of work with a beginning and an end, and its line in `spans.jsonl`.

Instants are nanoseconds of the Unix epoch, 0 while unset; durations are nanoseconds. On the wire the seed's `*_ms` keys
are whole, truncated milliseconds (an unset instant is year 1, as the reference writes it) and the exact `*_ns` keys
stand beside them. A line without `*_ns` keys is one of the reference's.
"""

from __future__ import annotations

import copy
import logging
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from unspool.events import PID, SpanID, TraceID
from unspool.recording.lines import decode_json, encode_json, is_plain, revive, to_wire
from unspool.store import new_hex_id

__all__ = [
    "FAILING",
    "SPAN_KINDS",
    "Span",
    "SpanEvent",
    "SpanStatus",
    "generate_span_id",
    "generate_trace_id",
    "instant_ms",
    "instant_ns",
    "instant_time",
    "interval_of",
    "is_failing",
    "short_wire",
]

SPAN_KINDS: Final = ("agent", "llm", "tool", "other")
UNSET_MS: Final = -62_135_596_800_000  # 0001-01-01T00:00:00Z, the reference's time that is not set
NS_PER_MS: Final = 1_000_000

# A start of 0 is "unset" beside an end later than this (12 days after 1970), and the zero of somebody's clock before.
_EPOCH_LIKE_NS: Final = 10**15
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

logger = logging.getLogger("unspool")


def generate_trace_id() -> TraceID:
    """A new trace id: 16 bytes of the operating system's generator as 32 lower-case hex characters."""
    return new_hex_id()


def generate_span_id() -> SpanID:
    """A new span id: 32 lower-case hex characters, of which the last 16 are the W3C span id."""
    return new_hex_id()


class SpanStatus(StrEnum):
    """How a span ended; the values are the wire words. `open`: nobody has ended it.

    A word unknown to this version is read as `error`, with a warning: a failure must never turn into a success.
    """

    OK = "ok"
    ERROR = "error"
    TIMEOUT = "timeout"
    OPEN = "open"

    @classmethod
    def _missing_(cls, value: object) -> SpanStatus | None:
        if not isinstance(value, str):
            return None
        logger.warning("unknown span status %r, taken for error", value)
        return cls.ERROR

    def to_json(self) -> bytes:
        """The wire word as a JSON string."""
        return msgspec.json.encode(self.value)

    @classmethod
    def from_json(cls, data: bytes | str) -> SpanStatus:
        """The status of a JSON string.

        Raises:
            ValueError: it is no JSON string.
        """
        return cls(msgspec.json.decode(data, type=str))


FAILING: Final = (SpanStatus.ERROR, SpanStatus.TIMEOUT)


def is_failing(span: Span) -> bool:
    """Whether the span ended in an error or a timeout."""
    return span.status in FAILING


class SpanEvent(Struct):
    """Something that happened at one instant inside a span, such as an exception."""

    timestamp_ns: int
    name: str
    attrs: dict[str, Any] = {}


class Span(Struct):
    """One piece of work of a trace. `tokens_used` and `cost_usd` are its own, without its children's.

    `duration` is in nanoseconds and derived from the two instants where it is not given. `tokens_used` and `cost_usd`
    are None where unknown. `kind` is agent, llm, tool or other. A `synthetic` span was made up by `build_span_tree`.

    Raises:
        ValueError: a count or the duration is negative.
    """

    trace_id: TraceID
    span_id: SpanID
    parent_span_id: SpanID = ""
    pid: PID = 0
    name: str = ""
    start_time_ns: int = 0
    end_time_ns: int = 0
    duration: int = field(default=0, name="duration_ns")
    syscall_count: int = 0
    tokens_used: int | None = 0
    status: SpanStatus = SpanStatus.OK
    events: list[SpanEvent] = []
    kind: str = "agent"
    attributes: dict[str, Any] = {}
    cost_usd: float | None = None
    synthetic: bool = False

    def __post_init__(self) -> None:
        tokens = self.tokens_used
        if self.pid < 0 or self.duration < 0 or self.syscall_count < 0 or (tokens is not None and tokens < 0):
            for name in ("pid", "duration", "syscall_count", "tokens_used"):
                if (getattr(self, name) or 0) < 0:
                    raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not self.duration:
            start, end = self.start_time_ns, self.end_time_ns
            if end > start and (start or end < _EPOCH_LIKE_NS):
                self.duration = end - start

    @property
    def start_time(self) -> datetime | None:
        """When it began, in UTC, to the microsecond; None while unset."""
        return instant_time(self.start_time_ns)

    @property
    def end_time(self) -> datetime | None:
        """When it ended, in UTC, to the microsecond; None while unset."""
        return instant_time(self.end_time_ns)

    def to_json(self) -> bytes:
        """The line of this span, without a newline. Values JSON cannot hold are marked, as in a recording."""
        wire = short_wire(self)
        attributes = self.attributes or {}
        wire["attributes"] = attributes if is_plain(attributes) else to_wire(attributes)
        if self.events:
            wire["events"] = [
                {
                    "timestamp_ms": instant_ms(event.timestamp_ns),
                    "name": event.name,
                    "attrs": event.attrs if is_plain(event.attrs) else to_wire(event.attrs),
                    "timestamp_ns": event.timestamp_ns,
                }
                for event in self.events
            ]
        return encode_json({key: wire[key] for key in _LINE_KEYS if key in wire})

    @classmethod
    def from_json(cls, data: bytes | str) -> Span:
        """The span of a line, ours or the reference's.

        Raises:
            ValueError: it is none: no JSON object, no ids, a value of a wrong type, a negative count.
        """
        line = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
        # Whole lines of ours take the fast path; `"$` is a marked value, and a line without a status has no default.
        if b'"$' not in line and b'"start_time_ns":' in line and b'"status":' in line:
            try:
                return _decoder.decode(line)
            except (ValueError, RecursionError):
                pass  # The slow path forgives more, and its message names the key.
        return _from_wire(decode_json(line))

    def copy(self) -> Span:
        """A copy that shares no list or dict of its own with this one; attribute values are shared."""
        twin = copy.copy(self)
        twin.events = list(self.events)
        twin.attributes = dict(self.attributes)
        return twin


_decoder = msgspec.json.Decoder(Span)

_LINE_KEYS: Final = (
    *("trace_id", "span_id", "parent_span_id", "pid", "name", "start_time_ms", "end_time_ms", "duration_ms"),
    *("syscall_count", "tokens_used", "status", "events"),
    *("kind", "attributes", "start_time_ns", "end_time_ns", "duration_ns", "cost_usd", "synthetic"),
)


def short_wire(span: Span) -> dict[str, Any]:
    """The wire keys of a span that have one small value: all but attributes and events."""
    wire = {
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "parent_span_id": span.parent_span_id or "",
        "pid": span.pid,
        "name": span.name,
        "start_time_ms": instant_ms(span.start_time_ns),
        "end_time_ms": instant_ms(span.end_time_ns),
        "duration_ms": span.duration // NS_PER_MS,
        "syscall_count": span.syscall_count,
        "tokens_used": span.tokens_used,
        "status": str(span.status),
        "kind": span.kind,
        "start_time_ns": span.start_time_ns,
        "end_time_ns": span.end_time_ns,
        "duration_ns": span.duration,
        "cost_usd": span.cost_usd,
    }
    if span.synthetic:
        wire["synthetic"] = True
    return wire


def instant_ms(instant_ns: int) -> int:
    """An instant as the seed's `*_ms` keys have it: whole milliseconds, year 1 when unset."""
    return instant_ns // NS_PER_MS if instant_ns else UNSET_MS


def instant_ns(instant: datetime | None) -> int:
    """Nanoseconds of the Unix epoch, exactly; 0 for None. The other way round than `instant_time`."""
    return 0 if instant is None else (instant - _EPOCH) // timedelta(microseconds=1) * 1000


def instant_time(instant_ns: int) -> datetime | None:
    """An instant as an aware datetime in UTC, cut to microseconds; None when unset or beyond what datetimes hold."""
    if not instant_ns:
        return None
    try:
        return _EPOCH + timedelta(microseconds=instant_ns // 1000)
    except OverflowError:
        return None


def interval_of(span: Span, open_until_ns: int) -> tuple[int, int]:
    """The part of time a span covers, as (start, end) with end >= start, whatever its fields say.

    An end before the start (a clock that was set, or two hosts) gives way to the duration. A span nobody ended lasts
    until `open_until_ns`; one that ended at an unknown instant lasts for its duration, if that is known.
    """
    start, end = span.start_time_ns, span.end_time_ns
    if end < start or not end:
        if not end and span.status is SpanStatus.OPEN:
            return start, max(start, open_until_ns)
        return start, start + span.duration
    if not start and end > _EPOCH_LIKE_NS:
        return end - span.duration, end
    return start, end


# --- lines that are not ours, or hold what the fast path refuses -----------------------------------------------------


def _from_wire(raw: Any) -> Span:
    if not isinstance(raw, dict):
        raise _wrong("the line", raw, "an object")
    start_ns, end_ns = _instant(raw, "start_time"), _instant(raw, "end_time")
    duration = _number(raw, "duration_ns")
    if not duration and not (start_ns and end_ns > start_ns):
        # Truncated milliseconds of a duration and of two instants disagree; the instants are what siblings share.
        duration = _number(raw, "duration_ms") * NS_PER_MS
    tokens = raw.get("tokens_used", 0)
    cost = raw.get("cost_usd")
    if cost is not None and (isinstance(cost, bool) or not isinstance(cost, int | float)):
        raise _wrong("cost_usd", cost, "a number")
    status = raw.get("status", "")
    if not isinstance(status, str):
        raise _wrong("status", status, "a string")
    attributes = _object(raw, "attributes")
    return Span(
        trace_id=_text(raw, "trace_id", needed=True),
        span_id=_text(raw, "span_id", needed=True),
        parent_span_id=_text(raw, "parent_span_id"),
        pid=_number(raw, "pid"),
        name=_text(raw, "name"),
        start_time_ns=start_ns,
        end_time_ns=end_ns,
        duration=duration,
        syscall_count=_number(raw, "syscall_count"),
        tokens_used=None if tokens is None else _number(raw, "tokens_used"),
        status=SpanStatus(status),
        events=_events(raw),
        kind=_text(raw, "kind") or "agent",
        attributes=attributes,
        cost_usd=None if cost is None else float(cost),
        synthetic=raw.get("synthetic") is True,
    )


def _events(raw: dict[str, Any]) -> list[SpanEvent]:
    items = raw.get("events")
    if items is None:
        return []
    if not isinstance(items, list):
        raise _wrong("events", items, "a list")
    return [_event_from_wire(item) for item in items]


def _event_from_wire(raw: Any) -> SpanEvent:
    if not isinstance(raw, dict):
        raise _wrong("an event", raw, "an object")
    # The reference gives its events no JSON names, so it writes those of Go.
    ms = _number(raw, "timestamp_ms") if "timestamp_ms" in raw else _number(raw, "TimestampMs")
    return SpanEvent(
        timestamp_ns=_number(raw, "timestamp_ns") or max(ms, 0) * NS_PER_MS,
        name=_text(raw, "name") or _text(raw, "Name"),
        attrs=_object(raw, "attrs") or _object(raw, "Attrs"),
    )


def _instant(raw: dict[str, Any], name: str) -> int:
    exact = _number(raw, f"{name}_ns")
    return exact or max(_number(raw, f"{name}_ms"), 0) * NS_PER_MS


def _number(raw: dict[str, Any], key: str) -> int:
    value = raw.get(key)
    if value is None:
        return 0
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(key, value, "a whole number")
    return value


def _text(raw: dict[str, Any], key: str, *, needed: bool = False) -> str:
    value = raw.get(key)
    if value is None and not needed:
        return ""
    if not isinstance(value, str):
        raise _wrong(key, value, "a string")
    return value


def _object(raw: dict[str, Any], key: str) -> dict[str, Any]:
    value = raw.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _wrong(key, value, "an object")
    revived = revive(value, lambda _: None)
    return revived if isinstance(revived, dict) else value


def _wrong(what: str, value: Any, wanted: str) -> ValueError:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}
    found = "missing or null" if value is None else names.get(type(value), type(value).__name__)
    return ValueError(f"{what} is {found}, not {wanted}")
