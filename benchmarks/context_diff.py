"""The diff of two contexts of 2,000 messages, 1.3 MB of text each, whatever has become of them (goal: under 100 ms)."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Sequence

from unspool.events import ContextSnapshotData, CtxMessage, RecordEvent, RecordEventType
from unspool.replay import compute_context_diff

MESSAGES = 2000
WORDS = 120  # in a message
ROUNDS = 5


def _messages(rng: random.Random, vocabulary: Sequence[str]) -> list[CtxMessage]:
    return [
        CtxMessage(role=("user", "assistant")[n % 2], content=" ".join(rng.choice(vocabulary) for _ in range(WORDS)))
        for n in range(MESSAGES)
    ]


def _event(number: int) -> RecordEvent:
    return RecordEvent(type=RecordEventType.CONTEXT_SNAPSHOT, seq_num=number, timestamp=number, pid=1)


def _seconds(before: list[CtxMessage], after: list[CtxMessage]) -> float:
    """The median of some rounds."""
    times = []
    for _ in range(ROUNDS):
        gc.collect()
        start = time.perf_counter()
        compute_context_diff(
            ContextSnapshotData(messages=list(before)), ContextSnapshotData(messages=list(after)), _event(1), _event(2)
        )
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def main() -> None:
    rng = random.Random(1)
    many, few = [f"word{n}" for n in range(5000)], [f"word{n}" for n in range(50)]
    base = _messages(rng, many)
    edited = [CtxMessage(role=one.role, content=one.content + " x") for one in base]
    some = [one if n % 10 else changed for n, (one, changed) in enumerate(zip(base, edited, strict=True))]
    shuffled = base.copy()
    rng.shuffle(shuffled)
    summary = CtxMessage(role="user", content=" ".join(rng.choice(many) for _ in range(300)))
    shapes = [
        ("ten messages added", base[:-10], base),
        ("every tenth edited", base, some),
        ("all edited", base, edited),
        ("the first three quarters summarised", base, [summary, *base[1500:]]),
        ("another order", base, shuffled),
        ("nothing in common", base, _messages(rng, many)),
        ("nothing in common but the words", _messages(rng, few), _messages(rng, few)),
    ]
    for name, before, after in shapes:
        print(f"{name:<40} {_seconds(before, after) * 1000:6.1f} ms")
