"""`unspool ls`: recordings, newest first."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import islice
from typing import Any, Final

import click

from unspool.catalog.catalog import Catalog
from unspool.catalog.entries import Entry
from unspool.catalog.sums import Sums, Totals, total
from unspool.catalog.words import Found, Words
from unspool.cli import amounts
from unspool.cli.moments import WAYS, moment
from unspool.cli.options import DOLLARS, Command, json_option, store_option
from unspool.cli.prices import prices_for, prices_option
from unspool.cli.runs import Row, bisect_of, fold_bisects, fold_workers
from unspool.cli.table import Column, format_table
from unspool.cli.terminal import hint, put, use_color, width
from unspool.events import RecordMetadata, RecordStatus
from unspool.store import Store, find_store
from unspool.text import dump_json, show_text

__all__ = ["ls", "row_json", "state_text"]

_COLUMNS = (
    Column("ID"),
    Column("STATE"),
    Column("AGE", "right", gives_way=4),
    Column("STEPS", "right", gives_way=3),
    Column("CALLS", "right", gives_way=5),
    Column("TOKENS", "right", gives_way=2),
    Column("COST", "right", gives_way=1),
    Column("ERR", "right"),
    Column("INTENT", flexible=True, least=16),
)


_SAY_FROM: Final = 200  # recordings to be read for the first time from which a person is told why it takes a while
_AROUND: Final = 40


def _moment(end: bool) -> Callable[[click.Context, click.Parameter, str | None], datetime | None]:
    def parse(_context: click.Context, _param: click.Parameter, value: str | None) -> datetime | None:
        found = moment(value, end=end) if value is not None else None
        if value is not None and found is None:
            raise click.BadParameter(f"{value!r} is no time. Give {WAYS}")
        return found

    return parse


@click.command(cls=Command)
@click.argument("text", required=False)
@click.option(
    "--limit", "-n", type=click.IntRange(min=0), default=20, show_default=True, help="How many; 0 lists all of them."
)
@click.option("--search", "-s", metavar="TEXT", help="Only those with TEXT in a message, a tool's result or an error.")
@click.option("--since", metavar="TIME", callback=_moment(end=False), help="Only those begun since: 7d, today, a date.")
@click.option("--until", metavar="TIME", callback=_moment(end=True), help="Only those begun until then.")
@click.option("--min-cost", type=DOLLARS, metavar="USD", help="Only those that cost as much.")
@click.option("--max-cost", type=DOLLARS, metavar="USD", help="Only those that cost no more.")
@click.option("--errors", is_flag=True, help="Only those with errors.")
@click.option("--model", metavar="NAME", help="Only those that called this model.")
@click.option("--tool", metavar="NAME", help="Only those that used this tool.")
@click.option("--flat", is_flag=True, help="A line for each worker and each fork of a bisect too, not one for all.")
@prices_option
@store_option
@json_option
def ls(
    text: str | None,
    limit: int,
    search: str | None,
    *,
    flat: bool,
    prices: str | None,
    store: str | None,
    as_json: bool,
    **wanted: Any,
) -> None:
    """List recordings, newest first.

    TEXT keeps those whose id, intent, command or state has it; --search looks into what was said. A worker is a process
    that an agent started by itself; its calls count in the line of that agent. The forks of a bisect are one line,
    where the first of them stands. TOKENS are read and written; COST is by public prices; ? is unknown, + marks a sum
    that lacks some calls, and ! a recording that lost events (disk full, file damaged).

    \b
        unspool ls
        unspool ls nightly -n 5 --json
        unspool ls --search "no index" --since 7d --min-cost 0.50
    """
    place = find_store(store)
    with Catalog(place, prices_for(place, prices)) as catalog:
        narrow = _Narrow(catalog, text, search, **wanted)
        records = (entry.metadata for entry in narrow.entries())
        rows: Iterator[Row] = fold_workers(place, records) if not flat else map(Row, records)
        if not flat and not as_json:
            rows = fold_bisects(rows)
        fitting = (row for row in rows if narrow.fits(row))
        shown = list(islice(fitting, min(limit, sys.maxsize) or None))
        if as_json:
            put(dump_json([row_json(row, narrow.totals(row)) | narrow.place(row) for row in shown]))
        elif shown:
            lines = [_cells(row, narrow.totals(row)) for row in shown]
            put(format_table(_COLUMNS, lines, width(), color=use_color()))
            if limit and len(shown) == limit and next(fitting, None) is not None:
                hint(f"The newest {limit}. All of them: unspool ls -n 0")
        else:
            hint(_nothing(place, narrow))


class _Narrow:
    """What a recording must be like to be listed."""

    def __init__(
        self,
        catalog: Catalog,
        text: str | None,
        search: str | None,
        *,
        since: datetime | None,
        until: datetime | None,
        min_cost: float | None,
        max_cost: float | None,
        errors: bool,
        model: str | None,
        tool: str | None,
    ) -> None:
        self._catalog = catalog
        self.text, self.search = text, search
        self._since, self._until = since, until
        self._least, self._most = min_cost, max_cost
        self._errors, self._model, self._tool = errors, model, tool
        self._words = Words(catalog)
        self._found: Found | None = None

    @property
    def is_narrow(self) -> bool:
        """Whether it leaves anything out beside what TEXT does."""
        others = (self._since, self._until, self._least, self._most, self._model, self._tool)
        return self.search is not None or self._errors or any(one is not None for one in others)

    def entries(self) -> Iterator[Entry]:
        """All entries, the newest first; only as many are read as are asked for, unless texts are searched."""
        if not self.is_narrow:
            yield from self._catalog.entries()
            return
        look = self._catalog.look()
        if len(look.unread) >= _SAY_FROM:
            hint(f"Reading {amounts.counted(len(look.unread), 'recording')} for the first time …")
        entries = list(self._catalog.entries())
        if self.search is not None:
            missing = self._words.missing(entries)
            if len(missing) >= _SAY_FROM:
                hint(f"Reading the texts of {amounts.counted(len(missing), 'recording')} …")
            self._words.index(missing)
            self._found = self._words.search(self.search)
        yield from entries

    def fits(self, row: Row) -> bool:
        """Whether a row is to be shown."""
        began = row.agent.start_time
        if self.text is not None and not _mentions(row, self.text.casefold()):
            return False
        if self._since is not None and (began is None or began < self._since):
            return False
        if self._until is not None and (began is None or began >= self._until):
            return False
        if self._found is not None and not any(one.record_id in self._found.texts for one in row.records):
            return False
        sums = self._sums(row) if self._model or self._tool else []
        if self._model and not any(self._model in one.models for one in sums):
            return False
        if self._tool and not any(self._tool in one.tools for one in sums):
            return False
        return not (self._errors or self._least is not None or self._most is not None) or self._adds_up(row)

    def _adds_up(self, row: Row) -> bool:
        totals = self.totals(row)
        if self._errors and not totals.errors:
            return False
        if self._least is not None and (totals.cost is None or totals.cost < self._least):
            return False
        # A sum that lacks some calls may be higher than it says.
        return self._most is None or (totals.cost is not None and not totals.cost_unknown and totals.cost <= self._most)

    def totals(self, row: Row) -> Totals:
        """What a row adds up to."""
        return total(self._sums(row), self._catalog.book)

    def _sums(self, row: Row) -> list[Sums]:
        # As they were when the row was made: its files were looked at then.
        known = (self._catalog.known(one.record_id) for one in row.records)
        return [one.sums for one in known if one is not None]

    def place(self, row: Row) -> dict[str, Any]:
        """For a program: where the text that was searched for stands; nothing if none was."""
        if self._found is None:
            return {}
        name = next(one.record_id for one in row.records if one.record_id in self._found.texts)
        seq_num, text = self._words.place(self._found, name, _AROUND)
        return {"found": {"record_id": name, "seq_num": seq_num, "text": text}}


def _nothing(store: Store, narrow: _Narrow) -> str:
    if narrow.is_narrow:
        also = f" and {narrow.text!r} in their id, intent, command or state" if narrow.text is not None else ""
        return f"No recordings in {store.path} fit these options{also}."
    if narrow.text is not None:
        return f"No recordings in {store.path} have {narrow.text!r} in their id, intent, command or state."
    return f"No recordings in {store.path}. Make one with: unspool run -- python agent.py"


def _mentions(row: Row, text: str) -> bool:
    return any(
        text in field.casefold()
        for one in row.records
        for field in (one.record_id, one.intent, " ".join(one.command or []), state_text(one), str(one.status))
    )


def state_text(metadata: RecordMetadata) -> str:
    """`running`, `completed`, `exit 1`, `stopped`, `interrupted`."""
    if metadata.status is RecordStatus.RECORDING:
        return "running"
    if metadata.exit_code:
        return f"exit {metadata.exit_code}"
    return str(metadata.status)


def _cells(row: Row, totals: Totals) -> list[str]:
    agent = row.agent
    intent, state = show_text(agent.intent, 200), state_text(agent)
    if row.others:
        state = "running" if any(one.status is RecordStatus.RECORDING for one in row.records) else "completed"
        of = f"of {show_text(agent.parent.partition('-')[0], 20)} " if agent.parent is not None else ""
        intent = f"bisect {of}({amounts.counted(len(row.others) + 1, 'fork')})"
    elif row.workers:
        intent = f"{intent} (+{amounts.counted(len(row.workers), 'worker')})".strip()
    if agent.rerun_of is not None:
        intent = f"rerun of {show_text(agent.rerun_of.partition('-')[0], 20)}: {intent}"
    return [
        show_text(agent.record_id),
        state,
        amounts.age(amounts.seconds_since(agent.start_time)),
        str(totals.steps),
        str(totals.calls),
        amounts.tokens(totals.tokens, more=totals.tokens_unknown > 0),
        amounts.cost(totals.cost, more=totals.cost_unknown > 0),
        f"{totals.errors}" + ("!" if totals.lost else ""),
        intent,
    ]


def row_json(row: Row, totals: Totals) -> dict[str, Any]:
    """A line of the list for a program."""
    agent = row.agent
    return {
        "record_id": agent.record_id,
        "pid": agent.pid,
        "parent_pid": agent.parent_pid,
        "parent": agent.parent,
        "forked_at": agent.forked_at,
        "rerun_of": agent.rerun_of,
        "role": agent.role,
        "intent": agent.intent,
        "status": agent.status,
        "exit_code": agent.exit_code,
        "start_time": agent.start_time,
        "end_time": agent.end_time,
        "age_s": amounts.seconds_since(agent.start_time),
        "command": agent.command,
        "trace_id": agent.trace_id,
        "os_pid": agent.os_pid,
        "workers": [one.record_id for one in row.workers],
        "bisect": found[0] if (found := bisect_of(agent)) is not None else None,
        **totals.to_dict(),
    }
