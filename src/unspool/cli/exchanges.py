"""The HTTP exchange an event belongs to: with the other events of the same model call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unspool.cli.listing import LLM_PREFIX
from unspool.events import Body, HttpRequest, HttpResponse, RecordEvent, RecordEventType
from unspool.recording.reader import RecordReader

__all__ = ["Exchange", "body_text", "exchange_of", "message_json"]


@dataclass
class Exchange:
    """A request and its response. A model call has a snapshot, a syscall and an answer, as far as it got."""

    request: HttpRequest | None = None
    response: HttpResponse | None = None
    snapshot: RecordEvent | None = None
    syscall: RecordEvent | None = None
    answer: RecordEvent | None = None


def exchange_of(reader: RecordReader, event: RecordEvent) -> Exchange:
    """What `event`, given whole, belongs to; empty if it is part of no exchange.

    Looks only as far around the event as its call reaches.
    """
    data = event.syscall
    if data is not None and not _is_model_call(event):
        return Exchange(data.request, data.response)
    if event.state is not None or event.type is RecordEventType.STATE_CHANGE:
        return Exchange()
    snapshot = event if event.context is not None else _snapshot_before(reader, event)
    found = Exchange(snapshot=snapshot)
    if snapshot is not None and snapshot.context is not None:
        found.request = snapshot.context.request
    if event.call is None:
        _add(found, event)
        return found
    # The syscall stands before the answer, and the snapshot before both; other calls' events may be between.
    start = event if snapshot is None else snapshot
    for later in reader.bare_events(reader.index_of(start.seq_num)):
        if later.call == event.call and (later.llm is not None or _is_model_call(later)):
            _add(found, reader.whole(later))
        if found.answer is not None:
            break
    return found


def _add(found: Exchange, event: RecordEvent) -> None:
    if event.syscall is not None:
        found.syscall = event
    elif event.llm is not None:
        found.answer, found.response = event, event.llm.response


def _snapshot_before(reader: RecordReader, event: RecordEvent) -> RecordEvent | None:
    snapshot = reader.snapshot_of_call(event)
    return None if snapshot is None else reader.event(snapshot.seq_num)


def _is_model_call(event: RecordEvent) -> bool:
    if event.syscall is None:
        return False
    path = event.syscall.args.get("path")
    return isinstance(path, str) and path.startswith(LLM_PREFIX)


def body_text(reader: RecordReader, body: Body | None) -> str | None:
    """A body as text; None if there is none, its bytes are missing or they are no UTF-8."""
    raw = None if body is None else reader.body(body)
    try:
        return None if raw is None else raw.decode()
    except UnicodeDecodeError:
        return None


def message_json(reader: RecordReader, message: HttpRequest | HttpResponse | None) -> dict[str, Any] | None:
    """A request or response for a program: its head, and its body as text."""
    if message is None:
        return None
    body = message.body
    document: dict[str, Any] = {"headers": [list(pair) for pair in message.headers or []]}
    if isinstance(message, HttpRequest):
        document = {"method": message.method, "url": message.url, "client": message.client, **document}
    else:
        document = {"status": message.status, "reason": message.reason, **document}
        document |= {"chunks": message.chunks, "complete": message.complete, "ended": message.ended}
    return {
        **document,
        "size": body.size if body is not None else 0,
        "sha256": body.sha256 if body is not None else None,
        "encoding": body.encoding if body is not None else None,
        "missing": body.missing if body is not None else None,
        "body": body_text(reader, body),
    }
