"""Tree and full blame of 1,000,000 spans (goals: 12 s, 1.5 GB, at most 11 times the time of a tenth), and of 100.

Each size runs in a process of its own, so that its memory and its time are its own; the spans are there before the
clock starts, as a reader gives them: in the order in which they ended, each with an id, a name and lists of its own.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
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
    spans.sort(key=lambda span: span.end_time_ns)
    return spans


def _parent_of(number: int, shape: str, rng: random.Random) -> int:
    if shape == "chain":
        return number - 1
    return 0 if shape == "wide" else (number - 1) // rng.randint(1, 20)


def _analyse(path: str) -> None:
    spans = read_spans(path)
    before = _peak_mb()
    cpu_began, began = time.process_time(), time.perf_counter()
    from unspool.trace import analyze_trace, build_span_tree

    tree = build_span_tree(spans)
    built = time.perf_counter()
    result = analyze_trace(tree)
    done = time.perf_counter()
    assert result is not None
    assert result.summary.total_spans == len(spans)
    cpu = time.process_time() - cpu_began
    parts = len(result.critical_segments)
    print(f"{done - began:.3f} {cpu:.3f} {built - began:.3f} {done - built:.3f} {_peak_mb():.0f} {before:.0f} {parts}")


def _peak_mb() -> float:
    """The most memory this process has had. `ru_maxrss` would count what the parent had when it forked."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) / 1000


def read_spans(path: str) -> list[Span]:
    """The spans of a file: as a reader gives them, in the order in which they ended."""
    with open(path, "rb") as file:
        return [Span.from_json(line) for line in file]


def _measure(count: int, shape: str, folder: str) -> tuple[float, float, float]:
    """Seconds, seconds of CPU and megabytes of one size."""
    path = os.path.join(folder, f"{shape}-{count}.jsonl")
    with open(path, "wb") as file:
        file.writelines(span.to_json() + b"\n" for span in make_spans(count, shape))
    command = [sys.executable, "-m", "benchmarks.blame", path]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    os.unlink(path)
    total, cpu, tree, blame, peak, before, parts = done.stdout.split()
    print(
        f"{count:>9,} spans, {shape:<5}: tree {tree} s + blame {blame} s = {total} s ({cpu} s of CPU), peak "
        f"memory {peak} MB of which {before} for the spans, {int(parts):,} parts of the critical path"
    )
    return float(total), float(cpu), float(peak)


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
        with tempfile.TemporaryDirectory() as folder:
            _, tenth, _ = _measure(SPANS // 10, shape, folder)
            whole, cpu, peak = _measure(SPANS, shape, folder)
        print(
            f"    {whole:.1f} s (goal 12), {peak:.0f} MB (goal 1500), {cpu / tenth:.1f} × the CPU of a tenth (goal 11)"
        )
    print(f"100 spans with import: {_startup():.0f} ms (goal 50)")


if __name__ == "__main__":
    _analyse(sys.argv[1])
