"""Servers that answer recorded agents: what they do for a request is in the trace of who asked, below the request."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from capture_harness import environment, recordings, run

from unspool.demo.server import ModelServer
from unspool.interop.otlp_json import read_json

UNSPOOL = [sys.executable, "-m", "unspool"]

ASK = """
import openai, os

@unspool.tool
def look_up(question):
    openai.OpenAI(base_url=os.environ["MODEL_URL"] + "/v1").chat.completions.create(
        model="echo", messages=[{"role": "user", "content": question}])
    return "found"
"""
# Each says its port on a line of its own once it can be connected to.
SERVICES = {
    "http.server": """
import unspool
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        said = look_up(self.path).encode()
        self.send_response(200); self.send_header("content-length", str(len(said))); self.end_headers()
        self.wfile.write(said)
    def log_message(self, *args): pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
""",
    "wsgiref": """
import unspool
from wsgiref.simple_server import WSGIRequestHandler, make_server
class Quiet(WSGIRequestHandler):
    def log_message(self, *args): pass
def app(environ, start):
    said = look_up(environ["PATH_INFO"]).encode()
    start("200 OK", [("content-length", str(len(said)))])
    return [said]
server = make_server("127.0.0.1", 0, app, handler_class=Quiet)
print(server.server_port, flush=True)
server.serve_forever()
""",
    "uvicorn": """
import asyncio, socket
import unspool, uvicorn
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    said = (await asyncio.to_thread(look_up, scope["path"])).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": said})
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off")).run([listener])
""",
    "starlette": """
import socket
import unspool, uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
def answer(request):
    return PlainTextResponse(look_up(request.url.path))
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
app = Starlette(routes=[Route("/{rest:path}", answer)])
uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off")).run([listener])
""",
    "aiohttp": """
import asyncio, socket
import unspool
from aiohttp import web
async def answer(request):
    return web.Response(text=await asyncio.to_thread(look_up, request.path))
app = web.Application()
app.router.add_get("/{rest:.*}", answer)
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
web.run_app(app, sock=listener, print=None)
""",
}
AGENT = """
import os, sys, threading
import httpx, unspool
def ask(n):
    with unspool.span(f"question {n}"):
        print(httpx.get(os.environ["SERVICE_URL"] + f"/ask/{n}?token=1", timeout=30).text)
threads = [threading.Thread(target=ask, args=(n,)) for n in range(int(sys.argv[1]))]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


@contextmanager
def serving(folder: Path, code: str, **env: str) -> Iterator[str]:
    """A service under `unspool run`, in the store of `folder`; gives its address."""
    script = folder / f"service{len(list(folder.glob('service*')))}.py"
    script.write_text("import unspool" + ASK + code)
    command = [*UNSPOOL, "run", "--quiet", "--propagate", "--store", folder / "store", "--", sys.executable, script]
    process = subprocess.Popen(command, env=environment(None, **env), stdout=subprocess.PIPE, cwd=folder)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def ask(folder: Path, code: str, *args: str, propagate: bool = True, **env: str) -> None:
    script = folder / "agent.py"
    script.write_text(code)
    options = ["--propagate"] if propagate else []
    command = [*UNSPOOL, "run", "--quiet", *options, "--store", folder / "store", "--", sys.executable, script, *args]
    result = run(command, environment(None, **env), cwd=folder)
    assert (result.code, result.stderr) == (0, b""), result.stderr.decode()


def unspool_json(folder: Path, *args: str) -> Any:
    done = run([*UNSPOOL, *args, "--store", folder / "store", "--json"], environment(None))
    assert done.code == 0, done.stderr.decode()
    return json.loads(done.stdout)


def paths(root: dict[str, Any]) -> list[list[str]]:
    """Names from the root, which is left out, to each leaf; ports hidden."""
    found, stack = [], [(root, [])]
    while stack:
        node, above = stack.pop()
        here = [*above, node["name"].partition(":")[0]]
        stack += [(child, here) for child in node.get("children", [])]
        if not node.get("children"):
            found.append(here[1:])
    return sorted(found)


def agent_of(folder: Path) -> str:
    """The record id of the agent, which is not the service's."""
    [found] = [one.metadata.record_id for one in recordings(folder / "store") if "agent.py" in one.metadata.intent]
    return found


@pytest.mark.parametrize("service", SERVICES)
def test_what_a_service_does_is_below_the_request(tmp_path: Path, service: str) -> None:
    for module in ("openai", "httpx", service.partition(".")[0]):
        pytest.importorskip(module)
    with ModelServer() as model:
        with serving(tmp_path, SERVICES[service], MODEL_URL=model.url) as url:
            ask(tmp_path, AGENT, "3", SERVICE_URL=url)
    wanted = [[f"question {n}", "GET 127.0.0.1", f"GET /ask/{n}", "look_up", "echo"] for n in range(3)]
    [row] = unspool_json(tmp_path, "trace", "ls")
    assert (row["spans"], row["errors"], len(row["records"])) == (1 + 3 * 5, 0, 2)
    for what in (row["trace_id"], agent_of(tmp_path)):
        shown = unspool_json(tmp_path, "trace", "show", what)
        assert (shown["notes"], shown["trace_id"]) == ([], row["trace_id"])
        assert paths(shown["root"]) == wanted
    blamed = unspool_json(tmp_path, "blame", agent_of(tmp_path))
    assert blamed["summary"]["total_tokens"] == row["tokens"] > 0


def test_a_service_is_not_asked_by_itself(tmp_path: Path) -> None:
    """Requests that say nothing of a trace are answered as ever: their work is the service's own."""
    with ModelServer() as model, serving(tmp_path, SERVICES["http.server"], MODEL_URL=model.url) as url:
        ask(tmp_path, AGENT, "1", propagate=False, SERVICE_URL=url)
    rows = unspool_json(tmp_path, "trace", "ls")
    assert sorted(row["spans"] for row in rows) == [3, 3]  # agent, question, request; service, tool, model call
    assert list((tmp_path / "store").glob("traces/*")) == []


def test_two_callers_and_a_service_behind_the_service(tmp_path: Path) -> None:
    """Each trace has what was done for it, two services deep, and the second caller nothing of the first."""
    middle = """
import httpx
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        said = httpx.get(os.environ["BEHIND_URL"] + self.path, timeout=30).content
        self.send_response(200); self.send_header("content-length", str(len(said))); self.end_headers()
        self.wfile.write(said)
    def log_message(self, *args): pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""
    (tmp_path / "other").mkdir()
    with ModelServer() as model, serving(tmp_path, SERVICES["http.server"], MODEL_URL=model.url) as behind:
        with serving(tmp_path, middle, BEHIND_URL=behind) as url:
            for n in ("1", "2"):
                ask(tmp_path, AGENT, n, SERVICE_URL=url)
            # Somebody who is not recorded here: what is done for him stays with the services.
            stranger = f"00-{'ab' * 16}-{'cd' * 8}-01"
            import urllib.request

            request = urllib.request.Request(url + "/ask/9", headers={"traceparent": stranger})
            assert urllib.request.urlopen(request, timeout=30).read() == b"found"
    rows = unspool_json(tmp_path, "trace", "ls")
    wanted = [
        [f"question {n}", "GET 127.0.0.1", f"GET /ask/{n}", "GET 127.0.0.1", f"GET /ask/{n}", "look_up", "echo"]
        for n in range(2)
    ]
    asked = {row["spans"]: row["trace_id"] for row in rows if "agent.py" in row["root"]}
    assert set(asked) == {1 + 7, 1 + 2 * 7}
    for spans, trace_id in asked.items():
        assert paths(unspool_json(tmp_path, "trace", "show", trace_id)["root"]) == wanted[: (spans - 1) // 7]
    assert sorted(row["spans"] for row in rows if "agent.py" not in row["root"]) == [3, 4]
    [known] = unspool_json(tmp_path, "trace", "show", "ab" * 16)["root"]["children"]
    assert known["name"] == "GET /ask/9"
    # In a file of spans each is in the trace it belongs to, below the span that asked.
    service = next(
        one.metadata.record_id for one in recordings(tmp_path / "store") if "service1" in one.metadata.intent
    )
    command = [*UNSPOOL, "export", service, "--format", "otlp-json", "--store", tmp_path / "store"]
    sent = [span for _, spans in read_json(run(command, environment(None)).stdout).groups for span in spans]
    tops = {span.trace_id: span.parent_span_id for span in sent if span.name == "GET /ask/9"}
    assert tops == {"ab" * 16: "cd" * 8}
    assert {span.trace_id for span in sent if span.name.startswith("GET")} == {*asked.values(), "ab" * 16}


# --- MCP -------------------------------------------------------------------------------------------------------------

MCP_TOOLS = """
from mcp.server.mcpserver import MCPServer
server = MCPServer("oracle", version="1.0", log_level="ERROR")

@server.tool()
def ask(question: str) -> str:
    return look_up(question)
"""
MCP_STDIO = MCP_TOOLS + 'server.run("stdio")\n'
MCP_HTTP = (
    MCP_TOOLS
    + """
import socket, uvicorn
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(server.streamable_http_app(), log_level="critical")).run([listener])
"""
)
MCP_AGENT = """
import asyncio, os, sys
import unspool
from mcp import Client, StdioServerParameters

async def main():
    url = os.environ.get("SERVICE_URL")
    target = url + "/mcp" if url else StdioServerParameters(
        command=sys.executable, args=["server.py"], env=dict(os.environ))
    async with Client(target) as it:
        async def question(n):
            async with unspool.span(f"question {n}"):
                await it.call_tool("ask", {"question": str(n)})
        await asyncio.gather(question(0), question(1))

asyncio.run(main())
"""
BELOW_CALLS = [[f"question {n}", "oracle/ask", "tools/call ask", "look_up", "echo"] for n in range(2)]


def test_the_tools_of_an_mcp_server_over_stdio_are_below_their_calls(tmp_path: Path) -> None:
    pytest.importorskip("mcp")
    (tmp_path / "server.py").write_text("import unspool" + ASK + MCP_STDIO)
    with ModelServer() as model:
        ask(tmp_path, MCP_AGENT, MODEL_URL=model.url)
    [row] = unspool_json(tmp_path, "trace", "ls")
    shown = paths(unspool_json(tmp_path, "trace", "show", row["trace_id"])["root"])
    assert [path for path in shown if path[-1] == "echo"] == BELOW_CALLS


def test_the_tools_of_an_mcp_server_over_http_are_below_their_calls(tmp_path: Path) -> None:
    pytest.importorskip("mcp")
    with ModelServer() as model, serving(tmp_path, MCP_HTTP, MODEL_URL=model.url) as url:
        ask(tmp_path, MCP_AGENT, SERVICE_URL=url)
    [row] = unspool_json(tmp_path, "trace", "ls")
    shown = paths(unspool_json(tmp_path, "trace", "show", row["trace_id"])["root"])
    assert [path for path in shown if path[-1] == "echo"] == BELOW_CALLS
