"""`unspool replay`: the debugger on a recording, piped and at a terminal."""

from __future__ import annotations

import json
import os
import sys

import pytest
from cli_events import model_call, state, tool


def test_piped_commands(invoke, make):
    make(state(), *model_call(1), tool("broken", err="boom"))
    result = invoke("replay", "last", input="next\nnext-error\nwhere\n")
    assert result.exit_code == 0, result.output
    assert "replay> " not in result.stdout
    assert "[5/5]" in result.stdout
    assert result.stderr == ""


def test_a_failed_piped_command_exits_with_1(invoke, make):
    make(state())
    result = invoke("replay", "last", input="goto 7\n")
    assert result.exit_code == 1
    assert "SeqNum 7 not found" in result.stdout


@pytest.mark.parametrize("point", ["5", "call:2", "step:2"])
def test_a_point_is_where_it_starts(invoke, make, point):
    make(state(), *model_call(1), *model_call(2))
    result = invoke("replay", f"last@{point}", input="where\n")
    assert result.exit_code == 0
    assert "event 5 of 7" in result.stdout


def test_json_gives_one_object_a_command_also_with_a_point(invoke, make):
    make(state(), *model_call(1))
    result = invoke("replay", "last@2", "--json", input="where\nnext\nfrob\n")
    assert result.exit_code == 1
    where, after, wrong = (json.loads(line) for line in result.stdout.splitlines())
    assert where["data"]["seq_num"] == 2
    assert after["ok"] is True
    assert wrong["error"]["code"] == "UsageError"


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [(["9"], 1, "not found"), (["last@99"], 1, "not found"), (["last@call:9"], 1, "no model call 9"), ([], 2, "REC")],
)
def test_bad_input(invoke, make, args, code, message):
    make(state())
    result = invoke("replay", *args, input="next\n")
    assert result.exit_code == code
    assert message in result.stderr


def test_a_damaged_recording_is_replayed_around_the_damage(invoke, make):
    recorder = make(state(), tool(), tool())
    path = recorder.record_dir / "events.jsonl"
    data = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(data[0] + b"garbage\n" + data[2])
    result = invoke("replay", "last", input="next\nnext\n")
    assert result.exit_code == 0
    assert "[#003" in result.stdout
    assert "events.jsonl:2" in result.stderr


def test_a_running_recording_can_be_replayed(invoke, make):
    make(state(), running=True)
    assert invoke("replay", "last", input="next\n").exit_code == 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_terminal_gets_a_prompt_and_a_history_in_the_store(make, store):
    import pty

    make(state(), tool())
    pid, fd = pty.fork()
    if pid == 0:
        os.execvpe(
            sys.executable, [sys.executable, "-m", "unspool", "replay", "last@1"], {**os.environ, "TERM": "dumb"}
        )
    screen = b""
    while screen.count(b"replay> ") < 1:
        screen += os.read(fd, 4096)
    assert b"[1/2]" in screen
    os.write(fd, b"next\n")
    while screen.count(b"replay> ") < 2:
        screen += os.read(fd, 4096)
    assert b"[2/2]" in screen
    os.write(fd, b"quit\n")
    try:
        while os.read(fd, 4096):
            pass
    except OSError:  # closed by the other side
        pass
    os.close(fd)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    history = store.path / "replay_history"
    assert "next" in history.read_text()
    assert history.stat().st_mode & 0o777 == 0o600
