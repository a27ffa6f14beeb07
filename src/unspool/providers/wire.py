"""JSON nobody promised anything about: decoding that ends in one exception type, and reads that ask for a type.

Bodies are recorded as they travelled, so a parser may meet cut, mislabelled or hostile ones. A field of the wrong type
counts as absent here; nothing in this module raises except `decode_json`, and that only ValueError.
"""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

__all__ = [
    "arguments_text",
    "as_count",
    "as_list",
    "as_object",
    "as_text",
    "compact_json",
    "decode_json",
    "first_of",
    "raw_text",
]

_LARGEST_COUNT: Final = 2**53  # a token count beyond what a JSON double holds exactly is no token count


def decode_json(data: bytes | str) -> Any:
    """The value of one JSON document.

    Takes what clients accept: lone surrogates, NaN, duplicate keys, a byte order mark, UTF-16, and, as a last resort,
    bytes that are not quite UTF-8 (replaced by U+FFFD).

    Raises:
        ValueError: it is not JSON, or nested deeper than the stack.
    """
    try:
        return msgspec.json.decode(data)
    except (ValueError, RecursionError) as exc:
        problem = str(exc)  # names the byte; the standard library's message names line and column of the same place
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        lossy = data if isinstance(data, str) else data.decode("utf-8", "replace")
    try:
        return json.loads(lossy)
    except (ValueError, RecursionError):
        raise ValueError(problem) from None


def compact_json(value: Any) -> str:
    """`value` as JSON text without spaces, characters as they are.

    The standard library's encoder, because msgspec turns NaN into null and refuses lone surrogates. A value nested too
    deeply to be written gives the empty string.
    """
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except (ValueError, TypeError, RecursionError):
        return ""


def arguments_text(value: Any) -> str:
    """The arguments of a tool call: a string is the model's own JSON text and kept as it is, an object is written."""
    if isinstance(value, str):
        return value
    return "" if value is None else compact_json(value)


def as_object(value: Any) -> dict[str, Any]:
    """`value` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """`value` if it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []


def as_text(value: Any) -> str | None:
    """`value` if it is a string, else None."""
    return value if isinstance(value, str) else None


def as_count(value: Any) -> int | None:
    """`value` if it is a whole number from zero up, else None. Some gateways write counts as `12.0`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not value.is_integer():
        return None
    return int(value) if 0 <= value <= _LARGEST_COUNT else None


def first_of(obj: dict[str, Any], *names: str) -> Any:
    """The first of these keys that is there and not null. Protobuf JSON allows `camelCase` and `snake_case`."""
    for name in names:
        value = obj.get(name)
        if value is not None:
            return value
    return None


def raw_text(body: bytes, limit: int = 500) -> str:
    """The first `limit` characters of a body, for a message a person reads."""
    return body[: limit * 4].decode("utf-8", "replace").strip()[:limit]
