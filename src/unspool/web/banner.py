"""What is missing from a run, said on top of every page of it: a silent gap misleads."""

from __future__ import annotations

from collections import Counter
from typing import Final

from unspool.cli import amounts
from unspool.events import RecordStatus
from unspool.text import show_text
from unspool.trace.spans import is_failing
from unspool.web.readers import Readers
from unspool.web.shelf import LoadedRun, Shelf

__all__ = ["gaps_of"]

_LARGE: Final = 4_000  # spans: below this a page simply waits
_PATIENCE_S: Final = 30.0
_DAMAGE_MAX: Final = 3
_REASONS: Final = 3
_REASON: Final = 300  # characters


def gaps_of(run: LoadedRun, shelf: Shelf, *, is_patient: bool = False) -> tuple[list[str], bool]:
    """A sentence for each thing that is not there, and whether the files are still being looked through for damage.

    Args:
        is_patient: look through the files of a large run before answering.
    """
    if run.gaps is not None:
        return run.gaps, False
    ids = [one.record_id for one in run.records]
    is_patient = is_patient or len(run.spans) <= _LARGE
    found = shelf.workshop.ask(
        ("damage", run.subject.name), shelf.signature(ids), lambda: _damage_of(shelf, ids),
        wait_s=_PATIENCE_S if is_patient else 0.0,
    )  # fmt: skip
    gaps = _gaps(run, found.value or {})
    if found.is_current or run.is_live:
        run.gaps = gaps
    return gaps, run.gaps is None


def _damage_of(shelf: Shelf, record_ids: list[str]) -> dict[str, list[str]]:
    """What cannot be read of each recording."""
    found = {}
    with Readers(shelf.readers) as readers:
        for record_id in record_ids:
            reader = readers.get(record_id)
            found[record_id] = [str(item) for item in reader.damage] if reader is not None else []
    return found


def _gaps(run: LoadedRun, damaged: dict[str, list[str]]) -> list[str]:
    found: list[str] = []
    for one in run.records:
        name = f"PID {one.pid}"
        if one.status is RecordStatus.INTERRUPTED:
            found.append(f"{name} was interrupted: its writer died. All that it wrote is here; what came after is not.")
        if one.lost_events:
            found.append(f"{name} lost {amounts.counted(one.lost_events, 'event')} that could not be written.")
        damage = damaged.get(one.record_id, [])
        found += [f"{name}: {item}" for item in damage[:_DAMAGE_MAX]]
        if len(damage) > _DAMAGE_MAX:
            found.append(f"{name}: … and {len(damage) - _DAMAGE_MAX} more damaged places.")
    unknown = sum(span.kind == "llm" and span.tokens_used is None and not is_failing(span) for span in run.spans)
    if unknown:
        found.append(f"{amounts.counted(unknown, 'model call')} did not say how many tokens: sums leave them out.")
    unpriced = sum(bool(span.tokens_used) and span.cost_usd is None for span in run.spans)
    if unpriced:
        found.append(f"{amounts.counted(unpriced, 'model call')} of unknown price: costs leave them out.")
    found += _partial(run)
    found += _not_in_the_file(run)
    found += [f"Left out: {one}" for one in run.subject.skipped]
    return found + run.subject.tree.notes


def _partial(run: LoadedRun) -> list[str]:
    """Of which contexts a part is not recorded, by the reasons that the recordings give; the most frequent first."""
    reasons = Counter(
        event.context.partial
        for process in run.subject.recorded.processes
        for event in process.snapshots
        if event.context is not None and event.context.partial is not None
    )
    said = [
        f"{amounts.counted(count, 'context')} not whole: {show_text(reason, _REASON) or 'no reason is given'}"
        for reason, count in reasons.most_common(_REASONS)
    ]
    rest = sum(reasons.values()) - sum(count for _, count in reasons.most_common(_REASONS))
    return [*said, f"{amounts.counted(rest, 'more context')} not whole, for other reasons."] if rest else said


def _not_in_the_file(run: LoadedRun) -> list[str]:
    """What the files that a run was imported from do not have, in the words of `unspool show`."""
    missing: dict[str, dict[str, None]] = {}
    for one in run.records:
        origin = one.extra.get("imported")
        words = origin.get("missing") if isinstance(origin, dict) else None
        if isinstance(origin, dict) and isinstance(words, list):
            missing.setdefault(str(origin.get("format", "unknown")), {}).update(dict.fromkeys(map(str, words)))
    return [
        f"Imported ({show_text(name, 40)}). Not in the file: {show_text(', '.join(words), _REASON)}."
        for name, words in missing.items()
        if words
    ]
