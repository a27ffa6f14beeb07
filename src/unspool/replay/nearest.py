"""The recorded exchanges that come nearest to a request, and why each of them was not served for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Final

from msgspec import Struct

from unspool.replay.diff import ContextDiff
from unspool.replay.messages import seen_context
from unspool.replay.requests import Request, compare_contexts, recorded_request
from unspool.replay.scene import Scene
from unspool.replay.varying import masked
from unspool.serving.fingerprint import body_digest, canonical_digest, request_key
from unspool.serving.journal import Entry
from unspool.serving.plan import Offer

__all__ = ["Near", "Recorded", "nearest", "place_of", "why_different"]

_SHOWN: Final = 3
_LOOKED_AT: Final = 200  # exchanges whose bodies are read and parsed; those beside the expected one first


class Recorded(Struct, frozen=True):
    """A recorded call, as a person finds it again.

    Attributes:
        offer: its number in the rerun.
        kind, name: `llm`, `http` or `tool`, and what was called.
        record_id: the recording it is in.
        seq_num, call: where, as far as it has one.
        at: the line of the agent's code that made it.
        task: its place in the tree of tasks.
    """

    offer: int
    kind: str
    name: str
    record_id: str
    seq_num: int | None = None
    call: int | None = None
    at: str | None = None
    task: str = "0"


class Near(Struct, frozen=True):
    """A recorded exchange that is like the request.

    Attributes:
        place: which one.
        likeness: 0 to 1; 1 is the same request.
        why: why it was not served for it, in words.
    """

    place: Recorded
    likeness: float
    why: str


def place_of(offer: Offer) -> Recorded:
    """What a report says of an offer."""
    seq_num = offer.snapshot if offer.snapshot is not None else offer.syscall
    return Recorded(offer.number, offer.kind, offer.name, offer.record_id, seq_num, offer.call, offer.at, offer.task)


def nearest(asked: Request, entry: Entry, expected: Offer | None, scene: Scene) -> list[Near]:
    """The three recorded exchanges most like `asked`, without the expected one; the likest first."""
    kind = "llm" if asked.snapshot is not None else "http"
    around = expected.number if expected is not None else len(scene.offers)
    digest = body_digest(asked.body) if asked.body is not None else None
    key = request_key(asked.method or "", asked.url or "", is_model_call=kind == "llm")
    readers = scene.readers
    candidates = [one for one in scene.offers if one.kind == kind and one is not expected and one.record_id in readers]
    candidates.sort(key=lambda one: (one.sha256 != digest, one.key != key, abs(one.number - around)))
    likeness = _Likeness(asked, entry, key, digest)
    scored = []
    for offer in candidates[:_LOOKED_AT]:
        recorded = recorded_request(offer, readers[offer.record_id])
        scored.append((likeness.of(offer, recorded), -abs(offer.number - around), offer, recorded))
    scored.sort(key=lambda one: one[:2], reverse=True)
    return [
        Near(place_of(offer), round(score, 3), _why(asked, entry, offer, recorded, scene))
        for score, _, offer, recorded in scored[:_SHOWN]
        if score > 0
    ]


class _Likeness:
    """How much a recorded exchange is like one request: mostly by the messages both have."""

    def __init__(self, asked: Request, entry: Entry, key: str, digest: str | None) -> None:
        self.entry, self.key, self.digest = entry, key, digest
        self.body = asked.body
        self.system, self.messages, self.texts = _keys(asked)
        self.model = asked.snapshot.model if asked.snapshot is not None else None

    def of(self, offer: Offer, recorded: Request) -> float:
        same_key = offer.key == self.key
        if same_key and offer.sha256 == self.digest:
            return 1.0
        if self.system is None:
            same_body = recorded.body is not None and recorded.body == self.body
            same_path = offer.key.partition("?")[0] == self.key.partition("?")[0]
            return 0.7 * (same_key or 0.6 * same_path) + 0.2 * same_body
        system, messages, texts = _keys(recorded)
        # A message that differs in a time or an id only is nearly the same one.
        shared = max((messages & self.messages).total(), 0.9 * (texts & self.texts).total())
        longest = max(messages.total(), self.messages.total())
        same_place = (offer.record_id, offer.task) == (self.entry.record_id, self.entry.task)
        same_model = recorded.snapshot is not None and recorded.snapshot.model == self.model
        overlap = shared / longest if longest else 1.0
        return 0.6 * overlap + 0.2 * (system == self.system) + 0.1 * same_model + 0.05 * same_place + 0.04 * same_key


def _keys(asked: Request) -> tuple[Hashable, Counter[Hashable], Counter[str]]:
    """The system prompt and the messages, for counting how many of them two requests share; None without any."""
    if asked.snapshot is None:
        return None, Counter(), Counter()
    seen = seen_context(asked.snapshot)
    texts = Counter(masked(message.text) for message in seen.messages)
    return ("", seen.system_prompt), Counter(message.key for message in seen.messages), texts


def _why(asked: Request, entry: Entry, offer: Offer, recorded: Request, scene: Scene) -> str:
    """Why this one was not served."""
    difference = why_different(recorded, asked)
    if offer.number in scene.made:
        taken = next((one for one in scene.journal if one.offer == offer.number and one.kind != "divergence"), None)
        where = f" for the request at {taken.at}" if taken is not None and taken.at else ""
        return f"already served{where}" + (f", and {difference}" if difference else "; otherwise the same")
    if difference:
        return difference
    if offer.unservable is not None:
        return f"the same request, but {offer.unservable}"
    if (offer.record_id, offer.task) != (entry.record_id, entry.task):
        return f"the same request, made in another place (task {offer.task}, here task {entry.task})"
    return "the same request, but its turn has not come: calls recorded before it were not made"


def why_different(recorded: Request, asked: Request) -> str:
    """In a few words, what of a recorded request differs from one that was made; "" if nothing that counts."""
    if recorded.method is None or recorded.url is None:
        return "what was asked is not recorded"
    if (recorded.method, recorded.url) != (asked.method, asked.url):
        is_model_call = asked.snapshot is not None
        keys = [request_key(one.method or "", one.url or "", is_model_call=is_model_call) for one in (recorded, asked)]
        if keys[0] != keys[1]:
            return f"it is another request: {keys[0]}"
    if recorded.body is not None and asked.body is not None:
        same: Callable[[bytes], str | None] = canonical_digest
        if same(recorded.body) == same(asked.body):
            return ""
    diff = compare_contexts(recorded, asked)
    if diff is None:
        return "its body differs"
    return ", ".join(_differences(diff)) or "its body differs in what is no part of the context"


def _differences(diff: ContextDiff) -> list[str]:
    """Each kind of difference in a few words, messages counted from 1 as in the request."""
    found = []
    if diff.system_prompt.changed:
        found.append("the system prompt differs")
    messages = diff.messages
    edited = [str(one.to_index + 1) for one in messages.edited]
    if edited:
        found.append(
            f"message{'s' if len(edited) > 1 else ''} {_listed(edited)} differ{'' if len(edited) > 1 else 's'}"
        )
    if messages.added and len(messages.added) == len(messages.removed):
        found.append(f"{_count(len(messages.added), 'message')} {_are(len(messages.added))} another")
    elif messages.removed:
        found.append(
            f"{_count(len(messages.removed), 'message')} of it {_are(len(messages.removed))} not in the request"
        )
    if messages.added and len(messages.added) != len(messages.removed):
        found.append(f"the request has {_count(len(messages.added), 'message')} more")
    if messages.moved:
        found.append("messages are in another order")
    tools = diff.tools
    if tools.added or tools.removed or tools.changed or tools.reordered:
        found.append("the tools offered differ")
    if diff.params:
        names = [change.path for change in diff.params]
        found.append(f"{_listed(names)} differ{'' if len(names) > 1 else 's'}")
    return found


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:4])
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("s" if number != 1 else "")


def _are(number: int) -> str:
    return "is" if number == 1 else "are"
