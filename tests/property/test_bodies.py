"""Whatever an agent sends, its bodies come back byte for byte."""

from __future__ import annotations

import hashlib
import json
import tempfile

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from unspool.events import Body, ContextSnapshotData, HttpRequest, RecordEvent, RecordEventType
from unspool.recording import Recorder, RecordReader

words = st.sampled_from(
    ["", "a", "ab", "a\n", 'say "x"', "é", "\U0001f600", "\u2028", "x" * 300, "é" * 200, "\\", "]", "},{"]
)
# Numbers and strings that begin alike: 1, 12, 1.5 and "a", "ab" must not be taken for each other.
scalars = st.one_of(st.none(), st.booleans(), st.integers(-2, 130), st.sampled_from([1.5, 1e5, 0.1]), words)
elements = st.one_of(
    scalars,
    st.fixed_dictionaries({"role": st.sampled_from(["user", "tool"]), "content": words}),
    st.lists(scalars, max_size=3),
)
layouts = st.sampled_from(
    [{"separators": (",", ":")}, {}, {"indent": 2}, {"ensure_ascii": False}, {"ensure_ascii": False, "indent": None}]
)
rests = st.sampled_from(
    [
        {},
        {"model": "m"},
        {"tools": [{"t": "x" * 300}]},
        {"system": "s" * 400, "n": 1},
        {"messages2": [1]},
        {"é": "ü" * 300},
    ]
)
odd_bodies = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            b"",
            b"{}",
            b"[]",
            b'{"messages":[1',
            b'{"messages":1}',
            b'{"messages":[1],"messages":[2]}',
            b'{"messages":[NaN]}',
            b'{"messages":["\\ud800"]}',
            b'{"messages":["\xff"]}',
            b"\xef\xbb\xbf{}",
        ]
    ),
)


@st.composite
def conversations(draw) -> list[bytes]:
    """Bodies of interleaved conversations: they grow, are edited anywhere, cut short, repeated, or are no JSON."""
    histories = draw(st.lists(st.lists(elements, max_size=4), min_size=1, max_size=3))
    before, after, layout = draw(rests), draw(rests), draw(layouts)
    bodies: list[bytes] = []
    for _ in range(draw(st.integers(1, 12))):
        history = draw(st.sampled_from(histories))
        action = draw(
            st.sampled_from(
                ["grow", "grow", "grow", "edit", "cut", "insert", "again", "odd", "rest", "layout", "damage"]
            )
        )
        if action == "grow":
            history.extend(draw(st.lists(elements, min_size=1, max_size=2)))
        elif action == "edit" and history:
            history[draw(st.integers(0, len(history) - 1))] = draw(elements)
        elif action == "cut":
            del history[draw(st.integers(0, len(history))) :]
        elif action == "insert":
            history.insert(draw(st.integers(0, len(history))), draw(elements))
        elif action == "rest":
            before, after = draw(rests), draw(rests)
        elif action == "layout":
            layout = draw(layouts)
        elif action == "odd":
            bodies.append(draw(odd_bodies))
        body = json.dumps(before | {"messages": history} | after, **layout).encode()
        if action == "damage":
            at = draw(st.integers(0, len(body)))
            body = body[:at] + draw(st.binary(max_size=2)) + body[at + draw(st.integers(0, 2)) :]
        bodies.append(body)
    return bodies


@settings(max_examples=150, deadline=None)
@given(conversations(), st.data())
def test_any_sequence_of_requests_comes_back_byte_for_byte(bodies, data):
    with tempfile.TemporaryDirectory() as folder, Recorder(folder, 1, "x") as recorder:
        written = []
        for body in bodies:
            request = HttpRequest(method="POST", url="/v1", headers=[])
            context = ContextSnapshotData(request=request)
            event, cut = recorder.write_request(
                RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 0, 1, 1, context=context), body, "messages"
            )
            if cut is not None:
                cut.conversation.busy = data.draw(st.booleans())
                cut.conversation.failed = data.draw(st.booleans())
            written.append((event, body))
        reader = RecordReader(recorder.record_dir, live=True, strict=True)
        for event, body in written:
            context = reader.event(event.seq_num).context
            stored = context.request.body
            assert reader.body(stored) == body
            assert (stored.size, stored.sha256) == (len(body), hashlib.sha256(body).hexdigest())
            assert context.prev is None or context.prev < event.seq_num
        assert reader.damage == []


def envelope(id_: str, text: str, count: object, kind: str) -> bytes:
    """An answer as providers send it: the same keys and punctuation each time, the values differ."""
    answer = {"id": id_, "choices": [{"message": {"role": "assistant", "content": text}, "index": 0}], "usage": count}
    if kind == "json":
        return json.dumps(answer).encode()
    delta = {"id": id_, "delta": "", "n": count}
    lines = [b"data: " + json.dumps(delta | {"delta": part}).encode() for part in text.split(" ")[:40]]
    end = b"\r\n\r\n" if kind == "carriage" else b"\n\n"
    return end.join([*lines, b"data: [DONE]"]) + (b"" if kind == "open" else end)


answers = st.builds(
    envelope,
    st.sampled_from(["a", "b-" + "0" * 30, "#", "='", ""]),
    st.one_of(words, st.text(max_size=30), st.just("a b c d e f g " * 50)),
    scalars,
    st.sampled_from(["json", "json", "stream", "stream", "carriage", "open"]),
)
pieces = st.one_of(odd_bodies, elements.map(lambda e: json.dumps(e).encode()), answers, answers)


@st.composite
def bodies_of_responses(draw) -> list[tuple[bytes, str]]:
    """Bodies, some with a byte changed or cut in two, and what they are said to be."""
    drawn = []
    for body in draw(st.lists(pieces, max_size=12)):
        at = draw(st.integers(0, len(body)))
        change = draw(st.sampled_from(["", "", "", "", "cut", "byte"]))
        rest = {"": body[at:], "cut": b"", "byte": draw(st.binary(max_size=2)) + body[at + 1 :]}[change]
        drawn.append((body[:at] + rest, draw(st.sampled_from(["json", "stream", "bytes"]))))
    return drawn


@settings(max_examples=200, deadline=None)
@given(bodies_of_responses())
def test_any_bodies_of_responses_come_back_byte_for_byte(bodies):
    with tempfile.TemporaryDirectory() as folder, Recorder(folder, 1, "x") as recorder:
        stored: list[tuple[Body, bytes]] = []
        for body, kind in bodies:
            event = RecordEvent(RecordEventType.SYSCALL, 0, 1, 1)

            def put(store, body=body, kind=kind):
                stored.append((store.put(body, is_json=kind == "json", is_stream=kind == "stream"), body))

            recorder.write_with_bodies(event, put)
        reader = RecordReader(recorder.record_dir, live=True, strict=True)
        for reference, body in stored:
            assert reader.body(msgspec.structs.replace(reference)) == body
        assert reader.damage == []
