"""Where errors began and how far they travelled.

An error travels through failing parents only. Its origin is a failing span none of whose children failed; the chain
goes from there up to the last ancestor that failed too. If the parent of that one succeeded, it was handled there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

from msgspec import Struct

from unspool.trace.spans import Span, SpanStatus, interval_of

__all__ = ["ErrorChain", "ErrorLink", "chains_of", "error_message"]


class ErrorLink:
    """A failing span and the link of its parent, if that failed too. Chains share links: a million of them cost no more
    memory than their spans.
    """

    __slots__ = ("handler", "length", "span", "top", "up")

    def __init__(self, span: Span, up: ErrorLink | None, parent: Span | None) -> None:
        self.span, self.up = span, up
        if up is not None:
            self.length: int = up.length + 1
            self.top: Span = up.top
            self.handler: Span | None = up.handler
        else:
            handled = parent is not None and parent.status is SpanStatus.OK and not parent.synthetic
            self.length, self.top, self.handler = 1, span, parent if handled else None


class ErrorPath(Sequence[Span]):
    """The spans of a chain from the origin up. A view: made when asked for, equal to a list of the same spans."""

    __slots__ = ("_link",)

    def __init__(self, link: ErrorLink) -> None:
        self._link = link

    def __len__(self) -> int:
        return self._link.length

    def __iter__(self) -> Iterator[Span]:
        link: ErrorLink | None = self._link
        while link is not None:
            yield link.span
            link = link.up

    @overload
    def __getitem__(self, index: int) -> Span: ...
    @overload
    def __getitem__(self, index: slice) -> list[Span]: ...
    def __getitem__(self, index: int | slice) -> Span | list[Span]:
        if index == 0:
            return self._link.span
        return self._link.top if index == -1 else list(self)[index]

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, ErrorPath | list | tuple) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # equal to lists, which have none

    def __repr__(self) -> str:
        return f"[{', '.join(repr(span.name) for span in self[:5])}{', …' if len(self) > 5 else ''}]"


class ErrorChain(Struct):
    """One error: `path` from where it began (`root_cause`, also `path[0]`) to the last ancestor that failed.

    `handled_by` is the parent that succeeded although this error reached it; None if none did.
    """

    path: Sequence[Span]
    root_cause: Span
    handled_by: Span | None = None


def chains_of(origins: list[ErrorLink], open_until_ns: int) -> tuple[list[ErrorChain], list[ErrorChain]]:
    """The chains that ended in failure and those that were handled; each list by the end of its origins."""

    def earliest(link: ErrorLink) -> tuple[int, int, str]:
        start, end = interval_of(link.span, open_until_ns)
        return end, start, link.span.span_id

    chains = [ErrorChain(ErrorPath(link), link.span, link.handler) for link in sorted(origins, key=earliest)]
    return [one for one in chains if one.handled_by is None], [one for one in chains if one.handled_by is not None]


def error_message(span: Span) -> str:
    """Why a span failed, by OpenTelemetry's `exception` event, `error.message` or `error.type`; "" if unknown."""
    for event in reversed(span.events):
        if event.name == "exception":
            parts = [_text(event.attrs, "exception.type"), _text(event.attrs, "exception.message")]
            if any(parts):
                return ": ".join(part for part in parts if part)
    for key in ("error.message", "exception.message", "error.type", "exception.type"):
        if text := _text(span.attributes, key):
            return text
    return ""


def _text(attributes: dict[str, object], key: str) -> str:
    value = attributes.get(key)
    return value if isinstance(value, str) else ""
