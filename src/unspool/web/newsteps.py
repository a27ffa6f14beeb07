"""Steps of a run that goes on, as rows made from their events alone: on the page long before the run is read again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from unspool.cli import amounts
from unspool.cli.listing import LLM_PREFIX, TOOL_PREFIXES
from unspool.durations import format_duration
from unspool.errors import UnspoolError
from unspool.events import RecordEvent, RecordMetadata
from unspool.recording.reader import RecordReader
from unspool.text import cut, display_value
from unspool.trace.names import call_name
from unspool.trace.spans import instant_ns
from unspool.web.links import PageLinks
from unspool.web.render import macro, short
from unspool.web.shelf import Shelf
from unspool.web.steps import TEXT, StepRow, answer_line

__all__ = ["NewSteps"]

_MOST: Final = 50  # rows at once; whoever falls so far behind reads the page again
_CALLS: Final = 200  # model calls whose answer is waited for


class NewSteps:
    """What came into the recordings of a run since the last look."""

    def __init__(self, shelf: Shelf, root: str) -> None:
        self._shelf, self._root = shelf, root
        self._start_ns = 0
        self._positions: dict[str, int] = {}
        self._calls: dict[tuple[str, int], StepRow] = {}

    def look(self, record_ids: Sequence[str], *, is_first: bool = False) -> list[str]:
        """Rows as markup; none at the first look, which says what is known already."""
        rows: list[StepRow] = []
        for record_id in record_ids:
            try:
                with self._shelf.readers.lend(record_id) as reader:
                    if record_id == self._root:
                        self._start_ns = instant_ns(reader.metadata.start_time)
                    start = self._positions.get(record_id, 0)
                    self._positions[record_id] = reader.event_count
                    if not is_first:
                        rows += self._rows(reader, max(start, reader.event_count - 20 * _MOST))
            except UnspoolError:
                continue  # gone, or damaged: the page itself says so
        latest = {(row.record_id, row.seq_num): row for row in rows}
        return [macro("parts.html", "step_row", row) for row in list(latest.values())[-_MOST:]]

    def _rows(self, reader: RecordReader, start: int) -> list[StepRow]:
        found = []
        for event in reader.bare_events(start):
            path = event.syscall.args.get("path") if event.syscall is not None else None
            if event.llm is not None and event.call is not None:
                row = self._calls.pop((reader.record_id, event.call), None)
                if row is not None:
                    found.append(_answered(reader, event, row))
            elif isinstance(path, str) and path.startswith((LLM_PREFIX, *TOOL_PREFIXES)):
                row = self._row(reader, event, path)
                if row.kind == "tool" and event.span_id is None and not row.duration_ns:
                    continue  # no step on the page either: an instant of a call that is recorded elsewhere
                found.append(row)
                if row.kind == "llm" and event.call is not None:
                    self._calls[reader.record_id, event.call] = row
        while len(self._calls) > _CALLS:
            del self._calls[next(iter(self._calls))]
        return found

    def _row(self, reader: RecordReader, event: RecordEvent, path: str) -> StepRow:
        data = reader.whole(event).syscall
        assert data is not None  # it has a path
        is_model = path.startswith(LLM_PREFIX)
        metadata = reader.metadata
        start = max(instant_ns(metadata.start_time) + event.timestamp - self._start_ns, 0)
        given = data.args.get("input", {name: value for name, value in data.args.items() if name != "path"})
        said = data.result if isinstance(data.result, str) else display_value(data.result, TEXT)
        name = path.rpartition("/")[2] if is_model else call_name(data.syscall, path, data.args)
        return StepRow(
            kind="llm" if is_model else "tool",
            name=cut(name, 160),
            href=PageLinks().step(reader.record_id, event.seq_num),
            record_id=reader.record_id, seq_num=event.seq_num, agent=_agent_of(metadata), lane=0,
            at=f"+{format_duration(start)}", start_ns=start,
            duration=format_duration(data.duration), duration_ns=data.duration, critical="",
            status="error" if data.err else "ok", error=cut(data.err, TEXT),
            asked="" if is_model else display_value(given, TEXT) if given else "",
            said="" if is_model or data.result is None else cut(" ".join(said[:2000].split()), TEXT),
            tokens="", cost="", call=event.call, step=event.step, origin=event.origin or "",
            retry=bool(data.args.get("retry")), where=event.at or "",
        )  # fmt: skip


def _agent_of(metadata: RecordMetadata) -> str:
    return "" if metadata.parent is None else short(metadata.intent or f"PID {metadata.pid}", 60)


def _answered(reader: RecordReader, event: RecordEvent, row: StepRow) -> StepRow:
    data = event.llm
    assert data is not None  # it is an answer
    said = data if data.text is not None or data.response is None else reader.response_of(event) or data
    tokens = f"{amounts.tokens(data.request_tokens)} → {amounts.tokens(data.response_tokens)}"
    return replace(row, said=cut(answer_line(said), TEXT), tokens=tokens, name=cut(data.model or row.name, 160))
