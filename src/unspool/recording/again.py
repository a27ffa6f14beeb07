"""Which messages of a request were in the one before, where a history is not only added to: cut, slid, summarised.

Messages are compared by what they say (`message_key`), and equal ones are told apart by their order. The work is linear
in the messages of the two requests.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict, deque
from collections.abc import Sequence

import msgspec

from unspool.events import CtxMessage

__all__ = ["align", "message_key", "slid_over"]


def message_key(message: CtxMessage) -> bytes:
    """What a message says, as 16 bytes; where a provider's cache mark stands makes no difference."""
    digest = hashlib.blake2b(digest_size=16)
    calls = [(call.name, call.arguments, call.id) for call in message.tool_calls or ()]
    head = f"{message.role}\0{message.tool_call_id}\0{calls!r}\0"
    digest.update(head.encode("utf-8", "surrogatepass"))
    digest.update(message.content.encode("utf-8", "surrogatepass"))
    for part in message.parts or ():
        data = part.data
        if isinstance(data, dict):
            data = {key: value for key, value in data.items() if key != "cache_control"}
        try:
            raw = msgspec.json.encode([part.kind, part.text, data])
        except (TypeError, ValueError, msgspec.MsgspecError, RecursionError):
            raw = repr((part.kind, part.text, data)).encode("utf-8", "surrogatepass")
        digest.update(raw)
    return digest.digest()


def align(before: Sequence[bytes], after: Sequence[bytes]) -> list[int | None]:
    """For each message of `after` its place in `before`, None for one that is new. No place is given twice.

    Messages keep their order; one that changed its place is found too if it stands only once in either.
    """
    places: defaultdict[bytes, deque[int]] = defaultdict(deque)
    for at, key in enumerate(before):
        places[key].append(at)
    found: list[int | None] = []
    reached = -1
    for key in after:
        waiting = places[key]
        while waiting and waiting[0] < reached:
            waiting.popleft()
        place = waiting.popleft() if waiting else None
        found.append(place)
        reached = reached if place is None else place
    once = {key for key, count in Counter(before).items() if count == 1} if None in found else set()
    once &= {key for key, count in Counter(after).items() if count == 1} if once else set()
    if once:
        only = {key: at for at, key in enumerate(before) if key in once}
        found = [only.get(key) if place is None else place for key, place in zip(after, found, strict=True)]
    return found


def slid_over(before: Sequence[bytes], after: Sequence[bytes]) -> int:
    """How many of the last messages of `before` are the first of `after`: a window that slid over a conversation."""
    # The failure function of Knuth, Morris and Pratt: how much of the beginning of `after` ends here.
    fails = [0] * len(after)
    length = 0
    for place in range(1, len(after)):
        while length and after[place] != after[length]:
            length = fails[length - 1]
        length += after[place] == after[length]
        fails[place] = length
    length = 0
    for key in before:
        while length and (length == len(after) or key != after[length]):
            length = fails[length - 1]
        length += bool(after) and key == after[length]
    return length
