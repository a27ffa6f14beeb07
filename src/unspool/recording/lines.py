"""One event, one line: how events and messages become JSON and how JSON becomes them again.

The fast path is msgspec. What it would refuse or change goes a slow path: odd values are marked (`values`), lone
surrogates become JSON escapes, as the standard library writes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from unspool.events import CtxMessage, RecordEvent, SyscallEventData
from unspool.recording.values import REFUSED, Marked, PutString, error_data, is_plain, revive, to_wire

__all__ = [
    "Marked",
    "decode_event",
    "decode_json",
    "decode_message",
    "encode_event",
    "encode_json",
    "encode_message",
    "error_data",
    "is_plain",
    "revive",
    "to_wire",
]

LONG_LINE = 4096  # a line longer than this is searched for strings to move into the pool
# Fields of any type; the others are written as they are declared.
_FREE_FIELDS = frozenset(("args", "result", "params", "schema", "data", "raw"))

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(RecordEvent)
_message_decoder = msgspec.json.Decoder(CtxMessage | str)


def _without_free_fields(kind: type[msgspec.Struct], **changed: Any) -> type[msgspec.Struct]:
    """A struct that has the fields of another but for the free ones: JSON that decodes as it has the right types."""
    fields = [
        (info.name, changed.get(info.name, info.type), msgspec.field(name=info.encode_name))
        if info.required
        else (info.name, changed.get(info.name, info.type), msgspec.field(name=info.encode_name, default=None))
        for info in msgspec.structs.fields(kind)
        if info.name not in _FREE_FIELDS
    ]
    return msgspec.defstruct(f"_Checked{kind.__name__}", fields, gc=False)


# Checks a syscall in half the time of decoding it.
_syscall_checker = msgspec.json.Decoder(
    _without_free_fields(RecordEvent, syscall=_without_free_fields(SyscallEventData) | None)
)


# --- writing ---------------------------------------------------------------------------------------------------------


def encode_event(event: RecordEvent, put_string: PutString | None = None) -> bytes:
    """The line of an event, with its newline. Any value may stand in args, result, params and the like.

    Args:
        put_string: stores a long string in the pool and gives its digest; None keeps strings in the line.

    Raises:
        TypeError: a field whose type is declared holds something else.
    """
    line = _encode_plain(event)
    if line is not None and (len(line) <= LONG_LINE or put_string is None or event.syscall is None):
        return line + b"\n"
    if event.syscall is not None and not isinstance(event.syscall.args, Mapping | None):
        raise TypeError(f"args must be a dict, not {type(event.syscall.args).__name__}")
    line = encode_json(_struct_to_wire(event, put_string))
    _check(line)
    return line + b"\n"


def _encode_plain(event: RecordEvent) -> bytes | None:
    """The line as msgspec writes it; None if that would refuse or change a value."""
    data = event.syscall
    try:
        if data is not None:
            plain = type(data.args) is dict and is_plain(data.args) and is_plain(data.result)
        elif (context := event.context) is not None:
            plain = is_plain(context.params) and all(is_plain(tool.schema) for tool in context.tools or ())
        else:
            plain = True
        line = _encoder.encode(event) if plain else None
    except REFUSED:
        return None
    if line is not None and len(line) <= LONG_LINE:  # a quarter of a microsecond, so that what was written can be read
        if data is None:
            _check(line)
        else:
            try:
                _syscall_checker.decode(line)
            except ValueError:
                _check(line)  # says what it is, or that it is right after all
    return line


def _check(line: bytes) -> None:
    try:
        decode_event(line)
    except ValueError as exc:
        raise TypeError(f"not a valid event: {exc}") from exc


def encode_message(message: CtxMessage | str) -> bytes:
    """The JSON of one message of a context.

    Raises:
        TypeError: it is neither a `CtxMessage` nor a string.
    """
    if not isinstance(message, CtxMessage | str):
        raise TypeError(f"a message is a CtxMessage or a string, not {type(message).__name__}")
    try:
        if isinstance(message, str) or not message.parts or all(is_plain(part.data) for part in message.parts):
            return _encoder.encode(message)
    except REFUSED:
        return encode_json(_struct_to_wire(message, None))
    return encode_json(_struct_to_wire(message, None))


def encode_json(value: Any) -> bytes:
    """JSON of a value that holds JSON's types only; lone surrogates become escapes."""
    try:
        return _encoder.encode(value)
    except REFUSED:
        return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode("ascii")


def _struct_to_wire(value: Any, put_string: PutString | None) -> Any:
    """A struct as the dict its encoder would make, free fields marked; `msgspec.to_builtins` refuses what led here."""
    if isinstance(value, msgspec.Struct):
        out = {}
        for info in msgspec.structs.fields(value):
            item = getattr(value, info.name)
            if type(item) is type(info.default) and item == info.default:
                continue
            if info.default_factory in (list, dict) and not item:  # also None, which a writer means as none
                continue
            free = info.name in _FREE_FIELDS
            out[info.encode_name] = to_wire(item, put_string) if free else _struct_to_wire(item, put_string)
        return out
    if isinstance(value, list | tuple):
        return [_struct_to_wire(item, put_string) for item in value]
    return to_wire(value)


# --- reading ---------------------------------------------------------------------------------------------------------


def decode_event(line: bytes | memoryview) -> RecordEvent:
    """The event of a line. Marked values are left as they are on disk; see `revive`.

    Raises:
        ValueError: the line is not an event.
    """
    try:
        return _decoder.decode(line)
    except (ValueError, RecursionError) as first:
        try:
            return msgspec.convert(_without_nulls(json.loads(bytes(line))), RecordEvent)
        except (ValueError, RecursionError):
            # The first error tells more: the standard library only helps with what msgspec cannot hold.
            raise ValueError(str(first)) from first


def _without_nulls(event: Any) -> Any:
    """An event whose null arguments, error and texts of a state are read as the reference reads them: as empty."""
    if not isinstance(event, dict):
        return event
    event = {key: item for key, item in event.items() if item is not None}
    if isinstance(call := event.get("syscall"), dict):
        event["syscall"] = {key: item for key, item in call.items() if item is not None}
    if isinstance(state := event.get("state"), dict):
        event["state"] = {key: "" if item is None else item for key, item in state.items()}
    return event


def decode_message(data: bytes) -> CtxMessage | str:
    """The message `encode_message` wrote.

    Raises:
        ValueError: it is none.
    """
    message: CtxMessage | str
    try:
        message = _message_decoder.decode(data)
    except (ValueError, RecursionError):
        message = msgspec.convert(decode_json(data), CtxMessage | str)
    if isinstance(message, CtxMessage) and message.parts and b'"$' in data:
        for part in message.parts:
            part.data = revive(part.data, lambda _: None)
    return message


def decode_json(data: bytes) -> Any:
    """The value of a JSON text, lone surrogates included.

    Raises:
        ValueError: it is no JSON, or nested too deeply.
    """
    try:
        return msgspec.json.decode(data)
    except (ValueError, RecursionError) as first:
        try:
            return json.loads(data)
        except RecursionError:
            raise ValueError(str(first)) from first
