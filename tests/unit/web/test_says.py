"""What pages say of a run is what every other page and command says of it, and nothing is made up."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest
from msgspec import structs

from unspool.cli.prices import Prices
from unspool.events import (
    ContextSnapshotData,
    CtxMessage,
    LLMResponseData,
    RecordEvent,
    RecordEventType,
    SyscallEventData,
)
from unspool.interop.importing import import_paths
from unspool.recording.recorder import Recorder
from unspool.replay.runs import diff_runs
from unspool.replay.runs_format import format_runs_diff
from unspool.trace.flame_svg import flame_svg
from unspool.web.growthview import _beside
from unspool.web.report import make_report
from unspool.web.shelf import Shelf
from unspool.web.timeline import _step

DATA = Path(__file__).parents[2] / "data" / "imports" / "trajectories"
MADE_UP = re.compile(r"\b\d+(\.\d+)?(µs|ms|s)\b")
SECOND, HOUR = 10**9, 3600 * 10**9
PYTEST = "============ test session starts ============\n" + "\n".join(f"line {n} of the output" for n in range(60))


def text_of(page: str) -> str:
    bare = re.sub(r"<(script|style|dialog).*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub("<[^>]+>", " ", bare)).split())


@pytest.fixture
def untimed(tmp_path, store) -> str:
    """A conversation of two agents, of which nobody wrote down when anything happened."""
    log = {
        "question": "how many?", "question_ID": "q", "mistake_agent": "Coder", "mistake_step": "1",
        "history": [
            {"role": "human", "content": "how many?"},
            *({"role": "user", "name": "Coder", "content": f"print({number})"} for number in range(40)),
            {"role": "Orchestrator (-> Coder)", "content": "done"},
        ],
    }  # fmt: skip
    path = tmp_path / "log.json"
    path.write_text(json.dumps(log))
    return import_paths([path], store)[0].records[0].record_id


# --- what is not known -----------------------------------------------------------------------------------------------


def test_a_run_without_times_has_none_on_any_page(browser, store, untimed):
    pages = [browser.get(f"/run/{untimed}{view}").text for view in ("", "/blame", "/step/3")]
    pages.append(make_report(Shelf(store, Prices()), untimed).text)
    for page in pages:
        assert not MADE_UP.search(text_of(page)), MADE_UP.search(text_of(page))
    assert "no times" in text_of(pages[0])
    assert 'svg class="timeline"' not in pages[0]
    assert "No times are known." in text_of(pages[1])


def test_two_runs_without_times_are_not_compared_by_them(browser, store):
    result = import_paths([DATA / "tau_bench_two_runs.json.gz"], store)[0]
    one, two = (each.record_id for each in result.records)
    facts = {
        fact["name"]: fact for fact in browser.get("/compare.json", params={"a": one, "b": two}).json()["page"]["facts"]
    }
    assert (facts["time"]["first"], facts["time"]["second"], facts["time"]["change"]) == ("?", "?", "")
    assert not MADE_UP.search(text_of(browser.get("/compare", params={"a": one, "b": two}).text))


def test_an_import_says_on_top_what_its_file_does_not_have_and_why_contexts_are_not_whole(browser, untimed):
    for view in ("", "/blame", "/context"):
        page = text_of(browser.get(f"/run/{untimed}{view}").text)
        assert "Not in the file: times, tokens, tool definitions" in page
        assert "what each agent saw is not in the file; these are all turns before" in page
        assert "state that the provider keeps" not in page


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def failing(store) -> str:
    """A run in which 25 tool calls failed with the output of a test run, and each time the agent went on."""
    with Recorder(store.records, store.next_pid(), "tests") as recorder:
        for number in range(25):
            data = SyscallEventData(
                "ToolCall", {"path": "/dev/tool/bash", "input": {"n": number}}, None, PYTEST, SECOND
            )
            recorder.write_event(
                RecordEvent(RecordEventType.SYSCALL, 0, number * 2 * SECOND, recorder.pid, syscall=data)
            )
        return recorder.record_id


def test_errors_are_counted_in_one_way(browser, store, failing):
    report = make_report(Shelf(store, Prices()), failing).text
    pages = [browser.get(f"/run/{failing}").text, browser.get(f"/run/{failing}/blame").text, report]
    for page in pages:
        assert "Errors that were handled 20 of 25" in text_of(page)
        assert "all 25 errors" in text_of(page)
    assert "25 errors" in re.findall(r'class="badge bad"[^>]*>([^<]+)<', pages[0])
    assert "unspool blame" in text_of(report)


def test_an_error_is_a_line_and_all_of_it_is_folded_away(browser, failing):
    page = browser.get(f"/run/{failing}/blame").text
    lines = re.findall(r'<summary><span class="error">(.*?)</span></summary>', page, re.DOTALL)
    assert len(lines) == 20
    assert all(line.startswith("=== test session starts === line 0") and "\n" not in line for line in lines)
    assert max(map(len, lines)) <= 160
    assert page.count("line 59 of the output</pre></details>") == 20
    before = page[: page.index("Where the")]
    assert "<details><summary>17 more</summary>" in before


# --- blame -----------------------------------------------------------------------------------------------------------


def test_blame_begins_with_the_sentences_of_the_command(browser, record):
    page = text_of(browser.get(f"/run/{record(err='no index', calls=3)}/blame").text)
    said = page.index("Wrong a loop: search ×3 with the same arguments Slow model gpt-4.1-mini: 1.20s of 3.50s")
    assert said < page.index("Errors that were handled") < page.index("Where the 3.50s went")


def test_the_dearest_calls_are_named_by_their_numbers(browser, record):
    name = record(calls=3)
    page = browser.get(f"/run/{name}/blame.json").json()["page"]
    assert [one["call"] for one in page["tokens"]] == [3, 2, 1]
    assert "gpt-4.1-mini call 3" in text_of(browser.get(f"/run/{name}/blame").text)


def test_the_start_up_is_said_beside_own_code(browser, store):
    with Recorder(store.records, store.next_pid(), "late") as recorder:
        for event in _call(1, 9 * SECOND, "be kind", "yes"):
            recorder.write_event(structs.replace(event, pid=recorder.pid))
    page = browser.get(f"/run/{recorder.record_id}/blame.json").json()["page"]
    own = next(one for one in page["time"] if one["name"].startswith("own code"))
    assert "9.00s of it start-up" in own["detail"]


# --- two runs --------------------------------------------------------------------------------------------------------


def _call(number, at, prompt, text, origin=None):
    context = ContextSnapshotData(
        messages=[CtxMessage("user", f"question {number}")], system_prompt=prompt, provider="openai_chat",
        model="gpt-4.1-mini",
    )  # fmt: skip
    answer = LLMResponseData("gpt-4.1-mini", 1_000_000, 1000, text=text, finish_reason="stop")
    asked = SyscallEventData("LLMCall", {"path": "/dev/llm/openai/gpt-4.1-mini"}, None, "", SECOND)
    kinds = RecordEventType
    yield RecordEvent(kinds.CONTEXT_SNAPSHOT, 0, at, 1, context=context, call=number, step=number, origin=origin)
    yield RecordEvent(kinds.SYSCALL, 0, at, 1, syscall=asked, call=number, step=number, origin=origin)
    yield RecordEvent(kinds.LLM_RESPONSE, 0, at + SECOND, 1, llm=answer, call=number, step=number, origin=origin)


@pytest.fixture
def forked(store) -> tuple[str, str]:
    """A run of three calls, and its fork at the third with another system prompt: the first two were served."""

    def write(calls, **fields):
        with Recorder(store.records, store.next_pid(), "agent", fields=fields) as recorder:
            for number, (prompt, text, origin) in enumerate(calls, 1):
                for event in _call(number, number * 2 * SECOND, prompt, text, origin):
                    recorder.write_event(structs.replace(event, pid=recorder.pid))
            return recorder.record_id

    first = write([("be kind", "one", None), ("be kind", "two", None), ("be kind", "three", None)])
    calls = [("be kind", "one", "served"), ("be kind", "two", "served"), ("be brief", "3", "live")]
    return first, write(calls, parent=first, parent_pid=1, forked_at=7)


def test_a_fork_is_compared_with_the_figures_and_words_of_the_command(browser, store, forked):
    page = browser.get("/compare.json", params={"a": forked[0], "b": forked[1]}).json()["page"]
    facts = {fact["name"]: fact["second"] for fact in page["facts"]}
    assert facts["input tokens"] == "3,000,000 (1,000,000 sent, 2 served)"
    assert facts["output tokens"] == "3,000 (1,000 sent, 2 served)"
    told = format_runs_diff(
        diff_runs(
            *([store.records / name] for name in forked),
            price=lambda path, data, at: 0.25,
        )
    )
    assert "$0.7500 ($0.2500 sent, 2 served)" in told
    assert facts["input tokens"] in told
    listed = text_of(browser.get(f"/run/{forked[1]}").text)
    sent = re.search(r"\((\$[\d.]+) sent, 2 served\)", facts["cost"])
    assert sent is not None
    assert sent[1] in listed


def test_the_first_difference_is_named_as_a_call_and_by_what_differs(browser, forked):
    page = text_of(browser.get("/compare", params={"a": forked[0], "b": forked[1]}).text)
    assert "First difference: call 3 (step 3 of 3) in the system prompt and the answer" in page
    assert "the settings" not in page
    assert "openai/gpt" not in page


# --- drawings and long runs ------------------------------------------------------------------------------------------


def test_the_axis_of_a_long_run_counts_in_minutes_and_hours(browser, store):
    with Recorder(store.records, store.next_pid(), "long") as recorder:
        for number in range(3):
            for event in _call(number + 1, number * 20 * HOUR, "be kind", "yes"):
                recorder.write_event(structs.replace(event, pid=recorder.pid))
    page = browser.get(f"/run/{recorder.record_id}").text
    marks = re.findall(r'<text class="axis"[^>]*>([^<]+)</text>', page)
    assert marks[:3] == ["0", "5h 0m", "10h 0m"]
    assert "+40h 0m" in text_of(page)
    assert not re.search(r"\d{3,}\.\d\ds", page)


@pytest.mark.parametrize(
    ("least", "step"),
    [
        (1, 1000),
        (2_500_000, 5_000_000),
        (0.4 * SECOND, SECOND // 2),
        (22 * SECOND, 30 * SECOND),
        (31 * SECOND, 60 * SECOND),
        (25 * 60 * SECOND, 30 * 60 * SECOND),
        (31 * 60 * SECOND, HOUR),
        (300 * HOUR, 500 * HOUR),
    ],
)
def test_the_marks_of_an_axis_are_round(least, step):
    assert _step(least) == step


def test_the_words_of_the_window_stay_inside_the_drawing():
    assert _beside(11.0) >= 11
    assert _beside(60.0) == 56.0


def test_a_long_title_of_a_flame_graph_keeps_what_was_measured():
    drawn = flame_svg({(("agent", "a"),): 5}, "time", "a question " * 60)
    heading = re.search(r'font-size="15"[^>]*>([^<]+)<', drawn)
    assert heading is not None
    assert len(heading[1]) <= 128
    assert heading[1].endswith("5µs")


def test_the_keys_of_a_report_are_those_that_do_something_in_it(store, record):
    report = make_report(Shelf(store, Prices()), record()).text
    dialog = re.search(r'<dialog id="help".*?</dialog>', report, re.DOTALL)
    assert dialog is not None
    assert "next, previous row" in dialog[0]
    for gone in ("search", "fork", "compare", "timeline", "runs"):
        assert gone not in dialog[0]
