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

from unspool.context.marks import Key, Mark, Spoken, held_marks, normalised
from unspool.context.memory import Texts
from unspool.events import CtxMessage

__all__ = ["INSTRUCTION_ROLES", "OUTPUT_ROLES", "Use", "find_uses"]

OUTPUT_ROLES: Final = frozenset({"assistant", "model", "ai"})
INSTRUCTION_ROLES: Final = frozenset({"system", "developer"})

ENOUGH: Final = 0.9
"""Summed strength of the marks of one message in one output that makes it a use."""

_MAX_HOLDERS: Final = 3
_LOOKED_AT: Final = 16
_ECHO: Final = 0.5  # of a mark's strength for holders other than the latest: the model most likely read it there
# A file listing with line numbers holds every small number, and a long page every common word: that an output has one
# of them too says little, while of an answer of five words two are much. Sizes are different tokens of the message.
_SMALL_SOURCE: Final = 400
_SENTENCE: Final = 12
_PHRASE: Final = 4
_LARGE_SOURCE_NUMBER: Final = 0.2
# So does a long output: a whole file written has words in common with any text. Counted in marks.
_SHORT_OUTPUT: Final = 40
# A word in a fifth of all outputs is what the whole run is about.
_COMMON_SHARE: Final = 0.2
_COMMON_LEAST: Final = 5


class Use(Struct, frozen=True):
    """One output that refers to a message: its index, how surely, and the strongest mark they share."""

    by: int
    score: float
    mark: Mark


def find_uses(
    system_prompt: str,
    messages: Sequence[CtxMessage],
    replaced_by: Mapping[int, int] | None = None,
    texts: Texts | None = None,
) -> list[list[Use]]:
    """For each message the later outputs that refer to it, in order.

    Args:
        replaced_by: index of a message → index of the later one that took its place. Once that is there, marks both
            have are its own.
        texts: what is known of these messages already.

    Work is linear in the text, apart from marks that are both held and spoken very often, which are given up.
    """
    index = _Index(messages, replaced_by or {}, texts or Texts())
    index.read(system_prompt)
    return index.uses()


class _Index:
    """Who spoke and who held each mark, and what that says for each pair of a message and an output."""

    def __init__(self, messages: Sequence[CtxMessage], replaced_by: Mapping[int, int], texts: Texts) -> None:
        self._texts = texts
        self._messages = messages
        self._replaced_by = replaced_by
        self._is_output = [message.role in OUTPUT_ROLES for message in messages]
        self._spoken: dict[int, Spoken] = {}
        self._spoken_at: defaultdict[Key, list[int]] = defaultdict(list)
        self._held_at: defaultdict[Key, list[int]] = defaultdict(list)
        self._instructed: set[Key] = set()
        self._sizes = [0] * len(messages)
        self._scores: list[dict[int, tuple[float, Mark]]] = [{} for _ in messages]

    def read(self, system_prompt: str) -> None:
        """Read the outputs first, then everything for what they spoke of."""
        known: set[Key] = set()
        spoken_twice: set[Key] = set()
        for at, message in enumerate(self._messages):
            if self._is_output[at]:
                spoken = self._spoken[at] = self._texts.spoken(message)
                spoken_twice.update(known.intersection(spoken.lasting_keys()))
                known.update(spoken.all_keys())
        self._instructed, _ = held_marks(system_prompt, known)
        self._texts.ask_for(known)
        for at, message in enumerate(self._messages):
            if not self._is_output[at]:
                keys, self._sizes[at] = self._texts.held(message, known)
                if message.tool_call_id and (call := normalised(message.tool_call_id)) in known:
                    keys.add(call)
                for key in keys:
                    self._held_at[key].append(at)
        # Most of what is said is said once and stands nowhere else: only the rest is looked at again.
        relevant = spoken_twice.union(self._held_at)
        for at, spoken in self._spoken.items():
            for key in relevant.intersection(spoken.all_keys()):
                self._spoken_at[key].append(at)

    def uses(self) -> list[list[Use]]:
        """Every mark credited, then what is enough."""
        common = max(_COMMON_LEAST, _COMMON_SHARE * len(self._spoken))
        for key, spoken_at in self._spoken_at.items():
            mark = self._spoken[spoken_at[0]].get(key)
            if key in self._instructed or mark is None or (mark.kind == "word" and len(spoken_at) > common):
                continue
            self._credit(key, spoken_at, self._held_at.get(key, []))
        return [
            [Use(by, score, mark) for by, (score, mark) in sorted(found.items()) if score >= ENOUGH]
            for found in self._scores
        ]

    def _credit(self, key: Key, spoken_at: list[int], sources: list[int]) -> None:
        """Give every saying of one mark to the messages it may come from."""
        if not sources or spoken_at[0] < sources[0]:
            # What a model said first is its own; results that hold it too echo the call they answer.
            sources = spoken_at[:1]
        elif self._messages[sources[0]].role in INSTRUCTION_ROLES:
            return
        for by in spoken_at:
            # Enough of the latest to see which of them are still current.
            before = sources[: bisect_left(sources, by)][-_LOOKED_AT:]
            current = before
            if any(at in self._replaced_by for at in before):
                current = [at for at in before if not self._is_replaced(at, before)]
            if len(current) > _MAX_HOLDERS:
                continue
            mark = self._spoken[by].get(key)
            if mark is not None:
                for at in current:
                    self._add(at, by, mark, 1.0 if at == current[-1] else _ECHO)

    def _add(self, at: int, by: int, mark: Mark, share: float) -> None:
        strength = share * mark.strength * _weight(mark, self._sizes[at], self._spoken[by].size)
        total, strongest = self._scores[at].get(by, (0.0, mark))
        self._scores[at][by] = (total + strength, mark if mark.strength > strongest.strength else strongest)

    def _is_replaced(self, at: int, before: Sequence[int]) -> bool:
        successor = self._replaced_by.get(at)
        for _ in range(_LOOKED_AT):
            if successor is None:
                break
            if successor in before:
                return True
            successor = self._replaced_by.get(successor)
        return False


def _weight(mark: Mark, source_size: int, output_size: int) -> float:
    """What is left of a mark's strength where a common word or a small number may agree by chance."""
    if mark.kind == "word":
        brief = 3.0 if source_size <= _PHRASE else 1.5 if source_size <= _SENTENCE else 1.0
        return brief * min(1.0, _SMALL_SOURCE / max(source_size, 1)) * min(1.0, _SHORT_OUTPUT / max(output_size, 1))
    if mark.kind == "number" and mark.strength < 1:
        return 2.0 if source_size <= _SENTENCE else 1.0 if source_size <= _SMALL_SOURCE else _LARGE_SOURCE_NUMBER
    return 1.0
