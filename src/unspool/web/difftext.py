"""A difference of two contexts as rows of a page: what was kept folded, what was added, removed, edited, moved."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

from unspool.replay.diff import ContextDiff
from unspool.replay.words import WordChange
from unspool.text import display_value
from unspool.web.prose import Cutter
from unspool.web.shelf import LoadedRun

__all__ = ["DiffRow", "Near", "call_named", "calls_of", "diff_rows", "near"]

_CHOICES: Final = 40  # calls before and after that stand in the list
_TEXT: Final = 8_000
_EQUAL: Final = 240  # characters of an unchanged stretch inside an edit that are shown at each end


@dataclass
class DiffRow:
    """A row. `op` is keep, add, remove, edit, move, prompt, tools, param or break; words are (op, text).

    `before` and `after` name the whole texts on either side, as their addresses do, where not all of them is shown.
    """

    op: str
    label: str
    words: list[tuple[str, str]] = field(default_factory=list)
    before: str = ""
    after: str = ""


@dataclass
class Near:
    """Which calls a context can be compared with. `choices` are (event, call); `usual` is the one before.

    `before` and `after` are the events of the calls around it, 0 for none.
    """

    choices: list[tuple[int, int]]
    last_call: int
    usual: int
    before: int
    after: int


def calls_of(run: LoadedRun, record_id: str) -> list[tuple[int, int]]:
    """The contexts of one recording as (event, call)."""
    return [
        (event.seq_num, event.call or number)
        for process in run.subject.recorded.processes
        if process.reader.record_id == record_id
        for number, event in enumerate(process.snapshots, start=1)
    ]


def call_named(calls: list[tuple[int, int]], number: str) -> int:
    """The event of the call with a number; 0 where there is none."""
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        return 0
    return next((seq for seq, call in calls if call == int(number)), 0)


def near(calls: list[tuple[int, int]], from_seq: int, to_seq: int, usual: int) -> Near:
    """The calls to choose from: those around the two, the first and the last. Any other has its number."""
    seqs = [seq for seq, _ in calls]
    at = bisect_left(seqs, to_seq)
    wanted = {seq for seq in seqs[max(at - _CHOICES, 0) : at + _CHOICES] + seqs[:1] + seqs[-1:] if seq != to_seq}
    wanted |= {from_seq, usual}
    return Near(
        choices=[(seq, call) for seq, call in calls if seq in wanted],
        last_call=calls[-1][1] if calls else 0,
        usual=usual,
        before=seqs[at - 1] if at else 0,
        after=seqs[at + 1] if at + 1 < len(seqs) else 0,
    )


def diff_rows(diff: ContextDiff) -> list[DiffRow]:
    """The rows, in the order in which providers read a prompt: settings, tools, system prompt, messages."""
    rows = [
        DiffRow(
            "param", one.path, [("removed", display_value(one.before, 300)), ("added", display_value(one.after, 300))]
        )
        for one in diff.params
    ]
    tools = diff.tools
    rows += [DiffRow("tools", "tool added", [("added", name)]) for name in tools.added]
    rows += [DiffRow("tools", "tool removed", [("removed", name)]) for name in tools.removed]
    for tool in tools.changed:
        words = [
            (op, f"{one.path}: {display_value(value, 200)} ")
            for one in tool.changes
            for op, value in (("removed", one.before), ("added", one.after))
            if value is not None
        ]
        rows.append(DiffRow("tools", f"tool {tool.name}", words))
    if tools.reordered:
        rows.append(DiffRow("tools", "tools in another order"))
    if diff.system_prompt.changed:
        rows.append(_edited(DiffRow("prompt", "system prompt"), diff.prompt_words, "system", "system"))
    edited = {(one.from_index, one.to_index): one for one in diff.messages.edited}
    added, removed = iter(diff.messages.added), iter(diff.messages.removed)
    moved = {one.to_index: one for one in diff.messages.moved}
    cutter = Cutter(_TEXT)
    for step in diff.script:
        if step.op == "keep":
            last = (step.to_index or 0) + step.count
            rows.append(DiffRow("keep", f"{step.count} unchanged, to #{last}"))
        elif step.op == "add":
            text, is_cut = _cut(next(added, ""), cutter)
            row = DiffRow("add", f"#{(step.to_index or 0) + 1} added", [("added", text)])
            row.after = _name(step.to_index) if is_cut else ""
            rows.append(row)
        elif step.op == "remove":
            text, is_cut = _cut(next(removed, ""), cutter)
            row = DiffRow("remove", f"#{(step.from_index or 0) + 1} removed", [("removed", text)])
            row.before = _name(step.from_index) if is_cut else ""
            rows.append(row)
        elif step.op == "edit" and step.from_index is not None and step.to_index is not None:
            one = edited.get((step.from_index, step.to_index))
            label = f"#{step.to_index + 1} edited"
            if one is not None:
                label += f" ({one.role}: {', '.join(one.fields)})"
            changes = one.words if one is not None else []
            rows.append(_edited(DiffRow("edit", label), changes, _name(step.from_index), _name(step.to_index)))
        elif step.op == "move_in" and step.to_index is not None:
            found = moved.get(step.to_index)
            label = f"#{step.to_index + 1} moved from #{(step.from_index or 0) + 1}"
            text, is_cut = _cut(found.text if found is not None else "", cutter)
            row = DiffRow("move", label, [("equal", text)] if found is not None else [])
            row.after = _name(step.to_index) if is_cut else ""
            rows.append(row)
    return rows


def _name(index: int | None) -> str:
    """What the whole text of a message is called in its address."""
    return f"message-{(index or 0) + 1}"


def _cut(text: str, cutter: Cutter) -> tuple[str, bool]:
    shown, left_out = cutter.cut(text)
    return shown + (f"\n… {left_out:,} more characters" if left_out else ""), left_out > 0


def _edited(row: DiffRow, changes: list[WordChange], before: str, after: str) -> DiffRow:
    """The row with its words; with the names of the whole texts, if not all of them is among the words."""
    row.words = _words(changes)
    if any(len(one.text) > (2 * _EQUAL + 40 if one.op == "equal" else _TEXT) for one in changes):
        row.before, row.after = before, after
    return row


def _words(changes: list[WordChange]) -> list[tuple[str, str]]:
    found = []
    for one in changes:
        text = one.text
        if one.op == "equal" and len(text) > 2 * _EQUAL + 40:
            text = f"{text[:_EQUAL]}\n[… {len(text) - 2 * _EQUAL:,} characters unchanged …]\n{text[-_EQUAL:]}"
        elif len(text) > _TEXT:
            text = f"{text[:_TEXT]}… {len(text) - _TEXT:,} more characters"
        found.append((str(one.op), text))
    return found
