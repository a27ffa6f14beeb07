"""What was asked for in one request, in a form two of them can be compared in: recorded, or made in a rerun."""

from __future__ import annotations

import difflib
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from unspool.errors import UnspoolError
from unspool.events import Context, ContextSnapshotData, HttpRequest, RecordEvent, RecordEventType
from unspool.providers import PROVIDERS, match
from unspool.recording.reader import RecordReader
from unspool.replay.diff import ContextDiff, compute_context_diff
from unspool.replay.settings import ValueChange, diff_values
from unspool.serving.journal import Entry
from unspool.serving.plan import Offer

__all__ = ["Request", "body_changes", "compare_contexts", "recorded_request", "request_of", "text_changes"]

_LINES_MAX: Final = 40  # of the difference of two bodies that are no JSON


class Request(Struct):
    """A request.

    Attributes:
        method, url: None where they are not known.
        body: its bytes; None if they are not there.
        snapshot: of a model call: the context it shows the model.
        event: the event it is compared as: its number and time are those of the recorded snapshot.
        at: the line of the agent's code.
    """

    method: str | None = None
    url: str | None = None
    body: bytes | None = None
    snapshot: ContextSnapshotData | None = None
    event: RecordEvent | None = None
    at: str | None = None


def request_of(entry: Entry, folder: Path) -> Request:
    """What the program asked for, by the journal and the body kept beside it."""
    body = None
    if entry.body is not None and Path(entry.body).name == entry.body:
        try:
            body = (folder / entry.body).read_bytes()
        except OSError:  # the disk was full: the report has less to say
            body = None
    asked = Request(entry.method, entry.url, body, at=entry.at)
    provider = match(entry.method or "", entry.url or "")
    if provider is not None and body is not None:
        context = provider.parse_request(entry.url or "", body)
        asked.snapshot = _snapshot(context, provider.name)
    return asked


def recorded_request(offer: Offer, reader: RecordReader) -> Request:
    """What a recorded exchange asked for; what is damaged or missing is left out."""
    found = Request(at=offer.at)
    try:
        if offer.snapshot is not None:
            event = reader.event(offer.snapshot)
            data = event.context
            request = data.request if data is not None else None
            sent = _request_of_syscall(offer, reader)
            if sent is not None and sent.body is not None:
                request = sent  # a body that was sent as a stream is known only at the end
            found.event = event
            _fill(found, request, reader)
            found.snapshot = data
            if data is not None and not data.messages and found.body is not None:
                provider = PROVIDERS.get(data.provider or "")
                if provider is not None:
                    found.snapshot = _snapshot(provider.parse_request(found.url or "", found.body), provider.name)
        elif offer.kind != "tool":
            _fill(found, _request_of_syscall(offer, reader), reader)
    except UnspoolError:  # the event is gone: damage is told by the reader
        return found
    return found


def _request_of_syscall(offer: Offer, reader: RecordReader) -> HttpRequest | None:
    if offer.syscall is None:
        return None
    call = reader.event(offer.syscall).syscall
    return call.request if call is not None else None


def _fill(found: Request, request: HttpRequest | None, reader: RecordReader) -> None:
    if request is None:
        return
    found.method, found.url = request.method, request.url
    found.body = reader.body(request.body) if request.body is not None else b""


def _snapshot(context: Context, provider: str) -> ContextSnapshotData:
    return ContextSnapshotData(
        messages=list(context.messages),
        system_prompt=context.system_prompt,
        tools=context.tools,
        params=context.params,
        provider=provider,
        model=context.model,
        partial=context.partial,
    )


def compare_contexts(before: Request, after: Request) -> ContextDiff | None:
    """How the second's context differs from the first's; None if one of them is no model call, or unknown."""
    if before.snapshot is None or after.snapshot is None:
        return None
    return compute_context_diff(before.snapshot, after.snapshot, _event(before), _event(after))


def _event(request: Request) -> RecordEvent:
    if request.event is not None:
        return request.event
    return RecordEvent(type=RecordEventType.CONTEXT_SNAPSHOT, seq_num=0, timestamp=0, pid=0)


def body_changes(before: bytes, after: bytes) -> list[ValueChange] | None:
    """The values of two JSON bodies that differ; None if one of them is no JSON."""
    try:
        return diff_values(msgspec.json.decode(before), msgspec.json.decode(after))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def text_changes(before: bytes, after: bytes) -> list[str]:
    """The lines of two bodies that differ, as a unified diff of at most 40 lines; texts as they are."""
    old, new = (side.decode("utf-8", "backslashreplace").splitlines()[:2000] for side in (before, after))
    script = difflib.unified_diff(old, new, "recorded", "rerun", n=1, lineterm="")
    return list(islice(script, _LINES_MAX))
