"""Rollout files of Codex CLI, in the shapes that openai/codex writes (Apache-2.0; shapes only, the content is made up).

Lines and events: `RolloutLine`, `SessionMeta`, `TurnContextItem`, `McpToolCallEndEvent`, `ThreadRolledBackEvent` in
`codex-rs/protocol/src/protocol.rs`; items: `ResponseItem` in `codex-rs/protocol/src/models.rs`; which of them are
written: `codex-rs/rollout/src/policy.rs` at 0136a731. How `shell` and `exec_command` report themselves is as other
readers of rollouts quote them in their tests.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unspool.events import RecordEventType
from unspool.interop.importing import import_paths
from unspool.trace.from_recording import recorded_trace

META = {
    "id": "0199d1d0-5c1e-7a10-9a3e-111111111111", "session_id": "0199d1d0-5c1e-7a10-9a3e-111111111111",
    "timestamp": "2026-01-01T00:00:00.000Z", "cwd": "/repo", "originator": "codex_cli_rs", "cli_version": "0.153.0",
    "source": "cli", "model_provider": "openai", "base_instructions": {"text": "You are Codex."},
    "git": {"commit_hash": "abc", "branch": "main"},
}  # fmt: skip
TURN = {
    "turn_id": "t1", "cwd": "/repo", "current_date": "2026-01-01", "timezone": "UTC", "approval_policy": "on-request",
    "sandbox_policy": {"type": "workspace-write"}, "model": "gpt-c", "effort": "high", "summary": "auto",
}  # fmt: skip


def user(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def said(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}],
            "phase": "final_answer"}  # fmt: skip


def asked(name: str, arguments: dict[str, Any], call_id: str) -> dict[str, Any]:
    return {"type": "function_call", "name": name, "arguments": json.dumps(arguments), "call_id": call_id}


def gave(output: Any, call_id: str) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def counted(total: int, read: int, wrote: int, cached: int = 0, written: int | None = None) -> dict[str, Any]:
    last = {"input_tokens": read, "cached_input_tokens": cached, "output_tokens": wrote, "reasoning_output_tokens": 0,
            "total_tokens": read + wrote}  # fmt: skip
    if written is not None:
        last["cache_write_input_tokens"] = written
    info = {"total_token_usage": {"total_tokens": total}, "last_token_usage": last, "model_context_window": 272_000}
    return {"type": "token_count", "info": info, "rate_limits": {"primary": {"used_percent": 12.0}}}


@pytest.fixture
def rollout(tmp_path, store, read):
    """Gives the recording of these lines, one second apart: `(type, payload)`."""

    def imported(*lines: tuple[str, Any]) -> Any:
        path: Path = tmp_path / "rollout-2026-01-01T00-00-00-x.jsonl"
        whole = [
            {"timestamp": f"2026-01-01T00:00:{second:02d}.000Z", "type": kind, "payload": payload}
            for second, (kind, payload) in enumerate([("session_meta", META), ("turn_context", TURN), *lines])
        ]
        path.write_text("".join(json.dumps(line) + "\n" for line in whole))
        [result] = import_paths([path], store)
        assert (result.format, result.problems) == ("codex", [])
        return read(result.records[0].record_id)

    return imported


def item(payload: Any) -> tuple[str, Any]:
    return "response_item", payload


def event(kind: str, **payload: Any) -> tuple[str, Any]:
    return "event_msg", {"type": kind, **payload}


def tools(reader: Any) -> list[Any]:
    return [one.syscall for one in reader.events() if one.syscall is not None and one.syscall.syscall == "ToolCall"]


def contexts(reader: Any) -> list[list[str]]:
    found = [one.context for one in reader.events() if one.type is RecordEventType.CONTEXT_SNAPSHOT]
    return [[message.content for message in context.messages] for context in found]


SHELL = "Exit code: {code}\nWall time: 0.2 seconds\nOutput:\n{text}"
EXEC = (
    "Chunk ID: 3f\nWall time: 0.0501 seconds\nProcess exited with code {code}\nOriginal token count: 3\nOutput:\n{text}"
)


@pytest.mark.parametrize("form", [SHELL, EXEC])
def test_commands_say_themselves_how_they_ended(rollout, form):
    well, badly = form.format(code=0, text="a.py\n"), form.format(code=2, text="Exit code: 0 of nothing\n")
    reader = rollout(
        item(user("list")), item(asked("shell", {"command": ["ls"]}, "c1")), item(gave(well, "c1")),
        item(asked("shell", {"command": ["false"]}, "c2")), item(gave(badly, "c2")), item(said("done")),
    )  # fmt: skip
    first, second = tools(reader)
    assert (first.result, first.err) == (well, "")
    assert (second.result, second.err) == (None, "exit code 2\nExit code: 0 of nothing")
    assert contexts(reader)[-1] == ["list", "", well, "", badly]  # the model saw all of it


def test_text_that_only_looks_like_a_report_is_a_result(rollout):
    text = "the log says\nExit code: 1\nand goes on"
    reader = rollout(item(user("read")), item(asked("read", {}, "c1")), item(gave(text, "c1")))
    [tool] = tools(reader)
    assert (tool.result, tool.err) == (text, "")


def test_outputs_of_several_parts(rollout):
    parts = [{"type": "input_text", "text": "one"}, {"type": "input_text", "text": "two"}]
    image = [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "data:image/png;base64,AA=="}]
    call = {"type": "custom_tool_call", "status": "completed", "call_id": "c2", "name": "exec", "input": "tools.x()"}
    reader = rollout(
        item(user("go")), item(asked("view", {}, "c1")), item(gave(parts, "c1")), item(call),
        item({"type": "custom_tool_call_output", "call_id": "c2", "output": image}),
    )  # fmt: skip
    first, second = tools(reader)
    assert first.result == "one\ntwo"
    assert (second.args["input"], second.result) == ({"input": "tools.x()"}, image)


def test_events_say_how_long_a_tool_took_and_why_it_failed(rollout):
    call = {"call_id": "c1", "invocation": {"server": "github", "tool": "get", "arguments": {}}}
    refused = {"content": [{"type": "text", "text": "no such issue"}], "isError": True}
    patch = {"call_id": "c3", "turn_id": "t1", "stdout": "", "stderr": "no such hunk", "success": False, "changes": {}}
    reader = rollout(
        item(user("go")),
        item(asked("mcp__github__get", {"id": 1}, "c1")),
        event("mcp_tool_call_end", **call, duration={"secs": 1, "nanos": 500}, result={"Ok": refused}),
        item(gave("no such issue", "c1")),
        item(asked("mcp__github__get", {"id": 2}, "c2")),
        event(
            "mcp_tool_call_end", **call | {"call_id": "c2"}, duration={"secs": 0, "nanos": 7}, result={"Err": "gone"}
        ),
        item(gave("err: gone", "c2")),
        item({"type": "custom_tool_call", "status": "completed", "call_id": "c3", "name": "apply_patch", "input": "*"}),
        event("patch_apply_end", **patch),
        item({"type": "custom_tool_call_output", "call_id": "c3", "output": "no such hunk"}),
        item(asked("shell", {}, "c4")),
        event(
            "exec_command_end", call_id="c4", exit_code=1, aggregated_output="boom", duration={"secs": 2, "nanos": 0}
        ),
        item(gave("boom", "c4")),
    )
    assert [(tool.err, tool.duration) for tool in tools(reader)] == [
        ("no such issue", 1_000_000_500),
        ("gone", 7),
        ("no such hunk", 2_000_000_000),  # from the times of the lines
        ("exit code 1\nboom", 2_000_000_000),
    ]


def test_turns_that_were_taken_back_are_in_no_later_prompt(rollout):
    reader = rollout(
        item(user("<environment_context>cwd</environment_context>")), item(user("one")), item(said("1")),
        item(user("two")), item(said("2")), event("thread_rolled_back", num_turns=1),
        item(user("three")), item(said("3")),
    )  # fmt: skip
    around = "<environment_context>cwd</environment_context>"
    assert contexts(reader) == [[around, "one"], [around, "one", "1", "two"], [around, "one", "1", "three"]]
    assert reader.metadata.intent == "one"


def test_what_is_not_the_models_is_not_its_answer(rollout):
    search = {"type": "tool_search_call", "call_id": "s1", "execution": "client", "arguments": {"query": "git"}}
    reader = rollout(
        item({"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "be careful"}]}),
        item(user("go")),
        item({"type": "agent_message", "author": "planner", "recipient": "user", "content": []}),
        item(search),
        event("token_count", **counted(10, 100, 20, cached=60, written=30)),
        item(
            {"type": "tool_search_output", "call_id": "s1", "status": "completed", "execution": "client", "tools": []}
        ),
        item(said("done")),
        event("token_count", **counted(30, 130, 5)),
        event("token_count", info=None, rate_limits={"primary": None}),
    )
    calls = [one for one in recorded_trace([reader]).spans if one.kind == "llm"]
    assert [(one.attributes["gen_ai.usage.input_tokens"], one.tokens_used) for one in calls] == [(100, 120), (130, 135)]
    assert calls[0].attributes["gen_ai.usage.cache_creation.input_tokens"] == 30
    assert [(tool.args["path"], tool.result) for tool in tools(reader)] == [("/dev/tool/tool_search", [])]


def test_lines_of_a_later_version_are_said_to_be_left_out(rollout):
    reader = rollout(
        item(user("go")), ("inter_agent_communication", {"author": "/root", "content": "hi"}), item(said("done"))
    )
    assert contexts(reader) == [["go"]]
    assert "inter_agent_communication" in " ".join(reader.metadata.extra["imported"]["missing"])
    assert reader.metadata.extra["imported"]["details"]["version"] == "0.153.0"


def test_a_compacted_conversation_goes_on_with_what_replaced_it(rollout):
    history = [user("summary of before")]
    reader = rollout(
        item(user("one")), item(said("1")), ("compacted", {"message": "", "replacement_history": history}),
        item(user("two")), item(said("2")), ("compacted", {"message": "all of it in short"}),
        item(user("three")), item(said("3")),
    )  # fmt: skip
    assert contexts(reader) == [["one"], ["summary of before", "two"], ["all of it in short", "three"]]
