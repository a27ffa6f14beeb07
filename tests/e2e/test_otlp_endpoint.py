"""`unspool serve` takes what real OpenTelemetry exporters and instrumentations send; `run --otlp` sends it."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from unspool.demo.server import ModelServer
from unspool.interop.receiver import Receiver
from unspool.store import Store
from unspool.trace.spans import SpanStatus
from unspool.trace.storage import SpanReader
from unspool.trace.tree import build_span_tree

SOURCE = Path(__file__).resolve().parents[2] / "src"
SPAN = {
    "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331", "name": "chat", "kind": 3,
    "startTimeUnixNano": "1700000000000000000", "endTimeUnixNano": "1700000001000000000",
    "attributes": [{"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
                   {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "10"}}],
}  # fmt: skip
REQUEST = {"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {"name": "t"}, "spans": [SPAN]}]}]}

INSTRUMENTED = """
import sys
from openai import BadRequestError, OpenAI
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

kind, model, endpoint = sys.argv[1:4]
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
if kind == "openinference":
    from openinference.instrumentation.openai import OpenAIInstrumentor
else:
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor
OpenAIInstrumentor().instrument(tracer_provider=provider)
client = OpenAI(base_url=model + "/v1", api_key="sk-0", max_retries=0)
messages = [{"role": "user", "content": "hi"}]
with trace.get_tracer("agent", tracer_provider=provider).start_as_current_span("agent run"):
    client.chat.completions.create(model="gpt-4.1-mini", messages=messages)
    list(client.chat.completions.create(
        model="gpt-4.1-mini", messages=messages, stream=True, stream_options={"include_usage": True}))
    client.responses.create(model="gpt-4.1-mini", input="hello")
    try:
        client.chat.completions.create(model="gpt-4.1-mini", messages="none")
    except BadRequestError:
        pass
provider.shutdown()
"""

AGENT = """
import sys
import unspool
from openai import OpenAI

@unspool.tool
def search(query):
    return "found " + query

client = OpenAI(base_url=sys.argv[1] + "/v1", api_key="sk-0")
messages = [{"role": "user", "content": "hi"}]
for turn in range(2):
    answer = client.chat.completions.create(model="gpt-4.1-mini", messages=messages)
    messages.append({"role": "assistant", "content": answer.choices[0].message.content})
    messages.append({"role": "user", "content": search(f"turn {turn}")})
raise SystemExit(3)
"""


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store").ensure()


@pytest.fixture
def receiver(store):
    with Receiver(("127.0.0.1", 0), store, body_max=1 << 20, at_once=2) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def serving(tmp_path):
    """A real `unspool serve`; gives its URL and the traces it has written, and ends it by a signal."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-m", "unspool", "serve", "--port", "0", "--store", str(tmp_path / "received")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    line = process.stdout.readline()
    assert line.startswith("http://127.0.0.1:"), process.stderr.read()
    yield line.split()[0], SpanReader(tmp_path / "received" / "traces")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert out == ""
    assert " in 1 trace. List them: unspool trace ls" in err


@pytest.fixture
def model():
    with ModelServer() as server:
        yield server.url


def post(server, body, headers=None, path="/v1/traces"):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    with contextlib.closing(connection):
        data = json.dumps(body).encode() if not isinstance(body, bytes) else body
        connection.request("POST", path, data, {"content-type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        said = answer.read()
        return answer, json.loads(said) if said[:1] == b"{" else said


def spans_of(store):
    reader = SpanReader(store.traces)
    return [span for summary in reader.list_traces() for span in reader.read_trace(summary.trace_id)]


@pytest.mark.parametrize("packed", [False, True])
def test_json(receiver, store, packed):
    body = json.dumps(REQUEST).encode()
    if packed:
        answer, said = post(receiver, gzip.compress(body), {"content-encoding": "gzip"})
    else:
        answer, said = post(receiver, body)
    assert (answer.status, said) == (200, {})
    (span,) = spans_of(store)
    assert (span.kind, span.tokens_used, span.duration) == ("llm", 10, 1_000_000_000)


def test_a_chunked_body(receiver, store):
    connection = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=20)
    with contextlib.closing(connection):
        body = json.dumps(REQUEST).encode()
        connection.request("POST", "/v1/traces", iter([body[:50], body[50:]]), {"content-type": "application/json"},
                           encode_chunked=True)  # fmt: skip
        assert connection.getresponse().status == 200
    assert len(spans_of(store)) == 1


def test_a_span_without_ids_is_refused_and_the_others_are_kept(receiver, store):
    bad = {**SPAN, "spanId": ""}
    request = {"resourceSpans": [{"scopeSpans": [{"spans": [bad, SPAN]}]}]}
    answer, said = post(receiver, request)
    assert answer.status == 200
    assert said["partialSuccess"]["rejectedSpans"] == "1"
    assert "span id is not 8 bytes" in said["partialSuccess"]["errorMessage"]
    assert len(spans_of(store)) == 1


@pytest.mark.parametrize(
    ("body", "headers", "path", "status", "reason"),
    [
        (b"{", {}, "/v1/traces", 400, "not an ExportTraceServiceRequest"),
        (b'{"resourceSpans": 7}', {}, "/v1/traces", 400, "Expected `array`"),
        (b"\xff\xff\xff", {"content-type": "application/x-protobuf"}, "/v1/traces", 400, "not an OTLP trace message"),
        (b"{}", {"content-encoding": "gzip"}, "/v1/traces", 400, "content-encoding is gzip: damaged"),
        (b"{}", {"content-encoding": "br"}, "/v1/traces", 415, "send gzip"),
        (b"{}", {"content-type": "text/plain"}, "/v1/traces", 415, "send application/x-protobuf or application/json"),
        (b" " * 2_000_000, {}, "/v1/traces", 413, "send fewer spans"),
        (gzip.compress(b" " * 2_000_000), {"content-encoding": "gzip"}, "/v1/traces", 413, "send fewer spans"),
        (b"{}", {}, "/v1/logs", 404, "logs are not kept here"),
        (b"{}", {}, "/", 404, "only POST /v1/traces"),
    ],
)
def test_what_is_wrong_is_said(receiver, store, body, headers, path, status, reason):
    answer, said = post(receiver, body, headers, path)
    assert answer.status == status
    assert reason in said["message"]
    assert answer.getheader("retry-after") is None
    assert post(receiver, REQUEST)[0].status == 200  # and it goes on


def test_too_many_requests_at_once_are_told_to_come_again(receiver, store):
    with receiver.slots, receiver.slots:
        answer, said = post(receiver, REQUEST)
    assert (answer.status, answer.getheader("retry-after")) == (429, "1")
    assert "send again later" in said["message"]
    assert post(receiver, REQUEST)[0].status == 200


def test_a_disk_that_refuses_is_tried_again(receiver, store):
    store.traces.write_text("a file where the folder should be")
    answer, said = post(receiver, REQUEST)
    assert (answer.status, answer.getheader("retry-after")) == (503, "5")
    assert "cannot write spans" in said["message"]
    store.traces.unlink()
    assert post(receiver, REQUEST)[0].status == 200


def test_spans_sent_twice_are_counted_once(receiver, store):
    for _ in range(2):
        assert post(receiver, REQUEST)[0].status == 200
    assert build_span_tree(spans_of(store)).metadata.total_spans == 1


def test_four_clients_lose_nothing(receiver, store):
    receiver.slots = threading.BoundedSemaphore(64)

    def client(number):
        connection = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=20)
        with contextlib.closing(connection):
            for batch in range(10):
                spans = [{**SPAN, "spanId": f"{number + 1:04x}{batch:04x}{index:08x}"} for index in range(50)]
                body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]})
                connection.request("POST", "/v1/traces", body, {"content-type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 200

    clients = [threading.Thread(target=client, args=(number,)) for number in range(4)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    assert len({span.span_id for span in spans_of(store)}) == 2000


@pytest.mark.parametrize("kind", ["openinference", "openllmetry"])
def test_real_instrumentations(serving, model, tmp_path, kind):
    """The tree, the tokens and the status are those of the calls, whichever words the instrumentation uses."""
    url, reader = serving
    script = tmp_path / "agent.py"
    script.write_text(INSTRUMENTED)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TRACELOOP_"))}
    done = subprocess.run([sys.executable, script, kind, model, url], capture_output=True, text=True, env=environment,
                          timeout=100, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    (summary,) = reader.list_traces()
    tree = build_span_tree(reader.read_trace(summary.trace_id))
    assert tree.root.span.name == "agent run"
    calls = [node.span for node in tree.root.children]
    assert [span.kind for span in calls] == ["llm"] * 4
    assert [(span.attributes.get("gen_ai.usage.input_tokens"), span.attributes.get("gen_ai.usage.output_tokens"))
            for span in calls] == [(1, 6), (1, 6), (2, 7), (None, None)]  # fmt: skip
    assert [span.tokens_used for span in calls] == [7, 7, 9, 0]  # the last was refused: nothing was read
    assert [span.status for span in calls] == [SpanStatus.OK] * 3 + [SpanStatus.ERROR]
    assert "400" in calls[3].attributes["error.message"]
    assert {span.attributes["gen_ai.request.model"] for span in calls} == {"gpt-4.1-mini"}
    assert tree.metadata.total_tokens == 23


def test_a_running_command_is_exported(serving, model, tmp_path):
    """What arrives is what was recorded: the same tree, tokens and failure."""
    url, reader = serving
    script = tmp_path / "agent.py"
    script.write_text(AGENT)
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-m", "unspool", "run", "--store", str(tmp_path / "own"), "--otlp", url,
               "--otlp-messages", "--", sys.executable, str(script), model]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100, check=False)
    assert done.returncode == 3, done.stderr
    assert "not taken" not in done.stderr
    (summary,) = reader.list_traces()
    tree = build_span_tree(reader.read_trace(summary.trace_id))
    assert (tree.root.span.kind, tree.root.span.status) == ("agent", SpanStatus.ERROR)
    children = [node.span for node in tree.root.children if node.span.kind in ("llm", "tool")]
    assert [span.kind for span in children] == ["llm", "tool", "llm", "tool"]
    assert all(span.tokens_used for span in children if span.kind == "llm")
    first = children[0].attributes
    assert first["openinference.span.kind"] == "LLM"
    assert first["llm.token_count.prompt"] == first["gen_ai.usage.input_tokens"]
    assert json.loads(first["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": "hi"}]}
    ]
    assert first["llm.output_messages.0.message.role"] == "assistant"
    assert children[1].attributes["gen_ai.tool.call.result"] == "found turn 0"


def test_an_endpoint_that_is_away_never_harms_the_command(model, tmp_path):
    script = tmp_path / "agent.py"
    script.write_text(AGENT)
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-m", "unspool", "run", "--store", str(tmp_path / "own"), "--otlp",
               "http://127.0.0.1:9", "--", sys.executable, str(script), model]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100, check=False)
    assert done.returncode == 3
    assert "5 spans were not taken over OTLP: http://127.0.0.1:9/v1/traces cannot be reached" in done.stderr
    assert "recorded 1-" in done.stderr


def test_an_address_in_use_is_said(receiver, tmp_path):
    command = [sys.executable, "-m", "unspool", "serve", "--port", str(receiver.port), "--store", str(tmp_path / "s")]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert done.returncode == 1
    assert "Choose another --port" in done.stderr
