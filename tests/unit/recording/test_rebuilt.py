"""A recording without its metadata: what events, files and other recordings tell must give the same analyses."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path

import pytest

from unspool.events import (
    ContextSnapshotData,
    CtxMessage,
    LLMResponseData,
    RecordEvent,
    RecordEventType,
    RecordStatus,
    StateChangeData,
    SyscallEventData,
)
from unspool.recording.reader import RecordReader
from unspool.recording.recorder import Recorder
from unspool.trace.from_recording import recorded_trace
from unspool.trace.spans import SpanStatus
from unspool.trace.tree import build_span_tree

MS = 1_000_000
LAST = 90 * MS


def recorded(folder: Path, *, ended: bool = True, pid: int = 1, **fields: object) -> Path:
    """A process with a model call and two tool calls, one within the other, whose starts are written down too."""
    recorder = Recorder(folder, pid, "plan", fields=fields)
    state = RecordEvent(type=RecordEventType.STATE_CHANGE, seq_num=0, timestamp=1, pid=pid, span_id="00000001")
    state.state = StateChangeData("created", "running", "")
    recorder.write_event(state)
    common = {"call": 1, "step": 1, "task": "0", "span_id": "00000002"}
    context = ContextSnapshotData(messages=[CtxMessage("user", "hi")], provider="openai_chat", model="m")
    llm = SyscallEventData("LLMCall", {"path": "/dev/llm/x/m"}, "ok", "", 5 * MS)
    event = RecordEvent(type=RecordEventType.CONTEXT_SNAPSHOT, seq_num=0, timestamp=MS, pid=pid, **common)
    event.context = context
    recorder.write_event(event)
    common["parent_span_id"] = "00000001"
    recorder.write_event(RecordEvent(RecordEventType.SYSCALL, 0, MS, pid, syscall=llm, **common))
    answer = LLMResponseData("m", 10, 2)
    recorder.write_event(RecordEvent(RecordEventType.LLM_RESPONSE, 0, 6 * MS, pid, llm=answer, **common))
    for span, parent, name in (("00000004", "00000003", "inner"), ("00000003", "00000001", "outer")):
        call = SyscallEventData("ToolCall", {"path": f"/dev/tool/{name}", "input": {}}, "found", "", 9 * MS)
        recorder.write_event(
            RecordEvent(RecordEventType.SYSCALL, 0, 10 * MS, pid, syscall=call, call=1, task="0", span_id=span,
                        parent_span_id=parent)
        )  # fmt: skip
    starts = [
        {"span_id": "3", "parent_span_id": "1", "name": "ToolCall", "path": "/dev/tool/outer", "start": 10 * MS},
        {"span_id": "4", "parent_span_id": "3", "name": "ToolCall", "path": "/dev/tool/inner", "start": 10 * MS},
    ]
    (recorder.record_dir / "open.jsonl").write_text("".join(json.dumps(one) + "\n" for one in starts))
    if ended:
        state = RecordEvent(RecordEventType.STATE_CHANGE, 0, LAST, pid, span_id="00000001")
        state.state = StateChangeData("running", "dead", "exited")
        recorder.write_event(state)
    recorder.close()
    return recorder.record_dir


def shape(*folders: Path) -> list[tuple[int, str, str, int]]:
    """The tree of a trace: depth, kind, status and duration of each span."""
    trace = recorded_trace([RecordReader(folder) for folder in folders])
    tree = build_span_tree(trace.spans, until_ns=trace.until_ns)
    assert tree is not None
    assert tree.notes == []
    return [(depth, node.span.kind, str(node.span.status), node.span.duration) for node, depth in tree.walk()]


def lose_metadata(folder: Path) -> None:
    (folder / "metadata.json").unlink()


def test_what_has_begun_and_ended_is_one_span(tmp_path):
    folder = recorded(tmp_path)
    whole = shape(folder)
    assert [one[:3] for one in whole] == [
        (0, "agent", "ok"), (1, "llm", "ok"), (1, "tool", "ok"), (2, "tool", "ok"),
    ]  # fmt: skip
    lose_metadata(folder)
    assert shape(folder) == whole


def test_what_has_not_ended_still_shows(tmp_path):
    folder = recorded(tmp_path)
    with (folder / "open.jsonl").open("a") as file:
        file.write('{"span_id":"5","parent_span_id":"3","name":"ToolCall","path":"/dev/tool/last","start":12000000}\n')
    lose_metadata(folder)
    trace = recorded_trace([RecordReader(folder)])
    assert [span.name for span in trace.spans if span.status is SpanStatus.OPEN] == ["last"]


def test_it_began_when_it_began_to_the_moment(tmp_path):
    folder = recorded(tmp_path)
    start = RecordReader(folder).metadata.start_time
    assert start is not None
    # The last event was written when it says: that is what the file's own time is for.
    written = start + timedelta(microseconds=LAST // 1000)
    os.utime(folder / "events.jsonl", (written.timestamp(), written.timestamp()))
    lose_metadata(folder)
    found = RecordReader(folder).metadata.start_time
    assert found is not None
    assert abs(found - start) < timedelta(milliseconds=1)


def test_a_copy_made_later_goes_by_its_name(tmp_path):
    folder = recorded(tmp_path)
    start = RecordReader(folder).metadata.start_time
    assert start is not None
    os.utime(folder / "events.jsonl", (start.timestamp() + 5000, start.timestamp() + 5000))
    lose_metadata(folder)
    assert RecordReader(folder).metadata.start_time == start.replace(microsecond=0)


@pytest.mark.parametrize(("ended", "status"), [(True, RecordStatus.COMPLETED), (False, RecordStatus.INTERRUPTED)])
def test_the_last_event_says_whether_it_ended(tmp_path, ended, status):
    folder = recorded(tmp_path, ended=ended)
    lose_metadata(folder)
    reader = RecordReader(folder)
    assert reader.metadata.status is status
    assert [one.file for one in reader.damage] == ["metadata.json"]


def test_a_process_that_it_started_names_its_trace_and_hangs_where_it_was_started(tmp_path):
    folder = recorded(tmp_path, trace_id="ab" * 16)
    above = RecordReader(folder).metadata
    started_by = f"{above.span_base}00000004"
    child = recorded(
        tmp_path, pid=2, parent=above.record_id, root=above.record_id, parent_span_id=started_by, trace_id="ab" * 16
    )
    whole = shape(folder, child)
    assert whole[4][:2] == (3, "agent")
    lose_metadata(folder)
    assert [one[:3] for one in shape(folder, child)] == [one[:3] for one in whole]
    trace = recorded_trace([RecordReader(folder), RecordReader(child)])
    assert {span.trace_id for span in trace.spans} == {"ab" * 16}


def test_ids_of_other_writers_stay_as_they_are(tmp_path):
    recorder = Recorder(tmp_path, 1, "test")
    call = SyscallEventData("ToolCall", {"path": "/dev/tool/x"}, "ok", "", 0)
    recorder.write_event(RecordEvent(RecordEventType.SYSCALL, 0, 5, 1, syscall=call, span_id="c" * 32))
    recorder.write_event(RecordEvent(RecordEventType.SYSCALL, 0, 6, 1, syscall=call))
    recorder.close()
    lose_metadata(recorder.record_dir)
    reader = RecordReader(recorder.record_dir)
    assert reader.metadata.span_base is None
    assert [span.span_id for span in recorded_trace([reader]).spans[1:2]] == ["c" * 32]
    assert len(recorded_trace([reader]).spans) == 3
