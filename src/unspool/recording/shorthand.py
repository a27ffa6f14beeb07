"""What a line leaves out because its rest or the metadata says it: the writer takes it out, readers put it back.

Only events with a short span id are shortened. Those are the ones that capture writes, and of each of those it is known
that it has a task, and what is meant if it does not say which.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from unspool.events import HttpRequest, HttpResponse, RecordEvent, RecordEventType
from unspool.recording.keys import digest_of_hex

__all__ = ["expand", "is_short", "shorten"]

_SPAN_LENGTH = 8
_OWN_SPAN = "00000001"  # of the process as a whole
_FIRST_TASK = "0"

_Message = TypeVar("_Message", HttpRequest, HttpResponse)


def is_short(span_id: str) -> bool:
    """Whether this is a span id as capture writes it, which needs the recording's `span_base` in front."""
    return 0 < len(span_id) <= _SPAN_LENGTH


def shorten(event: RecordEvent) -> None:
    """Bring an event to the form in which it is written, in place; what it refers to is replaced, not changed."""
    span, parent = event.span_id, event.parent_span_id
    if span is not None and len(span) == _SPAN_LENGTH:
        event.span_id = span.lstrip("0") or span
        if parent is not None and len(parent) == _SPAN_LENGTH:
            is_own = parent == _OWN_SPAN and event.type is RecordEventType.SYSCALL
            event.parent_span_id = None if is_own else parent.lstrip("0") or parent
        if event.type is not RecordEventType.STATE_CHANGE:
            if event.task == _FIRST_TASK:
                event.task = None
            if event.step == event.call:
                event.step = None
    if event.llm is not None and event.llm.response is not None:
        event.llm = msgspec.structs.replace(event.llm, response=_with_short_digest(event.llm.response))
    elif event.context is not None and event.context.request is not None:
        event.context = msgspec.structs.replace(event.context, request=_with_short_digest(event.context.request))
    elif (call := event.syscall) is not None and (call.request is not None or call.response is not None):
        event.syscall = msgspec.structs.replace(
            call,
            request=_with_short_digest(call.request) if call.request is not None else None,
            response=_with_short_digest(call.response) if call.response is not None else None,
        )


def _with_short_digest(message: _Message) -> _Message:
    body = message.body
    if body is None or body.sha256 is None:
        return message
    try:
        digest = digest_of_hex(body.sha256)
    except ValueError:
        return message
    short = msgspec.structs.replace(body)
    short.sha256 = digest  # set afterwards: making a Body turns it into hex
    return msgspec.structs.replace(message, body=short)


def expand(event: RecordEvent, span_base: str | None, trace_id: str | None) -> None:
    """Put back what `shorten` left out, in place; a second time changes nothing.

    Args:
        span_base: what stands before the span ids of this recording, if that is known.
        trace_id: the recording's.
    """
    span = event.span_id
    if span is not None and event.trace_id is None:
        event.trace_id = trace_id
    base = span_base or ""
    if span is not None and is_short(span):
        event.span_id = base + span.zfill(_SPAN_LENGTH)
        if event.type is not RecordEventType.STATE_CHANGE:
            if event.type is RecordEventType.SYSCALL and event.parent_span_id is None:
                event.parent_span_id = _OWN_SPAN
            if event.task is None:
                event.task = _FIRST_TASK
            if event.step is None:
                event.step = event.call
    parent = event.parent_span_id
    if parent is not None and is_short(parent):
        event.parent_span_id = base + parent.zfill(_SPAN_LENGTH)
