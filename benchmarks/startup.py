"""Start-up: `unspool --help` (goal 0.15 s) and arming the agent's process over bare Python (goal 60 ms)."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time

from unspool.capture.environment import variables
from unspool.capture.process import Lineage
from unspool.store import new_hex_id

RUNS = 15


def _seconds(command: list[str], env: dict[str, str] | None = None) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=env)
    return time.perf_counter() - began


def main() -> None:
    help_s = statistics.median(_seconds([sys.executable, "-m", "unspool", "--help"]) for _ in range(RUNS))
    print(f"unspool --help: {help_s:.3f} s (goal 0.150)")
    with tempfile.TemporaryDirectory() as folder:
        lineage = Lineage(store=folder, trace_id=new_hex_id())
        armed = {**os.environ, **variables(lineage, os.environ.get("PYTHONPATH"))}
        bare = [sys.executable, "-c", "pass"]
        pairs = [(_seconds(bare, armed), _seconds(bare)) for _ in range(RUNS)]
    added = statistics.median(one - other for one, other in pairs)
    print(f"arming an agent: {added * 1000:.1f} ms over bare Python (goal 60)")
