"""All that explains one trace, put together: the blame, what was repeated, what never ended, what was carried."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from unspool.events import SpanID
from unspool.trace.blame import TOP, BlameResult, analyze_trace
from unspool.trace.carried import CarriedCost
from unspool.trace.errors_chain import ErrorChain
from unspool.trace.repeats import Loop, Retry, loops_of, retries_of
from unspool.trace.rollup import Group, Share, rollup
from unspool.trace.spans import Span, SpanStatus
from unspool.trace.tree import SpanTree

__all__ = ["TraceReport", "has_times", "report_on"]

_INSTANT_NS: Final = 10**15  # 12 days after 1970: a start before it is that of a clock which begins at 0
_LEAST_NS: Final = 1_000
_LEAST_UNSET_NS: Final = 1_000_000


def has_times(tree: SpanTree) -> bool:
    """Whether its times say anything: an imported run may have none, and then its calls stand a nanosecond apart."""
    metadata = tree.metadata
    is_set = metadata.start_time_ns >= _INSTANT_NS
    return metadata.total_duration >= (_LEAST_NS if is_set else _LEAST_UNSET_NS)


class TraceReport(Struct):
    """What explains a trace.

    `spans` are all but made-up ones, in no order. `unfinished` are the innermost spans that never ended, the longest
    first: where a process hangs, or was when it died. `handled` are the errors that somebody dealt with, without those
    that a retry made good.
    """

    tree: SpanTree
    result: BlameResult
    spans: list[Span]
    retries: list[Retry]
    loops: list[Loop]
    unfinished: list[Span]
    handled: list[ErrorChain]
    carried: CarriedCost | None = None
    _shares: dict[Group, list[Share]] = {}

    def shares(self, by: Group) -> list[Share]:
        """Time, tokens and cost by what did it, as `rollup` gives them; worked out once. Not to be changed.

        Raises:
            ValueError: there is no such grouping.
        """
        if by not in self._shares:
            self._shares[by] = rollup(self.tree, self.result, by)
        return self._shares[by]

    @property
    def has_times(self) -> bool:
        """Whether its times say anything; see `has_times`."""
        return self.result.critical_duration >= _LEAST_NS and has_times(self.tree)


def report_on(
    tree: SpanTree, *, carried: CarriedCost | None = None, needed: Iterable[tuple[SpanID, SpanID]] = (), top: int = TOP
) -> TraceReport:
    """Analyse a trace.

    Args:
        carried: as `unspool.trace.carried` gives it; what it proves of the sequence is used too.
        needed: pairs (earlier, later) of span ids of which data shows that the later used what the earlier gave.
        top: how many hotspots of each kind.
    """
    result = analyze_trace(tree, top=top, proven=[*needed, *(carried.needed if carried is not None else ())])
    assert result is not None  # there is a tree
    spans = tree.spans or [node.span for node, _ in tree.walk() if not node.span.synthetic]
    retries = retries_of(spans)
    folded = {span.span_id for retry in retries if retry.succeeded for span in retry.failures}
    return TraceReport(
        tree=tree,
        result=result,
        spans=spans,
        retries=retries,
        loops=loops_of(spans),
        unfinished=_unfinished(tree) if any(span.status is SpanStatus.OPEN for span in spans) else [],
        handled=[chain for chain in result.handled_errors if chain.root_cause.span_id not in folded],
        carried=carried,
    )


def _unfinished(tree: SpanTree) -> list[Span]:
    """Open spans that have no open span below them."""
    until = tree.metadata.end_time_ns
    found: list[Span] = []
    waiting: list[tuple[Span, int]] = []  # open spans around the current one, with their depth
    for node, depth in tree.walk():
        while waiting and waiting[-1][1] >= depth:
            found.append(waiting.pop()[0])
        if node.span.status is SpanStatus.OPEN:
            waiting = [(span, level) for span, level in waiting if level >= depth]  # they wait for this one
            waiting.append((node.span, depth))
    found += [span for span, _ in waiting]

    def lasted(span: Span) -> int:
        return (span.end_time_ns or until) - span.start_time_ns

    return sorted(found, key=lambda span: (-lasted(span), span.start_time_ns, span.span_id))
