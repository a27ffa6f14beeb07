"""The pytest plugin in pytest runs of their own: record against a server, replay with the server stopped."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest
from capture_harness import SOURCES, environment, run

from unspool.demo.server import ModelServer

CONFTEST = """
import os, socket
import pytest

@pytest.fixture
def anyio_backend():
    return "asyncio"

if os.environ.get("NO_NETWORK"):
    def refused(self, address, *rest):
        if self.family != socket.AF_UNIX:
            with open(os.environ["NO_NETWORK"], "a") as file:
                file.write(f"{address}\\n")
            raise OSError(f"connect to {address}")
    socket.socket.connect = socket.socket.connect_ex = refused
"""

TESTS = '''
import asyncio, os, subprocess, sys, threading
import httpx, openai, anthropic, pytest, requests, aiohttp
import unspool

URL, PROMPT = os.environ["MODEL_URL"], os.environ.get("PROMPT", "be brief")

def body(text, model="echo", **more):
    messages = [{"role": "system", "content": PROMPT}, {"role": "user", "content": text}]
    return {"model": model, "messages": messages, **more}

def client(**more):
    return openai.OpenAI(base_url=URL + "/v1", max_retries=2, **more)

def ask(text, **more):
    return client().chat.completions.create(**body(text, **more)).choices[0].message.content

@unspool.tool
def look(at):
    return f"looked at {at}"

@pytest.mark.unspool
def test_one_call():
    assert "hello" in ask("hello")

@pytest.mark.unspool
def test_a_growing_conversation():
    messages = [{"role": "system", "content": PROMPT + "\\n\\nand so on"}, {"role": "user", "content": "begin"}]
    for turn in range(4):
        answer = client().chat.completions.create(model="echo", messages=messages)
        messages += [answer.choices[0].message.model_dump(exclude_none=True), {"role": "user", "content": look(turn)}]
    assert "looked at 2" in answer.choices[0].message.content

@pytest.mark.unspool
def test_streams():
    chunks = list(client().chat.completions.create(**body("in pieces", model="echo+chunks5", stream=True)))
    assert len(chunks) > 5
    with anthropic.Anthropic(base_url=URL).messages.stream(
        model="echo", max_tokens=50, messages=[{"role": "user", "content": "more pieces"}]
    ) as stream:
        assert "more pieces" in stream.get_final_text()

@pytest.mark.unspool
@pytest.mark.anyio
async def test_async_and_concurrent():
    async with openai.AsyncOpenAI(base_url=URL + "/v1") as sdk:
        async def one(number):
            answer = await sdk.chat.completions.create(**body(f"number {number}"))
            return answer.choices[0].message.content
        answers = await asyncio.gather(*map(one, range(5)))
    assert [f"number {number}" in answer for number, answer in enumerate(answers)] == [True] * 5
    async with aiohttp.ClientSession() as session:
        async with session.post(URL + "/v1/chat/completions", json=body("aiohttp")) as answer:
            assert "aiohttp" in (await answer.text())

@pytest.mark.unspool
def test_threads():
    answers = {}
    threads = [threading.Thread(target=lambda n=n: answers.update({n: ask(f"thread {n}")})) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(f"thread {n}" in answers[n] for n in range(4))

@pytest.mark.unspool
def test_errors_and_their_retries():
    assert "at last" in ask("at last", model="echo+429x1")
    with pytest.raises(openai.InternalServerError):
        client().with_options(max_retries=0).chat.completions.create(**body("never", model="echo+500"))

@pytest.fixture
def warm():
    ask("before the test")
    yield
    ask("after the test")

@pytest.mark.unspool
def test_fixtures_that_ask(warm):
    assert requests.post(URL + "/v1/chat/completions", json=body("requests")).ok

class TestClass:
    @pytest.mark.parametrize("topic", ["a/b", "a b"])
    def test_the_fixture(self, replay, topic):
        ask(topic)
        assert replay.mode == os.environ["MODE"]
        with replay.recording() as recording:
            calls = [event for event in recording.events() if event.llm is not None]
        assert [topic in call.llm.text for call in calls] == [True]

@pytest.mark.unspool
def test_what_is_no_model_call_to_this_machine_is_left_alone():
    async def app(scope, receive, send):
        answer = ask("from inside the application")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": answer.encode()})

    async def get():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app)) as web:
            return (await web.get("http://testserver/page")).text

    assert "from inside" in asyncio.run(get())

CHILD = """
import os, openai
sdk = openai.OpenAI(base_url=os.environ["MODEL_URL"] + "/v1", max_retries=0)
messages = [{"role": "user", "content": "from a child process"}]
print(sdk.chat.completions.create(model="echo", messages=messages).choices[0].message.content)
"""

@pytest.mark.unspool
def test_sub_agents_and_child_processes():
    with unspool.spawn("helper", intent="help"):
        assert "inner" in ask("inner")
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True)
    assert "from a child process" in done.stdout, done.stderr

@pytest.mark.unspool
def test_other_requests():
    def rates(request):
        assert os.environ["MODE"] == "record"
        return httpx.Response(200, json={"rate": 1.25}, headers={"set-cookie": "session=hidden-cookie"})

    with httpx.Client(transport=httpx.MockTransport(rates), headers={"authorization": "Bearer hidden-token"}) as web:
        assert web.get("https://rates.example/eur?api_key=hidden-key&day=1").json() == {"rate": 1.25}

def test_without_the_marker():
    assert True
'''


class Report(NamedTuple):
    """A run of pytest: outcome by test (`passed`, `failed`, `error`), and all it said."""

    outcomes: dict[str, str]
    text: str
    code: int


def run_pytest(folder: Path, *args: str, under: tuple[str, ...] = (), **env: str) -> Report:
    plugins = ["-p", "unspool.pytest_plugin", "-p", "anyio"]
    if "-n2" in args:
        plugins += ["-p", "xdist"]
    outer = [sys.executable, "-m", "unspool", *under] if under else []
    result = folder / "outcomes.xml"
    result.unlink(missing_ok=True)
    done = run(
        [*outer, sys.executable, "-m", "pytest", *plugins, "-p", "no:cacheprovider", f"--junit-xml={result}", *args],
        environment(None, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", PYTHONPATH=str(SOURCES), **env),
        cwd=folder,
        timeout=120,
    )
    outcomes = {}
    for name, rest in re.findall(
        r'<testcase [^>]*? name="([^"]+)"[^>]*?(/>|>.*?</testcase>)', result.read_text(), re.S
    ):
        said = "error" if "<error" in rest else "failed" if "<failure" in rest else "passed"
        outcomes[name] = said if outcomes.get(name, "passed") == "passed" else outcomes[name]
    return Report(outcomes, done.stdout.decode() + done.stderr.decode(), done.code)


def make(folder: Path, tests: str = TESTS) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\nfilterwarnings = error\n")
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_agent.py").write_text(tests)
    return folder


def record(folder: Path, *args: str, **env: str) -> Report:
    with ModelServer() as server:
        return run_pytest(folder, "--unspool=record", *args, MODEL_URL=server.url, MODE="record", **env)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    """A folder of tests that were recorded; the server is gone."""
    folder = make(tmp_path_factory.mktemp("plugin"))
    report = record(folder)
    assert set(report.outcomes.values()) == {"passed"}, report.text
    return folder


def replay(folder: Path, *args: str, under: tuple[str, ...] = (), **env: str) -> Report:
    connections = folder / "connections"
    connections.unlink(missing_ok=True)
    env = {"MODEL_URL": "http://127.0.0.1:9", "MODE": "replay", "NO_NETWORK": str(connections), **env}
    report = run_pytest(folder, *args, under=under, **env)
    assert not connections.exists(), connections.read_text()
    return report


def cassettes(folder: Path) -> dict[str, Path]:
    found = sorted((folder / "cassettes" / "test_agent").iterdir())
    return {path.name.removesuffix(".unspool.json"): path for path in found}


def test_what_was_recorded_is_served_without_network(recorded):
    report = replay(recorded)
    assert set(report.outcomes.values()) == {"passed"}, report.text
    assert len(report.outcomes) == 13


def test_each_test_has_one_small_readable_file(recorded):
    files = cassettes(recorded)
    assert "test_one_call" in files
    assert "test_without_the_marker" not in files
    assert len([name for name in files if name.startswith("TestClass.test_the_fixture")]) == 2
    one = files["test_one_call"].read_text()
    assert '{"role": "user", "content": "hello"}' in one
    assert re.search(r"sk-0|authorization|x-api-key|user-agent|x-request-id|date", one, re.I) is None
    everything = "".join(path.read_text() for path in files.values())
    assert "rates.example/eur?api_key=REDACTED&day=1" in everything
    assert "hidden" not in everything
    growing = json.loads(files["test_a_growing_conversation"].read_text())
    assert [exchange["request"].get("same") for exchange in growing["exchanges"]] == [
        None,
        {"messages": [1, 2]},
        {"messages": [2, 4]},
        {"messages": [3, 6]},
    ]
    first = growing["exchanges"][0]["request"]["body"]["json"]["messages"][0]
    assert first["content"] == {"$lines": ["be brief", "", "and so on"]}
    fixtures = json.loads(files["test_fixtures_that_ask"].read_text())["exchanges"]
    assert [exchange.get("after_test", False) for exchange in fixtures] == [False, False, True]
    inside = json.loads(files["test_what_is_no_model_call_to_this_machine_is_left_alone"].read_text())["exchanges"]
    assert [exchange["request"]["url"].rpartition("/")[2] for exchange in inside] == ["completions"]


def test_recorded_again_the_files_are_the_same(tmp_path):
    folder = make(tmp_path)
    with ModelServer() as server:
        env = {"MODEL_URL": server.url, "MODE": "record"}
        for name in ("first", "second"):
            report = run_pytest(folder, "--unspool=record", "-k", "not retries", **env)
            assert set(report.outcomes.values()) == {"passed"}, report.text
            (folder / "cassettes").rename(folder / name)
    texts = [{path.name: path.read_text() for path in (folder / name).rglob("*.json")} for name in ("first", "second")]
    assert texts[0] == texts[1]


def test_with_xdist(recorded):
    report = replay(recorded, "-n2", "-k", "not retries")
    assert set(report.outcomes.values()) == {"passed"}, report.text


def test_a_changed_prompt_fails_every_test_with_what_differs(recorded):
    report = replay(recorded, "-k", "one_call or threads or concurrent or streams", PROMPT="be thorough")
    assert set(report.outcomes.values()) == {"failed"}, report.text
    assert "be [-brief-]{+thorough+}" in report.text
    assert "expected  test_one_call.unspool.json@call:1" in report.text
    assert 'pytest --unspool=record "test_agent.py::test_one_call"' in report.text


SWALLOWED = """
import os
import openai, pytest

@pytest.mark.unspool
def test_an_agent_that_swallows_everything():
    try:
        sdk = openai.OpenAI(base_url=os.environ["MODEL_URL"] + "/v1")
        messages = [{"role": "user", "content": os.environ.get("PROMPT", "hello")}]
        sdk.chat.completions.create(model="echo", messages=messages)
    except BaseException:
        pass

def ask(*texts):
    sdk = openai.OpenAI(base_url=os.environ["MODEL_URL"] + "/v1")
    for text in texts:
        sdk.chat.completions.create(model="echo", messages=[{"role": "user", "content": text}])

@pytest.mark.unspool
def test_one_call_less():
    ask(*os.environ.get("TEXTS", "one two three").split())

@pytest.mark.unspool(unused="ignore")
def test_one_call_less_is_fine():
    ask(*os.environ.get("TEXTS", "one two three").split())

@pytest.mark.unspool
def test_that_fails():
    ask("hello")
    assert not os.environ.get("PROMPT")
"""


def test_swallowed_exceptions_and_calls_that_were_not_made(tmp_path):
    folder = make(tmp_path, SWALLOWED)
    missing = replay(folder)
    assert set(missing.outcomes.values()) == {"error"}
    assert "has no cassette" in missing.text
    assert record(folder).outcomes == dict.fromkeys(missing.outcomes, "passed")
    assert replay(folder).outcomes == dict.fromkeys(missing.outcomes, "passed")
    changed = replay(folder, PROMPT="good bye", TEXTS="one two")
    assert changed.outcomes == {
        "test_an_agent_that_swallows_everything": "failed",
        "test_one_call_less": "failed",
        "test_one_call_less_is_fine": "passed",
        "test_that_fails": "failed",
    }
    assert "good bye" in changed.text
    assert "did not make 1 exchange that test_one_call_less.unspool.json holds" in changed.text
    assert "[user] three" in changed.text
    more = replay(folder, "-k", "fine", TEXTS="one two three four")
    assert more.outcomes == {"test_one_call_less_is_fine": "failed"}
    before = {name: path.read_bytes() for name, path in cassettes(folder).items()}
    again = record(folder, PROMPT="good bye", TEXTS="one")
    assert again.outcomes["test_that_fails"] == "failed"
    after = {name: path.read_bytes() for name, path in cassettes(folder).items()}
    assert after["test_that_fails"] == before["test_that_fails"], "a test that failed has no new cassette"
    assert after["test_one_call_less"] != before["test_one_call_less"]


def test_live_and_off_write_nothing(tmp_path):
    folder = make(tmp_path)
    with ModelServer() as server:
        live = run_pytest(folder, "--unspool=live", "-k", "one_call or fixture", MODEL_URL=server.url, MODE="live")
        assert set(live.outcomes.values()) == {"passed"}, live.text
        off = run_pytest(folder, "--unspool=off", "-k", "one_call", MODEL_URL=server.url)
        assert set(off.outcomes.values()) == {"passed"}, off.text
    assert not (folder / "cassettes").exists()


def test_damaged_cassettes_and_wrong_markers_are_said(tmp_path):
    folder = make(tmp_path, "import pytest\n@pytest.mark.unspool\ndef test_it(): pass\n"
                            "@pytest.mark.unspool(unusd=1)\ndef test_typo(): pass\n")  # fmt: skip
    path = folder / "cassettes" / "test_agent" / "test_it.unspool.json"
    path.parent.mkdir(parents=True)
    for content, said in (
        ("{", "it is no JSON"),
        ("[]", "it is no cassette of unspool"),
        ('{"unspool_cassette": 99}', "version 99"),
        ('{"unspool_cassette": 1, "test": "x", "exchanges": [{}]}', "request"),
    ):
        path.write_text(content)
        report = replay(folder, "-k", "test_it")
        assert said in report.text
        assert "INTERNALERROR" not in report.text
    assert "@pytest.mark.unspool takes: unspool(unused=" in replay(folder, "-k", "typo").text


def test_the_settings_move_the_cassettes(tmp_path):
    folder = make(tmp_path)
    (folder / "pytest.ini").write_text("[pytest]\nunspool_dir = tapes\n")
    assert record(folder, "-k", "one_call").outcomes == {"test_one_call": "passed"}
    assert [path.name for path in (folder / "tapes" / "test_agent").iterdir()] == ["test_one_call.unspool.json"]


def test_a_fixture_of_the_same_name_that_a_project_has_is_left_alone(tmp_path):
    tests = "import pytest\n@pytest.fixture\ndef replay(): return 7\ndef test_it(replay): assert replay == 7\n"
    assert replay(make(tmp_path, tests)).outcomes == {"test_it": "passed"}


def test_under_unspool_run_the_cassette_is_served_all_the_same(recorded):
    store = recorded / "outer"
    report = replay(
        recorded, "-k", "one_call or threads or async", under=("run", "--quiet", "--store", str(store), "--")
    )
    assert set(report.outcomes.values()) == {"passed"}, report.text
    [outer] = (store / "records").iterdir()
    assert b'"llm_response"' not in (outer / "events.jsonl").read_bytes()


def test_pytest_finds_the_plugin_by_itself():
    project = tomllib.loads((SOURCES.parent / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"unspool": "unspool.pytest_plugin"}
