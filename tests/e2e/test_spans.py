"""Spans from capture: the tree of an agent with everything in it, what a killed one shows, W3C trace context."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from capture_harness import Recording, Result, Wire, Wiretap, environment, recordings, run
from capture_reruns import rerun, root_of
from capture_webserver import web_server

from unspool.demo.server import ModelServer
from unspool.recording.reader import RecordReader
from unspool.trace.from_recording import recorded_trace
from unspool.trace.spans import Span
from unspool.trace.storage import SpanWriter
from unspool.trace.tree import SpanTree, build_span_tree
from unspool.tracecontext import parse_traceparent

UNSPOOL = [sys.executable, "-m", "unspool"]


def record(code: str, folder: Path, *options: str, **env: str) -> Result:
    """Run `code` under `unspool run`, with its store in `folder`."""
    script = folder / "agent.py"
    script.write_text(code)
    command = [*UNSPOOL, "run", "--quiet", "--store", folder / "store", *options, "--", sys.executable, script]
    result = run(command, environment(None, **env), cwd=folder)
    assert result.stderr == b"", result.stderr.decode()
    return result


def tree_of(store: Path) -> SpanTree:
    readers = [RecordReader(path, live=True) for path in sorted((store / "records").iterdir())]
    tree = build_span_tree(recorded_trace(readers).spans)
    for reader in readers:
        assert reader.damage == []
        reader.close()
    assert tree is not None
    return tree


def show(folder: Path, what: str = "last") -> dict[str, Any]:
    """`unspool trace show WHAT --json`."""
    done = subprocess.run(
        [*UNSPOOL, "trace", "show", what, "--store", folder / "store", "--json"],
        capture_output=True, env=environment(None), check=True, timeout=60,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# --- one tree --------------------------------------------------------------------------------------------------------

EVERYTHING = """
import asyncio, multiprocessing, os, subprocess, sys, threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
import unspool

def leaf(label):
    with unspool.span("leaf", label=label):
        pass

@unspool.tool
def tool(work, *args): return work(*args)

@unspool.traced
def started_by(context, label):
    child = multiprocessing.get_context(context).Process(target=leaf, args=(label,))
    child.start(); child.join()

@unspool.traced
def pooled(context, label):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(context)) as pool:
        pool.submit(leaf, label).result()

@unspool.traced
def forked(label):
    if (pid := os.fork()) == 0:
        leaf(label); os._exit(0)
    os.waitpid(pid, 0)

@unspool.traced
def commanded(label, *shell):
    code = f"import unspool\\nwith unspool.span('leaf', label={label!r}): pass"
    subprocess.run([*shell, sys.executable, "-c", code] if not shell else [*shell, f'"{sys.executable}" -c "{code}"'],
                   check=True)

async def task(n):
    async with unspool.span(f"task {n}"):
        await asyncio.sleep(0)
        leaf(f"in task {n}")
        await asyncio.to_thread(leaf, f"in a thread of task {n}")
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", f"import unspool\\nwith unspool.span('leaf', label='command of task {n}'): pass")
        await child.wait()
        async with unspool.spawn(f"helper {n}"):
            leaf(f"in helper {n}")
            tool(forked, f"forked by helper {n}")
            tool(started_by, "spawn", f"started by helper {n}")

async def main():
    async with unspool.span("gathered"):
        await asyncio.gather(*(task(n) for n in range(3)))
    leaf("after the tasks")

if __name__ == "__main__":
    leaf("top")
    for context in ("fork", "spawn", "forkserver"):
        tool(started_by, context, f"process by {context}")
        tool(pooled, context, f"pool by {context}")
    tool(forked, "by os.fork")
    tool(commanded, "command")
    tool(commanded, "below a shell", "sh", "-c")
    with unspool.span("threads"):
        thread = threading.Thread(target=leaf, args=("in a thread",)); thread.start(); thread.join()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(leaf, ["in a pool", "in a pool"]))
            with unspool.span("submitted"): future = pool.submit(leaf, "by its submitter")
            future.result()
    with unspool.spawn("outer"), unspool.spawn("inner"):
        leaf("two agents deep")
        subprocess.run([sys.executable, "-c", "import unspool\\nwith unspool.span('leaf', label='its command'): pass"])
    asyncio.run(main())
"""


def test_every_parent_of_an_agent_with_everything(tmp_path: Path) -> None:
    record(EVERYTHING, tmp_path)
    tree = tree_of(tmp_path / "store")
    assert (tree.notes, tree.root.span.kind, tree.root.span.synthetic) == ([], "agent", False)
    paths: Counter[tuple[str, str]] = Counter()
    above: list[str] = []
    for node, depth in tree.walk():
        span = node.span
        is_process = span.kind == "agent" and span.attributes.get("unspool.role") == "worker"
        above[depth:] = ["process" if is_process else span.name.replace(Path(sys.executable).name, "python")]
        if span.name == "leaf":
            paths[span.attributes["label"], " > ".join(above[1:-1])] += 1
        if depth:
            assert span.parent_span_id
    wanted = {
        "top": "",
        **{f"process by {one}": "tool > started_by > process" for one in ("fork", "spawn", "forkserver")},
        **{f"pool by {one}": "tool > pooled > process" for one in ("fork", "spawn", "forkserver")},
        "by os.fork": "tool > forked > process",
        "command": "tool > commanded > exec python > process",
        "below a shell": "tool > commanded > exec sh > process",
        "in a thread": "threads",
        "in a pool": "threads",
        "by its submitter": "threads > submitted",
        "two agents deep": "spawn outer > outer > spawn inner > inner",
        "its command": "spawn outer > outer > spawn inner > inner > exec python > process",
        "after the tasks": "",
    }
    for n in range(3):
        task, helper = f"gathered > task {n}", f"gathered > task {n} > spawn helper {n} > helper {n}"
        wanted |= {
            f"in task {n}": task,
            f"in a thread of task {n}": task,
            f"command of task {n}": f"{task} > exec python > process",
            f"in helper {n}": helper,
            f"forked by helper {n}": f"{helper} > tool > forked > process",
            f"started by helper {n}": f"{helper} > tool > started_by > process",
        }
    assert paths == Counter({(label, path): 2 if label == "in a pool" else 1 for label, path in wanted.items()})


# --- an agent that is killed -----------------------------------------------------------------------------------------

HANGING = """
import os, subprocess, sys, threading
import httpx, openai, unspool

URL, PROGRAM = os.environ["HANG_URL"], sys.executable

@unspool.tool
def fetch(page):
    with unspool.span("attempt", number=1):
        with unspool.span("done before"): pass
        httpx.get(f"{URL}/{page}", timeout=None)

@unspool.tool
def run_child():
    subprocess.run([PROGRAM, "-c", "import os, httpx; httpx.get(os.environ['HANG_URL'] + '/child', timeout=None)"])

def ask():
    models = openai.OpenAI(base_url=f"{URL}/v1", api_key="x", timeout=None)
    with unspool.span("asking"):
        models.chat.completions.create(model="slow-model", messages=[{"role": "user", "content": "well?"}])

def delegate():
    with unspool.spawn("helper"): fetch("delegated")

for work in (ask, run_child, delegate):
    threading.Thread(target=work).start()
fetch("main")
"""


def test_an_agent_killed_in_the_middle_shows_where_it_was(tmp_path: Path) -> None:
    """Every start is on disk before the work begins: the server that never answers has all requests when it kills."""
    pytest.importorskip("openai")
    killer = socket.create_server(("127.0.0.1", 0))
    script = tmp_path / "agent.py"
    script.write_text(HANGING)
    url = f"http://127.0.0.1:{killer.getsockname()[1]}"
    command = [*UNSPOOL, "run", "--quiet", "--store", tmp_path / "store", "--", sys.executable, script]
    process = subprocess.Popen(
        command, env=environment(None, HANG_URL=url), stderr=subprocess.PIPE, start_new_session=True
    )
    killer.settimeout(60)
    held = [killer.accept()[0] for _ in range(4)]
    asked = {connection.recv(100_000).split(b" ", 2)[1] for connection in held}
    assert asked == {b"/v1/chat/completions", b"/child", b"/delegated", b"/main"}
    for metadata in (one.metadata for one in recordings(tmp_path / "store")):
        assert metadata.os_pid is not None
        try:
            os.kill(metadata.os_pid, signal.SIGKILL)
        except ProcessLookupError:  # an agent of the same OS process as one before it
            continue
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (128 + signal.SIGKILL, b"")
    for connection in (*held, killer):
        connection.close()

    open_paths, ended = set(), []
    stack: list[tuple[dict[str, Any], tuple[str, ...]]] = [(show(tmp_path)["root"], ())]
    while stack:
        node, above = stack.pop()
        name = "agent" if node["kind"] == "agent" and node["name"] != "helper" else node["name"]
        name = name.replace(url.rpartition(":")[2], "PORT").replace(Path(sys.executable).name, "python")
        path = (*above, name)
        children = node.get("children", [])
        if node["status"] == "open" and not any(child["status"] == "open" for child in children):
            open_paths.add(" > ".join(path))
        elif node["status"] != "open":
            ended.append(name)
        stack += [(child, path) for child in children]
    assert open_paths == {
        "agent > asking > slow-model",
        "agent > run_child > exec python > agent > http 127.0.0.1:PORT",
        "agent > spawn helper > helper > fetch > attempt > http 127.0.0.1:PORT",
        "agent > fetch > attempt > http 127.0.0.1:PORT",
    }
    assert ended == ["done before", "done before"]
    text = subprocess.run(
        [*UNSPOOL, "trace", "show", "last", "--store", tmp_path / "store"],
        capture_output=True, text=True, env=environment(None, COLUMNS="100"), check=True, timeout=60,
    ).stdout  # fmt: skip
    assert "attempt" in text
    assert "slow-model" in text
    listed = subprocess.run(
        [*UNSPOOL, "trace", "ls", "--store", tmp_path / "store", "--json"],
        capture_output=True, env=environment(None), check=True, timeout=60,
    ).stdout  # fmt: skip
    [row] = json.loads(listed)
    assert len(row["records"]) == 3


# --- trace context of HTTP -------------------------------------------------------------------------------------------

CLIENTS = """
import asyncio, os, sys
import aiohttp, httpx, httpx2, openai, requests, unspool

URL, MODELS, HAS = os.environ["WEB_URL"], os.environ["MODEL_URL"], {"TraceParent": os.environ["ITS_OWN"]}

def check(answer, name):
    assert answer.status_code == 200
    assert "traceparent" not in answer.request.headers, name  # what a program sees of its request is what it made

with unspool.span("calls") as span:
    print(span.traceparent)
    for module in (httpx, httpx2):
        with module.Client(follow_redirects=True) as client:
            check(client.get(URL + f"/{module.__name__}"), module.__name__)
            check(client.get(URL + "/redirect"), module.__name__)
            client.get(URL + f"/{module.__name__}-own", headers=HAS)
    requests.get(URL + "/requests"); requests.get(URL + "/requests-own", headers=HAS)
    async def main():
        async with httpx.AsyncClient() as client: check(await client.get(URL + "/async"), "async")
        async with aiohttp.ClientSession() as session:
            async with session.get(URL + "/aiohttp") as answer: await answer.read()
            async with session.get(URL + "/aiohttp-own", headers=HAS) as answer: await answer.read()
    asyncio.run(main())
    openai.OpenAI(base_url=f"{MODELS}/v1").chat.completions.create(
        model="echo", messages=[{"role": "user", "content": "no header for you"}])
"""
ITS_OWN = f"00-{'ab' * 16}-{'cd' * 8}-01"


def _record_clients(folder: Path, *options: str) -> tuple[list[Wire], list[Wire], Recording, str]:
    for module in ("openai", "requests", "aiohttp", "httpx", "httpx2"):
        pytest.importorskip(module)
    folder.mkdir()
    with web_server() as port, ModelServer() as server:
        web, models = Wiretap(port), Wiretap(server.port)
        result = record(CLIENTS, folder, *options, WEB_URL=web.url, MODEL_URL=models.url, ITS_OWN=ITS_OWN)
        found = web.exchanges(), models.exchanges()
        web.close()
        models.close()
    [recording] = recordings(folder / "store")
    return *found, recording, result.lines[0]


def test_requests_go_as_they_are_unless_asked(tmp_path: Path) -> None:
    web, models, _, _ = _record_clients(tmp_path / "plain")
    sent = {one.request.target: one.request.headers.get("traceparent") for one in web}
    assert {target for target, header in sent.items() if header is not None} == {
        f"/{name}-own" for name in ("httpx", "httpx2", "requests", "aiohttp")
    }
    assert "traceparent" not in models[0].request.headers


def test_requests_carry_their_span_when_asked(tmp_path: Path) -> None:
    web, models, recording, around = _record_clients(tmp_path / "carried", "--propagate")
    assert "traceparent" not in models[0].request.headers
    sent = Counter((one.request.target, one.request.headers.get("traceparent")) for one in web)
    parent = parse_traceparent(around)
    assert parent is not None
    noted: Counter[tuple[str, str | None]] = Counter()
    for event, _, _ in recording.http:
        assert event.syscall is not None
        assert event.syscall.request is not None
        headers = event.syscall.request.headers or []
        [header] = [value for name, value in headers if name.lower() == "traceparent"]
        target = str(event.syscall.args["url"]).partition("127.0.0.1")[2].partition("/")[2]
        noted["/" + target, header] += 1
        assert (event.parent_span_id or "")[-16:] == parent.span_id
        if header != ITS_OWN:
            told = parse_traceparent(header)
            assert told is not None
            # Each leg of a redirect has its own.
            assert (told.trace_id, told.span_id) == (recording.metadata.trace_id, (event.span_id or "")[-16:])
    hide = {target: target.replace("token=REDACTED", "token=tok-0123456789") for target, _ in noted}
    assert Counter({(hide[target], header): count for (target, header), count in noted.items()}) == sent
    assert sum(header == ITS_OWN for _, header in sent.elements()) == 4
    assert len(sent) == len(recording.http) == 13
    # Headers are no part of what a rerun knows a request by.
    argv: list[str | Path] = [sys.executable, tmp_path / "carried" / "agent.py"]
    env = {"WEB_URL": f"http://127.0.0.1:{_port(recording)}", "MODEL_URL": "http://127.0.0.1:9", "ITS_OWN": ITS_OWN}
    again = rerun(tmp_path / "carried" / "store", argv, recording, cwd=tmp_path / "carried", env=env)
    assert (again.result.code, again.of_kind("divergence")) == (0, []), again.result.stderr


def _port(recording: Recording) -> str:
    event = recording.http[0][0]
    assert event.syscall is not None
    return str(event.syscall.args["path"]).rpartition(":")[2]


# --- trace context of MCP --------------------------------------------------------------------------------------------

MCP_SERVER = """
import json, sys
import unspool
from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("greeter", version="1.0", log_level="ERROR")

@server.tool()
def greet(name: str, context: Context) -> str:
    meta = dict(context.request_context.meta or {})
    with unspool.span("greeting", traceparent=meta.get("traceparent")):
        return f"hello {name}, {json.dumps(sorted(meta))}"

server.run("stdio")
"""
MCP_AGENT = """
import asyncio, sys
import unspool
from mcp import Client, StdioServerParameters

async def main():
    server = sys.argv[0].replace("agent", "server")
    async with Client(StdioServerParameters(command=sys.executable, args=[server])) as it:
        with unspool.span("polite"):
            print((await it.call_tool("greet", {"name": "you"})).content[0].text)

asyncio.run(main())
"""


@pytest.mark.parametrize("options", [["--propagate"], []])
def test_mcp_tool_calls_carry_their_span_when_asked(tmp_path: Path, options: list[str]) -> None:
    pytest.importorskip("mcp")
    (tmp_path / "server.py").write_text(MCP_SERVER)
    result = record(MCP_AGENT, tmp_path, *options)
    assert ("traceparent" in result.lines[0]) is bool(options)
    above: list[str] = []
    paths = []
    for node, depth in tree_of(tmp_path / "store").walk():
        above[depth:] = [node.span.name]
        if node.span.name == "greeting":
            paths.append(above[1:])
    if options:
        assert paths == [["polite", "greeter/greet", "tools/call greet", "greeting"]]
    else:
        assert len(paths) == 1
        assert "polite" not in paths[0]
    # `_meta` is no part of what a rerun knows the call by: the rerun sends none and is served.
    found = recordings(tmp_path / "store")
    argv: list[str | Path] = [sys.executable, tmp_path / "agent.py"]
    again = rerun(tmp_path / "store", argv, root_of(found), cwd=tmp_path)
    assert (again.result.lines, again.of_kind("divergence")) == (result.lines, [])


# --- trace context of processes --------------------------------------------------------------------------------------

TELL = """
import os, subprocess, sys
import unspool
show = "import os; print(os.environ.get('TRACEPARENT'), os.environ.get('TRACESTATE'))"
print(os.environ.get("TRACEPARENT"), flush=True)
subprocess.run(["sh", "-c", "echo $TRACEPARENT"])
with unspool.span("around"):
    subprocess.run([sys.executable, "-I", "-c", show])
    subprocess.run([sys.executable, "-c", "import unspool\\nwith unspool.span('inside'): " + show])
os.environ["TRACEPARENT"] = sys.argv[1]
subprocess.run(["sh", "-c", "echo $TRACEPARENT"])
del os.environ["TRACEPARENT"]
subprocess.run(["sh", "-c", "echo $TRACEPARENT"], env={"TRACEPARENT": sys.argv[1]})
subprocess.run(["sh", "-c", "echo $TRACEPARENT"], env={b"A": b"b"})
"""


@pytest.mark.parametrize("outer", [f"00-{'12' * 16}-{'34' * 8}-00", None, "malformed"])
def test_processes_are_told_by_whom_they_are_started(tmp_path: Path, outer: str | None) -> None:
    script = tmp_path / "agent.py"
    script.write_text(TELL)
    env = environment(None, TRACESTATE="vendor=1", **({} if outer is None else {"TRACEPARENT": outer}))
    command = [*UNSPOOL, "run", "--quiet", "--store", tmp_path / "store", "--", sys.executable, script, ITS_OWN]
    result = run(command, env)
    assert (result.code, result.stderr) == (0, b"")
    first, *told = result.lines
    agent, child = recordings(tmp_path / "store")
    joined = parse_traceparent(outer)
    if joined is not None:
        assert agent.metadata.trace_id == child.metadata.trace_id == joined.trace_id
        assert agent.metadata.parent_span_id == joined.span_id
    assert agent.events[0].span_id is not None
    flags = "01" if joined is None else joined.flags
    own = f"00-{agent.metadata.trace_id}-{agent.events[0].span_id[-16:]}-{flags}"
    commands = [event.span_id or "" for event in agent.syscalls("Exec")]
    texts = [f"00-{agent.metadata.trace_id}-{span[-16:]}-{flags}" for span in commands]
    assert child.events[0].span_id is not None
    inside = f"00-{child.metadata.trace_id}-{child.events[0].span_id[-16:]}-{flags}"
    # The program itself is in the span of its process; what it sets by itself stays.
    assert first == own
    assert told == [texts[0], f"{texts[1]} vendor=1", f"{inside} vendor=1", ITS_OWN, ITS_OWN, texts[5]]
    assert child.metadata.parent_span_id == commands[2]


def test_runs_of_one_outer_trace_are_told_apart(tmp_path: Path) -> None:
    """A pipeline with a trace of its own starts two agents: one trace, two runs."""
    outer = f"00-{'12' * 16}-{'34' * 8}-01"
    code = "import unspool\nwith unspool.span('work'): print('ready', flush=True); input()"
    command = [*UNSPOOL, "run", "--store", tmp_path / "store", "--", sys.executable, "-c", code]
    env = environment(None, TRACEPARENT=outer)
    pipe = subprocess.PIPE
    running = [subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    for process in running:  # both are there before one of them ends and counts what is its own
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        said = process.communicate("go\n", timeout=60)[1]
        assert "0 model calls, 0 tool calls in" in said, said
    ids = {one.metadata.trace_id for one in recordings(tmp_path / "store")}
    assert ids == {"12" * 16}
    [row] = json.loads(
        subprocess.run(
            [*UNSPOOL, "trace", "ls", "--store", tmp_path / "store", "--json"],
            capture_output=True, env=environment(None), check=True, timeout=60,
        ).stdout
    )  # fmt: skip
    assert (row["trace_id"], len(row["records"])) == ("12" * 16, 2)


def test_a_run_inside_a_run_is_a_trace_of_its_own(tmp_path: Path) -> None:
    inner = [*UNSPOOL, "run", "-q", "--store", str(tmp_path / "store"), "--", sys.executable, "-c", "pass"]
    record(f"import subprocess, unspool\nwith unspool.span('x'): subprocess.run({inner!r})", tmp_path)
    first, second = recordings(tmp_path / "store")
    assert first.metadata.trace_id != second.metadata.trace_id
    assert (second.metadata.parent, second.metadata.parent_span_id) == (None, None)


def test_record_joins_the_trace_of_its_environment(tmp_path: Path) -> None:
    code = f"""
import unspool
with unspool.record("block", store={str(tmp_path / "store")!r}), unspool.span("inside") as span: print(span.traceparent)
"""
    script = tmp_path / "agent.py"
    script.write_text(code)
    result = run([sys.executable, script], environment(None, TRACEPARENT=ITS_OWN))
    [recording] = recordings(tmp_path / "store")
    told, own = parse_traceparent(result.lines[0]), parse_traceparent(ITS_OWN)
    assert told is not None
    assert own is not None
    assert recording.metadata.trace_id == told.trace_id == own.trace_id
    assert recording.metadata.parent_span_id == own.span_id
    # What is known of the outer trace from elsewhere is shown with it.
    outer = Span(trace_id=own.trace_id, span_id=own.span_id, name="pipeline", start_time_ns=1, end_time_ns=2**62)
    SpanWriter(tmp_path / "store" / "traces").write_span(outer)
    shown = show(tmp_path, own.trace_id)["root"]
    assert [shown["name"], shown["children"][0]["name"]] == ["pipeline", "block"]
    assert shown["children"][0]["children"][0]["name"] == "inside"


# --- a rerun ---------------------------------------------------------------------------------------------------------

SPANNED = """
import asyncio, random, threading, time, uuid
import openai, os, unspool

models = openai.AsyncOpenAI(base_url=os.environ["MODEL_URL"] + "/v1")

@unspool.tool
def roll(sides): return random.randint(1, sides)

async def ask(n):
    with unspool.span("ask", n=n):
        prompt = f"{n} {uuid.uuid4()} {time.time()} {roll(1000)}"
        done = await models.chat.completions.create(model="echo", messages=[{"role": "user", "content": prompt}])
        return done.choices[0].message.content

async def main():
    async with unspool.span("all"):
        print(await asyncio.gather(*(ask(n) for n in range(4))))
    print(uuid.uuid4(), roll(1000), await ask(9))

asyncio.run(main())
"""


def test_spans_run_in_a_rerun_and_change_nothing_of_it(tmp_path: Path) -> None:
    pytest.importorskip("openai")
    with ModelServer() as server:
        result = record(SPANNED, tmp_path, MODEL_URL=server.url)
    [first] = recordings(tmp_path / "store")
    # With the spans, without them, and with others: the same values at the same places, the same calls served.
    programs = [
        SPANNED,
        SPANNED.replace('with unspool.span("ask", n=n):', "if True:").replace(
            'async with unspool.span("all"):', "if True:"
        ),
        SPANNED.replace("    print(uuid", '    with unspool.span("last"): print(uuid'),
    ]
    spans = []
    for code in programs:
        (tmp_path / "agent.py").write_text(code)
        argv: list[str | Path] = [sys.executable, tmp_path / "agent.py"]
        again = rerun(tmp_path / "store", argv, first, cwd=tmp_path, env={"MODEL_URL": "http://127.0.0.1:9"})
        assert (again.of_kind("divergence"), again.result.lines) == ([], result.lines), again.result.stderr
        spans.append(sum(len(one.syscalls("Span")) for one in again.recordings))
    assert spans == [6, 0, 7]
