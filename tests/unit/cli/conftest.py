"""A store of its own for each test, recordings made by hand, and one made by a real agent against the model server."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec import structs

from unspool.cli.main import cli
from unspool.demo.server import ModelServer
from unspool.events import RecordEvent
from unspool.recording.recorder import Recorder
from unspool.store import Store

# Makes `made_events` importable under pytest's importlib mode.
if "cli_events" not in sys.modules:
    spec = importlib.util.spec_from_file_location("cli_events", Path(__file__).with_name("made_events.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["cli_events"] = module
    spec.loader.exec_module(module)

SOURCE = Path(__file__).resolve().parents[3] / "src"

AGENT = """
import json, sys, urllib.error
import httpx
import unspool

@unspool.tool
def search(query):
    return ["found " + query]

@unspool.tool
def broken(query):
    raise ValueError("no index for " + query)

url = sys.argv[1]
with httpx.Client(headers={"authorization": "Bearer sk-secret"}, trust_env=False) as client:
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello \\u2603"}]
    for turn in range(3):
        body = {"model": "gpt-4.1-mini", "messages": messages}
        answer = client.post(url + "/v1/chat/completions", json=body).json()
        messages.append(answer["choices"][0]["message"])
        messages.append({"role": "user", "content": search(f"turn {turn}")[0]})
    try:
        broken("x")
    except ValueError:
        pass
    client.get(url + "/v1/models")
with unspool.spawn("helper", intent="help out"):
    search("inner")
print("agent done")
"""


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch, tmp_path):
    for name in ("UNSPOOL_STORE", "UNSPOOL_RUN", "NO_COLOR", "COLUMNS", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))  # for `python -m unspool` in other folders
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def store(tmp_path, monkeypatch) -> Store:
    """An empty store that commands find by themselves."""
    place = Store(tmp_path / "store")
    monkeypatch.setenv("UNSPOOL_STORE", str(place.path))
    return place.ensure()


@pytest.fixture
def invoke():
    """Runs a command line in this process: `invoke("ls", "--json")`."""

    def run(*args: str, input: str | None = None):
        return CliRunner().invoke(cli, list(args), input=input)

    return run


@pytest.fixture
def as_json(invoke):
    """Runs a command line that must succeed and print one JSON document."""

    def run(*args: str):
        result = invoke(*args, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return run


@pytest.fixture
def make(store):
    """Makes a recording by hand; gives its recorder, closed unless `running`."""
    recorders = []

    def recording(*events: RecordEvent, intent: str = "test", running: bool = False, **fields) -> Recorder:
        recorder = Recorder(store.records, store.next_pid(), intent, fields=fields)
        recorders.append(recorder)
        for event in events:
            recorder.write_event(structs.replace(event, pid=recorder.pid))
        if not running:
            recorder.close()
        return recorder

    yield recording
    for recorder in recorders:
        recorder.close()


def environment(**more: str) -> dict[str, str]:
    """For a subprocess that is `unspool`, or runs it."""
    return {**os.environ, "PYTHONPATH": str(SOURCE), **more}


@pytest.fixture
def unspool(store):
    """Runs `python -m unspool` as a process of its own."""

    def run(*args: str, input: str = "", **options) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "unspool", *args],
            input=input,
            capture_output=True,
            text=True,
            env=environment(**options.pop("env", {})),
            timeout=60,
            **options,
        )

    return run


@pytest.fixture(scope="session")
def _agent_store(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("agent")
    script = folder / "agent.py"
    script.write_text(AGENT)
    with ModelServer() as server:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "unspool", "run", "--name", "demo", "--store", str(folder / "store")),
                *("--", sys.executable, str(script), server.url),
            ],
            capture_output=True,
            text=True,
            env={name: value for name, value in environment().items() if name not in ("UNSPOOL_STORE", "UNSPOOL_RUN")},
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "agent done\n"
    return folder / "store"


@pytest.fixture
def agent_run(store, _agent_store) -> Store:
    """The store with the recording of an agent: PID 1, three model calls, tools, an HTTP request, sub-agent PID 2."""
    shutil.copytree(_agent_store, store.path, dirs_exist_ok=True)
    return store
