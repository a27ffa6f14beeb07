"""Opening a recording of 1,000,000 events and showing any one of them (goals: 0.5 s, 150 MB, then 1 ms a goto)."""

from __future__ import annotations

import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from unspool.events import RecordEvent, RecordEventType, SyscallEventData
from unspool.recording import Recorder

EVENTS = 1_000_000


def _write(folder: str) -> Path:
    with Recorder(folder, 1, "a long run") as recorder:
        for number in range(EVENTS):
            recorder.write_event(
                RecordEvent(
                    type=RecordEventType.SYSCALL,
                    seq_num=0,
                    timestamp=number * 1000,
                    pid=1,
                    call=number // 10,
                    task="0",
                    syscall=SyscallEventData(
                        syscall="ToolCall",
                        args={"path": "/dev/tool/search", "input": {"query": f"question {number}"}},
                        result=f"answer {number}",
                        duration=1000,
                    ),
                )
            )
        return recorder.record_dir


def _read(folder: str) -> None:
    """In a process of its own, so that its memory is that of reading alone."""
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    from unspool.recording import RecordReader
    from unspool.replay import ReplaySession

    reader = RecordReader(folder)
    session = ReplaySession(reader)
    middle = session.goto(EVENTS // 2)
    opened = time.perf_counter() - began
    rng = random.Random(1)
    times = []
    for _ in range(2000):
        before = time.perf_counter()
        session.goto(rng.randint(1, EVENTS))
        times.append(time.perf_counter() - before)
    times.sort()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{reader.event_count:,} events: open and show #{middle.seq_num} {opened:.3f} s (goal 0.5), peak memory "
        f"{peak / 1000:.0f} MB of which {base / 1000:.0f} before (goal 150), goto median {times[1000] * 1e6:.0f} µs, "
        f"99 % {times[1980] * 1e6:.0f} µs (goal 1000)"
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        record_dir = _write(folder)
        subprocess.run([sys.executable, "-m", "benchmarks.open_million", str(record_dir)], check=True)


if __name__ == "__main__":
    _read(sys.argv[1])
