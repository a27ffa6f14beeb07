"""Which messages of each call of a process an earlier one had sent, wherever in the prompt they stood there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from unspool.recording.again import align, message_key, slid_over
from unspool.recording.prompts import Prompt
from unspool.recording.sent import SentMessage

__all__ = ["Again", "Placed"]

_INSTRUCTION_ROLES = ("system", "developer")


class Placed(NamedTuple):
    """One element that a call added behind what it kept: the `number` of a message is the same wherever it is sent.

    `again`: the call before had it. `closes`: it is the last of what that call sent, so an answer to it may follow.
    """

    number: int
    again: bool = False
    closes: bool = False


class _Call(NamedTuple):
    """One call, as far as later ones are compared with it: what it added, and where its instructions end."""

    prompt: Prompt
    keys: list[bytes]
    placed: list[Placed]
    begins: int | None
    chain: int


class Again:
    """Takes the calls of one process in their order.

    A call is compared with the one it extends, or with the last of the conversation that its first message is from:
    the request of a window that slid on has nothing in common with the one before in the same place.
    """

    def __init__(self) -> None:
        self._calls: dict[int, _Call] = {}  # by position
        self._keys: dict[int, bytes] = {}  # of elements, by identity: the prompts hold them
        self._chains: list[int] = []  # positions of the last calls of conversations
        self._seen: dict[tuple[str | None, bytes], int] = {}  # the conversation that sent a message last
        self._count = 0

    def place(self, prompt: Prompt) -> tuple[list[Placed], Prompt | None]:
        """Where the elements that a call added stood before, and the call they are compared with."""
        added = prompt.sent.added
        keys = [self._key_of(element) for element in added]
        above = self._calls[prompt.before.position] if prompt.before is not None else None
        begins = self._begins(prompt, above)
        reference, start = above, prompt.kept
        if begins is not None and begins >= prompt.kept:
            slid = self._slid(prompt, keys[begins - prompt.kept :])
            if slid is not None and slid is not above:
                reference, start = slid, 0
        earlier, held = self._from(reference, start) if reference is not None else ([], [])
        placed = []
        for place in align(earlier, keys) if earlier else [None] * len(keys):
            if place is None:
                self._count += 1
                placed.append(Placed(self._count))
            else:
                placed.append(Placed(held[place].number, again=True, closes=place == len(earlier) - 1))
        chain = reference.chain if reference is not None else -1
        if reference is None or self._chains[chain] != reference.prompt.position:
            chain = len(self._chains)
            self._chains.append(prompt.position)
        self._chains[chain] = prompt.position
        self._seen.update(((prompt.provider, key), chain) for key in keys)
        self._calls[prompt.position] = _Call(prompt, keys, placed, begins, chain)
        return placed, reference.prompt if reference is not None else None

    def _slid(self, prompt: Prompt, keys: Sequence[bytes]) -> _Call | None:
        """The last call of the conversation over which a window slid to make this request."""
        chain = self._seen.get((prompt.provider, keys[0]))
        if chain is None:
            return None
        last = self._calls[self._chains[chain]]
        earlier, _ = self._from(last, last.begins or 0)
        return last if slid_over(earlier, keys) else None

    def _from(self, call: _Call, start: int) -> tuple[list[bytes], list[Placed]]:
        """The elements of a call from a place on."""
        parts = []
        end = call.prompt.count
        while end > start:
            kept = call.prompt.kept
            if end > kept:
                here = slice(max(start - kept, 0), end - kept)
                parts.append((call.keys[here], call.placed[here]))
                end = kept
            if call.prompt.before is None:
                break
            call = self._calls[call.prompt.before.position]
        parts.reverse()
        return [key for keys, _ in parts for key in keys], [one for _, placed in parts for one in placed]

    def _begins(self, prompt: Prompt, above: _Call | None) -> int | None:
        """The place of the first element that is no instruction; None where all are."""
        if above is not None and above.begins is not None and above.begins < prompt.kept:
            return above.begins
        for place, element in enumerate(prompt.sent.added, prompt.kept):
            if any(message.role not in _INSTRUCTION_ROLES for message in element.parts):
                return place
        return None

    def _key_of(self, element: SentMessage) -> bytes:
        known = self._keys.get(id(element))
        if known is None:
            known = self._keys[id(element)] = b"".join(map(message_key, element.parts))
        return known
