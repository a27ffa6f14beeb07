"""Tables that sum: by what did it, and between two traces. And flame graphs, which are such tables too."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from trace_fakes import ERROR, MS, span, tree

from unspool.trace import analyze_trace
from unspool.trace.compare import compare_traces
from unspool.trace.flame import fold_stacks, format_folded
from unspool.trace.flame_svg import flame_svg
from unspool.trace.names import STEP
from unspool.trace.report import report_on
from unspool.trace.rollup import GROUPS, rollup


def run(*, searches: int = 2, each: int = 10, cost: float = 0.5, port: int = 8080, model: str = "big"):
    """An agent that asks a model, searches some times, and has a helper search once beside it."""
    at = 20 + searches * each
    return tree(
        span("root", "", 0, at + 40, name="agent 1234"),
        span("ask", "root", 10, 20, name=model, kind="llm", tokens_used=100, cost_usd=cost, attributes={STEP: 1}),
        *(
            span(f"s{number}", "root", 20 + number * each, 20 + (number + 1) * each, name="search", kind="tool",
                 attributes={STEP: 1}, status=ERROR if number else span("x", "", 0, 1).status)
            for number in range(searches)
        ),
        span("get", "s0", 22, 22 + each / 2, name=f"GET 127.0.0.1:{port}", kind="other"),
        span("help", "root", at, at + 30, name="helper", pid=2),
        span("deep", "help", at + 5, at + 25, name="search", kind="tool", pid=2, attributes={STEP: 1}),
        span("side", "root", at, at + 20, name="watch", kind="tool"),
    )  # fmt: skip


def rows_of(built, by):
    result = analyze_trace(built)
    assert result is not None
    return {(row.kind, row.name, row.pid): row for row in rollup(built, result, by)}, result


@pytest.mark.parametrize("by", GROUPS)
def test_every_grouping_sums_to_the_trace(by):
    built = run()
    rows, result = rows_of(built, by)
    assert sum(row.critical for row in rows.values()) == result.critical_duration == built.metadata.total_duration
    assert sum(row.tokens for row in rows.values()) == 100
    assert sum(row.cost_usd or 0 for row in rows.values()) == 0.5


def test_by_call():
    rows, _ = rows_of(run(), "call")
    search = rows["tool", "search", 0]
    assert (search.calls, search.errors, search.longest) == (3, 1, 20 * MS)
    assert search.critical == 35 * MS  # 5 of the first ten are those of the request in it
    assert rows["agent", "agent 1234", 1].calls == 1
    watch = rows["tool", "watch", 0]
    assert (watch.critical, watch.self_time) == (0, 20 * MS)


def test_by_tool_what_runs_inside_belongs_to_the_tool():
    rows, _ = rows_of(run(), "tool")
    assert rows["tool", "search", 0].critical == 40 * MS
    assert rows["other", "(outside tools)", 0].critical == 40 * MS


def test_by_agent_model_and_step():
    built = run()
    assert rows_of(built, "agent")[0]["agent", "helper", 2].critical == 30 * MS
    assert rows_of(built, "model")[0]["llm", "big", 0].tokens == 100
    steps = rows_of(built, "step")[0]
    assert steps["step", "step 1", 1].calls == 3
    assert steps["step", "step 1", 2].critical == 20 * MS


def test_an_unknown_grouping_names_the_known_ones():
    built = run()
    result = analyze_trace(built)
    assert result is not None
    with pytest.raises(ValueError, match="call, tool, model, agent, step"):
        rollup(built, result, "colour")


def compared(before, after):
    one, other = analyze_trace(before), analyze_trace(after)
    assert one is not None
    assert other is not None
    return compare_traces(before, one, after, other)


def test_what_made_a_run_slower_sums_to_the_difference():
    found = compared(run(searches=2), run(searches=7, each=20))
    assert found.change("time") == 120 * MS
    assert sum(delta.change("time") for delta in found.deltas) == 120 * MS
    first = found.ranked("time")[0]
    assert first.path == ("search",)
    assert (first.before.calls, first.after.calls) == (2, 7)
    assert found.change("errors") == 5


def test_equal_runs_differ_in_nothing_and_ports_are_no_names():
    found = compared(run(port=41234), run(port=51999))
    assert all(not found.ranked(measure) for measure in ("time", "tokens", "cost", "errors"))
    assert ("search", "GET 127.0.0.1:41234") in {delta.path for delta in found.deltas}


def test_another_model_is_another_path_and_unknown_costs_are_said():
    found = compared(run(), run(model="huge", cost=2.0))
    assert [delta.path for delta in found.ranked("cost")] == [("huge",), ("big",)]
    assert found.change("cost") == 1.5
    assert compared(run(), run(cost=None)).has_cost is False


def test_the_same_name_under_another_kind_is_not_lost():
    one = tree(
        span("r", "", 0, 10),
        span("a", "r", 0, 4, name="x", kind="tool"),
        span("b", "r", 5, 9, name="x", kind="other"),
        span("c", "a", 1, 2, name="y", kind="tool"),
        span("d", "b", 6, 8, name="y", kind="tool"),
    )
    found = compared(one, one)
    assert found.before.time == found.after.time == 10 * MS
    assert found.before.calls == 5


# --- flame graphs ----------------------------------------------------------------------------------------------------


def test_folded_stacks_sum_to_the_self_times():
    stacks = fold_stacks(run())
    lines = format_folded(stacks).splitlines()
    assert "agent 1234;search 15000" in lines
    assert "agent 1234;search;GET 127.0.0.1:8080 5000" in lines
    assert "agent 1234;helper;search 20000" in lines
    assert sum(stacks.values()) == 100_000  # of 80 ms, 20 were beside another call


def test_folded_by_tokens_and_cost():
    assert format_folded(fold_stacks(run(), "tokens")) == "agent 1234;big 100"
    assert format_folded(fold_stacks(run(), "cost")) == "agent 1234;big 500000"
    assert fold_stacks(run(cost=None), "cost") == {}


def test_names_cannot_break_the_format_or_the_picture():
    hostile = tree(span("r", "", 0, 2, name="a;b\n<script>&\x1b[31m\ud800"), span("c", "r", 0, 1, name="", kind="tool"))
    stacks = fold_stacks(hostile)
    assert [line.count(";") for line in format_folded(stacks).splitlines()] == [0, 1]
    root = ET.fromstring(flame_svg(stacks, "time", "t<&>"))
    assert root.tag.endswith("svg")
    assert "<script>" not in flame_svg(stacks)


def test_the_picture_says_what_each_frame_is():
    picture = flame_svg(fold_stacks(run()), "time", "agent")
    titles = [node.text or "" for node in ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}title")]
    assert any(title.startswith("search (tool): 20ms, 20.0 %; itself 15ms") for title in titles)
    assert flame_svg({}).startswith("<svg")


def test_carried_costs_need_the_messages():
    with pytest.raises(ValueError, match="carried"):
        fold_stacks(run(), "carried")


# --- what never ended ------------------------------------------------------------------------------------------------


def test_the_innermost_open_spans_are_where_it_hangs():
    built = tree(
        span("root", "", 0),
        span("one", "root", 1),
        span("two", "one", 2),
        span("done", "two", 3, 4),
        span("three", "root", 5),
        span("last", "root", 9, 10),
    )
    assert [one.span_id for one in report_on(built).unfinished] == ["two", "three"]
    assert report_on(run()).unfinished == []
