"""For programs that use OpenTelemetry already: a span processor that writes their spans into the store.

    from opentelemetry.sdk.trace import TracerProvider
    import unspool.otel

    provider = TracerProvider()
    provider.add_span_processor(unspool.otel.SpanProcessor())

The start of a span is on disk before the work inside it begins, its end when it has ended, without a batch in between:
a program that hangs or is killed shows where. Needs the extra `otlp` (opentelemetry-sdk).
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, Final

try:
    from opentelemetry.sdk import trace as _sdk
except ImportError as exc:
    raise ImportError(
        "unspool.otel needs OpenTelemetry's SDK. Install it with: pip install 'unspool[otlp]'", name=exc.name
    ) from exc

from unspool.interop.ingest import SpanSink
from unspool.interop.otlp import Carried, Link, OtlpEvent, OtlpSpan, Received
from unspool.store import find_store

if TYPE_CHECKING:
    from opentelemetry.context import Context

__all__ = ["SpanProcessor"]

_FLAG_KNOWN: Final = 0x100  # of OTLP's span flags: it is known whether the parent is remote
_FLAG_REMOTE: Final = 0x200

logger = logging.getLogger("unspool")


class SpanProcessor(_sdk.SpanProcessor):
    """Writes sampled spans into the traces of a store.

    Whatever goes wrong (a full disk, a folder that is gone) is warned of once, and never reaches the program.

    Args:
        store: the store's folder; by default `$UNSPOOL_STORE`, else the nearest `.unspool` upward.
    """

    def __init__(self, store: str | os.PathLike[str] | None = None) -> None:
        self._sink = SpanSink(find_store(store))
        self._warned = False

    def on_start(self, span: _sdk.Span, parent_context: Context | None = None) -> None:
        """Write the start of a span."""
        self._write(span)

    def on_end(self, span: _sdk.ReadableSpan) -> None:
        """Write an ended span."""
        self._write(span)

    def shutdown(self) -> None:
        """Nothing is waiting."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is waiting: what was written is in the kernel."""
        return True

    def _write(self, span: _sdk.ReadableSpan) -> None:
        context = span.get_span_context()
        if context is None or not context.trace_flags.sampled:
            return
        try:
            taken = self._sink.take(Received([(_carried(span), [_otlp(span)])]))
        except Exception as exc:  # noqa: BLE001 - the edge to the program
            self._warn(str(exc))
        else:
            if taken.problems:
                self._warn(taken.problems[0])

    def _warn(self, problem: str) -> None:
        if not self._warned:
            self._warned = True
            logger.warning("a span was not written: %s. Later ones that are not are not mentioned.", problem)


def _carried(span: _sdk.ReadableSpan) -> Carried:
    resource, scope = span.resource, span.instrumentation_scope
    return Carried(
        resource=_attributes(resource.attributes if resource is not None else None),
        resource_schema=(resource.schema_url if resource is not None else "") or "",
        scope_name=scope.name if scope is not None else "",
        scope_version=(scope.version if scope is not None else "") or "",
        scope=_attributes(scope.attributes if scope is not None else None),
        scope_schema=(scope.schema_url if scope is not None else "") or "",
    )


def _otlp(span: _sdk.ReadableSpan) -> OtlpSpan:
    context, parent = span.get_span_context(), span.parent
    assert context is not None
    status = span.status
    return OtlpSpan(
        trace_id=f"{context.trace_id:032x}",
        span_id=f"{context.span_id:016x}",
        parent_span_id=f"{parent.span_id:016x}" if parent is not None else "",
        trace_state=context.trace_state.to_header(),
        flags=_FLAG_KNOWN | (_FLAG_REMOTE if parent is not None and parent.is_remote else 0),
        name=span.name,
        kind=span.kind.value + 1,  # OTLP counts from an unspecified kind on
        start_ns=span.start_time or 0,
        end_ns=span.end_time or 0,
        attributes=_attributes(span.attributes),
        dropped_attributes=span.dropped_attributes,
        events=[
            OtlpEvent(event.timestamp, event.name, _attributes(event.attributes), event.dropped_attributes)
            for event in span.events
        ],
        dropped_events=span.dropped_events,
        links=[
            Link(
                f"{link.context.trace_id:032x}",
                f"{link.context.span_id:016x}",
                link.context.trace_state.to_header(),
                _attributes(link.attributes),
                link.dropped_attributes,
            )
            for link in span.links
        ],
        dropped_links=span.dropped_links,
        status_code=status.status_code.value,
        status_message=status.description or "",
    )


def _attributes(attributes: Any) -> dict[str, Any]:
    return {name: _value(value) for name, value in (attributes or {}).items()}


def _value(value: Any) -> Any:
    """Sequences come as tuples."""
    if isinstance(value, tuple | list):
        return [_value(item) for item in value]
    if isinstance(value, dict):
        return {str(name): _value(item) for name, item in value.items()}
    return value
