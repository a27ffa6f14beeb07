"""OTLP traces as spans and back, without loss; its two encodings are `otlp_json` and `otlp_proto`.

An attribute of OTLP is one of the span. What a `Span` has no field for (links, trace state, flags, the kind and status
as they came, what `conventions` added) is in its attribute `unspool.otlp`; resource and scope, which thousands of spans
share, are in `resources.jsonl` beside the spans of the trace, under a digest.

Not kept: which spans travelled in one message together, and fields of a later version of OTLP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from msgspec import Struct

from unspool.interop.conventions import meaning_of
from unspool.recording.lines import encode_json, is_plain, to_wire
from unspool.trace.names import ERROR_MESSAGE, REMOTE, hex_digest
from unspool.trace.spans import Span, SpanEvent, SpanStatus
from unspool.tracecontext import parse_traceparent

__all__ = [
    "OTLP",
    "Carried",
    "Link",
    "OtlpEvent",
    "OtlpSpan",
    "Received",
    "carried_by",
    "carrier_of",
    "from_otlp",
    "refusal",
    "settle",
    "to_otlp",
]

OTLP: Final = "unspool.otlp"
UNSET, OK, ERROR = 0, 1, 2  # opentelemetry.proto.trace.v1.Status.StatusCode
INTERNAL, CLIENT = 1, 3  # Span.SpanKind
_HEX: Final = frozenset("0123456789abcdef")


class Carried(Struct, frozen=True, omit_defaults=True):
    """What spans came in together with: a resource and an instrumentation scope."""

    resource: dict[str, Any] = {}
    resource_dropped: int = 0
    resource_schema: str = ""
    scope_name: str = ""
    scope_version: str = ""
    scope: dict[str, Any] = {}
    scope_dropped: int = 0
    scope_schema: str = ""


class Link(Struct):
    """A link to a span of this or another trace."""

    trace_id: str
    span_id: str
    trace_state: str = ""
    attributes: dict[str, Any] = {}
    dropped: int = 0
    flags: int = 0


class OtlpEvent(Struct):
    """An event of a span."""

    time_ns: int
    name: str
    attributes: dict[str, Any] = {}
    dropped: int = 0


class OtlpSpan(Struct):
    """A span with everything OTLP says of it; ids are lower-case hex, attributes Python values."""

    trace_id: str
    span_id: str
    parent_span_id: str = ""
    trace_state: str = ""
    flags: int = 0
    name: str = ""
    kind: int = 0
    start_ns: int = 0
    end_ns: int = 0
    attributes: dict[str, Any] = {}
    dropped_attributes: int = 0
    events: list[OtlpEvent] = []
    dropped_events: int = 0
    links: list[Link] = []
    dropped_links: int = 0
    status_code: int = UNSET
    status_message: str = ""


class Received(Struct):
    """Spans of one message by what they came in with, and why some of it was refused."""

    groups: list[tuple[Carried, list[OtlpSpan]]] = []
    rejected: int = 0
    problems: list[str] = []

    @property
    def count(self) -> int:
        """How many spans there are."""
        return sum(len(spans) for _, spans in self.groups)

    def add(self, carried: Carried, spans: Iterable[OtlpSpan]) -> None:
        """Take the spans that can be kept, and note why the others cannot."""
        kept = []
        for span in spans:
            if why := refusal(span):
                self.rejected += 1
                self.problems.append(why)
            else:
                kept.append(span)
        self.groups.append((carried, kept))


def carried_by(
    resource: Any, resource_schema: str, scope: Any, scope_schema: str, attributes: Callable[[Any], dict[str, Any]]
) -> Carried:
    """The resource and scope of one message, whose fields have the same names in both encodings.

    Args:
        attributes: reads those of the encoding.
    """
    return Carried(
        attributes(resource.attributes),
        resource.dropped_attributes_count,
        resource_schema,
        scope.name,
        scope.version,
        attributes(scope.attributes),
        scope.dropped_attributes_count,
        scope_schema,
    )


def refusal(span: OtlpSpan) -> str:
    """Why a span cannot be kept, "" if it can: without proper ids it is in no trace."""
    if len(span.trace_id) != 32 or not _HEX.issuperset(span.trace_id) or not span.trace_id.strip("0"):
        return f"{span.name!r}: its trace id is not 16 bytes, or all zero"
    if len(span.span_id) != 16 or not _HEX.issuperset(span.span_id) or not span.span_id.strip("0"):
        return f"{span.name!r}: its span id is not 8 bytes, or all zero"
    return ""


def carrier_of(carried: Carried) -> tuple[str, bytes]:
    """The digest and the line of a resource and scope, for `resources.jsonl`."""
    wire = {
        name: value if is_plain(value) else to_wire(value)
        for name in carried.__struct_fields__
        if (value := getattr(carried, name))
    }
    key = hex_digest(encode_json(wire))[:16]
    return key, encode_json({"key": key, **wire})


def from_otlp(one: OtlpSpan, carrier: str) -> Span:
    """The span, with `carrier`, the digest of its resource and scope.

    Raises:
        ValueError: a time is negative.
    """
    extra: dict[str, Any] = {"carrier": carrier}
    if one.kind:
        extra["kind"] = one.kind
    if one.trace_state:
        extra["state"] = one.trace_state
    if one.flags:
        extra["flags"] = one.flags
    if one.status_code or one.status_message:
        extra["status"] = [one.status_code, one.status_message]
    if one.dropped_attributes or one.dropped_events or one.dropped_links:
        extra["dropped"] = [one.dropped_attributes, one.dropped_events, one.dropped_links]
    if one.links:
        extra["links"] = [
            [link.trace_id, link.span_id, link.trace_state, link.attributes, link.dropped, link.flags]
            for link in one.links
        ]
    attributes = one.attributes
    if OTLP in attributes:
        extra["own"] = attributes.pop(OTLP)
    events = []
    message = one.status_message if one.status_code == ERROR else ""
    for event in one.events:
        events.append(SpanEvent(event.time_ns, event.name, event.attributes))
        if event.dropped:
            extra.setdefault("event_dropped", {})[str(len(events) - 1)] = event.dropped
        if not message and one.status_code == ERROR and event.name == "exception":
            said, kind = event.attributes.get("exception.message"), event.attributes.get("exception.type")
            message = ": ".join(part for part in (kind, said) if isinstance(part, str) and part)
    meaning = meaning_of(attributes, message)
    if meaning.added:
        extra["added"] = list(meaning.added)
        if meaning.was:
            extra["was"] = meaning.was
        attributes.update(meaning.added)
    attributes[OTLP] = extra
    status = SpanStatus.OK
    if one.status_code == ERROR:
        error_type = attributes.get("error.type")
        timed_out = isinstance(error_type, str) and "timeout" in error_type.lower()
        status = SpanStatus.TIMEOUT if timed_out else SpanStatus.ERROR
    elif not one.end_ns:
        status = SpanStatus.OPEN
    is_refused = meaning.kind == "llm" and status in (SpanStatus.ERROR, SpanStatus.TIMEOUT) and meaning.tokens is None
    return Span(
        trace_id=one.trace_id,
        span_id=one.span_id,
        parent_span_id=one.parent_span_id,
        name=one.name,
        start_time_ns=one.start_ns,
        end_time_ns=one.end_ns,
        tokens_used=0 if is_refused else meaning.tokens,  # never answered: nothing is missing in a sum
        status=status,
        events=events,
        kind=meaning.kind,
        attributes=attributes,
        cost_usd=meaning.cost_usd,
    )


def settle(spans: list[Span]) -> None:
    """Take out what two spans of one batch say twice, in place.

    A model call inside a model call is one call seen by two instrumentations (a framework's and the client library's):
    the inner one keeps the tokens. An MCP request inside the tool that makes it is one tool call.
    """
    doubled = {span.span_id: span for span in spans if span.kind in ("llm", "tool")}
    for span in list(doubled.values()):
        above = doubled.get(span.parent_span_id)
        if above is None or above is span or above.kind != span.kind or above.trace_id != span.trace_id:
            continue
        if span.kind == "llm" and span.tokens_used:
            above.tokens_used, above.cost_usd = 0, None
        elif span.kind == "tool" and "mcp.method.name" in span.attributes:
            span.kind = "other"


def to_otlp(span: Span) -> tuple[OtlpSpan, str | None]:
    """What a span was when it came in, and the digest of what it came with; None for one that is unspool's own."""
    attributes = dict(span.attributes)
    extra = attributes.pop(OTLP, None)
    if not isinstance(extra, dict):
        return _own(span, attributes), None
    for name in extra.get("added", ()):
        attributes.pop(name, None)
    attributes.update(extra.get("was", {}))
    if "own" in extra:
        attributes[OTLP] = extra["own"]
    code, message = extra.get("status", (UNSET, ""))
    dropped = extra.get("dropped", (0, 0, 0))
    event_dropped = extra.get("event_dropped", {})
    one = OtlpSpan(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_span_id,
        trace_state=extra.get("state", ""),
        flags=extra.get("flags", 0),
        name=span.name,
        kind=extra.get("kind", 0),
        start_ns=span.start_time_ns,
        end_ns=span.end_time_ns,
        attributes=attributes,
        dropped_attributes=dropped[0],
        events=[
            OtlpEvent(event.timestamp_ns, event.name, event.attrs, event_dropped.get(str(index), 0))
            for index, event in enumerate(span.events)
        ],
        dropped_events=dropped[1],
        links=[Link(*link) for link in extra.get("links", ())],
        dropped_links=dropped[2],
        status_code=code,
        status_message=message,
    )
    return one, str(extra.get("carrier", ""))


def _own(span: Span, attributes: dict[str, Any]) -> OtlpSpan:
    """A span of a recording, whose ids have 32 digits of which the last 16 are the W3C span id."""
    failed = span.status in (SpanStatus.ERROR, SpanStatus.TIMEOUT)
    message = attributes.get(ERROR_MESSAGE)
    above = span.parent_span_id
    if not above and (remote := parse_traceparent(attributes.get(REMOTE))) is not None:
        above = remote.span_id if remote.trace_id == span.trace_id else ""  # begun by another tracer
    return OtlpSpan(
        trace_id=span.trace_id[-32:].rjust(32, "0"),
        span_id=span.span_id[-16:].rjust(16, "0"),
        parent_span_id=above[-16:].rjust(16, "0") if above else "",
        name=span.name,
        kind=CLIENT if span.kind == "llm" else INTERNAL,
        start_ns=span.start_time_ns,
        end_ns=span.end_time_ns,
        attributes=attributes,
        events=[OtlpEvent(event.timestamp_ns, event.name, dict(event.attrs)) for event in span.events],
        status_code=ERROR if failed else OK if span.status is SpanStatus.OK else UNSET,
        status_message=message if failed and isinstance(message, str) else "",
    )
