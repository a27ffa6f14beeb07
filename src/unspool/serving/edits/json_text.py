"""A JSON object that is changed in places: what is not touched keeps its bytes."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from unspool.providers.wire import decode_json

__all__ = ["JsonObject", "decode", "encode"]


def encode(value: Any) -> bytes:
    """Compact JSON, characters as they are; a lone surrogate, which has no UTF-8 form, makes it ASCII."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode("ascii")


def decode(raw: bytes) -> Any:
    """The value of a piece of JSON.

    Raises:
        ValueError: it is none.
    """
    return decode_json(raw)


class JsonObject:
    """A JSON object by its keys, in order, each value as the bytes it came in.

    Raises:
        ValueError: the bytes are no JSON object.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._changed = False
        try:
            self._values = {
                key: bytes(raw) for key, raw in msgspec.json.decode(data, type=dict[str, msgspec.Raw]).items()
            }
        except (ValueError, RecursionError):  # a byte order mark, UTF-16, NaN: what clients send and servers accept
            value = decode_json(data)
            if type(value) is not dict:
                raise ValueError(f"it is not a JSON object but a {type(value).__name__}") from None
            self._values = {key: encode(item) for key, item in value.items()}

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def get(self, key: str) -> Any:
        """The value of a key, None if it is not there."""
        raw = self._values.get(key)
        return None if raw is None else decode(raw)

    def elements(self, key: str) -> list[bytes] | None:
        """The elements of an array, as their bytes; None if the key holds no array."""
        raw = self._values.get(key)
        if raw is None:
            return None
        try:
            return [bytes(item) for item in msgspec.json.decode(raw, type=list[msgspec.Raw])]
        except (ValueError, RecursionError):
            value = decode(raw)
            return [encode(item) for item in value] if isinstance(value, list) else None

    def set(self, key: str, value: Any) -> None:
        """Give a key a value; a new key comes last."""
        self._values[key] = encode(value)
        self._changed = True

    def set_elements(self, key: str, elements: list[bytes]) -> None:
        """Give a key an array."""
        self._values[key] = b"[" + b",".join(elements) + b"]"
        self._changed = True

    def remove(self, key: str) -> None:
        """Take a key away, if it is there."""
        self._changed = self._values.pop(key, None) is not None or self._changed

    def to_bytes(self) -> bytes:
        """The object; the bytes it was made from if nothing changed."""
        if not self._changed:
            return self._data
        return b"{" + b",".join(encode(key) + b":" + raw for key, raw in self._values.items()) + b"}"
