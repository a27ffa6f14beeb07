"""unspool started by a recorded program is no agent, and what it runs is a run of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from unspool.recording import RecordManager
from unspool.store import Store


def test_a_run_inside_a_run_records_its_command_and_not_itself(tmp_path: Path) -> None:
    env = {**os.environ, "UNSPOOL_STORE": str(tmp_path / "store")}
    run = [sys.executable, "-m", "unspool", "run"]
    inner = [*run, "--name", "inner", "--", sys.executable, "-c", "print('hello')"]
    done = subprocess.run([*run, "--name", "outer", "--", *inner], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "hello\n")
    records = RecordManager(Store(tmp_path / "store").records).list_records()
    assert [(one.intent, one.role, one.parent) for one in records] == [("inner", "agent", None)]
    assert "nothing was recorded" in done.stderr.splitlines()[-1]


# Starts a run of its own, which leaves a mark each time it is live.
STARTS_A_RUN = """
import subprocess, sys
mark = "open(%r, 'a').write('x')" % sys.argv[1]
words = ["run", "-q", "--name", "inner", "--", sys.executable, "-c", mark]
done = subprocess.run([sys.executable, "-m", "unspool", *words])
print("the inner run gave", done.returncode)
"""


def test_a_run_inside_a_rerun_is_refused_unless_the_rerun_may_be_live(tmp_path: Path) -> None:
    env = {**os.environ, "UNSPOOL_STORE": str(tmp_path / "store")}
    agent, mark = tmp_path / "agent.py", tmp_path / "mark"
    agent.write_text(STARTS_A_RUN)

    def unspool(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "unspool", *words], env=env, capture_output=True, text=True)

    first = unspool("run", "--name", "outer", "--", sys.executable, str(agent), str(mark))
    assert (first.returncode, mark.read_text()) == (0, "x"), first.stderr
    records = {one.intent: one.record_id for one in RecordManager(Store(tmp_path / "store").records).list_records()}

    again = unspool("rerun", records["outer"])
    assert mark.read_text() == "x"  # nothing was live
    assert "the inner run gave 2" in again.stdout
    assert f"inside a rerun of {records['outer']}" in again.stderr
    assert again.returncode == 1  # standard output is not as recorded

    inner = unspool("rerun", records["inner"])  # what it advises
    assert inner.returncode == 0, inner.stderr
    assert mark.read_text() == "xx"  # the program itself runs; it asks no model

    unspool("rerun", records["outer"], "--on-divergence", "live")
    assert mark.read_text() == "xxx"
