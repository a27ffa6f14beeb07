"""The messages of a snapshot in one form, whoever wrote it: structured messages, or the reference's strings."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import msgspec
from msgspec import Struct

from unspool.events import ContextSnapshotData, CtxMessage, Part
from unspool.text import dump_json

__all__ = ["SeenContext", "SeenMessage", "parse_message", "seen_context", "without_cache_marks"]

_SYSTEM_ROLES = frozenset({"system", "developer"})
# The roles of the providers' formats. Any other word in brackets is how a person began a sentence.
_ROLES = _SYSTEM_ROLES | {"user", "assistant", "tool", "function", "model", "unknown"}

# Marks that say where a provider may cut its prompt cache. They move with every call and say nothing to the model.
_CACHE_MARKS = frozenset({"cache_control", "cachePoint", "cache_point"})
_MAX_DEPTH = 60  # what lies deeper is left as it is; no provider goes there, a hostile file may


class SeenMessage(Struct, frozen=True):
    """A message the model saw.

    Attributes:
        index: its position in the snapshot's list, from 0.
        text: one text for all it says, `[role] content`; a string of the reference as it is.
        key: equal for two messages exactly if they say the same. Left out are unset fields, cache marks, and the tool
            name of a result, which is derived from the call it answers.
        message: the message itself.
    """

    index: int
    text: str
    key: Hashable
    message: CtxMessage


class SeenContext(Struct, frozen=True):
    """A snapshot taken apart: what was said before the conversation, and the conversation."""

    system_prompt: str | None
    messages: list[SeenMessage]


def seen_context(data: ContextSnapshotData) -> SeenContext:
    """Split a snapshot into system prompt and conversation.

    The system prompt is the snapshot's field and the system messages at the head of the list, each text once. Without
    either it is the first `[system]` string, wherever it stands. These messages are in no other place
    of the result; system messages further on were said there and stay.
    """
    raw = data.messages or []
    messages = [parse_message(message) if isinstance(message, str) else message for message in raw]
    count = 0
    while count < len(messages) and messages[count].role in _SYSTEM_ROLES and not messages[count].parts:
        count += 1
    taken = set(range(count))
    if data.system_prompt is None and not taken:
        strings = (i for i, message in enumerate(raw) if isinstance(message, str) and messages[i].role == "system")
        taken.update(index for index in [next(strings, None)] if index is not None)
    texts = [messages[index].content for index in sorted(taken)]
    if data.system_prompt is not None:
        # A context read back from a provider's list has its system prompt in both places.
        whole = "\n".join(texts)
        texts = [data.system_prompt, *(text for text in texts if data.system_prompt not in (text, whole))]
    return SeenContext(
        system_prompt="\n".join(texts) if texts else None,
        messages=[
            SeenMessage(index, given if isinstance(given, str) else _text(message), _key(message), message)
            for index, (given, message) in enumerate(zip(raw, messages, strict=True))
            if index not in taken
        ],
    )


def parse_message(text: str) -> CtxMessage:
    """The message in one of the reference's strings `[role] text`.

    Text that does not begin with the name of a role is a user's, whole: "[1, 2] are the inputs" is no message of a
    role "1, 2".
    """
    if text.startswith("["):
        role, found, content = text[1:].partition("] ")
        if found and role in _ROLES:
            return CtxMessage(role=role, content=content)
    return CtxMessage(role="user", content=text)


def _text(message: CtxMessage) -> str:
    pieces = [f"[{message.role}]"]
    if message.content:
        pieces.append(message.content)
    pieces += [f"({part.kind}) {part.text}" if part.text else f"({part.kind})" for part in message.parts or ()]
    pieces += [f"→ {call.name}({call.arguments})" for call in message.tool_calls or ()]
    return " ".join(pieces)


def _key(message: CtxMessage) -> Hashable:
    head = (message.role, message.content, message.tool_call_id or None)
    if not message.tool_calls and not message.parts:
        return head
    calls = tuple((call.name, call.arguments, call.id or None) for call in message.tool_calls or ())
    return (*head, calls, tuple(map(_part_key, message.parts or ())))


def _part_key(part: Part) -> Hashable:
    try:
        data: Any = msgspec.json.encode(without_cache_marks(part.data), order="sorted")
    except (TypeError, ValueError, RecursionError):  # values made by hand: not JSON, no UTF-8, nested too deeply
        data = dump_json(part.data)
    return part.kind, part.text or None, data


def without_cache_marks(value: Any, depth: int = 0) -> Any:
    """`value`, the JSON of a provider, without unset fields and cache marks."""
    if depth > _MAX_DEPTH:
        return value
    if isinstance(value, dict):
        return {
            key: without_cache_marks(item, depth + 1)
            for key, item in value.items()
            if key not in _CACHE_MARKS and item is not None
        }
    return [without_cache_marks(item, depth + 1) for item in value] if isinstance(value, list) else value
