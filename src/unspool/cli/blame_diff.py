"""What made one run slower or dearer than another, for people and for programs."""

from __future__ import annotations

from typing import Any, Final

from unspool.cli import amounts
from unspool.cli.table import Column, format_table
from unspool.cli.terminal import bold
from unspool.durations import format_duration
from unspool.text import show_text
from unspool.trace.compare import Comparison, Measure, PathDelta, PathTotals

__all__ = ["comparison_json", "comparison_text"]

_NAME: Final = 40
_COLUMNS: Final = 39  # of the table beside the names
_MEASURES: Final[tuple[Measure, ...]] = ("time", "cost", "tokens", "errors")
_MORE: Final = {
    "time": ("slower", "faster", "time"),
    "cost": ("dearer", "cheaper", "cost"),
    "tokens": ("use more tokens", "use fewer tokens", "tokens"),
    "errors": ("fail more", "fail less", "errors"),
}


def comparison_text(
    found: Comparison,
    names: tuple[str, str],
    *,
    by: Measure | None,
    rows: int,
    color: bool,
    width: int | None,
    timed: bool = True,
) -> str:
    """A table for each measure (or the one that `by` names), whose lines sum to the difference. No final newline.

    Args:
        timed: whether the times of both are known.
    """
    first, second = (show_text(name) for name in names)
    lines = [bold(f"{second} against {first}", color), *_summary(found, timed)]
    for measure in _MEASURES if by is None else (by,):
        if measure == "time" and not timed:
            lines += ["", "The times of one of them are not known."]
            continue
        if measure == "cost" and not found.has_cost:
            if by == "cost":
                lines += ["", "The cost of one of them is not known: its models have no known price."]
            continue
        if found.ranked(measure):
            lines += ["", *_table(found, measure, rows, color, width)]
        elif by is not None:
            lines += ["", f"No difference in {_MORE[measure][2]}."]
    return "\n".join(lines)


def _summary(found: Comparison, timed: bool) -> list[str]:
    lines = []
    for measure in _MEASURES:
        if (measure == "cost" and not found.has_cost) or (measure == "time" and not timed):
            continue
        before, after, change = (_of(found.before, measure), _of(found.after, measure), found.change(measure))
        if not before and not after:
            continue
        factor = f", {after / before:.2f}×" if before and change else ""
        word = "the same" if not change else _signed(change, measure) + factor
        lines.append(f"  {measure:<7} {_shown(before, measure)} → {_shown(after, measure)}  ({word})")
    return lines


def _table(found: Comparison, measure: Measure, rows: int, color: bool, width: int | None) -> list[str]:
    ranked = found.ranked(measure)
    total = found.change(measure)
    more, fewer, _ = _MORE[measure]
    title = (
        f"What made it {fewer if total < 0 else more}"
        if total
        else f"What differs in {measure}, though the sum is the same"
    )
    kept = ranked if len(ranked) <= rows + 1 else _strongest(ranked, rows, measure)
    cells = [
        [
            _signed(delta.change(measure), measure),
            _shown(_of(delta.before, measure), measure),
            _shown(_of(delta.after, measure), measure),
            _why(delta, measure),
            _path(delta, measure, None if width is None else max(width - _COLUMNS, 24)),
        ]
        for delta in kept
    ]
    if len(kept) < len(ranked):
        shown = {id(delta) for delta in kept}
        rest = sum(delta.change(measure) for delta in ranked if id(delta) not in shown)
        cells.append([_signed(rest, measure), "", "", "", amounts.counted(len(ranked) - len(kept), "other")])
    cells.append([_signed(total, measure), _shown(_of(found.before, measure), measure),
                  _shown(_of(found.after, measure), measure), "", "sum"])  # fmt: skip
    columns = (
        Column("CHANGE", "right"), Column("BEFORE", "right", gives_way=1), Column("AFTER", "right", gives_way=1),
        Column("CALLS", gives_way=2), Column("WHERE", flexible=True, least=24),
    )  # fmt: skip
    text = format_table(columns, cells, width - 2 if width is not None else None, color=color)
    return [bold(title, color), *(f"  {line}" for line in text.splitlines())]


def _strongest(ranked: list[PathDelta], rows: int, measure: Measure) -> list[PathDelta]:
    """The largest changes in either direction, in their order."""
    largest = sorted(ranked, key=lambda delta: -abs(delta.change(measure)))[:rows]
    chosen = {id(delta) for delta in largest}
    return [delta for delta in ranked if id(delta) in chosen]


def _why(delta: PathDelta, measure: Measure) -> str:
    """`3 → 7`, `only before`, `only after`, or how many there are in both."""
    before, after = delta.before.calls, delta.after.calls
    if before == after:
        return f"{before}"
    if not before or not after:
        return f"{before or after}, only {'after' if after else 'before'}"
    return f"{before} → {after}"


def _path(delta: PathDelta, measure: Measure, room: int | None) -> str:
    """The names from the root down; on a narrow screen the last ones, which say what it is."""
    own = "own code of " if measure == "time" else ""
    if not delta.path:
        return f"{own}the root"
    names = [show_text(name, _NAME) for name in delta.path]
    own = own if delta.kind == "agent" else ""
    start = 0
    while room is not None and start < len(names) - 1 and len(own) + len(" > ".join(names[start:])) + 4 > room:
        start += 1
    return own + ("… > " if start else "") + " > ".join(names[start:])


def _of(totals: PathTotals, measure: Measure) -> float:
    return {"time": totals.time, "tokens": totals.tokens, "cost": totals.cost_usd, "errors": totals.errors}[measure]


def _shown(value: float, measure: Measure) -> str:
    if measure == "time":
        return format_duration(int(value))
    return amounts.cost(value) if measure == "cost" else f"{int(value):,}"


def _signed(value: float, measure: Measure) -> str:
    text = _shown(abs(value), measure)
    return f"{'-' if value < 0 else '+'}{text}"


def comparison_json(found: Comparison, names: tuple[str, str]) -> dict[str, Any]:
    """All differences, the largest in time first; the changes of each measure sum to those of the totals."""
    return {
        "before": {"name": names[0], **_totals(found.before)},
        "after": {"name": names[1], **_totals(found.after)},
        "change": {_KEYS[measure]: found.change(measure) for measure in _MEASURES},
        "cost_known": found.has_cost,
        "deltas": [
            {
                "path": list(delta.path),
                "kind": delta.kind,
                "change": {_KEYS[measure]: delta.change(measure) for measure in _MEASURES},
                "before": _totals(delta.before),
                "after": _totals(delta.after),
            }
            for delta in sorted(found.deltas, key=lambda one: (-abs(one.change("time")), one.path))
        ],
    }


_KEYS: Final[dict[Measure, str]] = {"time": "time_ns", "cost": "cost_usd", "tokens": "tokens", "errors": "errors"}


def _totals(totals: PathTotals) -> dict[str, Any]:
    return {
        "calls": totals.calls,
        "time_ns": totals.time,
        "tokens": totals.tokens,
        "cost_usd": totals.cost_usd,
        "errors": totals.errors,
    }
