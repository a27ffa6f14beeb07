"""A fork's context and its edits."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unspool.events import ToolCall
from unspool.replay import ForkContext, ForkMessage


def fork(*messages: ForkMessage, **fields) -> ForkContext:
    return ForkContext(7, 12, "look for whales", fields.pop("system_prompt", "be terse"), list(messages), **fields)


def test_the_wire_form_has_the_seeds_keys():
    context = fork(ForkMessage("user", "hi"), ForkMessage("tool", "found", "c1"))
    wire = json.loads(context.to_json())
    assert list(wire)[:5] == ["original_pid", "seq_num", "intent", "system_prompt", "messages"]
    assert wire["messages"] == [
        {"role": "user", "content": "hi"},
        {"role": "tool", "content": "found", "tool_call_id": "c1"},
    ]
    assert json.loads(fork().to_json())["messages"] == []


def test_the_system_prompt_is_replaced_and_leaves_no_trace():
    context = fork(ForkMessage("system", "be terse"), ForkMessage("user", "be terse"))
    context.set_system_prompt("be wordy")
    assert context.system_prompt == "be wordy"
    assert context.messages == [ForkMessage("user", "be terse")]


def test_setting_a_prompt_where_there_was_none_touches_no_message():
    context = fork(ForkMessage("system", ""), ForkMessage("user", "hi"), system_prompt="")
    context.set_system_prompt("new")
    assert len(context.messages) == 2


def test_any_role_is_appended():
    context = fork()
    context.append_message("user", "hi")
    context.append_message("oracle", "hm")
    assert context.messages == [ForkMessage("user", "hi"), ForkMessage("oracle", "hm")]


def test_two_forks_do_not_share_messages():
    one, other = ForkContext(1, 1), ForkContext(1, 1)
    one.append_message("user", "hi")
    assert other.messages == []


@given(st.integers(0, 6), st.integers(0, 10))
def test_the_last_messages_are_removed(count, n):
    context = fork(*(ForkMessage("user", str(number)) for number in range(count)))
    context.remove_last_messages(n)
    assert [message.content for message in context.messages] == [str(number) for number in range(max(count - n, 0))]


def test_a_negative_number_of_messages_is_refused():
    context = fork(ForkMessage("user", "hi"))
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        context.remove_last_messages(-1)
    assert len(context.messages) == 1


def test_the_last_message_keeps_all_but_its_text():
    context = fork(ForkMessage("user", "hi"), ForkMessage("tool", "old", "c1", "search"))
    context.replace_last_message("new")
    assert context.messages == [ForkMessage("user", "hi"), ForkMessage("tool", "new", "c1", "search")]
    empty = fork()
    empty.replace_last_message("new")
    assert empty.messages == []


def test_the_summary():
    context = fork(ForkMessage("user", "x" * 32), system_prompt="é" * 8)
    assert context.summary().split("\n") == [
        "Original PID: 7",
        "SeqNum: 12",
        "Intent: look for whales",
        "Messages: 1",
        "System Prompt: len:16",
        "Tokens (est): ~10",
    ]
    assert "System Prompt" not in fork(system_prompt="").summary()


def test_the_summary_says_what_else_is_known():
    context = fork(
        ForkMessage("tool", "x", "c9"), snapshot_seq_num=10, model="gpt-5", partial="no\nbody", system_prompt=""
    )
    assert context.summary().split("\n")[-4:] == [
        "Snapshot: #010, the context in force at #012",
        "Model: gpt-5",
        r"Note: not all the model saw: no\nbody",
        "Note: message 1 is the result of call c9, which no message before it makes",
    ]
    assert "Snapshot" not in fork(snapshot_seq_num=12).summary()


def test_nothing_in_the_summary_acts_on_the_terminal():
    context = ForkContext(7, 1, "a\x1b[2Jb\nc", "", [])
    assert r"Intent: a\x1b[2Jb\nc" in context.summary()


def test_calls_without_results_and_results_without_calls_are_problems():
    call, other = ToolCall("search", "{}", "c1"), ToolCall("open", "{}", "c2")
    asked = ForkMessage("assistant", "", tool_calls=[call, other])
    assert fork(asked, ForkMessage("tool", "a", "c1"), ForkMessage("tool", "b", "c2")).problems() == []
    assert fork(asked, ForkMessage("tool", "a", "c1")).problems() == [
        "message 1 calls open (c2), which no message after it answers"
    ]
    assert fork(ForkMessage("tool", "a", "c1"), asked, ForkMessage("tool", "b", "c2")).problems() == [
        "message 1 is the result of call c1, which no message before it makes",
        "message 2 calls search (c1), which no message after it answers",
    ]
