"""The difference between two contexts."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from msgspec import Struct, field

from unspool.events import ContextSnapshotData, RecordEvent
from unspool.replay.alignment import MessagesDiff, ScriptStep, align_messages
from unspool.replay.messages import seen_context
from unspool.replay.prefix import PrefixBreak, PromptPart, Section, estimate_tokens, find_prefix_break, prompt_parts
from unspool.replay.settings import ToolsDiff, ValueChange, diff_params, diff_tools
from unspool.replay.words import WordChange, diff_words
from unspool.text import dump_json

__all__ = ["ContextDiff", "PromptDiff", "TokenDelta", "compute_context_diff", "hash_system_prompt"]


class PromptDiff(Struct, frozen=True):
    """Whether the system prompt changed, with `hash_system_prompt` of both; "" where there is none."""

    changed: bool = False
    from_hash: str = ""
    to_hash: str = ""


class TokenDelta(Struct, frozen=True):
    """Tokens of the two contexts and their difference; None is unknown."""

    from_tokens: int | None = None
    to_tokens: int | None = None
    delta: int | None = None


class ContextDiff(Struct, frozen=True):
    """How one context became another.

    Attributes:
        from_seq_num: the snapshot used, as is `to_seq_num`; either may be the earlier one.
        from_timestamp: when it was taken, in nanoseconds since the process was created.
        system_prompt: see `PromptDiff`; a change of it is in no other part but `prompt_words`.
        messages: what happened to the messages, by kind.
        token_delta: the provider's counts.
        requested_from: the event that was asked for, where the snapshot is the nearest one before it.
        token_estimate: counts by characters, where the provider's are not both known.
        tools: what happened to the tools offered.
        params: model and parameters that changed.
        prefix_break: where the second prompt stopped being a continuation of the first; None if it is one.
        script: the messages as one edit script that makes the second list out of the first.
        prompt_words: how the system prompt changed; empty if it did not.
        notes: why a side may not be all that the model saw.
    """

    from_seq_num: int
    to_seq_num: int
    from_timestamp: int
    to_timestamp: int
    system_prompt: PromptDiff
    messages: MessagesDiff
    token_delta: TokenDelta
    requested_from: int | None = None
    requested_to: int | None = None
    token_estimate: TokenDelta | None = None
    tools: ToolsDiff = field(default_factory=ToolsDiff)
    params: list[ValueChange] = []
    prefix_break: PrefixBreak | None = None
    script: list[ScriptStep] = []
    prompt_words: list[WordChange] = []
    notes: list[str] = []

    @property
    def is_empty(self) -> bool:
        """Whether nothing changed, as far as is known."""
        messages, tools = self.messages, self.tools
        lists = (messages.added, messages.removed, messages.edited, messages.moved, self.params)
        changed = self.system_prompt.changed or any(lists) or bool(self.token_delta.delta)
        return not (changed or tools.added or tools.removed or tools.changed or tools.reordered)

    def to_json(self) -> bytes:
        """The wire form: the seed's keys with timestamps in nanoseconds, and the additions beside them."""
        return dump_json(self).encode()


def hash_system_prompt(prompt: str) -> str:
    """The first 8 bytes of the SHA-256 of `prompt`, as 16 lower-case hex characters."""
    # Half of a surrogate pair is in no encoding; it must not fail, and must not hash like its replacement either.
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def compute_context_diff(
    from_snapshot: ContextSnapshotData,
    to_snapshot: ContextSnapshotData,
    from_event: RecordEvent,
    to_event: RecordEvent,
    *,
    from_tokens: int | None = None,
    to_tokens: int | None = None,
) -> ContextDiff:
    """Compare two contexts: messages by an aligned edit script, system prompt, tools, parameters, tokens, prefix.

    The number of messages kept in order is the greatest possible. Messages may be `CtxMessage`s or the reference's
    strings. Two contexts of 2,000 messages take some tens of milliseconds.

    Args:
        from_snapshot: the context to start from; it may be the later one.
        to_snapshot: the context to arrive at.
        from_event: the event of the first, for its number and time.
        to_event: that of the second.
        from_tokens: the provider's count of the first, used where the snapshot has none.
        to_tokens: that of the second.
    """
    before, after = seen_context(from_snapshot), seen_context(to_snapshot)
    messages, script = align_messages(
        before.messages, after.messages, len(from_snapshot.messages or ()), len(to_snapshot.messages or ())
    )
    old_prompt, new_prompt = before.system_prompt or "", after.system_prompt or ""
    prompt_words = diff_words(old_prompt, new_prompt) if old_prompt != new_prompt else []
    tokens = _token_delta(
        from_tokens if from_snapshot.tokens is None else from_snapshot.tokens,
        to_tokens if to_snapshot.tokens is None else to_snapshot.tokens,
    )
    old_parts, new_parts = prompt_parts(from_snapshot, before), prompt_parts(to_snapshot, after)
    return ContextDiff(
        from_seq_num=from_event.seq_num,
        to_seq_num=to_event.seq_num,
        from_timestamp=from_event.timestamp,
        to_timestamp=to_event.timestamp,
        system_prompt=PromptDiff(old_prompt != new_prompt, _prompt_hash(old_prompt), _prompt_hash(new_prompt)),
        messages=messages,
        token_delta=tokens,
        requested_from=from_event.seq_num,
        requested_to=to_event.seq_num,
        token_estimate=None
        if tokens.delta is not None
        else _token_delta(estimate_tokens(old_parts), estimate_tokens(new_parts)),
        tools=diff_tools(from_snapshot.tools or (), to_snapshot.tools or ()),
        params=diff_params(from_snapshot, to_snapshot),
        prefix_break=find_prefix_break(
            old_parts,
            new_parts,
            same_model=_same_model(from_snapshot, to_snapshot),
            fresh=_fresh_chars(old_parts, new_parts, messages, script, prompt_words),
            known_tokens=tokens.to_tokens,
        ),
        script=script,
        prompt_words=prompt_words,
        notes=[
            f"#{event.seq_num:03d} is not all the model saw: {data.partial}"
            for data, event in ((from_snapshot, from_event), (to_snapshot, to_event))
            if data.partial is not None
        ],
    )


def _prompt_hash(prompt: str) -> str:
    return hash_system_prompt(prompt) if prompt else ""


def _token_delta(from_tokens: int | None, to_tokens: int | None) -> TokenDelta:
    delta = None if from_tokens is None or to_tokens is None else to_tokens - from_tokens
    return TokenDelta(from_tokens, to_tokens, delta)


def _same_model(before: ContextSnapshotData, after: ContextSnapshotData) -> bool:
    """Whether a cache of the first could serve the second; what is unknown is taken to be the same."""
    pairs = ((before.provider, after.provider), (before.model, after.model))
    return all(None in pair or pair[0] == pair[1] for pair in pairs)


def _fresh_chars(
    old_parts: Sequence[PromptPart],
    new_parts: Sequence[PromptPart],
    messages: MessagesDiff,
    script: Sequence[ScriptStep],
    prompt_words: Sequence[WordChange],
) -> dict[tuple[Section, int | None], int]:
    """How many characters of each part of the second prompt were not in the first; parts without any are left out."""
    fresh: dict[tuple[Section, int | None], int] = {("system", None): _added_chars(prompt_words)}
    fresh.update({("messages", edit.to_index): _added_chars(edit.words) for edit in messages.edited})
    added = {step.to_index for step in script if step.op == "add"}
    old_tools = Counter(part.key for part in old_parts if part.section == "tools")
    for part in new_parts:
        if part.section == "tools":
            old_tools[part.key] -= 1
        is_new = old_tools[part.key] < 0 if part.section == "tools" else part.index in added
        if is_new and part.section != "system":
            fresh[part.section, part.index] = len(part.text)
    return fresh


def _added_chars(words: Sequence[WordChange]) -> int:
    return sum(len(word.text) for word in words if word.op == "added")
