"""`unspool strace`: lines of recorded and running agents, filters, tables, commands."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading

import pytest
from cli_events import answer, model_call, snapshot, state, syscall, tool

from unspool.cli.filters import KINDS, EventFilter, event_kind, kinds_in
from unspool.cli.follow import Follower
from unspool.events import ErrorData, RecordEvent, RecordEventType

EVENTS = [
    state(),
    *model_call(1),
    tool("search", call=1),
    tool("broken", err="boom"),
    syscall("Spawn", "/dev/agent/helper"),
    syscall("HTTP", "/dev/net/api.example.com:443"),
    syscall("Exec", "/dev/proc/git"),
    syscall("Connect", "/dev/net/10.0.0.1:5432"),
    syscall("Open", "/dev/fs/tmp/x"),
    snapshot(2),
    answer(2, None, None, error=ErrorData("rate_limit", "slow down")),
]


# Without options a model call is one line: its context and its answer have none of their own.
CALLS = [event for event in EVENTS if event.context is None and event.llm is None]


def lines(result) -> list[str]:
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def test_a_line_for_each_call_and_who_is_attached_on_standard_error(invoke, make):
    make(*EVENTS)
    result = invoke("strace", "last")
    assert len(lines(result)) == len(CALLS)
    assert len(lines(invoke("strace", "last", "--verbose"))) == len(EVENTS)
    assert result.stdout.startswith("[  0.000s] state: created → running\n")
    assert result.stderr == (
        "[strace] attached to PID 1 (state: completed)\n[strace] detached from PID 1 (process exited)\n"
    )
    assert invoke("strace", "last", "-q").stderr == ""


def test_an_interrupted_recording_says_that_its_writer_died(invoke, make):
    recorder = make(state(), running=True)
    recorder.abandon()
    os.unlink(recorder.record_dir / "writer.lock")
    result = invoke("strace", "last")
    assert "(state: interrupted)" in result.stderr
    assert "(its writer died)" in result.stderr


def test_json_is_an_object_a_line(invoke, make):
    make(*EVENTS)
    objects = [json.loads(line) for line in lines(invoke("strace", "last", "--json"))]
    assert [one["seq_num"] for one in objects] == list(range(1, len(EVENTS) + 1))
    assert objects[4]["args"]["path"] == "/dev/tool/search"
    assert list(objects[0])[:4] == ["timestamp_ms", "pid", "seq_num", "type"]


# --- filters ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("llm", 3),
        ("tool", 2),
        ("spawn", 1),
        ("http", 1),
        ("process", 1),
        ("net", 1),
        ("file", 1),
        ("state", 1),
        ("context", 2),
        ("llm,tool", 5),
    ],
)
def test_kinds(invoke, make, kind, count):
    make(*EVENTS)
    assert len(lines(invoke("strace", "last", "-e", kind))) == count


def test_every_event_has_one_kind_and_every_kind_an_event():
    assert {event_kind(event) for event in EVENTS} == set(KINDS)
    assert event_kind(RecordEvent(RecordEventType.SYSCALL, 0, 0, 1)) == "other"
    assert event_kind(syscall("ReasonStep", "")) == "other"


def test_kinds_may_be_given_one_by_one():
    assert kinds_in(["llm, tool", "net"]) == {"llm", "tool", "net"}


def test_an_unknown_kind_lists_the_known(invoke, make):
    make()
    result = invoke("strace", "last", "-e", "tools")
    assert result.exit_code == 2
    assert all(kind in result.stderr for kind in KINDS)


@pytest.mark.parametrize(
    ("globs", "count"),
    [
        (["/dev/tool/*"], 2),
        (["search"], 1),
        (["ToolCall"], 2),
        (["*git"], 1),
        (["gpt-*"], 4),  # the context of each call, the call and its answer
        (["/dev/llm/openai/*"], 2),
        (["search", "broken"], 2),
        (["nothing"], 0),
    ],
)
def test_names(invoke, make, globs, count):
    make(*EVENTS[:-1])
    assert len(lines(invoke("strace", "last", *(word for glob in globs for word in ("--name", glob))))) == count


def test_errors_are_failed_calls_and_failed_answers(invoke, make):
    make(*EVENTS)
    text = "\n".join(lines(invoke("strace", "last", "--errors")))
    assert text.count("[ERR]") == 2
    assert "boom" in text
    assert "slow down" in text


def test_filters_combine():
    wanted = EventFilter(frozenset({"tool"}), ("b*",), errors_only=True)
    assert [event.syscall.args["path"] for event in EVENTS if wanted.wants(event)] == ["/dev/tool/broken"]


def test_verbose_cuts_nothing(invoke, make):
    make(tool(result="x" * 400))
    assert "x" * 400 not in invoke("strace", "last").stdout
    assert "x" * 400 in invoke("strace", "last", "-v").stdout


# --- the table -------------------------------------------------------------------------------------------------------


def test_stats_close_the_lines_and_stats_only_replace_them(invoke, make):
    make(*EVENTS)
    both, only = lines(invoke("strace", "last", "--stats")), lines(invoke("strace", "last", "-c"))
    assert both[-1].endswith("total")
    assert both[-len(only) :] == only
    assert len(both) == len(CALLS) + 1 + len(only)
    assert "/dev/tool/search" in "\n".join(only)


def test_stats_count_what_is_shown(invoke, make):
    make(*EVENTS)
    found = json.loads(invoke("strace", "last", "-c", "-e", "tool", "--json").stdout)
    assert [row["resource"] for row in found["stats"]] == ["/dev/tool/broken", "/dev/tool/search"]
    assert (found["total"]["calls"], found["total"]["errors"]) == (2, 1)


# --- files -----------------------------------------------------------------------------------------------------------


def test_output_goes_to_a_file_that_is_not_replaced_without_force(invoke, make, tmp_path):
    make(*EVENTS)
    path = tmp_path / "out.txt"
    assert lines(invoke("strace", "last", "-o", str(path))) == []
    assert len(path.read_text().splitlines()) == len(CALLS)
    refused = invoke("strace", "last", "-o", str(path), "-e", "state")
    assert refused.exit_code == 2
    assert "--force" in refused.stderr
    assert invoke("strace", "last", "-o", str(path), "-e", "state", "--force").exit_code == 0
    assert len(path.read_text().splitlines()) == 1


# --- several processes -----------------------------------------------------------------------------------------------


def test_follow_merges_the_processes_in_order_of_time(invoke, make):
    root = make(state(), tool("a", at=10**12), tool("d", at=4 * 10**12))
    child = make(state(), tool("b", at=2 * 10**12), tool("c", at=3 * 10**12), parent=root.record_id)
    make(tool("x"), parent=child.record_id, forked_at=1)
    make(tool("stranger"))
    result = invoke("strace", str(root.pid), "-f", "-e", "tool")
    assert [line.partition('"/dev/tool/')[2][0] for line in lines(result)] == ["a", "b", "c", "d"]
    assert [line[:9] for line in lines(result)] == ["[pid   1]", "[pid   2]", "[pid   2]", "[pid   1]"]
    assert result.stderr.count("attached to PID") == result.stderr.count("detached from PID") == 2


def test_without_follow_only_one_process_is_shown(invoke, make):
    root = make(state())
    make(state(), parent=root.record_id)
    assert len(lines(invoke("strace", "1"))) == 1


# --- running agents --------------------------------------------------------------------------------------------------


def test_no_follow_stops_at_the_end_of_what_there_is(invoke, make):
    make(state(), tool(), running=True)
    result = invoke("strace", "last", "--no-follow")
    assert len(lines(result)) == 2
    assert "(state: running)" in result.stderr
    assert "(end of what is recorded)" in result.stderr
    assert len(lines(invoke("strace", "last", "--no-follow", "--since", "now"))) == 0


class Live:
    """A strace in a process of its own, read line by line."""

    def __init__(self, *args: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "unspool", "strace", *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.out: queue.Queue[str] = queue.Queue()
        self.err: queue.Queue[str] = queue.Queue()
        self.threads = [
            threading.Thread(target=self.pump, args=pair)
            for pair in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for thread in self.threads:
            thread.start()

    @staticmethod
    def pump(stream, lines) -> None:
        for line in stream:
            lines.put(line.rstrip("\n"))
        lines.put("<end>")

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        for thread in self.threads:
            thread.join()
        self.process.stdout.close()
        self.process.stderr.close()
        self.process.wait()


def test_a_running_agent_is_followed_until_it_ends(make):
    recorder = make(state(), running=True)
    with Live("last") as live:
        assert live.err.get(timeout=30) == "[strace] attached to PID 1 (state: running)"
        assert "state:" in live.out.get(timeout=30)
        for n in range(5):
            recorder.write_event(tool(f"t{n}"))
            assert f"/dev/tool/t{n}" in live.out.get(timeout=30)  # written only now, and shown before the next
        recorder.close()
        assert live.out.get(timeout=30) == "<end>"
        assert live.err.get(timeout=30) == "[strace] detached from PID 1 (process exited)"
        assert live.process.wait(timeout=30) == 0


def test_since_now_leaves_out_what_was_before(make):
    recorder = make(tool("before"), running=True)
    with Live("last", "--since", "now") as live:
        live.err.get(timeout=30)
        recorder.write_event(tool("after"))
        assert "/dev/tool/after" in live.out.get(timeout=30)


def test_children_that_appear_are_followed_too(make):
    root = make(state(), running=True)
    with Live("1", "-f") as live:
        assert live.out.get(timeout=30).startswith("[pid   1]")
        child = make(tool("inner"), parent=root.record_id, running=True)
        assert "/dev/tool/inner" in live.out.get(timeout=30)
        root.close()
        child.write_event(tool("later"))
        assert "/dev/tool/later" in live.out.get(timeout=30)
        child.close()
        assert live.out.get(timeout=30) == "<end>"


def test_ctrl_c_only_detaches_and_still_prints_the_table(make):
    recorder = make(tool("search"), running=True)
    with Live("last", "--stats") as live:
        assert "search" in live.out.get(timeout=30)
        live.process.send_signal(signal.SIGINT)
        assert live.process.wait(timeout=30) == 130
        rest = list(iter(lambda: live.out.get(timeout=30), "<end>"))
        assert rest[-1].endswith("total")
        live.err.get(timeout=30)
        assert live.err.get(timeout=30) == "[strace] detached from PID 1 (interrupted)"
        assert live.err.get(timeout=30) == "<end>"
    recorder.write_event(tool())
    assert recorder.event_count == 2


def test_wait_waits_for_the_recording(store, make):
    with Live("last", "--wait", "-q") as live:
        make(tool("at-last"))
        assert "at-last" in live.out.get(timeout=30)
        assert live.out.get(timeout=30) == "<end>"


def test_a_follower_gives_up_its_readers(store, make):
    recorder = make(state(), running=True)
    follower = Follower(store)
    follower.attach(recorder.record_id)
    stream = follower.events()
    assert next(stream)[1].state.to_state == "running"
    assert next(stream) is None
    (reader,) = follower.close()
    assert reader.record_id == recorder.record_id


# --- commands --------------------------------------------------------------------------------------------------------

AGENT = """
import unspool
@unspool.tool(name="inner")
def work():
    return 2
with unspool.spawn("sub"):
    work()
print("out")
raise SystemExit(6)
"""


def test_a_command_is_run_its_lines_go_to_standard_error_and_its_code_comes_back(unspool, store):
    done = unspool("strace", "--", sys.executable, "-c", AGENT)
    assert (done.stdout, done.returncode) == ("out\n", 6)
    assert "[strace] attached to PID 1 (state: " in done.stderr  # it may have ended by then
    assert 'Spawn(intent="sub"' in done.stderr
    assert "inner" not in done.stderr
    assert "unspool: recorded 1-" in done.stderr


def test_a_command_with_follow_output_and_table(unspool, store, tmp_path):
    path = tmp_path / "calls"
    done = unspool("strace", "-f", "-q", "-C", "-o", str(path), "--", sys.executable, "-c", AGENT)
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "", 6)
    text = path.read_text()
    assert "[pid   2]" in text
    assert "/dev/tool/inner" in text
    assert text.endswith("total\n")


def test_a_command_goes_on_when_its_lines_cannot_be_written(store):
    code = "import unspool\n" + "unspool.tool(max)(1, 2)\n" * 50 + "raise SystemExit(6)"
    command = f"'{sys.executable}' -m unspool strace -- '{sys.executable}' -c \"$CODE\""
    line = f"{command} 2>&1 >/dev/null | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], env={**os.environ, "CODE": code}, capture_output=True, timeout=60)
    assert done.returncode == 6


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ([], 2, "say what to show"),
        (["last"], 1, "no recordings"),
        (["python", "agent.py"], 2, "unspool strace -- python agent.py"),
        (["5", "--", "true"], 2, "one command after --"),
        (["--"], 2, "no command given"),
        (["--wait", "--", "true"], 2, "not for a command"),
        (["--", "no-such-program"], 2, "command not found"),
        (["--since", "yesterday", "last"], 2, "yesterday"),
    ],
)
def test_bad_input(invoke, store, args, code, message):
    result = invoke("strace", *args)
    assert result.exit_code == code
    assert message in result.stderr


def test_a_point_is_refused_with_the_command_that_takes_it(invoke, make):
    make(state())
    result = invoke("strace", "last@1")
    assert result.exit_code == 2
    assert "unspool show last@1" in result.stderr
