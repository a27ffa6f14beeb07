"""Reruns and forks of recordings that are damaged, cut off, older, or of programs that are others by now."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from capture_harness import Recording, Result, environment, recordings, run

from unspool.demo.server import ModelServer
from unspool.events import (
    ContextSnapshotData,
    CtxMessage,
    RecordEvent,
    RecordEventType,
    RecordStatus,
    SyscallEventData,
)
from unspool.recording import Recorder
from unspool.recording.reader import RecordReader

HEAD = """\
import os, signal, sys
import unspool
from openai import OpenAI

client = OpenAI(base_url=os.environ["TEST_URL"] + "/v1", max_retries=0)
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]


def ask(*texts):
    messages = [{"role": "user", "content": text} for text in texts]
    return client.chat.completions.create(model="echo", messages=messages, tools=TOOLS).choices[0].message.content


@unspool.tool
def look(name):
    with open("looked", "a") as file:
        file.write(name + "\\n")
    return name.upper()


"""
AGENT = (
    HEAD
    + """\
first = ask("one")
seen = look("lamp")
if "DIE" in os.environ:
    os.kill(os.getpid(), signal.SIGKILL)
second = ask("two", seen + first)
print(ask("three", second))
"""
)
TEAM = (
    HEAD
    + """\
plan = ask("plan")
with unspool.spawn("finder"):
    found = ask("find", plan)
    look("lamp")
    found = ask("find more", found)
with unspool.spawn("writer"):
    text = ask("write", found)
print(ask("check", text))
"""
)


class Bench:
    """A folder with an agent and a store; `record` runs the agent against a server that is stopped afterwards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.script = folder / "agent.py"
        self.url = "http://127.0.0.1:9"

    def unspool(self, *args: str | Path, **env: str) -> Result:
        command = [sys.executable, "-m", "unspool", args[0], "--store", self.store, *args[1:]]
        more = {"TEST_URL": self.url, "NO_COLOR": "1", "NO_PROXY": "127.0.0.1", **env}
        return run(command, environment(None, **more), cwd=self.folder)

    def record(self, code: str = AGENT, **env: str) -> Result:
        self.script.write_text(code)
        with ModelServer() as server:
            self.url = server.url
            return self.unspool("run", "-q", "--", sys.executable, "agent.py", **env)

    def fork(self, *args: str) -> Result:
        with ModelServer() as server:
            return self.unspool("fork", *args, "--run", "--yes", TEST_URL=server.url)

    def looked(self) -> list[str]:
        """What the tool left since this was asked last."""
        path = self.folder / "looked"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def names(self) -> list[str]:
        """Record ids, in order of PID."""
        names = (path.name for path in (self.store / "records").iterdir())
        return sorted(names, key=lambda name: int(name.partition("-")[0]))

    def path(self, name: str = "metadata.json") -> Path:
        """A file of the first recording."""
        return self.store / "records" / self.names()[0] / name

    def change(self, **fields: Any) -> None:
        """Change the metadata of the first recording."""
        path = self.path()
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    def leftovers(self) -> list[Path]:
        folder = self.store / "reruns"
        return list(folder.iterdir()) if folder.exists() else []


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def told(result: Result, code: int, *words: str) -> str:
    """What a command said that ended as it should: an answer or an error that is meant for people."""
    text = result.stderr.decode()
    assert result.code == code, text
    assert "Traceback" not in text
    assert "defect of unspool" not in text
    for word in words:
        assert word in text
    return text


# --- bodies that are not there ---------------------------------------------------------------------------------------


def test_a_recording_without_bodies_is_refused_before_anything_starts(bench: Bench) -> None:
    bench.record()
    bench.looked()
    before = bench.names()
    bench.path("messages.jsonl").unlink()
    told(bench.unspool("rerun", "last"), 1, before[0], "none of its 3 requests", "not recorded", "unspool run --")
    told(bench.unspool("fork", "last@call:2", "--set-system", "x", "--run", "--yes"), 2, "cannot be sent again")
    assert bench.names() == before
    assert bench.looked() == bench.leftovers() == []


def test_a_recording_made_by_hand_has_no_command_and_no_bodies(bench: Bench) -> None:
    with Recorder(bench.store / "records", 1, "by hand") as recorder:
        asked = ContextSnapshotData(messages=[CtxMessage("user", "hello")], provider="openai_chat", model="m")
        recorder.write_event(RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 0, 1, 1, context=asked, call=1))
        call = SyscallEventData("LLMCall", {"path": "/dev/llm/openai/m"}, "hi", duration=1)
        recorder.write_event(RecordEvent(RecordEventType.SYSCALL, 0, 1, 1, syscall=call, call=1))
    told(bench.unspool("rerun", "1"), 1, "none of its 1 requests")
    bench.script.write_text(AGENT)
    told(bench.unspool("rerun", "1", "--", sys.executable, "agent.py"), 1, "Nothing was started")
    assert bench.looked() == []


def test_one_body_that_is_missing_stops_the_rerun_where_it_is_needed(bench: Bench) -> None:
    bench.record()
    bench.looked()
    with RecordReader(bench.path().parent) as reader:
        answers = [event for event in reader.events() if event.llm is not None]
        assert answers[1].llm is not None
        assert answers[1].llm.response is not None
        assert answers[1].llm.response.body is not None
        [text] = {answers[1].llm.response.body.sha256}
    pool = bench.path("messages.jsonl")
    lines = pool.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if b"echo: LAMP" not in line and text.encode() not in line]
    assert len(kept) < len(lines)
    pool.write_bytes(b"".join(kept))
    report = told(bench.unspool("rerun", "last"), 3, "diverged after 1 of 3 requests", "agent.py")
    assert "missing" in report or "damaged" in report or "not recorded" in report
    assert bench.looked() == bench.leftovers() == []


# --- a program that was killed ---------------------------------------------------------------------------------------


def test_a_killed_run_reruns_as_far_as_it_got(bench: Bench) -> None:
    killed = bench.record(DIE="1")
    assert killed.code == 128 + 9
    assert recordings(bench.store)[0].metadata.status is RecordStatus.INTERRUPTED
    assert bench.looked() == ["lamp"]
    report = told(bench.unspool("rerun", "last"), 3, "diverged after 1 of 1 requests", "--on-divergence live")
    assert "interrupted" in report
    # Killed at the same place it is the same run.
    told(bench.unspool("rerun", "last", DIE="1"), 0, "identical")
    assert bench.looked() == []


def test_a_killed_run_goes_on_for_real(bench: Bench) -> None:
    bench.record(DIE="1")
    bench.looked()
    with ModelServer() as server:
        ask = ("rerun", "last", "--on-divergence", "live", "--json")
        result = bench.unspool(*ask, TEST_URL=server.url)
    outcome = json.loads(result.stdout)
    assert (outcome["exit_code"], outcome["program_exit"]) == (3, 0)
    assert (outcome["same_bytes"], outcome["live"]) == (1, 2)
    assert bench.looked() == []
    forked = bench.fork("1@call:1", "--set-response", "changed")
    told(forked, 0)
    assert b"changed" in forked.stdout
    assert bench.looked() == ["lamp"]
    told(bench.unspool("rerun", "last-fork"), 0, "3 of 3 byte-identical")


@pytest.mark.parametrize("name", ["events.jsonl", "messages.jsonl", "nondet.jsonl", "stdout.jsonl"])
def test_a_torn_file_is_never_a_traceback(bench: Bench, name: str) -> None:
    bench.record()
    bench.looked()
    path = bench.path(name)
    if not path.exists():
        path.write_bytes(b"")
    whole = path.read_bytes()
    for part in (len(whole) - 3, len(whole) // 2, 0):
        path.write_bytes(whole[: max(part, 0)])
        result = bench.unspool("rerun", "1")
        assert result.code in {0, 1, 3}
        told(result, result.code)
        path.write_bytes(b"\x00{]\xff\n" + whole)
        result = bench.unspool("rerun", "1")
        assert result.code in {0, 1, 3}
        told(result, result.code)
    assert bench.looked() == bench.leftovers() == []


# --- other versions --------------------------------------------------------------------------------------------------


def test_other_versions_are_told_and_are_no_obstacle(bench: Bench) -> None:
    bench.record()
    packages = json.loads(bench.path().read_text())["packages"]
    bench.change(python="3.9.1", unspool="0.0.1", packages={**packages, "openai": "0.28.0", "gone": "1.0"})
    report = told(bench.unspool("rerun", "last"), 0, "identical")
    assert "Python 3.9.1" in report
    assert "openai 0.28.0" in report


def test_a_newer_format_is_refused_with_what_to_do(bench: Bench) -> None:
    bench.record()
    [name] = bench.names()
    bench.change(format_version=99)
    for command in (("rerun", name), ("fork", f"{name}@call:1", "--run"), ("bisect", name, "--check", "true")):
        told(bench.unspool(*command), 1, "format version 99", "Upgrade")


# --- a program that is another by now --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            'ask("one")',
            'ask("uno")',
            ["diverged after 0 of 3", "agent.py:21 <module>", "[user] uno", "the program was changed"],
        ),
        ('first = ask("one")', 'first = "I"', ["diverged after 0 of 3", "- [user] one"]),
        ('print(ask("three', 'ask("extra")\nprint(ask("three', ["diverged after 2 of 3", "[user] extra"]),
        ("import os", "import os)", ["did not make every recorded call", "exit code  1, recorded was 0"]),
        ('"parameters"', '"description": "new", "parameters"', ["diverged after 0 of 3", "look"]),
    ],
)
def test_a_changed_program_is_stopped_where_it_differs(bench: Bench, old: str, new: str, words: list[str]) -> None:
    bench.record()
    bench.looked()
    bench.script.write_text(AGENT.replace(old, new))
    result = bench.unspool("rerun", "last")
    assert result.code == 3
    for word in words:
        assert word in result.stderr.decode()
    assert bench.looked() == bench.leftovers() == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('look("lamp")', '"LAMP"', ["did not make every recorded call", "/dev/tool/look"]),
        ("look(", "peek(", ["no call of this tool", "/dev/tool/peek"]),
        ("tools=TOOLS", "tools=[]", ["diverged after 0 of 3", "look"]),
        ('look("lamp")', 'look("desk")', ['"lamp" → "desk"', "other arguments"]),
    ],
)
def test_a_missing_tool_is_named(bench: Bench, old: str, new: str, words: list[str]) -> None:
    bench.record()
    bench.looked()
    bench.script.write_text(AGENT.replace(old, new))
    told(bench.unspool("rerun", "last"), 3, *words)
    assert bench.looked() == bench.leftovers() == []


# --- several agents, forks of forks ----------------------------------------------------------------------------------


def calls_of(made: Recording) -> list[str | None]:
    return [call.answer.origin for call in made.calls]


def test_several_agents_in_one_program_rerun_and_fork_as_one(bench: Bench) -> None:
    bench.record(TEAM)
    assert bench.looked() == ["lamp"]
    report = told(bench.unspool("rerun", "last", "--deny", "fs-write,net,process"), 0, "5 of 5 byte-identical")
    assert "touched for real" not in report
    assert bench.looked() == []
    # A sub-agent is a point to fork at, and no program to run.
    root, finder, _writer = bench.names()
    told(bench.unspool("rerun", finder), 2, f"unspool rerun {root}")
    done = bench.fork(f"{finder}@call:2", "--append", "user:and a chair")
    told(done, 0)
    assert b"and a chair" in done.stdout
    assert bench.looked() == []
    made = recordings(bench.store)[3:]
    assert [calls_of(one) for one in made] == [["served", "live"], ["served", "live"], ["live"]]
    told(bench.unspool("rerun", "last-fork"), 0, "5 of 5 byte-identical")


@pytest.mark.parametrize("together", ["; ", " & "])
def test_a_command_that_starts_several_programs_is_one_run(bench: Bench, together: str) -> None:
    """Each is the first of a tree of its own; whichever is named, all of them run, each served what is its own."""
    programs = {"agent.py": AGENT, "other.py": AGENT.replace('"two"', '"deux"')}
    for name, code in programs.items():
        (bench.folder / name).write_text(code)
    line = together.join(f"{sys.executable} {name} > {name}.out" for name in programs) + "; wait"
    with ModelServer() as server:
        bench.url = server.url
        told(bench.unspool("run", "-q", "--", "bash", "-c", line), 0)
    outputs = [(bench.folder / f"{name}.out").read_bytes() for name in programs]
    assert len(set(outputs)) == 2
    assert sorted(bench.looked()) == ["lamp", "lamp"]
    commands = [one.metadata.command[-1] for one in recordings(bench.store) if one.metadata.command]
    assert sorted(commands) == ["agent.py", "other.py"]
    for which in ("1", "2"):
        told(bench.unspool("rerun", which), 0, "6 of 6 byte-identical", "2 of 2 served")
        assert [(bench.folder / f"{name}.out").read_bytes() for name in programs] == outputs
    assert bench.looked() == []
    if together == " & ":
        return
    told(bench.fork("2@call:3", "--set-response", "done"), 0)
    assert [(bench.folder / f"{name}.out").read_bytes() for name in programs] == [outputs[0], b"done\n"]
    told(bench.unspool("rerun", "last-fork"), 0, "6 of 6 byte-identical")


def test_a_fork_of_a_fork_of_a_fork(bench: Bench) -> None:
    bench.record(TEAM)
    bench.looked()
    texts = []
    for number, point in enumerate(["last@call:1", "last-fork@call:1", "last-fork@call:2"]):
        done = bench.fork(point, "--append", f"user:change {number}")
        told(done, 0)
        texts.append(done.stdout)
        assert bench.looked() == (["lamp"] if number < 2 else [])
    assert len(set(texts)) == 3
    forks = [one for one in recordings(bench.store) if one.metadata.forked_at is not None]
    lines = [one.metadata.parent for one in forks]
    assert lines == [bench.names()[0], forks[0].metadata.record_id, forks[1].metadata.record_id]
    for fork, text in zip(forks, texts, strict=True):
        again = bench.unspool("rerun", fork.metadata.record_id)
        told(again, 0, "5 of 5 byte-identical")
        assert again.stdout == text
    assert bench.looked() == []
    # Edits hold for what is behind their own point only.
    shown = bench.unspool("log").stdout.decode()
    assert all(f"change {number}" in shown for number in range(3))


def test_a_fork_whose_edits_are_damaged_says_so(bench: Bench) -> None:
    bench.record()
    told(bench.fork("last@call:2", "--append", "user:more"), 0)
    [fork] = [one for one in recordings(bench.store) if one.metadata.forked_at is not None]
    [edits] = fork.folder.glob("edits*")
    for damage in (b"{", b"[1]", b'[{"edits": {"system": 3}}]', b'[{"edits": {"ascii": "{"}}]', b"\xff\xfe"):
        edits.write_bytes(damage)
        result = bench.unspool("rerun", "last-fork")
        assert result.code in {1, 3}
        told(result, result.code, edits.name)
    edits.unlink()
    told(bench.unspool("rerun", "last-fork"), 3, "[user] more")


def test_the_original_may_be_gone(bench: Bench) -> None:
    bench.record()
    told(bench.fork("last@call:2", "--append", "user:more"), 0)
    bench.looked()
    shutil.rmtree(bench.path().parent)
    told(bench.unspool("rerun", "last-fork"), 0, "3 of 3 byte-identical")
    told(bench.fork("last-fork@call:3", "--append", "user:still more"), 0)


# --- points ----------------------------------------------------------------------------------------------------------


def test_a_point_that_is_no_call_is_the_call_before_it(bench: Bench) -> None:
    bench.record()
    bench.looked()
    [root] = recordings(bench.store)
    [tool] = root.syscalls("ToolCall")
    done = bench.fork(f"last@{tool.seq_num}", "--append", "user:more")
    told(done, 0, "no model call: the fork is at #")
    # The tool came after that call: it is asked for again.
    assert bench.looked() == ["lamp"]
    made = recordings(bench.store)[-1]
    assert calls_of(made) == ["live", "live", "live"]
    assert made.metadata.forked_at == root.calls[0].snapshot.seq_num


@pytest.mark.parametrize(
    ("point", "code", "words"),
    [
        ("1@1", 1, "no model call at or before #001"),
        ("1@9999", 1, "9999"),
        ("1@call:99", 1, "99"),
        ("1@step:99", 1, "99"),
        ("1@0", 2, "counted from 1"),
        ("1", 2, "@call:"),
        ("77@call:1", 1, "77"),
    ],
)
def test_a_point_that_is_not_there_is_an_error(bench: Bench, point: str, code: int, words: str) -> None:
    bench.record()
    bench.looked()
    before = bench.names()
    told(bench.unspool("fork", point, "--append", "user:more", "--run", "--yes"), code, words)
    assert bench.names() == before
    assert bench.looked() == bench.leftovers() == []


def test_a_folder_that_is_not_writable_starts_nothing(bench: Bench) -> None:
    bench.record()
    bench.looked()
    (bench.store / "reruns").write_text("in the way")
    told(bench.unspool("rerun", "last"), 1, "Nothing was started")
    told(bench.unspool("fork", "last@call:2", "--run", "--yes"), 1, "Nothing was started")
    assert bench.looked() == []
    os.unlink(bench.store / "reruns")
