"""`unspool bisect` end to end: a run that failed at a known call, forked with fresh samples until it is found."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from capture_harness import Result, environment, run

import unspool
from unspool.demo import story
from unspool.demo.script import ModelRequest, Reply
from unspool.demo.server import ModelServer

AGENT = """\
import os
import httpx2  # an SDK would take longer to load than all the rest

url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
messages = []
for number in range(1, 6):
    messages.append({"role": "user", "content": f"question {number}"})
    answer = httpx2.post(url, json={"model": "gpt-5", "messages": messages}).json()
    messages.append({"role": "assistant", "content": answer["choices"][0]["message"]["content"]})
print("ended", "well" if "good" in messages[5]["content"] else "badly")
"""
DECISIVE = 3


def play(request: ModelRequest) -> Reply:
    """Question 3 is answered badly the first time it is put, and well on every second try after that."""
    number = sum(message.role == "user" for message in request.messages)
    return Reply(text="good" if number == DECISIVE and request.sample % 2 else f"answer {number}")


class Home:
    """A store with a recorded run that failed, and the model still there."""

    def __init__(self, folder: Path, url: str) -> None:
        self.store = folder / "store"
        self.env = environment(None, OPENAI_BASE_URL=f"{url}/v1", NO_COLOR="1", UNSPOOL_STORE=str(self.store))
        script = folder / "agent.py"
        script.write_text(AGENT)
        done = self.unspool("run", "-q", "--", sys.executable, str(script))
        assert done.stdout == b"ended badly\n", done.stderr

    def unspool(self, *args: str) -> Result:
        return run([sys.executable, "-m", "unspool", *args], self.env, timeout=120)

    def bisect(self, *args: str, check: str = "grep -q well") -> Result:
        return self.unspool("bisect", "last", "--check", check, *args)

    def json(self, *args: str) -> dict[str, Any]:
        done = self.bisect("--yes", "--json", *args)
        assert done.stdout, done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(play) as one:
        yield one


@pytest.fixture
def home(tmp_path: Path, server: ModelServer) -> Home:
    return Home(tmp_path, server.url)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A recorded run whose model is gone: for what must not ask it."""
    with ModelServer(play) as one:
        return Home(tmp_path_factory.mktemp("recorded"), one.url)


def test_the_call_that_decided_is_found(home: Home) -> None:
    verdict = home.json("-n", "2")
    assert verdict["decisive"]["call"] == DECISIVE
    assert verdict["settled"]["call"] == DECISIVE + 1
    assert verdict["is_exact"]
    assert verdict["decisive"]["label"] == f"answer {DECISIVE}"
    assert verdict["decisive"]["good"] > 0
    assert verdict["settled"]["good"] == 0
    for record in verdict["decisive"]["records"]:
        assert unspool.load(record, store=home.store).metadata.forked_at == verdict["decisive"]["seq_num"]


def test_more_samples_confirm_it(home: Home) -> None:
    few = home.json("-n", "2", "--calls", "3-4")
    more = home.json("-n", "2", "--calls", "3-4", "--confirm")
    assert few["decisive"]["good"] + few["decisive"]["bad"] == 2
    assert more["decisive"]["good"] + more["decisive"]["bad"] == 8
    assert more["decisive"]["low"] > few["decisive"]["low"]


def test_every_call_and_the_text(home: Home) -> None:
    done = home.bisect("--yes", "--all", "-n", "2")
    assert done.code == 0, done.stderr
    text = done.stdout.decode()
    for call in range(1, 6):
        assert f"call {call:>4}" in text
    assert f"The answer of call {DECISIVE} decided" in text
    said = done.stderr.decode()
    assert "5 model calls to search, 2 forks at each" in said
    assert "$" in said  # the cost, before it starts
    assert "unspool diff" in said


def test_a_limit_on_calls_stops_it_and_says_what_is_known(home: Home, server: ModelServer) -> None:
    before = len(server.requests)
    done = home.bisect("--yes", "-n", "2", "--max-calls", "3")
    assert "stopped: --max-calls is used up" in done.stderr.decode()
    assert len(server.requests) - before <= 3
    assert "was not tried" in done.stdout.decode()


def test_a_range_without_the_decision(home: Home) -> None:
    done = home.bisect("--yes", "-n", "1", "--calls", "4-5")
    assert done.code == 1
    assert "No fork came out right, not even from call 4" in done.stdout.decode()


@pytest.mark.parametrize(
    ("args", "check", "said"),
    [
        (["--yes"], "grep -q badly", "passes the check: there is no failure to find"),
        (["--yes"], "exit 125", "the check cannot tell about"),
        (["--yes"], "/no/such/judge", "the check could not be run (exit code 127)"),
        (["--yes", "--calls", "8-9"], "false", "no model call of the run is within 8-9: they are 1 to 5"),
        (["--yes", "--calls", "x"], "false", "is no range"),
        ([], "false", "add --yes"),
    ],
)
def test_nothing_is_started_when_there_is_nothing_to_find(
    recorded: Home, args: list[str], check: str, said: str
) -> None:
    done = recorded.bisect(*args, check=check)
    assert done.code == 2
    assert said in done.stderr.decode()
    assert len(list((recorded.store / "records").iterdir())) == 1


def test_outcomes_the_check_cannot_judge_are_counted_apart(home: Home) -> None:
    # Badly ended runs are refused for the original only; of forks it can never tell.
    done = home.bisect("--yes", "--json", "-n", "1", check='grep -q badly || exit 125; test "$UNSPOOL_RECORD" = 0')
    probes = json.loads(done.stdout)["probes"]
    assert sum(probe["skipped"] for probe in probes) > 0


def test_the_planted_bug_of_the_demo(tmp_path: Path) -> None:
    with ModelServer(story.play, pages=story.PAGES) as server:
        env = environment(None, OPENAI_BASE_URL=f"{server.url}/v1", UNSPOOL_STORE=str(tmp_path / "store"))

        def unspool(*args: str) -> Result:
            return run([sys.executable, "-m", "unspool", *args], env, timeout=240)

        unspool("run", "-q", "--", sys.executable, "-m", "unspool.demo.agent")
        check = 'grep -q "^ANSWER: refund 355.32 USD"'
        done = unspool(
            "bisect", "last", "--check", check, "--live-tools", "*", "--calls", "9-11", "--yes", "--json", "-n", "2"
        )
    verdict = json.loads(done.stdout)
    assert verdict["decisive"]["label"] == 'calculate({"expression": "(249.00 + 80.00) * 1.25"})'
    assert verdict["settled"]["call"] == verdict["decisive"]["call"] + 1
