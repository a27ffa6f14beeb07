"""What an agent said, made safe to show: one line, no terminal controls, always valid JSON. Standard library only.

Everything a recording holds may come from a model, a web page or a hostile file. Text goes to a terminal only through
this module, and values of any type have a form here, so that no view fails on an odd one.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import json
import math
import pathlib
import re
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = [
    "VALUE_LIMIT",
    "cut",
    "display_value",
    "dump_json",
    "error_text",
    "escape_controls",
    "plain_value",
    "quote",
    "show_text",
    "truncate_string",
]

VALUE_LIMIT = 50
"""Code points of one value on a line that is not verbose (the seed's limit)."""

# C0, DEL and C1 controls; the marks, embeddings and isolates that reorder text (UAX #9); line and paragraph separators;
# halves of surrogate pairs, which no encoder accepts. Joiners stay: emoji and several scripts need them.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

# Deeper nesting is shown as `…`. Far beyond what tools exchange, far below Python's recursion limit.
_MAX_DEPTH = 60


def escape_controls(text: str, *, keep: str = "") -> str:
    r"""`text` with everything that acts on a terminal written out: `\n`, `\x1b`, `\u202e`.

    Backslashes stay as they are, so this is for reading and cannot be undone.

    Args:
        keep: characters to leave alone, such as `"\n"` for text that may span lines.
    """

    def escape(match: re.Match[str]) -> str:
        char = match[0]
        if char in keep:
            return char
        code = ord(char)
        return _SHORT.get(char) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")

    return _UNSAFE.sub(escape, text)


def truncate_string(s: str, max_len: int) -> str:
    """The first `max_len` code points of `s` and `...` if it is longer; `s` itself otherwise."""
    if max_len < 0:
        raise ValueError(f"max_len must not be negative, got {max_len}")
    return s if len(s) <= max_len else s[:max_len] + "..."


def cut(text: str, limit: int | None = VALUE_LIMIT) -> str:
    """`text` in at most `limit` code points, the last three being `...` if some were cut off. None means no limit."""
    return text if limit is None or len(text) <= limit else text[: limit - 3] + "..."


def quote(text: str, limit: int | None = None) -> str:
    """`text` as a JSON string literal, with all that acts on a terminal escaped.

    Args:
        limit: code points of the text between the quotes, escapes counted as they are written; a longer one keeps
            `limit - 2` of them and ends in `..."`.
    """
    if limit is not None:
        text = text[: limit + 1]  # Escaping never shortens, so this is enough to know whether it fits.
    quoted = _escape_json(json.dumps(text, ensure_ascii=False))
    if limit is None or len(quoted) <= limit + 2:
        return quoted
    return quoted[: limit - 1] + '..."'


def show_text(text: str, limit: int | None = None) -> str:
    """`text` unquoted on one line, cut to `limit` code points of what is shown."""
    return cut(escape_controls(text if limit is None else text[: limit + 1]), limit)


def display_value(value: Any, limit: int | None = None) -> str:
    """Any value on one line as JSON writes it: `true`, `3`, `{"a": 1}`. Never raises.

    What JSON lacks is shown as Python does: `NaN`, `b'...'`, the `repr` of an object. Stops at `limit` code points,
    so that a large value costs no more than a small one.
    """
    written: list[str] = []
    length = 0
    try:
        for piece in _pieces(value, limit, 0):
            written.append(piece)
            length += len(piece)
            if limit is not None and length > limit:
                break
    except Exception:  # noqa: BLE001 - values are foreign objects, whose methods may raise anything
        return f"<unprintable {type(value).__name__}>"
    return cut("".join(written), limit)


def _pieces(value: Any, limit: int | None, depth: int) -> Iterator[str]:
    scalar = _scalar_text(value, limit)
    if scalar is not None:
        yield scalar
    elif depth >= _MAX_DEPTH:
        yield "…"
    elif (fields := _fields(value)) is not None:
        yield "{"
        for number, (key, item) in enumerate(fields.items()):
            yield f"{', ' if number else ''}{quote(_key(key), limit)}: "
            yield from _pieces(item, limit, depth + 1)
        yield "}"
    elif isinstance(value, list | tuple | set | frozenset):
        yield "["
        for number, item in enumerate(_in_order(value)):
            if number:
                yield ", "
            yield from _pieces(item, limit, depth + 1)
        yield "]"
    else:
        yield escape_controls(_repr(value))


def _scalar_text(value: Any, limit: int | None) -> str | None:
    """The text of a value without parts; None for all others."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return _int_text(value)
    if isinstance(value, float):
        return json.dumps(float(value))
    if isinstance(value, bytes | bytearray | memoryview):
        head = value if limit is None or isinstance(value, memoryview) else value[: limit + 1]
        return repr(bytes(head))
    text = _text_of(value)
    return None if text is None else quote(text, limit)


def plain_value(value: Any) -> Any:
    """`value` in the types JSON has, with what JSON cannot express replaced and marked as in a recording. Never raises.

    Replaced are floats that are no numbers (`{"$float": "nan"}`), bytes (`{"$bytes": base64}`), objects of other
    types, integers too long to print and values nested too deeply (`{"$repr": text}`).
    """
    return _plain_part(value, 0)


def _plain_part(value: Any, depth: int) -> Any:
    try:
        return _plain(value, depth)
    except Exception:  # noqa: BLE001 - values are foreign objects, whose methods may raise anything
        return {"$repr": f"<unprintable {type(value).__name__}>"}


def _plain(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        text = _int_text(value)
        return {"$repr": text} if text.lstrip("-").startswith("0x") else int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$float": float.__repr__(value)}
    if isinstance(value, bytes | bytearray | memoryview):
        return {"$bytes": base64.b64encode(bytes(value)).decode("ascii")}
    if (text_of := _text_of(value)) is not None:
        return text_of
    if depth >= _MAX_DEPTH:
        return {"$repr": "…"}
    if (fields := _fields(value)) is not None:
        return {_key(key): _plain_part(item, depth + 1) for key, item in fields.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain_part(item, depth + 1) for item in _in_order(value)]
    return {"$repr": _repr(value)}


def dump_json(value: Any) -> str:
    """`value` as one line of valid JSON for any value, with nothing in it that acts on a terminal. Never raises."""
    return _escape_json(json.dumps(plain_value(value), ensure_ascii=False, separators=(",", ":")))


def error_text(error: BaseException | str | None) -> str:
    """What an error says: its message, else the name of its class; "" when there is none. Never raises."""
    if error is None:
        return ""
    if isinstance(error, str):
        return error
    try:
        return str(error) or type(error).__name__
    except Exception:  # noqa: BLE001 - an exception class may fail to print itself
        return type(error).__name__


def _escape_json(document: str) -> str:
    # In valid JSON these characters occur inside strings only, where the escape means the same.
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", document)


def _int_text(value: int) -> str:
    try:
        return int.__repr__(value)
    except ValueError:  # longer than sys.get_int_max_str_digits(); hexadecimal has no limit
        return hex(value)


def _text_of(value: Any) -> str | None:
    """The text of values that JSON writes as a string."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, BaseException):
        return error_text(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, pathlib.PurePath | uuid.UUID | decimal.Decimal):
        return str(value)
    return None


def _fields(value: Any) -> Mapping[Any, Any] | None:
    """The named parts of a mapping, a dataclass or a msgspec Struct; None for all others."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, type):
        return None
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    if hasattr(type(value), "__struct_fields__"):
        return _struct_fields(value)
    return None


def _struct_fields(value: Any) -> dict[str, Any]:
    """The fields of a msgspec Struct that msgspec would write, without needing msgspec here."""
    kind = type(value)
    fields = {name: getattr(value, name, None) for name in kind.__struct_fields__}
    if not kind.__struct_config__.omit_defaults:
        return fields
    defaults = kind.__struct_defaults__
    for name, default in zip(kind.__struct_fields__[-len(defaults) :], defaults, strict=False):
        factory = getattr(default, "factory", None)
        unset = factory() if factory in (dict, list, set) else default
        if type(fields[name]) is type(unset) and fields[name] == unset:
            del fields[name]
    return fields


def _key(key: Any) -> str:
    text = _text_of(key)
    return text if text is not None else _scalar_text(key, None) or _repr(key)


def _in_order(value: list[Any] | tuple[Any, ...] | set[Any] | frozenset[Any]) -> Iterator[Any]:
    if isinstance(value, set | frozenset):
        # Sets have no order of their own; the same one must look the same in every run.
        return iter(sorted(value, key=_repr))
    return iter(value)


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - repr of a foreign object may raise anything
        return f"<unprintable {type(value).__name__}>"
