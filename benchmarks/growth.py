"""At half of each run, the context at its end: the 80 % interval (goal: holds 70-90 %) and the median against a rule.

The rule is the reference's: the mean of the positive ones among the last four differences goes on. Claude Code sessions
by the provider's counts, tau-bench and Who&When by size (`estimate_tokens`). A run needs four calls to have a half that
shows any growth. The constants of the forecast were chosen on these very runs, at one half; so a third and two thirds
are printed too, and what comes of choosing on one half of the runs and measuring on the other.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from unspool.context import estimate_tokens
from unspool.context.forecast import PACE, Pace, forecast_tokens
from unspool.events import TokenSnapshot

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
LEAST_CALLS = 4
PARTS = ((1, 2), (1, 3), (2, 3))
GRID = [Pace(slower, faster) for slower in (1.0, 1.5, 2.0, 2.5, 3.0) for faster in (0.4, 0.7, 1.0, 1.3)]


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


class Measured(NamedTuple):
    """One run at one part of it: whether the interval held the truth, and how far off ours and the rule were."""

    held: bool
    ours: float
    rule: float


def measure(counts: Sequence[int], part: tuple[int, int], pace: Pace = PACE) -> Measured | None:
    """The forecast of the end of a run from its first part; None where that is too short."""
    known = -(-len(counts) * part[0] // part[1])
    if len(counts) < LEAST_CALLS or not 2 <= known < len(counts):
        return None
    history = [TokenSnapshot(step, tokens) for step, tokens in enumerate(counts[:known], start=1)]
    low, middle, high = forecast_tokens(history, len(counts), pace=pace)
    truth = counts[-1]
    theirs = reference_rule(counts[:known], len(counts) - known)
    return Measured(low <= truth <= high, abs(middle - truth) / truth, abs(theirs - truth) / truth)


def _measured(runs: Iterable[Sequence[int]], part: tuple[int, int], pace: Pace = PACE) -> list[Measured]:
    return [one for counts in runs if (one := measure(counts, part, pace)) is not None]


def _coverage(found: Sequence[Measured]) -> float:
    return 100 * statistics.mean(one.held for one in found)


def _report(name: str, part: tuple[int, int], found: Sequence[Measured]) -> None:
    print(
        f"{name:<12} at {part[0]}/{part[1]}: {len(found):3} runs, interval holds {_coverage(found):3.0f} %, "
        f"median error {100 * statistics.median(one.ours for one in found):4.1f} % "
        f"(reference's rule {100 * statistics.median(one.rule for one in found):4.1f} %)"
    )


def side_of(counts: Sequence[int]) -> int:
    """Which half of the runs one belongs to, by its hash: 0 or 1."""
    return hashlib.sha256(json.dumps(list(counts)).encode()).digest()[0] % 2


def choose(runs: Iterable[Sequence[Sequence[int]]]) -> Pace:
    """The constants whose intervals at one half come nearest to holding 80 % in each of the sources."""
    sources = list(runs)

    def miss(pace: Pace) -> float:
        return sum((_coverage(_measured(source, (1, 2), pace)) - 80) ** 2 for source in sources)

    return min(GRID, key=miss)


def main() -> None:
    if not DATA.is_dir():
        print(f"no data at {DATA}: nothing to forecast")
        return
    sources = {"claude_code": claude_code, "tau_bench": tau_bench, "who_and_when": who_and_when}
    runs = {name: list(read()) for name, read in sources.items()}
    print(f"the constants as they are: pace {PACE.slower} down, {PACE.faster} up")
    for part in PARTS:
        for name, counts in runs.items():
            _report(name, part, _measured(counts, part))
    print("held out: chosen at 1/2 on one half of the runs (by hash), measured on the other, and the other way round")
    halves = [{name: [one for one in found if side_of(one) == side] for name, found in runs.items()} for side in (0, 1)]
    chosen = [choose(halves[1 - side].values()) for side in (0, 1)]  # for each half what the other one says
    print("chosen:", " and ".join(f"pace {one.slower} down, {one.faster} up" for one in chosen))
    for part in PARTS:
        for name in runs:
            _report(name, part, [one for side in (0, 1) for one in _measured(halves[side][name], part, chosen[side])])
