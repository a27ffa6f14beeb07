"""Which earlier request each request extends, so that a body costs only its new text.

An agent sends its whole history with every call, so the bodies of a run grow with the square of its turns. Here a
body is compared with the last body of each conversation (*lane*), the shared elements of its message array are kept
by reference, and only what follows them is parsed, hashed and stored. The comparison is a `memcmp`, the hash of the
whole body continues from a saved state, so the work per call depends on the new text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from unspool.events import Body
from unspool.recording.cutting import TAIL_MAX, Cut, Rests, cut_body, extend_cut
from unspool.recording.keys import key_of_hex, piece_key
from unspool.recording.poolwriter import Item, PoolWriter

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["Conversation", "CutBody", "LaneTable"]

_LANES_MAX = 64  # conversations kept for comparison, most recently used first
_LANES_BYTES = 32 << 20  # and the bytes of their last bodies, at most


class CutBody(msgspec.Struct):
    """A stored body and its place among the conversations.

    `body` refers to its bytes; `skeleton` is the body with the message array emptied, small enough to decode, None if
    it is no JSON object; `count` is the number of messages, `kept` how many of them the snapshot `prev` has too.
    """

    body: Body
    skeleton: bytes | None
    lane: int
    prev: int | None
    kept: int | None
    count: int
    retry: bool
    conversation: Conversation


class Conversation:
    """The last request of one lane, kept to compare the next one with."""

    __slots__ = (
        "around", "busy", "depth", "digest", "ends", "failed", "first_start", "hash_at_end", "items", "keys", "lane",
        "list_key", "prefix", "separator", "seq", "step", "system",
    )  # fmt: skip

    def __init__(self, lane: int) -> None:
        self.lane = lane
        self.seq = 0  # of its last snapshot
        self.step = 0
        self.busy = True  # its last call has not ended
        self.failed = False  # its last call ended in an error
        self.prefix = b""  # the last body up to the end of its last message
        self.first_start = 0  # where its first message starts
        self.ends: list[int] = []
        self.keys: list[str] = []
        self.items: list[Item] = []  # what stands for its messages in lists
        self.around: tuple[list[str], list[str]] = ([], [])  # rope items before and after them
        self.separator = b","
        self.list_key: str | None = None
        self.depth = 0  # list nodes since the last complete one
        self.digest = ""  # of the last body
        self.hash_at_end: _Hash | None = None  # SHA-256 of `prefix`
        self.system = b""

    def shared_elements(self, body: bytes, least: int = 1) -> int:
        """How many leading messages `body` has in common with the last one, byte for byte; 0 if under `least`."""
        ends = self.ends
        if len(ends) < least:
            return 0
        if body.startswith(self.prefix) and _may_end(body, ends[-1]):
            return len(ends)
        # Another conversation differs early: look there first.
        if not self._shares(body, least):
            return 0
        low, high = least, len(ends) - 1
        # A history that was edited usually differs in its last message or two (a moved cache mark).
        for guess in (high, high - 1):
            if guess > low and self._shares(body, guess):
                low = high = guess
        while low < high:
            middle = (low + high + 1) // 2
            if self._shares(body, middle):
                low = middle
            else:
                high = middle - 1
        return low

    def _shares(self, body: bytes, count: int) -> bool:
        end = self.ends[count - 1]
        return body.startswith(self.prefix[:end]) and _may_end(body, end)


def _may_end(body: bytes, end: int) -> bool:
    """Whether an array element may end here: the number 1 is no element of `[12]`."""
    return body[end : end + 1] in (b",", b"]", b" ", b"\n", b"\r", b"\t")


class LaneTable:
    """The conversations of one recording."""

    def __init__(self, pool: PoolWriter) -> None:
        self._pool = pool
        self._lanes: list[Conversation] = []  # most recently used first
        self._rests = Rests(pool)
        self._last_lane = 0
        self.steps = 0

    def place(self, data: bytes, array_key: str | None, system_keys: Sequence[str]) -> CutBody:
        """Store a request body and say which conversation it belongs to.

        Args:
            data: the body.
            array_key: the top-level array that holds the messages; None for bodies without one.
            system_keys: top-level keys that hold a system prompt outside that array.
        """
        if not array_key:
            return self._place_whole(data)
        near, kept = self._nearest(data)
        cut = self._extend(data, near, kept) if near is not None else None
        if cut is None:
            cut = cut_body(data, array_key, self._pool, self._rests)
            if cut is None:
                return self._place_whole(data)
            if near is None:
                near, kept = self._nearest_by_keys(cut.keys)
        system = cut.keys[0].encode() if not system_keys and cut.keys else _system_of(cut.skeleton, system_keys)
        return self._place_cut(cut, near, kept, system, len(data))

    def place_messages(self, pieces: Sequence[bytes]) -> CutBody:
        """Store messages that came without a body; `body` is then of no use, the conversation has the list's key."""
        stored = [self._pool.put_message(piece) for piece in pieces]
        keys = [key for key, _ in stored]
        near, kept = self._nearest_by_keys(keys)
        cut = Cut(
            head=[], tail=[], first_start=0, keys=keys, items=[item for _, item in stored], ends=[0] * len(keys),
            separator=b",", prefix=b"", digest=piece_key("".join(keys).encode()), hash_at_end=hashlib.sha256(),
            skeleton=b"{}",
        )  # fmt: skip
        placed = self._place_cut(cut, near, kept, keys[0].encode() if keys else b"", 0)
        placed.conversation.ends = []  # nothing to compare bodies with
        placed.conversation.busy = False
        return placed

    def _extend(self, data: bytes, near: Conversation, kept: int) -> Cut | None:
        return extend_cut(
            data,
            self._pool,
            self._rests,
            first_start=near.first_start,
            ends=near.ends[:kept],
            keys=near.keys[:kept],
            items=near.items[:kept],
            separator=near.separator,
            hash_at_end=near.hash_at_end if kept == len(near.ends) else None,
        )

    def _place_cut(self, cut: Cut, near: Conversation | None, kept: int, system: bytes, size: int) -> CutBody:
        if near is None:
            near = next((lane for lane in self._lanes if lane.system == system and system), None)
        conversation, retry = self._choose(near, kept, cut.digest, len(cut.keys))
        prev = near.seq if near is not None else None
        list_key, depth = self._store_list(near, kept, cut)
        conversation.prefix, conversation.first_start = cut.prefix, cut.first_start
        conversation.ends, conversation.keys, conversation.items = cut.ends, cut.keys, cut.items
        conversation.around = cut.head, cut.tail
        conversation.separator, conversation.list_key, conversation.depth = cut.separator, list_key, depth
        conversation.hash_at_end, conversation.system = cut.hash_at_end, system
        self._use(conversation, cut.digest, retry)
        rope: list[Item] = ["@" + list_key] if cut.keys else [*cut.head, *cut.tail]
        return CutBody(
            body=Body(size=size, sha256=cut.digest, rope=rope),
            skeleton=cut.skeleton,
            lane=conversation.lane,
            prev=prev,
            kept=kept if prev is not None else None,
            count=len(cut.keys),
            retry=retry,
            conversation=conversation,
        )

    def _place_whole(self, data: bytes) -> CutBody:
        digest = hashlib.sha256(data).hexdigest()
        near = next((lane for lane in self._lanes if lane.digest == digest), None)
        retry = near is not None and near.failed and not near.busy
        conversation = near if near is not None and not near.busy else self._new_lane()
        prev = near.seq if near is not None else None
        self._pool.put_bytes(data, key=key_of_hex(digest))
        conversation.prefix, conversation.ends, conversation.keys, conversation.items = b"", [], [], []
        conversation.list_key, conversation.hash_at_end = None, None
        self._use(conversation, digest, retry)
        return CutBody(
            body=Body(size=len(data), sha256=digest),
            skeleton=data if len(data) <= TAIL_MAX else None,
            lane=conversation.lane,
            prev=prev,
            kept=0 if prev is not None else None,
            count=0,
            retry=retry,
            conversation=conversation,
        )

    def _nearest(self, data: bytes) -> tuple[Conversation | None, int]:
        """The conversation with the longest shared prefix, one that waits for a request among equals."""
        best: Conversation | None = None
        most = 0
        for lane in self._lanes:
            better = best is None or (best.busy and not lane.busy)
            if best is not None and most and lane.keys[most - 1 : most] != best.keys[most - 1 : most]:
                continue  # it cannot share as much, so spare the comparison
            shared = lane.shared_elements(data, max(most, 1) if better else most + 1)
            if shared:
                best, most = lane, shared
        return best, most

    def _nearest_by_keys(self, keys: list[str]) -> tuple[Conversation | None, int]:
        """The same by message, for bodies whose bytes before the messages differ (other parameters first)."""
        best: Conversation | None = None
        most = 0
        for lane in self._lanes:
            shared = 0
            for ours, theirs in zip(keys, lane.keys, strict=False):
                if ours != theirs:
                    break
                shared += 1
            if shared > most:
                best, most = lane, shared
        return best, most

    def _choose(self, near: Conversation | None, kept: int, digest: str, count: int) -> tuple[Conversation, bool]:
        """The lane this request goes on in, and whether it repeats a failed call.

        A conversation goes on when its last call has ended and the new request keeps its history up to the last two
        messages (providers' cache marks move along the end). Anything else starts a lane that points at its origin.
        """
        if near is None:
            return self._new_lane(), False
        if near.digest == digest and near.failed and not near.busy:
            return near, True
        before = len(near.keys)
        if not near.busy and kept and kept >= before - 2 and (kept == before or count > before):
            return near, False
        return self._new_lane(), False

    def _store_list(self, near: Conversation | None, kept: int, cut: Cut) -> tuple[str, int]:
        separator, around = cut.separator.decode("ascii"), (cut.head, cut.tail)
        if near is not None and kept and near.list_key is not None and near.separator == cut.separator:
            same = near.around == around
            if kept == len(near.keys) == len(cut.keys) and same:
                return near.list_key, near.depth
            # Re-base when the chain is longer than the list: reading stays linear, writing constant on average.
            if near.depth < 2 * len(cut.keys) + 16:
                keep = None if kept == len(near.keys) else kept
                added = cut.items[kept:]
                key = self._pool.put_list(near.list_key, keep, added, separator, None if same else around)
                return key, near.depth + 1
        return self._pool.put_list(None, 0, cut.items, separator, around if cut.head or cut.tail else None), 0

    def forget(self) -> None:
        """Lines given to the pool were not written: compare with nothing, so that the next body is stored whole."""
        self._lanes.clear()
        self._rests.forget()

    def _new_lane(self) -> Conversation:
        self._last_lane += 1
        return Conversation(self._last_lane)

    def _use(self, lane: Conversation, digest: str, retry: bool) -> None:
        """A request goes out in this lane: count its step, and keep it among the most recent."""
        lane.digest, lane.busy, lane.failed = digest, True, False
        if not retry:
            self.steps += 1
            lane.step = self.steps
        if lane in self._lanes:
            self._lanes.remove(lane)
        self._lanes.insert(0, lane)
        held = 0
        for index, one in enumerate(self._lanes):
            held += len(one.prefix)
            if index and (index >= _LANES_MAX or held > _LANES_BYTES):
                del self._lanes[index:]
                break


def _system_of(skeleton: bytes, keys: Sequence[str]) -> bytes:
    """What identifies the system prompt outside the messages, b"" without one."""
    try:
        top = msgspec.json.decode(skeleton, type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError):
        return b""
    parts = [bytes(top[key]) for key in keys if key in top]
    return piece_key(b"".join(parts)).encode() if parts else b""
