"""The line debugger, driven as a script drives it and as a person does."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay_fakes import TENTH, MemoryReader, agent_run, answer, snapshot, syscall

from unspool.events import (
    Body,
    ContextSnapshotData,
    CtxMessage,
    ErrorData,
    HttpRequest,
    HttpResponse,
    Part,
    RecordEvent,
    RecordEventType,
    SyscallEventData,
    ToolCall,
    ToolDef,
)
from unspool.replay import LineDebugger, ReplaySession, format_replay_summary
from unspool.replay.debugger import COMMANDS, PROMPT


def run(*lines: str, events=None, reader=None, **options) -> tuple[int, str]:
    reader = reader or MemoryReader(agent_run() if events is None else events)
    out = io.StringIO()
    options = {"interactive": False, "color": False, **options}
    code = LineDebugger(ReplaySession(reader), reader, out, **options).run(iter(lines))
    return code, out.getvalue()


def replies(*lines: str, **options) -> str:
    """What the commands printed, without the summary at the start."""
    _, text = run(*lines, **options)
    return "\n".join(text.split("\n")[6:]).rstrip("\n")


def objects(*lines: str, **options) -> list[dict]:
    _, text = run(*lines, json=True, **options)
    return [json.loads(line) for line in text.splitlines()]


class Typist:
    """A terminal: answers prompts; an exception in its list is raised instead."""

    def __init__(self, *lines) -> None:
        self.lines, self.prompts = list(lines), []

    def read_line(self, prompt: str) -> str:
        self.prompts.append(prompt)
        if not self.lines:
            raise EOFError
        line = self.lines.pop(0)
        if isinstance(line, BaseException):
            raise line
        return line


def type_in(*lines, events=None, reader=None, **options) -> tuple[int, str, Typist]:
    typist, out = Typist(*lines), io.StringIO()
    reader = reader or MemoryReader(agent_run() if events is None else events)
    debugger = LineDebugger(ReplaySession(reader), reader, out, interactive=True, color=False, **options)
    return debugger.run(typist), out.getvalue(), typist


# --- motions ---------------------------------------------------------------------------------------------------------


def test_it_begins_with_what_was_recorded():
    reader = MemoryReader(agent_run())
    assert run(reader=reader) == (0, format_replay_summary(reader.metadata, 8) + "\n")


def test_an_event_is_followed_by_its_place():
    assert replies("next") == "[#001 +0.1s] state: created → running  [1/8]"


@pytest.mark.parametrize(
    ("lines", "place"),
    [
        (["next"], 1),
        (["n", "n", "prev"], 1),
        (["n", "n", "p"], 1),
        (["step-next", "sn"], 6),
        (["goto 8", "step-prev"], 6),
        (["goto 8", "sp", "sp"], 2),
        (["goto 5"], 5),
        (["goto call:2"], 6),
        (["goto step:1"], 2),
        (["find white"], 8),
        (["f   no such ocean  "], 5),
        (["next-error"], 5),
        (["ne"], 5),
        (["step-n"], 2),
        (["  goto    5  "], 5),
        (["ne\n"], 5),
    ],
)
def test_commands_move_the_cursor(lines, place):
    code, text = run(*lines)
    assert code == 0
    assert text.rstrip().endswith(f"[{place}/8]")


@pytest.mark.parametrize(
    ("lines", "place"),
    [
        (["next", "", ""], 3),
        (["sn", "list", "where", ""], 6),
        (["find whale", "", ""], 5),
        (["goto 3", ""], 3),
        (["goto 3", "prev", ""], 1),
    ],
)
def test_an_empty_line_repeats_the_last_motion(lines, place):
    _, text = run(*lines)
    assert text.rstrip().endswith(f"[{place}/8]")


def test_an_empty_line_with_nothing_to_repeat_does_nothing():
    code, _ = run("", "  ")
    assert (code, replies("", "  ")) == (0, "")


def test_find_says_when_it_went_round():
    assert "wrapped" not in replies("find white")
    lines = replies("goto 7", "find no such").split("\n")
    assert lines[1] == "(wrapped around to the beginning)"
    assert lines[2].startswith("[#005 ")
    assert "wrapped" in replies("find white", "find white")


# --- views -----------------------------------------------------------------------------------------------------------


def test_list_shows_the_neighbours():
    assert replies("goto 4", "list 1").split("\n")[1:] == [
        "  [#003] +0.3s  syscall   Read",
        "► [#004] +0.4s  llm_response  gpt-5",
        "  [#005] +0.5s  syscall   Tool",
    ]
    assert len(replies("goto 7", "l").split("\n")) == 1 + 7
    assert replies("list") == "not started. Start with: next"


def test_where_tells_the_place_in_the_run():
    assert replies("where") == "not started: before the first of 8 events"
    assert replies("goto 5", "where").split("\n")[1] == "event 5 of 8 (#005), step 1, call 1, task 0, context of #002"
    assert replies("goto 1", "where").split("\n")[1] == "event 1 of 8 (#001)"


def test_info_shows_the_summary_again():
    reader = MemoryReader(agent_run())
    assert replies("info", reader=reader) == format_replay_summary(reader.metadata, 8)


def test_help_lists_every_command():
    text = replies("help")
    for command in COMMANDS:
        assert command.name in text
        assert command.summary in text
        assert command.summary


def test_quit_ends_the_session():
    assert replies("quit", "next") == ""
    assert replies("q", "next") == ""


def test_context_shows_what_the_model_saw():
    assert replies("goto 8", "context").split("\n")[1:] == [
        "openai_chat gpt-5, 2 messages",
        "1 user",
        "    find the whale",
        "2 user",
        "    no such ocean",
    ]


RICH = RecordEvent(
    RecordEventType.CONTEXT_SNAPSHOT,
    1,
    TENTH,
    7,
    context=ContextSnapshotData(
        messages=[
            CtxMessage("user", "two\nlines", parts=[Part("image"), Part("reasoning", "hm")]),
            CtxMessage("assistant", "", tool_calls=[ToolCall("search", '{"q": 1}', "c1")]),
            CtxMessage("tool", "found", tool_call_id="c1", tool_name="search"),
        ],
        system_prompt="be brief",
        tools=[ToolDef("search"), ToolDef("read")],
        params={"temperature": 0.5},
        provider="openai_chat",
        model="gpt-5",
        partial="state on the server",
    ),
    call=1,
)

RICH_TEXT = """\
openai_chat gpt-5, 3 messages
not all the model saw: state on the server
tools: search, read
params: temperature=0.5
system
    be brief
1 user
    two
    lines
    (image)
    (reasoning) hm
2 assistant
    → search({"q": 1}) [c1]
3 tool search [c1]
    found"""


def test_a_context_is_shown_with_its_settings_tools_and_calls():
    assert replies("n", "context", events=[RICH]).partition("\n")[2] == RICH_TEXT


def test_print_shows_a_snapshot_with_its_context():
    shown = replies("n", "print", events=[RICH]).split("\n", 1)[1]
    assert shown == "[#001 +0.1s] context: msgs=3\n  call=1\n" + RICH_TEXT


def test_print_shows_a_whole_answer():
    event = answer(1, "first\nsecond", tool_calls=[ToolCall("search", "{}", "c1")], error=ErrorData("cut", "off"))
    event.llm.finish_reason, event.llm.reasoning, event.llm.partial = (
        "length",
        "let me see",
        "the program stopped reading",
    )
    assert replies("n", "print", events=[event]).split("\n")[1:] == [
        "[#001 +0.1s] llm: model=gpt-5 req=1204tok resp=85tok",
        "  finish_reason=length",
        "  not the whole answer: the program stopped reading",
        "reasoning",
        "    let me see",
        "text",
        "    first",
        "    second",
        "tool calls",
        "    → search({}) [c1]",
        "error",
        "    cut: off",
    ]


def http_event(**response) -> RecordEvent:
    data = SyscallEventData(
        "Http",
        {"path": "/dev/net/api:443"},
        request=HttpRequest("POST", "https://api/x", body=Body(7, "in")),
        response=HttpResponse(**{"status": 200, "reason": "OK", "body": Body(9, "out"), **response}),
        error=ErrorData("httpx.ReadError", "gone"),
    )
    return RecordEvent(RecordEventType.SYSCALL, 1, 0, 7, syscall=data)


def test_print_shows_request_and_response_of_an_exchange():
    reader = MemoryReader([http_event()], bodies={"in": b'{"q":1}', "out": b"all\nfine\x1b"})
    assert replies("n", "print", reader=reader).split("\n")[1:] == [
        "[#001 +0.0s] syscall: Http",
        "  path=/dev/net/api:443",
        "  duration=0µs",
        "error",
        "    httpx.ReadError: gone",
        "request POST https://api/x",
        '    {"q":1}',
        "response 200 OK",
        "    all",
        r"    fine\x1b",
    ]


@pytest.mark.parametrize(
    ("response", "bodies", "shown"),
    [
        ({"complete": False, "ended": "cancelled"}, {}, "response 200 OK (ended early: cancelled)"),
        ({}, {"out": b"\xff\xfe"}, "(9 bytes, not text, or missing)"),
        ({"body": Body(9, missing="disk full")}, {}, "(9 bytes, missing: disk full)"),
    ],
)
def test_print_says_why_there_is_no_text(response, bodies, shown):
    reader = MemoryReader([http_event(**response)], bodies=bodies)
    assert shown in replies("n", "print", reader=reader)


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("prev", "already at beginning"),
        ("print", "no current event (not started)"),
        ("context", "no current event (not started)"),
        ("goto 99", "event with SeqNum 99 not found"),
        ("goto", "goto needs a number, got ''"),
        ("goto x", "goto needs a number, got 'x'"),
        ("goto -1", "goto needs a number, got '-1'"),
        ("goto ²", "goto needs a number"),
        ("goto " + "9" * 5000, "goto needs a number"),
        ("goto call:9", "no call 9"),
        ("goto line:9", "goto takes N, call:N or step:N"),
        ("list x", "list needs a number"),
        ("find", "find needs a text"),
        ("find kraken", "no event mentions 'kraken'"),
        ("next 3", "next takes no argument"),
        ("step", "'step' could be step-next or step-prev"),
        ("dance", "unknown command 'dance'. Commands: next (n), prev (p)"),
    ],
)
def test_a_failed_command_says_why_and_the_rest_goes_on(line, message):
    code, text = run(line, "next")
    assert code == 1
    assert message in text
    assert text.rstrip().endswith("[1/8]")


def test_context_without_a_snapshot_is_a_failure():
    code, text = run("next", "context", events=[syscall(1)])
    assert code == 1
    assert "no context snapshot found before SeqNum 1" in text


def test_the_end_of_piped_input_is_no_failure_and_a_failure_is_kept_to_the_end():
    assert run("next")[0] == 0
    assert run("dance", "next", "quit")[0] == 1


def test_ctrl_c_ends_a_piped_session():
    class Interrupted:
        def read_line(self, prompt: str) -> str:
            raise KeyboardInterrupt

    reader = MemoryReader([])
    with pytest.raises(KeyboardInterrupt):
        LineDebugger(ReplaySession(reader), reader, io.StringIO(), interactive=False, color=False).run(Interrupted())


def test_an_output_that_goes_away_ends_quietly():
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    reader = MemoryReader(agent_run())
    assert LineDebugger(ReplaySession(reader), reader, Closed(), interactive=False, color=False).run(["next"]) == 0


def test_text_of_a_recording_cannot_act_on_the_terminal():
    bad = "\x1b[2J\u202e\r"
    events = [
        syscall(1, bad, {bad: bad, "path": bad}, bad, err=bad),
        snapshot(2, bad),
        answer(3, bad, tool_calls=[ToolCall(bad, bad, bad)], error=ErrorData(bad, bad)),
    ]
    events[0].at = bad
    reader = MemoryReader(events, intent=bad)
    commands = ["n", "print", "where", "list", "n", "print", "context", "n", "print", "info", "find " + bad, bad]
    for json_mode in (False, True):
        _, text = run(*commands, reader=reader, json=json_mode)
        assert not any(char in text for char in "\x1b\u202e\r")


# --- a person at a terminal ------------------------------------------------------------------------------------------


def test_a_person_gets_a_prompt_and_a_pipe_does_not():
    _, text, typist = type_in("next", "quit")
    assert typist.prompts == [PROMPT, PROMPT]
    assert PROMPT == "replay> "
    assert PROMPT not in text
    assert PROMPT not in run("next")[1]


def test_ctrl_d_quits_and_leaves_the_shell_a_fresh_line():
    code, text, _ = type_in("next")
    assert code == 0
    assert text.endswith("[1/8]\n\n")


def test_ctrl_c_at_the_prompt_goes_on():
    code, text, _ = type_in("next", KeyboardInterrupt(), "next", "quit")
    assert code == 0
    assert text.endswith("[2/8]\n")


def test_ctrl_c_in_a_long_search_goes_on_with_the_cursor_where_it_was():
    class Slow(MemoryReader):
        def index_of(self, seq_num: int) -> int:
            raise KeyboardInterrupt

    _, text, _ = type_in("next", "goto 5", "where", reader=Slow(agent_run()))
    assert "interrupted" in text
    assert "event 1 of 8" in text


def test_a_persons_mistakes_are_no_exit_code():
    assert type_in("dance", "quit")[0] == 0


# --- JSON ------------------------------------------------------------------------------------------------------------


def test_json_gives_exactly_one_object_for_each_command():
    lines = ["next", "list 1", "print", "context", "where", "info", "help", "find whale", "dance", "", "goto", "quit"]
    got = objects(*lines)
    assert len(got) == len(lines)
    for reply in got:
        assert list(reply) == ["ok", "data", "error"]
        assert reply["ok"] is (reply["error"] is None)
    assert [line for line, reply in zip(lines, got, strict=True) if not reply["ok"]] == ["context", "dance", "goto"]


def test_json_gives_events_in_their_wire_form():
    (reply,) = objects("goto 5")
    assert reply["data"]["position"] == 5
    assert reply["data"]["total"] == 8
    event = reply["data"]["event"]
    assert (event["type"], event["seq_num"], event["syscall"]["err"]) == ("syscall", 5, "no such ocean")


def test_json_errors_have_a_code_and_a_message():
    (reply,) = objects("goto 99")
    assert reply["error"]["code"] == "SeqNotFound"
    assert "event with SeqNum 99 not found" in reply["error"]["message"]
    assert objects("dance")[0]["error"]["code"] == "UsageError"


def test_json_of_the_views():
    context, listed, where, found = objects("goto 8", "context", "list 1", "where", "find whale")[1:]
    assert context["data"]["seq_num"] == 8
    assert [m["content"] for m in context["data"]["context"]["messages"]] == ["find the whale", "no such ocean"]
    assert [item["is_cursor"] for item in listed["data"]["items"]] == [False, True]
    assert where["data"] == {
        "position": 8,
        "total": 8,
        "seq_num": 8,
        "step": 2,
        "call": 2,
        "task": "0",
        "lane": None,
        "at": None,
        "snapshot": 6,
    }
    assert found["data"]["wrapped"] is True


def test_json_print_holds_the_texts_of_an_exchange():
    reader = MemoryReader([http_event()], bodies={"in": b"question", "out": b"\xff"})
    data = objects("n", "print", reader=reader)[1]["data"]
    assert data["request_text"] == "question"
    assert "response_text" not in data


def test_json_has_no_prompt_and_no_stray_lines_at_a_terminal_either():
    _, text, typist = type_in("next", KeyboardInterrupt(), json=True)
    assert set(typist.prompts) == {""}
    assert len(text.splitlines()) == 1


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=12), max_size=5))
def test_any_input_gets_one_reply_a_line(lines):
    got = objects(*lines)
    quits = [n for n, line in enumerate(lines) if line.split()[:1] and line.split()[0] in ("q", "qu", "qui", "quit")]
    assert len(got) == (min(quits) + 1 if quits and got[quits[0]]["ok"] else len(lines))


def test_colour_reaches_failures_and_never_json():
    assert "\x1b[91m" in replies("dance", color=True)
    assert "\x1b[91m" in replies("goto 5", color=True)
    assert "\x1b" not in run("goto 5", "dance", color=True, json=True)[1]
