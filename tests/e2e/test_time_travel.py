"""Time travel, as a whole: agents on SDKs and frameworks rerun with their server stopped, and fork to another end."""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from capture_harness import AGENTS, Result, environment, run

from unspool.demo.script import ModelRequest, Reply, ToolCall
from unspool.demo.server import ModelServer
from unspool.events import RecordEventType
from unspool.recording.address import resolve
from unspool.recording.reader import RecordReader
from unspool.store import Store

KINDS = [
    "openai_sync",
    "openai_stream",
    "openai_async",
    "openai_async_stream",
    "anthropic_sync",
    "anthropic_async_stream",
    "langgraph",
    "langgraph_async_stream",
    "pydantic_ai",
    "pydantic_ai_stream",
    "openai_agents",
    "openai_agents_stream",
]


@dataclass
class Model:
    """The model of `agents/travellers.py`, and what it was asked."""

    asked: list[ModelRequest] = field(default_factory=list)

    def __call__(self, request: ModelRequest) -> Reply:
        """Look up each fruit the task names, one at a time; then say the sum, as the system prompt wants it said."""
        self.asked.append(request)
        named = re.findall(r"apple|pear|plum", next(m.text for m in request.messages if m.role == "user"))
        results = [result.text for _, result in request.results]
        if len(results) < len(named):
            fruit = named[len(results)]
            return Reply(text=f"Now {fruit}.", tool_calls=(ToolCall("price", {"name": fruit}),))
        return Reply(text=f"{sum(map(int, results))} {'euro' if 'euro' in request.system else 'coins'}")


@dataclass
class Trip:
    """A recorded run of one agent, whose server is stopped."""

    store: Path
    trace: Path
    env: dict[str, str]
    recorded: Result

    def unspool(self, *args: str, **env: str) -> Result:
        argv = [sys.executable, "-m", "unspool", *args, "--store", str(self.store)]
        return run(argv, {**self.env, **env}, timeout=90)

    def left(self) -> list[str]:
        """What the tools left since this was asked last."""
        lines = self.trace.read_text().splitlines()
        self.trace.write_text("")
        return lines

    def reader(self, which: str) -> RecordReader:
        return RecordReader(resolve(Store(self.store), which).record_dir)


@pytest.fixture(scope="module")
def trip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trip:
    folder = tmp_path_factory.mktemp(request.param)
    store, trace = folder / "store", folder / "trace"
    with ModelServer(Model()) as server:
        env = environment(None, TEST_URL=server.url, TRACE=str(trace), NO_COLOR="1", NO_PROXY="127.0.0.1")
        command = [sys.executable, "-m", "unspool", "run", "-q", "--store", str(store), "--"]
        recorded = run([*command, sys.executable, AGENTS / "travellers.py", request.param], env)
    assert (recorded.code, recorded.lines) == (0, ["ANSWER: 12 coins"]), recorded.stderr.decode()
    made = Trip(store, trace, env, recorded)
    assert made.left() == ["apple", "pear", "plum"]
    return made


@contextmanager
def door() -> Iterator[tuple[str, list[Any]]]:
    """A port at which somebody listens and counts who comes: its URL, and the addresses of those."""
    came: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def watch() -> None:
            while True:
                client, address = listener.accept()
                client.close()
                if came and came[-1] is None:
                    return
                came.append(address)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        port = listener.getsockname()[1]
        yield f"http://127.0.0.1:{port}", came
        came.append(None)
        socket.create_connection(("127.0.0.1", port)).close()
        watcher.join()
        came.pop()


def each_kind(function: Any) -> Any:
    return pytest.mark.parametrize("trip", KINDS, indirect=True)(function)


def call_id_of(reader: RecordReader, call: int, text: str) -> str:
    """The id of the tool call whose result before model call `call` is `text`."""
    snapshots = (event for event in reader.events() if event.type is RecordEventType.CONTEXT_SNAPSHOT)
    seq_num = next(event.seq_num for event in snapshots if event.call == call)
    messages = reader.context_at(seq_num).messages
    [found] = [one.tool_call_id for one in messages if one.role == "tool" and one.content == text]
    assert found
    return found


@each_kind
def test_it_reruns_the_same_with_nobody_to_ask(trip: Trip) -> None:
    done = trip.unspool("rerun", "last", "--json")
    assert done.code == 0, done.stderr.decode()
    outcome = json.loads(done.stdout)
    assert outcome["status"] == "identical"
    assert (outcome["exchanges"], outcome["same_bytes"], outcome["live"]) == (4, 4, 0)
    assert (outcome["tools"], outcome["tools_served"], outcome["tools_live"]) == (3, 3, [])
    assert outcome["stdout"]["verdict"] == "identical"
    assert outcome["divergences"] == outcome["not_made"] == outcome["touched"] == []
    assert trip.left() == []


@each_kind
def test_a_rerun_knocks_at_no_door(trip: Trip, tmp_path: Path) -> None:
    """Somebody listens where the agent looks for its model: nobody comes, and no socket went anywhere else."""
    with door() as (url, came):
        done = trip.unspool("rerun", "last", "--deny", "net", TEST_URL=url, SOCKETS=str(tmp_path / "sockets"))
    assert done.code == 0, done.stderr.decode()
    assert done.stdout == trip.recorded.stdout
    assert came == []
    assert (tmp_path / "sockets").read_text() == ""
    assert trip.left() == []


@pytest.mark.parametrize("trip", ["openai_sync"], indirect=True)
def test_the_same_program_does_knock_when_it_is_not_served(trip: Trip, tmp_path: Path) -> None:
    with door() as (url, came):
        env = {**trip.env, "TEST_URL": url, "SOCKETS": str(tmp_path / "sockets")}
        done = run([sys.executable, AGENTS / "travellers.py", "openai_sync"], env)
    assert done.code == 1
    assert len(came) == 1
    assert "socket.connect" in (tmp_path / "sockets").read_text()


@each_kind
def test_a_changed_system_prompt_leads_to_another_end(trip: Trip) -> None:
    model = Model()
    with ModelServer(model) as server:
        ask = ("fork", "last@call:3", "--set-system", "Say it in euro.", "--run", "--yes")
        done = trip.unspool(*ask, TEST_URL=server.url)
    assert (done.code, done.lines) == (0, ["ANSWER: 12 euro"]), done.stderr.decode()
    assert [request.system for request in model.asked] == ["Say it in euro."] * 2
    assert [len(request.results) for request in model.asked] == [2, 3]
    assert trip.left() == ["plum"]


@each_kind
def test_a_changed_tool_result_leads_to_another_end(trip: Trip) -> None:
    model = Model()
    with trip.reader("last") as reader:
        call = call_id_of(reader, 3, "4")
    with ModelServer(model) as server:
        ask = ("fork", "last@call:3", "--tool-result", f"{call}=400", "--run", "--yes")
        done = trip.unspool(*ask, TEST_URL=server.url)
    assert (done.code, done.lines) == (0, ["ANSWER: 408 coins"]), done.stderr.decode()
    seen = [[result.text for _, result in request.results] for request in model.asked]
    assert seen == [["3", "400"], ["3", "400", "5"]]
    assert trip.left() == ["plum"]


@each_kind
def test_a_changed_response_leads_to_another_end_and_the_fork_reruns(trip: Trip) -> None:
    model = Model()
    said = json.dumps({"text": "A fig.", "tool_calls": [{"name": "price", "arguments": {"name": "fig"}}]})
    with ModelServer(model) as server:
        ask = ("fork", "last@call:2", "--set-response", said, "--run", "--yes")
        done = trip.unspool(*ask, TEST_URL=server.url)
    assert (done.code, done.lines) == (0, ["ANSWER: 48 coins"]), done.stderr.decode()
    assert [len(request.results) for request in model.asked] == [2, 3]
    assert "A fig." in [message.text for message in model.asked[-1].messages if message.role == "assistant"]
    assert trip.left() == ["fig", "plum"]
    with trip.reader("last-fork") as fork:
        answers = [event for event in fork.events() if event.type is RecordEventType.LLM_RESPONSE]
        assert [event.origin for event in answers] == ["served", "edited", "live", "live"]
    again = trip.unspool("rerun", "last-fork")
    assert (again.code, again.lines) == (0, ["ANSWER: 48 coins"]), again.stderr.decode()
    assert trip.left() == []


SETS = """\
import os
from openai import OpenAI

WORDS = {"ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay"}
client = OpenAI(base_url=f"{os.environ['TEST_URL']}/v1", max_retries=0)
said = client.chat.completions.create(model="echo", messages=[{"role": "user", "content": " ".join(WORDS)}])
print(said.choices[0].message.content)
"""


@pytest.mark.parametrize("seed", [None, "random", "7"])
def test_the_order_of_sets_is_that_of_the_recording(tmp_path: Path, seed: str | None) -> None:
    """Ten words come in the same order twice once in three million times."""
    (tmp_path / "agent.py").write_text(SETS)
    more = {} if seed is None else {"PYTHONHASHSEED": seed}
    store = tmp_path / "store"
    unspool = [sys.executable, "-m", "unspool"]
    with ModelServer() as server:
        env = environment(None, TEST_URL=server.url, NO_PROXY="127.0.0.1", **more)
        command = [*unspool, "run", "-q", "--store", str(store), "--", sys.executable, "agent.py"]
        first, second = (run(command, env, cwd=tmp_path) for _ in range(2))
    assert (first.stdout == second.stdout) is (seed == "7")
    for which, recorded in (("1", first), ("2", second)):
        env = environment(None, TEST_URL=server.url, PYTHONHASHSEED="8")
        again = run([*unspool, "rerun", which, "--store", str(store)], env, cwd=tmp_path)
        assert again.code == 0, again.stderr.decode()
        assert again.stdout == recorded.stdout
    if seed == "7":
        return
    other = run([*unspool, "rerun", "1", "--no-pin", "--store", str(store)], environment(None, TEST_URL=server.url))
    assert other.code == 3
    assert "an order that is not the same in each run" in other.stderr.decode()
