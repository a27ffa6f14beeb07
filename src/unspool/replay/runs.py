"""Two whole runs side by side: where they part, and what each did."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import Literal, TypeAlias

from msgspec import Struct

from unspool.errors import CorruptRecording
from unspool.events import RecordMetadata, RecordStatus
from unspool.recording.reader import RecordReader
from unspool.recording.stdout import read_stdout
from unspool.replay.diff import ContextDiff, compute_context_diff
from unspool.replay.pairs import StepPair, align_steps
from unspool.replay.steps import Price, RunStep, place_of, read_steps

__all__ = ["Relation", "RunTotals", "RunsDiff", "WholeRun", "diff_runs"]

Relation: TypeAlias = Literal["", "same", "fork", "fork_of", "rerun", "rerun_of", "siblings"]


class RunTotals(Struct, frozen=True):
    """What a run adds up to, with all its processes.

    `*_unknown` counts the answered calls that a sum leaves out; it is None if it would leave out all of them.
    `served_calls` cost nothing when they were made, since a recording answered them; they are in `cost_usd`, and not in
    `sent_usd`. `wall_ns` is None if the end is not known.
    """

    model_calls: int = 0
    tool_calls: int = 0
    errors: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    tokens_unknown: int = 0
    cost_usd: float | None = None
    cost_unknown: int = 0
    served_calls: int = 0
    sent_usd: float | None = None
    wall_ns: int | None = None


class WholeRun(Struct, frozen=True):
    """A recorded run: its processes, its steps in order, how it ended.

    Attributes:
        record_id: of its root.
        records: all its recordings, the root first.
        status, exit_code, intent, start_time: of the root.
        parent, forked_at, rerun_of: where it comes from.
        last_answer: what the model said last in the root process, cut; None if it never said anything.
        last_error: which step failed last, in any process, and how; "" for none.
        stdout_sha256: tells what the root wrote to standard output from what another did; None if that is not known.
        notes: what could not be read.
    """

    record_id: str
    records: list[str]
    status: RecordStatus
    exit_code: int | None
    intent: str
    start_time: datetime | None
    parent: str | None
    forked_at: int | None
    rerun_of: str | None
    steps: list[RunStep]
    totals: RunTotals
    last_answer: str | None = None
    last_error: str = ""
    stdout_sha256: str | None = None
    notes: list[str] = []


class RunsDiff(Struct, frozen=True):
    """Two runs aligned.

    Attributes:
        relation: how the second comes from the first: `fork` or `rerun` of it, or the other way round (`fork_of`:
            the first is a fork of the second), or `siblings`: forks or reruns of one recording.
        pairs: all steps of both, in order.
        parting: the position in `pairs` of the first that differs; None if none does.
        contexts: what changed between the two contexts there, if it is the request of a model call that differs.
    """

    first: WholeRun
    second: WholeRun
    relation: Relation
    pairs: list[StepPair]
    parting: int | None = None
    contexts: ContextDiff | None = None


def diff_runs(
    first: Sequence[str | PathLike[str]], second: Sequence[str | PathLike[str]], *, price: Price | None = None
) -> RunsDiff:
    """Align two runs step by step.

    Conversations are compared with their counterparts, each in its order: as many steps as possible are kept in pairs
    that are the same, then pairs that were asked the same, then pairs with the same answer, then calls of the same
    tool and calls of a model in the order they were made. What has no counterpart there may find one in another
    conversation, if it was asked or answered the same.

    Args:
        first: the folders of a run's recordings, the root's first. One that cannot be read is named in the notes.
        second: those of the other.
        price: what a model call cost; without it no cost is known.

    Raises:
        CorruptRecording: a root cannot be read at all.
    """
    with contextlib.ExitStack() as stack:
        one, other = _OpenRun(stack, first, price), _OpenRun(stack, second, price)
        pairs = align_steps(one.run.steps, other.run.steps)
        parting = next((number for number, pair in enumerate(pairs) if pair.is_difference), None)
        return RunsDiff(
            first=one.run,
            second=other.run,
            relation=_relation(one.run, other.run),
            pairs=pairs,
            parting=parting,
            contexts=None if parting is None else _context_diff(one, other, pairs[parting]),
        )


# --- reading ---------------------------------------------------------------------------------------------------------


class _OpenRun:
    """A run whose recordings are open."""

    def __init__(
        self, stack: contextlib.ExitStack, folders: Sequence[str | PathLike[str]], price: Price | None
    ) -> None:
        self.readers: dict[str, RecordReader] = {}
        notes: list[str] = []
        for number, folder in enumerate(folders):
            try:
                reader = stack.enter_context(RecordReader(folder, live=True))
            except CorruptRecording as exc:
                if not number:
                    raise
                notes.append(str(exc))
                continue
            self.readers[reader.record_id] = reader
            if reader.metadata.lost_events:
                notes.append(f"{reader.record_id} lost {reader.metadata.lost_events} events")
        self.run = _whole_run(list(self.readers.values()), price, notes)


def _whole_run(readers: list[RecordReader], price: Price | None, notes: list[str]) -> WholeRun:
    root = readers[0].metadata
    places: dict[str, str] = {}
    around: dict[str, str] = {}
    steps: list[RunStep] = []
    errors, last_ns = 0, 0
    for reader in readers:
        metadata = reader.metadata
        above = places.get(metadata.parent or "")
        # A child whose parent's recording is damaged stands where the root is, rather than nowhere.
        place = places[metadata.record_id] = place_of(metadata, None if reader is readers[0] else above or "")
        start_ns = _since(root.start_time, metadata.start_time)
        mine, failed = read_steps(reader, start_ns=start_ns, place=place, price=price, around=around)
        steps += mine
        errors += failed
        if reader.event_count:
            last_ns = max(last_ns, start_ns + reader.events().bare(reader.event_count - 1).timestamp)
    steps.sort(key=lambda step: step.start_ns)
    own = [step for step in steps if step.record_id == root.record_id and step.kind == "model"]
    return WholeRun(
        record_id=root.record_id,
        records=[reader.record_id for reader in readers],
        status=root.status,
        exit_code=root.exit_code,
        intent=root.intent,
        start_time=root.start_time,
        parent=root.parent,
        forked_at=root.forked_at,
        rerun_of=root.rerun_of,
        steps=steps,
        totals=_totals(steps, errors, _wall_ns(root, last_ns)),
        last_answer=next((step.answered for step in reversed(own) if step.answered and not step.error), None),
        last_error=next((f"{step.name}: {step.error}" for step in reversed(steps) if step.error), ""),
        stdout_sha256=_stdout_sha256(readers[0].record_dir),
        notes=notes,
    )


def _stdout_sha256(folder: Path) -> str | None:
    written = read_stdout(folder)
    if written.missing is not None or written.rest is None:
        return None
    return hashlib.sha256(written.kept + (written.rest_sha256 or "").encode()).hexdigest()


def _since(start: datetime | None, later: datetime | None) -> int:
    return 0 if start is None or later is None else max(int((later - start).total_seconds() * 1e9), 0)


def _wall_ns(root: RecordMetadata, last_ns: int) -> int | None:
    if root.start_time is not None and root.end_time is not None:
        return _since(root.start_time, root.end_time)
    # An imported run without times has its calls a nanosecond apart: that is their order, and no duration.
    return last_ns if root.start_time is not None or last_ns >= 1_000_000 else None


def _totals(steps: Sequence[RunStep], errors: int, wall_ns: int | None) -> RunTotals:
    calls = [step for step in steps if step.kind == "model"]
    # A call that failed has no tokens, which is known; one that was answered without a count has some, unknown.
    answered = [step for step in calls if step.answered is not None and not step.error]
    counted = [step for step in calls if step.input_tokens is not None or step.output_tokens is not None]
    priced = [step for step in calls if step.cost_usd is not None]
    unknown_tokens = sum(step.input_tokens is None or step.output_tokens is None for step in answered)
    unknown_cost = sum(step.cost_usd is None for step in answered)
    served = [step for step in calls if step.origin == "served"]
    sent = [step for step in priced if step.origin != "served"]
    unknown_sent = sum(step.cost_usd is None and step.origin != "served" for step in answered)
    return RunTotals(
        model_calls=len(calls),
        tool_calls=len(steps) - len(calls),
        errors=errors,
        input_tokens=sum(step.input_tokens or 0 for step in counted) if counted or not unknown_tokens else None,
        output_tokens=sum(step.output_tokens or 0 for step in counted) if counted or not unknown_tokens else None,
        tokens_unknown=unknown_tokens,
        cost_usd=sum(step.cost_usd or 0.0 for step in priced) if priced or not unknown_cost else None,
        cost_unknown=unknown_cost,
        served_calls=len(served),
        sent_usd=sum(step.cost_usd or 0.0 for step in sent) if sent or not unknown_sent else None,
        wall_ns=wall_ns,
    )


def _relation(first: WholeRun, second: WholeRun) -> Relation:
    if first.record_id == second.record_id:
        return "same"
    if second.forked_at is not None and second.parent == first.record_id:
        return "fork"
    if first.forked_at is not None and first.parent == second.record_id:
        return "fork_of"
    if second.rerun_of == first.record_id:
        return "rerun"
    if first.rerun_of == second.record_id:
        return "rerun_of"
    origins = [run.parent if run.forked_at is not None else run.rerun_of for run in (first, second)]
    return "siblings" if origins[0] is not None and origins[0] == origins[1] else ""


def _context_diff(first: _OpenRun, second: _OpenRun, pair: StepPair) -> ContextDiff | None:
    if pair.first is None or pair.second is None or not {"request", "settings"} & set(pair.differs):
        return None
    one, other = first.run.steps[pair.first], second.run.steps[pair.second]
    if one.kind != "model":
        return None
    before = first.readers[one.record_id].event(one.seq_num)
    after = second.readers[other.record_id].event(other.seq_num)
    if before.context is None or after.context is None:
        return None
    return compute_context_diff(
        before.context, after.context, before, after, from_tokens=one.input_tokens, to_tokens=other.input_tokens
    )
