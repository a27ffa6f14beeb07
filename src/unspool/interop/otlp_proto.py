"""OTLP in protobuf, through OpenTelemetry's own generated messages (the extra `otlp`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from unspool.interop.otlp import Carried, Link, OtlpEvent, OtlpSpan, Received, carried_by
from unspool.interop.sources import ImportFault

__all__ = ["partial_success", "read_proto", "write_proto"]

INSTALL = "pip install 'unspool[otlp]'"


def _messages() -> Any:
    try:
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
    except ImportError as exc:
        raise ImportFault(f"OTLP in protobuf needs OpenTelemetry's messages. Install them: {INSTALL}") from exc
    return trace_service_pb2


def read_proto(data: bytes) -> Received:
    """The spans of an ExportTraceServiceRequest (or a TracesData, which has the same form).

    Raises:
        ValueError: it is none.
        ImportFault: the extra `otlp` is not installed.
    """
    request = _messages().ExportTraceServiceRequest()
    try:
        request.ParseFromString(data)
    except Exception as exc:  # the DecodeError of one of protobuf's implementations
        raise ValueError(f"not an OTLP trace message: {exc}") from exc
    received = Received([])
    for resource_spans in request.resource_spans:
        resource = resource_spans.resource
        for scope_spans in resource_spans.scope_spans:
            scope = scope_spans.scope
            carried = carried_by(resource, resource_spans.schema_url, scope, scope_spans.schema_url, _attributes)
            received.add(carried, map(_span, scope_spans.spans))
    return received


def _span(wire: Any) -> OtlpSpan:
    events, links = wire.events, wire.links
    has_status = wire.HasField("status")
    return OtlpSpan(
        wire.trace_id.hex(),
        wire.span_id.hex(),
        wire.parent_span_id.hex(),
        wire.trace_state,
        wire.flags,
        wire.name,
        wire.kind,
        wire.start_time_unix_nano,
        wire.end_time_unix_nano,
        _attributes(wire.attributes),
        wire.dropped_attributes_count,
        [
            OtlpEvent(event.time_unix_nano, event.name, _attributes(event.attributes), event.dropped_attributes_count)
            for event in events
        ]
        if events
        else [],
        wire.dropped_events_count,
        [
            Link(link.trace_id.hex(), link.span_id.hex(), link.trace_state, _attributes(link.attributes),
                 link.dropped_attributes_count, link.flags)
            for link in links
        ]
        if links
        else [],
        wire.dropped_links_count,
        wire.status.code if has_status else 0,
        wire.status.message if has_status else "",
    )  # fmt: skip


def _attributes(pairs: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        value = pair.value
        which = value.WhichOneof("value")
        found[pair.key] = value.string_value if which == "string_value" else _value(value, which)
    return found


def _value(value: Any, which: str | None) -> Any:
    if which is None:
        return None
    if which == "array_value":
        return [_value(item, item.WhichOneof("value")) for item in value.array_value.values]
    if which == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return getattr(value, which)


# --- writing ---------------------------------------------------------------------------------------------------------


def write_proto(groups: Iterable[tuple[Carried, list[OtlpSpan]]]) -> bytes:
    """An ExportTraceServiceRequest.

    Raises:
        ImportFault: the extra `otlp` is not installed.
    """
    request = _messages().ExportTraceServiceRequest()
    for carried, spans in groups:
        resource_spans = request.resource_spans.add(schema_url=carried.resource_schema)
        resource_spans.resource.dropped_attributes_count = carried.resource_dropped
        _put(resource_spans.resource.attributes, carried.resource)
        scope_spans = resource_spans.scope_spans.add(schema_url=carried.scope_schema)
        scope = scope_spans.scope
        scope.name, scope.version = carried.scope_name, carried.scope_version
        scope.dropped_attributes_count = carried.scope_dropped
        _put(scope.attributes, carried.scope)
        for span in spans:
            _add(scope_spans.spans, span)
    return bytes(request.SerializeToString())


def _add(wire: Any, span: OtlpSpan) -> None:
    out = wire.add(
        trace_id=bytes.fromhex(span.trace_id),
        span_id=bytes.fromhex(span.span_id),
        parent_span_id=bytes.fromhex(span.parent_span_id),
        trace_state=span.trace_state,
        flags=span.flags,
        name=_text(span.name),
        kind=span.kind,
        start_time_unix_nano=max(span.start_ns, 0),
        end_time_unix_nano=max(span.end_ns, 0),
        dropped_attributes_count=span.dropped_attributes,
        dropped_events_count=span.dropped_events,
        dropped_links_count=span.dropped_links,
    )
    _put(out.attributes, span.attributes)
    for event in span.events:
        one = out.events.add(
            time_unix_nano=max(event.time_ns, 0), name=_text(event.name), dropped_attributes_count=event.dropped
        )
        _put(one.attributes, event.attributes)
    for link in span.links:
        one = out.links.add(
            trace_id=bytes.fromhex(link.trace_id), span_id=bytes.fromhex(link.span_id), trace_state=link.trace_state,
            dropped_attributes_count=link.dropped, flags=link.flags,
        )  # fmt: skip
        _put(one.attributes, link.attributes)
    if span.status_code or span.status_message:
        out.status.code, out.status.message = span.status_code, _text(span.status_message)


def _put(pairs: Any, attributes: dict[str, Any]) -> None:
    for name, value in attributes.items():
        pair = pairs.add(key=_text(name))
        _set(pair.value, value)


def _set(any_value: Any, value: Any) -> None:
    if value is None:
        any_value.SetInParent()
    elif isinstance(value, str):
        any_value.string_value = _text(value)
    elif isinstance(value, bool):
        any_value.bool_value = value
    elif isinstance(value, int):
        if -(2**63) <= value < 2**63:
            any_value.int_value = value
        else:
            any_value.string_value = str(value)
    elif isinstance(value, float):
        any_value.double_value = value
    elif isinstance(value, bytes | bytearray | memoryview):
        any_value.bytes_value = bytes(value)
    elif isinstance(value, dict):
        any_value.kvlist_value.SetInParent()
        for name, item in value.items():
            pair = any_value.kvlist_value.values.add(key=_text(str(name)))
            _set(pair.value, item)
    elif isinstance(value, list | tuple):
        any_value.array_value.SetInParent()
        for item in value:
            _set(any_value.array_value.values.add(), item)
    else:
        any_value.string_value = _text(str(value))


def _text(text: str) -> str:
    """Protobuf refuses lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def partial_success(rejected: int, message: str) -> bytes:
    """An ExportTraceServiceResponse; empty when everything was taken."""
    response = _messages().ExportTraceServiceResponse()
    if rejected:
        response.partial_success.rejected_spans = rejected
        response.partial_success.error_message = message
    return bytes(response.SerializeToString())
