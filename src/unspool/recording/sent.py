"""What each model call sent, message by message, read so that a long conversation costs no more than its new text.

A call names the snapshot it extends and how many leading messages it shares with it; only the others are read here, and
each piece of the pool is parsed once. Nothing raises for missing or damaged pieces: they are messages of unknown text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from unspool.events import Context, ContextSnapshotData, CtxMessage, RecordEvent, ToolDef
from unspool.providers import PROVIDERS
from unspool.providers.beyond import may_run_tools
from unspool.providers.provider import Provider
from unspool.recording.contents import parse_summary
from unspool.recording.lines import decode_message
from unspool.recording.pool import PoolReader
from unspool.recording.poolwriter import Item
from unspool.tokens import (
    Count,
    Family,
    PartKind,
    estimate_parts,
    estimate_tokens,
    estimate_tool,
    family_of,
    own_tokens,
)
from unspool.tokens.tokenizer import counter_for

__all__ = ["SentCall", "SentMessage", "SentReader", "weigh_system"]

_UNKNOWN: Final = CtxMessage(role="unknown", content="(missing message)")
_INSTRUCTION_ROLES: Final = ("system", "developer")


class SentMessage(msgspec.Struct, frozen=True):
    """One element of the message array: what it says, in one form for all providers, and its estimated tokens.

    Some providers put several tool results into one element, so `parts` may be more than one message; `shares` are the
    estimated tokens of each by what they are.
    """

    parts: tuple[CtxMessage, ...]
    shares: tuple[Sequence[tuple[PartKind, int]], ...]

    @property
    def weights(self) -> tuple[int, ...]:
        """Estimated tokens of each message."""
        return tuple(sum(tokens for _, tokens in share) for share in self.shares)


class SentCall(msgspec.Struct):
    """What one model call sent.

    `kept` leading elements are those of the call whose snapshot is `prev`; `added` are the others. `system` and
    `tool_sizes` are estimated tokens of the system prompt and of each tool definition that stand beside the messages,
    `own` those that the provider is known to add; `is_hosted` says that it may have run tools of its own.
    """

    snapshot: RecordEvent
    prev: int | None
    kept: int
    added: Sequence[SentMessage]
    system: int = 0
    tool_sizes: tuple[int, ...] = ()
    own: int = 0
    is_hosted: bool = False

    @property
    def tools(self) -> int:
        """Estimated tokens of all tool definitions."""
        return sum(self.tool_sizes)


class _Ruler(msgspec.Struct, frozen=True):
    """How the texts of a model are counted; `key` tells two of them apart."""

    family: Family
    count: Count
    key: str


class _Head(msgspec.Struct, frozen=True):
    """What stands beside the messages."""

    system: int = 0
    tool_sizes: tuple[int, ...] = ()
    is_hosted: bool = False


class SentReader:
    """Reads what calls sent out of the pool of one recording; remembers each piece it has parsed.

    Texts are counted by the tokenizer of the model where `counters` gives one, else estimated.
    """

    def __init__(self, pool: PoolReader, counters: Callable[[str], Count | None] = counter_for) -> None:
        self._pool = pool
        self._counters = counters
        self._rulers: dict[tuple[str | None, str | None], _Ruler] = {}
        self._pieces: dict[tuple[str, str, Item], SentMessage] = {}
        self._heads: dict[tuple[str, str, tuple[str, ...]], _Head] = {}

    def ruler_of(self, data: ContextSnapshotData) -> tuple[Count, Family]:
        """How the texts of a call are counted, and whose rules hold for what is around them."""
        ruler = self._ruler(data)
        return ruler.count, ruler.family

    def _ruler(self, data: ContextSnapshotData) -> _Ruler:
        known = self._rulers.get((data.provider, data.model))
        if known is None:
            counter = self._counters(data.model or "")
            family = family_of(data.provider, data.model)
            known = _Ruler(family, counter or estimate_tokens, family if counter is None else f"{family} {data.model}")
            self._rulers[data.provider, data.model] = known
        return known

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

    def given(self, snapshot: RecordEvent, context: Context) -> SentCall:
        """What a call sent, from its context as a whole: for a body that is not there in pieces."""
        data = snapshot.context
        assert data is not None, "only snapshots come here"
        ruler = self._ruler(data)
        found = SentCall(snapshot, None, 0, [_sent(ruler, message) for message in context.messages])
        system = _beside(context.system_prompt or "", found.added)
        return _headed(found, _weigh_head(system, context.tools, context.params, ruler), data, ruler)

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
        ruler = self._ruler(data)
        found.added = [self._piece(provider, item, ruler) for item in elements.items[found.kept :]]
        place = lists[0]
        rest = (*rope[:place], *elements.before, *elements.after, *rope[place + 1 :])
        return _headed(found, self._head(provider, rest, ruler), data, ruler)

    def _by_hand(self, found: SentCall, data: ContextSnapshotData) -> SentCall | None:
        ruler = self._ruler(data)
        if data.messages is not None:
            messages = [one if isinstance(one, CtxMessage) else parse_summary(one) for one in data.messages]
            found.added = [_sent(ruler, message) for message in messages[found.kept :]]
        else:
            elements = self._pool.elements(data.message_list or "")
            if elements is None or found.kept > len(elements.items):
                return None
            found.added = [self._normal_piece(item, ruler) for item in elements.items[found.kept :]]
        system = _beside(data.system_prompt or "", found.added)
        return _headed(found, _weigh_head(system, data.tools or (), data.params or {}, ruler), data, ruler)

    def _piece(self, provider: Provider, item: Item, ruler: _Ruler) -> SentMessage:
        known = self._pieces.get((provider.name, ruler.key, item))
        if known is None:
            data = self._pool.item(item)
            known = _sent(ruler, _UNKNOWN) if data is None else _parsed(provider, data, ruler)
            self._pieces[provider.name, ruler.key, item] = known
        return known

    def _normal_piece(self, item: Item, ruler: _Ruler) -> SentMessage:
        known = self._pieces.get(("", ruler.key, item))
        if known is None:
            try:
                message = decode_message(self._pool.item(item) or b"")
                known = _sent(ruler, message if isinstance(message, CtxMessage) else parse_summary(message))
            except ValueError:
                known = _sent(ruler, _UNKNOWN)
            self._pieces["", ruler.key, item] = known
        return known

    def _head(self, provider: Provider, rest: tuple[str, ...], ruler: _Ruler) -> _Head:
        """The system prompt and the tools of a body from which the messages were taken out."""
        known = self._heads.get((provider.name, ruler.key, rest))
        if known is None:
            data = self._pool.join(list(rest))
            context = provider.parse_request("", data) if data is not None else Context(messages=[])
            known = _weigh_head(context.system_prompt or "", context.tools, context.params, ruler)
            self._heads[provider.name, ruler.key, rest] = known
        return known


def _headed(found: SentCall, head: _Head, data: ContextSnapshotData, ruler: _Ruler) -> SentCall:
    found.system, found.tool_sizes, found.is_hosted = head.system, head.tool_sizes, head.is_hosted
    found.own = own_tokens(ruler.family, data.model, bool(head.tool_sizes))
    return found


def _beside(system: str, added: Sequence[SentMessage]) -> str:
    """The system prompt, "" where it stands among the messages."""
    instructions = [one.content for sent in added for one in sent.parts if one.role in _INSTRUCTION_ROLES]
    return "" if system in instructions or system == "\n".join(instructions) else system


def _weigh_head(system: str, tools: Sequence[ToolDef], params: dict[str, Any], ruler: _Ruler) -> _Head:
    return _Head(
        sum(tokens for _, tokens in weigh_system(system, ruler.count, ruler.family)),
        tuple(estimate_tool(tool, ruler.count, ruler.family) for tool in tools),
        may_run_tools(tools, params),
    )


def weigh_system(system: str, count: Count, family: Family) -> list[tuple[PartKind, int]]:
    """Estimated tokens of a system prompt that stands beside the messages."""
    return estimate_parts(CtxMessage("system", system), count, family) if system else []


def _parsed(provider: Provider, data: bytes, ruler: _Ruler) -> SentMessage:
    body = b'{"%s":[%s]}' % (provider.array_keys[0].encode(), data)
    context = provider.parse_request("", body)
    messages = list(context.messages)
    if context.system_prompt:  # a system message among the others
        messages.insert(0, CtxMessage(role="system", content=context.system_prompt))
    return _sent(ruler, *(messages or [_UNKNOWN]))


def _sent(ruler: _Ruler, *messages: CtxMessage) -> SentMessage:
    return SentMessage(messages, tuple(estimate_parts(message, ruler.count, ruler.family) for message in messages))
