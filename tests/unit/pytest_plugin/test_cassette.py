"""The file of a test: what is written comes back, in a form that people read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unspool.events import ErrorData
from unspool.pytest_plugin.bodies import body_bytes, body_pieces, readable_body
from unspool.pytest_plugin.cassette import (
    BadCassette,
    Cassette,
    CassetteExchange,
    CassetteProcess,
    CassetteRequest,
    CassetteResponse,
    read_cassette,
    write_cassette,
)
from unspool.pytest_plugin.convert import made_plan, to_cassette, to_recordings
from unspool.pytest_plugin.layout import fold_lines, layout_json, shared_lists, unfold_lines, with_shared
from unspool.pytest_plugin.names import cassette_path
from unspool.recording.reader import RecordReader
from unspool.serving.fingerprint import canonical_digest
from unspool.store import Store

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
KEYS = TEXT | st.sampled_from(["$lines", "$literal", "events", "messages"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
OBJECT = st.dictionaries(KEYS, JSON, max_size=4)
URL = "https://api.openai.com/v1/chat/completions"


def chat(*texts: str, **more) -> bytes:
    return json.dumps(
        {"model": "gpt-5", "messages": [{"role": "user", "content": text} for text in texts], **more}
    ).encode()


# --- bodies ----------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=60) | TEXT.map(str.encode) | JSON.map(lambda value: json.dumps(value).encode()))
def test_a_body_comes_back(data):
    back = body_bytes(readable_body(data))
    assert back == data or canonical_digest(back) == canonical_digest(data)


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (b'{"b": 1, "a": [1.5, "\xe2\x98\x83"]}', "json"),
        (b'data: {"a":1}\n\ndata: [DONE]\n\n', "events"),
        (b'event: ping\ndata: {"type": "ping"}\n\n', "events"),
        (b'id: 7\nevent: x\ndata: {"a":1}\n\n', "text"),  # another order of fields
        (b"data: one\ndata: two\n\n", "text"),
        (b'data: {"a":1}', "text"),  # broken off
        (b"one\r\ntwo\n", "text"),
        (b'{"a": NaN}', "text"),
        (b"\x89PNG\r\n", "base64"),
        (b"a\x00b", "base64"),
    ],
)
def test_each_body_has_the_most_readable_form_that_holds_it(data, form):
    body = readable_body(data)
    assert [name for name in ("json", "events", "text", "base64") if name in json.loads(layout(body))] == [form]
    if form != "json":
        assert body_bytes(body) == data


def layout(value) -> str:
    import msgspec

    return layout_json(msgspec.to_builtins(value))


def test_a_stream_is_given_event_by_event():
    pieces = body_pieces(readable_body(b'data: {"a":1}\n\ndata: {"a":2}\n\ndata: [DONE]\n\n'))
    assert pieces == [b'data: {"a":1}\n\n', b'data: {"a":2}\n\n', b"data: [DONE]\n\n"]


# --- layout ----------------------------------------------------------------------------------------------------------


@given(JSON)
def test_the_layout_is_json_with_the_same_value(value):
    assert json.loads(layout_json(value)) == value


@given(JSON)
def test_long_texts_come_back(value):
    folded = json.loads(json.dumps(fold_lines(value)))
    assert unfold_lines(folded) == value


@given(OBJECT, st.lists(OBJECT, max_size=3))
def test_what_was_said_before_comes_back(value, before):
    left, shared = shared_lists(value, before)
    assert with_shared(left, shared, before) == value


def test_the_lists_that_grow_are_written_once():
    before = [{"messages": [1, 2, 3], "tools": ["a"]}]
    left, shared = shared_lists({"messages": [1, 2, 3, 4], "tools": ["a"]}, before)
    assert (left, shared) == ({"messages": [4], "tools": ["a"]}, {"messages": (1, 3)})
    assert shared_lists({"messages": [True, 2.0, 3]}, before)[1] == {}


@pytest.mark.parametrize("same", [{"messages": [2, 1]}, {"messages": [0, 1]}, {"messages": [1, 9]}, {"tools": [1, 1]}])
def test_a_reference_to_what_is_not_there_is_said(tmp_path, same):
    path = tmp_path / "x.unspool.json"
    request = {"method": "POST", "url": URL, "body": {"json": {"messages": [1]}}}
    exchanges = [{"request": request}, {"request": {**request, "same": same}}]
    path.write_text(json.dumps({"unspool_cassette": 1, "test": "t", "exchanges": exchanges}))
    with pytest.raises(BadCassette, match="which are not there"):
        read_cassette(path)


# --- names -----------------------------------------------------------------------------------------------------------


def test_names_are_safe_short_and_different():
    def name(test: str) -> str:
        return cassette_path(Path("/t/test_x.py"), test, "cassettes").relative_to("/t").as_posix()

    assert name("test_it") == "cassettes/test_x/test_it.unspool.json"
    assert name("TestA::test_it") == "cassettes/test_x/TestA.test_it.unspool.json"
    names = [name(f"test_it[{param}]") for param in ("a/b", "a b", "../../etc", "x" * 300, "x" * 301, "\x00", "é")]
    assert len(set(names)) == len(names)
    assert all(len(one) < 160 and one.count("/") == 2 for one in names)


# --- recordings ------------------------------------------------------------------------------------------------------


def exchange(url: str = URL, body: bytes = b"", **more) -> CassetteExchange:
    given = more.pop(
        "response", CassetteResponse(200, {"content-type": "application/json"}, readable_body(b'{"a": 1}'))
    )
    return CassetteExchange(CassetteRequest("POST", url, body=readable_body(body) if body else None), given, **more)


CASSETTE = Cassette(
    "test_x.py::test_it",
    [
        exchange(body=chat("one")),
        exchange(body=chat("one", "two\nlines"), task="0"),
        exchange("https://example.org/upload?x=1", b"a\x00b", response=CassetteResponse(404)),
        exchange(body=chat("flaky"), response=None, error=ErrorData("httpx.ConnectError", "refused")),
        exchange(
            body=chat("broken"),
            response=CassetteResponse(200, {"content-type": "text/event-stream"}, readable_body(b'data: {"a":1}\n\n')),
            error=ErrorData("httpx.ReadError", "reset"),
        ),
        exchange(
            body=chat("stopped", stream=True),
            response=CassetteResponse(200, {"content-type": "text/event-stream"}, readable_body(b"data: x\n\n"), True),
            task="0.1",
            unordered=True,
        ),
        exchange(body=chat("late"), task="0.10"),
        exchange(body=chat("inner"), process=1),
    ],
    [CassetteProcess(0, "agent", "helper")],
)


def test_a_cassette_becomes_recordings_and_these_the_same_cassette(tmp_path):
    path = tmp_path / "deep" / "x.unspool.json"
    write_cassette(path, CASSETTE)
    read = read_cassette(path)
    assert read == CASSETTE
    readers = [RecordReader(folder) for folder in to_recordings(read, Store(tmp_path / "store").ensure())]
    try:
        assert [reader.damage for reader in readers] == [[], []]
        plan, offers, exchanges = made_plan(read, readers)
        again, lost = to_cassette(readers, CASSETTE.test)
    finally:
        for reader in readers:
            reader.close()
    assert lost == 0
    assert (plan.pin, plan.tools) == (False, False)
    assert [offer.number for offer in offers] == list(range(1, 9))
    assert [one.unordered for one in offers] == [one.unordered for one in exchanges]
    assert [offer.unservable for offer in offers] == [None] * 8
    for one in again.exchanges:
        one.unordered = one.task == "0.1"  # they ran one after another when they were written
    assert again == CASSETTE


def test_a_cassette_says_what_is_wrong_with_it(tmp_path):
    path = tmp_path / "x.unspool.json"
    with pytest.raises(BadCassette, match="No such file"):
        read_cassette(path)
    write_cassette(path, Cassette("t", [exchange(process=3)]))
    with pytest.raises(BadCassette, match="names a process that is not there"):
        read_cassette(path)
    write_cassette(path, Cassette("t", [exchange(process=1)], [CassetteProcess(1, "agent", "x")]))
    with pytest.raises(BadCassette, match="a parent that does not come before it"):
        read_cassette(path)
