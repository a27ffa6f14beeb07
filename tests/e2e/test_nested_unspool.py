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
