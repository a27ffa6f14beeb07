"""Which model outputs refer to which earlier message, and by what.

Only what a message brought into the context can show that it was used: a path the model itself asked for is in the
tool's answer too, and proves nothing. So a mark is credited to the messages that held it before the output, provided
the first of them was no instruction and no output; the more messages hold it, the less it says of each.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from unspool.context.marks import Key, Mark, held_marks, message_text, normalised, spoken_marks, spoken_text
from unspool.events import CtxMessage

__all__ = ["INSTRUCTION_ROLES", "OUTPUT_ROLES", "Use", "find_uses"]

OUTPUT_ROLES: Final = frozenset({"assistant", "model", "ai"})
INSTRUCTION_ROLES: Final = frozenset({"system", "developer"})

ENOUGH: Final = 0.9
"""Summed strength of the marks of one message in one output that makes it a use."""

_MAX_HOLDERS: Final = 3
_ECHO: Final = 0.5  # of a mark's strength for holders other than the latest: the model most likely read it there
# A file listing with line numbers holds every small number, and a long page every common word: that an output has one
# of them too says little. Sizes are different tokens of the message.
_SMALL_SOURCE: Final = 400
_LARGE_SOURCE_NUMBER: Final = 0.2
# So does a long output: a whole file written has words in common with any text. Counted in marks.
_SHORT_OUTPUT: Final = 150
# A word in a fifth of all outputs is what the whole run is about.
_COMMON_SHARE: Final = 0.2
_COMMON_LEAST: Final = 5

_NO_MARKS: Final[Mapping[Key, Mark]] = {}


class Use(Struct, frozen=True):
    """One output that refers to a message: its index, how surely, and the strongest mark they share."""

    by: int
    score: float
    mark: Mark


def find_uses(
    system_prompt: str, messages: Sequence[CtxMessage], replaced_by: Mapping[int, int] | None = None
) -> list[list[Use]]:
    """For each message the later outputs that refer to it, in order.

    Args:
        replaced_by: index of a message → index of the later one that took its place. Once that is there, marks both
            have are its own.

    Work is linear in the text, apart from marks that are both held and spoken very often, which are given up.
    """
    spoken = [
        spoken_marks(spoken_text(message)) if message.role in OUTPUT_ROLES else _NO_MARKS for message in messages
    ]
    sayings: defaultdict[Key, list[int]] = defaultdict(list)
    for index, marks in enumerate(spoken):
        for key in marks:
            sayings[key].append(index)
    known = set(sayings)
    instructed, _ = held_marks(system_prompt, known)
    holders: defaultdict[Key, list[int]] = defaultdict(list)
    sizes = [0] * len(messages)
    for index, message in enumerate(messages):
        if message.role in OUTPUT_ROLES:
            keys: set[Key] = set(spoken[index])
        else:
            keys, sizes[index] = held_marks(message_text(message), known)
            if message.tool_call_id and (call := normalised(message.tool_call_id)) in known:
                keys.add(call)
        for key in keys:
            holders[key].append(index)
    scores: list[dict[int, tuple[float, Mark]]] = [{} for _ in messages]
    outputs = sum(message.role in OUTPUT_ROLES for message in messages)
    for key, spoken_at in sayings.items():
        if key not in instructed:
            _credit(key, spoken_at, holders[key], messages, spoken, sizes, outputs, replaced_by or {}, scores)
    return [
        [Use(by, score, mark) for by, (score, mark) in sorted(found.items()) if score >= ENOUGH] for found in scores
    ]


def _credit(
    key: Key,
    spoken_at: list[int],
    held_at: list[int],
    messages: Sequence[CtxMessage],
    spoken: Sequence[Mapping[Key, Mark]],
    sizes: list[int],
    outputs: int,
    replaced_by: Mapping[int, int],
    scores: list[dict[int, tuple[float, Mark]]],
) -> None:
    """Give every saying of one mark to the messages it may come from."""
    first = held_at[0]
    role = messages[first].role
    if role in INSTRUCTION_ROLES:
        return
    is_word = spoken[spoken_at[0]][key].kind == "word"
    if is_word and len(spoken_at) > max(_COMMON_LEAST, _COMMON_SHARE * outputs):
        return
    if role in OUTPUT_ROLES:
        sources = [first]
    else:
        sources = [index for index in held_at if messages[index].role not in OUTPUT_ROLES]
    for by in spoken_at:
        before = sources[: bisect_left(sources, by)]
        current = [index for index in before[-16:] if not _is_replaced(index, before, replaced_by)]
        if len(current) > _MAX_HOLDERS:
            # Replacement can only shorten the list by as much as was looked at; with this many it stays common.
            continue
        for index in current:
            mark = spoken[by][key]
            strength = mark.strength * _weight(mark, sizes[index], len(spoken[by])) * (1.0 if index == current[-1] else _ECHO)
            total, strongest = scores[index].get(by, (0.0, mark))
            if mark.strength > strongest.strength:
                strongest = mark
            scores[index][by] = (total + strength, strongest)


def _is_replaced(index: int, before: list[int], replaced_by: Mapping[int, int]) -> bool:
    successor = replaced_by.get(index)
    while successor is not None:
        if successor in before[-16:]:
            return True
        successor = replaced_by.get(successor)
    return False


def _weight(mark: Mark, source_size: int, output_size: int) -> float:
    """What is left of a mark's strength where a common word or a small number may agree by chance."""
    if mark.kind == "word":
        return min(1.0, _SMALL_SOURCE / max(source_size, 1)) * min(1.0, _SHORT_OUTPUT / output_size)
    if mark.kind == "number" and mark.strength < 1 and source_size > _SMALL_SOURCE:
        return _LARGE_SOURCE_NUMBER
    return 1.0
