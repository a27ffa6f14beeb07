"""Values in events: what JSON holds goes as it is, the rest is marked; nothing raises and nothing changes silently.

    {"$float": "nan"}       nan, inf and -inf
    {"$int": "0x1f…"}       an integer of more than 2000 bits, which JSON parsers refuse
    {"$bytes": "<base64>"}  bytes, bytearray, memoryview
    {"$repr": "…"}          an object, or what lies deeper than 200 levels or in a cycle
    {"$ref": "<digest>"}    a long string kept in the pool
    {"$dict": {…}}          a dict that could be taken for one of these

Reading gives the value itself back, except for `$repr`. Tuples and sets become lists, keys strings, enums their values,
dates, UUIDs and decimals strings, dataclasses and models dicts.
"""

from __future__ import annotations

import base64
import dataclasses
import enum
import math
import reprlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from unspool.events import ErrorData

__all__ = ["REFUSED", "Marked", "PutString", "error_data", "is_plain", "revive", "to_wire"]

LONG_STRING = 1024  # a string longer than this goes into the pool
MAX_DEPTH = 200
MAX_VALUES = 10_000_000  # a structure whose parts are shared can unfold into more values than there is memory
_INT_BITS = 2000  # Python parses no more than 4300 digits, or as few as 640 when told so
_REPR_MAX = 10_000
_MARKS = frozenset(("$float", "$int", "$bytes", "$repr", "$ref", "$dict"))

PutString = Callable[[str], str | None]


class Marked(msgspec.Struct):
    """What `to_wire` made of a value, kept until it is written: it is not marked a second time."""

    value: Any


# What encoding refuses: lone surrogates, foreign types, integers beyond 64 bits in old versions of msgspec, deep
# nesting, and a dict that another thread changes meanwhile (a RuntimeError, as RecursionError is).
REFUSED = (TypeError, ValueError, OverflowError, RuntimeError)


def is_plain(value: Any) -> bool:
    """Whether JSON gives this value back equal and of equal type: str, int of 64 bits, bool, None, finite floats,
    lists and dicts with string keys of these. Strings are not searched for lone surrogates (the encoder refuses those).
    """
    return value is None or type(value) is str or _is_plain(value, [MAX_VALUES], 0)


def _is_plain(value: Any, left: list[int], depth: int) -> bool:
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return True
    if kind is int:
        return bool(-(2**63) <= value < 2**63)
    if kind is float:
        return math.isfinite(value)
    if kind is dict:
        if len(value) == 1 and not _MARKS.isdisjoint(value):
            return False
        for key in value:
            if type(key) is not str:
                return False
        items = value.values()
    elif kind is list:
        items = value
    else:
        return False
    left[0] -= len(value)
    if depth >= MAX_DEPTH or left[0] < 0:
        return False
    for item in items:
        kind = type(item)
        if kind is str or (kind is int and -(2**63) <= item < 2**63):
            continue  # nearly all there is, without a call
        if not _is_plain(item, left, depth + 1):
            return False
    return True


def to_wire(value: Any, put_string: PutString | None = None) -> Any:
    """A JSON-able form of any value, marked as described above; never raises and never loops.

    Args:
        put_string: stores a long string in the pool and gives its digest; None keeps strings where they are.
    """
    return _Converter(put_string).convert(value, 0)


class _Converter:
    """One conversion: counts values, and knows which containers it is inside of."""

    __slots__ = ("inside", "left", "put_string")

    def __init__(self, put_string: PutString | None) -> None:
        self.put_string = put_string
        self.left = MAX_VALUES
        self.inside: set[int] = set()

    def convert(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind is str:
            if self.put_string is not None and len(value) > LONG_STRING:
                digest = self.put_string(value)
                return value if digest is None else {"$ref": digest}
            return value
        if kind is bool or value is None:
            return value
        if kind is int:
            return value if value.bit_length() <= _INT_BITS else {"$int": hex(value)}
        if kind is float:
            return value if math.isfinite(value) else {"$float": repr(value)}
        try:
            return self._convert_object(value, depth)
        except Exception:  # noqa: BLE001 - the object's own code runs here, and it may fail in any way
            return {"$repr": _outline(value)}

    def _convert_object(self, value: Any, depth: int) -> Any:
        if type(value) is Marked:
            return value.value
        if isinstance(value, bytes | bytearray | memoryview):
            return {"$bytes": base64.b64encode(bytes(value)).decode("ascii")}
        if isinstance(value, enum.Enum):
            return self.convert(value.value, depth + 1)
        # Subclasses, whatever they override, have the plain value of their base.
        if isinstance(value, str):
            return self.convert(str.__str__(value), depth)
        if isinstance(value, int):
            return self.convert(int.__int__(value), depth)
        if isinstance(value, float):
            return self.convert(float.__float__(value), depth)
        if depth >= MAX_DEPTH or id(value) in self.inside or self.left < 0:
            return {"$repr": _outline(value)}
        self.inside.add(id(value))
        try:
            if isinstance(value, Mapping):
                return self._convert_dict(dict(value), depth)
            if isinstance(value, set | frozenset):
                return self._convert_list(_in_order(value), depth)
            if isinstance(value, list | tuple):
                return self._convert_list(list(value), depth)
            fields = _fields_of(value)
            if fields is not None:
                return self._convert_dict(fields, depth)
            try:
                plain_value = msgspec.to_builtins(value)  # dates, UUIDs, decimals
            except REFUSED:
                return {"$repr": _repr(value)}
            return self.convert(plain_value, depth + 1)
        finally:
            self.inside.discard(id(value))

    def _convert_dict(self, value: dict[Any, Any], depth: int) -> Any:
        self.left -= len(value)
        out: dict[str, Any] = {}
        for key, item in value.items():
            name = key if type(key) is str else _str(key)
            if name in out:  # 1 and "1" are two keys
                name = f"{name} ({type(key).__name__})"
            out[name] = self.convert(item, depth + 1)
        return {"$dict": out} if len(out) == 1 and not _MARKS.isdisjoint(out) else out

    def _convert_list(self, value: list[Any], depth: int) -> Any:
        self.left -= len(value)
        return [self.convert(item, depth + 1) for item in value]


def _fields_of(value: Any) -> dict[Any, Any] | None:
    """The fields of an object that is a record of some kind. Looked up on the class: instances may answer anything."""
    kind = type(value)
    if isinstance(value, msgspec.Struct):
        return {info.encode_name: getattr(value, info.name) for info in msgspec.structs.fields(value)}
    if dataclasses.is_dataclass(kind):
        return {info.name: getattr(value, info.name) for info in dataclasses.fields(kind)}
    dump = getattr(kind, "model_dump", None)  # pydantic
    if callable(dump):
        fields = dump(value)
        return fields if isinstance(fields, dict) else None
    return None


def _in_order(values: set[Any] | frozenset[Any]) -> list[Any]:
    """Elements of a set in an order that does not change from run to run, where they have one."""
    try:
        return sorted(values)
    except TypeError:
        return list(values)


def error_data(error: BaseException) -> ErrorData:
    """An exception as data: its dotted class name, its text, and its arguments as far as JSON holds them."""
    kind = type(error)
    return ErrorData(
        type=f"{kind.__module__}.{kind.__qualname__}", message=_str(error), args=[to_wire(arg) for arg in error.args]
    )


def _repr(value: Any) -> str:
    try:
        text = repr(value)
    except Exception as exc:  # noqa: BLE001 - the object's own code
        return f"<{type(value).__name__} whose repr raises {type(exc).__name__}>"
    return text if len(text) <= _REPR_MAX else text[:_REPR_MAX] + "…"


def _outline(value: Any) -> str:
    """A short text of a value that is too deep, too large or failed to convert."""
    return _repr(value) if not isinstance(value, dict | list | tuple | set | frozenset) else reprlib.repr(value)


def _str(value: Any) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - the object's own code
        return f"<{type(value).__name__}>"


def revive(value: Any, get_string: Callable[[str], str | None]) -> Any:
    """Values as they were before `to_wire`: marks resolved, long strings fetched from the pool."""
    try:
        return _revive(value, get_string)
    except RecursionError:  # nested deeper than we write
        return value


def _revive(value: Any, get_string: Callable[[str], str | None]) -> Any:
    if type(value) is dict:
        if len(value) == 1:
            ((key, item),) = value.items()
            if key == "$dict" and type(item) is dict:
                return {name: _revive(inner, get_string) for name, inner in item.items()}
            if key in _MARKS and type(item) is str:
                return _unmark(key, item, get_string, value)
        return {name: _revive(item, get_string) for name, item in value.items()}
    if type(value) is list:
        return [_revive(item, get_string) for item in value]
    return value


def _unmark(mark: str, item: str, get_string: Callable[[str], str | None], marked: Any) -> Any:
    """The value behind a mark; the marked form itself where it cannot be given back."""
    try:
        if mark == "$float":
            return float(item)
        if mark == "$int":
            return int(item, 16)
        if mark == "$bytes":
            return base64.b64decode(item, validate=True)
        text = get_string(item) if mark == "$ref" else None
    except ValueError:
        return marked
    return marked if text is None else text
