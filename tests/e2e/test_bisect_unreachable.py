"""`unspool bisect` where the model cannot be asked, or not well: it does not judge what says nothing, and says why."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from capture_harness import Result, environment, run

from unspool.demo.script import Fault, ModelRequest, Refusal, Reply
from unspool.demo.server import ModelServer
from unspool.recording.manager import RecordManager

AGENT = """\
import os
import httpx2

url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
messages = []
for number in range(1, 5):
    messages.append({"role": "user", "content": f"question {number}"})
    answer = httpx2.post(url, json={"model": "gpt-5", "messages": messages})
    answer.raise_for_status()
    messages.append({"role": "assistant", "content": answer.json()["choices"][0]["message"]["content"]})
print("ended", "well" if "good" in messages[5]["content"] else "badly")
"""
CHECK = "grep -q well"


class Model:
    """Answers question 3 badly the first time; later as it is told to."""

    def __init__(self) -> None:
        self.fault: Fault | None = None
        self.fails_from = 1

    def __call__(self, request: ModelRequest) -> Reply:
        number = sum(message.role == "user" for message in request.messages)
        if self.fault is not None and number >= self.fails_from:
            return Reply(fault=self.fault)
        return Reply(text="good" if number == 3 and request.sample else f"answer {number}")


class Home:
    """A store with a recorded run that failed."""

    def __init__(self, folder: Path, url: str) -> None:
        self.store = folder / "store"
        more = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "NO_COLOR": "1", "COLUMNS": "200"}
        more["UNSPOOL_STORE"] = str(self.store)
        self.env = environment(None, OPENAI_BASE_URL=f"{url}/v1", **more)
        (folder / "agent.py").write_text(AGENT)
        done = self.unspool("run", "-q", "--", sys.executable, str(folder / "agent.py"))
        assert done.stdout == b"ended badly\n", done.stderr

    def unspool(self, *args: str) -> Result:
        return run([sys.executable, "-m", "unspool", *args], self.env, timeout=120)

    def bisect(self, *args: str) -> Result:
        return self.unspool("bisect", "1", "--check", CHECK, "--yes", *args)

    def forks(self) -> int:
        return sum(one.forked_at is not None for one in RecordManager(self.store / "records").list_records())


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def server(model: Model) -> Iterator[ModelServer]:
    with ModelServer(model) as one:
        yield one


@pytest.fixture
def home(tmp_path: Path, server: ModelServer) -> Home:
    return Home(tmp_path, server.url)


def test_a_model_that_is_gone_ends_the_search_without_a_verdict(home: Home, server: ModelServer) -> None:
    server.close()
    done = home.bisect("-n", "3")
    said = done.stderr.decode()
    assert done.code == 1
    assert "The cause is in the prompt" not in done.stdout.decode()
    assert "No fork could be judged, so nothing is known." in done.stdout.decode()
    assert "not judged" in done.stdout.decode()
    assert "0%" not in done.stdout.decode()
    assert f"stopped: the model cannot be reached ({server.url}: " in said
    assert "--base-url URL" in said
    assert home.forks() == 1
    assert "Traceback" not in said
    assert "The program's last line: httpx2.ConnectError" in said


def test_a_program_is_told_why_it_stopped(home: Home, server: ModelServer) -> None:
    server.close()
    document = json.loads(home.bisect("-n", "1", "--json").stdout)
    assert document["decisive"] is None
    assert document["settled"] is None
    assert document["stopped"].startswith(f"the model cannot be reached ({server.url}: ")
    assert [(probe["good"], probe["bad"], probe["skipped"]) for probe in document["probes"]] == [(0, 0, 1)]


def test_a_key_that_is_refused_is_no_verdict_either(home: Home, model: Model) -> None:
    model.fault = Refusal(status=401, message="no such key")
    done = home.bisect("-n", "2")
    assert done.code == 1
    assert "stopped: the model refuses to answer" in done.stderr.decode()
    assert "HTTP 401 no such key" in done.stderr.decode()
    assert home.forks() == 1


def test_a_model_that_fails_on_the_way_is_not_judged_and_the_search_goes_on(home: Home, model: Model) -> None:
    model.fault, model.fails_from = Refusal(status=503, message="overloaded"), 4
    done = home.bisect("-n", "1", "--calls", "2-3", "--json")
    document = json.loads(done.stdout)
    assert document["stopped"] is None
    assert {probe["call"]: probe["skipped"] for probe in document["probes"]} == {2: 1, 3: 1}
    assert "the model failed during the fork, which is not judged: HTTP 503" in done.stderr.decode()


def test_a_request_that_is_refused_for_what_it_says_is_judged(home: Home, model: Model) -> None:
    model.fault = Refusal(status=400, message="too long")
    document = json.loads(home.bisect("-n", "1", "--calls", "4", "--json").stdout)
    assert [(probe["bad"], probe["skipped"]) for probe in document["probes"]] == [(1, 0)]


def test_another_server_is_asked(home: Home, server: ModelServer) -> None:
    server.close()
    with ModelServer(Model()) as other:
        document = json.loads(home.bisect("-n", "2", "--json", "--base-url", f"{other.url}/v1").stdout)
        assert document["decisive"]["call"] == 3
        assert document["settled"]["call"] == 4
        assert other.requests


def test_the_forks_of_a_bisect_are_one_row(home: Home) -> None:
    first = json.loads(home.bisect("-n", "2", "--json").stdout)
    second = json.loads(home.bisect("-n", "1", "--json").stdout)
    counts = [sum(len(probe["records"]) for probe in one["probes"]) for one in (first, second)]
    assert min(counts) > 1
    lines = home.unspool("ls").stdout.decode().splitlines()[1:]
    assert len(lines) == 3
    assert f"bisect of 1 ({counts[1]} forks)" in lines[0]
    assert f"bisect of 1 ({counts[0]} forks)" in lines[1]
    assert "agent.py" in lines[2]
    assert lines[1].startswith("2-")
    assert home.unspool("ls", "--flat").stdout.decode().count("bisect call") == sum(counts)
    rows = json.loads(home.unspool("ls", "--json").stdout)
    assert len(rows) == sum(counts) + 1
    assert len({row["bisect"] for row in rows}) == 3
    # What the first fork stood for is still one row when that fork is removed.
    assert home.unspool("rm", "--yes", "2").code == 0
    left = home.unspool("ls").stdout.decode()
    rest = counts[0] - 1
    assert (f"bisect of 1 ({rest} forks)" if rest > 1 else "bisect call") in left
    assert len(left.splitlines()) == 4
