"""`unspool show`."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from cli_events import model_call, snapshot, state, tool

from unspool.recording.reader import RecordReader


def text_of(result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_recording_at_a_glance(invoke, agent_run):
    text = text_of(invoke("show", "1"))
    for label, value in {
        "PID": "1 (OS process",
        "Intent": "demo",
        "State": "completed",
        "Children": "PID 2 (agent) help out",
        "Calls": "3 model calls, 4 tool calls",
        "Errors": "1",
        "Damage": "none",
    }.items():
        assert any(line.startswith(label) and value in line for line in text.splitlines()), (label, text)
    assert "unknown price" not in text


def test_the_overview_for_a_program(as_json, agent_run):
    found = as_json("show", "1")
    assert list(found) == ["metadata", "totals", "folder", "bytes", "children", "damage"]
    assert found["metadata"]["exit_code"] == 0
    assert found["totals"]["calls"] == 3
    assert len(found["children"]) == 1
    assert found["bytes"] > 1000


def test_the_overview_lists_damage(invoke, make):
    recorder = make(state(), *(tool() for _ in range(30)))
    path = recorder.record_dir / "events.jsonl"
    data = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([data[0], b"garbage\n", *data[2:4], b"\xff\xfe\n", *data[5:]]))
    text = text_of(invoke("show", "last"))
    assert "events.jsonl:2" in text
    assert "events.jsonl:5" in text


@pytest.mark.parametrize("point", ["call:2", "step:2"])
def test_a_model_call_is_shown_as_a_person_reads_it(invoke, agent_run, point):
    text = text_of(invoke("show", f"1@{point}"))
    assert "be brief" in text
    assert "hello ☃" in text
    assert "request POST http://127.0.0.1:" in text
    assert "response 200 OK" in text
    assert "content-type: application/json" in text.lower()
    assert "sk-secret" not in text
    assert "llm: model=" in text


def test_all_events_of_a_call_show_the_same_exchange(invoke, agent_run, as_json):
    call = as_json("show", "1@call:2")
    store_id = call["record_id"]
    with RecordReader(agent_run.records / store_id) as reader:
        numbers = [one.seq_num for one in reader.bare_events() if one.call == 2 and one.step == 2]
        kinds = {one.type for one in reader.bare_events() if one.seq_num in numbers}
    assert len(kinds) == 3
    for number in numbers:
        other = as_json("show", f"1@{number}")
        if other["answer"] is not None:
            assert other["request"] == call["request"]
            assert other["response"] == call["response"]


def test_a_model_call_for_a_program(as_json, agent_run):
    found = as_json("show", "1@call:1")
    assert list(found) == ["record_id", "event", "context", "request", "response", "call", "answer"]
    assert found["request"]["method"] == "POST"
    assert json.loads(found["request"]["body"])["model"] == "gpt-4.1-mini"
    assert found["response"]["status"] == 200
    assert found["answer"]["finish_reason"] == "stop"
    assert found["context"]["messages"][-1]["content"] == "hello ☃"
    assert found["call"]["duration"] > 0


def test_raw_writes_exactly_the_bytes(agent_run, unspool):
    def raw(which: str) -> bytes:
        return subprocess.run(
            [sys.executable, "-m", "unspool", "show", "1@call:1", "--raw", which],
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout

    request = json.loads(raw("request"))
    assert request["messages"][1]["content"] == "hello ☃"
    assert json.loads(raw("response"))["choices"][0]["message"]["role"] == "assistant"
    assert not raw("request").endswith(b"\n")


def test_an_http_request_that_is_no_model_call(invoke, agent_run, as_json):
    found = next(
        event
        for number in range(1, 40)
        if (event := as_json("show", f"1@{number}"))["event"].get("syscall", {}).get("syscall") == "HTTP"
    )
    assert found["request"]["url"].endswith("/v1/models")
    assert found["response"]["status"] == 200
    text = text_of(invoke("show", f"1@{found['event']['seq_num']}"))
    assert "request GET" in text
    assert "response 200" in text


def test_a_tool_call_in_full(invoke, make):
    make(state(), tool(result={"answer": "x" * 500}))
    assert "x" * 500 in text_of(invoke("show", "last@2"))


def test_a_call_in_flight_says_so(invoke, make):
    make(snapshot(1), running=True)
    assert "no answer is recorded" in text_of(invoke("show", "last@call:1"))


def test_a_recording_without_exchanges_has_messages(invoke, make):
    make(*model_call(1))
    text = text_of(invoke("show", "last@call:1"))
    assert "1 user" in text
    assert "hi" in text


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["9"], 1, 'recording "9" not found'),
        (["last@99"], 1, "its events are 1 to 2"),
        (["last@call:3"], 1, "has no model call 3"),
        (["last@x"], 2, "REC@call:N"),
        (["last", "--raw", "request"], 2, "--raw needs a point"),
        (["last@1", "--raw", "request"], 2, "has no request"),
        (["last@1", "--raw", "headers"], 2, "headers"),
        ([], 2, "REC"),
    ],
)
def test_bad_input(invoke, make, args, code, message):
    make(state(), tool())
    result = invoke("show", *args)
    assert result.exit_code == code
    assert message in result.stderr
    assert result.stdout == ""


def test_missing_bytes_are_an_error_that_says_why(invoke, agent_run):
    folder = next(one for one in agent_run.records.iterdir() if one.name.startswith("1-"))
    (folder / "messages.jsonl").write_text("")
    result = invoke("show", "1@call:1", "--raw", "request")
    assert result.exit_code == 1
    assert "missing or damaged" in result.stderr
    assert invoke("show", "1@call:1").exit_code == 0
    assert invoke("show", "1").exit_code == 0


def test_a_recording_without_events_file_cannot_be_shown(invoke, make):
    (make().record_dir / "events.jsonl").unlink()
    result = invoke("show", "last")
    assert result.exit_code == 1
    assert "events.jsonl is missing" in result.stderr
