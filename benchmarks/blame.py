"""Tree and full blame of 1,000,000 spans (goals: 12 s, 1.5 GB, at most 11 times the time of a tenth), and of 100.

Each size runs in a process of its own, so that its memory and its time are its own; the spans are there before the
clock starts, as a reader gives them: in the order in which they ended, each with an id, a name and lists of its own.
"""

from __future__ import annotations

import random
import resource
import subprocess
import sys
import time

from unspool.trace.spans import Span, SpanStatus

SPANS = 1_000_000
START_NS = 1_750_000_000_000_000_000
SHAPES = ("bushy", "chain", "wide")


def make_spans(count: int, shape: str, seed: int = 1) -> list[Span]:
    """A trace as agents make them (`bushy`), one of extreme depth, or one of extreme width.

    Children overlap, some outlive their parent, 2 % fail, model calls have tokens and a cost.
    """
    rng = random.Random(seed)
    spans: list[Span] = []
    for number in range(count):
        if number == 0:
            parent, start, room = "", START_NS, count * 10_000
        else:
            above = spans[_parent_of(number, shape, rng)]
            parent, room = above.span_id, max(above.duration, 1000)
            start = above.start_time_ns + (1 if shape == "chain" else rng.randrange(room))
        duration = room if number == 0 else max(room - 2, 1) if shape == "chain" else rng.randrange(1, room // 2 + 2)
        kind = ("agent", "llm", "tool")[number % 3]
        spans.append(
            Span(
                trace_id="5" * 32,
                span_id=f"{rng.getrandbits(128):032x}",
                parent_span_id=parent,
                pid=number % 50 + 1,
                name=f"{kind} {number % 100}",
                start_time_ns=start,
                end_time_ns=start + duration,
                tokens_used=rng.randrange(5000) if kind == "llm" else 0,
                status=SpanStatus.ERROR if rng.random() < 0.02 else SpanStatus.OK,
                kind=kind,
                cost_usd=rng.random() / 100 if kind == "llm" else None,
            )
        )
    # As a reader gives them: in the order in which they ended, and so in memory.
    spans.sort(key=lambda span: span.end_time_ns)
    return [Span.from_json(span.to_json()) for span in spans]


def _parent_of(number: int, shape: str, rng: random.Random) -> int:
    if shape == "chain":
        return number - 1
    return 0 if shape == "wide" else (number - 1) // rng.randint(1, 20)


def _analyse(count: int, shape: str) -> None:
    spans = make_spans(count, shape)
    began = time.perf_counter()
    from unspool.trace import analyze_trace, build_span_tree

    tree = build_span_tree(spans)
    built = time.perf_counter()
    result = analyze_trace(tree)
    done = time.perf_counter()
    assert result is not None
    assert result.summary.total_spans == count
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(f"{done - began:.4f} {built - began:.4f} {done - built:.4f} {peak:.0f} {len(result.critical_segments)}")


def _measure(count: int, shape: str) -> tuple[float, float]:
    """Seconds and megabytes of one size."""
    command = [sys.executable, "-m", "benchmarks.blame", str(count), shape]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    total, tree, blame, peak, segments = done.stdout.split()
    print(
        f"{count:>9,} spans, {shape:<5}: tree {tree} s + blame {blame} s = {total} s, peak memory {peak} MB with the "
        f"spans, {segments} parts of the critical path"
    )
    return float(total), float(peak)


def _startup() -> float:
    """Milliseconds to import the analysis and blame 100 spans, over a bare Python that has msgspec."""
    code = (
        "import sys, time; import msgspec; began = time.perf_counter()\n"
        "from unspool.trace import Span, analyze_trace, build_span_tree, format_blame_result\n"
        "def span(n):\n"
        "    parent = f'{(n - 1) // 3:032x}' if n else ''\n"
        "    return Span('t', f'{n:032x}', parent, 1, f'span {n}', 10**18 + n, 10**18 + 900 - n)\n"
        "spans = [span(n) for n in range(100)]\n"
        "format_blame_result(analyze_trace(build_span_tree(spans)))\n"
        "print((time.perf_counter() - began) * 1000)"
    )
    times = [
        float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
        for _ in range(7)
    ]
    return sorted(times)[len(times) // 2]


def main() -> None:
    for shape in SHAPES:
        tenth, _ = _measure(SPANS // 10, shape)
        whole, peak = _measure(SPANS, shape)
        print(f"    {whole:.1f} s (goal 12), {peak:.0f} MB (goal 1500), {whole / tenth:.1f} × a tenth (goal 11)")
    print(f"100 spans with import: {_startup():.0f} ms (goal 50)")


if __name__ == "__main__":
    _analyse(int(sys.argv[1]), sys.argv[2])
