"""How many tokens a text has, estimated without a tokenizer, and how a known total is divided among texts.

The estimate is for shares: where the provider's own count is known the parts are scaled to it (`apportion`), and only
the proportions of the estimate remain.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec

from unspool.events import CtxMessage, Part, ToolDef

__all__ = [
    "MESSAGE_TOKENS",
    "Count",
    "PartKind",
    "apportion",
    "estimate_message",
    "estimate_parts",
    "estimate_tokens",
    "estimate_tool",
]

PartKind: TypeAlias = Literal["text", "tool_call", "image", "reasoning", "other"]

# Tokens a character, by the bytes of its UTF-8 form. The proportions were checked on the 339 pairs of successive
# provider counts in the Claude Code sessions of ../shared/data (what was added between two calls): with one common
# factor they miss by 19 % on average, length / 4 by 21 %. Those sessions hold little but ASCII. Elsewhere: Latin
# with accents, Greek, Cyrillic, Arabic and Hebrew (two bytes) give about one token for two characters, Chinese,
# Japanese, Korean and Thai (three bytes) about one for each, emoji (four bytes) about two, in recent tokenizers.
_LETTERS: Final = b"abcdefghijklmnopqrstuvwxyz"
_CAPITALS: Final = _LETTERS.upper()
_DIGITS: Final = b"0123456789"
_PUNCTUATION: Final = bytes(b for b in range(0x21, 0x7F) if not chr(b).isalnum())
_BLANK: Final = b" \t"
_CLASSES: Final = (
    (_LETTERS, 0.25),
    (_CAPITALS, 0.40),
    (_DIGITS, 0.50),
    (_PUNCTUATION, 0.30),
    (b"\n\r", 0.30),
    (_BLANK, 0.05),
    (bytes(range(0xC2, 0xE0)), 0.50),
    (bytes(range(0xE0, 0xF0)), 0.95),
    (bytes(range(0xF0, 0xF5)), 2.00),
)

MESSAGE_TOKENS: Final = 4  # role and separators: three to four in OpenAI's published counting rule
_CALL_TOKENS: Final = 8  # the frame around the name and arguments of a tool call
_TOOL_TOKENS: Final = 6
_FIELD_TOKENS: Final = 2
_SCHEMA_DEPTH: Final = 12  # what lies deeper counts nothing; no provider goes there, a hostile file may
# Anthropic: width × height / 750, at most about 1,600; OpenAI: 85 for a small picture, 170 for each tile of 512 × 512.
_IMAGE_TOKENS: Final = 1_000
_PIXELS_PER_TOKEN: Final = 750
_LEAST_IMAGE, _MOST_IMAGE = 85, 1_600
_IMAGE_HEAD: Final = 4 * 16_384  # characters of base64 within which a JPEG says its size
_BASE64: Final = re.compile(r"(?:data:image/[\w.+-]+;base64,)?([A-Za-z0-9+/_-]{40,})")


def estimate_tokens(text: str) -> int:
    """Tokens of a text, rounded up; 0 for "". Linear, some milliseconds a megabyte."""
    if not text:
        return 0
    raw = text.encode("utf-8", "surrogatepass")
    total = 0.0
    for characters, weight in _CLASSES:
        # Deleting a class and measuring what is left counts it at the speed of memcpy.
        total += weight * (len(raw) - len(raw.translate(None, characters)))
    return max(round(total), 1)


Count: TypeAlias = Callable[[str], int]
"""Tokens of a text, as `estimate_tokens` or a tokenizer says."""


def estimate_message(message: CtxMessage) -> int:
    """Tokens of a message: its text, its tool calls, its other parts, and the frame around them."""
    return sum(tokens for _, tokens in estimate_parts(message))


def estimate_parts(message: CtxMessage, count: Count = estimate_tokens) -> list[tuple[PartKind, int]]:
    """Tokens of a message by what they are, its frame with the text, which comes first."""
    found: list[tuple[PartKind, int]] = [("text", MESSAGE_TOKENS + count(message.content))]
    found += [
        ("tool_call", _CALL_TOKENS + count(call.name) + count(call.arguments)) for call in message.tool_calls or ()
    ]
    for part in message.parts or ():
        if part.kind == "image":
            found.append(("image", _image_tokens(part)))
        else:
            found.append(("reasoning" if part.kind == "reasoning" else "other", _part_tokens(part, count)))
    return found


def _part_tokens(part: Part, count: Count) -> int:
    if part.text is not None:
        return count(part.text)
    if isinstance(part.data, str):
        return count(part.data)
    return 0 if part.data is None else count(_json_text(part.data))


def estimate_tool(tool: ToolDef, count: Count = estimate_tokens) -> int:
    """Tokens of a tool definition: models see a signature of it, not the JSON of the schema."""
    return _TOOL_TOKENS + count(tool.name) + count(tool.description or "") + _schema_tokens(tool.schema, count)


def _schema_tokens(schema: Any, count: Count, depth: int = 0) -> int:
    """Names, types, descriptions and choices of what a schema describes."""
    if not isinstance(schema, dict) or depth > _SCHEMA_DEPTH:
        return 0
    total = 1
    for key in ("properties", "$defs"):
        fields = schema.get(key)
        for name, field in fields.items() if isinstance(fields, dict) else ():
            total += _FIELD_TOKENS + count(str(name)) + _schema_tokens(field, count, depth + 1)
    if isinstance(text := schema.get("description"), str):
        total += count(text)
    choices = schema.get("enum")
    total += sum(1 + count(str(choice)) for choice in (choices if isinstance(choices, list) else ()))
    for key in ("anyOf", "oneOf", "allOf"):
        kinds = schema.get(key)
        total += sum(1 + _schema_tokens(kind, count, depth + 1) for kind in (kinds if isinstance(kinds, list) else ()))
    return total + _schema_tokens(schema.get("items"), count, depth + 1)


# --- images ----------------------------------------------------------------------------------------------------------


def _image_tokens(part: Part) -> int:
    """By its size where the image is in the message, else what a middling one takes."""
    size = _image_size(part.data)
    if size is None:
        return _IMAGE_TOKENS
    return min(max(-(-size[0] * size[1] // _PIXELS_PER_TOKEN), _LEAST_IMAGE), _MOST_IMAGE)


def _image_size(data: Any) -> tuple[int, int] | None:
    """Width and height of an image in a provider's JSON; None where it is not there, or in no known form."""
    pending, looked = [data], 0
    while pending and looked < 100:
        looked += 1
        value = pending.pop()
        if isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
        elif isinstance(value, str) and (found := _BASE64.match(value, 0, _IMAGE_HEAD + 100)):
            text = found[1][:_IMAGE_HEAD]
            try:
                raw = b64decode(text[: len(text) // 4 * 4], altchars=b"-_" if "-" in text or "_" in text else None)
            except ValueError:
                continue
            if size := _size_in_head(raw):
                return size
    return None


def _size_in_head(raw: bytes) -> tuple[int, int] | None:
    if raw.startswith(b"\x89PNG") and raw[12:16] == b"IHDR":
        return int.from_bytes(raw[16:20], "big"), int.from_bytes(raw[20:24], "big")
    if raw.startswith(b"GIF8"):
        return int.from_bytes(raw[6:8], "little"), int.from_bytes(raw[8:10], "little")
    if not raw.startswith(b"\xff\xd8"):
        return None
    at = 2
    while at + 9 < len(raw) and raw[at] == 0xFF:  # the segments of a JPEG, up to the one that begins the frame
        if 0xC0 <= raw[at + 1] <= 0xCF and raw[at + 1] not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(raw[at + 7 : at + 9], "big"), int.from_bytes(raw[at + 5 : at + 7], "big")
        at += 2 + int.from_bytes(raw[at + 2 : at + 4], "big")
    return None


def _json_text(data: object) -> str:
    try:
        return msgspec.json.encode(data).decode()
    except (TypeError, ValueError, msgspec.MsgspecError, RecursionError):
        return str(data)


def apportion(weights: Sequence[int], total: int) -> list[int]:
    """Divide `total` in proportion to `weights` into whole numbers that sum to it exactly.

    By largest remainder (Hamilton's method); equal remainders go to the earlier one. All weights 0: equal shares.
    No weights: no shares.
    """
    if not weights:
        return []
    weight_sum = sum(weights)
    if weight_sum == 0:
        return apportion([1] * len(weights), total)
    # Integers throughout: a share of a count beyond 2**53 must not lose its last digits.
    shares = [weight * total // weight_sum for weight in weights]
    missing = total - sum(shares)
    by_remainder = sorted(range(len(weights)), key=lambda i: (-(weights[i] * total % weight_sum), i))
    for index in by_remainder[:missing]:
        shares[index] += 1
    return shares
