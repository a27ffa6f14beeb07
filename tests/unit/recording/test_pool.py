"""The pool: bytes in, the same bytes out, each piece once."""

from __future__ import annotations

import json
import os
import random

import pytest

from unspool.events import HttpRequest, HttpResponse
from unspool.recording.heads import HeadWriter, restore_head
from unspool.recording.keys import piece_key
from unspool.recording.pool import PoolReader
from unspool.recording.poolwriter import PoolWriter


class Pool:
    """A writer and a reader over one file."""

    def __init__(self, path) -> None:
        self.path = path
        path.touch()
        self.writer = PoolWriter()
        self.reader = PoolReader(path)

    def flush(self) -> list[dict]:
        lines = list(self.writer.lines)
        with open(self.path, "ab") as file:
            file.writelines(lines)
        self.writer.written()
        return [json.loads(line) for line in lines]


@pytest.fixture
def pool(tmp_path):
    return Pool(tmp_path / "messages.jsonl")


PIECES = [
    b"1",
    b"null",
    b'"text"',
    b'{"a":[1,2,{"b":null}]}',
    b'{"a" : 1}',
    b' {"a":1}',
    b'{"a":1} ',
    b"[1,\n2]",
    b"[1,\r2]",
    b"\x00\xff",
    b"\xff",
    b"NaN",
    b'{"x":NaN}',
    b'"\\ud800"',
    b'"\\x"',
    b'"\x01"',
    b"01",
    b"",
    b"not json",
    b'"' + b"x" * 999 + b'"',
    b'{"content":"' + b'long \\u00e9 \\" ' * 100 + b'","other":"' + b"y" * 300 + b'"}',
    b'{"content":"' + b"long\\n" * 100 + b'",\n "pretty": true}',
    '"\u2028 \u0085 é \U0001f600"'.encode(),
    b'"' + b"\xff" * 500 + b'"',
    b"[" * 3000 + b"]" * 3000,
]


@pytest.mark.parametrize("data", PIECES, ids=range(len(PIECES)))
@pytest.mark.parametrize("put", ["put_json", "put_bytes"])
def test_any_bytes_come_back(pool, put, data):
    key = getattr(pool.writer, put)(data)
    pool.flush()
    assert key == piece_key(data)
    assert pool.reader.get(key) == data
    assert key in pool.reader
    assert pool.reader.verify() == []


def test_a_piece_is_stored_once(pool):
    for _ in range(3):
        pool.writer.put_json(b'{"a":1}')
        pool.writer.put_bytes(b'{"a":1}')
    assert len(pool.flush()) == 1


def test_json_stands_in_the_line_as_it_is(pool):
    pool.writer.put_json(b'{"a": "\xc3\xa9\\n"}')
    (line,) = pool.writer.lines
    assert b'"j":{"a": "\xc3\xa9\\n"}' in line


def test_long_strings_that_come_again_are_stored_once(pool):
    text = "tool output " * 50
    message = json.dumps({"role": "tool", "content": text}).encode()
    pool.writer.put_json(message[:-1] + b',"n":1}')
    key = pool.writer.put_string(text)
    again = pool.writer.put_json(message)
    said = pool.writer.put_json(message.replace(b"tool", b"said"), cut="all")
    later = pool.writer.put_json(message.replace(b"tool", b"said")[:-1] + b',"x":1}')
    kinds = [next(iter(set(line) - {"k"})) for line in pool.flush()]
    assert kinds == ["j", "j", "r", "j", "r", "r"], "only what is known, or will come again, is cut out"
    assert pool.reader.get_string(key) == text
    assert pool.reader.get(again) == message
    assert pool.reader.get(said) == message.replace(b"tool", b"said")
    assert pool.reader.get(later) is not None


def test_strings_with_lone_surrogates_are_not_for_the_pool(pool):
    assert pool.writer.put_string("\ud800" * 2000) is None
    assert pool.flush() == []


def test_lines_that_were_not_written_can_be_written_again(pool):
    pool.writer.put_json(b"[1]")
    pool.flush()
    pool.writer.put_json(b"[2]")
    pool.writer.forget()
    assert pool.writer.lines == []
    pool.writer.put_json(b"[1]")
    pool.writer.put_json(b"[2]")
    assert [line["j"] for line in pool.flush()] == [[2]]


def test_lists_share_their_beginnings(pool):
    put = pool.writer.put_list
    first = put(None, 0, ["=a", "=b", "=c"], ",", (["=["], ["=]"]))
    longer = put(first, None, ["=d"], ",")
    other = put(longer, 2, ["=x"], ",", (["=("], ["=)"]))
    last = put(other, 1, [], ",")
    spaced = put(None, 0, ["=a", "=b"], ",\n  ")
    wider = put(spaced, None, ["=c"], ",\n  ")
    lines = pool.flush()
    assert [sorted(line["l"]) for line in lines] == [
        ["a", "h", "t"], ["a", "p"], ["a", "h", "n", "p", "t"], ["a", "n", "p"], ["a", "s"], ["a", "p"]
    ]  # fmt: skip
    assert pool.reader.elements(other) == (["=a", "=b", "=x"], ",", ["=("], ["=)"])
    assert pool.reader.elements(longer) == (["=a", "=b", "=c", "=d"], ",", ["=["], ["=]"])
    joined = [pool.reader.join(["@" + key]) for key in (first, longer, other, last, spaced, wider)]
    assert joined == [b"[a,b,c]", b"[a,b,c,d]", b"(a,b,x)", b"(a)", b"a,\n  b", b"a,\n  b,\n  c"]
    assert pool.reader.join_from(["=x", "@" + longer], 3) == b"x[d]"
    assert pool.reader.elements("0" * 11) is None
    assert pool.reader.verify() == []


def test_a_list_that_keeps_more_than_its_parent_has_is_damaged(pool):
    first = pool.writer.put_list(None, 0, ["=a"], ",")
    broken = pool.writer.put_list(first, 5, ["=b"], ",")
    pool.flush()
    assert pool.reader.elements(broken) is None


def test_a_reader_sees_what_comes_later(pool):
    key = piece_key(b"[1]")
    assert pool.reader.get(key) is None
    pool.writer.put_json(b"[1]")
    line = pool.writer.lines[0]
    with open(pool.path, "ab") as file:
        file.write(line[:20])
    assert pool.reader.get(key) is None
    with open(pool.path, "ab") as file:
        file.write(line[20:])
    assert pool.reader.get(key) == b"[1]"


def test_a_rope_that_contains_itself_does_not_hang(pool):
    key = piece_key(b"x")
    with open(pool.path, "w") as file:
        file.write(json.dumps({"k": key, "r": ["#" + key] * 100}, separators=(",", ":")) + "\n")
    assert pool.reader.get(key) is None
    assert len(pool.reader.verify()) == 1


def test_long_lines_are_read_in_linear_time(pool):
    data = random.Random(1).randbytes(3_000_000).hex().encode()  # several chunks
    keys = [pool.writer.put_bytes(piece) for piece in (b"first", data, b"last")]
    pool.flush()
    assert [pool.reader.get(key) for key in keys] == [b"first", data, b"last"]
    assert pool.reader.verify() == []


def test_a_pool_that_is_not_there_is_empty(tmp_path):
    reader = PoolReader(tmp_path / "nothing")
    assert reader.get("0" * 22) is None
    assert reader.verify() == []


def test_no_descriptor_is_left_open(pool):
    pool.writer.put_json(b"[1]")
    pool.flush()
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(3):
        PoolReader(pool.path).get(piece_key(b"[1]"))
    assert before == 0 or len(os.listdir("/proc/self/fd")) == before


# --- heads -----------------------------------------------------------------------------------------------------------


def test_heads_are_stored_once_with_what_varies(pool):
    heads = HeadWriter(pool.writer)
    messages = [
        HttpRequest("POST", f"https://x/{n}", headers=[("a", "same"), ("date", str(n)), ("odd", "\udcff")])
        for n in range(5)
    ]
    for message in messages:
        heads.store(message)
        assert (message.method, message.url, message.headers) == (None, None, None)
    assert len(pool.flush()) == 1
    assert len({message.head for message in messages}) == 1
    for n, message in enumerate(messages):
        assert restore_head(message, pool.reader)
        assert (message.method, message.url) == ("POST", f"https://x/{n}")
        assert message.headers == [("a", "same"), ("date", str(n)), ("odd", "\udcff")]
        assert restore_head(message, pool.reader), "a second time changes nothing"
        assert len(message.headers) == 3


def test_a_response_without_a_reason_has_none_again(pool):
    heads = HeadWriter(pool.writer)
    response = HttpResponse(status=200, headers=[])
    heads.store(response)
    pool.flush()
    assert restore_head(response, pool.reader)
    assert (response.reason, response.headers) == (None, [])


@pytest.mark.parametrize("vary", [{"99": "x"}, {"-9": "x"}, {"x": "y"}, {"": ""}])
def test_a_damaged_head_is_not_restored(pool, vary):
    heads = HeadWriter(pool.writer)
    request = HttpRequest("GET", "u", headers=[("a", "b")])
    heads.store(request)
    pool.flush()
    request.vary = vary
    assert not restore_head(request, pool.reader)
    assert not restore_head(HttpRequest(head="0" * 11), pool.reader)
    assert not restore_head(HttpResponse(status=1, head=request.head), pool.reader), "the head of a request"
