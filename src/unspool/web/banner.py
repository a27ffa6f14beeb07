"""What is missing from a run, said on top of every page of it: a silent gap misleads."""

from __future__ import annotations

from typing import Final

from unspool.cli import amounts
from unspool.events import RecordStatus
from unspool.trace.spans import is_failing
from unspool.web.shelf import LoadedRun
from unspool.web.steps import Readers

__all__ = ["gaps_of"]

_DAMAGE_MAX: Final = 3


def gaps_of(run: LoadedRun, readers: Readers) -> list[str]:
    """A sentence for each thing that is not there."""
    if run.gaps is None:
        run.gaps = _gaps(run, readers)
    return run.gaps


def _gaps(run: LoadedRun, readers: Readers) -> list[str]:
    found: list[str] = []
    for one in run.records:
        name = f"PID {one.pid}"
        if one.status is RecordStatus.INTERRUPTED:
            found.append(f"{name} was interrupted: its writer died. All that it wrote is here; what came after is not.")
        if one.lost_events:
            found.append(f"{name} lost {amounts.counted(one.lost_events, 'event')} that could not be written.")
        reader = readers.get(one.record_id)
        damage = reader.damage if reader is not None else []
        found += [f"{name}: {item}" for item in damage[:_DAMAGE_MAX]]
        if len(damage) > _DAMAGE_MAX:
            found.append(f"{name}: … and {len(damage) - _DAMAGE_MAX} more damaged places.")
    unknown = sum(span.kind == "llm" and span.tokens_used is None and not is_failing(span) for span in run.spans)
    if unknown:
        found.append(f"{amounts.counted(unknown, 'model call')} did not say how many tokens: sums leave them out.")
    unpriced = sum(bool(span.tokens_used) and span.cost_usd is None for span in run.spans)
    if unpriced:
        found.append(f"{amounts.counted(unpriced, 'model call')} of unknown price: costs leave them out.")
    partial = 0
    for process in run.subject.recorded.processes:
        partial += sum(event.context is not None and event.context.partial is not None for event in process.snapshots)
    if partial:
        found.append(
            f"{amounts.counted(partial, 'context')} not whole: the requests leaned on state that the provider keeps."
        )
    found += [f"Left out: {one}" for one in run.subject.skipped]
    return found + run.subject.tree.notes
