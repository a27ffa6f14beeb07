"""Blame of agents with worker processes: a pool stops its idle workers itself, and that is no fault of the run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"

POOL = """
from multiprocessing import Pool
import unspool

@unspool.tool
def search(query):
    return "nothing for " + query

if __name__ == "__main__":
    with Pool(3) as pool:
        print(pool.map(search, ["trains", "planes", "ships", "bikes"]))
"""

# A worker that its parent stops at a moment that is known: while it waits for work, or within a tool call.
STOPPED = """
import multiprocessing, sys
import unspool

@unspool.tool
def search(query):
    return "nothing for " + query

@unspool.tool
def wait(ready, never):
    ready.set()
    never.wait()

def work(ready, never, where):
    search("trains")
    if where == "in a call":
        wait(ready, never)
    ready.set()
    never.wait()

if __name__ == "__main__":
    ready, never = multiprocessing.Event(), multiprocessing.Event()
    worker = multiprocessing.Process(target=work, args=(ready, never, sys.argv[1]))
    worker.start()
    ready.wait()
    worker.kill()
    worker.join()
    sys.exit(int(sys.argv[2]))
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def unspool(tmp_path: Path) -> Run:
    left_out = ("UNSPOOL_RUN", "COLUMNS", "NO_COLOR")
    inherited = {name: value for name, value in os.environ.items() if name not in left_out}
    environment = {**inherited, "UNSPOOL_STORE": str(tmp_path / "store"), "PYTHONPATH": str(SOURCE)}

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "unspool", *args]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100, check=False)

    return run


def recorded(unspool: Run, folder: Path, code: str, *args: str) -> int:
    script = folder / "agent.py"
    script.write_text(code)
    return unspool("run", "--", sys.executable, str(script), *args).returncode


def unfinished(unspool: Run) -> list[str]:
    return [one["name"] for one in json.loads(unspool("blame", "last", "--json").stdout)["unfinished"]]


def test_a_pool_of_workers_is_healthy(unspool: Run, tmp_path: Path) -> None:
    assert recorded(unspool, tmp_path, POOL) == 0
    assert unfinished(unspool) == []
    text = unspool("blame", "last").stdout
    assert "Nothing failed." in text
    assert "killed" not in text
    assert "Wrong" not in text


def test_a_worker_that_is_stopped_while_it_waits_has_ended(unspool: Run, tmp_path: Path) -> None:
    assert recorded(unspool, tmp_path, STOPPED, "idle", "0") == 0
    assert unfinished(unspool) == []
    assert "Nothing failed." in unspool("blame", "last").stdout
    assert "◌" not in unspool("trace", "show", "last").stdout


def test_a_worker_that_is_stopped_within_a_call_has_not(unspool: Run, tmp_path: Path) -> None:
    assert recorded(unspool, tmp_path, STOPPED, "in a call", "0") == 0
    assert unfinished(unspool) == ["wait"]
    assert "killed in tool wait" in unspool("blame", "last").stdout


def test_a_worker_of_a_run_that_failed_is_looked_at(unspool: Run, tmp_path: Path) -> None:
    assert recorded(unspool, tmp_path, STOPPED, "idle", "3") == 3
    assert len(unfinished(unspool)) == 1
