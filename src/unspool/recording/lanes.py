"""Cutting request bodies into pieces, and finding which earlier request each one extends.

An agent sends its whole history with every call, so the bodies of a run grow with the square of its turns. Here a
body costs only its new text: it is compared with the last body of each conversation (*lane*), the shared elements of
its message array are kept by reference, and only what follows them is parsed, hashed and stored. The comparison is a
`memcmp`, the hash of the whole body continues from a saved state, so the work per call depends on the new text.

Any cut gives the same bytes back, since pieces are slices; a body that is no JSON object is one piece.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from unspool.events import Body
from unspool.recording.pool import PoolWriter, piece_key

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["Conversation", "CutBody", "LaneTable"]

_LANES_MAX = 64  # conversations kept for comparison, most recently used first
_LANES_BYTES = 32 << 20  # and the bytes of their last bodies, at most
_TAIL_MAX = 64 << 10  # a longer tail is parsed by the full path, which does not build Python objects
_PIECE_MIN = 256  # top-level values outside the message array at least this long are pieces of their own

_KEY = re.compile(rb'[\s,{]*"((?:[^"\\]|\\.)*)"\s*:\s*')
_SPACE = re.compile(rb"\s*")
_json = json.JSONDecoder(strict=False)


class Layout(msgspec.Struct):
    """Where the elements of the message array are in a body: `starts` and `ends` are byte offsets."""

    starts: list[int]
    ends: list[int]
    separator: bytes


class CutBody(msgspec.Struct):
    """What is known of a stored body: its reference, its small rest, and its place among the conversations.

    `skeleton` is the body with the message array emptied, small enough to decode; None if the body is no JSON object.
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
        "busy", "depth", "digest", "ends", "failed", "first_start", "hash_at_end", "keys", "lane", "list_key", "prefix",
        "separator", "seq", "step", "system",
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
        self.separator = b","
        self.list_key: str | None = None
        self.depth = 0  # list nodes since the last complete one
        self.digest = ""  # of the last body
        self.hash_at_end: _Hash | None = None  # SHA-256 of `prefix`
        self.system = b""

    def shared_elements(self, body: bytes) -> int:
        """How many leading messages `body` has in common with the last one, byte for byte."""
        ends, prefix = self.ends, self.prefix
        count = len(ends)
        if not count:
            return 0
        if body.startswith(prefix):
            return count if _is_boundary(body, ends[-1]) else self._shared_before(body, count - 1)
        return self._shared_before(body, count - 1)

    def _shared_before(self, body: bytes, high: int) -> int:
        # Usually only the last message or two differ (a moved cache mark), so try those before halving.
        low = 0
        for guess in (high, high - 1):
            if guess > 0 and body[: self.ends[guess - 1]] == self.prefix[: self.ends[guess - 1]]:
                return guess if _is_boundary(body, self.ends[guess - 1]) else 0
        while low < high:
            middle = (low + high + 1) // 2
            end = self.ends[middle - 1]
            if body[:end] == self.prefix[:end]:
                low = middle
            else:
                high = middle - 1
        return low if low and _is_boundary(body, self.ends[low - 1]) else 0


def _is_boundary(body: bytes, end: int) -> bool:
    """Whether an array element may end here; `{"a":1}` is not a prefix element of `[{"a":1}x`."""
    return body[end : end + 1] in (b",", b"]", b" ", b"\n", b"\r", b"\t")


class LaneTable:
    """The conversations of one recording."""

    def __init__(self, pool: PoolWriter) -> None:
        self._pool = pool
        self._lanes: list[Conversation] = []  # most recently used first
        self._rests = _Rests()
        self._last_lane = 0
        self.steps = 0

    def place(self, data: bytes, array_key: str | None, system_keys: Sequence[str]) -> CutBody:
        """Store a request body and say which conversation it belongs to.

        Args:
            data: the body.
            array_key: the top-level array that holds the messages; None for bodies without one.
            system_keys: top-level keys that hold a system prompt outside that array.
        """
        near, kept = self._nearest(data) if array_key else (None, 0)
        cut = None
        if near is not None and kept:
            cut = _extend(data, near, kept, self._pool, self._rests)
        if cut is None and array_key:
            cut = _cut_body(data, array_key, self._pool, self._rests)
            if cut is not None and near is None:
                near, kept = self._nearest_by_keys(cut.keys)
        if cut is None:
            return self._place_whole(data)

        system = cut.keys[0].encode() if not system_keys and cut.keys else _system_of(cut.skeleton, system_keys)
        if near is None:
            near = next((lane for lane in self._lanes if lane.system == system and system), None)
        conversation, retry = self._choose(near, kept, cut.digest, len(cut.ends))
        prev = near.seq if near is not None else None
        list_key, depth = self._store_list(near, kept, cut)

        rope = [*cut.head, "@" + list_key, *cut.tail] if cut.keys else [*cut.head, *cut.tail]
        conversation.busy, conversation.failed = True, False
        conversation.prefix, conversation.first_start = cut.prefix, cut.first_start
        conversation.ends, conversation.keys = cut.ends, cut.keys
        conversation.separator, conversation.list_key, conversation.depth = cut.separator, list_key, depth
        conversation.digest, conversation.hash_at_end, conversation.system = cut.digest, cut.hash_at_end, system
        if not retry:
            self.steps += 1
            conversation.step = self.steps
        self._touch(conversation)
        return CutBody(
            body=Body(size=len(data), sha256=cut.digest, rope=rope),
            skeleton=cut.skeleton,
            lane=conversation.lane,
            prev=prev,
            kept=kept if prev is not None else None,
            count=len(cut.ends),
            retry=retry,
            conversation=conversation,
        )

    def _place_whole(self, data: bytes) -> CutBody:
        digest = hashlib.sha256(data).hexdigest()
        near = next((lane for lane in self._lanes if lane.digest == digest), None)
        retry = near is not None and near.failed and not near.busy
        conversation = near if near is not None and not near.busy else self._new_lane()
        prev = near.seq if near is not None else None
        self._pool.put_bytes(data)
        conversation.digest, conversation.busy, conversation.failed = digest, True, False
        conversation.prefix, conversation.ends, conversation.keys = b"", [], []
        conversation.list_key, conversation.hash_at_end = None, None
        if not retry:
            self.steps += 1
            conversation.step = self.steps
        self._touch(conversation)
        return CutBody(
            body=Body(size=len(data), sha256=digest),
            skeleton=data if len(data) <= _TAIL_MAX else None,
            lane=conversation.lane, prev=prev, kept=0 if prev is not None else None, count=0, retry=retry,
            conversation=conversation,
        )  # fmt: skip

    def _nearest(self, data: bytes) -> tuple[Conversation | None, int]:
        """The conversation with the longest shared prefix, the most recently used among equals."""
        best: Conversation | None = None
        most = 0
        for lane in self._lanes:
            shared = lane.shared_elements(data)
            if shared > most or (shared == most and shared and best is not None and best.busy and not lane.busy):
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

    def _choose(
        self, near: Conversation | None, kept: int, digest: str, count: int
    ) -> tuple[Conversation, bool]:
        """The lane this request goes on in, and whether it repeats a failed call.

        A conversation goes on when its last call has ended and the new request keeps its history up to the last two
        messages (providers' cache marks move along the end). Anything else starts a lane that points at its origin.
        """
        if near is None:
            return self._new_lane(), False
        if near.digest == digest and near.failed and not near.busy:
            return near, True
        before = len(near.ends)
        if not near.busy and kept and kept >= before - 2 and (kept == before or count > before):
            return near, False
        return self._new_lane(), False

    def _store_list(self, near: Conversation | None, kept: int, cut: _Cut) -> tuple[str, int]:
        separator = cut.separator.decode("utf-8", "replace")
        if near is not None and kept and near.list_key is not None and near.separator == cut.separator:
            if kept == len(near.keys) == len(cut.keys):
                return near.list_key, near.depth
            # Re-base when the chain is longer than the list: reading stays linear, writing constant on average.
            if near.depth < 2 * len(cut.keys) + 16:
                return self._pool.put_list(near.list_key, kept, cut.keys[kept:], separator), near.depth + 1
        return self._pool.put_list(None, 0, cut.keys, separator), 0

    def forget(self) -> None:
        """Lines given to the pool were not written: compare with nothing, so that the next body is stored whole."""
        self._lanes.clear()
        self._rests.forget()

    def _new_lane(self) -> Conversation:
        self._last_lane += 1
        return Conversation(self._last_lane)

    def _touch(self, lane: Conversation) -> None:
        if lane in self._lanes:
            self._lanes.remove(lane)
        self._lanes.insert(0, lane)
        held = 0
        for index, one in enumerate(self._lanes):
            held += len(one.prefix)
            if index and (index >= _LANES_MAX or held > _LANES_BYTES):
                del self._lanes[index:]
                break


class _Cut(msgspec.Struct):
    head: list[str]
    tail: list[str]
    first_start: int
    keys: list[str]
    ends: list[int]
    separator: bytes
    prefix: bytes
    digest: str
    hash_at_end: _Hash
    skeleton: bytes


def _cut_body(data: bytes, array_key: str, pool: PoolWriter, rests: _Rests) -> _Cut | None:
    """Cut a whole body by parsing it; None if it is no JSON object with that array."""
    layout = _find_array(data, array_key)
    if layout is None:
        return None
    if not layout.ends:
        whole = hashlib.sha256(data)
        return _Cut(
            head=rests.items(data, pool), tail=[], first_start=0, keys=[], ends=[], separator=b",", prefix=b"",
            digest=whole.hexdigest(), hash_at_end=hashlib.sha256(), skeleton=data,
        )  # fmt: skip
    keys = [pool.put_json(data[start:end]) for start, end in zip(layout.starts, layout.ends, strict=True)]
    first, last = layout.starts[0], layout.ends[-1]
    at_end = hashlib.sha256(data[:last])
    whole = at_end.copy()
    whole.update(data[last:])
    return _Cut(
        head=rests.items(data[:first], pool),
        tail=rests.items(data[last:], pool),
        first_start=first,
        keys=keys,
        ends=layout.ends,
        separator=layout.separator,
        prefix=data[:last],
        digest=whole.hexdigest(),
        hash_at_end=at_end,
        skeleton=data[:first] + data[last:],
    )


def _extend(data: bytes, near: Conversation, kept: int, pool: PoolWriter, rests: _Rests) -> _Cut | None:
    """Cut a body whose first `kept` messages are those of `near`; None if the full path has to do it."""
    begin = near.ends[kept - 1]
    if len(data) - begin > _TAIL_MAX:
        return None
    tail = data[begin:]
    try:
        text = tail.decode("utf-8")
    except UnicodeDecodeError:
        return None
    ascii_only = len(text) == len(tail)
    separator = near.separator.decode("utf-8")
    ends, keys = near.ends[:kept], near.keys[:kept]
    at = 0
    last = begin
    while True:
        if not text.startswith(separator, at):
            break
        start = at + len(separator)
        try:
            _, stop = _json.raw_decode(text, start)
        except (ValueError, RecursionError):
            return None
        first_byte = begin + (start if ascii_only else len(text[:start].encode()))
        last = begin + (stop if ascii_only else len(text[:stop].encode()))
        keys.append(pool.put_json(data[first_byte:last]))
        ends.append(last)
        at = stop
    if not text[at:].lstrip().startswith("]"):
        return None
    rest = data[last:]
    if kept == len(near.ends) and near.hash_at_end is not None:
        at_end = near.hash_at_end.copy()
        at_end.update(data[begin:last])
    else:
        at_end = hashlib.sha256(data[:last])
    whole = at_end.copy()
    whole.update(rest)
    first = near.first_start
    return _Cut(
        head=rests.items(data[:first], pool),
        tail=rests.items(rest, pool),
        first_start=first,
        keys=keys,
        ends=ends,
        separator=near.separator,
        prefix=data[:last],
        digest=whole.hexdigest(),
        hash_at_end=at_end,
        skeleton=data[:first] + rest,
    )


def _find_array(data: bytes, array_key: str) -> Layout | None:
    """Offsets of the elements of a top-level array, by walking the values msgspec found in order."""
    try:
        top = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        found = top.get(array_key)
        if found is None:
            return None
        elements = msgspec.json.decode(found, type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    cursor = 0
    for key, raw in top.items():
        match = _KEY.match(data, cursor)
        if match is None:
            return None  # a repeated key: msgspec kept one, the walk cannot tell which
        cursor = match.end()
        size = len(memoryview(raw))
        if key == array_key:
            return _walk_elements(data, cursor, elements) if data[cursor : cursor + size] == bytes(raw) else None
        cursor += size
    return None


def _walk_elements(data: bytes, at: int, elements: list[msgspec.Raw]) -> Layout | None:
    starts: list[int] = []
    ends: list[int] = []
    separator = b","
    cursor = at + 1
    for index, raw in enumerate(elements):
        if index:
            gap = _SPACE.match(data, cursor).end()  # type: ignore[union-attr]  # the pattern matches the empty string
            if data[gap : gap + 1] != b",":
                return None
            after = _SPACE.match(data, gap + 1).end()  # type: ignore[union-attr]
            if index == 1:
                separator = data[cursor:after]
            elif data[cursor:after] != separator:
                return None  # hand-formatted JSON: store the body whole rather than remember every gap
            cursor = after
        else:
            cursor = _SPACE.match(data, cursor).end()  # type: ignore[union-attr]
        starts.append(cursor)
        cursor += len(memoryview(raw))
        ends.append(cursor)
    return Layout(starts=starts, ends=ends, separator=separator)


class _Rests:
    """Rope items for the bytes around the messages, remembered: they rarely change within a conversation."""

    def __init__(self) -> None:
        self._known: dict[bytes, list[str]] = {}

    def items(self, data: bytes, pool: PoolWriter) -> list[str]:
        """Rope items of `data`, with large values (tool definitions, a system prompt) as pieces of their own."""
        if len(data) < _PIECE_MIN:
            return [pool.put_literal(data)] if data else []
        known = self._known.get(data)
        if known is None:
            if len(self._known) >= _LANES_MAX:
                self._known.clear()
            known = self._known[data] = _cut_rest(data, pool)
        return known

    def forget(self) -> None:
        """The pool lost lines: cut again, so that they are stored again."""
        self._known.clear()


def _cut_rest(data: bytes, pool: PoolWriter) -> list[str]:
    items: list[str] = []
    literal_from = cursor = 0
    while (match := _KEY.search(data, cursor)) is not None:
        start = match.end()
        end = _value_end(data, start)
        if end is None:
            break
        if end - start >= _PIECE_MIN:
            items.append(pool.put_literal(data[literal_from:start]))
            items.append("#" + pool.put_json(data[start:end], cut=False))
            literal_from = end
        cursor = end
    if literal_from < len(data):
        items.append(pool.put_literal(data[literal_from:]))
    return items


def _value_end(data: bytes, start: int) -> int | None:
    try:
        text = data[start:].decode("utf-8")
        _, stop = _json.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return start + len(text[:stop].encode())


def _system_of(skeleton: bytes, keys: Sequence[str]) -> bytes:
    """What identifies the system prompt outside the messages, b"" without one."""
    try:
        top = msgspec.json.decode(skeleton, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return b""
    parts = [bytes(top[key]) for key in keys if key in top]
    return piece_key(b"".join(parts)).encode() if parts else b""
