"""`unspool trace ls` and `unspool trace show`."""

from __future__ import annotations

import pytest
from cli_events import model_call, state, tool

from unspool.cli import timeline
from unspool.cli.timeline import Least
from unspool.trace import SpanWriter
from unspool.trace.spans import Span

MS = 1_000_000
T0 = 1_750_000_000_000_000_000


def text_of(result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_list_has_a_line_for_each_run_and_for_what_came_in_as_spans(invoke, as_json, agent_run):
    SpanWriter(agent_run.traces).write_span(Span("a" * 32, "r", "", 1, "from elsewhere", T0, T0 + 9 * MS))
    lines = text_of(invoke("trace", "ls")).splitlines()
    assert len(lines) == 3
    assert "demo" in lines[1]
    assert lines[2].startswith("aaaaaaaaaaaa")
    first, second = as_json("trace", "ls")
    assert first["root"] == "demo"
    assert len(first["records"]) == 2
    assert first["cost_usd"] > 0
    assert (second["spans"], second["duration_ns"], second["cost_usd"]) == (1, 9 * MS, None)
    assert len(as_json("trace", "ls", "-n", "1")) == 1


def test_a_trace_id_and_its_beginning_are_addresses(invoke, as_json, agent_run):
    trace_id = as_json("trace", "ls")[0]["trace_id"]
    whole = text_of(invoke("trace", "show", trace_id))
    assert whole == text_of(invoke("trace", "show", trace_id[:10])) == text_of(invoke("trace", "show", "1"))


@pytest.mark.parametrize(
    ("start", "end", "shown"),
    [(0, 1000, "█" * 10), (398, 404, "   ▏"), (0, 163, "█▋"), (150, 199, " ▌"), (900, 1000, " " * 9 + "█"),
     (999, 1000, " " * 9 + "▏"), (500, 500, " " * 5 + "▏"), (950, 1000, " " * 9 + "▌")],
)  # fmt: skip
def test_bars_are_as_long_as_what_they_stand_for(start, end, shown):
    assert timeline._bar(start, end, 1000, 10, full=True) == shown


def test_the_tree_with_bars(invoke, agent_run):
    lines = text_of(invoke("trace", "show", "1")).splitlines()
    assert lines[0].startswith("Trace ")
    names = [line.partition("  ")[0] for line in lines[2:]]
    assert names[0] == "demo (PID 1)"
    assert "├ gpt-4.1-mini" in names
    assert "├ ✗ broken" in names
    assert any(line.strip("│├└ ").startswith("help out (PID 2)  ") for line in lines)
    assert lines[2].rstrip().endswith("█")
    # All bars begin where the axis does, or later.
    start = lines[2].index("█")
    assert all(line.find(mark) in (-1, *range(start, 200)) for line in lines[3:] for mark in "█▏┊")


def test_depth_min_and_limit_say_what_they_hide(invoke, agent_run):
    whole = text_of(invoke("trace", "show", "1")).splitlines()
    spans = int(whole[0].split(": ")[1].split(" span")[0])
    shallow = text_of(invoke("trace", "show", "1", "--depth", "0"))
    assert f"demo (PID 1) +{spans - 1}" in shallow
    assert f"{spans - 1} spans not shown." in shallow
    assert f"{spans - 1} spans not shown." in text_of(invoke("trace", "show", "1", "--min", "99%"))
    short = text_of(invoke("trace", "show", "1", "--limit", "3")).splitlines()
    assert len(short) == 2 + 3 + 1


def test_the_critical_path_sums(invoke, make):
    make(state(), tool("slow", at=0, duration=30 * MS), tool("beside", at=5 * MS, duration=4 * MS))
    text = text_of(invoke("trace", "show", "last", "--critical"))
    assert "slow" in text
    assert "beside" not in text
    assert "The parts sum to" in text
    assert "░" not in text


def test_for_a_program_it_is_the_tree(as_json, agent_run, invoke):
    found = as_json("trace", "show", "1")
    assert found["root"]["name"] == "demo"
    assert found["metadata"]["total_spans"] > 8
    assert invoke("trace", "show", "1", "--json", "--critical").exit_code == 2


def test_an_empty_store(invoke, store):
    result = invoke("trace", "ls")
    assert (result.exit_code, result.stdout) == (0, "")
    assert invoke("trace", "ls", "--json").stdout == "[]\n"


def test_unfinished_spans_have_a_mark(invoke, make):
    make(state(), model_call(1)[0], running=True)
    text = text_of(invoke("trace", "show", "last"))
    assert "◌ " in text
    assert "s+" in text


@pytest.mark.parametrize(
    ("text", "nanoseconds"), [("10ms", 10 * MS), ("1.5s", 1500 * MS), ("800us", 800_000), ("2m", 120_000 * MS)]
)
def test_durations(text, nanoseconds):
    assert Least.parse(text).of(0) == nanoseconds


def test_a_share_is_of_the_whole_and_nonsense_is_refused(invoke, agent_run):
    assert Least.parse("2%").of(1000) == 20
    result = invoke("trace", "show", "1", "--min", "soon")
    assert result.exit_code == 2
    assert "write 250ms, 1.5s or 2%" in result.stderr


@pytest.mark.parametrize("width", ["40", "80", "160"])
def test_lines_fit_the_terminal(invoke, agent_run, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", width)
    lines = text_of(invoke("trace", "show", "1")).splitlines()
    assert all(len(line) <= max(int(width), 56) for line in lines[1:]), lines


def test_a_deep_trace_is_shown(invoke, store):
    writer = SpanWriter(store.traces)
    for number in range(1500):
        writer.write_span(
            Span(
                "b" * 32,
                f"s{number}",
                f"s{number - 1}" if number else "",
                1,
                f"n{number}",
                T0 + number,
                T0 + 9000 - number,
            )
        )
    text = text_of(invoke("trace", "show", "bbbb", "--limit", "0"))
    assert "[1499]" in text
    assert max(map(len, text.splitlines())) < 200
    assert "1,300 spans not shown." in text_of(invoke("trace", "show", "bbbb"))
