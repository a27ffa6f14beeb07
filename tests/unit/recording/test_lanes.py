"""Lanes: which request extends which, and what that costs."""

from __future__ import annotations

import hashlib
import json

import pytest

from unspool.recording.keys import key_of_hex
from unspool.recording.lanes import LaneTable
from unspool.recording.pool import PoolReader
from unspool.recording.poolwriter import PoolWriter


class Lanes:
    """A lane table whose bodies are read back at once."""

    def __init__(self, path) -> None:
        self.path = path
        path.touch()
        self.pool = PoolWriter()
        self.table = LaneTable(self.pool)
        self.reader = PoolReader(path)
        self.seq = 0
        self.new_bytes = 0

    def place(self, body: bytes, key: str | None = "messages", system=(), ended: bool = True, failed: bool = False):
        placed = self.table.place(body, key, system)
        self.seq += 1
        placed.conversation.seq = self.seq
        placed.conversation.busy, placed.conversation.failed = not ended, failed
        added = b"".join(self.pool.lines)
        with open(self.path, "ab") as file:
            file.write(added)
        self.pool.written()
        self.new_bytes = len(added) + len(json.dumps(placed.body.rope or []))
        reference = placed.body
        assert reference.size == len(body)
        assert reference.sha256 == hashlib.sha256(body).hexdigest()
        key, rope = key_of_hex(reference.sha256), reference.rope
        whole = self.reader.join(rope) if rope is not None else self.reader.get(key)
        assert (whole if body else b"") == body
        return placed


@pytest.fixture
def lanes(tmp_path):
    return Lanes(tmp_path / "messages.jsonl")


def chat(*texts: str, **more) -> bytes:
    messages = [{"role": "user", "content": text} for text in texts]
    return json.dumps({"model": "m", "messages": messages, "tools": ["t" * 400], **more}).encode()


def place(placed):
    return placed.lane, placed.prev, placed.kept


def test_a_growing_conversation_is_one_lane(lanes):
    assert place(lanes.place(chat("a"))) == (1, None, None)
    assert place(lanes.place(chat("a", "b"))) == (1, 1, 1)
    assert place(lanes.place(chat("a", "b", "c", "d"))) == (1, 2, 2)
    assert place(lanes.place(chat("a", "b", "c", "D", "e"))) == (1, 3, 3), "the end was edited"


def test_another_conversation_is_another_lane(lanes):
    lanes.place(chat("a"), system=("system",))
    assert place(lanes.place(chat("x"), system=("system",))) == (2, None, None)
    assert place(lanes.place(chat("x", "y"), system=("system",))) == (2, 2, 1)
    assert place(lanes.place(chat("a", "b"), system=("system",))) == (1, 1, 1)


def test_calls_at_once_on_one_history_are_lanes_with_one_origin(lanes):
    lanes.place(chat("a", "b"))
    first = lanes.place(chat("a", "b", "c1"), ended=False)
    second = lanes.place(chat("a", "b", "c2"), ended=False)
    assert place(first) == (1, 1, 2)
    assert second.lane == 2
    assert second.kept == 2


def test_an_equal_request_after_a_failure_is_a_retry_and_no_step(lanes):
    assert not lanes.place(chat("a"), failed=True).retry
    again = lanes.place(chat("a"))
    assert again.retry
    assert lanes.table.steps == 1
    assert not lanes.place(chat("a")).retry, "the one before succeeded"


def test_the_same_system_prompt_gives_an_origin(lanes):
    system = ("system",)
    lanes.place(chat("a", system="be kind"), system=system)
    assert place(lanes.place(chat("b", system="be kind"), system=system)) == (2, 1, 0)
    assert place(lanes.place(chat("c", system="be rude"), system=system)) == (3, None, None)


def test_other_parameters_before_the_messages_do_not_break_a_lane(lanes):
    lanes.place(b'{"t":1,"messages":["a","b"]}')
    assert place(lanes.place(b'{"t":2,"messages":["a","b","c"]}')) == (1, 1, 2)


def test_a_call_costs_its_new_text(lanes):
    history = [f"message {n} " * 50 for n in range(200)]
    costs = []
    for end in range(1, 201):
        lanes.place(chat(*history[:end]))
        costs.append(lanes.new_bytes)
    assert max(costs[150:]) < 1.2 * max(costs[20:50])
    new_text = len(json.dumps({"role": "user", "content": history[150]}))
    assert max(costs[150:]) < new_text + 350


def test_a_call_that_changes_the_last_message_costs_that_message(lanes):
    """Cache marks move along the end of a history."""
    history = [f"message {n} " * 50 for n in range(100)]
    for end in range(1, 101):
        lanes.place(chat(*history[: end - 1], history[end - 1] + " mark"))
    assert lanes.new_bytes < 3000


@pytest.mark.parametrize(
    "bodies",
    [
        [
            b'{"messages":[1]}',
            b'{"messages":[12]}',
            b'{"messages":[1,2]}',
            b'{"messages":[1.5,2]}',
            b'{"messages":[1e5]}',
        ],
        [
            b'{"messages":["a"]}',
            b'{"messages":["a","a"]}',
            b'{"messages":["ab","a"]}',
            b'{"messages":[]}',
            b'{"messages":["a"]}',
        ],
        [b'{"messages": [1, 2]}', b'{"messages": [1, 2, 3]}', b'{"messages": [1, 2,3]}', b'{"messages": [1, 2 , 3]}'],
        [b'{"messages":[true,null]}', b'{"messages":[true,null,false]}', b'{"messages":[true,nullx]}'],
        [b'{"messages":[1,2],"x":1}', b'{"messages":[1,2,{"a":NaN}],"x":1}', b'{"messages":[1,2,"\\ud800"],"x":1}'],
        [
            b'{"messages":[1]}',
            b'{"messages":[1,"\xff"]}',
            b'{"messages":[1,2',
            b'{"messages":[1]',
            b'{"messages":[1]}}',
        ],
        [b'{"messages":[1],"messages":[2]}', b'{"messages":[1],"messages":[2,3]}', b'{"a":1,"a":2,"messages":[1]}'],
        [b"", b"{}", b"[]", b'{"messages":5}', b'{"messages":{"a":1}}', b"\x00", b"null", b'{"x":{"messages":[1]}}'],
        [
            b'{"messages":[1,2]}  \n',
            b'\n {"messages" :\t[ 1 , 2 ] }',
            b'{"messages":[1,2]}\x00',
            b'{"messages":[1,2]},',
        ],
        [b'{"messages":[' + b"[" * 2000 + b"]" * 2000 + b"]}", b'{"messages":[1]}'],
        [b'{"a":"\\"messages\\":[9]","messages":[1]}', b'{"\\u0061":[2],"messages":[1,3]}'],
        [
            ('{"messages":["é","\U0001f600"],"t":"' + "ü" * 400 + '"}').encode(),
            '{"messages":["é","\U0001f600","ß"]}'.encode(),
        ],
    ],
    ids=range(12),
)
def test_awkward_bodies_come_back_byte_for_byte(lanes, bodies):
    for _ in range(2):
        for body in bodies:
            lanes.place(body)
            lanes.place(body, "nothing like it")
            lanes.place(body, None)


def test_pretty_printed_bodies_are_cut_and_shared(lanes):
    history = [{"role": "user", "content": f"text {n} " * 60} for n in range(60)]
    for end in range(1, 61):
        lanes.place(json.dumps({"messages": history[:end]}, indent=2).encode())
    assert lanes.new_bytes < 2500


def test_a_history_with_a_lone_surrogate_is_shared_too(lanes):
    """JavaScript agents cut texts in the middle of an emoji; msgspec refuses what they send."""
    history = [{"role": "user", "content": f"\ud83d text {n} " * 60} for n in range(60)]
    for end in range(1, 61):
        lanes.place(json.dumps({"model": "m", "messages": history[:end]}).encode())
    assert lanes.new_bytes < 3500


def test_long_white_space_is_read_in_linear_time(lanes):
    lanes.place(b'{"x":' + b" " * 1_000_000 + b'1,"messages":[1]}')
    lanes.place(b'{"x":1,"messages":[1]' + b" " * 200_000 + b"}")
    lanes.place(b'{"messages":[1]' + b" " * 200_000 + b',"y":"' + b'\\"' * 50_000 + b'"}')


def test_many_conversations_are_kept_apart(lanes):
    names = [f"agent {n}" for n in range(40)]
    for turn in range(1, 4):
        for number, name in enumerate(names, 1):
            placed = lanes.place(chat("shared start " * 20, name, *[f"{name} {n}" for n in range(turn)]))
            assert placed.lane == number
    assert lanes.table.steps == 120


def test_after_lost_lines_the_next_body_is_stored_whole(lanes):
    lanes.place(chat("a", "b"))
    lanes.table.place(chat("a", "b", "c", tools=["new" * 300]), "messages", ())
    lanes.pool.forget()
    lanes.table.forget()
    assert place(lanes.place(chat("a", "b", "c", "d", tools=["new" * 300])))[1:] == (None, None)


def test_messages_without_a_body_share_lists(lanes):
    pieces = [b'"one"', b'"two"', b'"three"']
    for end in range(4):
        placed = lanes.table.place_messages(pieces[:end])
        with open(lanes.path, "ab") as file:
            file.writelines(lanes.pool.lines)
        lanes.pool.written()
        found = lanes.reader.elements(placed.conversation.list_key)
        assert [lanes.reader.item(item) for item in found.items] == pieces[:end]
        placed.conversation.seq = end + 1
    assert place(placed) == (2, 3, 2)
    lanes.place(b'{"messages":["one","two"]}')
