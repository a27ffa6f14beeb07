"""Real spans of real bodies: OpenInference and OpenLLMetry over recorded exchanges, received by `unspool serve`.

The SDK sends the request of each cassette to a server that answers with its recorded response; what the two
instrumentations say of it must come to the same in the store: what the body says.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from unspool import providers
from unspool.interop.receiver import Receiver
from unspool.store import Store
from unspool.trace.spans import SpanStatus
from unspool.trace.storage import SpanReader

CASSETTES = Path(__file__).parents[1] / "data" / "cassettes"
NAMES = (
    "chat_tools_history", "chat_two_choices", "chat_stream_parallel_tools", "chat_openrouter_429",
    "responses_reasoning", "responses_web_search", "responses_stream_tools", "responses_stream_usage",
)  # fmt: skip
AGENT = """
import inspect, json, sys
from openai import OpenAI, OpenAIError
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

kind, server, endpoint, *paths = sys.argv[1:]
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
if kind == "openinference":
    from openinference.instrumentation.openai import OpenAIInstrumentor
else:
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor
plain = {name: inspect.signature(method).parameters for name, method in (
    ("chat", OpenAI(api_key="sk-0").chat.completions.create), ("responses", OpenAI(api_key="sk-0").responses.create))}
OpenAIInstrumentor().instrument(tracer_provider=provider)
tracer = trace.get_tracer("agent", tracer_provider=provider)
for path in paths:
    cassette = json.load(open(path))
    body = json.loads(cassette["request"])
    name = "responses" if cassette["url"].endswith("/responses") else "chat"
    client = OpenAI(base_url=f"{server}/{path.rpartition('/')[2]}", api_key="sk-0", max_retries=0)
    create = client.responses.create if name == "responses" else client.chat.completions.create
    known = {key: value for key, value in body.items() if key in plain[name]}
    with tracer.start_as_current_span(path.rpartition("/")[2].removesuffix(".json")):
        try:
            answer = create(**known, extra_body={key: value for key, value in body.items() if key not in known})
            if body.get("stream"):
                list(answer)
        except OpenAIError as error:
            print(type(error).__name__)
provider.shutdown()
"""


class _Recorded(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        cassette = json.loads((CASSETTES / self.path.split("/")[1]).read_text())
        body = cassette["response"].encode()
        self.send_response(cassette["status"])
        self.send_header("content-type", cassette["content_type"])
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Nothing on stderr."""


def running(server):
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    return thread


@pytest.mark.parametrize("kind", ["openinference", "openllmetry"])
def test_real_spans_say_what_the_bodies_say(tmp_path, kind):
    for module in ("openai", "opentelemetry.exporter.otlp.proto.http"):
        pytest.importorskip(module)
    store = Store(tmp_path / "store").ensure()
    script = tmp_path / "agent.py"
    script.write_text(AGENT)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TRACELOOP_"))}
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), _Recorded) as recorded,
        Receiver(("127.0.0.1", 0), store, body_max=1 << 24, at_once=4) as receiver,
    ):
        threads = running(recorded), running(receiver)
        paths = [str(CASSETTES / f"{name}.json") for name in NAMES]
        command = [sys.executable, str(script), kind, f"http://127.0.0.1:{recorded.server_port}",
                   f"http://127.0.0.1:{receiver.port}/v1/traces", *paths]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100, check=False)
        for server in (recorded, receiver):
            server.shutdown()
        for thread in threads:
            thread.join()
    assert done.returncode == 0, done.stderr
    assert done.stdout == "RateLimitError\n"
    reader = SpanReader(store.traces)
    found = {}
    for summary in reader.list_traces():
        spans = reader.read_trace(summary.trace_id)
        [call] = [span for span in spans if span.kind == "llm"]
        found[next(span.name for span in spans if span.span_id == call.parent_span_id)] = call
    assert sorted(found) == sorted(NAMES)
    for name, call in found.items():
        cassette = json.loads((CASSETTES / f"{name}.json").read_text())
        provider = providers.match("POST", cassette["url"])
        body, said = cassette["response"].encode(), cassette["content_type"]
        answer = provider.parse_response(cassette["url"], body, said, cassette["status"], True)
        usage = answer.usage
        counts = (usage.input_tokens, usage.output_tokens, usage.cached_tokens or None) if usage else (None,) * 3
        attributes = call.attributes
        assert (
            attributes.get("gen_ai.usage.input_tokens"),
            attributes.get("gen_ai.usage.output_tokens"),
            attributes.get("gen_ai.usage.cache_read.input_tokens") or None,
        ) == counts, name
        assert call.status is (SpanStatus.ERROR if cassette["status"] >= 400 else SpanStatus.OK), name
        assert attributes["gen_ai.request.model"] in (json.loads(cassette["request"])["model"], answer.model), name
