"""Where calls, time, errors and tokens went, by resource: the closing table of `strace -c` for agents."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from msgspec import Struct, structs

from unspool.durations import format_duration
from unspool.events import LLMResponseData, RecordEvent, SyscallEventData
from unspool.strace.format import RED, RESET, is_llm_call
from unspool.text import escape_controls

__all__ = ["StatsRow", "StraceStats", "format_stats"]


class StatsRow(Struct):
    """Calls on one resource. Times are nanoseconds; token counts are None while no provider has reported any."""

    resource: str
    calls: int = 0
    errors: int = 0
    total_ns: int = 0
    max_ns: int = 0
    share: float = 0.0
    input_tokens: int | None = None
    output_tokens: int | None = None

    @property
    def mean_ns(self) -> int:
        """Average duration of a call, truncated; 0 without calls."""
        return self.total_ns // self.calls if self.calls else 0


class StraceStats:
    """Adds up events, of any number of processes and in any order.

    Times are those of the calls: calls that ran at once or inside one another all count, so their sum may be more than
    the time that passed.
    """

    def __init__(self) -> None:
        self._rows: dict[str, StatsRow] = {}
        # An answer and its call may come in either order; whichever is first waits here under (pid, call).
        self._resource_of_call: dict[tuple[int, int], str] = {}
        self._answers: defaultdict[tuple[int, int], list[LLMResponseData]] = defaultdict(list)
        # Recordings without call numbers write the answer after its call.
        self._last_llm: dict[int, str] = {}

    def add(self, event: RecordEvent) -> None:
        """Count one event; other kinds than calls and model answers are ignored."""
        if event.syscall is not None:
            self._add_call(event, event.syscall)
        elif event.llm is not None:
            self._add_answer(event, event.llm)

    def rows(self) -> list[StatsRow]:
        """One row a resource, the longest total time first, ties by name.

        `share` is the percentage of the total time of all rows. Answers whose call has not been seen are in a row of
        their own, named by the model.
        """
        rows = {name: structs.replace(row) for name, row in self._rows.items()}
        for answers in self._answers.values():
            for answer in answers:
                name = f"{answer.model or '?'} (call not seen)"
                _add_tokens(rows.setdefault(name, StatsRow(name)), answer)
        total_ns = sum(row.total_ns for row in rows.values())
        for row in rows.values():
            row.share = 100 * row.total_ns / total_ns if total_ns else 0.0
        return sorted(rows.values(), key=lambda row: (-row.total_ns, row.resource))

    def total(self) -> StatsRow:
        """The sum of all rows."""
        rows = self.rows()
        return StatsRow(
            resource="total",
            calls=sum(row.calls for row in rows),
            errors=sum(row.errors for row in rows),
            total_ns=sum(row.total_ns for row in rows),
            max_ns=max((row.max_ns for row in rows), default=0),
            share=100.0 if any(row.total_ns for row in rows) else 0.0,
            input_tokens=_sum_known(row.input_tokens for row in rows),
            output_tokens=_sum_known(row.output_tokens for row in rows),
        )

    def _row(self, resource: str) -> StatsRow:
        return self._rows.setdefault(resource, StatsRow(resource))

    def _add_call(self, event: RecordEvent, data: SyscallEventData) -> None:
        resource = _resource(data)
        row = self._row(resource)
        row.calls += 1
        row.errors += bool(data.err)
        row.total_ns += data.duration
        row.max_ns = max(row.max_ns, data.duration)
        if not is_llm_call(data.args):
            return
        self._last_llm[event.pid] = resource
        if event.call is not None:
            key = (event.pid, event.call)
            self._resource_of_call[key] = resource
            for answer in self._answers.pop(key, []):
                _add_tokens(row, answer)

    def _add_answer(self, event: RecordEvent, data: LLMResponseData) -> None:
        if event.call is None:
            resource = self._last_llm.get(event.pid)
        else:
            resource = self._resource_of_call.get((event.pid, event.call))
        if resource is not None:
            _add_tokens(self._row(resource), data)
        else:
            # -1 is no call number: answers without one and without a call before them share that place.
            self._answers[event.pid, -1 if event.call is None else event.call].append(data)


def format_stats(stats: StraceStats, color: bool = False) -> str:
    """The table, resources by total time, with a closing line of sums. No final newline."""
    lines = [_HEADER, _RULE]
    lines += [_line(row, color) for row in stats.rows()]
    lines += [_RULE, _line(stats.total(), color)]
    return "\n".join(lines)


_COLUMNS = {"% time": 6, "total": 9, "mean": 9, "max": 9, "calls": 7, "errors": 6, "in tok": 9, "out tok": 9}
_HEADER = " ".join(f"{name:>{width}}" for name, width in _COLUMNS.items()) + " resource"
_RULE = " ".join("-" * width for width in (*_COLUMNS.values(), 24))


def _line(row: StatsRow, color: bool) -> str:
    times = (format_duration(ns) for ns in (row.total_ns, row.mean_ns, row.max_ns))
    errors = f"{row.errors or '':>6}"
    if color and row.errors:
        errors = f"{RED}{errors}{RESET}"
    return (
        f"{row.share:6.2f} {' '.join(f'{time:>9}' for time in times)} {row.calls:7} {errors} "
        f"{_tokens(row.input_tokens):>9} {_tokens(row.output_tokens):>9} {escape_controls(row.resource)}"
    )


def _tokens(count: int | None) -> str:
    return "" if count is None else str(count)


def _resource(data: SyscallEventData) -> str:
    for key in ("path", "tool"):
        value = data.args.get(key)
        if isinstance(value, str) and value:
            return value
    return data.syscall


def _add_tokens(row: StatsRow, answer: LLMResponseData) -> None:
    row.input_tokens = _sum_known((row.input_tokens, answer.request_tokens))
    row.output_tokens = _sum_known((row.output_tokens, answer.response_tokens))


def _sum_known(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
