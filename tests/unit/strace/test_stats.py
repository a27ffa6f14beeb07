"""The table adds up."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from unspool.events import LLMResponseData, RecordEvent, RecordEventType, StateChangeData, SyscallEventData
from unspool.strace import StraceStats, format_stats

MS = 1_000_000
GPT = "/dev/llm/openai/gpt-5"


def call(path: str | None, duration_ms: int, *, err: str = "", number: int | None = None, pid: int = 1) -> RecordEvent:
    args = {} if path is None else {"path": path}
    data = SyscallEventData("Read", args, err=err, duration=duration_ms * MS)
    return RecordEvent(RecordEventType.SYSCALL, 1, 0, pid, syscall=data, call=number)


def answer(tokens: tuple[int | None, int | None], *, number: int | None = None, pid: int = 1) -> RecordEvent:
    return RecordEvent(RecordEventType.LLM_RESPONSE, 1, 0, pid, llm=LLMResponseData("gpt-5", *tokens), call=number)


def added(*events: RecordEvent) -> StraceStats:
    stats = StraceStats()
    for event in events:
        stats.add(event)
    return stats


def test_calls_are_grouped_by_resource_the_longest_first():
    rows = added(
        call("/dev/tool/search", 10), call("/dev/tool/search", 30, err="boom"), call("/dev/proc/git", 60), call(None, 0)
    ).rows()
    assert [(r.resource, r.calls, r.errors, r.total_ns, r.mean_ns, r.max_ns, r.share) for r in rows] == [
        ("/dev/proc/git", 1, 0, 60 * MS, 60 * MS, 60 * MS, 60.0),
        ("/dev/tool/search", 2, 1, 40 * MS, 20 * MS, 30 * MS, 40.0),
        ("Read", 1, 0, 0, 0, 0, 0.0),
    ]


def test_tokens_go_to_the_resource_of_their_call_whichever_comes_first():
    rows = added(
        answer((100, 10), number=1),
        call(GPT, 5, number=1),
        call(GPT, 5, number=2),
        call("/dev/tool/x", 9, number=2),  # asked for by call 2, yet not the model
        answer((200, None), number=2),
        call("/dev/llm/anthropic/opus", 1, number=2, pid=9),
        answer((7, 7), number=2, pid=9),
    ).rows()
    assert {r.resource: (r.input_tokens, r.output_tokens) for r in rows} == {
        GPT: (300, 10),
        "/dev/tool/x": (None, None),
        "/dev/llm/anthropic/opus": (7, 7),
    }


def test_without_call_numbers_an_answer_belongs_to_the_model_call_before_it():
    rows = added(call(GPT, 5), call("/dev/tool/x", 1), answer((3, 4))).rows()
    assert (rows[0].resource, rows[0].input_tokens, rows[0].output_tokens) == (GPT, 3, 4)


def test_an_answer_whose_call_was_not_seen_is_not_lost():
    stats = added(answer((3, 4), number=5), answer((1, 1)))
    assert [(r.resource, r.calls, r.input_tokens) for r in stats.rows()] == [("gpt-5 (call not seen)", 0, 4)]
    assert stats.rows() == stats.rows()


def test_other_events_are_ignored_and_nothing_gives_an_empty_table():
    stats = added(RecordEvent(RecordEventType.STATE_CHANGE, 1, 0, 1, state=StateChangeData("a", "b", "")))
    assert stats.rows() == []
    assert (stats.total().calls, stats.total().share, stats.total().input_tokens) == (0, 0.0, None)
    assert format_stats(stats).splitlines()[-1].endswith("total")


def test_the_table_lines_up_and_ends_with_the_sums():
    text = format_stats(
        added(call(GPT, 1500, number=1, err="x"), answer((1204, 85), number=1), call("/dev/proc/git", 500))
    )
    assert text.splitlines() == [
        "% time     total      mean       max   calls errors    in tok   out tok resource",
        "------ --------- --------- --------- ------- ------ --------- --------- ------------------------",
        " 75.00     1.50s     1.50s     1.50s       1      1      1204        85 /dev/llm/openai/gpt-5",
        " 25.00     500ms     500ms     500ms       1                            /dev/proc/git",
        "------ --------- --------- --------- ------- ------ --------- --------- ------------------------",
        "100.00     2.00s     1.00s     1.50s       2      1      1204        85 total",
    ]


def test_colour_marks_errors_only_and_names_cannot_act_on_the_terminal():
    stats = added(call("/dev/tool/\x1b[2J", 1, err="x"))
    assert "\x1b" not in format_stats(stats)
    assert "\x1b[91m     1\x1b[0m" in format_stats(stats, color=True)


@given(st.lists(st.tuples(st.sampled_from(["/a", "/b", GPT]), st.integers(0, 10**6), st.booleans())), st.randoms())
def test_the_order_of_events_does_not_matter_and_shares_sum_to_a_hundred(calls, rng: random.Random):
    events = [call(path, ms, err="x" if bad else "", number=n) for n, (path, ms, bad) in enumerate(calls)]
    events += [answer((n, 1), number=n) for n, (path, _, _) in enumerate(calls) if path == GPT]
    stats = added(*events)
    rng.shuffle(events)
    assert added(*events).rows() == stats.rows()
    assert stats.total().calls == len(calls)
    if stats.total().total_ns:
        assert abs(sum(row.share for row in stats.rows()) - 100) < 1e-6
