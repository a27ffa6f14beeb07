"""A real Arize Phoenix server takes what unspool sends and exports, and has the same tree, tokens and status.

Run by `make test-interop`, which installs Phoenix into an environment of its own and says where in `PHOENIX`.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from unspool.demo.server import ModelServer
from unspool.interop.outgoing import contents_of, otlp_groups
from unspool.interop.sender import Endpoint, Sender
from unspool.recording.reader import RecordReader
from unspool.store import Store
from unspool.trace.from_recording import recorded_trace
from unspool.trace.spans import SpanStatus

SOURCE = Path(__file__).resolve().parents[2] / "src"
PHOENIX = os.environ.get("PHOENIX") or shutil.which("phoenix")

pytestmark = [
    pytest.mark.interop,
    pytest.mark.timeout(400),
    pytest.mark.skipif(PHOENIX is None, reason="Phoenix is not installed; run: make test-interop"),
]

AGENT = """
import sys
import unspool
from openai import OpenAI

@unspool.tool
def search(query):
    return "found " + query

@unspool.tool
def broken(query):
    raise ValueError("no index for " + query)

client = OpenAI(base_url=sys.argv[1] + "/v1", api_key="sk-0")
messages = [{"role": "user", "content": "hi"}]
for turn in range(2):
    answer = client.chat.completions.create(model="gpt-4.1-mini", messages=messages)
    messages.append({"role": "assistant", "content": answer.choices[0].message.content})
    messages.append({"role": "user", "content": search(f"turn {turn}")})
with unspool.spawn("helper", intent="help out"):
    try:
        broken("x")
    except ValueError:
        pass
"""


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def get(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.loads(answer.read() or b"null")


@pytest.fixture(scope="module")
def phoenix(tmp_path_factory):
    """The URL of a Phoenix server with a database of its own."""
    assert PHOENIX is not None
    port, folder = free_port(), tmp_path_factory.mktemp("phoenix")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PHOENIX_", "PYTHON"))},
        "PHOENIX_WORKING_DIR": str(folder), "PHOENIX_HOST": "127.0.0.1", "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(free_port()), "PHOENIX_TELEMETRY_ENABLED": "false",
    }  # fmt: skip
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen([PHOENIX, "serve"], env=environment, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    until = time.monotonic() + 180
    while True:
        try:
            urllib.request.urlopen(f"{url}/healthz", timeout=5).close()
            break
        except (urllib.error.URLError, OSError):
            assert server.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.2)
    yield url
    server.terminate()
    server.wait(timeout=60)


def spans_in(phoenix, trace_id, count):
    """The spans of a trace as Phoenix has them; it stores them a moment after it has answered."""
    until = time.monotonic() + 60
    while True:
        found = get(f"{phoenix}/v1/projects/default/spans?limit=1000")["data"]
        mine = [one for one in found if one["context"]["trace_id"] == trace_id]
        if len(mine) >= count or time.monotonic() > until:
            return {one["context"]["span_id"]: one for one in mine}
        time.sleep(0.1)


@pytest.fixture(scope="module")
def recorded(phoenix, tmp_path_factory):
    """A run that was sent to Phoenix while it went on; its store."""
    folder = tmp_path_factory.mktemp("agent")
    (folder / "agent.py").write_text(AGENT)
    with ModelServer() as model:
        command = [sys.executable, "-m", "unspool", "run", "--store", str(folder / "store"), "--otlp", phoenix,
                   "--otlp-messages", "--", sys.executable, str(folder / "agent.py"), model.url]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert "not taken" not in done.stderr
    return Store(folder / "store")


def trace_of(store):
    readers = [RecordReader(folder) for folder in sorted(store.records.iterdir())]
    return recorded_trace(readers)


def check(spans, found):
    assert found.keys() == {span.span_id[-16:] for span in spans}
    kinds = {"agent": "AGENT", "llm": "LLM", "tool": "TOOL", "other": "CHAIN"}
    for span in spans:
        copy = found[span.span_id[-16:]]
        assert copy["parent_id"] == (span.parent_span_id[-16:] or None)
        assert (copy["name"], copy["span_kind"]) == (span.name, kinds[span.kind])
        assert copy["status_code"] == ("ERROR" if span.status is SpanStatus.ERROR else "OK")
        attributes = copy["attributes"]
        if span.kind == "llm":
            assert attributes["llm.token_count.total"] == span.tokens_used
            assert attributes["llm.token_count.prompt"] == span.attributes["gen_ai.usage.input_tokens"]
            assert attributes["llm.input_messages.0.message.content"] == "hi"
            assert attributes["output.value"].startswith("echo: ")


def test_a_live_export_is_the_run(phoenix, recorded):
    trace = trace_of(recorded)
    assert {span.kind for span in trace.spans} >= {"agent", "llm", "tool"}
    found = spans_in(phoenix, trace.spans[0].trace_id, len(trace.spans))
    check(trace.spans, found)
    failed = next(one for one in found.values() if one["name"] == "broken")
    assert failed["status_message"] == "ValueError: no index for x"


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json"])
def test_an_export_sent_later_is_the_run(phoenix, recorded, protocol):
    trace = trace_of(recorded)
    trace_id = ("a" if protocol == "http/json" else "b") * 32
    contents = contents_of(trace.processes, trace.spans)
    for span in trace.spans:
        span.trace_id = trace_id
    # Span ids are unique in Phoenix across traces.
    fresh = {span.span_id: f"{trace_id[0] * 4}{span.span_id[-12:]}" for span in trace.spans}
    for span in trace.spans:
        contents[fresh[span.span_id]] = contents.pop(span.span_id, {})
        span.span_id, span.parent_span_id = fresh[span.span_id], fresh.get(span.parent_span_id, "")
    endpoint = Endpoint(f"{phoenix}/v1/traces", protocol=protocol)
    if protocol == "http/json":
        with pytest.raises(Exception, match="415"):  # Phoenix takes protobuf only, and says so
            Sender(endpoint).send(otlp_groups(trace.spans, recorded, contents=contents))
        return
    Sender(endpoint).send(otlp_groups(trace.spans, recorded, contents=contents))
    check(trace.spans, spans_in(phoenix, trace_id, len(trace.spans)))
