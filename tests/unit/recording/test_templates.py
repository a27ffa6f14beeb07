"""Envelopes that answers come in are stored once; the answers come back byte for byte."""

from __future__ import annotations

import json
import random

import pytest

from unspool.events import HttpRequest, HttpResponse
from unspool.recording.bodies import BodyStore
from unspool.recording.heads import HeadWriter, restore_head
from unspool.recording.keys import key_of_hex
from unspool.recording.pool import PoolReader
from unspool.recording.poolwriter import PoolWriter
from unspool.recording.templates import Templates


class Store:
    """Bodies go in as a recorder puts them, and come out as a reader takes them."""

    def __init__(self, path) -> None:
        self.path = path
        path.touch()
        self.pool = PoolWriter()
        self.templates = Templates(self.pool)
        self.heads = HeadWriter(self.pool)
        self.reader = PoolReader(path)

    def put(self, data: bytes, **how) -> int:
        """Store a body, check that it comes back, and give the bytes that it took."""
        body = BodyStore(self.pool, self.heads, self.templates).put(data, **how)
        lines = b"".join(self.pool.lines)
        with open(self.path, "ab") as file:
            file.write(lines)
        self.pool.written()
        found = self.reader.join(body.rope) if body.rope is not None else self.reader.get(key_of_hex(body.sha256))
        assert found == data
        assert (body.size, self.reader.verify()) == (len(data), [])
        return len(lines) + len(json.dumps(body.rope or ""))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "messages.jsonl")


def completion(number: int, text: str, **more) -> bytes:
    message = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
    usage = {"prompt_tokens": 1000 + number, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 0}}
    envelope = {"id": f"chatcmpl-{number:032x}", "object": "chat.completion", "model": "some-model-2026-01-01"}
    choices = [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}]
    return json.dumps({**envelope, "choices": choices, "usage": usage, "system_fingerprint": "fp_1", **more}).encode()


def stream(number: int, words: list[str]) -> bytes:
    lines = []
    for word in words:
        delta = {"index": 0, "delta": {"content": word}, "logprobs": None, "finish_reason": None}
        chunk = {"id": f"chatcmpl-{number:032x}", "object": "chat.completion.chunk", "created": 1, "choices": [delta]}
        lines.append(b"data: " + json.dumps(chunk).encode() + b"\n\n")
    return b"".join(lines) + b"data: [DONE]\n\n"


def test_an_envelope_is_stored_once(store):
    sizes = [store.put(completion(n, f"answer {n}"), is_json=True) for n in range(40)]
    assert len(completion(0, "")) > 400
    assert max(sizes[8:]) < 150
    assert len([line for line in store.path.read_bytes().splitlines() if b'"t":' in line]) <= 3


def test_a_long_answer_is_an_entry_that_its_message_refers_to(store):
    for n in range(3):
        store.put(completion(n, f"answer {n} " * 30), is_json=True)
    message = json.dumps({"role": "assistant", "content": "answer 2 " * 30}).encode()
    _, item = store.pool.put_message(message)
    assert item[0] == "#"
    before = sum(map(len, store.pool.lines))
    _, item = store.pool.put_message(message.replace(b"answer 2", b"answer 1"))
    assert type(item) is tuple, "from the second one on the message itself is a template and a reference"
    assert sum(map(len, store.pool.lines)) - before < 120
    with open(store.path, "ab") as file:
        file.writelines(store.pool.lines)
    assert store.reader.item(item) == message.replace(b"answer 2", b"answer 1")


def test_what_has_text_stands_in_the_pool(store):
    for n in range(5):
        store.put(completion(n, f"yes {n}"), is_json=True)
    assert all(b"yes %d" % n in store.path.read_bytes() for n in range(5))


def test_values_that_change_later_widen_the_template(store):
    for n in range(30):
        more = {"service_tier": "default" if n < 10 else "flex"} if n != 20 else {"service_tier": None, "new": [n]}
        store.put(completion(n, f"answer {n}", **more), is_json=True)


@pytest.mark.parametrize(
    "bodies",
    [
        [b"{}", b"{}", b"[]", b"[1]", b"[2]", b"[3]", b"[3]"],
        [b'{"a":1}', b'{"a":-1}', b'{"a":-0}', b'{"a":1e5}', b'{"a":00}', b'{"a":1234567890123456789012}', b'{"a":0}'],
        [b'{"a":"x"}', b'{"a":null}', b'{"a":"\\ud800"}', b'{"a":"\\""}', b'{"a":""}', b'{"a":"\n"}', b'{"a":true}'],
        [b'{"a":"x"}', b'{"a":"\xff"}', b'{"a":"\xc3\xa9"}', b'{"a":"y"}', b'{"\xff":"y"}', b'{"\xff":"z"}'],
        [b'{"a":"x', b'{"a":"y', b'{"a":x}', b'{"a":y}', b'{"a"', b'{"a":"#x"}', b'{"a":"=x"}', b'{"a":"\'x"}'],
        [b'["a" : 1]', b'["b" : 2]', b'["c" : 3]', b'{"a":{"b":"c"}}', b'{"a":{"b":"d"}}', b'{"a":{"b":"' + b"e" * 500],
    ],
    ids=range(6),
)
def test_any_bodies_come_back(store, bodies):
    for body in bodies * 2:
        store.put(body, is_json=True)
        store.put(b"data: " + body + b"\n\n" + b"data: " + body[::-1] + b"\r\n\r\n", is_stream=True)


def test_a_stream_costs_little_more_than_its_words(store):
    rng = random.Random(3)
    words = [[rng.choice(["the", " a", "\n", ' "', "é"]) + str(rng.randint(0, 99)) for _ in range(200)] for _ in "1234"]
    sizes = [store.put(stream(number, said), is_stream=True) for number, said in enumerate(words)]
    assert len(stream(0, words[0])) > 30_000
    assert all(size < 5_000 for size in sizes[1:])


def test_a_stream_in_parts_that_are_no_events_comes_back(store):
    body = stream(1, ["a", "b", "c"])
    for cut in range(1, len(body), 7):
        store.put(body[:cut], is_stream=True)
        store.put(body[cut:] + body, is_stream=True)
        store.put(body[:cut] + b"\xff" + body[cut:], is_stream=True)


def test_a_long_stream_of_ever_new_events_is_read_in_linear_time(store):
    events = [b'data: {"k%d":[%s]}\n\n' % (n, b",".join([b"1"] * (n % 50))) for n in range(5000)]
    store.put(b"".join(events), is_stream=True)


@pytest.mark.parametrize("text", [b'\\"' * 100_000, b'"a' * 50_000, b"\\" * 100_001, b'" : ' * 50_000], ids=range(4))
def test_strings_that_do_not_end_are_read_in_linear_time(store, text):
    for n in range(3):
        store.put(b'{"a":%d,"b":"' % n + text + b"x}", is_json=True)
        store.put(b'data: {"a":%d,"b":"' % n + text + b"x}\n\n", is_stream=True)


def test_templates_are_made_again_after_lines_were_lost(store):
    for n in range(3):
        BodyStore(store.pool, store.heads, store.templates).put(completion(n, "a b"), is_json=True)
    store.pool.forget()
    store.templates.forget()
    for n in range(3):
        store.put(completion(n, "a b"), is_json=True)


def test_a_damaged_template_costs_what_was_made_of_it(store):
    for n in range(5):
        store.put(completion(n, f"a {n}"), is_json=True)
    put = BodyStore(store.pool, store.heads, store.templates).put
    bodies = [put(completion(n, f"a {n}"), is_json=True) for n in (0, 4)]
    lines = store.path.read_bytes().splitlines(keepends=True)
    store.path.write_bytes(b"".join(line for line in lines if b'"t":' not in line))
    reader = PoolReader(store.path)
    assert [reader.get(key_of_hex(body.sha256)) for body in bodies] == [completion(0, "a 0"), None]
    damage = reader.verify()
    assert damage
    assert all("missing" in item.reason for item in damage)


@pytest.mark.parametrize(
    "item", [[], ["x"], ["T"], ["T", 1], ["T", 1, "=2", 3], ["T", "", 1], ["T", "@x", 1], ["T", "#x", 1], ["#x", 1, 2]]
)
def test_templates_filled_wrongly_give_nothing(store, item):
    key = store.pool.put_template(["[", ",", "]"])
    store.path.write_bytes(b"".join(store.pool.lines))
    item = tuple(key if value == "T" else value for value in item)
    assert store.reader.join([item]) is None
    assert store.reader.join([(key, 1, "='", "'a", "", "", 5)]) == b'[1,\']["a",\']["a",5]'


def test_a_length_that_is_the_bodys_is_not_repeated(store):
    put = BodyStore(store.pool, store.heads, store.templates)
    messages = []
    for n in range(1, 4):
        response = HttpResponse(200, "OK", headers=[("Content-Length", str(n)), ("x", "y")], body=put.put(b"a" * n))
        put.heads.store(response)
        messages.append(response)
    assert [message.vary for message in messages] == [None] * 3
    other = HttpResponse(200, "OK", headers=[("Content-Length", "99"), ("x", "y")], body=put.put(b"b"))
    none = HttpRequest("GET", "u", headers=[("content-length", "0")], client="c")
    put.heads.store(other)
    put.heads.store(none)
    store.path.write_bytes(b"".join(store.pool.lines))
    for n, message in enumerate(messages, 1):
        assert restore_head(message, store.reader)
        assert message.headers == [("Content-Length", str(n)), ("x", "y")]
    assert restore_head(other, store.reader)
    assert other.headers[0] == ("Content-Length", "99")
    assert restore_head(none, store.reader)
    assert (none.headers, none.client) == ([("content-length", "0")], "c")
