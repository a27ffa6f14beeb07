"""Where a prompt stopped being the beginning of the next one, so that the provider's cache could not hold: and why."""

from __future__ import annotations

import re
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from unspool.context.calls import Block, Call, Run
from unspool.context.charges import RatesOf

__all__ = ["CacheBreak", "find_breaks"]

Section: TypeAlias = Literal["model", "tools", "system", "messages"]
_SHOWN: Final = 60  # characters of the text around a change
_BEFORE: Final = 24
_LOOKED_AT: Final = 1 << 20  # characters of a text that are compared

_CLOCK: Final = re.compile(
    r"\d{4}-\d\d-\d\d|\d{1,2}:\d\d(?::\d\d)?|\b1[6-9]\d{8}(?:\d{3})?\b"
    r"|\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\b|\b(?:mon|tues|wednes|thurs|fri|satur|sun)day\b",
    re.IGNORECASE,
)
_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{9,}|\b(?=\w*\d)(?=\w*[a-z])\w{8,}\b", re.IGNORECASE)


class CacheBreak(Struct):
    """The first difference between the prompt of a call and the one before it in its conversation.

    A provider's cache holds beginnings of prompts, so all behind the difference had to be processed as new.

    Attributes:
        call, before: the two calls.
        section: where the difference is; `block` what stands there now, `old` what stood there (None: nothing).
        offset: how many characters of that block are the same; `before_text` and `after_text` stand around the change.
        cause: what it probably comes from, in words.
        repaid: tokens behind the difference that the call before had sent too.
        cached: tokens that the provider says it read from its cache all the same; None if it does not say.
        usd: what the repaid tokens cost more than from the cache; None without a price.
    """

    call: Call
    before: Call
    section: Section
    block: Block | None
    old: Block | None
    offset: int
    before_text: str
    after_text: str
    cause: str
    repaid: float
    cached: int | None
    usd: float | None = None


def find_breaks(run: Run, rates_of: RatesOf | None = None) -> list[CacheBreak]:
    """The breaks of all conversations, in order. Calls that simply go on cost no work."""
    found = []
    for positions in run.conversations:
        before: Call | None = None
        for position in positions:
            call = run.calls[position]
            if not call.is_paid and call is not run.calls[-1]:
                continue  # it left nothing in the cache
            if before is not None:
                broken = _break(before, call)
                if broken is not None:
                    _price(broken, rates_of)
                    found.append(broken)
            before = call
    return sorted(found, key=lambda one: one.call.position)


def _break(before: Call, call: Call) -> CacheBreak | None:
    same_model = before.model == call.model or not before.model or not call.model
    if call.goes_on_from(before) and same_model:
        return None
    old, new = before.blocks, call.blocks
    at = 0
    limit = min(len(old), len(new))
    while same_model and at < limit and (old[at] is new[at] or _same(old[at], new[at])):
        at += 1
    if at == len(old) or at == len(new):
        return None  # one is the beginning of the other
    was, now = old[at], new[at]
    section: Section = "model" if not same_model else _section(was, now)
    offset = suffix = 0
    changed_old = changed_new = ""
    if same_model and was.category == now.category:
        offset = _shared_start(was.text, now.text)
        suffix = _shared_start(was.text[offset:][::-1], now.text[offset:][::-1])
        changed_old = was.text[offset : len(was.text) - suffix]
        changed_new = now.text[offset : len(now.text) - suffix]
    known = {id(block) for block in old[at:]}
    texts = {(block.category, block.text) for block in old[at:] if block.category in ("tools", "system")}
    repaid = sum(block.weight for block in new[at:] if id(block) in known or (block.category, block.text) in texts)
    if id(now) not in known and now.text:
        repaid += now.weight * suffix / len(now.text)
    return CacheBreak(
        call, before, section, now, was, offset,
        _around(was.text, offset), _around(now.text, offset),
        _cause(section, (before, call), (was, now), (changed_old, changed_new)),
        repaid * call.factor,
        call.llm.cached_tokens if call.llm is not None else None,
    )  # fmt: skip


def _same(old: Block, new: Block) -> bool:
    return (
        old.category == new.category
        and old.category in ("tools", "system")
        and old.text == new.text
        and old.name == new.name
    )


def _section(old: Block, new: Block) -> Section:
    kinds = (old.category, new.category)
    return "tools" if "tools" in kinds else "system" if "system" in kinds else "messages"


def _shared_start(one: str, other: str) -> int:
    """How many characters the two begin with alike, by bisection: comparing slices runs at the speed of memcmp."""
    low, high = 0, min(len(one), len(other), _LOOKED_AT)
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _around(text: str, offset: int) -> str:
    start = max(offset - _BEFORE, 0)
    return (
        ("…" if start else "") + text[start : offset + _SHOWN - _BEFORE] + ("…" if len(text) > offset + _SHOWN else "")
    )


def _cause(section: Section, calls: tuple[Call, Call], blocks: tuple[Block, Block], changed: tuple[str, str]) -> str:
    (before, call), (was, now), (old, new) = calls, blocks, changed
    if section == "model":
        return f"another model: {before.model} before, {call.model} now; each has a cache of its own"
    if section == "tools":
        earlier = [block.name for block in before.head if block.category == "tools"]
        later = [block.name for block in call.head if block.category == "tools"]
        if earlier != later and sorted(earlier) == sorted(later):
            return "the same tools in another order: sort them"
        if set(earlier) != set(later):
            added, gone = sorted(set(later) - set(earlier)), sorted(set(earlier) - set(later))
            changes = [f"{', '.join(added)} added"] * bool(added) + [f"{', '.join(gone)} gone"] * bool(gone)
            return f"other tools: {'; '.join(changes)}"
        return _changing(was, now, old, new) or f"the definition of {now.name} changed"
    if section == "system":
        changing = _changing(was, now, old, new)
        return changing or "the system prompt changed: put what varies behind what stays, at the end of the messages"
    if len(call.messages) < len(before.messages):
        return "the history was cut or compacted"
    if was.category == now.category:
        return _changing(was, now, old, new) or f"the history was edited: {was.key} says something else now"
    return f"the history was edited: {was.key} ({was.category}) is not there any more"


def _changing(was: Block, now: Block, old: str, new: str) -> str | None:
    """What kind of thing changed, where a single short one did."""
    if not old or not new or max(len(old), len(new)) > 80:
        return None
    where = {"system": "the system prompt", "tools": f"the definition of {now.name}"}.get(now.category, was.key)
    # A clock that ticked may differ in one digit only: look at the whole word around it.
    at = _shared_start(was.text, now.text)
    around = now.text[max(at - 24, 0) : at + len(new) + 12]
    start, end = at - max(at - 24, 0), at - max(at - 24, 0) + len(new)
    for pattern, what in ((_CLOCK, "a clock"), (_ID, "an id that is another one each time")):
        if any(found.start() < end and found.end() > start for found in pattern.finditer(around)):
            return f"{what} in {where}: leave it out, or move it to the last message"
    if old.strip().isdigit() and new.strip().isdigit():
        return f"a counter in {where}: leave it out, or move it to the last message"
    return None


def _price(broken: CacheBreak, rates_of: RatesOf | None) -> None:
    rates = rates_of(broken.call) if rates_of is not None else None
    if rates is not None:
        llm = broken.call.llm
        # What was written to the cache again costs the price of writing.
        paid = rates.cache_write if llm is not None and llm.cache_write_tokens else rates.input
        broken.usd = broken.repaid * max(paid - rates.cached, 0.0)
