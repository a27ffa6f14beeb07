"""One durable `write_event` against one OpenTelemetry SDK span with a batch processor (goal: at most 1/6).

The event is in the kernel when the call returns and survives SIGKILL; the span sits in a buffer that does not.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from unspool.events import RecordEvent, RecordEventType, SyscallEventData
from unspool.recording import Recorder

ROUNDS, EVENTS = 9, 10_000


class _Nowhere(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def _per_call_us(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    for _ in range(EVENTS):
        work()
    return (time.perf_counter() - began) / EVENTS * 1e6


def main() -> None:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(_Nowhere(), max_queue_size=ROUNDS * EVENTS * 2))
    tracer = provider.get_tracer("benchmark")
    event = RecordEvent(
        type=RecordEventType.SYSCALL,
        seq_num=0,
        timestamp=123_456_789,
        pid=1,
        syscall=SyscallEventData(
            syscall="ToolCall", args={"path": "/dev/tool/search", "n": 1}, result="ok", duration=1_234_567
        ),
    )

    def span() -> None:
        with tracer.start_as_current_span("ToolCall", attributes={"path": "/dev/tool/search", "n": 1}) as current:
            current.set_attribute("result", "ok")

    with tempfile.TemporaryDirectory() as folder, Recorder(folder, 1, "benchmark") as recorder:
        pairs = [(_per_call_us(lambda: recorder.write_event(event)), _per_call_us(span)) for _ in range(ROUNDS)]
    provider.shutdown()
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    print(f"write_event {ours:.2f} µs, OpenTelemetry span {theirs:.2f} µs: ratio {ratio:.3f} (goal 0.167)")
