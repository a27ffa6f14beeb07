"""Recordings made by hand, and the pages' application asked without a network."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

pytest.importorskip("starlette")
pytest.importorskip("jinja2")

from starlette.testclient import TestClient

from unspool.cli.prices import Prices
from unspool.events import (
    ContextSnapshotData,
    CtxMessage,
    LLMResponseData,
    RecordEvent,
    RecordEventType,
    SyscallEventData,
    ToolCall,
    ToolDef,
)
from unspool.recording.recorder import Recorder
from unspool.store import Store
from unspool.web.app import create_app
from unspool.web.guard import Door

# The run of benchmarks/web.py, smaller, for tests that need a long one.
if "bench_web" not in sys.modules:
    bench = importlib.util.spec_from_file_location("bench_web", Path(__file__).parents[3] / "benchmarks" / "web.py")
    assert bench is not None
    assert bench.loader is not None
    sys.modules["bench_web"] = importlib.util.module_from_spec(bench)
    bench.loader.exec_module(sys.modules["bench_web"])

TOKEN = "a-token-of-the-tests"
DOOR = Door("127.0.0.1", 4848, TOKEN)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store").ensure()


@pytest.fixture
def door() -> Door:
    return DOOR


@pytest.fixture
def stranger(store):
    """A browser that was not given the token."""
    return TestClient(create_app(store, Prices(), DOOR), base_url="http://127.0.0.1:4848", follow_redirects=False)


@pytest.fixture
def browser(stranger):
    """A browser that opened the address with the token."""
    assert stranger.get("/", params={"token": TOKEN}).status_code == 200
    return stranger


@pytest.fixture
def record(store):
    """Makes a recording: `calls` model calls, each followed by a tool, every text of them holding `text`."""

    def make(intent="a run", *, calls=2, text="hello", err="", model="gpt-4.1-mini") -> str:
        pid = store.next_pid()
        messages: list[CtxMessage | str] = [CtxMessage("user", f"{text} from the user")]
        with Recorder(store.records, pid, intent) as recorder:
            for call in range(1, calls + 1):
                at = call * 1_000_000_000
                for event in _call(call, at, pid, list(messages), text, model):
                    recorder.write_event(event)
                asked = ToolCall("search", f'{{"q": "{call}"}}', f"c{call}")
                failed = err if call == calls else ""
                recorder.write_event(
                    RecordEvent(
                        RecordEventType.SYSCALL, 0, at + 500_000_000, pid, call=call, step=call,
                        syscall=SyscallEventData(
                            "ToolCall", {"path": "/dev/tool/search", "input": {"q": text}},
                            None if failed else f"found {text}", failed, 1_000_000,
                        ),
                    )
                )  # fmt: skip
                messages += [
                    CtxMessage("assistant", f"{text} {call}", tool_calls=[asked]),
                    CtxMessage("tool", failed or f"found {text}", tool_call_id=f"c{call}"),
                ]
            return recorder.record_id

    return make


def _call(call, at, pid, messages, text, model):
    tools = [ToolDef("search", f"finds {text}", {"type": "object"})]
    context = ContextSnapshotData(
        messages=messages, system_prompt=f"system {text}", tools=tools, provider="openai_chat", model=model
    )
    said = [ToolCall("search", f'{{"q": "{call}"}}', f"c{call}")]
    answer = LLMResponseData(model, 100 * call, 10, text=f"{text} {call}", tool_calls=said, finish_reason="tool_calls")
    asked = SyscallEventData("LLMCall", {"path": f"/dev/llm/openai/{model}"}, None, "", 400_000_000)
    yield RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 0, at, pid, context=context, call=call, step=call)
    yield RecordEvent(RecordEventType.SYSCALL, 0, at, pid, syscall=asked, call=call, step=call)
    yield RecordEvent(RecordEventType.LLM_RESPONSE, 0, at + 400_000_000, pid, llm=answer, call=call, step=call)
