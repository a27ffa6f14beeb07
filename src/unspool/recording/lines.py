"""One event, one line: how events become JSON lines and how lines become events again.

The fast path is msgspec. Values JSON cannot hold go a slow path that marks them, so that nothing raises and nothing
changes silently: `{"$float": "nan"}`, `{"$bytes": "<base64>"}`, `{"$repr": "…"}` for objects, `{"$ref": "<digest>"}` for long
strings kept in the pool, `{"$dict": {…}}` around a dict that could be taken for one of these.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable
from typing import Any

import msgspec

from unspool.events import ErrorData, RecordEvent

__all__ = ["LONG_STRING", "decode_event", "encode_event", "error_data", "is_plain", "revive", "to_wire"]

LONG_LINE = 4096  # a line longer than this is searched for strings to move into the pool
LONG_STRING = 1024  # a string longer than this is moved
MAX_DEPTH = 60
_MARKS = frozenset(("$float", "$bytes", "$repr", "$ref", "$dict"))

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(RecordEvent)

PutString = Callable[[str], str | None]


def is_plain(value: Any, depth: int = 0) -> bool:
    """Whether JSON gives this value back equal and of equal type: str, int, bool, None, finite floats, lists and
    dicts with string keys of these. Strings are not searched for lone surrogates (the encoder refuses those).
    """
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return True
    if kind is int:
        return -(2**63) <= value < 2**63
    if kind is float:
        return math.isfinite(value)
    if depth > MAX_DEPTH:
        return False
    if kind is dict:
        if len(value) == 1 and next(iter(value)) in _MARKS:
            return False
        return all(type(key) is str and is_plain(item, depth + 1) for key, item in value.items())
    if kind is list:
        return all(is_plain(item, depth + 1) for item in value)
    return False


def encode_event(event: RecordEvent, put_string: PutString | None = None) -> bytes:
    """The line of an event, with its newline. Never raises for any value in args or result.

    Args:
        put_string: stores a long string in the pool and gives its digest; None keeps strings in the line.
    """
    data = event.syscall
    try:
        if data is None or (is_plain(data.args) and is_plain(data.result)):
            line = _encoder.encode(event)
            if len(line) <= LONG_LINE or data is None or put_string is None:
                return line + b"\n"
    except (TypeError, ValueError, OverflowError, RecursionError):
        # Lone surrogates, integers beyond 64 bits and foreign types in the other fields.
        pass_slow = True
    else:
        pass_slow = False
    return _encode_slow(event, put_string, force_ascii=pass_slow)


def _encode_slow(event: RecordEvent, put_string: PutString | None, *, force_ascii: bool) -> bytes:
    data = event.syscall
    if data is not None:
        clean = msgspec.structs.replace(data, args=_wire_args(data.args, put_string), result=to_wire(data.result, put_string))
        event = msgspec.structs.replace(event, syscall=clean)
    if not force_ascii:
        try:
            return _encoder.encode(event) + b"\n"
        except (TypeError, ValueError, OverflowError, RecursionError):
            force_ascii = True
    # The standard library writes lone surrogates as escapes in its ASCII form, and integers of any size.
    return json.dumps(_builtins(event), ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n"


def _wire_args(args: Any, put_string: PutString | None) -> dict[str, Any]:
    if type(args) is not dict:
        args = dict(args) if isinstance(args, dict) else {"args": args}
    return {key if type(key) is str else _safe_str(key): to_wire(value, put_string) for key, value in args.items()}


def _builtins(value: Any) -> Any:
    """Structs as dicts without defaults, in field order; `msgspec.to_builtins` refuses what brought us here."""
    if isinstance(value, msgspec.Struct):
        out = {}
        for info in msgspec.structs.fields(value):
            item = getattr(value, info.name)
            default = info.default if info.default is not msgspec.NODEFAULT else msgspec.NODEFAULT
            if default is not msgspec.NODEFAULT and item is default:
                continue
            if info.default_factory in (list, dict) and not item:
                continue
            out[info.encode_name] = _builtins(item)
        return out
    if isinstance(value, dict):
        return {str(key): _builtins(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_builtins(item) for item in value]
    return value


def to_wire(value: Any, put_string: PutString | None = None, depth: int = 0) -> Any:
    """A JSON-able form of any value; never raises and never loops."""
    kind = type(value)
    if kind is str:
        if put_string is not None and len(value) > LONG_STRING and (digest := put_string(value)) is not None:
            return {"$ref": digest}
        return value
    if kind is bool or value is None or kind is int:
        return value
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if kind in (bytes, bytearray, memoryview):
        return {"$bytes": base64.b64encode(value).decode("ascii")}
    if depth > MAX_DEPTH:
        return {"$repr": _safe_repr(value)}
    if isinstance(value, dict):
        out = {
            key if type(key) is str else _safe_str(key): to_wire(item, put_string, depth + 1)
            for key, item in list(value.items())
        }
        return {"$dict": out} if len(out) == 1 and next(iter(out)) in _MARKS else out
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_wire(item, put_string, depth + 1) for item in list(value)]
    return _object_to_wire(value, put_string, depth)


def _object_to_wire(value: Any, put_string: PutString | None, depth: int) -> Any:
    try:
        dump = getattr(value, "model_dump", None)  # pydantic
        plain = dump() if callable(dump) else msgspec.to_builtins(value)
    except Exception:  # noqa: BLE001 - the object's own code runs here, and it may fail in any way
        return {"$repr": _safe_repr(value)}
    if plain is value or type(plain) is type(value):
        return {"$repr": _safe_repr(value)}
    return to_wire(plain, put_string, depth + 1)


def error_data(error: BaseException) -> ErrorData:
    """An exception as data: its dotted class name, its text, and its arguments as far as JSON holds them."""
    kind = type(error)
    return ErrorData(
        type=f"{kind.__module__}.{kind.__qualname__}", message=_safe_str(error), args=[to_wire(arg) for arg in error.args]
    )


def _safe_repr(value: Any) -> str:
    try:
        text = repr(value)
    except Exception as exc:  # noqa: BLE001 - the object's own code
        text = f"<{type(value).__name__} whose repr raises {type(exc).__name__}>"
    return text if len(text) <= 10_000 else text[:10_000] + "…"


def _safe_str(value: Any) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - the object's own code
        return f"<{type(value).__name__}>"


def decode_event(line: bytes | memoryview) -> RecordEvent:
    """The event of a line. Marked values are left as they are on disk; see `revive`.

    Raises:
        ValueError: the line is not an event.
    """
    try:
        event = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as first:
        try:
            # Lone surrogates and large integers are beyond msgspec; the standard library reads them.
            event = msgspec.convert(json.loads(bytes(line)), RecordEvent)
        except (ValueError, RecursionError):
            raise ValueError(str(first)) from first
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc
    return event


def revive(value: Any, get_string: Callable[[str], str | None]) -> Any:
    """Values as they were before `to_wire`: marks resolved, long strings fetched from the pool."""
    if type(value) is dict:
        if len(value) == 1:
            (key, item), = value.items()
            if key == "$float" and isinstance(item, str):
                try:
                    return float(item)
                except ValueError:
                    return value
            if key == "$bytes" and isinstance(item, str):
                try:
                    return base64.b64decode(item, validate=True)
                except ValueError:
                    return value
            if key == "$ref" and isinstance(item, str):
                text = get_string(item)
                return value if text is None else text
            if key == "$dict" and isinstance(item, dict):
                return {name: revive(inner, get_string) for name, inner in item.items()}
        return {name: revive(inner, get_string) for name, inner in value.items()}
    if type(value) is list:
        return [revive(item, get_string) for item in value]
    return value
