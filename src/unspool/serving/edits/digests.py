"""Knowing a message again: the digest of its normalised form."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

__all__ = ["digest_of", "normalised"]

# Marks that say where a provider may cut its prompt cache. They move with every call and say nothing to the model.
_CACHE_MARKS: Final = frozenset({"cache_control", "cachePoint", "cache_point"})
_MAX_DEPTH: Final = 60  # what lies deeper is left as it is; no provider goes there, a hostile file may
_LENGTH: Final = 32


def normalised(value: Any, depth: int = 0) -> Any:
    """`value`, a provider's JSON, without nulls, empty values and cache marks: SDKs write them or leave them away."""
    if depth > _MAX_DEPTH:
        return value
    if isinstance(value, dict):
        items = ((key, normalised(item, depth + 1)) for key, item in value.items() if key not in _CACHE_MARKS)
        return {key: item for key, item in items if not _is_empty(item)}
    return [normalised(item, depth + 1) for item in value] if isinstance(value, list) else value


def digest_of(role: str, parts: list[Any]) -> str:
    """The digest of a message: 32 hex characters. `parts` are normalised."""
    text = json.dumps([role, parts], sort_keys=True, separators=(",", ":"))  # ASCII: lone surrogates have no UTF-8
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:_LENGTH]


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str | list | dict) and not value)
