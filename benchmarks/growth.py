"""At half of each run, the context at its end: the 80 % interval (goal: holds 70-90 %) and the median against a rule.

The rule is the reference's: the mean of the positive ones among the last four differences goes on. Claude Code sessions
by the provider's counts, tau-bench and Who&When by size (`estimate_tokens`). A run needs four calls to have a half that
shows any growth. The constants of the forecast were chosen at one half; a third and two thirds are printed to show what
they are worth elsewhere.
"""

from __future__ import annotations

import gzip
import itertools
import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from unspool.context import estimate_tokens, forecast_tokens
from unspool.events import TokenSnapshot

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
LEAST_CALLS = 4
PARTS = ((1, 2), (1, 3), (2, 3))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from (json.loads(line) for line in file if line.strip())


def claude_code() -> Iterator[list[int]]:
    """Input tokens of each call, cached ones included; lines of one message id are one call, the last line counts."""
    for path in sorted((DATA / "claude_code").rglob("*.jsonl.gz")):
        counts: dict[str, int] = {}
        for line in _lines(path):
            message = line.get("message")
            if line.get("type") == "assistant" and isinstance(message, dict) and message.get("usage"):
                usage = message["usage"]
                keys = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
                counts[message["id"]] = sum(usage.get(key) or 0 for key in keys)
        yield list(counts.values())


def tau_bench() -> Iterator[list[int]]:
    """The size of what stood before each message of the assistant."""
    for path in sorted((DATA / "tau_bench").glob("*.json.gz")):
        for run in json.loads(gzip.decompress(path.read_bytes())):
            size, counts = 0, []
            for message in run["traj"]:
                if message["role"] == "assistant":
                    counts.append(size)
                calls = json.dumps(message["tool_calls"]) if message.get("tool_calls") else ""
                size += 4 + estimate_tokens((message.get("content") or "") + calls)
            yield counts


def who_and_when() -> Iterator[list[int]]:
    """The size of what stood before each entry of the log: every entry is one turn."""
    for path in sorted((DATA / "who_and_when").rglob("*.json.gz")):
        size, counts = 0, []
        for entry in json.loads(gzip.decompress(path.read_bytes()))["history"]:
            counts.append(size)
            size += 4 + estimate_tokens(entry.get("content") or "")
        yield counts


def reference_rule(counts: Sequence[int], steps: int) -> float:
    last = counts[-5:]
    positive = [after - before for before, after in itertools.pairwise(last) if after > before]
    return counts[-1] + (statistics.mean(positive) if positive else 0.0) * steps


def _report(name: str, runs: Sequence[Sequence[int]], part: tuple[int, int]) -> None:
    held, ours, reference = [], [], []
    for counts in runs:
        known = -(-len(counts) * part[0] // part[1])
        if len(counts) < LEAST_CALLS or not 2 <= known < len(counts):
            continue
        history = [TokenSnapshot(step, tokens) for step, tokens in enumerate(counts[:known], start=1)]
        low, middle, high = forecast_tokens(history, len(counts))
        truth = counts[-1]
        held.append(low <= truth <= high)
        ours.append(abs(middle - truth) / truth)
        reference.append(abs(reference_rule(counts[:known], len(counts) - known) - truth) / truth)
    coverage, error, theirs = (
        100 * statistics.mean(held),
        100 * statistics.median(ours),
        100 * statistics.median(reference),
    )
    print(
        f"{name:<12} at {part[0]}/{part[1]}: {len(held):3} runs, interval holds {coverage:3.0f} %, "
        f"median error {error:4.1f} % (reference's rule {theirs:4.1f} %)"
    )


def main() -> None:
    if not DATA.is_dir():
        print(f"no data at {DATA}: nothing to forecast")
        return
    sources = (("claude_code", claude_code), ("tau_bench", tau_bench), ("who_and_when", who_and_when))
    for part in PARTS:
        for name, read in sources:
            _report(name, list(read()), part)
