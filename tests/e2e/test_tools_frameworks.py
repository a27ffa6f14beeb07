"""Tools of frameworks and MCP sessions are recorded, and served in a rerun with every server stopped."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from capture_harness import AGENTS, Recording, Result, recordings, run_agent
from capture_reruns import Rerun, rerun, root_of

from unspool.demo.server import ModelServer
from unspool.events import RecordEvent, SyscallEventData

LANGGRAPH = ("langgraph", "langgraph_async", "langgraph_failing", "langgraph_command")
OPENAI_AGENTS = ("openai_agents", "openai_agents_failing", "openai_agents_mcp")
PYDANTIC_AI = ("pydantic_ai", "pydantic_ai_retrying")
STDIO = ("mcp_stdio", "mcp_stdio_modern")
SSE = ("mcp_sse",)
SAMPLING = ("mcp_sampling",)
HTTP = ("mcp_http", "mcp_http_modern")
GROUPS = {
    "langgraph": LANGGRAPH, "openai_agents": OPENAI_AGENTS, "pydantic_ai": PYDANTIC_AI,
    "stdio": STDIO, "sse": SSE, "http": HTTP, "sampling": SAMPLING, "in_process": ("mcp_in_process",),
}  # fmt: skip
TALK = {
    "server": "librarian",
    "tools": ["look_up", "count_letters", "summarize"],
    "found": [[False, "abc means cba"], [True, "Error executing tool look_up: no such word"]],
    "letters": {"n": 2, "o": 2},
}


class Recorded(NamedTuple):
    """A group of scenarios, recorded; the servers they talked to are stopped."""

    scenarios: tuple[str, ...]
    store: Path
    trace: Path
    env: dict[str, str]
    result: Result
    recordings: list[Recording]

    @property
    def root(self) -> Recording:
        return root_of(self.recordings)

    def ran(self) -> list[str]:
        """What the tools left when they really ran, in no order: some run beside each other."""
        return sorted(self.trace.read_text().splitlines()) if self.trace.exists() else []

    def calls(self, name: str = "ToolCall") -> list[SyscallEventData]:
        return [event.syscall for event in self.root.syscalls(name) if event.syscall is not None]

    def again(self, **rules: object) -> Rerun:
        argv: list[str | Path] = [sys.executable, AGENTS / "framework_tools.py", *self.scenarios]
        return rerun(self.store, argv, self.root, env=self.env, **rules)


@contextmanager
def mcp_server(trace: Path, transport: str) -> Iterator[str]:
    """An MCP server on a port of its own."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    argv = [sys.executable, AGENTS / "mcp_server.py", trace, transport, str(port)]
    server = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert server.stdout is not None
        for line in server.stdout:
            if "ready" in line:
                break
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.communicate()


@pytest.fixture(scope="module")
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    scenarios = GROUPS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    store, trace = folder / "store", folder / "trace"
    env = {"TRACE": str(trace), "PYTHONWARNINGS": "ignore"}
    transport = {"sse": "sse", "http": "streamable-http"}.get(request.param)
    with ModelServer() as models:
        env["MODEL_URL"] = models.url
        if transport is None:
            result = run_agent("framework_tools", *scenarios, store=store, **env)
        else:
            with mcp_server(trace, transport) as url:
                env["MCP_URL"] = url
                result = run_agent("framework_tools", *scenarios, store=store, **env)
    assert result.code == 0, result.stderr.decode()
    assert not any("error" in fact for fact in result.facts().values() if isinstance(fact, dict)), result.facts()
    return Recorded(scenarios, store, trace, env, result, recordings(store))


def group(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("recorded", names, indirect=True)


def outline(call: SyscallEventData) -> tuple[object, object, object, str]:
    return call.args["path"], call.args["input"], call.result, call.err


# --- recording -------------------------------------------------------------------------------------------------------


@group("langgraph")
def test_langgraph_tools_are_recorded(recorded: Recorded) -> None:
    weather, note = recorded.calls()[:2], recorded.calls()[-1]
    assert sorted(str(outline(call)) for call in weather) == [
        str(("/dev/tool/weather", {"city": city, "days": days}, {"city": city, "days": days, "sky": "clear"}, ""))
        for city, days in (("Oslo", 2), ("Rome", 1))
    ]
    measure, divide = recorded.calls()[2:4]
    assert outline(measure) == ("/dev/tool/measure", {"city": "Rome"}, ["Rome: 12 km", {"km": 12}], "")
    assert measure.result_type == "builtins.tuple"
    assert outline(divide) == ("/dev/tool/divide", {"a": 1, "b": 0}, None, "ToolException: b must not be 0")
    assert note.args == {"path": "/dev/tool/note", "input": {"text": "milk"}}  # what is handed in is no argument
    assert note.result_type == "langgraph.types.Command"
    assert len(recorded.calls()) == 5
    assert recorded.ran() == ["divide 1 0", "measure Rome", "note milk", "weather Oslo", "weather Rome"]


@group("openai_agents")
def test_openai_agents_tools_are_recorded(recorded: Recorded) -> None:
    calls = {str(call.args["path"]): call for call in recorded.calls()}
    weather = [call for call in recorded.calls() if call.args["path"] == "/dev/tool/weather"]
    assert sorted(call.args["input"]["city"] for call in weather[:2]) == ["Oslo", "Rome"]
    assert weather[2].err == "LookupError: no weather in Rome"
    # A tool of an MCP server is the SDK's tool and, inside of it, the session's.
    assert calls["/dev/tool/look_up"].args["input"] == {"word": "abc"}
    assert calls["/dev/mcp/librarian/look_up"].args["input"] == {"word": "abc"}
    by_path = {event.syscall.args["path"]: event for event in recorded.root.syscalls("ToolCall") if event.syscall}
    assert by_path["/dev/mcp/librarian/look_up"].parent_span_id == by_path["/dev/tool/look_up"].span_id


@group("pydantic_ai")
def test_pydantic_ai_tools_are_recorded(recorded: Recorded) -> None:
    weather, guess = recorded.calls()[:2], recorded.calls()[2]
    assert sorted(call.args["input"]["city"] for call in weather) == ["Oslo", "Rome"]
    assert {str(call.result["degrees"]) for call in weather} == {"21.5"}
    assert outline(guess) == ("/dev/tool/guess", {"number": 3}, None, "ModelRetry: too low")


@group("stdio", "sse", "http")
def test_mcp_sessions_are_recorded_once(recorded: Recorded) -> None:
    for scenario in recorded.scenarios:
        assert recorded.result.facts()[scenario] == TALK
    tools = recorded.calls()[:3]
    assert [(call.args["path"], call.args["input"]) for call in tools] == [
        ("/dev/mcp/librarian/look_up", {"word": "abc"}),
        ("/dev/mcp/librarian/look_up", {"word": "void"}),
        ("/dev/mcp/librarian/count_letters", {"word": "noon"}),
    ]
    assert tools[0].result["content"] == [{"type": "text", "text": "abc means cba"}]
    assert [call.err for call in tools] == ["", "Error executing tool look_up: no such word", ""]
    assert len(recorded.calls()) == 3 * len(recorded.scenarios)
    others = [(call.args["method"], call.args["path"]) for call in recorded.calls("MCP")]
    first = {"initialize", "server/discover"} & {method for method, _ in others}
    assert others.count(("tools/list", "/dev/session/librarian")) == len(recorded.scenarios)
    assert others.count(("connect", "/dev/session/librarian")) == len(recorded.scenarios)
    assert first
    # What the transports do is not recorded a second time; a server that is a process is, once.
    assert recorded.root.syscalls("HTTP") == []
    assert recorded.root.syscalls("Connect") == []
    assert len(recorded.root.syscalls("Exec")) == (2 if recorded.scenarios == STDIO else 0)


@group("stdio")
def test_what_a_server_process_does_hangs_on_its_connection(recorded: Recorded) -> None:
    connections = [event for event in recorded.root.syscalls("MCP") if _method(event) == "connect"]
    starts = recorded.root.syscalls("Exec")
    assert [event.parent_span_id for event in starts] == [event.span_id for event in connections]


def _method(event: RecordEvent) -> object:
    assert event.syscall is not None
    return event.syscall.args["method"]


@group("sampling")
def test_what_a_server_asks_of_the_model_is_part_of_its_tool(recorded: Recorded) -> None:
    [tool] = recorded.root.syscalls("ToolCall")
    [call] = recorded.root.calls
    assert call.syscall.parent_span_id == tool.span_id
    assert recorded.result.facts()["mcp_sampling"].startswith("echo: mcp_sampling")  # type: ignore[attr-defined]


@group("in_process")
def test_a_server_in_the_program_is_recorded_too(recorded: Recorded) -> None:
    assert [outline(call)[:2] for call in recorded.calls()] == [("/dev/mcp/inner/add", {"a": 1, "b": 2})] * 2


# --- serving ---------------------------------------------------------------------------------------------------------


@group(*GROUPS)
def test_a_rerun_serves_tools_without_running_them(recorded: Recorded) -> None:
    """All servers are stopped, nothing is started, the tools leave nothing, and the output is the same."""
    before = recorded.ran()
    second = recorded.again()
    assert second.of_kind("divergence") == []
    assert (second.result.code, second.result.stdout) == (0, recorded.result.stdout), second.result.stderr.decode()
    assert recorded.ran() == before
    assert second.of_kind("live") == []
    tools = second.of_kind("tool")
    assert {entry.match for entry in tools} == {"served"}
    served = {entry.offer for entry in second.journal if entry.offer is not None}
    left = [offer for offer in second.offers if offer.number not in served]
    assert all(offer.inside in served for offer in left)
    [made] = second.recordings
    assert made.syscalls("Exec") == []
    assert {event.origin for event in made.syscalls("ToolCall")} == {"served"}
    outer = [call for call in recorded.calls() if not _is_inner(call, recorded)]
    assert sorted(map(_words, _syscalls(made))) == sorted(map(_words, outer))


def _is_inner(call: SyscallEventData, recorded: Recorded) -> bool:
    return recorded.scenarios == OPENAI_AGENTS and str(call.args["path"]).startswith("/dev/mcp/")


def _syscalls(recording: Recording) -> list[SyscallEventData]:
    return [event.syscall for event in recording.syscalls("ToolCall") if event.syscall is not None]


def _words(call: SyscallEventData) -> str:
    return repr((*outline(call), call.result_type, call.error))


@group("stdio")
def test_a_live_mcp_tool_connects_to_its_server(recorded: Recorded) -> None:
    """The handshake that was served is made up for; the other tools of the server are served."""
    recorded.trace.unlink()
    second = recorded.again(live_tools=["look_up"])
    assert second.of_kind("divergence") == []
    assert second.result.stdout == recorded.result.stdout, second.result.stderr.decode()
    assert recorded.ran() == ["abc", "abc", "void", "void"]
    live = [entry for entry in second.of_kind("tool") if entry.match == "live"]
    assert {entry.path for entry in live} == {"/dev/mcp/librarian/look_up"}
    assert len(live) == 4


@group("http", "sse")
def test_a_live_mcp_tool_over_http_reaches_the_running_server(recorded: Recorded, tmp_path: Path) -> None:
    """At the address that was recorded a server runs again."""
    port = recorded.env["MCP_URL"].rpartition(":")[2]
    trace = tmp_path / "trace"
    transport = "sse" if recorded.scenarios == SSE else "streamable-http"
    server = subprocess.Popen(
        [sys.executable, AGENTS / "mcp_server.py", trace, transport, port],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        assert any("ready" in line for line in server.stdout)
        second = recorded.again(live_tools=["/dev/mcp/librarian/count_letters"])
    finally:
        server.terminate()
        server.communicate()
    assert second.result.stdout == recorded.result.stdout, second.result.stderr.decode()
    assert trace.read_text().splitlines() == ["count noon"] * len(recorded.scenarios)
