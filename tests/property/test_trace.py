"""What holds of every trace: of any shape, of any damage, in any order."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unspool.trace import (
    BlameResult,
    Span,
    SpanNode,
    SpanStatus,
    SpanTree,
    analyze_trace,
    build_span_tree,
    critical,
    format_blame_result,
    format_trace_tree,
)
from unspool.trace.rollup import rollup

FAILING = (SpanStatus.ERROR, SpanStatus.TIMEOUT)
BASE = 1_000  # small instants, so that ties are common and instants can be counted one by one


@st.composite
def spans_of_a_trace(draw: st.DrawFn, *, damaged: bool) -> list[Span]:
    """Spans of one trace: a proper tree, or with orphans, circles, repeated ids, unfinished and inverted spans."""
    count = draw(st.integers(1, 12))
    spans = []
    for number in range(count):
        parents = [f"s{other}" for other in range(count + 1 if damaged else number)]
        parent = draw(st.sampled_from(["", *parents] if damaged else parents)) if number else ""
        start = BASE + draw(st.integers(0, 20))
        end = start + draw(st.integers(-3 if damaged else 0, 15))
        status = draw(st.sampled_from(list(SpanStatus) if damaged else [SpanStatus.OK, *FAILING]))
        spans.append(
            Span(
                trace_id="t",
                span_id=f"s{draw(st.integers(0, count)) if damaged else number}",
                parent_span_id=parent,
                pid=draw(st.integers(0, 3)),
                name=f"n{number}",
                start_time_ns=start,
                end_time_ns=0 if status is SpanStatus.OPEN else end,
                tokens_used=draw(st.sampled_from([None, 0, 1, 2, 3])),
                status=status,
                cost_usd=draw(st.sampled_from([None, 0.0, 0.1, 0.2])),
            )
        )
    return draw(st.permutations(spans))


any_trace = st.booleans().flatmap(lambda damaged: spans_of_a_trace(damaged=damaged))


def analysed(spans: list[Span]) -> tuple[SpanTree, BlameResult]:
    tree = build_span_tree(spans)
    result = analyze_trace(tree)
    assert tree is not None
    assert result is not None
    return tree, result


def bounds(span: Span, until: int) -> tuple[int, int]:
    """Where a span begins and ends, restated."""
    if span.status is SpanStatus.OPEN and not span.end_time_ns:
        return span.start_time_ns, max(until, span.start_time_ns)
    return span.start_time_ns, max(span.end_time_ns, span.start_time_ns)


def owners(node: SpanNode, low: int, high: int, until: int, found: dict[int, str]) -> None:
    """The critical path by its definition: who owns each instant of [low, high)."""

    def own(start: int, end: int) -> None:
        for instant in range(start, end):
            assert instant not in found, "an instant belongs to one span"
            found[instant] = node.span_id

    point = high
    while True:
        clipped = []
        for child in node.children:
            start, end = bounds(child.span, until)
            start, end = max(start, low), min(end, high)
            if start < end <= point:
                clipped.append((-end, child.span.start_time_ns, child.span_id, start, child))
        if not clipped:
            own(low, point)
            return
        negative_end, _, _, start, child = min(clipped, key=lambda one: one[:3])
        own(-negative_end, point)
        owners(child, start, -negative_end, until, found)
        point = start


@settings(max_examples=300, deadline=None)
@given(any_trace)
def test_the_critical_path_is_what_its_definition_says(spans: list[Span]) -> None:
    tree, result = analysed(spans)
    until = tree.metadata.end_time_ns
    low, high = bounds(tree.root.span, until)
    expected: dict[int, str] = {}
    owners(tree.root, low, high, until, expected)
    found: dict[int, str] = {}
    for part in result.critical_segments:
        for instant in range(part.start_ns, part.end_ns):
            assert instant not in found
            found[instant] = part.span.span_id
    assert found == expected


@settings(max_examples=200, deadline=None)
@given(any_trace)
def test_parts_cut_the_roots_time_without_gap_or_overlap(spans: list[Span]) -> None:
    tree, result = analysed(spans)
    parts = result.critical_segments
    assert (parts[0].start_ns, parts[-1].end_ns) == bounds(tree.root.span, tree.metadata.end_time_ns)
    for one, other in pairwise(parts):
        assert one.start_ns < one.end_ns == other.start_ns < other.end_ns
    assert sum(part.duration for part in parts) == result.critical_duration == parts[-1].end_ns - parts[0].start_ns
    if tree.root.span.status is not SpanStatus.OPEN:
        assert result.critical_duration == tree.root.span.duration
    assert 0 <= result.summary.critical_path_pct <= 100.000001
    ids = [node.span_id for node in result.critical_path]
    assert ids[0] == tree.root.span_id
    assert ids == list(dict.fromkeys([tree.root.span_id, *(part.span.span_id for part in parts)]))
    assert sum(result.critical_times()) == result.critical_duration


@settings(max_examples=200, deadline=None)
@given(any_trace)
def test_every_span_is_in_the_tree_once(spans: list[Span]) -> None:
    tree, _ = analysed(spans)
    in_tree = [node.span for node, _ in tree.walk() if not node.span.synthetic]
    assert sorted(one.span_id for one in in_tree) == sorted({one.span_id for one in spans})
    assert all(any(one is given_one for given_one in spans) for one in in_tree)
    assert tree.metadata.total_spans == len(in_tree)
    assert len(json.loads(tree.to_json())["root"]) > 0
    for node, _ in tree.walk():
        assert [(c.span.start_time_ns, c.span_id) for c in node.children] == sorted(
            (c.span.start_time_ns, c.span_id) for c in node.children
        )
        if not node.span.synthetic:
            assert all(child.span.parent_span_id == node.span_id for child in node.children)


@settings(max_examples=200, deadline=None)
@given(any_trace, st.randoms(use_true_random=False))
def test_the_order_of_the_input_changes_nothing(spans: list[Span], rng) -> None:
    tree, result = analysed(spans)
    rng.shuffle(spans)
    again, same = analysed(spans)
    assert again.to_json() == tree.to_json()
    assert same.to_json() == result.to_json()
    assert format_trace_tree(again, verbose=True) == format_trace_tree(tree, verbose=True)
    assert format_blame_result(same) == format_blame_result(result)


@settings(max_examples=200, deadline=None)
@given(any_trace)
def test_error_chains(spans: list[Span]) -> None:
    tree, result = analysed(spans)
    parents = {child.span_id: node.span for node, _ in tree.walk() for child in node.children}
    nodes = {node.span_id: node for node, _ in tree.walk()}
    origins = set()
    for chain in [*result.error_chains, *result.handled_errors]:
        assert chain.root_cause is chain.path[0]
        assert not any(child.span.status in FAILING for child in nodes[chain.root_cause.span_id].children)
        assert all(one.status in FAILING for one in chain.path)
        for one, above in pairwise(chain.path):
            assert parents[one.span_id] is above
        above_all = parents.get(chain.path[-1].span_id)
        assert above_all is None or above_all.status not in FAILING
        handled = above_all is not None and above_all.status is SpanStatus.OK and not above_all.synthetic
        assert chain.handled_by is (above_all if handled else None)
        assert (chain in result.handled_errors) is handled
        origins.add(chain.root_cause.span_id)
    assert origins == {
        key
        for key, node in nodes.items()
        if node.span.status in FAILING and not any(child.span.status in FAILING for child in node.children)
    }
    assert len(origins) == len(result.error_chains) + len(result.handled_errors)


@settings(max_examples=200, deadline=None)
@given(any_trace)
def test_hotspots_rank_what_the_span_itself_used(spans: list[Span]) -> None:
    tree, _ = analysed(spans)
    result = analyze_trace(tree, top=100)
    assert result is not None
    until = tree.metadata.end_time_ns
    real = [node for node, _ in tree.walk() if not node.span.synthetic]
    free = {}
    for node in real:
        covered = {at for child in node.children for at in range(*bounds(child.span, until))}
        free[node.span_id] = len(set(range(*bounds(node.span, until))) - covered)

    def ranked(values: dict[str, float]) -> list[str]:
        order = sorted(real, key=lambda node: (-values[node.span_id], node.span.start_time_ns, node.span_id))
        return [node.span_id for node in order if values[node.span_id] > 0]

    def ids(entries) -> list[str]:
        assert [entry.rank for entry in entries] == list(range(1, len(entries) + 1))
        return [entry.span.span_id for entry in entries]

    assert ids(result.duration_hotspots) == ranked(free)
    assert all(entry.self_time == free[entry.span.span_id] for entry in result.duration_hotspots)
    assert ids(result.token_hotspots) == ranked({node.span_id: node.span.tokens_used or 0 for node in real})
    assert ids(result.cost_hotspots) == ranked({node.span_id: node.span.cost_usd or 0 for node in real})
    for entries in (result.token_hotspots, result.cost_hotspots):
        assert not entries or abs(sum(entry.percentage for entry in entries) - 100) < 1e-6


def self_time(node: SpanNode, until: int) -> int:
    """Instants of a span that none of its children covers, counted one by one."""
    low, high = bounds(node.span, until)
    below = [bounds(child.span, until) for child in node.children]
    return sum(not any(start <= instant < end for start, end in below) for instant in range(low, high))


def rows_by(tree: SpanTree, result: BlameResult, by: str) -> dict[tuple[str, str, int], list[float]]:
    """Calls, critical time, self time, tokens and cost of each row: by the definition, span for span."""
    critical_times: dict[str, int] = {}
    for part in result.critical_segments:
        critical_times[part.span.span_id] = critical_times.get(part.span.span_id, 0) + part.duration
    rows: dict[tuple[str, str, int], list[float]] = {}

    def add(node: SpanNode, around: tuple[str, str, int]) -> None:
        span = node.span
        own = None
        if span.synthetic:
            pass
        elif by == "call":
            own = (span.kind, span.name, span.pid if span.kind == "agent" else 0)
        elif by == "model":
            own = ("llm", span.name, 0) if span.kind == "llm" else ("other", "(outside model calls)", 0)
        elif span.kind == by:
            own = (span.kind, span.name, span.pid if by == "agent" else 0)
        key = own or around
        row = rows.setdefault(key, [0, 0, 0, 0, 0.0])
        row[1] += critical_times.get(span.span_id, 0)
        if not span.synthetic:
            row[0] += own is not None
            row[2] += self_time(node, tree.metadata.end_time_ns)
            row[3] += span.tokens_used or 0
            row[4] += span.cost_usd or 0
        for child in node.children:
            add(child, key)

    names = {
        "call": "(trace)",
        "model": "(outside model calls)",
        "tool": "(outside tools)",
        "agent": "(outside agents)",
    }
    add(tree.root, ("other", names[by], 0))
    return {key: [*row[:4], pytest.approx(row[4])] for key, row in rows.items() if any(row[:3])}


@settings(max_examples=200, deadline=None)
@given(any_trace, st.lists(st.sampled_from(["agent", "llm", "tool", "other"]), min_size=13, max_size=13), st.booleans())
def test_tables_sum_what_each_span_did(spans: list[Span], kinds: list[str], by_hand: bool) -> None:
    for number, span in enumerate(spans):
        span.kind, span.name = kinds[number], f"n{number % 3}"
    tree, result = analysed(spans)
    if by_hand:  # such a tree has nothing but its nodes
        tree.spans = []
    for by in ("call", "model", "tool", "agent"):
        found = {
            (row.kind, row.name, row.pid): [row.calls, row.critical, row.self_time, row.tokens, row.cost_usd or 0.0]
            for row in rollup(tree, result, by)
        }
        assert found == rows_by(tree, result, by), by


@settings(max_examples=100, deadline=None)
@given(any_trace)
def test_a_span_survives_its_line(spans: list[Span]) -> None:
    for one in spans:
        assert Span.from_json(one.to_json()) == one


def test_a_chain_far_deeper_than_the_stack() -> None:
    depth = 60_000
    spans = [
        Span("t", f"{n}", f"{n - 1}" if n else "", 1, "s", BASE + n, BASE + 3 * depth - n, status=SpanStatus.ERROR)
        for n in range(depth)
    ]
    tree, result = analysed(spans)
    assert result.critical_duration == tree.root.span.duration == 3 * depth
    assert len(result.critical_segments) == 2 * depth - 1
    assert len(result.error_chains[0].path) == depth
    assert len(format_blame_result(result)) < 20_000


@given(any_trace)
def test_many_children_give_the_path_that_few_give(spans):
    """Of many the last is looked for instead of sorting them; here all are many."""
    few = [(part.span.span_id, part.start_ns, part.end_ns) for part in analysed(spans)[1].critical_segments]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(critical, "_MANY", 0)
        many = [(part.span.span_id, part.start_ns, part.end_ns) for part in analysed(spans)[1].critical_segments]
    assert many == few
