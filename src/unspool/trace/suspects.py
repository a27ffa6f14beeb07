"""Which steps of a run that went wrong to look at first, from its structure alone: no model is asked.

A step is suspect when much of what follows rests on it (its own words, names and numbers come back in later steps) and
when it brought in things that nothing before it had shown, when what it asked for gave a number of the last answer, or
when it was followed by trouble. This ranks; it does not judge: the figures of `python -m benchmarks whowhen` say how
often the step that people blame is among the first few.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

__all__ = ["Suspect", "Turn", "suspects"]

_TERM: Final = re.compile(r"[A-Za-z][A-Za-z0-9_./:@'-]{3,}|\d[\d.,:/-]*\d|\d")
_TROUBLE: Final = re.compile(
    r"traceback|exitcode: [1-9]|\berror\b|\bexception\b|\bfailed\b|\bfailure\b|not found|\bunable\b|\bcannot\b|"
    r"couldn't|can't|timed? ?out|no results?|unfortunately|denied",
    re.IGNORECASE,
)
_COMMON: Final = 4  # a word in more than one of so many steps says nothing about who used what
_REST_ON: Final = 2  # terms taken over that make a step rest on an earlier one
_SHOWN: Final = 3  # numbers in a reason


class Turn(Struct):
    """One step: who spoke, what was said, and whether it is somebody's decision or what the world gave back.

    `given`: a task, a tool's output, a person: it can be wrong, but it is nobody's mistake in the run. `failed` is
    known of tools that were recorded; otherwise the words tell of trouble. `asks` names the tools it calls.
    """

    speaker: str
    text: str
    given: bool = False
    failed: bool = False
    asks: list[str] = []


class Suspect(Struct):
    """One step with its score (higher is more suspect) and why, in words."""

    step: int
    speaker: str
    score: float
    reasons: list[str]


def suspects(turns: Sequence[Turn]) -> list[Suspect]:
    """All decisions of a run, the most suspect first; equal scores in the order of time.

    Linear in the length of the texts, and quadratic at worst in the steps that share words.
    """
    terms = [frozenset(match.lower().strip(".,:/'-") for match in _TERM.findall(turn.text)) for turn in turns]
    count = len(turns)
    spread: dict[str, int] = {}
    first: dict[str, int] = {}
    for at, words in enumerate(terms):
        for word in words:
            spread[word] = spread.get(word, 0) + 1
            first.setdefault(word, at)
    common = max(count / _COMMON, 3)
    rests: list[set[int]] = [set() for _ in turns]  # steps that each step rests on
    for at, words in enumerate(terms):
        taken: dict[int, int] = {}
        for word in words:
            if spread[word] <= common and first[word] < at:
                taken[first[word]] = taken.get(first[word], 0) + 1
        rests[at] = {source for source, shared in taken.items() if shared >= _REST_ON}
    masks = _heirs(rests)
    heirs = [mask.bit_count() for mask in masks]
    final = max((at for at, turn in enumerate(turns) if len(terms[at]) > 2 and not turn.given), default=count - 1)
    asked_for = _numbers_asked_for(turns, terms[final], first, final) if turns else {}
    found = []
    for at, turn in enumerate(turns):
        if turn.given or not turn.text.strip():
            continue
        later = count - at - 1
        new = [word for word in terms[at] if first[word] == at and spread[word] > 1]
        reach = heirs[at] / later if later else 0.0
        in_trouble = [near for near in range(at, min(at + 2, count)) if _is_trouble(turns[near])]
        reasons = []
        score = reach
        if heirs[at]:
            reasons.append(f"{heirs[at]} of {later} later steps rest on it")
        if masks[at] >> final & 1:
            score += 0.5
            reasons.append("the last answer does")
        if new:
            score += min(len(new) / 20, 0.5)
            reasons.append(f"{_counted(len(new))} it brought in later")
        if at in asked_for:
            score += 0.4
            reasons.append(f"what it asked for gave the last answer its {', '.join(sorted(asked_for[at])[:_SHOWN])}")
        if in_trouble:
            score += 0.4
            reasons.append("trouble " + ("in it" if at in in_trouble else "right after it"))
        # What comes first shapes the most, also where no words show it.
        score += 0.5 * (1 - at / count)
        found.append(Suspect(at, turn.speaker, score, reasons))
    return sorted(found, key=lambda one: (-one.score, one.step))


def _counted(things: int) -> str:
    return "1 thing comes back that" if things == 1 else f"{things} things come back that"


def _is_trouble(turn: Turn) -> bool:
    return turn.failed or _TROUBLE.search(turn.text) is not None


def _numbers_asked_for(
    turns: Sequence[Turn], words: frozenset[str], first: dict[str, int], final: int
) -> dict[int, list[str]]:
    """Numbers of the last answer that came into the run as a result, by the step that asked for it."""
    sources: dict[int, list[str]] = {}
    for word in words:
        if first[word] < final and any(letter.isdigit() for letter in word) and turns[first[word]].given:
            sources.setdefault(first[word], []).append(word)
    found: dict[int, list[str]] = {}
    asked: dict[str, int] = {}  # by tool: the step that asked for it last
    step: int | None = None
    for at, turn in enumerate(turns):
        if not turn.given:
            step = at
            asked.update(dict.fromkeys(turn.asks, at))
        elif at in sources and (source := asked.get(turn.speaker, step)) is not None:
            found.setdefault(source, []).extend(sources[at])
    return found


def _heirs(rests: list[set[int]]) -> list[int]:
    """Steps that rest on each step, directly or through others: a bit for each."""
    found = [0] * len(rests)
    for at in range(len(rests) - 1, -1, -1):
        for source in rests[at]:
            found[source] |= 1 << at | found[at]
    return found
