"""What a rerun costs (goal: at most 1.0 × the loop's time against a server without latency, without unspool).

Three runs of the same 200 calls alternate: plain against a local server, recorded, and run again with the server gone.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from unspool.demo.server import ModelServer

AGENT = Path(__file__).with_name("agent_loop.py")
CALLS = 200
ROUNDS = 5


class Run(NamedTuple):
    """Seconds of one run: its loop, as the agent measured it, and the whole command."""

    loop_s: float
    wall_s: float


def _run(command: Sequence[str | Path], url: str) -> Run:
    env = {**os.environ, "OPENAI_BASE_URL": f"{url}/v1"}
    began = time.perf_counter()
    done = subprocess.run(command, env=env, check=False, capture_output=True, text=True)
    wall = time.perf_counter() - began
    # A rerun ends with 1: the agent prints its times, and those differ.
    if done.returncode not in {0, 1}:
        raise SystemExit(f"{command[2:]} failed:\n{done.stdout}{done.stderr}")
    said: dict[str, Any] = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    return Run(said["loop_s"], wall)


def main() -> None:
    agent: list[str | Path] = [sys.executable, AGENT, str(CALLS)]
    unspool: list[str | Path] = [sys.executable, "-m", "unspool"]
    plain, recorded, again = [], [], []
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(ROUNDS):
            store = Path(scratch) / str(number)
            with ModelServer() as server:
                plain.append(_run(agent, server.url))
                recorded.append(_run([*unspool, "run", "--quiet", "--store", store, "--", *agent], server.url))
            again.append(_run([*unspool, "rerun", "--store", store, "last"], server.url))
    measures: dict[str, Callable[[Run], float]] = {
        "loop": lambda run: run.loop_s,
        "whole command": lambda run: run.wall_s,
    }
    for name, of in measures.items():
        base = statistics.median(map(of, plain))
        print(
            f"{CALLS} calls, {name}: plain {base:.2f} s; recorded {_ratio(of, recorded, plain):.3f} x; "
            f"rerun {_ratio(of, again, plain):.3f} x" + (" (goal 1.0)" if name == "loop" else "")
        )


def _ratio(of: Callable[[Run], float], runs: list[Run], plain: list[Run]) -> float:
    return statistics.median([of(one) / of(other) for one, other in zip(runs, plain, strict=True)])


if __name__ == "__main__":
    main()
