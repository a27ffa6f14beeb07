"""`unspool.otel.SpanProcessor` in real programs: what they traced is in the store, also when they are killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from unspool.interop.ingest import read_carriers
from unspool.trace.spans import SpanStatus
from unspool.trace.storage import SpanReader
from unspool.trace.tree import build_span_tree

SOURCE = Path(__file__).resolve().parents[2] / "src"

PROGRAM = """
import os, signal, sys
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import Link, SpanKind, Status, StatusCode
import unspool.otel

how, store = sys.argv[1:3]
provider = TracerProvider(resource=Resource.create({"service.name": "shop"}),
                          **({"sampler": ALWAYS_OFF} if how == "unsampled" else {}))
provider.add_span_processor(unspool.otel.SpanProcessor(store))
tracer = provider.get_tracer("tests", "1.2")
with tracer.start_as_current_span("order", attributes={"sizes": [1, 2], "ratio": 0.5}) as order:
    links = [Link(order.get_span_context(), {"a": 1})]
    with tracer.start_as_current_span("chat", kind=SpanKind.CLIENT, links=links) as chat:
        chat.set_attributes({"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4.1",
                             "gen_ai.usage.input_tokens": 9, "gen_ai.usage.output_tokens": 4})
        chat.add_event("first token", {"n": 1})
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        with tracer.start_as_current_span("tool", attributes={"gen_ai.operation.name": "execute_tool"}):
            raise ValueError("no stock")
    except ValueError:
        pass
provider.shutdown()
print("done")
"""


@pytest.fixture
def run(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)

    def start(how, store=None):
        environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
        command = [sys.executable, script, how, store or tmp_path / "store"]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)

    return start


def tree_in(store):
    reader = SpanReader(store / "traces")
    (summary,) = reader.list_traces()
    return build_span_tree(reader.read_trace(summary.trace_id))


def test_what_was_traced_is_in_the_store(run, tmp_path):
    done = run("well")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
    tree = tree_in(tmp_path / "store")
    order = tree.root.span
    chat, tool = (node.span for node in tree.root.children)
    assert order.name == "order"
    assert (order.attributes["sizes"], order.attributes["ratio"]) == ([1, 2], 0.5)
    assert (chat.kind, chat.tokens_used, chat.status) == ("llm", 13, SpanStatus.OK)
    assert [event.name for event in chat.events] == ["first token"]
    assert chat.attributes["unspool.otlp"]["links"][0][:2] == [order.trace_id, order.span_id]
    assert (tool.kind, tool.status) == ("tool", SpanStatus.ERROR)
    assert tool.attributes["error.message"] == "ValueError: no stock"
    (carried,) = read_carriers(tmp_path / "store" / "traces", order.trace_id).values()
    assert (carried.resource["service.name"], carried.scope_name, carried.scope_version) == ("shop", "tests", "1.2")
    assert tree.metadata.total_spans == 3


def test_a_killed_program_shows_where_it_was(run, tmp_path):
    done = run("die")
    assert done.returncode == -9
    tree = tree_in(tmp_path / "store")
    assert (tree.root.span.name, tree.root.span.status) == ("order", SpanStatus.OPEN)
    assert [(node.span.name, node.span.status) for node in tree.root.children] == [("chat", SpanStatus.OK)]


def test_what_is_not_sampled_is_not_written(run, tmp_path):
    assert run("unsampled").stdout == "done\n"
    assert not (tmp_path / "store" / "traces").exists()


def test_a_store_that_cannot_be_written_is_said_once(run, tmp_path):
    (tmp_path / "file").write_text("")
    done = run("well", tmp_path / "file" / "store")
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert done.stderr.count("a span was not written") == 1


def test_without_the_sdk_the_extra_is_named(tmp_path):
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").write_text("")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{SOURCE}"}
    command = [sys.executable, "-c", "import unspool.otel"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert done.returncode == 1
    assert "pip install 'unspool[otlp]'" in done.stderr


def test_the_trace_is_shown(run, tmp_path):
    run("well")
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-m", "unspool", "trace", "ls", "--store", str(tmp_path / "store"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=True)
    assert "order" in json.dumps(json.loads(done.stdout))
