"""Where the prompt of one call stops being the beginning of a later one, and what a prompt cache lost by it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from unspool.events import ContextSnapshotData, ToolDef
from unspool.replay.messages import SeenContext, without_cache_marks
from unspool.replay.sequence import shared_prefix
from unspool.text import dump_json

__all__ = [
    "CHARS_PER_TOKEN",
    "PrefixBreak",
    "PromptPart",
    "Section",
    "estimate_tokens",
    "find_prefix_break",
    "prompt_parts",
]

CHARS_PER_TOKEN = 4
"""Characters of English text per token: the usual rule of thumb. Used only where no provider counted."""

Section = Literal["model", "tools", "system", "messages"]
_ORDER: tuple[Section, ...] = ("model", "tools", "system", "messages")


class PrefixBreak(Struct, frozen=True):
    """The first place where two prompts differ, and what stood behind it.

    A provider's prompt cache holds beginnings of prompts, so everything behind this place had to be processed, and
    paid, as new. Token counts are estimates: characters, scaled to the provider's count of the whole prompt where it
    is known. Real caches work in coarser steps (OpenAI: 128 tokens, from 1,024 on; Anthropic: marked blocks), so the
    provider may have charged for more.

    Attributes:
        section: `model` (another model has another cache), `tools`, `system` or `messages`.
        from_index: position of the tool or message in the first snapshot's list, None for the other sections.
        to_index: the same in the second; None too if it has nothing there.
        offset: how many characters of the system prompt or message are still the same.
        repaid_tokens: of what stood behind the break, those that the first prompt held too: paid before, paid again.
        uncached_tokens: all tokens behind the break, with those that are new.
    """

    section: Section
    from_index: int | None
    to_index: int | None
    offset: int
    repaid_tokens: int
    uncached_tokens: int
    estimated: bool = True


class PromptPart(Struct, frozen=True):
    """A piece of a prompt, in the order in which providers read it.

    `index` is the position in the snapshot's list of tools or messages.
    """

    section: Section
    index: int | None
    key: Hashable
    text: str
    label: int = 0  # characters at the start of `text` that name the role


def prompt_parts(data: ContextSnapshotData, seen: SeenContext) -> list[PromptPart]:
    """The prompt as providers read and cache it: tools, system prompt, messages.

    The order is Anthropic's ("Prompt caching", docs.claude.com) and fits OpenAI's, where tools count as part of the
    prefix too.
    """
    parts = [PromptPart("tools", index, *_tool(tool)) for index, tool in enumerate(data.tools or ())]
    if seen.system_prompt:
        parts.append(PromptPart("system", None, seen.system_prompt, seen.system_prompt))
    parts += [
        PromptPart("messages", message.index, message.key, message.text, _label(message.text, message.message.role))
        for message in seen.messages
    ]
    return parts


def estimate_tokens(parts: Sequence[PromptPart]) -> int:
    """About how many tokens the parts are, by `CHARS_PER_TOKEN`."""
    return -(-sum(len(part.text) for part in parts) // CHARS_PER_TOKEN)


def find_prefix_break(
    before: Sequence[PromptPart],
    after: Sequence[PromptPart],
    *,
    same_model: bool,
    fresh: Mapping[tuple[Section, int | None], int],
    known_tokens: int | None,
) -> PrefixBreak | None:
    """The first difference of two prompts; None if one is the beginning of the other, so that nothing was lost.

    Args:
        same_model: whether both went to the same model.
        fresh: how many characters are new in the parts of the second prompt, by section and index; those not named
            were in the first prompt as they are.
        known_tokens: the provider's count of the second prompt, to scale the estimate.
    """
    at = 0
    while same_model and at < min(len(before), len(after)) and before[at].key == after[at].key:
        at += 1
    if at == len(before) or at == len(after):
        return None
    old, new = before[at], after[at]
    offset = shared_prefix(old.text, new.text) if same_model and old.section == new.section else 0
    total = sum(len(part.text) for part in after)
    behind = sum(len(part.text) for part in after[at:]) - offset
    # What the break falls into may be a new part that happens to begin like the old one.
    unpaid = min(fresh.get((new.section, new.index), 0), len(new.text) - offset)
    unpaid += sum(fresh.get((part.section, part.index), 0) for part in after[at + 1 :])
    scale = 1 / CHARS_PER_TOKEN if known_tokens is None or not total else known_tokens / total
    section = "model" if not same_model else min(old.section, new.section, key=_ORDER.index)
    return PrefixBreak(
        section=section,
        from_index=old.index if old.section == section else None,
        to_index=new.index if new.section == section else None,
        offset=max(offset - new.label, 0) if section in ("system", "messages") else 0,
        repaid_tokens=round((behind - unpaid) * scale),
        uncached_tokens=round(behind * scale),
    )


def _tool(tool: ToolDef) -> tuple[Hashable, str]:
    text = dump_json([tool.name, tool.description, without_cache_marks(tool.schema)])
    return text, text


def _label(text: str, role: str) -> int:
    label = f"[{role}] "
    return len(label) if text.startswith(label) else 0
