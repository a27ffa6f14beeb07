"""The model calls of a fork that were sent for real: where to, and whether an answer came."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

from unspool.recording.reader import RecordReader
from unspool.text import show_text

__all__ = ["LiveCall", "live_calls", "why_unanswered"]

# These say that the model was asked and did not like the question. Other error codes say nothing of it.
_ABOUT_THE_REQUEST: Final = frozenset({400, 413, 422})


class LiveCall(Struct, frozen=True):
    """One model call that was sent.

    Attributes:
        place: scheme, host and port; "" is unknown.
        status: of HTTP; None if nothing came.
        error: what went wrong, in words; "" if nothing did.
        is_answered: the model said something to it, be it that the request is wrong.
    """

    place: str
    status: int | None
    error: str
    is_answered: bool


def live_calls(readers: Iterable[RecordReader]) -> list[LiveCall]:
    """Those that have ended, in the order in which they did in each recording; each try of a client is one."""
    found: list[LiveCall] = []
    for reader in readers:
        places: dict[int | None, str] = {}
        for event in reader.bare_events():
            if event.context is not None and event.context.request is not None:
                places[event.call] = _place(reader.with_head(event.context.request).url or "")
            elif event.llm is not None and event.origin != "served":
                data = event.llm
                status = data.response.status if data.response is not None else None
                said = data.error.message or data.error.type if data.error is not None else ""
                if status is not None and status >= 400:
                    said = f"HTTP {status} {said}".rstrip()
                is_answered = not said or status in _ABOUT_THE_REQUEST
                found.append(LiveCall(places.get(event.call, ""), status, said, is_answered))
    return found


def why_unanswered(calls: Sequence[LiveCall]) -> str | None:
    """What kept every one of these calls from being answered; None if any was, or there are none."""
    if not calls or any(call.is_answered for call in calls):
        return None
    where = list(dict.fromkeys(show_text(call.place, 200) for call in calls if call.place))
    tried = f"{' and '.join(where[:2])}: " if where else ""
    return f"{tried}{show_text(calls[-1].error, 200)}"


def _place(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
