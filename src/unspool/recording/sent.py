"""What each model call sent, message by message, read so that a long conversation costs no more than its new text.

A call names the snapshot it extends and how many leading messages it shares with it; only the others are read here, and
each piece of the pool is parsed once. Nothing raises for missing or damaged pieces: they are messages of unknown text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from unspool.events import ContextSnapshotData, CtxMessage, RecordEvent
from unspool.providers import PROVIDERS
from unspool.providers.provider import Provider
from unspool.recording.contents import parse_summary
from unspool.recording.lines import decode_message
from unspool.recording.pool import PoolReader
from unspool.recording.poolwriter import Item
from unspool.tokens import estimate_message, estimate_tokens

__all__ = ["SentCall", "SentMessage", "SentReader"]

_UNKNOWN: Final = CtxMessage(role="unknown", content="(missing message)")


class SentMessage(msgspec.Struct, frozen=True):
    """One element of the message array: what it says, in one form for all providers, and its estimated tokens.

    Some providers put several tool results into one element, so `parts` may be more than one message.
    """

    parts: tuple[CtxMessage, ...]
    weights: tuple[int, ...]


class SentCall(msgspec.Struct):
    """What one model call sent.

    `kept` leading elements are those of the call whose snapshot is `prev`; `added` are the others. `system` and `tools`
    are estimated tokens of the system prompt and of the tool definitions that stand beside the messages.
    """

    snapshot: RecordEvent
    prev: int | None
    kept: int
    added: Sequence[SentMessage]
    system: int = 0
    tools: int = 0


class SentReader:
    """Reads what calls sent out of the pool of one recording; remembers each piece it has parsed."""

    def __init__(self, pool: PoolReader) -> None:
        self._pool = pool
        self._pieces: dict[tuple[str, Item], SentMessage] = {}
        self._heads: dict[tuple[str, tuple[str, ...]], tuple[int, int]] = {}

    def call(self, snapshot: RecordEvent, *, whole: bool = False) -> SentCall | None:
        """What the call of this snapshot (as it is on disk) sent; None if its body is not there in pieces.

        Args:
            whole: give all messages as added, also those of the call before.
        """
        data = snapshot.context
        if data is None:
            return None
        kept = max(data.kept or 0, 0) if data.prev is not None and not whole else 0
        found = SentCall(snapshot, data.prev if kept else None, kept, ())
        if data.messages is not None or data.message_list is not None:
            return self._by_hand(found, data)
        return self._requested(found, data)

    def _requested(self, found: SentCall, data: ContextSnapshotData) -> SentCall | None:
        provider = PROVIDERS.get(data.provider or "")
        body = data.request.body if data.request is not None else None
        if provider is None or body is None or body.rope is None:
            return None
        rope = [item for item in body.rope if isinstance(item, str)]
        lists = [index for index, item in enumerate(rope) if item.startswith("@")]
        elements = self._pool.elements(rope[lists[0]][1:]) if len(lists) == 1 else None
        if elements is None or found.kept > len(elements.items):
            return None
        found.added = [self._piece(provider, item) for item in elements.items[found.kept :]]
        place = lists[0]
        rest = (*rope[:place], *elements.before, *elements.after, *rope[place + 1 :])
        found.system, found.tools = self._head(provider, rest)
        return found

    def _by_hand(self, found: SentCall, data: ContextSnapshotData) -> SentCall | None:
        if data.messages is not None:
            messages = [one if isinstance(one, CtxMessage) else parse_summary(one) for one in data.messages]
            found.added = [_sent(message) for message in messages[found.kept :]]
        else:
            elements = self._pool.elements(data.message_list or "")
            if elements is None or found.kept > len(elements.items):
                return None
            found.added = [self._normal_piece(item) for item in elements.items[found.kept :]]
        found.system = estimate_tokens(data.system_prompt or "")
        found.tools = sum(_tool_weight(tool) for tool in data.tools or ())
        return found

    def _piece(self, provider: Provider, item: Item) -> SentMessage:
        known = self._pieces.get((provider.name, item))
        if known is None:
            data = self._pool.item(item)
            known = _sent(_UNKNOWN) if data is None else _parsed(provider, data)
            self._pieces[provider.name, item] = known
        return known

    def _normal_piece(self, item: Item) -> SentMessage:
        known = self._pieces.get(("", item))
        if known is None:
            try:
                message = decode_message(self._pool.item(item) or b"")
                known = _sent(message if isinstance(message, CtxMessage) else parse_summary(message))
            except ValueError:
                known = _sent(_UNKNOWN)
            self._pieces["", item] = known
        return known

    def _head(self, provider: Provider, rest: tuple[str, ...]) -> tuple[int, int]:
        """Estimated tokens of the system prompt and the tools of a body from which the messages were taken out."""
        known = self._heads.get((provider.name, rest))
        if known is None:
            data = self._pool.join(list(rest))
            context = provider.parse_request("", data) if data is not None else None
            known = (
                (0, 0)
                if context is None
                else (estimate_tokens(context.system_prompt or ""), sum(map(_tool_weight, context.tools)))
            )
            self._heads[provider.name, rest] = known
        return known


def _parsed(provider: Provider, data: bytes) -> SentMessage:
    body = b'{"%s":[%s]}' % (provider.array_keys[0].encode(), data)
    context = provider.parse_request("", body)
    messages = list(context.messages)
    if context.system_prompt:  # a system message among the others
        messages.insert(0, CtxMessage(role="system", content=context.system_prompt))
    return _sent(*(messages or [_UNKNOWN]))


def _sent(*messages: CtxMessage) -> SentMessage:
    return SentMessage(messages, tuple(estimate_message(message) for message in messages))


def _tool_weight(tool: object) -> int:
    try:
        return estimate_tokens(msgspec.json.encode(tool).decode())
    except (TypeError, ValueError, RecursionError):
        return estimate_tokens(str(tool))
