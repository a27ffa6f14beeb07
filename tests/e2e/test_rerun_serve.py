"""Recorded exchanges served again: every library, places and order, errors, and the stop where there is no answer.

The server of a recording is stopped before its rerun, and its port listened on by a socket that counts: nothing of a
rerun may knock there.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from capture_harness import AGENTS, Recording, Result, environment, recordings, run, run_agent, run_code
from capture_reruns import Rerun, rerun, root_of
from capture_webserver import web_server

from unspool.demo.script import ModelRequest, Reply
from unspool.demo.server import ModelServer
from unspool.events import RecordEvent
from unspool.serving.edits import Answer, Draft, Edits

# Their acknowledgements go through a library that is not recorded, and so not served either; what came compressed is
# served as it was read, so that reading it raw differs.
_NOT_SERVED = ("stepwise", "raw_zipped")


@contextlib.contextmanager
def silence(port: int) -> Iterator[None]:
    """Listen where the server was, and see that nobody comes."""
    with socket.create_server(("127.0.0.1", port), backlog=64) as listener:
        listener.setblocking(False)
        yield
        with pytest.raises(BlockingIOError):
            listener.accept()


def serve_again(
    store: Path, argv: list[str | Path], port: int, cwd: Path | None = None, **env: str
) -> tuple[Recording, Rerun]:
    """Run a recorded command again with its server gone."""
    root = root_of(recordings(store))
    with silence(port):
        return root, rerun(store, argv, root, cwd=cwd, env=env)


def assert_served(done: Rerun, recorded: Result) -> None:
    """All that was recorded was asked for again, byte for byte, and led to the same output."""
    assert done.of_kind("divergence") == [], done.result.stderr.decode()
    assert done.of_kind("live") == done.of_kind("note") == []
    assert done.result.stdout == recorded.stdout
    assert done.result.code == recorded.code
    served = done.of_kind("served")
    exchanges = [offer.number for offer in done.offers if offer.kind != "tool"]
    assert sorted(entry.offer or 0 for entry in served) == exchanges
    assert {entry.match for entry in served} == {"bytes"}


def exchanges_of(found: list[Recording]) -> list[RecordEvent]:
    return [event for one in found for name in ("LLMCall", "HTTP") for event in one.syscalls(name)]


@pytest.mark.parametrize("agent", ["openai_calls", "anthropic_calls", "gemini_calls", "concurrent_calls"])
def test_agents_run_again_identically_with_their_server_gone(agent: str, tmp_path: Path) -> None:
    """Every SDK, whole and streamed, sync and async; faults and retries; tasks, threads, pools and child processes."""
    store = tmp_path / "store"
    with ModelServer() as server:
        recorded = run_agent(agent, store=store, MODEL_URL=server.url)
    argv: list[str | Path] = [sys.executable, AGENTS / f"{agent}.py"]
    before = recordings(store)
    _, done = serve_again(store, argv, server.port, MODEL_URL=server.url)
    assert_served(done, recorded)
    again, events = exchanges_of(done.recordings), exchanges_of(before)
    assert len(again) == len(events)
    assert {event.origin for event in again} == {"served"}
    assert {event.origin for event in events} == {None}
    # The rerun is a recording like any other: it says the same as the first.
    assert sorted(_outcome(event) for event in again) == sorted(_outcome(event) for event in events)


def _outcome(event: RecordEvent) -> tuple[str, str, str]:
    assert event.syscall is not None
    return str(event.syscall.args["path"]), str(event.syscall.result), event.syscall.err


def test_every_http_library_is_served(tmp_path: Path) -> None:
    """httpx and its fork, requests, urllib3, aiohttp: redirects, digest auth, uploads, pieces, cuts, refusals."""
    store = tmp_path / "store"
    with web_server() as port:
        url = f"http://127.0.0.1:{port}"
        names = list(run_agent("http_calls", store=None, MODEL_URL=url).facts())
        names = [name for name in names if not name.endswith(_NOT_SERVED)]
        recorded = run_agent("http_calls", *names, store=store, MODEL_URL=url)
    argv: list[str | Path] = [sys.executable, AGENTS / "http_calls.py", *names]
    _, done = serve_again(store, argv, port, MODEL_URL=url)
    assert_served(done, recorded)


# --- order -----------------------------------------------------------------------------------------------------------

GATHERED = """\
import asyncio, os
from openai import AsyncOpenAI

order = []


async def ask(client, number):
    answer = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "the same"}])
    text = answer.choices[0].message.content
    order.append((number, text))
    return text


async def main():
    async with AsyncOpenAI(base_url=os.environ["MODEL_URL"] + "/v1") as client:
        print(await asyncio.gather(*[ask(client, n) for n in range(24)]))
        print(order)
        # What came first decides what is asked next.
        messages = [{"role": "user", "content": repr(order)}]
        answer = await client.chat.completions.create(model="m", messages=messages)
        print(answer.choices[0].message.content)


asyncio.run(main())
"""

THREADS = """\
import os
from concurrent.futures import ThreadPoolExecutor, as_completed
from openai import OpenAI

client = OpenAI(base_url=os.environ["MODEL_URL"] + "/v1")


def ask(number):
    answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "the same"}])
    return number, answer.choices[0].message.content


with ThreadPoolExecutor(8) as pool:
    answers = sorted(one.result() for one in as_completed([pool.submit(ask, n) for n in range(24)]))
print(answers)
"""


def shuffled() -> Callable[[ModelRequest], Reply]:
    """A model that answers equal questions differently, and later ones sooner."""
    numbers = itertools.count()

    def script(request: ModelRequest) -> Reply:
        number = next(numbers)
        return Reply(text=f"answer {number} to {len(request.last_user_text)}", latency_s=0.02 * ((7 * number) % 24))

    return script


@pytest.mark.parametrize("code", [GATHERED, THREADS], ids=["tasks", "threads"])
def test_equal_requests_at_once_get_their_own_answers_in_the_recorded_order(code: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    with ModelServer(shuffled()) as server:
        recorded = run_code(code, store, tmp_path, MODEL_URL=server.url)
    assert recorded.code == 0, recorded.stderr
    _, done = serve_again(store, [sys.executable, tmp_path / "agent.py"], server.port, tmp_path, MODEL_URL=server.url)
    assert_served(done, recorded)


STREAM = """\
import os
from openai import OpenAI

client = OpenAI(base_url=os.environ["MODEL_URL"] + "/v1")
messages = [{"role": "user", "content": "slowly"}]
for piece in client.chat.completions.create(model="echo+slow+chunks4", messages=messages, stream=True):
    print(piece.choices[0].delta.content if piece.choices else "end", flush=True)
"""


def test_a_stream_comes_at_its_pace_if_asked_for(tmp_path: Path) -> None:
    """A pause is never shorter than recorded; how much longer depends on the machine."""
    store = tmp_path / "store"
    with ModelServer() as server:
        recorded = run_code(STREAM, store, tmp_path, MODEL_URL=server.url)
    root = root_of(recordings(store))
    [call] = root.calls
    assert call.response is not None
    assert call.response.chunks is not None
    pauses = call.response.chunks[1::2]
    assert len(pauses) > 4
    with silence(server.port):
        done = rerun(
            store, [sys.executable, tmp_path / "agent.py"], root, tmp_path, {"MODEL_URL": server.url}, realtime=True
        )
    assert_served(done, recorded)
    [again] = root_of(done.recordings).calls
    assert again.response is not None
    assert again.response.chunks is not None
    assert again.response.chunks[::2] == call.response.chunks[::2]
    assert all(now >= then for now, then in zip(again.response.chunks[1::2], pauses, strict=True))


# --- divergence ------------------------------------------------------------------------------------------------------

AGENT = """\
import asyncio, os, subprocess, sys, threading
from openai import AsyncOpenAI, OpenAI

url = os.environ["MODEL_URL"] + "/v1"
client = OpenAI(base_url=url, max_retries=0)


def ask(text):
    answer = client.chat.completions.create(model="echo", messages=[{"role": "user", "content": text}])
    print(answer.choices[0].message.content, flush=True)


async def ask_async(text):
    async with AsyncOpenAI(base_url=url, max_retries=0) as one:
        answer = await one.chat.completions.create(model="echo", messages=[{"role": "user", "content": text}])
    print(answer.choices[0].message.content, flush=True)


def in_thread(text):
    thread = threading.Thread(target=ask, args=(text,))
    thread.start()
    thread.join()


async def in_task(text):
    await asyncio.gather(ask_async(text))


def in_child(text):
    subprocess.run([sys.executable, __file__, "ask:" + text], check=False)


for word in sys.argv[1:] or os.environ["SAY"].split(","):
    how, _, text = word.partition(":")
    if how == "task":
        asyncio.run(in_task(text))
    else:
        {"ask": ask, "thread": in_thread, "child": in_child}[how](text)
    with open(os.environ["TRACES"], "a") as file:
        file.write(word + "\\n")
"""


class Home:
    """An agent that asks what it is told to, and its recording."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.traces = folder / "traces"
        self.port = 0

    def record(self, say: str, code: str = AGENT, **env: str) -> Recording:
        with ModelServer() as server:
            self.port = server.port
            run_code(code, self.store, self.folder, SAY=say, MODEL_URL=server.url, TRACES=str(self.traces), **env)
        self.traces.unlink(missing_ok=True)
        return root_of(recordings(self.store))

    def rerun(self, say: str, root: Recording, **rules: object) -> Rerun:
        argv: list[str | Path] = [sys.executable, self.folder / "agent.py"]
        env = {"SAY": say, "MODEL_URL": f"http://127.0.0.1:{self.port}", "TRACES": str(self.traces)}
        with silence(self.port):
            return rerun(self.store, argv, root, self.folder, env, **rules)

    def happened(self) -> list[str]:
        return self.traces.read_text().split() if self.traces.exists() else []


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.mark.parametrize("how", ["ask", "thread", "task"])
def test_a_changed_prompt_stops_the_program_at_once(how: str, home: Home) -> None:
    root = home.record(f"ask:one,{how}:two,ask:three")
    done = home.rerun(f"ask:one,{how}:TWO,ask:three", root)
    assert done.result.code == 3
    assert done.result.lines == ["echo: one [" + done.result.lines[0].partition("[")[2]]
    assert home.happened() == ["ask:one"]  # nothing happened behind the divergence
    [entry] = done.of_kind("divergence")
    assert entry.reason == "no recorded request to this address has this body"
    assert entry.offer == 2
    assert entry.path == "/dev/llm/openai/echo"
    place, _, function = (entry.at or "").partition(" ")
    line = AGENT.splitlines()[int(place.removeprefix("agent.py:")) - 1]
    assert "chat.completions.create" in line
    assert function == ("ask_async" if how == "task" else "ask")
    assert entry.stack[0] == entry.at
    assert entry.method == "POST"
    body = next((home.store / "reruns").glob(f"*/{entry.body}")).read_bytes()
    assert json.loads(body)["messages"] == [{"role": "user", "content": "TWO"}]
    [again] = done.recordings
    assert again.metadata.status == "stopped"
    assert len(again.calls) == 1


def test_a_divergence_in_a_child_process_ends_that_process(home: Home) -> None:
    root = home.record("ask:one,child:two,ask:three")
    done = home.rerun("ask:one,child:TWO,ask:three", root)
    [entry] = done.of_kind("divergence")
    assert entry.record_id != root.metadata.record_id
    assert [one.match for one in done.of_kind("served")] == ["bytes"] * 2  # of the parent, that nobody stopped


@pytest.mark.parametrize(
    ("recorded", "said", "expected", "reason"),
    [
        ("ask:one,ask:two", "ask:one,ask:new,ask:two", 2, "no recorded request to this address has this body"),
        ("ask:one,ask:two,ask:three", "ask:one,ask:three", 2, "the program left out a model call"),
        ("ask:one,ask:two", "ask:one,ask:one,ask:two", 2, "the recording has this request, but fewer times"),
        ("ask:one,ask:two", "ask:one,ask:two,ask:new", None, "the recording holds no more requests"),
    ],
    ids=["inserted", "missing", "repeated", "one more"],
)  # fmt: skip
def test_calls_that_come_or_go_are_divergences(
    recorded: str, said: str, expected: int | None, reason: str, home: Home
) -> None:
    root = home.record(recorded)
    done = home.rerun(said, root)
    assert done.result.code == 3
    [entry] = done.of_kind("divergence")
    assert (entry.offer, (entry.reason or "").startswith(reason)) == (expected, True), entry


def test_a_program_that_stops_early_leaves_offers_unclaimed(home: Home) -> None:
    root = home.record("ask:one,ask:two")
    done = home.rerun("ask:one", root)
    assert done.result.code == 0
    assert [entry.offer for entry in done.of_kind("served")] == [1]


REORDERED = """\
import os, sys
import httpx

order = os.environ["SAY"].split(",")
body = {"model": "echo", "messages": [{"role": "user", "content": "one"}]}
httpx.post(os.environ["MODEL_URL"] + "/v1/chat/completions", json={key: body[key] for key in order}).raise_for_status()
"""


def test_the_same_json_in_another_order_is_the_same_request(home: Home) -> None:
    root = home.record("model,messages", REORDERED)
    done = home.rerun("messages,model", root)
    assert done.result.code == 0, done.result.stderr
    assert [entry.match for entry in done.of_kind("served")] == ["canonical"]


def test_live_goes_on_where_the_recording_ends(home: Home) -> None:
    root = home.record("ask:one,ask:two")
    with ModelServer(port=home.port) as server:
        env = {"SAY": "ask:one,ask:new,ask:newer", "MODEL_URL": server.url, "TRACES": str(home.traces)}
        argv: list[str | Path] = [sys.executable, home.folder / "agent.py"]
        done = rerun(home.store, argv, root, home.folder, env, on_divergence="live")
        assert len(server.requests) == 2
    assert done.result.code == 0, done.result.stderr
    kinds = [entry.kind for entry in done.journal if entry.kind != "touched"]
    assert kinds == ["served", "divergence", "live", "live"]
    assert [entry.detail for entry in done.of_kind("live")] == [{"call": 1}, {"call": 2}]
    assert [event.origin for event in done.recordings[0].snapshots()] == ["served", "live", "live"]


def test_live_calls_are_counted_and_capped(home: Home) -> None:
    root = home.record("ask:one")
    with ModelServer(port=home.port) as server:
        env = {"SAY": "ask:new,ask:newer", "MODEL_URL": server.url, "TRACES": str(home.traces)}
        argv: list[str | Path] = [sys.executable, home.folder / "agent.py"]
        done = rerun(home.store, argv, root, home.folder, env, on_divergence="live", max_calls=1)
        assert len(server.requests) == 1
    assert done.result.code == 3
    assert "the limit of 1 live model calls is used up" in (done.of_kind("divergence")[-1].reason or "")


# --- recordings that lack something ----------------------------------------------------------------------------------


def test_a_recording_without_bodies_says_so(home: Home) -> None:
    root = home.record("ask:one")
    (root.folder / "messages.jsonl").write_bytes(b"")
    done = home.rerun("ask:one", root)
    assert done.result.code == 3
    [entry] = done.of_kind("divergence")
    assert entry.reason == "the recording cannot tell what was asked: its request is not recorded"


def test_a_response_that_is_lost_says_so(home: Home) -> None:
    """The line of the pool with the answer's text is gone."""
    question = "ask:" + "a question long enough to be stored in the pool " * 4
    root = home.record(question)
    pool = root.folder / "messages.jsonl"
    lines = pool.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if b"echo: " not in line]
    assert len(kept) == len(lines) - 1
    pool.write_bytes(b"".join(kept))
    done = home.rerun(question, root)
    assert done.result.code == 3
    [entry] = done.of_kind("divergence")
    assert entry.reason == (
        "the recording has this request, but cannot serve it: the bytes of its response are missing or damaged"
    )


def kill_in_flight(home: Home, say: str) -> Recording:
    """Record an agent and kill it while its last call waits for an answer."""
    script = home.folder / "agent.py"
    script.write_text(AGENT)
    asked = threading.Event()
    answered = threading.Event()

    def silent(request: ModelRequest) -> Reply:
        if request.last_user_text == "never":
            asked.set()
            answered.wait(30)
        return Reply(text=request.last_user_text)

    with ModelServer(silent) as server:
        home.port = server.port
        env = environment(home.store, SAY=say, MODEL_URL=server.url, TRACES=str(home.traces))
        agent = subprocess.Popen([sys.executable, script], env=env, cwd=home.folder, stdout=subprocess.DEVNULL)
        assert asked.wait(30)
        os.kill(agent.pid, signal.SIGKILL)
        agent.wait()
        answered.set()
    home.traces.unlink(missing_ok=True)
    return root_of(recordings(home.store))


def test_a_call_in_flight_when_the_agent_was_killed_cannot_be_served(home: Home) -> None:
    root = kill_in_flight(home, "ask:one,ask:never")
    done = home.rerun("ask:one,ask:never", root)
    assert done.result.code == 3
    [entry] = done.of_kind("divergence")
    assert entry.offer == 2
    assert entry.reason == (
        "the recording has this request, but cannot serve it: it was in flight when the recording ended"
    )


def test_beyond_the_end_of_an_interrupted_recording_nothing_is_known(home: Home) -> None:
    root = home.record("ask:one,ask:two")
    events = (root.folder / "events.jsonl").read_bytes().splitlines(keepends=True)
    cut = next(number for number, line in enumerate(events) if b'"type":"llm_response"' in line)
    (root.folder / "events.jsonl").write_bytes(b"".join(events[: cut + 1]))
    metadata = json.loads((root.folder / "metadata.json").read_text())
    metadata |= {"status": "recording", "end_time": "0001-01-01T00:00:00Z", "event_count": cut + 1}
    (root.folder / "metadata.json").write_text(json.dumps(metadata))
    done = home.rerun("ask:one,ask:two", root)
    assert done.result.code == 3
    [entry] = done.of_kind("divergence")
    assert entry.reason == "the recording was interrupted here: it holds nothing that came later"


# --- nothing is sent by mistake --------------------------------------------------------------------------------------


def test_a_rerun_whose_plan_is_gone_runs_nothing(home: Home) -> None:
    root = home.record("ask:one")
    env = environment(home.store, SAY="ask:one", MODEL_URL=f"http://127.0.0.1:{home.port}", TRACES=str(home.traces))
    lineage = json.loads(env["UNSPOOL_RUN"]) | {"rerun": str(home.folder / "nowhere")}
    env["UNSPOOL_RUN"] = json.dumps(lineage, separators=(",", ":"))
    with silence(home.port):
        result = run([sys.executable, home.folder / "agent.py"], env, cwd=home.folder)
    assert result.code == 3
    assert b"a rerun must not run for real" in result.stderr
    assert home.happened() == []
    assert root.calls


def test_a_fault_of_our_own_is_a_divergence(home: Home) -> None:
    """The offers are there, but their recording is gone: no answer, and no request either."""
    root = home.record("ask:one")
    gone = home.folder / "gone"
    code = f"import shutil\nshutil.move({str(root.folder)!r}, {str(gone)!r})\n" + AGENT
    (home.folder / "agent.py").write_text(code)
    done = home.rerun("ask:one", root)
    assert done.result.code == 3
    [entry] = done.of_kind("divergence")
    assert "cannot" in (entry.reason or "")
    assert home.happened() == []
    shutil.move(gone, root.folder)


HUSHED = """\
import os
import httpx
from unspool.capture.flow import quiet

with quiet():
    httpx.get(os.environ["MODEL_URL"] + "/page")
"""


def test_requests_where_nothing_is_recorded_are_stopped_too(home: Home) -> None:
    root = home.record("", HUSHED)
    done = home.rerun("", root)
    assert done.result.code == 3
    [entry] = done.of_kind("divergence")
    assert entry.reason == "it was made where nothing is recorded"


def test_at_exit_handlers_reach_nobody(home: Home) -> None:
    code = 'import atexit, os\nimport httpx\natexit.register(lambda: httpx.get(os.environ["MODEL_URL"] + "/page"))\n'
    root = home.record("", code)
    done = home.rerun("", root)
    assert done.result.code in {0, 3}
    assert len(done.of_kind("divergence")) == (done.result.code == 3)


def test_children_are_killed_with_a_rerun_that_is_stopped(home: Home) -> None:
    """Through the command line: a pool whose worker diverged would wait for it for ever."""
    pool = (
        "import multiprocessing, os, sys, urllib.request\nimport httpx\n"
        "def ask(n):\n"
        '    body = {"model": "echo", "messages": [{"role": "user", "content": os.environ["SAY"] + str(n)}]}\n'
        '    return httpx.post(os.environ["MODEL_URL"] + "/v1/chat/completions", json=body).status_code\n'
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('fork').Pool(2) as workers:\n"
        "        print(workers.map(ask, range(4)))\n"
    )
    root = home.record("a", pool)
    env = environment(None, SAY="b", MODEL_URL=f"http://127.0.0.1:{home.port}", NO_COLOR="1")
    command = [sys.executable, "-m", "unspool", "rerun", "--store", home.store, root.metadata.record_id]
    with silence(home.port):
        result = run([*command, "--", sys.executable, "agent.py"], env, cwd=home.folder)
    assert result.code == 3, result


# --- behind the target of a fork -------------------------------------------------------------------------------------

CLIENTS = """\
import asyncio, os, sys
import aiohttp, httpx, requests

url = os.environ["MODEL_URL"] + "/v1/chat/completions"


def body(text):
    messages = [{"role": "system", "content": "old"}, {"role": "user", "content": "begin"}]
    return {"model": "echo", "messages": [*messages, {"role": "user", "content": text}]}


async def over_aiohttp(data):
    async with aiohttp.ClientSession() as session, session.post(url, json=data) as answer:
        return await answer.json()


async def over_async_httpx(data):
    async with httpx.AsyncClient() as client:
        return (await client.post(url, json=data)).json()


ways = {
    "httpx": lambda data: httpx.post(url, json=data).json(),
    "requests": lambda data: requests.post(url, json=data, timeout=30).json(),
    "aiohttp": lambda data: asyncio.run(over_aiohttp(data)),
    "async httpx": lambda data: asyncio.run(over_async_httpx(data)),
}
for text in ("one", "two", "three"):
    for name, way in ways.items():
        print(way(body(f"{name} {text}"))["choices"][0]["message"]["content"], flush=True)
"""


def test_behind_the_target_every_library_sends_what_the_edits_made(home: Home) -> None:
    root = home.record("", CLIENTS)
    target = next(call for call in root.calls if call.user_text == "httpx two")
    assert target.request_body is not None
    draft = Draft.of("openai_chat", "http://host/v1/chat/completions", target.request_body)
    draft.set_system = "new and longer"
    sent: list[ModelRequest] = []

    def model(request: ModelRequest) -> Reply:
        sent.append(request)
        return Reply(text="live")

    with ModelServer(model, port=home.port) as server:
        done = rerun(
            home.store,
            [sys.executable, home.folder / "agent.py"],
            root,
            home.folder,
            {"MODEL_URL": server.url},
            target=(root.metadata.record_id, target.snapshot.seq_num),
            edits=draft.edits().to_plan(),
        )
    assert done.result.code == 0, done.result.stderr
    assert [entry.kind for entry in done.journal if entry.kind != "touched"] == [
        *["served"] * 4,
        "edited",
        *["live"] * 7,
    ]
    texts = [f"{name} {word}" for word in ("two", "three") for name in ("httpx", "requests", "aiohttp", "async httpx")]
    assert [(request.system, request.last_user_text) for request in sent] == [
        ("new and longer", text) for text in texts
    ]
    [again] = done.recordings
    origins = [event.origin for event in again.snapshots()]
    assert origins == [*["served"] * 4, *["live"] * 8]  # what was edited was sent
    # What is recorded is what was sent.
    assert all(b"new and longer" in (call.request_body or b"") for call in again.calls[4:])


def test_an_edited_answer_is_given_without_asking_the_model(home: Home) -> None:
    root = home.record("ask:one,ask:two")
    target = root.calls[1]
    assert target.request_body is not None
    edits = Edits(
        "openai_chat",
        response=Answer(
            200,
            "OK",
            [("content-type", "application/json")],
            json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": "edited"}}]}).encode(),
        ),
    )
    done = home.rerun(
        "ask:one,ask:two", root, target=(root.metadata.record_id, target.snapshot.seq_num), edits=edits.to_plan()
    )
    assert done.result.code == 0, done.result.stderr
    assert done.result.lines[1] == "edited"
    assert [entry.kind for entry in done.journal if entry.kind != "touched"] == ["served", "edited"]


def test_a_child_that_cannot_be_served_does_not_run(home: Home) -> None:
    """A Python without msgspec would run unrecorded; in a rerun that would be for real."""
    root = home.record("ask:one")
    env = environment(home.store, MODEL_URL=f"http://127.0.0.1:{home.port}")
    lineage = json.loads(env["UNSPOOL_RUN"]) | {"rerun": str(home.folder)}
    env["UNSPOOL_RUN"] = json.dumps(lineage, separators=(",", ":"))
    code = "import sys; sys.modules['msgspec'] = None; import sitecustomize; print('ran')"
    result = run([sys.executable, "-S", "-c", code], env, cwd=home.folder)
    assert (result.code, result.stdout) == (3, b"")
    assert b"cannot load msgspec" in result.stderr
    assert b"a rerun must not run for real" in result.stderr
    assert root.calls
