"""Likely causes of a divergence, and the evidence for each."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from unspool.events import ContextSnapshotData, CtxMessage
from unspool.recording.reader import RecordReader
from unspool.recording.recorder import Recorder
from unspool.replay.cause import Cause
from unspool.replay.causes import find_causes
from unspool.replay.nearest import nearest
from unspool.replay.requests import Request, compare_contexts
from unspool.replay.scene import Scene
from unspool.serving.fingerprint import body_digest, request_key
from unspool.serving.journal import Entry
from unspool.serving.plan import Offer, Plan, Source

URL = "http://127.0.0.1/v1/chat/completions"
KEY = request_key("POST", URL, is_model_call=True)


@pytest.fixture
def reader(tmp_path: Path) -> RecordReader:
    with Recorder(tmp_path, 1, "test") as recorder:
        folder = recorder.record_dir
    return RecordReader(folder)


def request(*messages: CtxMessage, body: bytes = b"{}") -> Request:
    snapshot = ContextSnapshotData(messages=list(messages), provider="openai_chat", model="m")
    return Request("POST", URL, body, snapshot)


def offer(number: int, body: bytes, reader: RecordReader, **more: object) -> Offer:
    return Offer(
        number, "llm", reader.record_id, syscall=number, call=number, key=KEY, sha256=body_digest(body), **more
    )  # type: ignore[arg-type]


def scene(
    reader: RecordReader, offers: list[Offer], *journal: Entry, made: tuple[int, ...] = (), pin: bool = True
) -> Scene:
    plan = Plan(reader.record_id, [Source(reader.record_id, str(reader.record_dir))], pin=pin)
    return Scene(reader.record_dir, plan, offers, journal, frozenset(made), {reader.record_id: reader})


def causes(before: Request, after: Request, known: Scene, expected: Offer | None, **place: str) -> dict[str, Cause]:
    entry = Entry("divergence", record_id=known.plan.root, method=after.method, url=after.url, **place)  # type: ignore[arg-type]
    found = find_causes(entry, after, before, compare_contexts(before, after), expected, scene=known)
    return {cause.kind: cause for cause in found}


def test_a_time_that_was_read_names_the_line_that_read_it(reader: RecordReader) -> None:
    line = {"k": "datetime.now", "t": "0", "at": "/a/agent.py:7", "v": "2026-01-02T10:20:30.123456"}
    (reader.record_dir / "nondet.jsonl").write_bytes(msgspec.json.encode(line) + b"\n")
    before = request(CtxMessage("user", "it is 2026-01-02T10:20:30 now"))
    after = request(CtxMessage("user", "it is 2026-01-02T10:20:39 now"))
    expected = offer(1, b"1", reader)
    found = causes(before, after, scene(reader, [expected], pin=False), expected)
    assert list(found) == ["clock"]
    evidence = found["clock"].evidence
    assert '"2026-01-02T10:20:30" when recorded, "2026-01-02T10:20:39" now' in evidence[0]
    assert "datetime.now was read at /a/agent.py:7" in evidence[1]
    assert "--no-pin" in evidence[2]


def test_a_read_beyond_the_log_is_evidence(reader: RecordReader) -> None:
    pin = Entry("pin", path="uuid4", at="agent.py:3", reason="read more often than recorded")
    ids = ("bf007548-a4bd-49f1-b831-19c0a96c1191", "d31e275b-c48f-4446-8ae0-870800f5b99b")
    before, after = (request(CtxMessage("user", f"id {one}")) for one in ids)
    expected = offer(1, b"1", reader)
    found = causes(before, after, scene(reader, [expected], pin), expected)
    assert found["random"].evidence[-1] == "uuid4 at agent.py:3: read more often than recorded"


def test_a_changed_tool_result_says_which_tool_and_why_it_ran(reader: RecordReader) -> None:
    texts = ("the lamp arrived in good order today", "the lamp arrived in pieces, in no order today")
    before, after = (request(CtxMessage("tool", text, tool_call_id="c", tool_name="look")) for text in texts)
    expected = offer(1, b"1", reader)
    live = Entry("tool", match="live", path="/dev/tool/look", at="agent.py:3", reason="--live-tools")
    found = causes(before, after, scene(reader, [expected], live), expected)
    assert found["tool"].evidence[1] == "look ran for real at agent.py:3: --live-tools"
    unrecorded = causes(before, after, scene(reader, [expected]), expected)
    assert "was not recorded as a tool" in unrecorded["tool"].evidence[1]


def test_a_request_of_another_task_is_concurrency(reader: RecordReader) -> None:
    expected, other = offer(1, b"1", reader, task="0.1"), offer(2, b"2", reader, task="0.2")
    before, after = request(CtxMessage("user", "one"), body=b"1"), request(CtxMessage("user", "two"), body=b"2")
    found = causes(before, after, scene(reader, [expected, other]), expected, task="0.1")
    assert "task 0.2; here task 0.1" in found["concurrency"].evidence[0]


def test_a_request_served_already_was_made_once_more(reader: RecordReader) -> None:
    first, expected = offer(1, b"1", reader), offer(2, b"2", reader)
    before, after = request(CtxMessage("user", "two"), body=b"2"), request(CtxMessage("user", "one"), body=b"1")
    found = causes(before, after, scene(reader, [first, expected], made=(1,)), expected)
    assert found["inserted"].evidence == ["the recording has this very request once, and each was served already"]


def test_without_evidence_there_is_no_cause(reader: RecordReader) -> None:
    expected = offer(1, b"1", reader)
    before, after = request(CtxMessage("user", "a whale")), request(CtxMessage("user", "no ship"))
    assert list(causes(before, after, scene(reader, [expected]), expected)) == ["unknown"]


def test_the_nearest_exchange_says_for_whom_it_was_served(reader: RecordReader) -> None:
    first, expected = offer(1, b"1", reader), offer(2, b"2", reader)
    served = Entry("served", offer=1, at="agent.py:3 ask")
    known = scene(reader, [first, expected], served, made=(1,))
    entry = Entry("divergence", record_id=reader.record_id, task="0")
    [near] = nearest(request(CtxMessage("user", "one"), body=b"1"), entry, expected, known)
    assert (near.place.offer, near.likeness) == (1, 1.0)
    assert near.why.startswith("already served for the request at agent.py:3 ask")
