"""Bodies in the form in which a person reads them in a diff, and back.

JSON stands as JSON, an event stream as the events it has, other text line by line; only what is none of these is
base64. A form is taken only if it gives the body back: JSON as an equal value, all else byte for byte.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from msgspec import UNSET, Struct, UnsetType

from unspool.serving.fingerprint import canonical_digest

__all__ = ["CassetteBody", "StreamEvent", "body_bytes", "body_pieces", "readable_body"]

_FIELDS = re.compile(r"(?:(?:event|data|id): [^\r\n]*\n)+\Z")


class StreamEvent(Struct, omit_defaults=True):
    """One server-sent event. `data` is its JSON where it is JSON, else `text` its text."""

    event: str | None = None
    id: str | None = None
    data: Any = UNSET
    text: str | None = None


class CassetteBody(Struct, omit_defaults=True):
    """A body in one of its forms.

    Attributes:
        json: its value.
        events: of an event stream.
        text: its lines, without their ends.
        base64: its bytes.
    """

    json: Any = UNSET
    events: list[StreamEvent] | UnsetType = UNSET
    text: list[str] | UnsetType = UNSET
    base64: str | UnsetType = UNSET


def readable_body(data: bytes) -> CassetteBody:
    """The most readable form that gives this body back."""
    for form in (_as_json, _as_events, _as_text):
        found = form(data)
        if found is not None:
            return found
    return CassetteBody(base64=base64.b64encode(data).decode("ascii"))


def body_bytes(body: CassetteBody) -> bytes:
    """The bytes of a body.

    Raises:
        ValueError: it has no form, or one that cannot be read.
    """
    return b"".join(body_pieces(body))


def body_pieces(body: CassetteBody) -> list[bytes]:
    """The same in the pieces in which it is given to a program: an event stream event by event.

    Raises:
        ValueError: as `body_bytes`.
    """
    if body.json is not UNSET:
        return [_dump(body.json).encode("utf-8", "surrogatepass")]
    if body.events is not UNSET:
        return [_event_text(event).encode() for event in body.events or ()]
    if body.text is not UNSET:
        return ["\n".join(body.text).encode()]
    if body.base64 is not UNSET:
        return [base64.b64decode(body.base64, validate=True)]
    raise ValueError("a body has none of json, events, text, base64")


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _as_json(data: bytes) -> CassetteBody | None:
    if data[:1] not in (b"{", b"["):
        return None
    try:
        value = json.loads(data)
        same = canonical_digest(_dump(value).encode()) == canonical_digest(data)
    except (ValueError, RecursionError):
        return None
    # `NaN` is read by Python and by nobody else; the file shall be JSON.
    return CassetteBody(json=value) if same and _is_strict(value) else None


def _is_strict(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def _as_events(data: bytes) -> CassetteBody | None:
    if not data.startswith((b"data:", b"event:", b"id:")):
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    if not text.endswith("\n\n"):
        return None
    events: list[StreamEvent] = []
    for block in text[:-2].split("\n\n"):
        event = _event(block + "\n")
        if event is None:
            return None
        events.append(event)
    same = "".join(map(_event_text, events)) == text
    return CassetteBody(events=events) if same else None


def _event(block: str) -> StreamEvent | None:
    if _FIELDS.match(block) is None:
        return None
    event = StreamEvent()
    for line in block.splitlines():
        name, _, value = line.partition(": ")
        if name == "event":
            event.event = value
        elif name == "id":
            event.id = value
        elif event.data is not UNSET or event.text is not None:
            return None  # several lines of data
        else:
            _set_data(event, value)
    return event


def _set_data(event: StreamEvent, text: str) -> None:
    if text[:1] in ("{", "["):
        try:
            value = json.loads(text)
            if _dump(value) == text and _is_strict(value):
                event.data = value
                return
        except (ValueError, RecursionError):
            pass  # `[DONE]` and other text that only begins like JSON
    event.text = text


def _event_text(event: StreamEvent) -> str:
    lines = [f"event: {event.event}\n"] if event.event is not None else []
    if event.id is not None:
        lines.append(f"id: {event.id}\n")
    if event.data is not UNSET:
        lines.append(f"data: {_dump(event.data)}\n")
    elif event.text is not None:
        lines.append(f"data: {event.text}\n")
    return "".join(lines) + "\n"


def _as_text(data: bytes) -> CassetteBody | None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    if any(char < " " and char not in "\t\r\n" for char in text):
        return None
    return CassetteBody(text=text.split("\n"))
