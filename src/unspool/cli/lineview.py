"""Events as lines on a stream, filtered, with a closing table."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Any

from msgspec import structs

from unspool.cli.filters import EventFilter
from unspool.errors import UsageError
from unspool.events import RecordEvent
from unspool.recording.reader import RecordReader
from unspool.strace import Options, StatsRow, StraceStats, format_record_event, format_stats
from unspool.text import dump_json

__all__ = ["LineView", "output"]


class LineView:
    """Writes the events it is given.

    Args:
        lines: write a line for each; else only the table.
        brief: one line a call: contexts and answers, which each model call brings along, only count in the table.
        stats: write a table of the events shown when it is closed.
        pid_prefix: mark each line with `[pid N]`.
    """

    def __init__(
        self,
        out: IO[str],
        options: Options,
        wanted: EventFilter,
        *,
        lines: bool,
        stats: bool,
        pid_prefix: bool,
        brief: bool = False,
    ) -> None:
        self._out = out
        self._options = options
        self._wanted = wanted
        self._lines = lines
        self._brief = brief
        self._stats = StraceStats() if stats else None
        self._pid_prefix = pid_prefix

    def add(self, reader: RecordReader, event: RecordEvent) -> None:
        """Write an event, given as it is on disk, if it is wanted."""
        if not self._wanted.wants(event):
            return
        if self._stats is not None:
            self._stats.add(event)
        if self._lines and not (self._brief and (event.context is not None or event.llm is not None)):
            line = format_record_event(reader.whole(event), self._options, pid_prefix=self._pid_prefix)
            self._out.write(line + "\n")

    def flush(self) -> None:
        """Show what was written."""
        self._out.flush()

    def close(self) -> None:
        """Write the table, if one was asked for."""
        if self._stats is None:
            return
        if self._options.json:
            rows = [_row_json(row) for row in self._stats.rows()]
            self._out.write(dump_json({"stats": rows, "total": _row_json(self._stats.total())}) + "\n")
        else:
            gap = "\n" if self._lines else ""
            self._out.write(gap + format_stats(self._stats, self._options.color) + "\n")
        self.flush()


def _row_json(row: StatsRow) -> dict[str, Any]:
    return {**structs.asdict(row), "mean_ns": row.mean_ns}


def output(path: str | None, default: IO[str], *, force: bool) -> AbstractContextManager[IO[str]]:
    """The file at `path`, or `default`, which is left open.

    Raises:
        UsageError: the file exists and `force` is not set.
    """
    if path is None:
        return nullcontext(default)
    try:
        return Path(path).open("w" if force else "x", encoding="utf-8")
    except FileExistsError as exc:
        raise UsageError(f"{path} exists. Replace it with --force, or choose another file.") from exc
