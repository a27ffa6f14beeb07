"""What recording adds to a call, and what a call costs on disk (goals: 1 ms; 1.10; 1.2; 3 KB).

Recorded and unrecorded runs alternate against one local model server without latency.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from unspool.demo.server import ModelServer
from unspool.events import RecordEventType
from unspool.recording import RecordReader

AGENT = Path(__file__).with_name("agent_loop.py")
ROUNDS = 5


def _run(url: str, calls: int, store: Path | None, *more: str) -> dict[str, Any]:
    command = [sys.executable, str(AGENT), str(calls), *more]
    if store is not None:
        command = [sys.executable, "-m", "unspool", "run", "--quiet", "--store", str(store), "--", *command]
    env = {**os.environ, "OPENAI_BASE_URL": f"{url}/v1"}
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _sizes(store: Path) -> tuple[Path, dict[str, int]]:
    (folder,) = (store / "records").iterdir()
    return folder, {file.name: file.stat().st_size for file in folder.iterdir()}


def _needed(folder: Path) -> int:
    """Bytes of the distinct messages and response bodies, without anything around them."""
    seen: set[str] = set()
    needed = 0

    def add(data: bytes) -> None:
        nonlocal needed
        key = hashlib.sha256(data).hexdigest()
        if key not in seen:
            seen.add(key)
            needed += len(data)

    with RecordReader(folder) as reader:
        for event in reader.bare_events():
            if event.type is RecordEventType.CONTEXT_SNAPSHOT and event.context and event.context.request:
                body = event.context.request.body
                data = reader.body(body) if body is not None else None
                if data is not None:
                    for message in json.loads(data)["messages"]:
                        add(json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode())
            elif event.llm is not None and event.llm.response is not None and event.llm.response.body is not None:
                add(reader.body(event.llm.response.body) or b"")
    return needed


def main() -> None:
    with ModelServer() as server, tempfile.TemporaryDirectory() as scratch:
        per_call: dict[int, float] = {}
        for calls in (50, 200, 400):
            rounds = ROUNDS if calls == 200 else 1
            plain, recorded = [], []
            for number in range(rounds):
                store = Path(scratch) / f"{calls}-{number}"
                plain.append(_run(server.url, calls, None))
                recorded.append(_run(server.url, calls, store))
            folder, sizes = _sizes(store)
            total = sum(sizes.values())
            per_call[calls] = total / calls
            if calls == 200:
                added = statistics.median(
                    (one["median_call_s"] - other["median_call_s"]) * 1000
                    for one, other in zip(recorded, plain, strict=True)
                )
                ratio = statistics.median(
                    one["loop_s"] / other["loop_s"] for one, other in zip(recorded, plain, strict=True)
                )
                print(
                    f"200 calls: recording adds {added:.2f} ms to the median call (goal 1.00); loop ratio {ratio:.3f}"
                )
                needed = _needed(folder)
                pool = sizes["messages.jsonl"]
                print(
                    f"200 calls: pool {pool / needed:.3f} x the distinct messages and bodies (goal 1.10), all files "
                    f"{total / needed:.3f} x"
                )
            print(
                f"{calls} calls: {per_call[calls] / 1000:.2f} KB a call on disk for "
                f"{recorded[-1]['new_text'] / calls / 1000:.2f} KB of new text; {sizes}"
            )
        print(f"bytes a call at 400 against 50 calls: {per_call[400] / per_call[50]:.3f} (goal 1.2)")
        for what, more in (("short answers", ("20",)), ("streamed answers", ("780", "stream"))):
            store = Path(scratch) / more[-1]
            _run(server.url, 50, store, *more)
            folder, sizes = _sizes(store)
            ratio = sizes["messages.jsonl"] / _needed(folder)
            print(
                f"50 calls with {what}: pool {ratio:.3f} x the distinct messages and bodies (goal 1.10), "
                f"{sum(sizes.values()) / 50_000:.2f} KB a call"
            )
