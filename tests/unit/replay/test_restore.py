"""Diff and fork of recordings: what the session, the restorer and the debugger give."""

from __future__ import annotations

import io
import json

import pytest
from replay_fakes import TENTH, MemoryReader, agent_run, answer, snapshot, syscall

from unspool.errors import NoSnapshot, ReplayBoundary, SeqNotFound
from unspool.events import (
    ContextSnapshotData,
    CtxMessage,
    HttpRequest,
    LLMResponseData,
    RecordEvent,
    RecordEventType,
    SyscallEventData,
    ToolCall,
    ToolDef,
)
from unspool.recording import Recorder, RecordReader
from unspool.replay import ForkMessage, LineDebugger, ReplaySession, SnapshotRestorer, TokenDelta, format_context_diff


def context(seq: int, *messages, **fields) -> RecordEvent:
    data = ContextSnapshotData(messages=list(messages), **fields)
    return RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, seq, seq * TENTH, 7, context=data)


def session_over(*events) -> ReplaySession:
    return ReplaySession(MemoryReader(list(events)))


def restore(seq: int, *events, intent="of the metadata"):
    return SnapshotRestorer(MemoryReader(list(events), intent=intent)).restore_context(seq)


# --- diff ------------------------------------------------------------------------------------------------------------


def test_each_side_is_the_snapshot_in_force_and_says_so():
    session = ReplaySession(MemoryReader(agent_run()))
    found = session.diff(5, 8)
    assert (found.from_seq_num, found.to_seq_num, found.requested_from, found.requested_to) == (2, 6, 5, 8)
    assert (found.from_timestamp, found.to_timestamp) == (2 * TENTH, 6 * TENTH)
    assert found.messages.added == ["[user] no such ocean"]
    assert "Asked for #005; the context in force there is of #002" in format_context_diff(found)
    assert session.position() == (-1, 8)


def test_the_order_is_kept():
    found = ReplaySession(MemoryReader(agent_run())).diff(8, 2)
    assert (found.from_seq_num, found.to_seq_num) == (6, 2)
    assert found.messages.removed == ["[user] no such ocean"]


def test_the_providers_count_of_a_call_is_that_of_its_answer():
    found = ReplaySession(MemoryReader(agent_run())).diff(2, 6)
    assert found.token_delta == TokenDelta(1204, 1204, 0)


def test_answers_without_numbers_belong_to_the_snapshot_before_them():
    events = [snapshot(1, "a"), answer(2), snapshot(3, "b"), snapshot(4, "c"), answer(5)]
    session = session_over(*events)
    assert session.diff(1, 3).token_delta == TokenDelta(1204, None, None)
    assert session.diff(3, 4).token_delta == TokenDelta(None, 1204, None)


def test_concurrent_calls_get_their_own_counts():
    late = RecordEvent(RecordEventType.LLM_RESPONSE, 4, 0, 7, call=1, llm=LLMResponseData("m", 10, 1))
    soon = RecordEvent(RecordEventType.LLM_RESPONSE, 3, 0, 7, call=2, llm=LLMResponseData("m", 30, 1))
    session = session_over(snapshot(1, "a", call=1), snapshot(2, "b", call=2), soon, late)
    assert session.diff(1, 2).token_delta == TokenDelta(10, 30, 20)


def test_a_count_of_zero_is_how_the_reference_says_unknown():
    zero = RecordEvent(RecordEventType.LLM_RESPONSE, 2, 0, 7, llm=LLMResponseData("m", 0, 9))
    assert session_over(snapshot(1, "a"), zero).diff(1, 2).token_delta == TokenDelta(None, None, None)


def test_from_the_cursor():
    session = ReplaySession(MemoryReader(agent_run()))
    with pytest.raises(ReplayBoundary, match="no current event"):
        session.diff_from_cursor(6)
    session.goto(3)
    assert (session.diff_from_cursor(7).from_seq_num, session.position()) == (2, (2, 8))


def test_events_that_do_not_exist_are_not_found():
    session = ReplaySession(MemoryReader(agent_run()))
    for pair in ((2, 99), (0, 2), (-1, 2)):
        with pytest.raises(SeqNotFound):
            session.diff(*pair)
    with pytest.raises(SeqNotFound):
        session.fork_at(99)


def test_without_snapshots_it_says_so():
    with pytest.raises(NoSnapshot, match=r"^no context snapshots available in this recording$"):
        session_over(syscall(1), syscall(2)).diff(1, 2)
    with pytest.raises(NoSnapshot, match=r"^diff: no context snapshot found before SeqNum 1$") as caught:
        session_over(syscall(1), snapshot(2, "a")).diff(1, 2)
    assert caught.value.seq_num == 1
    empty = RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 1, 0, 7)
    with pytest.raises(NoSnapshot, match="diff: the context snapshot #001 is empty"):
        session_over(empty).diff(1, 1)
    with pytest.raises(NoSnapshot, match="fork: the context snapshot #001 is empty"):
        session_over(empty).fork_at(1)
    with pytest.raises(NoSnapshot, match=r"^fork: no context snapshot found before SeqNum 1$"):
        session_over(syscall(1), snapshot(2, "a")).fork_at(1)


# --- fork ------------------------------------------------------------------------------------------------------------


def test_the_references_strings_become_messages():
    found = restore(4, context(2, "[system] be terse", "[user] hi", "[assistant] ho", "[tool] x", "plain"), syscall(4))
    assert (found.original_pid, found.seq_num, found.snapshot_seq_num) == (7, 4, 2)
    assert (found.intent, found.system_prompt) == ("of the metadata", "be terse")
    assert found.messages == [
        ForkMessage("user", "hi"),
        ForkMessage("assistant", "ho"),
        ForkMessage("tool", "x"),
        ForkMessage("user", "plain"),
    ]


def test_only_a_role_in_brackets_is_a_role():
    found = restore(1, context(1, "[1, 2] are given", "[note] keep", "[] x", "[user]x", "[user] [tool] y"))
    assert [(message.role, message.content) for message in found.messages] == [
        ("user", "[1, 2] are given"),
        ("user", "[note] keep"),
        ("user", "[] x"),
        ("user", "[user]x"),
        ("user", "[tool] y"),
    ]


def test_the_prompt_is_in_its_field_only():
    for messages, prompt in (
        ([CtxMessage("system", "a"), CtxMessage("user", "hi")], None),
        ([CtxMessage("system", "a"), CtxMessage("user", "hi")], "a"),
        ([CtxMessage("user", "hi")], "a"),
        (["[user] hi", "[system] a"], None),
    ):
        found = restore(1, context(1, *messages, system_prompt=prompt))
        assert (found.system_prompt, found.messages) == ("a", [ForkMessage("user", "hi")])
        found.set_system_prompt("b")
        assert "a" not in (found.system_prompt, *(message.content for message in found.messages))


def test_calls_and_their_results_stay_tied():
    call = ToolCall("search", '{"q": 1}', "c1")
    found = restore(
        1, context(1, CtxMessage("assistant", "", tool_calls=[call]), CtxMessage("tool", "x", "c1", "search"))
    )
    assert found.messages[0].tool_calls == [call]
    assert (found.messages[1].tool_call_id, found.messages[1].tool_name) == ("c1", "search")
    assert found.problems() == []


def test_what_the_call_was_made_with_is_kept():
    found = restore(
        1,
        context(1, tools=[ToolDef("t")], params={"temperature": 0}, model="m", provider="anthropic", partial="no body"),
    )
    assert (found.tools, found.params) == ([ToolDef("t")], {"temperature": 0})
    assert (found.model, found.provider, found.partial) == ("m", "anthropic", "no body")


def test_editing_a_fork_leaves_the_recording_alone():
    events = [context(1, CtxMessage("user", "hi"))]
    session = session_over(*events)
    session.fork_at(1).replace_last_message("changed")
    assert session.fork_at(1).messages == [ForkMessage("user", "hi")]


@pytest.mark.parametrize(
    ("spawns", "intent"),
    [
        ([], "of the metadata"),
        ([{"intent": "first"}], "first"),
        ([{"intent": "first"}, {"intent": "second"}], "second"),
        ([{"intent": "first"}, {"intent": 3}], "first"),
        ([{"intent": "first"}, {}], "first"),
        ([{"intent": "first", "pid": 7}], "first"),
        ([{"intent": "own"}, {"path": "/dev/agent/child", "intent": "of a child", "pid": 8}], "own"),
        ([{"path": "/dev/agent/child", "intent": "of a child", "pid": 8}], "of the metadata"),
    ],
)
def test_the_intent_is_that_of_the_last_spawn_of_this_process(spawns, intent):
    events = [syscall(number, "Spawn", args) for number, args in enumerate(spawns, start=2)]
    found = restore(9, context(1, "[user] hi"), *events, syscall(9), syscall(10, "Spawn", {"intent": "too late"}))
    assert found.intent == intent


def test_the_cursor_stays_and_must_have_started():
    session = ReplaySession(MemoryReader(agent_run()))
    with pytest.raises(ReplayBoundary, match="no current event"):
        session.fork()
    session.goto(7)
    found = session.fork()
    assert (found.seq_num, found.snapshot_seq_num, len(found.messages)) == (7, 6, 2)
    assert session.fork_at(3).snapshot_seq_num == 2
    assert session.position() == (6, 8)


# --- points ----------------------------------------------------------------------------------------------------------


def test_calls_and_steps_have_numbers_without_moving():
    session = ReplaySession(MemoryReader(agent_run()))
    assert (session.seq_of_call(2), session.seq_of_step(1)) == (6, 2)
    assert session.position() == (-1, 8)
    with pytest.raises(ReplayBoundary, match="no call 3"):
        session.seq_of_call(3)


# --- the debugger ----------------------------------------------------------------------------------------------------


def replies(*lines: str, json_form: bool = False) -> str:
    reader, out = MemoryReader(agent_run()), io.StringIO()
    LineDebugger(ReplaySession(reader), reader, out, interactive=False, color=False, json=json_form).run(iter(lines))
    return out.getvalue() if json_form else "\n".join(out.getvalue().split("\n")[6:]).rstrip("\n")


def test_diff_of_two_points():
    wanted = format_context_diff(ReplaySession(MemoryReader(agent_run())).diff(2, 6)).rstrip("\n")
    assert replies("diff 2 6") == replies("d call:1 step:2") == wanted


def test_diff_from_the_cursor():
    wanted = format_context_diff(ReplaySession(MemoryReader(agent_run())).diff(8, 2)).rstrip("\n")
    assert replies("goto 8", "diff 2").endswith(wanted)
    assert replies("diff 2") == "no current event (not started). Start with: next"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("diff", "diff takes one point or two, got 0"),
        ("diff 1 2 3", "diff takes one point or two, got 3"),
        ("diff x 2", "diff needs a number, got 'x'"),
        ("diff thing:1 2", "diff takes N, call:N or step:N, got 'thing:1'"),
        ("diff 1 2", "diff: no context snapshot found before SeqNum 1"),
        ("fork 3", "fork takes no argument, got '3'"),
    ],
)
def test_wrong_use_says_what_is_right(line, problem):
    assert replies(line) == problem


def test_fork_shows_what_it_would_start_from():
    assert replies("goto 7", "fork").split("\n")[1:] == [
        "Original PID: 7",
        "SeqNum: 7",
        "Intent: test",
        "Messages: 2",
        "Tokens (est): ~7",
        "Snapshot: #006, the context in force at #007",
        "Model: gpt-5",
    ]


def test_json_replies_are_one_object_each():
    _, diff, fork = (json.loads(line) for line in replies("goto 7", "diff 2", "fork", json_form=True).splitlines())
    assert (diff["data"]["from_seq_num"], diff["data"]["from_timestamp_ms"], diff["data"]["requested_from"]) == (
        6,
        600,
        7,
    )
    assert fork["data"]["messages"][0] == {"role": "user", "content": "find the whale"}


# --- real recordings -------------------------------------------------------------------------------------------------


def written(recorder: Recorder, data, **place) -> int:
    return recorder.write_event(RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 0, 5, 7, context=data, **place))


def test_a_recording_of_strings_round_trips(tmp_path):
    with Recorder(tmp_path, 7, "look") as recorder:
        written(recorder, ContextSnapshotData(messages=["[system] be terse", "[user] hi"]))
        spawn = SyscallEventData("Spawn", {"intent": "look " * 500})
        recorder.write_event(RecordEvent(RecordEventType.SYSCALL, 0, 6, 7, syscall=spawn))
        written(recorder, ContextSnapshotData(messages=["[system] be nice", "[user] hi", "[assistant] ho"]))
        folder = recorder.record_dir
    with RecordReader(folder) as reader:
        session = ReplaySession(reader)
        found = session.diff(2, 3)
        assert (found.from_seq_num, found.requested_from) == (1, 2)
        assert found.messages.added == ["[assistant] ho"]
        assert found.system_prompt.changed
        fork = session.fork_at(3)
        assert (fork.system_prompt, fork.intent, fork.original_pid) == ("be nice", "look " * 500, 7)
        assert [message.content for message in fork.messages] == ["hi", "ho"]
        assert session.fork_at(1).intent == "look"


def test_a_recording_of_messages_round_trips(tmp_path):
    call = ToolCall("search", '{"q": 1}', "c1")
    first = [CtxMessage("system", "be terse"), CtxMessage("user", "hi")]
    more = [CtxMessage("assistant", "", tool_calls=[call]), CtxMessage("tool", "found", "c1")]
    with Recorder(tmp_path, 7, "look") as recorder:
        written(recorder, ContextSnapshotData(messages=first, tools=[ToolDef("search")], tokens=10))
        written(recorder, ContextSnapshotData(messages=first + more, tools=[ToolDef("search")], tokens=40))
        folder = recorder.record_dir
    with RecordReader(folder) as reader:
        found = ReplaySession(reader).diff(1, 2)
        assert found.messages.added == ['[assistant] → search({"q": 1})', "[tool] found"]
        assert (found.token_delta, found.prefix_break) == (TokenDelta(10, 40, 30), None)
        fork = SnapshotRestorer(reader).restore_context(2)
        assert fork.messages[1].tool_calls == [call]
        assert fork.messages[2].tool_call_id == "c1"
        assert fork.system_prompt == "be terse"


def test_a_recording_of_request_bodies_round_trips(tmp_path):
    messages = [{"role": "system", "content": "be terse"}, {"role": "user", "content": "find the whale"}]
    more = [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "search", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "found"},
    ]
    bodies = (
        {"model": "gpt-5", "temperature": 0, "messages": messages},
        {"model": "gpt-5", "temperature": 1, "messages": [{**messages[0], "content": "be nice"}, *messages[1:], *more]},
    )
    with Recorder(tmp_path, 7, "look") as recorder:
        for number, (body, tokens) in enumerate(zip(bodies, (20, 35), strict=True), start=1):
            url = "https://api.openai.com/v1/chat/completions"
            request = HttpRequest(method="POST", url=url, headers=[])
            data = ContextSnapshotData(provider="openai_chat", model="gpt-5", request=request)
            event = RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 0, 5, 7, context=data)
            recorder.write_request(event, json.dumps(body).encode(), "messages")
            response = LLMResponseData("gpt-5", tokens, 3)
            recorder.write_event(RecordEvent(RecordEventType.LLM_RESPONSE, 0, 9, 7, llm=response, call=number))
        folder = recorder.record_dir
    with RecordReader(folder) as reader:
        session = ReplaySession(reader)
        found = session.diff(1, 4)
        assert found.token_delta == TokenDelta(20, 35, 15)
        assert found.system_prompt.changed
        assert (found.prefix_break.section, found.prefix_break.offset) == ("system", 3)
        assert found.messages.added == ["[assistant] → search({})", "[tool] found"]
        assert [(change.path, change.before, change.after) for change in found.params] == [("temperature", 0, 1)]
        fork = session.fork_at(4)
        assert (fork.system_prompt, fork.model, fork.snapshot_seq_num) == ("be nice", "gpt-5", 3)
        assert [(message.role, message.tool_call_id) for message in fork.messages] == [
            ("user", None),
            ("assistant", None),
            ("tool", "c1"),
        ]
        assert fork.problems() == []


def test_a_recording_whose_bodies_are_gone_says_so(tmp_path):
    request = HttpRequest(method="POST", url="https://api.openai.com/v1/chat/completions", headers=[])
    with Recorder(tmp_path, 7, "look") as recorder:
        data = ContextSnapshotData(provider="openai_chat", model="gpt-5", request=request)
        event = RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 0, 5, 7, context=data)
        recorder.write_request(event, None, "messages")
        folder = recorder.record_dir
    with RecordReader(folder) as reader:
        session = ReplaySession(reader)
        assert session.diff(1, 1).notes == ["#001 is not all the model saw: sent as a stream"] * 2
        assert session.fork_at(1).partial == "sent as a stream"
