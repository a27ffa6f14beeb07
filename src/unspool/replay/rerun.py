"""A rerun, prepared before the program is started and judged when it has ended. What starts it is `cli.supervise`.

`prepare` writes the folder by which the processes of the rerun are told what to serve; `judge` reads what they wrote
there and in their recordings, and says what was proved.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct, field

from unspool.errors import StoreError
from unspool.events import RecordMetadata, RecordStatus
from unspool.recording.reader import RecordReader
from unspool.replay.divergence import DivergenceReport, explain
from unspool.replay.nearest import Recorded, place_of
from unspool.replay.outputs import OutputComparison, compare_outputs
from unspool.replay.scene import Scene
from unspool.serving.journal import Entry, read_journal
from unspool.serving.plan import CLAIMS_NAME, Offer, Plan, Source, write_plan
from unspool.serving.tools import covered
from unspool.store import Store, new_hex_id

__all__ = ["RERUNS_NAME", "Outcome", "Surroundings", "ToolUse", "judge", "prepare", "remove_folder"]

RERUNS_NAME: Final = "reruns"
_REACHED: Final = "reached"

Status = Literal["identical", "forked", "different", "diverged", "failed"]


class Surroundings(Struct):
    """What around the program is not as it was when it was recorded.

    Attributes:
        missing: names of environment variables that were set then and are not now.
        placeholders: names of credentials that were set then; the program got a placeholder.
        versions: what has another version: name, then, now.
        notes: anything else, in words.
    """

    missing: list[str] = field(default_factory=list)
    placeholders: list[str] = field(default_factory=list)
    versions: list[tuple[str, str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class ToolUse(Struct, frozen=True):
    """Calls of a tool that really ran, though the recording has their results.

    Attributes:
        path: the tool's device path.
        reason: why.
        count: how many calls.
        at: where the first of them was made.
    """

    path: str
    reason: str
    count: int
    at: str | None = None


class Outcome(Struct, kw_only=True):
    """What came of a rerun or fork.

    Attributes:
        status: `identical`: every recorded call was made and served, standard output and exit code are the same.
            `forked`: the target of a fork was reached. `different`: every call was the same, what the program wrote or
            its exit code was not, or is not known. `diverged`: it asked for something else, or did not ask. `failed`:
            nothing was recorded, so that nothing is known.
        source: the recording that was run again.
        rerun: the recording of the rerun, None if nothing was recorded.
        kept: whether that recording is still there.
        folder: the rerun's folder, if it was kept.
        program_exit, recorded_exit: exit codes, 128+N for signal N; None is unknown.
        exchanges: recorded model calls and HTTP requests, and how many of them were served for a request that was the
            same byte for byte (`same_bytes`) or the same JSON (`same_json`).
        tools: recorded tool calls, and how many of them were `tools_served`.
        inside_tools: recorded exchanges and tool calls besides these, made inside of tools that were served.
        live: exchanges that were sent for real.
        edited: those of a fork that were edited.
        stdout: whether standard output was the same; None if that is not asked (a fork).
    """

    status: Status
    source: str
    rerun: str | None = None
    kept: bool = True
    folder: str | None = None
    program_exit: int | None = None
    recorded_exit: int | None = None
    exchanges: int = 0
    same_bytes: int = 0
    same_json: int = 0
    tools: int = 0
    tools_served: int = 0
    inside_tools: int = 0
    tools_live: list[ToolUse] = field(default_factory=list)
    live: int = 0
    edited: int = 0
    stdout: OutputComparison | None = None
    divergences: list[DivergenceReport] = field(default_factory=list)
    not_made: list[Recorded] = field(default_factory=list)
    pins: list[Entry] = field(default_factory=list)
    touched: list[Entry] = field(default_factory=list)
    denied: list[Entry] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    surroundings: Surroundings = field(default_factory=Surroundings)

    @property
    def exit_code(self) -> int:
        """That of the command line: 0 only for what is proved, or a fork that got there; 3 for a divergence."""
        return {"identical": 0, "forked": 0, "diverged": 3, "different": 1, "failed": 1}[self.status]


def prepare(store: Store, plan: Plan, offers: Sequence[Offer]) -> Path:
    """Make the folder of a rerun: what may be served, under which rules.

    Raises:
        StoreError: it cannot be made.
    """
    folder = store.path / RERUNS_NAME / new_hex_id()[:16]
    try:
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700)
        write_plan(folder, plan, list(offers))
    except OSError as exc:
        remove_folder(folder)
        raise StoreError(f"cannot prepare the rerun in {folder}: {exc.strerror or exc}. Nothing was started.") from exc
    return folder


def remove_folder(folder: Path) -> None:
    """Remove the folder of a rerun; one that is gone, or cannot be removed, harms nobody."""
    shutil.rmtree(folder, ignore_errors=True)


def judge(
    folder: Path,
    plan: Plan,
    offers: Sequence[Offer],
    *,
    records: Sequence[RecordMetadata],
    records_dir: Path,
    program_exit: int | None,
    surroundings: Surroundings,
) -> Outcome:
    """What came of a rerun that has ended.

    Args:
        folder: its folder.
        plan: as it was prepared.
        offers: as they were prepared.
        records: what the rerun recorded, the first process first.
        records_dir: the folder of recordings.
        program_exit: exit code of the program, 128+N for signal N.
        surroundings: what else is known to be different; versions are added.

    Raises:
        StoreError: the rerun's folder, or a recording that was served, is gone or cannot be read.
    """
    try:
        journal, claims = read_journal(folder), set(os.listdir(folder / CLAIMS_NAME))
    except (OSError, msgspec.DecodeError) as exc:
        raise StoreError(f"the rerun's folder {folder} cannot be read: {exc}. What was proved is not known.") from exc
    with ExitStack() as stack:
        readers = {
            source.record_id: stack.enter_context(RecordReader(Path(source.path), live=True)) for source in plan.sources
        }
        made = _made(journal)
        served_tools = {entry.offer for entry in journal if entry.kind == "tool" and entry.match == "served"}
        inside = covered(offers, [number for number in served_tools if number is not None])
        wanted = [offer for offer in offers if offer.number not in inside]
        scene = Scene(folder, plan, offers, journal, made, readers)
        divergences = [explain(entry, scene) for entry in journal if entry.kind == "divergence"]
        root = readers[plan.root].metadata
    outcome = Outcome(
        status="identical",
        source=plan.root,
        rerun=records[0].record_id if records else None,
        program_exit=program_exit,
        recorded_exit=root.exit_code,
        divergences=divergences,
        surroundings=surroundings,
        not_made=[place_of(offer) for offer in wanted if offer.number not in made and _can_be_made(offer)],
    )
    _count(outcome, wanted, journal)
    outcome.inside_tools = len(inside)
    _compare_surroundings(outcome.surroundings, root, records)
    if plan.target is None:
        outcome.stdout = compare_outputs(
            [
                Path(source.path)
                for source in plan.sources
                if source.record_id == plan.root or _was_cast(claims, source)
            ],
            [records_dir / one.record_id for one in _like_recorded(records, plan, root)],
            frozenset(offer.span for offer in offers if offer.span is not None and offer.number in served_tools),
        )
    _note_oddities(outcome, root, records)
    outcome.status = _status(outcome, reached=_REACHED in claims, is_fork=plan.target is not None)
    return outcome


def _made(journal: Iterable[Entry]) -> frozenset[int]:
    """Numbers of the offers whose call was made. A claim alone is none: a process claims before it finds out."""
    kinds = ("served", "edited", "live", "tool")
    return frozenset(entry.offer for entry in journal if entry.offer is not None and entry.kind in kinds)


def _like_recorded(records: Sequence[RecordMetadata], plan: Plan, root: RecordMetadata) -> list[RecordMetadata]:
    """The rerun's recordings with that of the root's program first: a shell script may start several at once."""
    if sum(source.parent is None for source in plan.sources) == 1:
        return list(records)
    return sorted(records, key=lambda one: one.command != root.command)


def _was_cast(claims: set[str], source: Source) -> bool:
    """Whether a process of the rerun took this recording; what a served tool had started does not run again."""
    return f"process-{source.record_id}" in claims


def _can_be_made(offer: Offer) -> bool:
    """Whether the end of the recording did not cut this call off: then nobody knows what it would have been."""
    return offer.syscall is not None


def _count(outcome: Outcome, wanted: Sequence[Offer], journal: Sequence[Entry]) -> None:
    """The tallies, and the lists that stand in the journal as they are reported."""
    kinds = {offer.number: offer.kind for offer in wanted}
    outcome.exchanges = sum(kind != "tool" for kind in kinds.values())
    outcome.tools = sum(kind == "tool" for kind in kinds.values())
    live_tools: dict[tuple[str, str], ToolUse] = {}
    for entry in journal:
        match entry.kind:
            case "served":
                outcome.same_bytes += entry.match == "bytes"
                outcome.same_json += entry.match != "bytes"
            case "tool" if entry.match == "served":
                outcome.tools_served += 1
            case "tool":
                key = entry.path or "?", entry.reason or "its result could not be given back"
                before = live_tools.get(key)
                live_tools[key] = ToolUse(*key, before.count + 1 if before else 1, before.at if before else entry.at)
            case "live":
                outcome.live += 1
            case "edited":
                outcome.edited += 1
            case "pin":
                outcome.pins.append(entry)
            case "touched":
                outcome.touched.append(entry)
            case "denied":
                outcome.denied.append(entry)
            case "note" if entry.reason:
                outcome.notes.append(entry.reason)
    outcome.tools_live = list(live_tools.values())


def _compare_surroundings(about: Surroundings, before: RecordMetadata, records: Sequence[RecordMetadata]) -> None:
    if not records:
        return
    now = records[0]
    pairs = [("Python", before.python, now.python), ("unspool", before.unspool, now.unspool)]
    pairs += [(name, version, (now.packages or {}).get(name)) for name, version in (before.packages or {}).items()]
    about.versions += [(name, old, new) for name, old, new in pairs if old and new and old != new]
    if before.host is not None and now.host is not None and before.host != now.host:
        about.versions.append(("host", before.host, now.host))


def _note_oddities(outcome: Outcome, root: RecordMetadata, records: Sequence[RecordMetadata]) -> None:
    if not records:
        outcome.notes.append("the program was not captured this time (a message above may say why): nothing was served")
    if root.status is RecordStatus.INTERRUPTED:
        outcome.notes.append("the recording was interrupted: it ends before the program did")
    lost = sum(one.lost_events for one in records)
    if root.lost_events:
        outcome.notes.append(
            f"the recording lost {root.lost_events} events when it was made (disk full): they cannot be served"
        )
    if lost:
        outcome.notes.append(f"the rerun's own recording lost {lost} events (disk full)")


def _status(outcome: Outcome, *, reached: bool, is_fork: bool) -> Status:
    if outcome.divergences:
        return "diverged"
    if outcome.rerun is None:
        return "failed"
    if is_fork:
        return "forked" if reached else "diverged"
    if outcome.not_made:
        return "diverged"
    same_exit = outcome.recorded_exit is None or outcome.recorded_exit == outcome.program_exit
    same_output = outcome.stdout is not None and outcome.stdout.verdict == "identical"
    return "identical" if same_exit and same_output and not outcome.live else "different"
