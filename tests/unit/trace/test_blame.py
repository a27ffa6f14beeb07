"""What explains the duration, the tokens, the cost and the failure of a trace."""

from __future__ import annotations

import json

import pytest
from trace_fakes import ERROR, MS, OK, T0, TIMEOUT, span, tree

from unspool.trace import BlameEntry, BlameResult, Span, SpanEvent, SpanNode, SpanTree, analyze_trace


def blame(*spans, **options) -> BlameResult:
    result = analyze_trace(tree(*spans), **options)
    assert result is not None
    return result


def parts(result) -> list[tuple[str, float, float]]:
    """Segments as (name, start, end) in milliseconds from T0."""
    return [(one.span.name, (one.start_ns - T0) / MS, (one.end_ns - T0) / MS) for one in result.critical_segments]


def names(entries) -> list[str]:
    return [entry.span.name for entry in entries]


def paths(chains) -> list[list[str]]:
    return [[one.name for one in chain.path] for chain in chains]


# --- critical path ---------------------------------------------------------------------------------------------------


def test_nothing_to_blame():
    assert analyze_trace(None) is None


def test_one_span_is_its_own_path():
    result = blame(span("r", end=10))
    assert parts(result) == [("r", 0, 10)]
    assert result.critical_duration == 10 * MS
    assert result.summary.critical_path_pct == 100


def test_the_time_between_children_is_the_parents_own():
    result = blame(span("r", end=10), span("a", "r", 1, 4), span("b", "r", 6, 9))
    assert parts(result) == [("r", 0, 1), ("a", 1, 4), ("r", 4, 6), ("b", 6, 9), ("r", 9, 10)]
    assert [node.name for node in result.critical_path] == ["r", "a", "b"]
    assert result.critical_times() == [4 * MS, 3 * MS, 3 * MS]


def test_nested_time_is_not_summed_twice_d59():
    result = blame(span("r", end=100), span("a", "r", 0, 95), span("b", "a", 0, 90))
    assert parts(result) == [("b", 0, 90), ("a", 90, 95), ("r", 95, 100)]
    assert result.critical_duration == 100 * MS
    assert result.summary.critical_path_pct == 100


def test_the_root_is_first_in_the_path_although_a_child_began_with_it():
    result = blame(span("r", end=10), span("a", "r", 0, 9))
    assert [node.name for node in result.critical_path] == ["r", "a"]


def test_stages_in_sequence_are_all_on_the_path_d59():
    result = blame(span("r", end=9), span("a", "r", 0, 3), span("b", "r", 3, 6), span("c", "r", 6, 9))
    assert parts(result) == [("a", 0, 3), ("b", 3, 6), ("c", 6, 9)]


def test_of_parallel_children_the_last_to_finish_is_on_the_path():
    result = blame(span("r", end=10), span("a", "r", 1, 7), span("b", "r", 2, 9))
    assert parts(result) == [("r", 0, 2), ("b", 2, 9), ("r", 9, 10)]


def test_a_sibling_joins_only_if_it_ended_before_the_next_one_began():
    overlapping = blame(span("r", end=10), span("a", "r", 0, 5.001), span("b", "r", 5, 10))
    assert parts(overlapping) == [("r", 0, 5), ("b", 5, 10)]
    touching = blame(span("r", end=10), span("a", "r", 0, 5), span("b", "r", 5, 10))
    assert parts(touching) == [("a", 0, 5), ("b", 5, 10)]


def test_a_child_that_outlives_its_parent_is_clipped():
    result = blame(span("r", end=10), span("a", "r", 4, 50), span("b", "a", 20, 40), span("c", "a", 5, 8))
    assert parts(result) == [("r", 0, 4), ("a", 4, 5), ("c", 5, 8), ("a", 8, 10)]
    assert result.critical_duration == 10 * MS
    assert result.summary.total_duration == 50 * MS
    assert result.summary.critical_path_pct == 20


def test_a_child_that_began_before_its_parent_is_clipped_clock_skew():
    assert parts(blame(span("r", start=10, end=20), span("a", "r", 5, 15))) == [("a", 10, 15), ("r", 15, 20)]


def test_children_outside_their_parent_are_not_on_the_path():
    result = blame(span("r", start=10, end=20), span("a", "r", 0, 9), span("b", "r", 21, 30))
    assert parts(result) == [("r", 10, 20)]


def test_children_without_duration_are_not_on_the_path():
    assert parts(blame(span("r", end=10), span("a", "r", 5, 5), span("b", "r", 10, 10))) == [("r", 0, 10)]


def test_of_children_that_end_together_the_one_that_began_first_is_taken():
    assert parts(blame(span("r", end=9), span("a", "r", 6, 9), span("b", "r", 2, 9))) == [("r", 0, 2), ("b", 2, 9)]
    assert parts(blame(span("r", end=9), span("b", "r", 2, 9), span("a", "r", 2, 9))) == [("r", 0, 2), ("a", 2, 9)]


def test_a_trace_without_duration_has_a_path_d64():
    result = blame(span("r", end=0), span("a", "r", 0, 0))
    assert [node.name for node in result.critical_path] == ["r"]
    assert result.critical_duration == 0
    assert result.summary.critical_path_pct == 0


def test_several_roots_are_not_added_up():
    result = blame(span("a", start=0, end=10), span("b", start=5, end=20))
    assert parts(result) == [("(trace)", 0, 5), ("b", 5, 20)]
    assert result.critical_path[0].span.synthetic
    assert result.summary.total_spans == 2


def test_a_hanging_agent_shows_where_it_hangs():
    built = tree(span("agent"), span("a", "agent", 0, 3), span("tool", "agent", 4), until_ns=T0 + 60 * MS)
    result = analyze_trace(built)
    assert parts(result) == [("a", 0, 3), ("agent", 3, 4), ("tool", 4, 60)]


def test_sequence_is_proven_only_by_data():
    spans = (span("r", end=9), span("t", "r", 0, 3), span("u", "r", 3, 5), span("l", "r", 6, 9))
    assert not any(one.proven for one in blame(*spans).critical_segments)
    result = blame(*spans, proven=[("t", "u"), ("t", "l"), ("x", "y")])
    assert [(one.span.name, one.proven) for one in result.critical_segments] == [
        ("t", False),
        ("u", True),
        ("r", False),
        ("l", False),  # it needed t, but on the path it waits for u
    ]


def test_a_tree_made_by_hand_in_any_order():
    root = SpanNode(span("r", end=10), [SpanNode(span("b", "r", 6, 9)), SpanNode(span("a", "r", 1, 4))])
    result = analyze_trace(SpanTree(root, "t1"))
    assert result is not None
    assert [name for name, _, _ in parts(result)] == ["r", "a", "r", "b", "r"]
    assert result.duration_hotspots[0].self_time == 4 * MS
    assert result.summary.total_duration == 10 * MS


# --- hotspots --------------------------------------------------------------------------------------------------------


def test_duration_hotspots_rank_self_time_d62():
    result = blame(span("r", end=100), span("a", "r", 10, 90), span("b", "a", 20, 30), span("c", "a", 25, 60))
    assert [(entry.span.name, entry.rank, entry.self_time, entry.percentage) for entry in result.duration_hotspots] == [
        ("a", 1, 40 * MS, 40),
        ("c", 2, 35 * MS, 35),
        ("r", 3, 20 * MS, 20),
    ]


def test_self_time_cuts_children_to_the_span():
    result = blame(span("r", end=10), span("a", "r", -5, 2), span("b", "r", 8, 30))
    assert {entry.span.name: entry.self_time for entry in result.duration_hotspots}["r"] == 6 * MS


def test_token_and_cost_hotspots_have_no_zero_entries_d66():
    result = blame(
        span("r", end=10, tokens_used=0),
        span("a", "r", 1, 2, tokens_used=30, cost_usd=0.0),
        span("b", "r", 2, 3, tokens_used=10, cost_usd=0.2),
        span("c", "r", 3, 4, tokens_used=None),
    )
    assert [(entry.span.name, entry.percentage) for entry in result.token_hotspots] == [("a", 75), ("b", 25)]
    assert [(entry.span.name, entry.percentage, entry.rank) for entry in result.cost_hotspots] == [("b", 100, 1)]
    assert result.summary.total_cost_usd == 0.2


def test_without_prices_and_tokens_the_lists_are_empty():
    result = blame(span("r", end=0))
    assert result.duration_hotspots == result.token_hotspots == result.cost_hotspots == []
    assert result.summary.total_cost_usd is None


def test_ties_are_ordered_by_start_then_span_id_d63():
    spans = [
        span(name, "r", start, start + 1, tokens_used=5) for name, start in (("c", 1), ("b", 3), ("a", 3), ("d", 2))
    ]
    result = blame(span("r", end=10), *spans, top=4)
    assert names(result.token_hotspots) == ["c", "d", "a", "b"]
    assert names(blame(span("r", end=10), *spans).token_hotspots) == ["c", "d", "a"]


def test_many_candidates():
    spans = [span(f"{n:04}", "r", n, n + 1, tokens_used=n * 7919 % 2003) for n in range(2000)]
    result = blame(span("r", end=3000), *spans, top=5)
    expected = sorted(spans, key=lambda one: (-one.tokens_used, one.start_time_ns))[:5]
    assert [entry.span for entry in result.token_hotspots] == expected
    assert [entry.rank for entry in result.token_hotspots] == [1, 2, 3, 4, 5]


def test_a_synthetic_root_is_no_hotspot():
    result = blame(span("a", end=1), span("b", start=50, end=51))
    assert names(result.duration_hotspots) == ["a", "b"]


def test_top_is_a_count():
    assert blame(span("r", end=1), top=0).duration_hotspots == []
    with pytest.raises(ValueError, match="top"):
        blame(span("r", end=1), top=-1)


# --- errors ----------------------------------------------------------------------------------------------------------


def test_an_error_chain_runs_from_the_origin_to_the_last_failing_ancestor_d60():
    result = blame(
        span("r", end=9, status=ERROR), span("m", "r", 1, 8, status=ERROR), span("l", "m", 2, 7, status=TIMEOUT)
    )
    (chain,) = result.error_chains
    assert [one.name for one in chain.path] == ["l", "m", "r"]
    assert chain.root_cause is chain.path[0]
    assert chain.root_cause.name == "l"
    assert chain.handled_by is None
    assert result.handled_errors == []


def test_a_failure_under_a_parent_that_succeeded_was_handled_d61():
    result = blame(span("r", end=9, status=ERROR), span("m", "r", 1, 8), span("l", "m", 2, 7, status=ERROR))
    assert paths(result.error_chains) == [["r"]]
    assert paths(result.handled_errors) == [["l"]]
    assert result.handled_errors[0].handled_by.name == "m"
    assert result.summary.error_spans == 2


def test_each_origin_has_its_own_chain_the_earliest_first():
    result = blame(
        span("r", end=9, status=ERROR),
        span("late", "r", 1, 8, status=ERROR),
        span("early", "r", 2, 5, status=ERROR),
        span("fine", "r", 2, 3),
    )
    assert paths(result.error_chains) == [["early", "r"], ["late", "r"]]


def test_a_failing_root_or_a_failing_span_under_the_synthetic_root_is_handled_by_nobody():
    result = blame(span("a", end=9, status=ERROR), span("b", start=1, end=9, status=ERROR), span("c", "gone", 2, 3))
    assert paths(result.error_chains) == [["a"], ["b"]]
    assert result.handled_errors == []


def test_an_error_under_an_open_parent_is_not_called_handled():
    result = blame(span("r"), span("a", "r", 1, 2, status=ERROR))
    assert paths(result.error_chains) == [["a"]]


def test_no_errors_no_chains():
    result = blame(span("r", end=9), span("a", "r", 1, 2))
    assert result.error_chains == result.handled_errors == []
    assert result.summary.error_spans == 0


def test_a_path_is_a_sequence_equal_to_a_list():
    r, m, o = span("r", end=9, status=ERROR), span("m", "r", 1, 8, status=ERROR), span("o", "m", 2, 7, status=ERROR)
    path = blame(r, m, o).error_chains[0].path
    assert path == [o, m, r]
    assert [o, m, r] == path
    assert path != [o]
    assert len(path) == 3
    assert (path[0], path[1], path[2], path[-1], path[:2]) == (o, m, r, r, [o, m])
    assert m in path
    with pytest.raises(IndexError):
        path[3]
    assert repr(path) == "['o', 'm', 'r']"


def test_a_million_links_cost_no_quadratic_memory():
    # A comb: each of n failing spans has a failing leaf, so n chains have n/2 spans on average.
    count = 3000
    spans = [span(f"s{n}", f"s{n - 1}" if n else "", 0, 1, status=ERROR) for n in range(count)]
    spans += [span(f"leaf{n}", f"s{n}", 0, 1, status=ERROR) for n in range(count)]
    result = blame(*spans)
    assert len(result.error_chains) == count
    assert max(len(chain.path) for chain in result.error_chains) == count + 1


# --- wire form -------------------------------------------------------------------------------------------------------


def test_the_wire_form():
    result = blame(
        span("r", end=10.5, status=ERROR),
        span(
            "a",
            "r",
            1,
            4,
            status=ERROR,
            tokens_used=9,
            events=[SpanEvent(T0, "exception", {"exception.message": "no"})],
        ),
        span("b", "r", 4, 6),
        span("c", "b", 5, 6, status=ERROR, attributes={"error.type": "timeout"}),
    )
    raw = json.loads(result.to_json())
    assert list(raw)[:7] == [
        *("trace_id", "critical_path", "critical_duration_ms", "duration_hotspots", "token_hotspots", "error_chains"),
        "summary",
    ]
    assert raw["critical_duration_ms"] == 10
    assert raw["critical_duration_ns"] == 10_500_000
    head = {
        "trace_id": "t1",
        "span_id": "r",
        "pid": 1,
        "name": "r",
        "duration_ms": 10,
        "tokens_used": 0,
        "status": "error",
    }
    assert head.items() <= raw["critical_path"][0].items()
    assert [one["critical_ms"] for one in raw["critical_path"]] == [5, 3, 1, 1]
    assert sum(one["critical_ns"] for one in raw["critical_path"]) == 10_500_000
    assert [one["name"] for one in raw["critical_segments"]] == ["r", "a", "b", "c", "r"]
    assert raw["critical_segments"][0]["proven"] is False
    hotspot = raw["duration_hotspots"][0]
    assert head.items() <= hotspot.items()
    assert (hotspot["rank"], hotspot["self_time_ns"]) == (1, 5_500_000)
    assert [one["span_id"] for one in raw["error_chains"][0]["path"]] == ["a", "r"]
    assert raw["error_chains"][0]["root_cause"]["span_id"] == "a"
    assert raw["error_chains"][0]["message"] == "no"
    assert raw["handled_errors"][0]["handled_by"]["span_id"] == "b"
    assert raw["handled_errors"][0]["message"] == "timeout"
    assert list(raw["summary"])[:5] == [
        *("total_spans", "error_spans", "total_duration_ms", "total_tokens", "critical_path_pct")
    ]
    assert raw["cost_hotspots"] == []


def test_empty_lists_on_the_wire_are_lists_d64():
    raw = json.loads(BlameResult("t").to_json())
    assert [value for value in raw.values() if isinstance(value, list)] == [[]] * 7


def test_entries_can_be_made_by_hand():
    entry = BlameEntry(Span("t", "s"), 12.5, 1)
    assert entry.span.status is OK
