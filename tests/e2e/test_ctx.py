"""`unspool ctx` on the demo shows its planted leak and proves it; limits of `unspool run` on a real program."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from capture_harness import Result, environment, run

from unspool.demo import story
from unspool.demo.script import ModelRequest, Reply
from unspool.demo.server import ModelServer

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


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A store with the demo's recording, and the URL of its model."""
    store = tmp_path_factory.mktemp("demo") / "store"
    with ModelServer(story.play, pages=story.PAGES) as server:
        done = run(
            [sys.executable, "-m", "unspool", "demo", "--no-tour", "--store", str(store)],
            environment(None),
            timeout=120,
        )
        assert done.code == 0, done.stderr.decode()
        yield store, server.url


def ctx(demo: tuple[Path, str], *options: str) -> Result:
    command = [sys.executable, "-m", "unspool", "ctx", "1", "--store", str(demo[0]), *options]
    return run(command, environment(None, COLUMNS="80"), timeout=90)


def test_the_planted_leak_is_shown(demo: tuple[Path, str]) -> None:
    done = ctx(demo)
    assert done.code == 0, done.stderr.decode()
    text = done.stdout.decode()
    assert re.search(r"#7 result of payment_log, .* tokens: mostly unused", text)
    assert "of 520 lines only line 352 is referred to, by `ch_9Qx4`" in text
    assert "truncate #7, the result of payment_log: 1 of its 520 lines was used" in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_planted_leak_is_proven(demo: tuple[Path, str]) -> None:
    done = ctx(demo, "--without", "payment_log", "--verify", "--base-url", f"{demo[1]}/v1", "--samples", "2", "--json")
    assert done.code == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    assert found["saved_tokens"] > 0.6 * found["input_tokens"]
    [check] = found["checks"]
    assert check["proven"] is True
    assert check["outcomes"] == ["same", "same"]


def test_a_block_that_is_needed_is_not_proven(demo: tuple[Path, str]) -> None:
    """What the investigator found looks unused, as the model repeats none of its words before it computes."""
    done = ctx(demo, "--without", "ask_investigator", "--verify", "--base-url", f"{demo[1]}/v1")
    assert done.code == 0, done.stderr.decode()
    text = done.stdout.decode()
    assert "NOT proven" in text
    assert "recorded: " in text
    assert "(249.00 + 80.00)" in text


def test_a_server_that_is_gone_is_said_for_each_block(demo: tuple[Path, str]) -> None:
    done = ctx(demo, "--leaked", "--verify", "--base-url", "http://127.0.0.1:9/v1", "--max-calls", "2")
    assert done.code == 0
    assert done.stdout.decode().count("not checked: cannot reach") == 2


def test_verify_without_a_key_says_which(demo: tuple[Path, str]) -> None:
    env = environment(None)
    del env["OPENAI_API_KEY"]
    command = [sys.executable, "-m", "unspool", "ctx", "1", "--store", str(demo[0]), "--leaked", "--verify"]
    done = run([*command, "--base-url", f"{demo[1]}/v1"], env, timeout=90)
    assert done.code == 2
    assert b"OPENAI_API_KEY" in done.stderr
    assert b"Traceback" not in done.stderr


# --- limits ----------------------------------------------------------------------------------------------------------


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
