"""`unspool blame`."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from cli_events import model_call, state, syscall, tool
from msgspec import structs

from unspool.trace import SpanWriter
from unspool.trace.spans import Span, SpanStatus

MS = 1_000_000
T0 = 1_750_000_000_000_000_000


def text_of(result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def percentages(text: str, title: str) -> list[float]:
    """The SHARE column of one table."""
    lines = text.split(title, 1)[1].splitlines()[1:]
    found = []
    for line in lines[1:]:
        match = re.match(r"\s+(\d+\.\d)%", line)
        if match is None:
            break
        found.append(float(match[1]))
    return found


def test_a_recorded_run(invoke, agent_run):
    text = text_of(invoke("blame", "1"))
    assert text.splitlines()[0] == "demo (1-" + text.partition("(1-")[2].splitlines()[0]
    assert "3 model calls, 5 tool calls" in text
    assert "tool broken: ValueError: no index for x, handled by demo" in text
    shares = percentages(text, "Where the ")
    assert sum(shares) == pytest.approx(100, abs=0.5)
    paid = percentages(text, "paid for")
    assert sum(paid) == pytest.approx(100, abs=0.5)
    assert "\x1b" not in text


@pytest.mark.parametrize("by", ["time", "tokens", "cost", "errors"])
@pytest.mark.parametrize("group", ["call", "tool", "model", "agent", "step"])
def test_one_part_in_more_detail(invoke, agent_run, by, group):
    text = text_of(invoke("blame", "1", "--by", by, "--group", group))
    assert ("Where the" in text) == (by == "time")
    assert ("paid for" in text) == (by == "cost")
    assert ("Who used" in text) == (by == "tokens")
    assert ("Handled errors" in text) == (by == "errors")


def test_for_a_program_everything_sums(as_json, agent_run):
    found = as_json("blame", "1")
    assert found["critical_duration_ns"] == found["summary"]["total_duration_ns"]
    for rows in found["rollups"].values():
        assert sum(row["critical_ns"] for row in rows) == found["critical_duration_ns"]
        assert sum(row["tokens"] for row in rows) == found["summary"]["total_tokens"]
    carried = found["carried"]
    assert sum(one["sent_tokens"] for one in carried["entries"]) == pytest.approx(carried["input_tokens"])
    assert carried["input_usd"] + carried["output_usd"] == pytest.approx(found["summary"]["total_cost_usd"])
    assert len(found["records"]) == 2
    assert found["handled"][0]["message"] == "ValueError: no index for x"
    assert re.fullmatch(r"1-.*@\d+", found["handled"][0]["place"])


def test_a_root_cause_comes_first(invoke, make):
    recorder = make(
        state(),
        tool("search", at=MS, duration=MS),
        tool("parse\x1b[2J", at=3 * MS, duration=MS, err="ValueError: \x1b[31mno\n"),
        state("running", "dead", "exited: ValueError: no"),
        running=True,
    )
    recorder.close(exit_code=1)
    text = text_of(invoke("blame", "last"))
    lines = text.splitlines()
    assert lines[3].startswith("Wrong  tool parse\\x1b[2J: ValueError: \\x1b[31mno, and with it test")
    assert "Root cause" in text
    assert "made fail: test" in text
    assert "\x1b" not in text


def test_retries_and_loops(invoke, make):
    calls = [syscall("ToolCall", "/dev/tool/search", at=number * MS, duration=MS, result="same") for number in range(5)]
    flaky = [
        tool("fetch", at=10 * MS, duration=MS, err="TimeoutError: slow"),
        tool("fetch", at=12 * MS, duration=MS, err="TimeoutError: slow"),
        tool("fetch", at=14 * MS, duration=MS),
    ]
    make(state(), *calls, *flaky)
    text = text_of(invoke("blame", "last"))
    assert "search ×5 with the same arguments and results: 4ms after the first  1@2" in text
    assert "tool fetch: TimeoutError: slow ×2, then ok, 4ms lost  1@7" in text
    assert "Root cause" not in text
    assert "Nothing failed for good." in text_of(invoke("blame", "last", "--by", "errors"))
    assert "Handled errors" not in text


def test_where_a_running_agent_is(invoke, make):
    make(state(), structs.replace(model_call(1)[0], timestamp=5 * MS), running=True)
    text = text_of(invoke("blame", "last"))
    assert "has not ended, after" in text
    assert "Still running" in text


def test_a_killed_agent_shows_where_it_died(invoke, make):
    recorder = make(state(), tool(at=MS), structs.replace(model_call(1)[0], timestamp=5 * MS), running=True)
    (recorder.record_dir / "writer.lock").unlink()
    text = text_of(invoke("blame", "last"))
    assert "the process was killed in model call" in text
    assert "Never ended" in text


def test_a_model_without_a_price_is_named(invoke, make):
    make(*model_call(1, model="my-own-7b", vendor="acme"))
    text = text_of(invoke("blame", "last"))
    assert "? (no known price)" in text
    assert "Who used the 1,100 tokens" in text
    make(*model_call(1, model="my-own-7b", vendor="acme"), *model_call(2))
    text = text_of(invoke("blame", "last"))
    assert "Not in it: my-own-7b, whose price is not known" in text


def test_two_runs(invoke, as_json, make):
    make(state(), *model_call(1), tool(at=MS, duration=2 * MS))
    make(state(), *model_call(1), *model_call(2), *(tool(at=number * 9 * MS, duration=9 * MS) for number in (1, 2, 3)))
    text = text_of(invoke("blame", "1", "2"))
    assert "What made it slower" in text
    assert "What made it dearer" in text
    assert "1 → 3" in text
    assert "sum" in text
    found = as_json("blame", "1", "2")
    assert found["change"]["time_ns"] == found["after"]["time_ns"] - found["before"]["time_ns"]
    for key in ("time_ns", "tokens", "errors"):
        assert sum(one["change"][key] for one in found["deltas"]) == found["change"][key]
    assert sum(one["change"]["cost_usd"] for one in found["deltas"]) == pytest.approx(found["change"]["cost_usd"])
    assert "No difference in errors." in text_of(invoke("blame", "1", "2", "--by", "errors"))


def test_a_trace_that_came_in_as_spans(invoke, store):
    writer = SpanWriter(store.traces)
    writer.write_span(Span("a" * 32, "r", "", 1, "root", T0, T0 + 9 * MS))
    writer.write_span(Span("a" * 32, "c", "r", 1, "step", T0, T0 + 4 * MS, kind="tool", status=SpanStatus.ERROR))
    text = text_of(invoke("blame", "aaaa"))
    assert f"root ({'a' * 32})" in text
    assert "tool step" in text


@pytest.mark.parametrize(
    ("args", "code", "reason"),
    [
        (["blame", "nope"], 1, "nope"),
        (["blame", "1@3"], 2, "point"),
        (["blame", "1", "--by", "colour"], 2, "--by"),
        (["blame", "1", "--prices", "none.toml"], 2, "No such file"),
    ],
)
def test_what_cannot_be_blamed(invoke, make, args, code, reason):
    make(state(), tool())
    result = invoke(*args)
    assert result.exit_code == code
    assert reason in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("width", ["40", "80", "160"])
def test_tables_fit_the_terminal(invoke, agent_run, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", width)
    for args in (["--by", "time"], ["--by", "tokens"], ["--by", "cost"], ["2"]):
        lines = text_of(invoke("blame", "1", *args)).splitlines()
        tables = [line for line in lines if line.startswith("   ") and "%" in line]
        assert all(len(line) <= max(int(width), 48) for line in tables), tables
    text = text_of(invoke("blame", "1", "--color", "always"))
    assert "\x1b[1m" in text


def test_suspects_of_a_failed_run(invoke, as_json, make):
    recorder = make(
        state(),
        *model_call(1, text="The capital is Sydney-Harbour, by Atlas-1911."),
        *model_call(2, text="Sydney-Harbour it is, by Atlas-1911: 5231147 live there."),
        *model_call(3, text="Sydney-Harbour has 5231147, by Atlas-1911."),
        state("running", "dead", "exited: ValueError: no"),
        running=True,
        command=["python", "agent.py"],
    )
    recorder.close(exit_code=1)
    text = text_of(invoke("blame", "last"))
    assert "Suspect steps (ranked by what rests on what; no proof)" in text
    assert "1. call 1 (1@3): 2 of 2 later steps rest on it; the last answer does" in text
    assert "unspool bisect 1 --check CMD" in text
    rows = as_json("blame", "last")["suspects"]
    assert [(row["rank"], row["call"]) for row in rows] == [(1, 1), (2, 2), (3, 3)]
    assert rows[0]["score"] > rows[1]["score"] > rows[2]["score"]


def test_suspects_of_a_run_that_ended_well_only_when_asked_for(invoke, make):
    make(state(), *model_call(1, text="alpha one"), *model_call(2, text="beta two"))
    assert "Suspect" not in text_of(invoke("blame", "last"))
    text = text_of(invoke("blame", "last", "--by", "errors"))
    assert "Suspect steps, if the outcome is wrong" in text
    assert "bisect" not in text  # made by hand: there is no command to run again


def test_what_is_not_known_is_said(invoke, make):
    at = datetime(2026, 1, 2, tzinfo=UTC)
    make(state(), start_time=at, end_time=at)  # imported from where no times are
    for by, said in (("time", "No times are known."), ("tokens", "No tokens are known."), ("cost", "no cost")):
        assert said in text_of(invoke("blame", "last", "--by", by))
