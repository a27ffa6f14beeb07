"""Spans as a tree, whatever is wrong with them."""

from __future__ import annotations

import json
import random

import pytest
from trace_fakes import ERROR, MS, OPEN, T0, TIMEOUT, shape, span, tree

from unspool.trace import Span, TraceMetadata, build_span_tree


def test_no_spans_no_tree():
    assert build_span_tree([]) is None
    assert build_span_tree(iter(())) is None


def test_children_are_in_order_of_start_then_id():
    built = tree(
        span("c", "root", 5, 6),
        span("root", end=10),
        span("b", "root", 2, 3),
        span("a", "root", 5, 9),
        span("d", "c", 5, 6),
    )
    assert shape(built) == ["root", "  b", "  a", "  c", "    d"]
    assert built.notes == []
    assert built.trace_id == "t1"


def test_walk_gives_nodes_with_their_depth_parents_first():
    built = tree(span("r", end=9), span("a", "r", 1, 5), span("b", "a", 2, 3), span("c", "r", 6, 7))
    assert [(node.span_id, depth) for node, depth in built.walk()] == [("r", 0), ("a", 1), ("b", 2), ("c", 1)]


def test_totals():
    built = tree(
        span("r", end=10, tokens_used=5, status=ERROR),
        span("a", "r", 1, 12, tokens_used=None, status=TIMEOUT, cost_usd=0.5),
        span("b", "r", 2, 3, tokens_used=7, cost_usd=0.25),
    )
    assert built.metadata == TraceMetadata(3, 12, 12 * MS, T0, T0 + 12 * MS, 2, 0.75)
    assert built.metadata.start_time == built.root.span.start_time


def test_an_unknown_cost_is_none_not_zero():
    assert tree(span("r", end=1)).metadata.total_cost_usd is None


def test_several_roots_hang_under_a_synthetic_one_d50():
    built = tree(span("b", start=5, end=20), span("a", start=0, end=10, tokens_used=3), span("c", "b", 6, 7))
    assert shape(built) == ["(trace)", "  a", "  b", "    c"]
    root = built.root.span
    assert (root.name, root.pid, root.synthetic) == ("(trace)", 0, True)
    assert (root.start_time_ns, root.end_time_ns, root.duration) == (T0, T0 + 20 * MS, 20 * MS)
    assert built.metadata.total_spans == 3
    assert built.metadata.total_tokens == 3
    assert built.notes == ["2 spans without a parent; they hang under (trace)"]


def test_orphans_are_not_lost_d49():
    built = tree(span("r", end=10), span("a", "gone", 1, 2), span("b", "a", 1, 2))
    assert shape(built) == ["(trace)", "  r", "  a", "    b"]
    assert built.notes == ["1 span whose parent is missing; they hang under (trace) (gone)"]


def test_a_lone_span_with_a_missing_parent_hangs_under_a_synthetic_root():
    built = tree(span("a", "gone", 1, 2))
    assert shape(built) == ["(trace)", "  a"]


def test_a_repeated_span_is_kept_once_d47():
    root = span("r", end=10)
    built = tree(root, span("a", "r", 1, 2), root, span("r", end=10))
    assert shape(built) == ["r", "  a"]
    assert built.notes == [
        "2 spans repeated: the same span id came more than once, and one span of each id was kept (r)"
    ]


@pytest.mark.parametrize("swap", [False, True])
def test_of_a_repeated_span_the_ended_one_with_the_later_end_is_kept(swap):
    spans = [span("r"), span("r", end=10), span("r", end=5), span("r", end=10, tokens_used=1)]
    built = tree(*(reversed(spans) if swap else spans))
    assert built.root.span.end_time_ns == T0 + 10 * MS
    assert built.root.span.tokens_used == 1


def test_its_own_parent_d48():
    built = tree(span("a", "a", 0, 5), span("b", "a", 1, 2))
    assert shape(built) == ["(trace)", "  a", "    b"]
    assert built.notes == ["1 span in a circle of parents, cut at the earliest; it hangs under (trace) (a)"]


def test_a_circle_is_cut_at_its_earliest_span_d48():
    built = tree(
        span("r", end=20),
        span("c", "b", 3, 4),
        span("b", "a", 2, 5),
        span("a", "c", 1, 6),
        span("below", "c", 3, 4),
    )
    assert shape(built) == ["(trace)", "  r", "  a", "    b", "      c", "        below"]


def test_two_circles_and_what_hangs_below_them():
    built = tree(
        *(span("a", "b", 1, 2), span("b", "a", 2, 3), span("x", "y", 5, 6), span("y", "x", 4, 6), span("z", "a", 0, 1))
    )
    assert shape(built) == ["(trace)", "  a", "    z", "    b", "  y", "    x"]
    assert "2 spans in a circle" in built.notes[0]


def test_spans_without_an_id_are_all_kept():
    built = tree(span("r", end=5), span("", "r", 1, 2, name="one"), span("", "r", 1, 2, name="two"))
    assert shape(built) == ["r", "  one", "  two"]


def test_spans_of_two_traces_are_noted():
    built = tree(span("r", end=5), span("a", "r", 1, 2, trace_id="t2"))
    assert built.trace_id == "t1"
    assert built.notes == ["spans of 2 traces (t1, t2); the tree is named after the one that began first"]


def test_an_open_span_lasts_until_the_last_known_instant():
    built = tree(span("r"), span("a", "r", 1, 8), span("b", "r", 9))
    assert built.metadata.end_time_ns == T0 + 9 * MS
    assert built.root.span.status is OPEN


def test_an_open_span_lasts_until_now_if_now_is_given():
    built = tree(span("r"), span("a", "r", 1, 8), until_ns=T0 + 50 * MS)
    assert built.metadata.total_duration == 50 * MS
    assert tree(span("r", end=5), until_ns=T0 + 50 * MS).metadata.total_duration == 5 * MS


def test_an_end_before_the_start_gives_no_negative_duration_d56():
    built = tree(span("r", start=10, end=4))
    assert built.root.span.duration == 0
    assert built.metadata.total_duration == 0


def test_a_start_nobody_wrote_does_not_make_a_trace_of_fifty_years():
    built = tree(span("r", end=10), Span("t1", "a", "r", end_time_ns=T0 + 5 * MS, duration=MS))
    assert built.metadata.total_duration == 10 * MS


def test_a_clock_that_counts_from_zero():
    built = tree(Span("t", "r", end_time_ns=100), Span("t", "a", "r", start_time_ns=20, end_time_ns=50))
    assert (built.metadata.start_time_ns, built.metadata.total_duration) == (0, 100)


def test_the_order_of_the_input_does_not_matter():
    spans = [span("r", end=50), *(span(f"{n:02}", f"{n // 3:02}" if n > 2 else "r", n // 2, 40 - n) for n in range(30))]
    spans += [span("x", "gone", 4, 5), span("y", "z", 4, 5), span("z", "y", 4, 5), span("05", "r", 1, 2)]
    first = tree(*spans).to_json()
    for seed in range(10):
        random.Random(seed).shuffle(spans)
        assert tree(*spans).to_json() == first


def test_the_input_is_not_changed():
    spans = [span("b", "a", 1, 2), span("a", end=5)]
    before = [one.copy() for one in spans]
    build_span_tree(spans)
    assert spans == before


def test_the_wire_form():
    built = tree(
        span("r", end=10.5, status=ERROR), span("a", "r", 1, 2, kind="llm", tokens_used=4, attributes={"k": 1})
    )
    raw = json.loads(built.to_json())
    assert list(raw) == ["root", "trace_id", "metadata", "notes"]
    root = raw["root"]
    assert "parent_span_id" not in root
    assert list(root)[:10] == [
        *("trace_id", "span_id", "pid", "name", "start_time_ms", "end_time_ms", "duration_ms"),
        *("syscall_count", "tokens_used", "status"),
    ]
    assert root["duration_ms"] == 10
    assert root["duration_ns"] == 10_500_000
    (child,) = root["children"]
    assert child["parent_span_id"] == "r"
    assert child["attributes"] == {"k": 1}
    assert "children" not in child
    assert list(raw["metadata"])[:6] == [
        *("total_spans", "total_tokens", "total_duration_ms", "start_time_ms", "end_time_ms", "error_count")
    ]
    assert raw["metadata"]["total_spans"] == 2
    assert raw["notes"] == []


def test_the_wire_form_nests_as_the_tree_does():
    built = tree(
        *(span("r", end=9), span("a", "r", 1, 5), span("b", "a", 2, 4), span("c", "b", 3, 4), span("d", "r", 6, 7)),
        span("e", "d", 6, 7),
    )

    def names(node):
        return [node["name"], *(names(child) for child in node.get("children", []))]

    assert names(json.loads(built.to_json())["root"]) == ["r", ["a", ["b", ["c"]]], ["d", ["e"]]]


def test_depth_is_no_limit():
    count = 100_000
    built = tree(*(span(str(n), str(n - 1) if n else "", 0, 1) for n in range(count)))
    assert sum(1 for _ in built.walk()) == count
    assert built.to_json().count(b'"span_id"') == count
    assert len(repr(built.root)) < 100


def test_a_long_circle_is_found_in_linear_time():
    count = 50_000
    built = tree(*(span(str(n), str((n - 1) % count), 0, 1) for n in range(count)))
    assert sum(1 for _ in built.walk()) == count + 1


def test_many_children_are_in_order_of_start_then_id():
    """A list long enough to be sorted by keys laid beside each other, with ties, and with instants years apart."""
    for spread in (1, 10**13):
        children = [span(f"c{number:04}", "r", (number * 7919 % 500) * spread, 10**16) for number in range(2500)]
        built = tree(span("r", "", 0, 10**16), *reversed(children))
        ids = [node.span_id for node in built.root.children]
        assert ids == [one.span_id for one in sorted(children, key=lambda one: (one.start_time_ns, one.span_id))]
