"""A message as a person reads it: paragraphs, code blocks, JSON laid out, pictures, and what was too long to show."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from unspool.events import CtxMessage, Part, ToolCall
from unspool.text import cut, dump_json

__all__ = ["Cutter", "Picture", "Piece", "ShownCall", "ShownMessage", "pieces_of", "pretty", "shown_messages"]

_FENCE: Final = re.compile(
    r"^[ \t]*(```+|~~~+)[ \t]*([\w+#.-]{0,30})[^\n`]*\n(.*?)(?:^[ \t]*\1[ \t]*$|\Z)", re.M | re.S
)
_PICTURE: Final = re.compile(r"data:(image/(?:png|jpeg|gif|webp));base64,([A-Za-z0-9+/=\s]+)")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/=\s]+")
_PICTURE_TYPES: Final = ("image/png", "image/jpeg", "image/gif", "image/webp")  # SVG is a document, not a picture
_PICTURE_MAX: Final = 300_000  # characters of base64 on a page
_PRETTY_MAX: Final = 60_000
_DATA_MAX: Final = 300  # characters of what a message holds beside text


@dataclass
class Piece:
    """A part of a text: `text` as it is, or `code` with its language."""

    kind: Literal["text", "code"]
    text: str
    language: str = ""


@dataclass
class Picture:
    """Pixels inside a message, as an address that holds them; "" if there are too many for a page."""

    address: str
    media_type: str


@dataclass
class ShownCall:
    """A tool call in a message. `answered_by` is the number of the message with its result.

    `left_out` is how many characters of its arguments are not on the page.
    """

    name: str
    arguments: str
    id: str = ""
    answered_by: int | None = None
    left_out: int = 0


@dataclass
class ShownMessage:
    """One message. `number` counts from 1; `left_out` is how many characters are not on the page.

    `answers` is the call a tool's result belongs to. `is_new`: the call before did not send it.
    """

    number: int
    role: str
    pieces: list[Piece]
    length: int
    left_out: int = 0
    name: str = ""
    calls: list[ShownCall] = field(default_factory=list)
    answers: ShownCall | None = None
    asked_in: int | None = None
    pictures: list[Picture] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    is_new: bool = False
    brief: str = ""


class Cutter:
    """Shortens texts to what a page may hold; a report has one that takes out more.

    `pictures`: whether pixels are shown.
    """

    def __init__(self, limit: int = 20_000, *, pictures: bool = True) -> None:
        self.limit = limit
        self.pictures = pictures

    def cut(self, text: str) -> tuple[str, int]:
        """What is shown of a text, and how many characters are not."""
        return (text, 0) if len(text) <= self.limit else (text[: self.limit], len(text) - self.limit)


def pieces_of(text: str) -> list[Piece]:
    """Paragraphs and code blocks in order; a text that is JSON as a whole is one block, laid out."""
    laid_out = pretty(text)
    if laid_out is not None:
        return [Piece("code", laid_out, "json")]
    found: list[Piece] = []
    at = 0
    for match in _FENCE.finditer(text):
        if before := text[at : match.start()].strip("\n"):
            found.append(Piece("text", before))
        found.append(Piece("code", match[3].rstrip("\n"), match[2]))
        at = match.end()
    if rest := text[at:].strip("\n"):
        found.append(Piece("text", rest))
    return found


def pretty(text: str) -> str | None:
    """A JSON object or array with a line for each member; None if the text is none."""
    stripped = text.strip()
    if not stripped or len(stripped) > _PRETTY_MAX or stripped[0] + stripped[-1] not in ("{}", "[]"):
        return None
    try:
        return json.dumps(json.loads(stripped), ensure_ascii=False, indent=2)
    except (ValueError, RecursionError):
        return None


def shown_messages(messages: Sequence[CtxMessage], cutter: Cutter, *, new_from: int = 0) -> list[ShownMessage]:
    """Messages with their tool calls and results paired, by id where there is one, else in order of the name.

    Args:
        new_from: position of the first message that the call before did not send.
    """
    shown = [_shown(number, message, cutter) for number, message in enumerate(messages, start=1)]
    waiting: list[tuple[int, ShownCall]] = []
    for one, message in zip(shown, messages, strict=True):
        one.is_new = one.number > new_from
        waiting += [(one.number, call) for call in one.calls]
        if message.role not in ("tool", "function") and not message.tool_call_id:
            continue
        wanted = message.tool_call_id
        for place, (asked_in, call) in enumerate(waiting):
            if (call.id == wanted) if wanted else (not one.name or call.name == one.name):
                call.answered_by, one.answers, one.asked_in = one.number, call, asked_in
                one.name = one.name or call.name
                del waiting[place]
                break
    return shown


def _shown(number: int, message: CtxMessage, cutter: Cutter) -> ShownMessage:
    text, left_out = cutter.cut(message.content)
    pictures: list[Picture] = []
    others: list[str] = []
    for part in message.parts or ():
        picture = _picture(part.data) if part.kind == "image" else None
        if picture is not None and not cutter.pictures:
            others.append("(a picture)")
        elif picture is not None:
            pictures.append(picture)
        else:
            if part.text is not None:
                said, more = cutter.cut(part.text)
            else:
                said, more = _data_text(part)
            left_out += more
            others.append(f"({part.kind}) {said}".rstrip())
    calls = shown_calls(message.tool_calls, cutter)
    left_out += sum(call.left_out for call in calls)
    return ShownMessage(
        number=number,
        role=cut(message.role, 40),
        pieces=pieces_of(text),
        length=len(message.content),
        left_out=left_out,
        name=cut(message.tool_name or "", 120),
        calls=calls,
        pictures=pictures,
        others=others,
        brief=cut(" ".join(text[:2000].split()[:40]), 140) or ", ".join(c.name for c in message.tool_calls or ()),
    )


def shown_calls(calls: Sequence[ToolCall] | None, cutter: Cutter) -> list[ShownCall]:
    """Tool calls with their arguments laid out."""
    found = []
    for call in calls or ():
        text, left_out = cutter.cut(call.arguments)  # what is left of JSON that was cut is laid out no more
        laid_out = pretty(text) if not left_out else None
        shown = laid_out or text + ("…" if left_out else "")
        found.append(ShownCall(cut(call.name, 120), shown, call.id or "", left_out=left_out))
    return found


def _data_text(part: Part) -> tuple[str, int]:
    """The beginning of what is no text, and how many characters of it are left out."""
    text = "" if part.data is None else dump_json(part.data)
    return cut(text, _DATA_MAX), max(len(text) - _DATA_MAX, 0)


def _picture(data: Any, depth: int = 0) -> Picture | None:
    """The pixels in a provider's own form of an image, wherever in it they are."""
    if depth > 6:
        return None
    if isinstance(data, str):
        match = _PICTURE.fullmatch(data.strip())
        return _address(match[1], match[2]) if match else None
    if isinstance(data, dict):
        media = next((data[key] for key in ("media_type", "mimeType", "mime_type") if key in data), None)
        raw = data.get("data")
        if media in _PICTURE_TYPES and isinstance(raw, str) and _BASE64.fullmatch(raw):
            return _address(media, raw)
        return next((found for value in data.values() if (found := _picture(value, depth + 1)) is not None), None)
    return None


def _address(media_type: str, raw: str) -> Picture:
    pixels = "".join(raw.split())
    return Picture(f"data:{media_type};base64,{pixels}" if len(pixels) <= _PICTURE_MAX else "", media_type)
