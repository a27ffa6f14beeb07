"""What a program says about itself: `record`, `tool` and `spawn`, in processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from capture_harness import SOURCES, Recording, Result, assert_whole, recordings, run_agent, run_code

from unspool.demo.server import ModelServer
from unspool.events import SyscallEventData


def run_embedding(code: str, tmp_path: Path, **env: str) -> tuple[Result, list[Recording]]:
    """Run a program that imports unspool itself, not under `run`."""
    result = run_code(code, None, tmp_path, PYTHONPATH=str(SOURCES), UNSPOOL_STORE=str(tmp_path / "store"), **env)
    found = recordings(tmp_path / "store") if (tmp_path / "store").exists() else []
    return result, found


def tools_of(recording: Recording) -> list[SyscallEventData]:
    return [event.syscall for event in recording.syscalls("ToolCall") if event.syscall is not None]


TOOLS = """
import asyncio, functools, inspect, json, sys
import unspool

@unspool.tool
def add(a: int, b: int = 2, *rest, key=None, **more) -> int:
    "adds"
    return a + b

@unspool.tool(name="web_search")
async def search(query: str) -> list:
    await asyncio.sleep(0)
    return [query]

class Kit:
    @unspool.tool
    def method(self, x): return x
    @unspool.tool
    @staticmethod
    def static(x): return x
    @staticmethod
    @unspool.tool
    def static_inside(x): return x
    @unspool.tool
    @classmethod
    def of_class(cls, x): return cls.__name__ + x
    @unspool.tool
    async def amethod(self, x): return x

class Callable:
    async def __call__(self, x): return x * 2

@unspool.tool
def counting(n):
    got = []
    for i in range(n):
        got.append((yield i))
    return got

@unspool.tool
async def acounting(n):
    try:
        for i in range(n):
            got = yield i
            if got: print("got", got)
    finally:
        print("closed")

@unspool.tool
def failing(): raise ValueError("no such thing")

@unspool.tool
def exits(): raise SystemExit(7)

@unspool.tool
def outer(x): return add(x, 1)

class Strange:
    def __repr__(self): raise RuntimeError("no repr")
    def __eq__(self, other): raise RuntimeError("no eq")
    __hash__ = None
class Unspeakable(Exception):
    def __str__(self): raise RuntimeError("no str")

@unspool.tool
def odd(value): return value

@unspool.tool
def unspeakable(): raise Unspeakable("x")

print(inspect.signature(add), add.__name__, add.__doc__, add.__wrapped__(1, 1))
print(inspect.iscoroutinefunction(search), inspect.isgeneratorfunction(counting), inspect.isasyncgenfunction(acounting))
print(add(1), add(1, 5, 6, key="k", z=1), outer(4))
print(asyncio.run(search("q")), Kit().method(1), Kit.static(2), Kit().static_inside(3), Kit.of_class("!"))
print(asyncio.run(Kit().amethod(9)), asyncio.run(unspool.tool(Callable())(4)))

def consume():
    generator = counting(3)
    out = [next(generator), generator.send("one")]
    try:
        while True: out.append(generator.send("more"))
    except StopIteration as end:
        return out, end.value
print(consume())
half = counting(5); next(half); half.close()
thrown = counting(5); next(thrown)
try: thrown.throw(KeyError("thrown in"))
except KeyError as error: print("thrown", error)

async def aconsume():
    generator = acounting(3)
    first = await generator.asend(None)
    second = await generator.asend("word")
    await generator.aclose()
    return first, second, [x async for x in acounting(2)]
print(asyncio.run(aconsume()))

for function in (failing, unspeakable, exits):
    try: function()
    except BaseException as error: print(type(error).__name__)
try: add()
except TypeError as error: print(error)
cyclic = []; cyclic += [cyclic, cyclic]
deep = current = []
for _ in range(5000):
    current.append([]); current = current[0]
for value in (cyclic, deep, Strange(), b"\\xff", float("nan"), "\\ud800", {1: 2, None: 3}, {"$ref": "x"}, 2**80, {1, 2},
              lambda: 0, sys, object, range(3), 1 + 2j, [Strange()]):
    assert odd(value) is value
print("end")
"""


def test_tools(tmp_path: Path) -> None:
    head, _, rest = TOOLS.partition("import unspool\n")
    body = "\n".join("    " + line for line in rest.splitlines())
    recorded_code = f"{head}import unspool\nwith unspool.record('tools'):\n{body}\n"
    plain, none = run_embedding(TOOLS, tmp_path)
    recorded, found = run_embedding(recorded_code, tmp_path)
    assert none == []
    assert (recorded.lines, recorded.stderr, recorded.code) == (plain.lines, b"", 0), recorded.stderr.decode()
    [recording] = found
    assert recording.metadata.lost_events == 0
    assert recording.metadata.intent == "tools"
    tools = tools_of(recording)
    named = {str(tool.args["path"]).rpartition("/")[2] for tool in tools}
    assert named == {
        "add", "web_search", "method", "static", "static_inside", "of_class", "amethod", "Callable", "counting",
        "acounting", "failing", "exits", "outer", "odd", "unspeakable",
    }  # fmt: skip

    def one(name: str, number: int = 0) -> SyscallEventData:
        return [tool for tool in tools if str(tool.args["path"]) == f"/dev/tool/{name}"][number]

    assert one("add").args["input"] == {"a": 1}
    assert one("add", 1).args["input"] == {"a": 1, "b": 5, "rest": [6], "key": "k", "more": {"z": 1}}
    assert (one("web_search").args["input"], one("web_search").result) == ({"query": "q"}, ["q"])
    assert (one("method").args["input"], one("method").result) == ({"x": 1}, 1)
    assert one("of_class").args["input"] == {"x": "!"}
    assert one("of_class").result == "Kit!"
    assert (one("Callable").result, one("amethod").result) == (8, 9)
    assert [tool.result for tool in tools if str(tool.args["path"]).endswith("/counting")] == [[0, 1, 2], [0], [0]]
    assert one("counting", 2).err == "KeyError: 'thrown in'"
    assert one("counting", 1).err == ""
    assert [tool.result for tool in tools if str(tool.args["path"]).endswith("/acounting")] == [[0, 1], [0, 1]]
    assert one("failing").err == "ValueError: no such thing"
    assert one("failing").error is not None
    assert one("exits").err == "SystemExit: 7"
    assert one("unspeakable").err.startswith("Unspeakable")
    assert all(tool.duration > 0 for tool in tools)
    odd = [tool.args["input"]["value"] for tool in tools if str(tool.args["path"]).endswith("/odd")]
    assert odd[3] == b"\xff"
    assert str(odd[4]) == "nan"
    assert odd[5:9] == ["\ud800", {"1": 2, "None": 3}, {"$ref": "x"}, 2**80]
    assert sorted(odd[9]) == [1, 2]
    assert [tool.result for tool in tools if str(tool.args["path"]).endswith("/odd")][6:9] == odd[6:9]
    # A tool inside a tool: its parent is the other's span.
    inner, outer = (
        next(event for event in recording.syscalls("ToolCall") if event.syscall is not None and test(event.syscall))
        for test in (
            lambda data: data.args["input"] == {"a": 4, "b": 1},
            lambda data: data.args["path"] == "/dev/tool/outer",
        )
    )
    assert inner.parent_span_id == outer.span_id


def test_a_tool_costs_next_to_nothing_when_not_recorded(tmp_path: Path) -> None:
    """One look-up: no signature is bound, no argument copied, nothing of the recorder is loaded."""
    code = """
import sys, unspool
class Never:
    def __repr__(self): raise RuntimeError
    __deepcopy__ = __reduce_ex__ = __repr__
@unspool.tool
def f(x): return x
never = Never()
assert f(never) is never
import httpx
print(httpx.Client._send_single_request.__module__, "unspool.capture.http.httpx" in sys.modules)
"""
    result, found = run_embedding(code, tmp_path)
    assert (result.lines, result.stderr) == (["httpx._client False"], b"")
    assert found == []


DISARMED = """
import asyncio, concurrent.futures.thread as pool, datetime, os, random, subprocess, sys, threading, time, uuid
import aiohttp, httpx, urllib3
import unspool
from asyncio import base_events
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.response import HTTPResponse

def seams():
    date, moment = vars(datetime.date), vars(datetime.datetime)
    return [
        httpx.Client._send_single_request, httpx.AsyncClient._send_single_request, HTTPConnectionPool._make_request,
        HTTPResponse._raw_read, HTTPResponse.close, aiohttp.ClientSession._request, aiohttp.ClientResponse.release,
        threading.Thread.start, threading.Thread._bootstrap_inner, base_events.BaseEventLoop.create_task,
        pool._WorkItem.run, subprocess.Popen.__init__, subprocess.Popen.__del__, time.time, time.time_ns, os.urandom,
        os.system, os.execve, os.posix_spawn, uuid.uuid4, uuid.uuid1, random.Random.seed, random._urandom,
        moment["now"], moment["utcnow"], date["today"], random.seed, sys.meta_path[:],
    ]

before = seams()
for _ in range(2):
    with unspool.record("armed"):
        assert seams()[0] is not before[0]
        assert datetime.datetime.now() and seams()[23] is not before[23]
after = seams()
for number, (one, two) in enumerate(zip(before, after)):
    assert one is two or one == two, number
print(datetime.datetime.now.__class__.__name__, len(sys.meta_path) == len(before[-1]))
"""


def test_after_record_everything_is_as_before(tmp_path: Path) -> None:
    for library in ("aiohttp", "httpx", "urllib3"):
        pytest.importorskip(library)
    result, found = run_embedding(DISARMED, tmp_path)
    assert (result.lines, result.stderr, result.code) == (["builtin_function_or_method True"], b"", 0)
    assert len(found) == 2


def test_record_every_way(tmp_path: Path) -> None:
    code = """
import asyncio, unspool
with unspool.record("block") as scope:
    print(scope.pid, scope.record_id is not None, scope.record_dir.is_dir())

@unspool.record("decorated")
def decorated(x): return x
print(decorated(1), decorated(2))

@unspool.record("coroutine")
async def coroutine(): return "co"
print(asyncio.run(coroutine()))

async def main():
    async with unspool.record("async block"): return "async"
print(asyncio.run(main()))

@unspool.record("generator")
def generator():
    yield unspool.tool(lambda: 1)()
    return "returned"
def consume(): return (yield from generator())
items = consume()
print(next(items), unspool.tool(len)([]))
try: next(items)
except StopIteration as end: print(end.value)

try:
    with unspool.record("failing"): raise ValueError("as ever")
except ValueError as error: print(error)

with unspool.record("outer") as outer:
    with unspool.record("inner") as inner:
        print(inner.pid - outer.pid)
"""
    result, found = run_embedding(code, tmp_path)
    assert result.stderr == b""
    assert result.lines == ["1 True True", "1 2", "co", "async", "1 0", "returned", "as ever", "1"]
    intents = [recording.metadata.intent for recording in found]
    assert intents == [
        "block",
        "decorated",
        "decorated",
        "coroutine",
        "async block",
        "generator",
        "failing",
        "outer",
        "inner",
    ]
    assert {recording.metadata.status for recording in found} == {"completed"}
    by_intent = {recording.metadata.intent: recording for recording in found}
    assert by_intent["inner"].metadata.parent == by_intent["outer"].metadata.record_id
    reasons = {name: one.events[-1].state.reason for name, one in by_intent.items() if one.events[-1].state is not None}
    assert reasons["failing"] == "exited: ValueError: as ever"
    assert reasons["block"] == "exited"
    # While anything is recorded, code that belongs to nothing else belongs to it: its consumer here.
    assert len(by_intent["generator"].syscalls("ToolCall")) == 2


def test_records_side_by_side_in_threads(tmp_path: Path) -> None:
    """One of them ending does not end the capture of the other."""
    code = """
import threading, unspool
@unspool.tool
def note(x): return x
first_in, second_in, first_out = threading.Event(), threading.Event(), threading.Event()
def one():
    with unspool.record("one"):
        first_in.set(); second_in.wait(5); note("one")
    first_out.set()
def two():
    first_in.wait(5)
    with unspool.record("two"):
        second_in.set(); first_out.wait(5)
        thread = threading.Thread(target=note, args=("two",)); thread.start(); thread.join()
threads = [threading.Thread(target=f) for f in (one, two)]
[t.start() for t in threads]; [t.join() for t in threads]
import time; print(type(time.time).__name__)
"""
    result, found = run_embedding(code, tmp_path)
    assert (result.lines, result.stderr) == (["builtin_function_or_method"], b"")
    assert [[tool.result for tool in tools_of(one)] for one in found] == [["one"], ["two"]]


SPAWN = """
import asyncio, os, subprocess, sys, unspool
from openai import OpenAI, AsyncOpenAI
client = OpenAI(base_url=os.environ["MODEL_URL"] + "/v1", api_key="x")
def ask(name):
    return client.chat.completions.create(model="echo", messages=[{"role": "user", "content": name}]).id is not None
@unspool.tool
def work(x): ask("in a tool"); return x

ask("at the top")
with unspool.spawn("researcher", intent="find sources") as scope:
    ask("by the researcher")
    work(1)
    with unspool.spawn("assistant"):
        ask("by the assistant")
    subprocess.run([sys.executable, "-c", "import unspool; unspool.tool(lambda: 1)()"], check=True)
@unspool.spawn("writer")
def write(): return ask("by the writer")
write()
@unspool.spawn("streamer")
def stream():
    yield ask("by the streamer")
    yield ask("by the streamer again")
for item in stream(): ask("by the consumer")

async def main():
    other = AsyncOpenAI(base_url=os.environ["MODEL_URL"] + "/v1", api_key="x")
    async def agent(n):
        async with unspool.spawn(f"gathered {n}"):
            await other.chat.completions.create(model="echo", messages=[{"role": "user", "content": f"by {n}"}])
    await asyncio.gather(*(agent(n) for n in range(5)))
    async with unspool.spawn("starter"):
        task = asyncio.create_task(later(other))
    await task
async def later(other):
    await asyncio.sleep(0.05)
    await other.chat.completions.create(model="echo", messages=[{"role": "user", "content": "outlived"}])
asyncio.run(main())
try:
    with unspool.spawn("failing"): raise ValueError("as ever")
except ValueError: pass
print(scope.pid)
"""


def test_spawn(tmp_path: Path) -> None:
    pytest.importorskip("openai")
    with ModelServer() as server:
        result = run_code(SPAWN, tmp_path / "store", tmp_path, MODEL_URL=server.url)
    assert (result.lines, result.stderr, result.code) == (["2"], b"", 0)
    found = recordings(tmp_path / "store")
    for recording in found:
        assert_whole(recording.calls)
        assert recording.metadata.status == "completed"
    by_intent = {recording.metadata.intent: recording for recording in found}
    said = {intent: [call.user_text for call in one.calls] for intent, one in by_intent.items()}
    root = found[0]
    assert said.pop(root.metadata.intent) == ["at the top", "by the consumer", "by the consumer", "outlived"]
    worker = next(one for one in found if one.metadata.role == "worker")
    said.pop(worker.metadata.intent)
    assert said == {
        "find sources": ["by the researcher", "in a tool"],
        "assistant": ["by the assistant"],
        "writer": ["by the writer"],
        "streamer": ["by the streamer", "by the streamer again"],
        **{f"gathered {n}": [f"by {n}"] for n in range(5)},
        "starter": [],
        "failing": [],
    }
    researcher = by_intent["find sources"]
    assert researcher.metadata.parent == root.metadata.record_id
    assert by_intent["assistant"].metadata.parent == researcher.metadata.record_id
    # A process started by a sub-agent is the sub-agent's child.
    assert worker.metadata.parent == researcher.metadata.record_id
    assert {one.metadata.root for one in found[1:]} == {root.metadata.record_id}
    assert {one.metadata.trace_id for one in found} == {root.metadata.trace_id}
    spawned = [event.syscall for event in root.syscalls("Spawn") if event.syscall is not None]
    assert [data.args["path"] for data in spawned][:3] == [
        "/dev/agent/researcher",
        "/dev/agent/writer",
        "/dev/agent/streamer",
    ]
    assert spawned[-1].err == "ValueError: as ever"
    spans = {event.span_id for event in root.syscalls("Spawn")}
    assert {one.metadata.parent_span_id for one in found[1:] if one.metadata.parent == root.metadata.record_id} == spans
    # A model call inside a tool hangs on the tool.
    tool = researcher.syscalls("ToolCall")[0]
    inside = next(call for call in researcher.calls if call.user_text == "in a tool")
    assert inside.syscall.parent_span_id == tool.span_id


def test_record_under_run_is_a_sub_agent(tmp_path: Path) -> None:
    code = "import unspool\nwith unspool.record('block'): unspool.tool(len)([])\n"
    result = run_code(code, tmp_path / "store", tmp_path)
    assert (result.stderr, result.code) == (b"", 0)
    root, block = recordings(tmp_path / "store")
    assert block.metadata.parent == root.metadata.record_id
    assert len(block.syscalls("ToolCall")) == 1


def test_record_without_a_place_to_write(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    code = f"""
import unspool
with unspool.record("nowhere", store={str(blocker / "store")!r}) as scope:
    print(unspool.tool(len)([1]), scope.pid)
import time; print(type(time.time).__name__)
"""
    result = run_code(code, None, tmp_path, PYTHONPATH=str(SOURCES))
    assert result.lines == ["1 None", "builtin_function_or_method"]
    assert result.code == 0
    assert len(result.stderr.splitlines()) == 1


def test_demo_agent_names_are_not_needed(tmp_path: Path) -> None:
    """The agents of this suite never import unspool: nothing of it is needed to be recorded."""
    with ModelServer() as server:
        result = run_agent("openai_calls", "plain", store=tmp_path / "store", MODEL_URL=server.url)
    assert result.code == 0
    assert len(recordings(tmp_path / "store")[0].calls) == 1
