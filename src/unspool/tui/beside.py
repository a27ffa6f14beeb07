"""A fork beside its parent: the steps of both in two columns, aligned, from where they part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from unspool.cli.listing import answer_cost
from unspool.cli.prices import prices_for
from unspool.cli.runs import descendants
from unspool.cli.table import clip, display_width
from unspool.errors import RecordingNotFound
from unspool.events import RecordMetadata
from unspool.replay.pairs import StepPair
from unspool.replay.runs import RunsDiff, diff_runs
from unspool.replay.steps import RunStep
from unspool.store import Store
from unspool.text import show_text
from unspool.tui.details import Shown
from unspool.tui.pane import PaneLine
from unspool.tui.spans import Place

__all__ = ["Counterpart", "counterpart_at", "origin_of", "parent_diff", "parent_lines"]

_RESET, _BOLD, _DIM = "\x1b[0m", "\x1b[1m", "\x1b[90m"
# Without colour the mark tells what is the matter with a line.
_PAINTS: Final = {"=": "", "~": "\x1b[33m", "+": "\x1b[32m", "-": "\x1b[91m", "·": _DIM}
_LEGEND: Final = "= the same   ~ differs   + only here   - only in the parent   · inside a served tool"
_LINES_MAX: Final = 20_000


@dataclass(frozen=True)
class Counterpart:
    """What a line leads to: the step of the fork, and the one of its parent; None where there is none."""

    here: Place | None
    there: Place | None


def origin_of(metadata: RecordMetadata) -> str | None:
    """The recording a fork, or a rerun, comes from; None for a run of its own."""
    return metadata.parent if metadata.forked_at is not None else metadata.rerun_of


def parent_diff(store: Store, metadata: RecordMetadata) -> RunsDiff | None:
    """A fork and its parent aligned step by step, the parent first; None for a run of its own.

    Raises:
        RecordingNotFound: the parent was removed.
        CorruptRecording: one of them cannot be read.
    """
    origin = origin_of(metadata)
    if origin is None:
        return None
    # The name stands in a file that anybody may have written.
    if Path(origin).name != origin or not (store.records / origin).is_dir():
        raise RecordingNotFound(origin, store.records)
    folders = [
        [store.records / name, *(store.records / one.record_id for one in descendants(store, name))]
        for name in (origin, metadata.record_id)
    ]
    return diff_runs(*folders, price=partial(answer_cost, prices_for(store)))


def parent_lines(diff: RunsDiff | None, width: int) -> Shown:
    """The two columns, the fork on the left; it begins where the runs part."""
    if diff is None:
        return Shown([PaneLine("This run is no fork, so nothing stands beside it. f makes one from the cursor.")])
    column = max((width - 5) // 2, 10)
    here, there = show_text(diff.second.record_id), show_text(diff.first.record_id)
    head = f"  {_cell(here, column)} │ {clip(f'its parent {there}', column)}"
    lines = [PaneLine(f"{_BOLD}{head}{_RESET}"), PaneLine(f"{_DIM}{_LEGEND}{_RESET}")]
    if diff.parting is None:
        lines.append(PaneLine("The two runs did the same."))
    top = 0
    for number, pair in enumerate(diff.pairs[:_LINES_MAX]):
        if number == diff.parting:
            top = max(len(lines) - 2, 0)
            lines.append(PaneLine(f"{_BOLD}{'─── here they part ':─<{max(width - 1, 20)}}{_RESET}"))
        lines.append(_line(pair, diff, column))
    if len(diff.pairs) > _LINES_MAX:
        rest = f"… {len(diff.pairs) - _LINES_MAX:,} more steps: unspool diff {there} {here}"
        lines.append(PaneLine(f"{_DIM}{rest}{_RESET}"))
    return Shown(lines, top)


def counterpart_at(lines: Sequence[PaneLine], place: Place) -> Counterpart | None:
    """The last step of the fork that began at or before an event of it."""
    found: Counterpart | None = None
    for line in lines:
        target = line.target
        if isinstance(target, Counterpart) and target.here is not None and target.here.record_id == place.record_id:
            if (target.here.seq_num or 0) > (place.seq_num or 0):
                break
            found = target
    return found


def _line(pair: StepPair, diff: RunsDiff, column: int) -> PaneLine:
    there = None if pair.first is None else diff.first.steps[pair.first]
    here = None if pair.second is None else diff.second.steps[pair.second]
    mark = "·" if pair.covered else "-" if here is None else "+" if there is None else "~" if pair.differs else "="
    text = f"{mark} {_cell(_said(here), column)} │ {clip(_said(there), column)}"
    paint = _PAINTS[mark]
    return PaneLine(f"{paint}{text}{_RESET if paint else ''}", Counterpart(_place(here), _place(there)))


def _place(step: RunStep | None) -> Place | None:
    return None if step is None else Place(step.record_id, step.seq_num)


def _said(step: RunStep | None) -> str:
    if step is None:
        return ""
    what = f"call {step.call}" if step.kind == "model" and step.call is not None else step.name.rpartition("/")[2]
    came = f"✗ {step.error}" if step.error else f"→ {step.answered}" if step.answered is not None else "→ no answer"
    return show_text(f"#{step.seq_num:03d} {what} {came}", 300)


def _cell(text: str, columns: int) -> str:
    cut = clip(text, columns)
    return cut + " " * (columns - display_width(cut))
