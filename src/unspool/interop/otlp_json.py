"""OTLP/JSON: the protobuf JSON mapping with hex ids (opentelemetry.io/docs/specs/otlp, section JSON Protobuf Encoding).

Reading takes 64-bit numbers as strings or numbers and enums as numbers or names; writing gives strings and numbers.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from unspool.interop.otlp import Carried, Link, OtlpEvent, OtlpSpan, Received, carried_by
from unspool.recording.lines import encode_json

__all__ = ["read_json", "write_json"]

_KINDS: Final = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
_CODES: Final = ("UNSET", "OK", "ERROR")
_DEPTH_MAX: Final = 100


class _Value(Struct, gc=False):
    stringValue: str | None = None
    intValue: int | str | None = None
    boolValue: bool | None = None
    doubleValue: float | str | None = None
    arrayValue: _Values | None = None
    kvlistValue: _Pairs | None = None
    bytesValue: str | None = None


class _Pair(Struct, gc=False):
    key: str = ""
    value: _Value | None = None


class _Values(Struct, gc=False):
    values: list[_Value] = []


class _Pairs(Struct, gc=False):
    values: list[_Pair] = []


class _Event(Struct, gc=False, rename="camel"):
    time_unix_nano: int | str = 0
    name: str = ""
    attributes: list[_Pair] = []
    dropped_attributes_count: int = 0


class _Link(Struct, gc=False, rename="camel"):
    trace_id: str = ""
    span_id: str = ""
    trace_state: str = ""
    attributes: list[_Pair] = []
    dropped_attributes_count: int = 0
    flags: int = 0


class _Status(Struct, gc=False):
    code: int | str = 0
    message: str = ""


class _Span(Struct, gc=False, rename="camel"):
    trace_id: str = ""
    span_id: str = ""
    trace_state: str = ""
    parent_span_id: str | None = ""
    flags: int = 0
    name: str = ""
    kind: int | str = 0
    start_time_unix_nano: int | str = 0
    end_time_unix_nano: int | str = 0
    attributes: list[_Pair] = []
    dropped_attributes_count: int = 0
    events: list[_Event] = []
    dropped_events_count: int = 0
    links: list[_Link] = []
    dropped_links_count: int = 0
    status: _Status | None = None


class _Scope(Struct, rename="camel"):
    name: str = ""
    version: str = ""
    attributes: list[_Pair] = []
    dropped_attributes_count: int = 0


class _ScopeSpans(Struct, rename="camel"):
    scope: _Scope | None = None
    spans: list[_Span] = []
    schema_url: str = ""


class _Resource(Struct, rename="camel"):
    attributes: list[_Pair] = []
    dropped_attributes_count: int = 0


class _ResourceSpans(Struct, rename="camel"):
    resource: _Resource | None = None
    scope_spans: list[_ScopeSpans] = []
    schema_url: str = ""
    # Until OTLP 0.15 the scope was called instrumentation library.
    older: list[_ScopeSpans] = field(default_factory=list, name="instrumentationLibrarySpans")


class _Request(Struct, rename="camel"):
    resource_spans: list[_ResourceSpans] = []


_decoder = msgspec.json.Decoder(_Request)


def read_json(data: bytes) -> Received:
    """The spans of an ExportTraceServiceRequest (or a TracesData) in JSON.

    Raises:
        ValueError: it is none.
    """
    try:
        request = _decoder.decode(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    received = Received([])
    for resource_spans in request.resource_spans:
        resource = resource_spans.resource or _Resource()
        for scope_spans in (*resource_spans.scope_spans, *resource_spans.older):
            scope = scope_spans.scope or _Scope()
            carried = carried_by(resource, resource_spans.schema_url, scope, scope_spans.schema_url, _attributes)
            received.add(carried, map(_span, scope_spans.spans))
    return received


def _span(wire: _Span) -> OtlpSpan:
    status = wire.status
    start, end, kind = wire.start_time_unix_nano, wire.end_time_unix_nano, wire.kind
    return OtlpSpan(
        wire.trace_id.lower(),
        wire.span_id.lower(),
        (wire.parent_span_id or "").lower(),
        wire.trace_state,
        wire.flags,
        wire.name,
        kind if type(kind) is int else _named(kind, "SPAN_KIND_", _KINDS),
        start if type(start) is int else int(start),
        end if type(end) is int else int(end),
        _attributes(wire.attributes),
        wire.dropped_attributes_count,
        [
            OtlpEvent(
                int(event.time_unix_nano), event.name, _attributes(event.attributes), event.dropped_attributes_count
            )
            for event in wire.events
        ],
        wire.dropped_events_count,
        [
            Link(link.trace_id.lower(), link.span_id.lower(), link.trace_state, _attributes(link.attributes),
                 link.dropped_attributes_count, link.flags)
            for link in wire.links
        ],
        wire.dropped_links_count,
        0 if status is None else _named(status.code, "STATUS_CODE_", _CODES),
        "" if status is None else status.message,
    )  # fmt: skip


def _named(value: int | str, prefix: str, words: tuple[str, ...]) -> int:
    if type(value) is int:
        return value
    text = str(value)
    if text.lstrip("-").isdigit():
        return int(text)
    word = text.removeprefix(prefix)
    if word not in words:
        raise ValueError(f"unknown {prefix.rstrip('_').lower()} {text!r}")
    return words.index(word)


def _attributes(pairs: list[_Pair]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        value = pair.value
        if value is None:
            found[pair.key] = None
        elif value.stringValue is not None:
            found[pair.key] = value.stringValue
        elif type(value.intValue) is int:
            found[pair.key] = value.intValue
        else:
            found[pair.key] = _value(value, 0)
    return found


def _value(value: _Value | None, depth: int) -> Any:
    if value is None:
        return None
    if value.stringValue is not None:
        return value.stringValue
    if value.intValue is not None:
        return int(value.intValue)
    if value.boolValue is not None:
        return value.boolValue
    if value.doubleValue is not None:
        return float(value.doubleValue)  # also of "NaN", "Infinity"
    if depth > _DEPTH_MAX:
        raise ValueError("an attribute is nested too deeply")
    if value.arrayValue is not None:
        return [_value(item, depth + 1) for item in value.arrayValue.values]
    if value.kvlistValue is not None:
        return {pair.key: _value(pair.value, depth + 1) for pair in value.kvlistValue.values}
    if value.bytesValue is not None:
        return base64.b64decode(value.bytesValue)
    return None


# --- writing ---------------------------------------------------------------------------------------------------------


def write_json(groups: Iterable[tuple[Carried, list[OtlpSpan]]]) -> bytes:
    """An ExportTraceServiceRequest in JSON."""
    return encode_json({"resourceSpans": [_group(carried, spans) for carried, spans in groups]})


def _group(carried: Carried, spans: list[OtlpSpan]) -> dict[str, Any]:
    scope = {
        "name": carried.scope_name,
        "version": carried.scope_version,
        "attributes": _pairs(carried.scope),
        "droppedAttributesCount": carried.scope_dropped,
    }
    return {
        "resource": {
            "attributes": _pairs(carried.resource),
            **_some("droppedAttributesCount", carried.resource_dropped),
        },
        "scopeSpans": [
            {
                "scope": {name: value for name, value in scope.items() if value},
                "spans": [_wire(span) for span in spans],
                **_some("schemaUrl", carried.scope_schema),
            }
        ],
        **_some("schemaUrl", carried.resource_schema),
    }


def _some(name: str, value: Any) -> dict[str, Any]:
    return {name: value} if value else {}


def _wire(span: OtlpSpan) -> dict[str, Any]:
    status = {**_some("code", span.status_code), **_some("message", span.status_message)}
    return {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        **_some("traceState", span.trace_state),
        **_some("parentSpanId", span.parent_span_id),
        **_some("flags", span.flags),
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": str(span.start_ns),
        "endTimeUnixNano": str(span.end_ns),
        **_some("attributes", _pairs(span.attributes)),
        **_some("droppedAttributesCount", span.dropped_attributes),
        **_some(
            "events",
            [
                {
                    "timeUnixNano": str(event.time_ns),
                    "name": event.name,
                    **_some("attributes", _pairs(event.attributes)),
                    **_some("droppedAttributesCount", event.dropped),
                }
                for event in span.events
            ],
        ),
        **_some("droppedEventsCount", span.dropped_events),
        **_some(
            "links",
            [
                {
                    "traceId": link.trace_id,
                    "spanId": link.span_id,
                    **_some("traceState", link.trace_state),
                    **_some("attributes", _pairs(link.attributes)),
                    **_some("droppedAttributesCount", link.dropped),
                    **_some("flags", link.flags),
                }
                for link in span.links
            ],
        ),
        **_some("droppedLinksCount", span.dropped_links),
        **_some("status", status),
    }


def _pairs(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _any(value)} for name, value in attributes.items()]


def _any(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        # Beyond 64 bits there is no number in OTLP.
        return {"intValue": str(value)} if -(2**63) <= value < 2**63 else {"stringValue": str(value)}
    if isinstance(value, float):
        if math.isfinite(value):
            return {"doubleValue": value}
        return {"doubleValue": "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}
    if isinstance(value, bytes | bytearray | memoryview):
        return {"bytesValue": base64.b64encode(bytes(value)).decode("ascii")}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": [{"key": str(name), "value": _any(item)} for name, item in value.items()]}}
    if isinstance(value, list | tuple):
        return {"arrayValue": {"values": [_any(item) for item in value]}}
    return {"stringValue": str(value)}
