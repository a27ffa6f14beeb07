"""Traces as text."""

from __future__ import annotations

import pytest
from trace_fakes import ERROR, MS, T0, TIMEOUT, span, tree

from unspool.trace import (
    BlameResult,
    TraceSummary,
    analyze_trace,
    format_blame_result,
    format_trace_list,
    format_trace_tree,
)

HOSTILE = "evil\x1b[2J\u202e\nname"


def blame_text(*spans, color=False, proven=()):
    return format_blame_result(analyze_trace(tree(*spans), proven=proven), color=color)


# --- list ------------------------------------------------------------------------------------------------------------


def test_no_traces():
    assert format_trace_list([]) == "No traces found."


def test_the_list():
    text = format_trace_list([TraceSummary("f" * 40, 12, T0, 1_500 * MS, "write a report"), TraceSummary("t2")])
    assert text.splitlines() == [
        "TRACE ID                          SPANS    DURATION  STARTED               ROOT",
        "─" * 70,
        "ffffffffffffffffffffffffffffffff     12       1.50s  2025-06-15T15:06:40Z  write a report",
        "t2                                    0         0µs  -",
    ]


def test_a_list_shows_nothing_that_acts_on_a_terminal():
    assert "evil\\x1b[2J\\u202e\\nname" in format_trace_list([TraceSummary("t", root_span_name=HOSTILE)])


# --- tree ------------------------------------------------------------------------------------------------------------


def test_no_tree():
    assert format_trace_tree(None) == "No spans found for this trace."


def test_the_tree():
    text = format_trace_tree(
        tree(
            span("root", end=1500, tokens_used=10),
            span("one", "root", 1, 13, tokens_used=1234, status=ERROR),
            span("deep", "one", 2, 3, pid=12),
            span("deeper", "deep", 2, 3),
            span("two", "root", 20, 21, tokens_used=None),
            span("last", "two", 20, 20.5, status=TIMEOUT),
        )
    )
    assert text.splitlines() == [
        "Trace: t1  |  6 spans  |  1.50s  |  1244 tokens",
        "",
        "┌─ root (PID 1)                            1.50s   10 tok  ok",
        "├─ one (PID 1)                              12ms  1234 tok  error",
        "│  └─ deep (PID 12)                             1ms    0 tok  ok",
        "│     └─ deeper (PID 1)                            1ms    0 tok  ok",
        "└─ two (PID 1)                               1ms    ? tok  ok",
        "   └─ last (PID 1)                            500µs    0 tok  timeout",
    ]


def test_verbose_adds_ids_counts_and_start():
    text = format_trace_tree(
        tree(
            span("root", end=5, syscall_count=3),
            span("a", "root", 1, 2, kind="llm", cost_usd=0.0123, status=ERROR, attributes={"error.message": "x\ny"}),
        ),
        verbose=True,
    )
    lines = text.splitlines()
    assert lines[3] == "   SpanID: root  Parent: -  Syscalls: 3  Start: 2025-06-15T15:06:40Z  Kind: agent"
    assert lines[5] == (
        "      SpanID: a  Parent: root  Syscalls: 0  Start: 2025-06-15T15:06:40.001000Z  Kind: llm  Cost: $0.0123  "
        "Error: x\\ny"
    )


def test_unfinished_spans_show_what_is_known():
    lines = format_trace_tree(tree(span("root"), span("a", "root", 1, 8))).splitlines()
    assert lines[2].split() == ["┌─", "root", "(PID", "1)", "8ms+", "0", "tok", "open"]


def test_a_synthetic_root_and_the_notes():
    lines = format_trace_tree(tree(span("a", end=5), span("b", "gone", 1, 2))).splitlines()
    assert lines[0].startswith("Trace: t1  |  2 spans")
    assert lines[2].split() == ["┌─", "(trace)", "5ms"]
    assert lines[-1].startswith("Note: 1 span whose parent is missing")


def test_names_are_escaped_and_cut_unless_verbose():
    text = format_trace_tree(tree(span("a", end=1, name=HOSTILE + "x" * 200)))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "evil\\x1b[2J\\u202e\\nname" in text
    assert "..." in text
    assert "x" * 200 in format_trace_tree(tree(span("a", end=1, name="x" * 200)), verbose=True)


def test_deep_trees_are_linear_in_length():
    built = tree(*(span(str(n), str(n - 1) if n else "", 0, 1) for n in range(5000)))
    text = format_trace_tree(built)
    assert len(text) < 5000 * 250
    assert "[4999]" in text.splitlines()[-1]


@pytest.mark.parametrize("verbose", [False, True])
def test_color_changes_nothing_but_color(verbose):
    import re

    built = tree(span("root", end=5, status=ERROR), span("b", "gone", 1, 2, status=TIMEOUT), span("c"))
    plain, colored = (format_trace_tree(built, verbose, color=color) for color in (False, True))
    assert "\x1b" not in plain
    assert re.sub("\x1b\\[[0-9]+m", "", colored) == plain
    assert "\x1b[91merror\x1b[0m" in colored


# --- blame -----------------------------------------------------------------------------------------------------------


def test_no_blame():
    assert format_blame_result(None) == "No blame data available."


def test_the_report():
    text = blame_text(
        span("root", end=100, status=ERROR),
        span("search", "root", 0, 60, tokens_used=30, cost_usd=0.03),
        span("write", "root", 60, 90, tokens_used=10, status=ERROR, attributes={"error.message": "disk full"}),
        span("retry", "search", 10, 20, status=TIMEOUT),
        proven=[("search", "write")],
    )
    assert text.splitlines() == [
        "Blame: t1  |  4 spans  |  3 errors",
        "",
        "Critical Path (100.0% of total):",
        "  → root (PID 1)                             10ms    0 tok",
        "  → search (PID 1)                           50ms   30 tok",
        "  → retry (PID 1)                            10ms    0 tok",
        "  → write (PID 1)                            30ms   10 tok  (needed the result of the span before)",
        "  Total: 100ms / 100ms",
        "",
        "Duration Hotspots (self time):",
        "  #1  search (PID 1)                           50ms   50.0%",
        "  #2  write (PID 1)                            30ms   30.0%",
        "  #3  root (PID 1)                             10ms   10.0%",
        "",
        "Token Hotspots:",
        "  #1  search (PID 1)                         30 tok   75.0%",
        "  #2  write (PID 1)                          10 tok   25.0%",
        "",
        "Cost Hotspots:",
        "  #1  search (PID 1)                        $0.0300  100.0%",
        "",
        "Error Chains:",
        "  Chain 1:",
        "    ✗ write (PID 1)  30ms  error  [ROOT CAUSE]  disk full",
        "    ✗ root (PID 1)  100ms  error",
        "",
        "Handled Errors:",
        "  Chain 1:",
        "    ✗ retry (PID 1)  10ms  timeout  [ROOT CAUSE]",
        "    ↑ search (PID 1)  ok  (handled here)",
    ]


def test_without_errors_and_tokens():
    text = blame_text(span("root", end=1))
    assert "errors" not in text
    assert "Error Chains" not in text
    assert "Token Hotspots:\n  none" in text
    assert "Cost" not in text


def test_an_empty_result():
    assert format_blame_result(BlameResult("t")).startswith("Blame: t  |  0 spans\n\nCritical Path (0.0% of total):")


def test_long_paths_are_folded_and_still_sum_up():
    spans = [span("root", end=1000), *(span(f"{n:03}", "root", n * 10, n * 10 + 10 - n / 100) for n in range(100))]
    lines = blame_text(*spans).splitlines()
    assert lines[3].startswith("  → root")
    assert sum(line.startswith("  → ") for line in lines) <= 31
    assert any(line.startswith("    … ") and " more, " in line for line in lines)


def test_many_and_long_chains_are_shortened():
    spans = [span(str(n), str(n - 1) if n else "", 0, 1, status=ERROR) for n in range(100)]
    spans += [span(f"leaf{n}", "99", 0, 1, status=ERROR) for n in range(30)]
    text = blame_text(*spans)
    assert "    … 71 more" in text
    assert "  … 20 more chains" in text
    assert text.count("[ROOT CAUSE]") == 10


def test_a_report_shows_nothing_that_acts_on_a_terminal():
    text = blame_text(
        span("a", end=1, name=HOSTILE, trace_id="t\x1b", status=ERROR, attributes={"error.message": HOSTILE})
    )
    assert "\x1b" not in text
    assert "\u202e" not in text
