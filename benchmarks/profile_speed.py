"""Profile of a context of 1,000 messages (goal 0.5 s), and of a run of 500 calls that grow to it (goal 10 s).

The run is a real recording, read from its files; a run of half as many calls stands beside it, to show what the time
grows with: new text, not calls × messages.
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from unspool.cli.ctx_text import context_text
from unspool.cli.ctx_view import view_of
from unspool.cli.prices import Prices
from unspool.context import ContextData, analyze_context
from unspool.events import (
    ContextSnapshotData,
    CtxMessage,
    HttpRequest,
    LLMResponseData,
    RecordEvent,
    RecordEventType,
    SyscallEventData,
    ToolCall,
)
from unspool.recording.reader import RecordReader
from unspool.recording.recorder import Recorder

MESSAGES = 1_000
MODEL = "gpt-5"


def made_messages(count: int) -> list[CtxMessage]:
    """An agent's history: a call and its result of 1,300 characters in turn, some results referred to later."""
    rng = random.Random(1)
    messages = [CtxMessage("user", "Find out why the nightly build fails.")]
    names = [f"module_{rng.getrandbits(24):06x}" for _ in range(400)]
    while len(messages) < count:
        number = len(messages)
        path = f"src/{rng.choice(names)}/part_{number}.py"
        call = ToolCall("read_file", json.dumps({"path": path}), f"call_{number}")
        messages.append(CtxMessage("assistant", f"I look at {rng.choice(names)} next.", tool_calls=[call]))
        lines = [f"{line}: {rng.choice(names)} = {rng.getrandbits(32):08x}" for line in range(1, 48)]
        messages.append(CtxMessage("tool", "\n".join(lines), tool_call_id=call.id, tool_name="read_file"))
    return messages[:count]


def write_run(folder: Path, calls: int, messages: list[CtxMessage]) -> Path:
    """A recording of so many calls, each with two messages more."""
    wire = [_wire(message) for message in messages]
    with Recorder(folder, calls, "benchmark") as recorder:
        for number in range(calls):
            body = {"model": MODEL, "messages": [{"role": "system", "content": "Be brief."}, *wire[: 2 * number + 1]]}
            request = HttpRequest(method="POST", url="https://api.openai.com/v1/chat/completions", headers=[])
            data = ContextSnapshotData(provider="openai_chat", model=MODEL, request=request)
            event = RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 0, number * 1_000_000, recorder.pid, context=data)
            asked, placed = recorder.write_request(event, json.dumps(body).encode(), "messages")
            assert placed is not None
            call = SyscallEventData("LLMCall", {"path": f"/dev/llm/openai/{MODEL}"}, "ok", "", 1000)
            llm = LLMResponseData(MODEL, 60 + number * 480, 40, cached_tokens=number * 470)
            for kind, fields in (
                (RecordEventType.SYSCALL, {"syscall": call}),
                (RecordEventType.LLM_RESPONSE, {"llm": llm}),
            ):
                recorder.write_event(RecordEvent(kind, 0, number * 1_000_000, recorder.pid, call=asked.call, **fields))
            placed.conversation.busy = False
    return recorder.record_dir


def _wire(message: CtxMessage) -> dict[str, Any]:
    document: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_call_id:
        document["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        document["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    return document


def main() -> None:
    messages = made_messages(MESSAGES)
    times = []
    for _ in range(5):
        began = time.perf_counter()
        analyze_context(ContextData("Be brief.", messages), 1, 1, 250_000, 400_000)
        times.append(time.perf_counter() - began)
    size = sum(len(message.content) for message in messages)
    print(f"profile of {MESSAGES:,} messages, {size / 1e6:.1f} MB: {statistics.median(times):.2f} s")
    with tempfile.TemporaryDirectory() as folder:
        for calls in (MESSAGES // 4, MESSAGES // 2):
            record = write_run(Path(folder), calls, messages)
            times = []
            for _ in range(3):
                began = time.perf_counter()
                with RecordReader(record) as reader:
                    context_text(view_of(reader, Prices(), None), 6, color=False, width=80)
                times.append(time.perf_counter() - began)
            print(f"`unspool ctx` of a run of {calls} calls, all it shows: {statistics.median(times):.2f} s")


if __name__ == "__main__":
    main()
