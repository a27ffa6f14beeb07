"""Whatever happened to its files, a recording gives every undamaged event and says what is damaged."""

from __future__ import annotations

import functools
import json
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unspool.errors import CorruptRecording, NoSnapshot, SeqNotFound, UnsupportedFormat
from unspool.events import (
    ContextSnapshotData,
    CtxMessage,
    HttpRequest,
    HttpResponse,
    LLMResponseData,
    RecordEvent,
    RecordEventType,
    RecordMetadata,
    StateChangeData,
    SyscallEventData,
)
from unspool.recording import Recorder, RecordManager, RecordReader, eventlog

FILES = ("events.jsonl", "messages.jsonl", "metadata.json")
TRUSTED, VERIFIED = -1, 16 << 20


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.CRITICAL, "unspool")


@functools.cache
def original() -> tuple[dict[str, bytes], list[RecordEvent]]:
    """The files of a small recording with every kind of event, and its events."""
    with tempfile.TemporaryDirectory() as base:
        with Recorder(base, 1, "intent", fields={"trace_id": "ab" * 16}) as recorder:
            url = "https://api.openai.com/v1/chat/completions"
            asked: list[dict[str, str]] = [{"role": "system", "content": "be kind"}]
            for turn in range(3):
                asked.append({"role": "user", "content": f"question {turn} " * 30})
                body = json.dumps({"model": "m", "messages": asked, "tools": [{"d": "t" * 300}]}).encode()
                context = ContextSnapshotData(provider="openai_chat", request=HttpRequest("POST", url, [("a", "b")]))
                sent, _ = recorder.write_request(event("context_snapshot", context=context), body, "messages")
                recorder.write_event(event("syscall", syscall=SyscallEventData("LLMCall", {"turn": turn})))
                answer = event("llm_response", call=sent.call)
                answer.llm = data = LLMResponseData("m", 1, 2)

                def prepare(store, data=data, turn=turn):
                    data.response = HttpResponse(200, headers=[("content-type", "application/json"), ("n", str(turn))])
                    store.heads.store(data.response)
                    message = {"role": "assistant", "content": f"answer {turn} " * 30}
                    data.response.body = store.put(
                        json.dumps({"choices": [{"message": message}]}).encode(), is_json=True
                    )

                recorder.write_with_bodies(answer, prepare)
                asked.append({"role": "assistant", "content": f"answer {turn} " * 30})
            recorder.write_event(event("syscall", syscall=SyscallEventData("Tool", {"b": b"x"}, "long " * 1000)))
            by_hand = ContextSnapshotData(messages=[CtxMessage("user", "hi"), "[user] string"])
            recorder.write_event(event("context_snapshot", context=by_hand))
            recorder.write_event(event("state_change", state=StateChangeData("running", "dead", "exited")))
        files = {name: (recorder.record_dir / name).read_bytes() for name in FILES}
        return files, list(RecordReader(recorder.record_dir, strict=True).events())


def event(kind: str, **fields) -> RecordEvent:
    return RecordEvent(RecordEventType(kind), 0, 1, 1, **fields)


def read_everything(folder: Path) -> list[RecordEvent]:
    """Every method of a reader on every event; nothing may be raised but what is documented."""
    reader = RecordReader(folder)
    events = list(reader.events())
    assert isinstance(reader.metadata, RecordMetadata)
    assert reader.damage == reader.damage
    for one in events:
        assert reader.event(one.seq_num).seq_num == one.seq_num
        assert reader.events_in_range(one.seq_num, one.seq_num)[0].seq_num == one.seq_num
        reader.response_of(one)
        reader.snapshot_of_call(one)
        try:
            reader.context_at(one.seq_num)
        except NoSnapshot:
            assert not any(e.type == "context_snapshot" and e.seq_num <= one.seq_num and e.context for e in events)
    assert [one.seq_num for one in reader.bare_events()] == [one.seq_num for one in events]
    assert list(reader.follow())[len(events) :] == []
    for missing in (0, 10**6):
        try:
            reader.event(missing)
        except SeqNotFound:
            continue
    assert len(reader.events()) == reader.event_count == len(events)
    return events


def never_wrong(found: RecordEvent, written: RecordEvent) -> None:
    """What refers to a damaged pool is as it was or visibly missing, never something else."""
    if found.syscall is not None and found.syscall != written.syscall:
        assert "$ref" in found.syscall.result
    if written.context is not None and written.context.messages != found.context.messages:
        assert found.context.partial
        for message in found.context.messages:
            assert message in written.context.messages or message.role == "unknown"
    if found.llm is not None and found.llm.text is not None:
        assert found.llm.text == written.llm.text


def check(files: dict[str, bytes]) -> None:
    """Reads damaged files in both modes and compares with what must still be there."""
    whole_files, whole_events = original()
    with tempfile.TemporaryDirectory() as base:
        folder = Path(base) / "1-20260101T000000-abcd"
        folder.mkdir()
        for name, data in files.items():
            (folder / name).write_bytes(data)
        results = {}
        for limit in (VERIFIED, TRUSTED):
            eventlog._VERIFY_MAX = limit
            try:
                results[limit] = read_everything(folder)
                damage = RecordReader(folder).damage
            except (CorruptRecording, UnsupportedFormat) as exc:
                results[limit] = [str(exc)]
                damage = None
            finally:
                eventlog._VERIFY_MAX = VERIFIED
        assert results[VERIFIED] == results[TRUSTED]
        if damage is None:
            assert "events.jsonl" not in files or b"format_version" in files["metadata.json"]
            return
        found = {one.seq_num: one for one in results[VERIFIED]}
        kept = set(files["events.jsonl"].splitlines(keepends=True))
        pool_is_whole = files.get("messages.jsonl") == whole_files["messages.jsonl"]
        same_metadata = files.get("metadata.json") == whole_files["metadata.json"]
        for one, line in zip(whole_events, whole_files["events.jsonl"].splitlines(keepends=True), strict=True):
            if line in kept:
                assert one.seq_num in found, f"event {one.seq_num} is undamaged"
                never_wrong(found[one.seq_num], one)
                if pool_is_whole and same_metadata:
                    snapshot_there = one.llm is None or whole_files["events.jsonl"] == files["events.jsonl"]
                    assert found[one.seq_num] == one or not snapshot_there
        changed = [name for name in FILES if files.get(name) != whole_files[name]]
        for item in damage:
            assert item.file in FILES
            assert item.reason
            if item.line:
                lines = files[item.file].split(b"\n")
                assert sum(len(line) + 1 for line in lines[: item.line - 1]) == item.offset
        if not changed:
            assert damage == []
        if damage:
            with pytest.raises(CorruptRecording):
                RecordReader(folder, strict=True)
        else:
            RecordReader(folder, strict=True)
        assert len(RecordManager(base).list_records()) == 1


def test_an_undamaged_recording_has_no_damage():
    check(original()[0])


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(FILES), st.data())
def test_every_truncation(name, data):
    files = dict(original()[0])
    files[name] = files[name][: data.draw(st.integers(0, len(files[name])))]
    check(files)


def test_a_cut_at_any_line_or_beside_it():
    for name in ("events.jsonl", "messages.jsonl"):
        whole, at = original()[0][name], 0
        for line in whole.splitlines(keepends=True):
            at += len(line)
            for cut in (at - 2, at - 1, at):
                files = dict(original()[0])
                files[name] = whole[:cut]
                check(files)


Change = Callable[[list[bytes]], None]


@st.composite
def changes(draw) -> tuple[str, Change]:
    """One way to damage a file of lines."""
    name = draw(st.sampled_from(FILES))
    kind = draw(
        st.sampled_from(["flip", "flip", "flip", "delete", "repeat", "insert", "swap", "join", "erase", "replace"])
    )
    where, other = draw(st.integers(0, 10**6)), draw(st.integers(0, 10**6))
    junk = draw(
        st.sampled_from(
            [
                b"\n",
                b"junk\n",
                b"{}\n",
                b"\xff\xfe\n",
                b"[" * 3000 + b"\n",
                b"null\n",
                b'{"k":"' + b"0" * 32 + b'","j":1}\n',
            ]
        )
    )
    byte = draw(st.integers(0, 255))
    digit = draw(st.sampled_from(b'0123456789"{}[],:#@='))

    def change(lines: list[bytes]) -> None:
        if not lines:
            lines.append(junk)
            return
        line, second = where % len(lines), other % len(lines)
        if kind in ("flip", "replace"):
            data = bytearray(lines[line])
            data[other % len(data)] = byte if kind == "flip" else digit
            lines[line] = bytes(data)
        elif kind == "delete":
            del lines[line]
        elif kind == "repeat":
            lines.insert(second, lines[line])
        elif kind == "insert":
            lines.insert(line, junk)
        elif kind == "swap":
            lines[line], lines[second] = lines[second], lines[line]
        elif kind == "join":
            lines[line] = lines[line].rstrip(b"\n")
        elif kind == "erase":
            del lines[min(line, second) : max(line, second)]

    return name, change


@settings(max_examples=400, deadline=None)
@given(st.lists(changes(), min_size=1, max_size=4))
def test_every_mutation(made):
    files = dict(original()[0])
    for name, change in made:
        lines = files[name].splitlines(keepends=True)
        change(lines)
        files[name] = b"".join(lines)
    check(files)


@pytest.mark.parametrize("first", FILES)
@pytest.mark.parametrize("second", FILES)
def test_swapped_files(first, second):
    files = dict(original()[0])
    files[first], files[second] = files[second], files[first]
    check(files)


@pytest.mark.parametrize("name", FILES)
def test_missing_files(name):
    files = dict(original()[0])
    del files[name]
    if name == "events.jsonl":
        with tempfile.TemporaryDirectory() as base:
            with pytest.raises(CorruptRecording):
                RecordReader(base)
    else:
        files.setdefault("metadata.json", b"")
        check(files)


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none() | st.integers() | st.floats() | st.text(max_size=5) | st.booleans(),
        lambda v: st.lists(v, max_size=2),
        max_leaves=3,
    ),
    st.data(),
)
def test_metadata_with_any_value_in_any_place(value, data):
    files = dict(original()[0])
    wire = json.loads(files["metadata.json"])
    wire[data.draw(st.sampled_from(sorted(RecordMetadata.__struct_fields__)))] = value
    files["metadata.json"] = json.dumps(wire).encode()
    check(files)


fields = [
    "syscall",
    "context",
    "llm",
    "request",
    "response",
    "body",
    "args",
    "rope",
    "head",
    "vary",
    "list",
    "provider",
    "sha256",
    "span_id",
    "type",
    "seq_num",
    "call",
    "messages",
]
strange = [None, 0, -1, 2**64, 1.5, "", "x", [], {}, ["#x"], ["@x", "="], {"$float": "nan"}, {"$ref": "x"}, [[]], True]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(range(12)),
    st.lists(st.sampled_from(fields), min_size=1, max_size=4),
    st.sampled_from([*strange, "anthropic", "gemini", "openai_responses"]),
)
def test_events_with_any_value_in_any_place(index, path, value):
    """Lines that are JSON, and even events, but not what a writer writes."""
    files = dict(original()[0])
    lines = files["events.jsonl"].splitlines(keepends=True)
    wire = json.loads(lines[index])
    place = wire
    for key in path[:-1]:
        deeper = place.get(key)
        if isinstance(deeper, dict):
            place = deeper
    place[path[-1]] = value
    lines[index] = json.dumps(wire).encode() + b"\n"
    files["events.jsonl"] = b"".join(lines)
    check(files)
