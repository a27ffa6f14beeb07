"""A list of 10,000 runs (goals: a page in 300 ms, a search in 500 ms), in the browser and with `unspool ls`.

The store is written by the real recorder: each run has six model calls with a growing conversation and tool calls, a
system prompt and tools that all share, and words of its own. Reading the store for the first time has no goal: the page
shows what is read meanwhile. A served page is asked for through the application itself, in a process that has just been
started (its imports done, the catalog not yet read) and again.
"""

from __future__ import annotations

import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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
from unspool.recording import Recorder
from unspool.store import Store

RUNS = int(os.environ.get("BENCHMARK_RUNS", "10000"))
CALLS = 6
LIST_GOAL_MS, SEARCH_GOAL_MS = 300, 500
MODELS = ("gpt-5", "gpt-5-mini", "gpt-4.1-mini", "claude-sonnet-4-5")
TOOLS = ("search", "read_file", "lookup_order")
SYSTEM = "You are a careful agent. Look before you answer, and say what you do not know. " * 20
WORDS = (
    *("order", "invoice", "parcel", "customer", "refund", "address", "page", "index"),
    *("result", "error", "token", "account", "policy", "delivery", "broken", "lamp"),
    *("charge", "bank", "transfer", "receipt", "ticket", "support", "letter", "rate"),
    *("currency", "warehouse", "shelf", "carrier", "damage", "report", "status"),
)


def _say(rng: random.Random, words: int) -> str:
    return " ".join(f"{rng.choice(WORDS)}{rng.randrange(1000) if rng.random() < 0.2 else ''}" for _ in range(words))


def write_run(store: Store, number: int) -> None:
    """One run, written as programs write them."""
    rng = random.Random(number)
    pid = store.next_pid()
    model = rng.choice(MODELS)
    messages: list[CtxMessage | str] = [CtxMessage("user", f"ticket {number:05d}: {_say(rng, 60)}")]
    tools = [ToolDef(name, f"use {name} for what it is for", {"type": "object"}) for name in TOOLS]
    with Recorder(store.records, pid, f"settle ticket {number}") as recorder:

        def write(kind: RecordEventType, at: int, call: int, **data: object) -> None:
            recorder.write_event(RecordEvent(kind, 0, at, pid, call=call, step=call, **data))  # type: ignore[arg-type]

        for call in range(1, CALLS + 1):
            at, tool = call * 1_000_000_000, rng.choice(TOOLS)
            asked = ToolCall(tool, f'{{"q": "{_say(rng, 4)}"}}', f"c{call}")
            answer, result = _say(rng, 30), _say(rng, 80)
            context = ContextSnapshotData(
                messages=list(messages), system_prompt=SYSTEM, tools=tools, provider="openai_chat", model=model
            )
            sent = SyscallEventData("LLMCall", {"path": f"/dev/llm/openai/{model}"}, None, "", 400_000_000)
            said = LLMResponseData(model, 900 * call, 60, text=answer, tool_calls=[asked], finish_reason="tool_calls")
            failed = "no index" if rng.random() < 0.02 else ""
            ran = SyscallEventData("ToolCall", {"path": f"/dev/tool/{tool}"}, None if failed else result, failed, 1000)
            write(RecordEventType.CONTEXT_SNAPSHOT, at, call, context=context)
            write(RecordEventType.SYSCALL, at, call, syscall=sent)
            write(RecordEventType.LLM_RESPONSE, at + 400_000_000, call, llm=said)
            write(RecordEventType.SYSCALL, at + 500_000_000, call, syscall=ran)
            messages += [CtxMessage("assistant", answer, tool_calls=[asked]), CtxMessage("tool", failed or result)]


def _ask(folder: str) -> None:
    """In a process of its own: pages of the list, through the application."""
    from starlette.testclient import TestClient

    from unspool.cli.prices import prices_for
    from unspool.web.app import create_app
    from unspool.web.guard import Door

    store = Store(folder)
    client = TestClient(
        create_app(store, prices_for(store), Door("127.0.0.1", 4848, None)), base_url="http://127.0.0.1:4848"
    )
    pages = (
        ("the list", {}, LIST_GOAL_MS),
        ("dearest first", {"sort": "cost"}, LIST_GOAL_MS),
        ("with errors, of one model", {"errors": "1", "model": "gpt-5"}, LIST_GOAL_MS),
        ("a word of one run", {"q": "TICKET 04711"}, SEARCH_GOAL_MS),
        ("a word of every run", {"q": "refund"}, SEARCH_GOAL_MS),
        ("the shared system prompt", {"q": "say what you do not know"}, SEARCH_GOAL_MS),
        ("words of no run", {"q": "ptarmigan"}, SEARCH_GOAL_MS),
        ("two letters", {"q": "qz"}, SEARCH_GOAL_MS),
    )
    client.get("/static/app.css")
    for name, query, goal in pages:
        times: list[float] = []
        spent: list[float] = []
        found = 0
        for _ in range(6):
            began, used = time.perf_counter(), time.process_time()
            answer = client.get("/runs.json", params=query)
            times.append((time.perf_counter() - began) * 1000)
            spent.append((time.process_time() - used) * 1000)
            page = answer.json()["page"]
            assert not page["unread"], page
            found = page["total"]
        html = client.get("/", params=query)
        print(
            f"  {name}: {found:,} runs, first {times[0]:.0f} ms ({spent[0]:.0f} of CPU), then median "
            f"{statistics.median(times[1:]):.0f} ms ({statistics.median(spent[1:]):.0f} of CPU; goal {goal}), "
            f"page {len(html.content) / 1000:.0f} KB"
        )
    print(f"  memory of the server {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000:.0f} MB")


def _index(folder: str) -> None:
    """In a process of its own: everything read for the first time."""
    from unspool.catalog.catalog import Catalog
    from unspool.catalog.indexer import Indexer
    from unspool.cli.prices import prices_for

    store = Store(folder)
    with Catalog(store, prices_for(store)) as catalog:
        indexer = Indexer(catalog)
        began, used = time.perf_counter(), time.process_time()
        state = indexer.state(texts=False, patience_s=3600)
        listed, spent = time.perf_counter() - began, time.process_time() - used
        state = indexer.state(texts=True, patience_s=3600)
        assert not state.unsearched
        print(
            f"  first reading: the list {listed:.1f} s ({spent:.1f} s of CPU), the texts too "
            f"{time.perf_counter() - began:.1f} s ({time.process_time() - used:.1f} s of CPU)"
        )


def _timed(*args: str) -> tuple[float, str]:
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "unspool", *args], check=True, capture_output=True, text=True)
    return (time.perf_counter() - began) * 1000, done.stdout


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store").ensure()
        began = time.perf_counter()
        for number in range(RUNS):
            write_run(store, number)
        size = sum(path.stat().st_size for path in store.records.rglob("*") if path.is_file())
        print(f"{RUNS:,} runs of {CALLS} calls, {size / 1e6:.0f} MB, written in {time.perf_counter() - began:.0f} s")
        run = [sys.executable, "-m", "benchmarks.catalog"]
        subprocess.run([*run, "index", str(store.path)], check=True)
        catalog = sum(path.stat().st_size for path in store.path.glob("catalog.sqlite*"))
        print(f"  catalog {catalog / 1e6:.0f} MB, {catalog / size:.2f} of the recordings")
        subprocess.run([*run, "ask", str(store.path)], check=True)
        place = ("--store", str(store.path))
        help_ms = statistics.median(_timed("ls", "--help")[0] for _ in range(3))
        for what in (("ls",), ("ls", "-n", "0", "--json"), ("ls", "--search", "refund", "-n", "5")):
            took = statistics.median(_timed(*what, *place)[0] for _ in range(3))
            print(f"  unspool {' '.join(what)}: {took:.0f} ms, {took - help_ms:.0f} ms beyond starting (--help)")


if __name__ == "__main__":
    {"ask": _ask, "index": _index}[sys.argv[1]](sys.argv[2])
