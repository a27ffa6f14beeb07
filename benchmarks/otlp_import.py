"""Import of OTLP, in protobuf and in JSON, from a file to the store (goal: at least 30,000 spans a second).

The spans are those of an instrumented agent: a third model calls with ten attributes, a third tool calls, a third HTTP.
Each encoding runs in a process of its own, three times; shown are all three.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from unspool.interop.otlp import Carried, OtlpSpan

SPANS = 100_000
TRACES = 50
RUNS = 3
GOAL = 30_000
START_NS = 1_750_000_000_000_000_000


def make_spans(count: int, first: int = 0, traces: int = TRACES) -> list[OtlpSpan]:
    """Spans of several traces, in the words of OpenTelemetry's GenAI conventions."""
    spans = []
    for number in range(first, first + count):
        if number % 3 == 0:
            attributes = {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "gpt-5",
                "gen_ai.response.model": "gpt-5-2025-08-07",
                "gen_ai.usage.input_tokens": 1000 + number % 5000,
                "gen_ai.usage.output_tokens": 50,
                "gen_ai.response.finish_reasons": ["stop"],
                "gen_ai.request.temperature": 0.5,
                "server.address": "api.openai.com",
                "gen_ai.response.id": f"chatcmpl-{number}",
            }
        elif number % 3 == 1:
            attributes = {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": "search",
                "gen_ai.tool.call.id": f"call_{number}",
                "gen_ai.tool.call.arguments": f'{{"query": "{number}"}}',
            }
        else:
            attributes = {
                "http.request.method": "GET",
                "url.full": f"http://127.0.0.1/{number}",
                "http.response.status_code": 200,
            }
        spans.append(
            OtlpSpan(
                trace_id=f"{number % traces + 1:032x}",
                span_id=f"{number + 1:016x}",
                parent_span_id=f"{number // 3 + 1:016x}" if number >= traces else "",
                name=f"span {number % 3}",
                kind=3,
                start_ns=START_NS + number * 1000,
                end_ns=START_NS + number * 1000 + 5_000_000,
                attributes=attributes,
            )
        )
    return spans


def request(spans: list[OtlpSpan], encoding: str) -> bytes:
    """An ExportTraceServiceRequest."""
    from unspool.interop.otlp_json import write_json
    from unspool.interop.otlp_proto import write_proto

    carried = Carried(resource={"service.name": "bench", "telemetry.sdk.language": "python"}, scope_name="bench")
    return (write_json if encoding == "json" else write_proto)([(carried, spans)])


def _import(path: str, store: str) -> None:
    from unspool.interop.importing import import_paths
    from unspool.store import Store

    began = time.perf_counter()
    (result,) = import_paths([Path(path)], Store(store))
    taken = time.perf_counter() - began
    assert result.is_whole
    assert sum(result.traces.values()) == SPANS
    print(f"{SPANS / taken:.0f}")


def main() -> None:
    """Print spans a second for each encoding, the slowest against the goal."""
    slowest = float("inf")
    for encoding in ("proto", "json"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"spans.{encoding}"
            path.write_bytes(request(make_spans(SPANS), encoding))
            rates = []
            for run in range(RUNS):
                command = [sys.executable, "-m", "benchmarks.otlp_import", str(path), f"{folder}/store{run}"]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                rates.append(float(done.stdout))
            size = path.stat().st_size / 1e6
        slowest = min(slowest, *rates)
        shown = ", ".join(f"{rate:,.0f}" for rate in rates)
        print(f"{encoding:<6} {SPANS:,} spans, {size:.0f} MB: {shown} spans/s")
    print(f"slowest {slowest:,.0f} spans/s (goal {GOAL:,}): {'reached' if slowest >= GOAL else 'NOT reached'}")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        _import(sys.argv[1], sys.argv[2])
    else:
        main()
