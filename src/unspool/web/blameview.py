"""Why a run was slow, dear or wrong, as rows of tables, each with the place to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, get_args

from unspool.cli import amounts
from unspool.cli.blame_text import CostRow, cost_rows, share_name, startup_remark, startup_times
from unspool.cli.causes import one_line
from unspool.cli.findings import sentences
from unspool.durations import format_duration
from unspool.text import cut, escape_controls
from unspool.trace.errors_chain import ErrorChain, error_message
from unspool.trace.flame import FlameMeasure, fold_stacks
from unspool.trace.flame_svg import flame_svg
from unspool.trace.names import CALL, count_of, model_of
from unspool.trace.rollup import GROUPS, Group, Share
from unspool.trace.spans import Span
from unspool.web.contexts import AFTER_PAGE_S
from unspool.web.links import Links
from unspool.web.shelf import LoadedRun, Shelf
from unspool.web.workshop import Finding

__all__ = [
    "MEASURES",
    "BlamePage",
    "Chain",
    "Culprit",
    "blame_page",
    "chains_of_run",
    "explained_run",
    "flame_of",
    "order_explanation",
]

MEASURES: Final[tuple[FlameMeasure, ...]] = get_args(FlameMeasure)
_ROWS: Final = 12
_CHAINS: Final = 20
_PATH: Final = 12  # steps of the way of an error
_BRIEF: Final = 160  # characters of an error on its line
_STATION: Final = 48  # of a name on its way
_LARGE: Final = 4_000  # spans: below this a page simply waits
_PATIENCE_S: Final = 30.0


@dataclass
class Culprit:
    """A span that explains something.

    `call` is its number among its process's model calls, `at` when it began, `fork` where to try something else.
    """

    kind: str
    name: str
    href: str
    detail: str = ""
    share: float = 0.0
    at: str = ""
    fork: str = ""
    record_id: str = ""
    seq_num: int = 0
    call: int | None = None


@dataclass
class Chain:
    """An error from where it began to the last that failed with it. `handled_by` is who took it without failing.

    `between` is how many steps of a long way are left out before the last.
    """

    message: str
    path: list[Culprit]
    handled_by: Culprit | None = None
    between: int = 0

    @property
    def brief(self) -> str:
        """The message as one line, cut."""
        return cut(one_line(self.message), _BRIEF)

    @property
    def is_long(self) -> bool:
        """Whether the message says more than `brief`."""
        return self.brief != self.message.strip()


@dataclass
class Part:
    """A row of a table of shares."""

    share: float
    amount: str
    kind: str
    name: str
    calls: str = ""
    detail: str = ""


@dataclass
class BlamePage:
    """All that explains one run.

    Attributes:
        findings: what was wrong, slow and dear, a sentence each, as `unspool blame` begins.
        chains, handled: the first of the errors; `failures` and `dealt_with` are how many there are.
        duration: of the critical path; "" where no times are known.
    """

    run: LoadedRun
    findings: list[tuple[str, str]]
    chains: list[Chain]
    handled: list[Chain]
    failures: int
    dealt_with: int
    unfinished: list[Culprit]
    retries: list[Culprit]
    loops: list[Culprit]
    duration: str
    time: list[Part]
    hot: list[Culprit]
    tokens: list[Culprit]
    costs: list[Culprit]
    cost: str
    paid: list[Part]
    by: FlameMeasure
    group: Group
    flame: str
    notes: list[str] = field(default_factory=list)
    measures: tuple[str, ...] = MEASURES
    groups: tuple[str, ...] = GROUPS


def explained_run(shelf: Shelf, run: LoadedRun, links: Links, *, is_patient: bool = False) -> Finding[LoadedRun]:
    """A run with what each part of its contexts cost; nothing yet if that takes longer than a moment.

    Args:
        is_patient: wait for it all the same.
    """
    small = len(run.spans) <= _LARGE
    return shelf.workshop.ask(*_explaining(shelf, run, links), wait_s=_PATIENCE_S if small or is_patient else None)


def order_explanation(shelf: Shelf, run: LoadedRun, links: Links) -> None:
    """Have a run explained, since somebody looks at it."""
    shelf.workshop.order(*_explaining(shelf, run, links), after_s=AFTER_PAGE_S)


def _explaining(shelf: Shelf, run: LoadedRun, links: Links) -> tuple[tuple[str, str], object, Callable[[], LoadedRun]]:
    name = run.subject.name

    def work() -> LoadedRun:
        found = shelf.run(name, carried=True)
        blame_page(found, links)
        return found

    return ("blame", name), shelf.signature([one.record_id for one in run.records]), work


def blame_page(run: LoadedRun, links: Links, by: FlameMeasure = "time", group: Group = "call") -> BlamePage:
    """What `unspool blame` says of the run; it must have been loaded with what was carried."""
    key = ("blame", by, group, type(links).__name__)
    if key not in run.kept:
        run.kept[key] = _blame_page(run, links, by, group)
    found: BlamePage = run.kept[key]
    return found


def _blame_page(run: LoadedRun, links: Links, by: FlameMeasure, group: Group) -> BlamePage:
    report, result = run.report, run.report.result
    chains, handled = chains_of_run(run, links)
    total = result.critical_duration
    rows = [row for row in report.shares(group) if row.critical] if run.has_times else []
    early = startup_times(run.subject)
    carried = report.carried
    cost = result.summary.total_cost_usd
    return BlamePage(
        run=run,
        findings=sentences(report),
        chains=chains[:_CHAINS],
        handled=handled[:_CHAINS],
        failures=len(chains),
        dealt_with=len(handled),
        unfinished=[
            culprit(run, span, links, "has not ended" if not span.end_time_ns else "was cut off")
            for span in report.unfinished[:_ROWS]
        ],
        retries=[
            culprit(
                run, one.attempts[0], links,
                f"{amounts.counted(len(one.failures), 'failure')} ({cut(one_line(one.reason), _BRIEF)}), "
                f"then {'ok' if one.succeeded else 'given up'}"
                + (f"; {format_duration(one.lost)} lost" if run.has_times else ""),
            )
            for one in report.retries[:_ROWS]
        ],
        loops=[
            culprit(
                run, one.spans[0], links,
                f"×{one.rounds} with the same arguments"
                + (", the same result each time" if one.same_results else "")
                + (f"; {format_duration(one.wasted)} from the first round to the last" if run.has_times else ""),
            )
            for one in report.loops[:_ROWS]
        ],
        duration=format_duration(total) if run.has_times else "",
        time=[
            Part(
                share=100 * row.critical / total if total else 0.0,
                amount=format_duration(row.critical),
                kind=row.kind,
                name=share_name(row),
                calls=str(row.calls or ""),
                detail=startup_remark(row, early)
                or (f"longest {format_duration(row.longest)}" if row.calls > 1 else ""),
            )
            for row in rows[:_ROWS]
        ],
        hot=[
            culprit(run, one.span, links, _itself(one.self_time, one.span, early), one.percentage)
            for one in result.duration_hotspots
            if run.has_times
        ],
        tokens=[
            culprit(run, one.span, links, f"{one.span.tokens_used or 0:,} tokens", one.percentage)
            for one in result.token_hotspots
        ],
        costs=[
            culprit(run, one.span, links, amounts.cost(one.span.cost_usd), one.percentage)
            for one in result.cost_hotspots
        ],
        cost=amounts.cost(cost),
        paid=_paid(cost_rows(carried), cost) if carried is not None and cost else [],
        by=by,
        group=group,
        flame=flame_of(run, by),
        notes=[*report.tree.notes, *run.subject.skipped],
    )  # fmt: skip


def _itself(self_time: int, span: Span, early: dict[int, int]) -> str:
    """`1.09s itself, 991ms of it start-up`."""
    remark = startup_remark(Share(span.kind, span.name, span.pid), early)
    return f"{format_duration(self_time)} itself" + (f", {remark}" if remark else "")


def chains_of_run(run: LoadedRun, links: Links) -> tuple[list[Chain], list[Chain]]:
    """Errors that ended in failure, and those that somebody dealt with."""
    result = run.report.result
    return (
        [_chain(run, one, links) for one in result.error_chains],
        [_chain(run, one, links) for one in result.handled_errors],
    )


def _chain(run: LoadedRun, chain: ErrorChain, links: Links) -> Chain:
    cause = chain.root_cause
    path = list(chain.path)
    left_out = max(len(path) - _PATH, 0)
    return Chain(
        message=cut(error_message(cause) or str(cause.status), 2_000),
        path=[_station(run, span, links) for span in [*path[: _PATH - 1], *path[max(_PATH - 1, len(path) - 1) :]]],
        between=left_out,
        handled_by=_station(run, chain.handled_by, links) if chain.handled_by is not None else None,
    )


def _station(run: LoadedRun, span: Span, links: Links) -> Culprit:
    """A step on the way of an error, whose name leaves room for others on its line."""
    found = culprit(run, span, links)
    found.name = cut(found.name, _STATION)
    return found


def culprit(run: LoadedRun, span: Span, links: Links, detail: str = "", share: float = 0.0) -> Culprit:
    """A span as a link."""
    record, seq = run.record_of(span), run.seq_of(span)
    href = links.step(record, seq) if record and seq else ""
    at = f"+{format_duration(max(span.start_time_ns - run.start_ns, 0))}" if run.has_times else ""
    fork = links.fork(record, seq) if record and seq and span.kind in ("llm", "tool") else ""
    name = cut(model_of(span) or span.name or "?", 160)
    call = count_of(span, CALL) if span.kind == "llm" else None
    return Culprit(span.kind, name, href, detail, share, at, fork, record, seq, call)


def _paid(rows: Sequence[CostRow], total: float) -> list[Part]:
    return [
        Part(
            share=100 * row.usd / total,
            amount=amounts.cost(row.usd),
            kind="",
            name=row.name,
            calls=f"×{row.sends}" if row.sends else "",
            detail=f"{amounts.cost(row.usd - row.first)} for sending it again"
            if row.usd - row.first > total / 1e4
            else "",
        )
        for row in rows[:_ROWS]
        if row.usd
    ]


def flame_of(run: LoadedRun, by: FlameMeasure) -> str:
    """The flame graph as SVG; "" if nothing is known of this measure."""
    if (by == "carried" and run.subject.carried is None) or (by == "time" and not run.has_times):
        return ""
    stacks = fold_stacks(run.subject.tree, by, run.subject.carried)
    return flame_svg(stacks, by, escape_controls(run.subject.tree.root.span.name)) if stacks else ""
