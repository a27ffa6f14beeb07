"""Limits of `unspool run` on real programs: what crosses one is not sent; the model server counts what reaches it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from capture_harness import environment, run

from unspool.demo.script import ModelRequest, Reply
from unspool.demo.server import ModelServer
from unspool.events import RecordEventType
from unspool.recording.manager import RecordManager
from unspool.recording.reader import RecordReader

AGENT = """
import json, os, sys, urllib.request
import unspool

url, turns = sys.argv[1], int(sys.argv[2])
if len(sys.argv) > 3:
    unspool.on_alert(lambda alert: print(alert.level, alert.budget, flush=True))
messages = [{"role": "user", "content": "hello " * 50}]
import httpx
with httpx.Client(trust_env=False, headers={"authorization": "Bearer sk-0"}) as client:
    for turn in range(turns):
        body = {"model": "gpt-4.1-mini", "messages": messages}
        answer = client.post(url + "/v1/chat/completions", json=body).json()
        messages.append(answer["choices"][0]["message"])
        messages.append({"role": "user", "content": "more words " * 200})
        if turns > 100:
            sys.stdin.readline()  # goes on when it is told to
print("finished", flush=True)
"""


CONCURRENT = """
import asyncio, sys, httpx

async def one(client, number):
    body = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": f"question {number}"}]}
    answer = await client.post(sys.argv[1] + "/v1/chat/completions", json=body)
    print("answered", flush=True)

async def main():
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        await asyncio.gather(*(one(client, number) for number in range(12)))

asyncio.run(main())
"""

THREADS = """
import sys, threading, urllib3

pool = urllib3.PoolManager(maxsize=12)

def one(number):
    body = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": f"question {number}"}]}
    pool.request("POST", sys.argv[1] + "/v1/chat/completions", json=body, retries=False)

threads = [threading.Thread(target=one, args=(number,)) for number in range(12)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""

PROCESSES = """
import subprocess, sys
children = [subprocess.Popen([sys.executable, sys.argv[2], sys.argv[1], "4"]) for _ in range(3)]
for child in children:
    child.wait()
"""

GRACEFUL = """
import asyncio, signal, sys, httpx

async def main():
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)

    async def work():
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            for number in range(100):
                body = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": f"question {number}"}]}
                await client.post(sys.argv[1] + "/v1/chat/completions", json=body)

    task = asyncio.create_task(work())
    await ended.wait()
    task.cancel()
    print("put away", flush=True)

asyncio.run(main())
sys.exit(7)
"""


@pytest.fixture(scope="module")
def talker() -> Iterator[str]:
    def answer(_request: ModelRequest) -> Reply:
        return Reply(text="ok, going on")

    with ModelServer(answer) as server:
        yield server.url


def limited(tmp_path: Path, talker: str, *options: str, turns: int, more: tuple[str, ...] = ()) -> list[str]:
    script = tmp_path / "agent.py"
    script.write_text(AGENT)
    command = [sys.executable, "-m", "unspool", "run", "--store", str(tmp_path / "store"), *options, "--"]
    return [*command, sys.executable, str(script), talker, str(turns), *more]


@contextlib.contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A run whose input and output are ours; nothing of it is left behind, stopped processes included."""
    with subprocess.Popen(
        command,
        env=environment(None),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def state_of(os_pid: int) -> str:
    return Path(f"/proc/{os_pid}/stat").read_text().rpartition(")")[2].split()[0]


def until(process: subprocess.Popen[str], word: str) -> str:
    """Let the agent go on turn by turn until standard error says something."""
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write("\n" * 400)
    process.stdin.flush()
    for line in process.stderr:
        if word in line:
            return line
    raise AssertionError(f"it ended without saying {word!r}")


def test_a_run_is_warned_of_and_not_disturbed(tmp_path: Path, talker: str) -> None:
    done = run(limited(tmp_path, talker, "--budget", "3k", turns=7), environment(None))
    assert done.code == 0
    assert done.stdout == b"finished\n"
    assert b"of 3,000 tokens" in done.stderr


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--budget", "3k", "--on-critical", "stop"), "its context is nearly full"),
        (("--max-steps", "3"), "--max-steps is 3"),
        (("--max-cost", "0.0005"), "--max-cost is $0.0005"),
        (("--max-time", "1s"), "--max-time is 1s"),
    ],
)
def test_a_limit_ends_the_run(tmp_path: Path, talker: str, options: tuple[str, ...], why: str) -> None:
    command = limited(tmp_path, talker, *options, turns=1_000_000)
    with started(command) as process:
        assert why in until(process, "ending the command")
        _, rest = process.communicate(timeout=60)
        assert process.returncode == 128 + signal.SIGTERM
        assert "unspool: recorded 1-" in rest


def test_a_run_is_paused_and_goes_on(tmp_path: Path, talker: str) -> None:
    command = limited(tmp_path, talker, "--budget", "3k", "--on-critical", "pause", turns=300)
    with started(command) as process:
        line = until(process, "go on:")
        agents = [int(number) for number in re.findall(r"\d+", line)]
        deadline = time.monotonic() + 30
        while state_of(agents[0]) != "T":  # the signal is sent, and takes effect when the process is scheduled
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGTERM)  # goes on to the command, which sees it when it runs again
        for agent in agents:
            os.kill(agent, signal.SIGCONT)
        process.communicate(timeout=60)
        assert process.returncode == 128 + signal.SIGTERM


def test_a_program_is_told_with_the_budget_of_its_run(tmp_path: Path, talker: str) -> None:
    command = limited(tmp_path, talker, "--quiet", "--budget", "3k", turns=7, more=("told",))
    done = run(command, environment(None))
    assert done.code == 0, done.stderr.decode()
    assert done.stdout.decode().splitlines()[-2:] == ["critical 3000", "finished"]


# --- before it is sent -----------------------------------------------------------------------------------------------


@pytest.fixture
def model() -> Iterator[ModelServer]:
    """A server of the test's own, which counts."""

    def answer(_request: ModelRequest) -> Reply:
        return Reply(text="ok, going on")

    with ModelServer(answer) as server:
        yield server


def script(tmp_path: Path, model: ModelServer, text: str, *options: str, more: tuple[str, ...] = ()) -> list[str]:
    path = tmp_path / "program.py"
    path.write_text(text)
    command = [sys.executable, "-m", "unspool", "run", "--store", str(tmp_path / "store"), *options, "--"]
    return [*command, sys.executable, str(path), model.url, *more]


def test_exactly_so_many_steps_are_sent(tmp_path: Path, model: ModelServer) -> None:
    done = run(script(tmp_path, model, AGENT, "--max-steps", "3", more=("10",)), environment(None))
    assert done.code == 128 + signal.SIGTERM
    assert b"call 4 of PID 1 is not sent: it would be step 4, --max-steps is 3" in done.stderr
    assert len(model.requests) == 3
    [metadata] = RecordManager(tmp_path / "store" / "records").list_records()
    with RecordReader(tmp_path / "store" / "records" / metadata.record_id) as reader:
        kinds = [event.type for event in reader.events()]
        assert kinds.count(RecordEventType.CONTEXT_SNAPSHOT) == 4  # what it was about to send can be looked at
        assert kinds.count(RecordEventType.LLM_RESPONSE) == 3
        [waiting] = [event.state for event in reader.events() if event.state and event.state.to_state == "waiting"]
        assert waiting.reason == "call 4 is not sent: a limit of this run is reached"


def test_a_run_that_needs_no_more_steps_ends_by_itself(tmp_path: Path, model: ModelServer) -> None:
    done = run(script(tmp_path, model, AGENT, "--max-steps", "3", "--max-cost", "1", more=("3",)), environment(None))
    assert done.code == 0, done.stderr.decode()
    assert done.stdout == b"finished\n"
    assert len(model.requests) == 3


@pytest.mark.parametrize("text", [CONCURRENT, THREADS])
def test_of_concurrent_calls_exactly_so_many_are_sent_and_answered(
    tmp_path: Path, model: ModelServer, text: str
) -> None:
    done = run(script(tmp_path, model, text, "--max-steps", "5"), environment(None))
    assert done.code == 128 + signal.SIGTERM, done.stderr.decode()
    assert len(model.requests) == 5
    [metadata] = RecordManager(tmp_path / "store" / "records").list_records()
    with RecordReader(tmp_path / "store" / "records" / metadata.record_id) as reader:
        answered = [event for event in reader.bare_events() if event.llm is not None]
        assert len(answered) == 5  # they were paid for, so the end waits for them


def test_the_processes_of_a_run_share_the_steps(tmp_path: Path, model: ModelServer) -> None:
    agent = tmp_path / "agent.py"
    agent.write_text(AGENT)
    done = run(script(tmp_path, model, PROCESSES, "--max-steps", "7", more=(str(agent),)), environment(None))
    assert done.code == 128 + signal.SIGTERM, done.stderr.decode()
    assert len(model.requests) == 7


def test_nothing_is_sent_after_the_cost_is_reached(tmp_path: Path, model: ModelServer) -> None:
    done = run(script(tmp_path, model, AGENT, "--max-cost", "0.0004", more=("50",)), environment(None))
    assert done.code == 128 + signal.SIGTERM
    assert b"--max-cost is $0.0004" in done.stderr
    costs = []
    [metadata] = RecordManager(tmp_path / "store" / "records").list_records()
    with RecordReader(tmp_path / "store" / "records" / metadata.record_id) as reader:
        for event in reader.bare_events():
            if event.llm is not None:
                assert event.llm.request_tokens is not None
                assert event.llm.response_tokens is not None
                costs.append(event.llm.request_tokens * 0.4e-6 + event.llm.response_tokens * 1.6e-6)
    assert len(model.requests) == len(costs)
    assert sum(costs[:-1]) < 0.0004 <= sum(costs)


def test_a_context_that_would_be_nearly_full_is_not_sent(tmp_path: Path, model: ModelServer) -> None:
    done = run(
        script(tmp_path, model, AGENT, "--budget", "3k", "--on-critical", "stop", more=("50",)), environment(None)
    )
    assert done.code == 128 + signal.SIGTERM
    assert re.search(rb"is not sent: its context is nearly full: about 9\d% of 3,000 tokens", done.stderr)
    [metadata] = RecordManager(tmp_path / "store" / "records").list_records()
    with RecordReader(tmp_path / "store" / "records" / metadata.record_id) as reader:
        counted = [event.llm.request_tokens for event in reader.bare_events() if event.llm is not None]
    assert len(model.requests) == len(counted)
    assert max(tokens for tokens in counted if tokens is not None) <= 2700


def test_the_first_context_of_a_conversation_may_be_too_large(tmp_path: Path, model: ModelServer) -> None:
    words = ("--budget", "50", "--on-critical", "stop")
    done = run(script(tmp_path, model, AGENT, *words, more=("50",)), environment(None))
    assert done.code == 128 + signal.SIGTERM
    assert b"call 1 of PID 1 is not sent" in done.stderr
    assert model.requests == []


def test_a_pause_holds_the_request_until_it_goes_on(tmp_path: Path, model: ModelServer) -> None:
    words = ("--budget", "3k", "--on-critical", "pause")
    with started(script(tmp_path, model, AGENT, *words, more=("8",))) as process:
        line = until(process, "go on:")
        agents = [int(number) for number in re.findall(r"\d+", line)]
        assert state_of(agents[0]) == "T"  # it stands still before we are told
        sent = len(model.requests)
        assert 0 < sent < 8
        for agent in agents:
            os.kill(agent, signal.SIGCONT)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert out == "finished\n"
        assert len(model.requests) == 8


def test_a_program_can_end_as_it_wants(tmp_path: Path, model: ModelServer) -> None:
    """An event loop goes on while a request is held, so that its handlers of signals run."""
    done = run(script(tmp_path, model, GRACEFUL, "--max-steps", "2"), environment(None))
    assert done.stdout == b"put away\n"
    assert done.code == 7
    assert len(model.requests) == 2


def test_the_agent_goes_on_when_the_supervisor_is_gone(tmp_path: Path, model: ModelServer) -> None:
    path = tmp_path / "turns.py"
    path.write_text(AGENT)
    command = [sys.executable, "-m", "unspool", "run", "--store", str(tmp_path / "store"), "--max-steps", "500"]
    with started([*command, "--", sys.executable, str(path), model.url, "120"]) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        deadline = time.monotonic() + 30
        while not model.requests:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.stdin.write("\n" * 200)
        process.stdin.flush()
        assert process.stdout.read() == "finished\n"  # the program has the same standard output
        assert len(model.requests) == 120


# --- programs that subscribe -----------------------------------------------------------------------------------------

SUBSCRIBED = """
import asyncio, sys, threading, httpx, unspool

told = []

def tell(alert):
    told.append((alert.level, threading.current_thread().name))
    if len(told) == 1:  # a subscriber may call a model, and may fail
        body = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "shorten this"}]}
        httpx.post(sys.argv[1] + "/v1/chat/completions", json=body, trust_env=False)
    raise RuntimeError("no pager")

unspool.on_alert(tell)

async def talk(client, name):
    messages = []
    for turn in range(6):
        messages.append({"role": "user", "content": f"{name} {turn} " + "more words " * 200})
        body = {"model": "gpt-4.1-mini", "messages": messages}
        answer = (await client.post(sys.argv[1] + "/v1/chat/completions", json=body)).json()
        messages.append(answer["choices"][0]["message"])

async def main(thread):
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        await asyncio.gather(*(talk(client, thread + name) for name in "abc"))

asyncio.run(main("first"))
threads = [threading.Thread(target=lambda name=name: asyncio.run(main(name)), name=name) for name in ("one", "two")]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(sorted({level for level, _ in told}), len(told), flush=True)
"""


def test_subscribers_of_tasks_and_threads_are_told_and_harm_nobody(tmp_path: Path, model: ModelServer) -> None:
    done = run(script(tmp_path, model, SUBSCRIBED, "--quiet", "--budget", "2k"), environment(None), timeout=90)
    assert done.code == 0, done.stderr.decode()
    # Nine conversations, each of which reaches both levels.
    assert done.stdout.decode().splitlines()[-1] == "['critical', 'warning'] 18"
    assert done.stderr.count(b"a callback of on_alert raised RuntimeError: no pager") == 1
    assert len(model.requests) == 9 * 6 + 1
    [metadata] = RecordManager(tmp_path / "store" / "records").list_records()
    with RecordReader(tmp_path / "store" / "records" / metadata.record_id) as reader:
        assert sum(event.llm is not None for event in reader.bare_events()) == 9 * 6 + 1
        assert metadata.lost_events == 0
