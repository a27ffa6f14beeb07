"""Recordings in the reference's layout work in every command."""

from __future__ import annotations

import json

import pytest

EVENTS = [
    {"seq_num": 1, "timestamp": 0, "pid": 3, "type": "state_change",
     "state": {"from_state": "created", "to_state": "running", "reason": ""}},
    {"seq_num": 2, "timestamp": 1000000, "pid": 3, "type": "context_snapshot",
     "context": {"messages": ["[system] be brief", "[user] hello"]}},
    {"seq_num": 3, "timestamp": 2000000, "pid": 3, "type": "syscall",
     "syscall": {"syscall": "Open", "args": {"path": "/dev/llm/claude"}, "result": 4, "duration": 1500}},
    {"seq_num": 4, "timestamp": 3000000, "pid": 3, "type": "llm_response",
     "llm": {"model": "claude", "request_tokens": 10, "response_tokens": 20}},
    {"seq_num": 5, "timestamp": 4000000, "pid": 3, "type": "syscall",
     "syscall": {"syscall": "Write", "args": {"fd": 4}, "err": "broken pipe", "duration": 10}},
]  # fmt: skip


@pytest.fixture
def reference(store):
    folder = store.records / "3-1741946400"
    folder.mkdir()
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in EVENTS))
    metadata = {
        "record_id": folder.name, "pid": 3, "intent": "an old run", "start_time": "2025-03-14T10:00:00.5+01:00",
        "end_time": "2025-03-14T10:00:09+01:00", "event_count": 5, "status": "completed",
    }  # fmt: skip
    (folder / "metadata.json").write_text(json.dumps(metadata, indent=2))
    return folder


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["ls"], "an old run"),
        (["ps", "--all"], "completed"),
        (["show", "3"], "1 model call, 0 tool calls"),
        (["show", "last@call:1"], "hello"),
        (["show", "3-1741946400@4"], "model=claude req=10tok resp=20tok"),
        (["strace", "3"], "[ERR]"),
        (["strace", "3", "-e", "llm"], "llm: claude 10→20 tok"),
        (["gc", "--keep", "0", "--dry-run"], "would remove 1 run"),
        (["rm", "--yes", "3"], "removed 1 recording"),
    ],
)
def test_commands(invoke, reference, args, expected):
    result = invoke(*args)
    assert result.exit_code == 0, result.output
    assert expected in result.stdout


def test_replay(invoke, reference):
    result = invoke("replay", "3", input="next-error\nwhere\n")
    assert result.exit_code == 0, result.output
    assert "event 5 of 5" in result.stdout
