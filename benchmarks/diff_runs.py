"""`unspool diff` of two runs of 500 steps (goal: 1 s): read, align, compare the contexts where they part, print.

Each run is one conversation of 500 model calls with a tool call each and results of two kilobytes; every provider id
differs, the second run gets another tool result at step 250 and a system prompt changed nowhere. The whole command is
timed in a process of its own, and once with runs that have nothing in common.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from unspool.events import (
    ContextSnapshotData,
    HttpRequest,
    HttpResponse,
    LLMResponseData,
    RecordEvent,
    RecordEventType,
    SyscallEventData,
)
from unspool.recording.recorder import Recorder
from unspool.store import Store

STEPS = 500
MODEL = "gpt-4.1-mini"
TOOLS = [
    {"type": "function", "function": {"name": f"tool_{number}", "description": "words " * 40, "parameters": {}}}
    for number in range(10)
]
_ids = itertools.count()


def write_run(store: Store, *, seed: int, parts_at: int) -> str:
    """An agent's run; its results are those of every other seed up to the step `parts_at`."""
    same, own = random.Random(0), random.Random(seed)
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "You are an agent. " * 50},
        {"role": "user", "content": "Do it."},
    ]
    with Recorder(store.records, store.next_pid(), "benchmark") as recorder:
        for number in range(STEPS):
            text = _text(same if number < parts_at else own)
            _write_step(recorder, messages, f"tool_{number % 10}", text)
    return recorder.record_id


def _write_step(recorder: Recorder, messages: list[dict[str, Any]], tool: str, result: str) -> None:
    def event(kind: RecordEventType, **fields: Any) -> RecordEvent:
        return RecordEvent(kind, 0, recorder.elapsed(), recorder.pid, task="0", **fields)

    request = HttpRequest(method="POST", url="https://api.openai.com/v1/chat/completions", headers=[])
    data = ContextSnapshotData(provider="openai_chat", model=MODEL, request=request)
    body = json.dumps({"model": MODEL, "messages": messages, "tools": TOOLS}).encode()
    asked, placed = recorder.write_request(event(RecordEventType.CONTEXT_SNAPSHOT, context=data), body, "messages")
    assert placed is not None
    call_id = f"call_{next(_ids)}"
    function = {"name": tool, "arguments": json.dumps({"of": len(messages)})}
    call = {"id": call_id, "type": "function", "function": function}
    said = {"role": "assistant", "content": "Next.", "tool_calls": [call]}
    answer = {
        "id": f"chatcmpl-{call_id}",
        "model": MODEL,
        "choices": [{"message": said, "finish_reason": "tool_calls"}],
    }
    args = {"path": f"/dev/llm/openai/{MODEL}", "messages": len(messages)}
    syscall = SyscallEventData("LLMCall", args, "ok", "", 1_000_000)
    recorder.write_event(event(RecordEventType.SYSCALL, syscall=syscall, call=asked.call))
    llm = LLMResponseData(MODEL, 10 * len(messages), 20, finish_reason="tool_calls")
    llm.response = HttpResponse(status=200, headers=[("content-type", "application/json")])

    def prepare(bodies: Any) -> None:
        assert llm.response is not None
        llm.response.body = bodies.put(json.dumps(answer).encode(), is_json=True)

    recorder.write_with_bodies(event(RecordEventType.LLM_RESPONSE, llm=llm, call=asked.call), prepare)
    placed.conversation.busy = False
    used = SyscallEventData("ToolCall", {"path": f"/dev/tool/{tool}", "input": {"of": len(messages)}}, result, "", 1000)
    recorder.write_event(event(RecordEventType.SYSCALL, syscall=used, call=asked.call))
    messages += [said, {"role": "tool", "tool_call_id": call_id, "content": result}]


def _text(rng: random.Random) -> str:
    return " ".join(f"{rng.getrandbits(32):08x}" for _ in range(220))


def main() -> None:
    """Print the times."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store").ensure()
        first = write_run(store, seed=1, parts_at=250)
        cases = {
            "one tool result differs from step 250 on": write_run(store, seed=2, parts_at=250),
            "the same": write_run(store, seed=1, parts_at=250),
            "nothing in common": write_run(store, seed=3, parts_at=0),
        }
        for name, second in cases.items():
            command = [sys.executable, "-m", "unspool", "diff", first, second, "--store", str(store.path)]
            times: list[float] = []
            for _ in range(5):
                began = time.perf_counter()
                done = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
                times.append(time.perf_counter() - began)
            said = next(line for line in done.stdout.splitlines()[2:] if line)
            print(f"{name}: {statistics.median(times):.2f} s, at most {max(times):.2f} s   ({said})")


if __name__ == "__main__":
    main()
