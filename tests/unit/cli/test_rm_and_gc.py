"""`unspool rm` and `unspool gc`."""

from __future__ import annotations

import json
import os
import select
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
from cli_events import tool
from msgspec import structs

from unspool.cli.rerunfolders import hold_lock
from unspool.recording.metadata import write_metadata


def names(store) -> set[str]:
    return {one.name for one in store.records.iterdir()}


def aged(recorder, **age: float):
    """The recording as if it had begun that long ago."""
    before = structs.replace(recorder.metadata, start_time=datetime.now(UTC) - timedelta(**age))
    write_metadata(recorder.record_dir, before)
    return recorder.record_id


# --- rm --------------------------------------------------------------------------------------------------------------


def test_rm_takes_the_processes_it_started_along_and_leaves_the_rest(invoke, make, store):
    root = make(tool()).record_id
    child = make(parent=root).record_id
    make(parent=child, role="worker")
    fork = make(parent=root, forked_at=1).record_id
    other = make().record_id
    result = invoke("rm", "--yes", root)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("removed 3 recordings, ")
    assert names(store) == {fork, other}
    assert sorted(one.name for one in store.path.iterdir()) == [".gitignore", "pid", "records"]


def test_rm_removes_several_each_once(invoke, make, store):
    make(), make(), make()
    result = invoke("rm", "-y", "1", "3", "last", "--json")
    assert len(json.loads(result.stdout)["removed"]) == 2
    assert len(names(store)) == 1


@pytest.mark.parametrize("command", [("rm", "-y", "1"), ("gc", "--keep", "1")])
def test_what_is_removed_is_in_no_catalog(invoke, make, store, command):
    make(tool(result="a rare capercaillie")), make(tool(result="a rare ptarmigan"))
    assert "completed" in invoke("ls", "--search", "capercaillie").stdout
    assert b"capercaillie" in (store.path / "catalog.sqlite").read_bytes()
    assert invoke(*command).exit_code == 0
    assert b"capercaillie" not in (store.path / "catalog.sqlite").read_bytes()
    assert "completed" in invoke("ls", "--search", "ptarmigan").stdout
    assert invoke("ls", "--search", "capercaillie").stdout == ""


def test_rm_without_a_terminal_wants_yes(invoke, make, store):
    make()
    result = invoke("rm", "1")
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    assert "1 recording, " in result.stderr
    assert len(names(store)) == 1


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize(("answer", "code", "left"), [(b"y\n", 0, 0), (b"n\n", 1, 1), (b"\x03", 130, 1)])
def test_rm_asks_at_a_terminal(make, store, answer, code, left):
    import pty

    make(intent="precious")
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-m", "unspool", "rm", "1"])
    screen = b""
    while b"[y/N]" not in screen:
        screen += os.read(fd, 4096)
    assert b"precious" in screen
    try:
        while True:
            # Again if need be, as a person would: Python may miss an interrupt that comes just before it reads.
            os.write(fd, answer)
            while select.select([fd], [], [], 2.0)[0]:
                os.read(fd, 4096)
    except OSError:  # closed by the other side
        pass
    os.close(fd)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == code
    assert len(names(store)) == left


def test_rm_refuses_a_running_recording_and_then_removes_nothing(invoke, make, store):
    first = make()
    root = make()
    make(parent=root.record_id, running=True)
    result = invoke("rm", "--yes", str(first.pid), str(root.pid))
    assert result.exit_code == 1
    assert "still being written by OS process" in result.stderr
    assert len(names(store)) == 3


@pytest.mark.parametrize(("args", "code"), [(["7"], 1), (["last@1"], 2), ([], 2), (["../records"], 1)])
def test_rm_of_what_is_not_there(invoke, make, store, args, code):
    make()
    assert invoke("rm", "--yes", *args).exit_code == code
    assert len(names(store)) == 1


def test_a_trace_goes_with_its_last_recording(invoke, make, store):
    for _ in range(2):
        make(trace_id="ab" * 16)
    make(trace_id="../../records")
    (store.traces / ("ab" * 16)).mkdir(parents=True)
    assert invoke("rm", "--yes", "1").exit_code == 0
    assert (store.traces / ("ab" * 16)).is_dir()
    assert invoke("rm", "--yes", "2", "3").exit_code == 0
    assert list(store.traces.iterdir()) == []
    assert store.records.is_dir()


@pytest.mark.parametrize("events", [b"\x00\xff garbage\n", b"", None])
@pytest.mark.parametrize("metadata", [b"{", b"[]", None])
def test_rm_works_on_damaged_recordings(invoke, make, store, metadata, events):
    recorder = make()
    for name, content in (("metadata.json", metadata), ("events.jsonl", events)):
        if content is not None:
            (recorder.record_dir / name).write_bytes(content)
        elif name == "metadata.json" or metadata is not None:  # a folder with neither is no recording
            (recorder.record_dir / name).unlink()
    result = invoke("rm", "--yes", "1")
    assert result.exit_code == 0, result.output
    assert names(store) == set()


def test_a_recording_whose_events_are_gone_is_listed_as_such_and_can_be_removed(invoke, make, store):
    recorder = make(tool(), tool())
    (recorder.record_dir / "events.jsonl").unlink()
    assert "interrupted" in invoke("ls").stdout
    [row] = json.loads(invoke("ls", "--json").stdout)
    assert row["lost"] == recorder.metadata.event_count > 0
    assert invoke("rm", "--yes", "1").exit_code == 0
    assert names(store) == set()


# --- gc --------------------------------------------------------------------------------------------------------------


def test_gc_wants_to_know_what_to_remove(invoke, make):
    make()
    result = invoke("gc")
    assert result.exit_code == 2
    assert "--keep" in result.stderr


def test_gc_keeps_the_newest_runs_whole(invoke, make, store):
    old = make().record_id
    make(parent=old)
    new = make().record_id
    child = make(parent=new).record_id
    result = invoke("gc", "--keep", "1")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1].startswith("removed 1 run (2 recordings), ")
    assert names(store) == {new, child}


def test_gc_removes_what_is_older(invoke, make, store):
    aged(make(), days=8)
    recent = aged(make(), days=6)
    assert invoke("gc", "--older-than", "7d").exit_code == 0
    assert names(store) == {recent}


def test_gc_with_both_removes_what_is_old_and_not_among_the_newest(invoke, make, store):
    aged(make(), days=9)
    kept = {aged(make(), days=8), aged(make(), days=1), make().record_id}
    assert invoke("gc", "--older-than", "7d", "--keep", "3").exit_code == 0
    assert names(store) == kept


def test_gc_never_removes_a_run_with_a_running_process(invoke, make, store):
    root = make()
    make(parent=root.record_id, role="worker", running=True)
    make(running=True)
    assert invoke("gc", "--keep", "0").stdout == "removed 0 runs (0 recordings), 0 B; 2 runs kept\n"
    assert len(names(store)) == 3


def test_gc_dry_run_only_says(make, store, as_json):
    first = make(tool(), intent="x").record_id
    make()
    found = as_json("gc", "--keep", "1", "--dry-run")
    assert list(found) == ["dry_run", "removed", "bytes", "kept"]
    assert found["dry_run"] is True
    assert found["kept"] == 1
    assert [one["recordings"] for one in found["removed"]] == [[first]]
    assert found["bytes"] == found["removed"][0]["bytes"] > 100
    assert len(names(store)) == 2


@pytest.mark.parametrize("age", ["7", "d", "7x", "-1d", "1.5h", "", "9" * 400 + "d"])
def test_gc_refuses_an_age_it_does_not_understand(invoke, make, store, age):
    make()
    result = invoke("gc", "--older-than", age)
    assert result.exit_code == 2
    assert "for example 7d" in result.stderr
    assert len(names(store)) == 1


def test_gc_of_an_empty_store(invoke, store):
    assert invoke("gc", "--keep", "3").stdout == "removed 0 runs (0 recordings), 0 B; 0 runs kept\n"


def left(store, name: str, *, hours: float, kept: str | None = None):
    """A folder as a rerun leaves it that was killed, or told to keep it."""
    folder = store.path / "reruns" / name
    (folder / "claims").mkdir(parents=True)
    (folder / "journal.jsonl").write_text("")
    if kept is not None:
        (folder / "kept").write_text(kept)
    then = time.time() - hours * 3600
    for path in (*folder.iterdir(), folder):
        os.utime(path, (then, then))
    return folder


def test_gc_removes_what_killed_reruns_left_and_nothing_else(invoke, make, store):
    there = make().record_id
    dead = left(store, "dead", hours=2)
    orphan = left(store, "orphan", hours=2, kept="9-20260101T000000-aaaa")
    stay = [
        left(store, "young", hours=0.5),
        left(store, "kept", hours=2, kept=there),
        left(store, "nameless", hours=2, kept=""),
        left(store, "strange", hours=2, kept="../../etc"),
    ]
    in_use = left(store, "in-use", hours=2)
    lock = hold_lock(in_use)
    os.utime(in_use / "writer.lock", (0, 0))
    os.utime(in_use, (0, 0))
    assert invoke("gc", "--keep", "100", "--dry-run").exit_code == 0
    assert dead.exists()
    assert invoke("gc", "--keep", "100").exit_code == 0
    assert set((store.path / "reruns").iterdir()) == {*stay, in_use}
    assert not orphan.exists()
    os.close(lock)
    assert invoke("gc", "--keep", "100").exit_code == 0
    assert set((store.path / "reruns").iterdir()) == set(stay)
