"""Agents killed with `kill -9`: `unspool run` writes down when they ended, and nothing is damage because of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from unspool.cli.deaths import Deaths
from unspool.events import RecordMetadata, RecordStatus
from unspool.recording.manager import RecordManager
from unspool.recording.reader import RecordReader
from unspool.store import boot_id, os_process_start

needs_pidfd = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux tells of other processes' ends")

# A tool that does not end; a sub-agent in the same process.
AGENT = """
import os, signal, sys
import unspool
unspool.tool(lambda: 1)()
with unspool.spawn("helper", intent="help out"):
    unspool.tool(lambda: 2)()
    @unspool.tool
    def hang():
        {end}
    hang()
"""
KILL_ITSELF = "os.kill(os.getpid(), signal.SIGKILL)"
WAIT = "sys.stdin.read()"


def check(store, metadata: RecordMetadata, code: int | None) -> None:
    assert (metadata.status, metadata.exit_code) == (RecordStatus.INTERRUPTED, code)
    assert metadata.start_time is not None
    assert metadata.end_time is not None
    assert metadata.end_time > metadata.start_time
    with RecordReader(store.records / metadata.record_id) as reader:
        assert reader.damage == []
        assert reader.metadata.status is RecordStatus.INTERRUPTED
        assert reader.event_count == metadata.event_count > 0


def by_pid(store) -> list[RecordMetadata]:
    return sorted(RecordManager(store.records).list_records(), key=lambda one: one.pid)


def test_of_the_command_itself(unspool, store):
    done = unspool("run", "--", sys.executable, "-c", AGENT.format(end=KILL_ITSELF))
    assert done.returncode == 128 + 9
    agent, helper = by_pid(store)
    check(store, agent, 137)
    check(store, helper, None)
    found = json.loads(unspool("blame", "last", "--json").stdout)
    assert [one["name"] for one in found["unfinished"]] == ["hang"]
    root = next(part for part in found["critical_segments"])
    assert root["start_ns"] + found["summary"]["total_duration_ns"] == int(agent.end_time.timestamp() * 1e6) * 1000
    text = unspool("blame", "last").stdout
    assert "tool hang, for " in text
    assert "at least" not in text
    assert "took" in unspool("show", "last").stdout


@needs_pidfd
def test_of_a_process_below_the_command(unspool, store, tmp_path):
    script = tmp_path / "agent.py"
    script.write_text(AGENT.format(end=WAIT))
    command = [sys.executable, "-m", "unspool", "run", "-q", "--"]
    shell = ["sh", "-c", f"{sys.executable} {script}; exit 0"]
    with subprocess.Popen([*command, *shell], stdin=subprocess.PIPE) as run:
        until(lambda: len(by_pid(store)) == 2)
        os_pid = by_pid(store)[0].os_pid
        until(lambda: os_pid in watched_by(run.pid))
        before = datetime.now(UTC)
        os.kill(os_pid, signal.SIGKILL)
        assert run.wait(timeout=60) == 0
    after = datetime.now(UTC)
    for metadata in by_pid(store):
        check(store, metadata, None)  # only its parent was told how it ended
        assert before < metadata.end_time < after


@needs_pidfd
def test_only_the_process_that_was_recorded_is_watched():
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        deaths = Deaths()
        own = {"os_pid": process.pid, "os_start": os_process_start(process.pid), "boot_id": boot_id()}
        others = [{**own, "boot_id": "elsewhere"}, {**own, "os_start": 1}, {**own, "os_pid": None}]
        deaths.watch(RecordMetadata("x", 1, "", **one) for one in others)
        assert watched_by(os.getpid()) == set()
        deaths.watch([RecordMetadata("x", 1, "", **own)] * 2)
        assert watched_by(os.getpid()) == {process.pid}
        wake, end = os.pipe()
        assert not deaths.wait(0, wake)
        process.kill()
        assert not deaths.wait(60, wake)
        assert list(deaths.times) == [process.pid]
        deaths.close()
        os.close(end)
        assert deaths.wait(60, wake)
        os.close(wake)
        assert watched_by(os.getpid()) == set()


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def watched_by(os_pid: int) -> set[int]:
    """The processes that one has file descriptors of."""
    found = set()
    for path in Path(f"/proc/{os_pid}/fdinfo").iterdir():
        try:
            lines = path.read_text().splitlines()
        except OSError:  # closed meanwhile
            continue
        found |= {int(line.split()[1]) for line in lines if line.startswith("Pid:")}
    return found
