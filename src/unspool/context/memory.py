"""What was found out about the texts and costs of a run, kept for a look at another of its calls.

With it, looking at one call after another costs what differs between them; without it, each look reads every text. The
findings are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from unspool.context.calls import Block, Call
from unspool.context.charges import Charge, Charges, RatesOf
from unspool.context.marks import Key, Spoken, held_marks, message_text, spoken_text
from unspool.events import CtxMessage, LLMResponse

__all__ = ["AnswerOf", "Memory", "Texts"]

AnswerOf: TypeAlias = Callable[[Call], LLMResponse | None]
"""What the model answered in a call; None if it is not recorded."""

_FEW = 250  # questions that are cheaper answered one by one than by going through all calls


class Texts:
    """The marks of messages. A message must not change once it was looked at."""

    def __init__(self) -> None:
        self._known: set[Key] = set()  # every mark that was ever asked for
        self._spoken: dict[int, tuple[CtxMessage, Spoken]] = {}  # by identity of the message, which is kept alive
        self._held: dict[int, tuple[CtxMessage, frozenset[Key], int]] = {}

    def spoken(self, message: CtxMessage) -> Spoken:
        """What a model output says."""
        found = self._spoken.get(id(message))
        if found is None:
            found = self._spoken[id(message)] = message, Spoken(spoken_text(message))
        return found[1]

    def ask_for(self, asked: set[Key]) -> None:
        """Say which marks will be looked for, by the next calls of `held`."""
        if not asked <= self._known:
            self._known |= asked
            self._held.clear()

    def held(self, message: CtxMessage, asked: set[Key]) -> tuple[set[Key], int]:
        """As `held_marks` of the text of a message, for marks that `ask_for` was told of."""
        found = self._held.get(id(message))
        if found is None:
            keys, size = held_marks(message_text(message), self._known)
            found = self._held[id(message)] = message, frozenset(keys), size
        return asked.intersection(found[1]), found[2]


class Memory:
    """All that is kept of one run, for one list of prices.

    Attributes:
        texts: the marks of its messages.
    """

    def __init__(self) -> None:
        self.texts = Texts()
        self._said: dict[int, CtxMessage | None] = {}  # answers that no later call sent again, by position
        self._books: dict[int, _Book] = {}

    def answer(self, call: Call, answer_of: AnswerOf) -> CtxMessage | None:
        """What a call was answered, as a message; None if that is nothing, or not recorded."""
        if call.position not in self._said:
            said, message = answer_of(call), None
            if said is not None and (said.text or said.tool_calls):
                message = CtxMessage("assistant", said.text, tool_calls=said.tool_calls or None)
            self._said[call.position] = message
        return self._said[call.position]

    def charges(
        self, calls: Sequence[Call], rates_of: RatesOf | None, asked: Iterable[tuple[Block, int]]
    ) -> dict[tuple[int, int], Charge]:
        """As `Charges(calls, rates_of).since(asked)` for a whole conversation."""
        book = self._books.get(calls[0].conversation)
        if book is None:
            book = self._books[calls[0].conversation] = _Book(calls, rates_of)
        return book.since(list(asked))


class _Book:
    """The charges of one conversation that were asked for."""

    def __init__(self, calls: Sequence[Call], rates_of: RatesOf | None) -> None:
        self._calls, self._rates_of = calls, rates_of
        self._found: dict[tuple[int, int], Charge] = {}
        self._blocks: dict[int, Block] = {}  # kept alive, so that their identities stay theirs
        self._charges: Charges | None = None

    def since(self, asked: list[tuple[Block, int]]) -> dict[tuple[int, int], Charge]:
        missing = [one for one in asked if (id(one[0]), one[1]) not in self._found]
        self._blocks.update((id(block), block) for block, _ in missing)
        if len(missing) > _FEW:
            self._found |= Charges(self._calls, self._rates_of).since(missing)
        elif missing:
            if self._charges is None:
                self._charges = Charges(self._calls, self._rates_of)
            for block, position in missing:
                self._found[id(block), position] = self._charges.alone(block, position)
        return {(id(block), position): self._found[id(block), position] for block, position in asked}
