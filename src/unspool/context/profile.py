"""What fills a context, and what of it is in use."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from unspool.context.amounts import check_counts, percentage, to_one_decimal
from unspool.context.suggestions import suggest, suggest_for_tool
from unspool.context.temperature import Leak, State, Verdict, is_tool_result, judge
from unspool.context.tokens import apportion, estimate_message
from unspool.context.uses import INSTRUCTION_ROLES
from unspool.events import PID, CtxID, CtxMessage, ToolCall

__all__ = [
    "BlockVerdict",
    "ClassBucket",
    "ClassificationResult",
    "ConsumerEntry",
    "ContextData",
    "CtxProfileResult",
    "analyze_context",
]

TOP_CONSUMERS = 5


class ContextData(Struct):
    """A context as the model sees it. Tool results are messages of role `tool`."""

    system_prompt: str = ""
    messages: list[CtxMessage] = []


class ClassBucket(Struct):
    """Tokens and messages of one temperature; `pct` is their share of all tokens, with one decimal."""

    tokens: int = 0
    messages: int = 0
    pct: float = 0.0


class ClassificationResult(Struct):
    """The four temperatures. Every message is in one of them; the token counts sum to the context's."""

    active: ClassBucket = msgspec.field(default_factory=ClassBucket)
    warm: ClassBucket = msgspec.field(default_factory=ClassBucket)
    cold: ClassBucket = msgspec.field(default_factory=ClassBucket)
    leaked: ClassBucket = msgspec.field(default_factory=ClassBucket)


class ConsumerEntry(Struct):
    """Who takes up the context: `system_prompt`, `tool:<name>`, or the role of the messages."""

    kind: str = ""
    tokens: int = 0
    pct: float = 0.0
    rank: int = 0
    suggestion: str = ""


class BlockVerdict(Struct, omit_defaults=True):
    """The evidence for the temperature of one block.

    `index` is the place in `ContextData.messages`, None for the system prompt; `last_used_by` the index of the last
    model output that refers to the block, and `quote` what it repeats of it. `leak` says how a leaked one leaked.
    """

    index: int | None
    role: str
    tokens: int
    state: State
    reason: str
    last_used_by: int | None = None
    quote: str = ""
    leak: Leak | None = None


class CtxProfileResult(Struct):
    """A context profile. `total_tokens` is `tokens_used` where that is known, else an estimate.

    `top_consumers` holds the five largest; `evidence` one verdict a block, in the order of the context.
    """

    pid: PID = 0
    ctx_id: CtxID = 0
    tokens_used: int = 0
    context_budget: int = 0
    total_tokens: int = 0
    classification: ClassificationResult = msgspec.field(default_factory=ClassificationResult)
    top_consumers: list[ConsumerEntry] = []
    suggestions: list[str] = []
    evidence: list[BlockVerdict] = []

    def to_json(self) -> bytes:
        """The wire form: the seed's keys, then `evidence`. Percentages have one decimal."""
        wire: dict[str, Any] = msgspec.to_builtins(self)
        for bucket in wire["classification"].values():
            bucket["pct"] = to_one_decimal(bucket["pct"])
        for consumer in wire["top_consumers"]:
            consumer["pct"] = to_one_decimal(consumer["pct"])
            if not consumer["suggestion"]:
                del consumer["suggestion"]
        try:
            return msgspec.json.encode(wire)
        except UnicodeEncodeError:  # half of a surrogate pair in a role or a quote
            return json.dumps(wire, separators=(",", ":")).encode("ascii")

    @classmethod
    def from_json(cls, data: bytes | str) -> CtxProfileResult:
        """Read the wire form; keys it does not know are ignored.

        Raises:
            ValueError: not JSON, or a value of the wrong kind.
        """
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.DecodeError as exc:
            raise ValueError(f"not a context profile: {exc}") from exc


def analyze_context(
    data: ContextData | None, pid: PID, ctx_id: CtxID, tokens_used: int, context_budget: int
) -> CtxProfileResult:
    """Profile a context: tokens by temperature and by consumer, with the evidence.

    Tokens of the parts are estimated and, where `tokens_used` is above 0, scaled to sum to it. The temperature of a
    message is decided by which later model outputs refer to it (`unspool.context.temperature`).

    Args:
        data: None gives a profile of the four numbers alone.
        tokens_used: tokens in the context now, as the provider counted them (its input tokens of the last call, cached
            ones included), not the sum over calls; 0 if unknown.
        context_budget: the model's context window in tokens; 0 if there is no limit.
    """
    check_counts(pid=pid, ctx_id=ctx_id, tokens_used=tokens_used, context_budget=context_budget)
    result = CtxProfileResult(pid, ctx_id, tokens_used, context_budget)
    if data is None:
        return result
    messages = data.messages
    calls = answered_calls(messages)
    evidence = _weighed(data, judge(data.system_prompt, messages, calls), tokens_used)
    result.evidence = evidence
    result.total_tokens = tokens_used or sum(block.tokens for block in evidence)
    result.classification = _classification(evidence, result.total_tokens)
    consumers, leaks = _consumers(messages, calls, evidence)
    ranked = sorted(consumers.items(), key=lambda item: -item[1])[:TOP_CONSUMERS]
    for rank, (kind, tokens) in enumerate(ranked, start=1):
        share, advice = percentage(tokens, result.total_tokens), suggest_for_tool(leaks.get(kind, []))
        result.top_consumers.append(ConsumerEntry(kind, tokens, share, rank, advice))
    result.suggestions = suggest(
        total=result.total_tokens,
        budget=context_budget,
        system=sum(consumers.get(kind, 0) for kind in ("system_prompt", "system")),
        tools=sum(tokens for kind, tokens in consumers.items() if kind.startswith("tool:")),
        leaked=[(block.tokens, block.leak) for block in evidence if block.leak is not None],
        cold=result.classification.cold.tokens,
    )
    return result


def answered_calls(messages: Sequence[CtxMessage]) -> list[ToolCall | None]:
    """For each message the tool call it answers: the latest one before it with its id."""
    by_id: dict[str, ToolCall] = {}
    answered: list[ToolCall | None] = []
    for message in messages:
        is_answer = message.tool_call_id is not None and is_tool_result(message)
        answered.append(by_id.get(message.tool_call_id or "") if is_answer else None)
        for call in message.tool_calls or ():
            if call.id is not None:
                by_id[call.id] = call
    return answered


def _weighed(data: ContextData, verdicts: Sequence[Verdict], tokens_used: int) -> list[BlockVerdict]:
    """The verdicts with the tokens of their blocks, the system prompt first if there is one."""
    weights = [estimate_message(message) for message in data.messages]
    blocks = [
        BlockVerdict(index, message.role, 0, one.state, one.reason, one.last_used_by, one.quote, one.leak)
        for index, (message, one) in enumerate(zip(data.messages, verdicts, strict=True))
    ]
    if data.system_prompt:
        weights.insert(0, estimate_message(CtxMessage("system", data.system_prompt)))
        blocks.insert(0, BlockVerdict(None, "system", 0, "active", "the system prompt is always active"))
    if tokens_used:
        weights = apportion(weights, tokens_used)
    for block, tokens in zip(blocks, weights, strict=True):
        block.tokens = tokens
    return blocks


def _classification(evidence: Sequence[BlockVerdict], total: int) -> ClassificationResult:
    result = ClassificationResult()
    for block in evidence:
        bucket: ClassBucket = getattr(result, block.state)
        bucket.tokens += block.tokens
        bucket.messages += 1
    if not evidence:
        # Counted by the provider, and nothing to divide it among (tool definitions, say): it is sent with every call.
        result.active.tokens = total
    for state in ("active", "warm", "cold", "leaked"):
        bucket = getattr(result, state)
        bucket.pct = percentage(bucket.tokens, total)
    return result


def _consumers(
    messages: Sequence[CtxMessage], calls: Sequence[ToolCall | None], evidence: Sequence[BlockVerdict]
) -> tuple[dict[str, int], dict[str, list[tuple[int, Leak]]]]:
    """Tokens by consumer, in order of first appearance, and what leaked of each as (tokens, how)."""
    consumers: dict[str, int] = {}
    leaks: dict[str, list[tuple[int, Leak]]] = {}
    for block in evidence:
        kind = "system_prompt" if block.index is None else _kind(messages[block.index], calls[block.index])
        if block.tokens or kind.startswith("tool:"):
            consumers[kind] = consumers.get(kind, 0) + block.tokens
        if block.leak is not None:
            leaks.setdefault(kind, []).append((block.tokens, block.leak))
    return consumers, leaks


def _kind(message: CtxMessage, call: ToolCall | None) -> str:
    if is_tool_result(message):
        return f"tool:{message.tool_name or (call.name if call else '') or 'unknown'}"
    if message.role in INSTRUCTION_ROLES:
        return "system"
    return message.role or "unknown"
